#!/usr/bin/env bash
# Runs the checks that need no Docker engine, and reports each one. A failed check does not stop the others.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
export PATH=$PWD/node_modules/.bin:$PATH
failed=0
step() { # step NAME COMMAND…
  local name=$1 out
  shift
  if out=$("$@" 2>&1); then
    echo "✓ $name"
  else
    echo "✗ $name"
    printf '%s\n' "$out" | tail -n 60 | sed 's/^/    /'
    failed=1
  fi
}

dist_is_current() {
  scripts/build.sh || return 1
  local changed
  changed=$(git status --porcelain --untracked-files=all -- dist/)
  [ -z "$changed" ] || { printf 'dist/ is stale: the sources build other files. Run "make build" and commit dist/:\n%s\n' "$changed"; return 1; }
}
dist_is_reproducible() {
  local copy
  copy=$(mktemp -d)
  mkdir "$copy/elsewhere"
  git ls-files -z | grep -zv '^dist/' | xargs -0 cp --parents -t "$copy/elsewhere"
  cp -r node_modules "$copy/elsewhere/"
  "$copy/elsewhere/scripts/build.sh" && diff -r dist "$copy/elsewhere/dist"
  local code=$?
  [ "$code" -eq 0 ] || echo "A build in another folder gives other bytes. Remove what depends on the folder or the time from scripts/build.sh."
  rm -rf "$copy"
  return "$code"
}
dist_runs() {
  local dir
  dir=$(mktemp -d)
  [ "$(node dist/agent/index.js --version)" = "$(node -p 'require("./package.json").version')" ] || { echo "protocol/version.ts and package.json name different versions. Set the same version in both and run \"make build\"."; return 1; }
  node dist/agent/index.js validate intents/examples/*.yaml || return 1
  mkdir -p "$dir/chatops/intents"
  cp intents/examples/rollout_stack_media.yaml "$dir/chatops/intents/"
  INPUT_MODE=validate INPUT_INTENT=rollout_stack_media GITHUB_WORKSPACE=$dir node dist/action/index.js
  local code=$?
  rm -rf "$dir"
  return "$code"
}

no_unused_code() {
  knip --no-progress || { echo 'Delete the code that nothing uses. Drop "export" if only its own file uses it (knip --fix does this).'; return 1; }
}

step "types" tsc --noEmit
step "lint" biome check --error-on-warnings .
step "walls" vitest run --config test/architecture.config.ts
step "unused code" no_unused_code
step "dist is current" dist_is_current
step "dist is reproducible" dist_is_reproducible
step "dist runs" dist_runs
step "shell scripts" shellcheck --severity=warning scripts/*.sh .ci/run test/doubles/proxmox/*
step "workflows" node scripts/check-workflows.ts
# CI names the first commit that a push or a pull request does not bring. The history before it is not checked.
[ -z "${COMMITS_BASE:-}" ] || step "commit subjects" node scripts/commit-subjects.ts "$COMMITS_BASE" "${COMMITS_HEAD:-HEAD}"
exit $failed
