#!/usr/bin/env bash
# Runs the tests with vitest's options. The last line of its output is "N passed, N failed".
set -euo pipefail
cd "$(dirname "$0")/.."
report=$(mktemp)
trap 'rm -f "$report"' EXIT
code=0
CI=true VITEST_JSON=$report vitest run "$@" || code=$?
node -e 'const r = JSON.parse(require("node:fs").readFileSync(process.argv[1], "utf8")); console.log(`${r.numPassedTests} passed, ${r.numFailedTests} failed`)' "$report" || true
exit "$code"
