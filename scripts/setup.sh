#!/usr/bin/env bash
# Installs what the tests and the demo need: npm packages, a Docker engine, compose v2 (Debian's and the newest), rsync,
# busybox, bubblewrap and the checkers.
# It needs root on Debian or Ubuntu. Elsewhere it names the missing programs and exits with 1.
set -euo pipefail
cd "$(dirname "$0")/.."

compose_minimum=2.26
plugins=/usr/local/lib/docker/cli-plugins

node_major=$(node --version 2>/dev/null | sed 's/^v\([0-9]*\).*/\1/') || node_major=0
if [ "${node_major:-0}" -lt 20 ] || ! command -v npm >/dev/null; then
  echo "setup: Node or npm is missing, or older than version 20. Install both from your distribution or https://nodejs.org, then run this again." >&2
  exit 1
fi
if [ ! -e node_modules/.package-lock.json ] || [ package-lock.json -nt node_modules/.package-lock.json ]; then
  echo "setup: npm ci"
  npm ci --no-audit --no-fund --loglevel=error >/dev/null
  touch node_modules/.package-lock.json
fi

has_compose() {
  local version
  version=$(docker compose version --short 2>/dev/null) || return 1
  [ "$(printf '%s\n' "$compose_minimum" "${version#v}" | sort -V | head -n 1)" = "$compose_minimum" ]
}

missing=()
need() { # need PROGRAM PACKAGE: notes the package if the program is not installed
  PATH=$PATH:/usr/sbin:/sbin command -v "$1" >/dev/null || missing+=("$2")
}
need docker docker.io
need dockerd docker.io
need iptables iptables
need ip iproute2
need rsync rsync
need sqlite3 sqlite3
need restic restic
need zstd zstd
need mariadbd mariadb-server
need git git
need curl curl
need ssh openssh-client
need sshd openssh-server
need openssl openssl
need shellcheck shellcheck
need promtool prometheus
need systemd-analyze systemd
need containerd containerd
need docker-registry docker-registry
need mandoc mandoc
need zsh zsh
need fish fish
need bwrap bubblewrap
compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null || missing+=(postgresql)
# ldd fails for a static program. Only a static busybox runs in an image that holds nothing else.
if ! command -v busybox >/dev/null || ldd "$(command -v busybox)" >/dev/null 2>&1; then
  missing+=(busybox-static)
fi

if [ ${#missing[@]} -eq 0 ] && has_compose && scripts/newest-compose.sh >/dev/null 2>&1; then exit 0; fi

if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
  {
    [ ${#missing[@]} -eq 0 ] || echo "setup: programs are missing. Install their packages (Debian's names): ${missing[*]}"
    has_compose || echo "setup: Docker Compose is missing or too old. Install version $compose_minimum or newer: https://docs.docker.com/compose/install/linux/"
    scripts/newest-compose.sh >/dev/null || true
  } >&2
  exit 1
fi

export DEBIAN_FRONTEND=noninteractive
if [ ${#missing[@]} -gt 0 ]; then
  echo "setup: installing ${missing[*]}"
  apt-get update -qq
  # Keeps the packages from starting their services.
  policy=/usr/sbin/policy-rc.d
  [ -e $policy ] || { printf '#!/bin/sh\nexit 101\n' >$policy && chmod +x $policy && trap 'rm -f /usr/sbin/policy-rc.d' EXIT; }
  apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

if ! has_compose; then
  echo "setup: installing Docker Compose"
  apt-get install -y -qq --no-install-recommends docker-compose-v2 >/dev/null 2>&1 || true
fi
if ! has_compose; then
  # Debian 12 has no compose v2. Debian 13's package comes from the mirror that this machine uses already.
  work=$(mktemp -d)
  mkdir -p "$work/lists/partial" "$work/deb"
  mirror=$(apt-get indextargets --format '$(REPO_URI) $(CODENAME)' | awk '$2 ~ /^(bookworm|trixie)$/ { print $1; exit }')
  keyring=/usr/share/keyrings/debian-archive-keyring.gpg
  if [ -z "$mirror" ]; then
    echo "setup: no Debian mirror is configured. Install Docker Compose $compose_minimum or newer: https://docs.docker.com/compose/install/linux/" >&2
    exit 1
  fi
  echo "deb [signed-by=$keyring] $mirror trixie main" >"$work/sources.list"
  apt=(-qq -o "Dir::Etc::sourcelist=$work/sources.list" -o Dir::Etc::sourceparts=- -o "Dir::State::lists=$work/lists" -o APT::Sandbox::User=root)
  apt-get "${apt[@]}" update
  (cd "$work/deb" && apt-get "${apt[@]}" download docker-compose)
  dpkg -x "$work"/deb/docker-compose_*.deb "$work/deb"
  install -D -m 755 "$work/deb/usr/libexec/docker/cli-plugins/docker-compose" "$plugins/docker-compose"
  rm -rf "$work"
  has_compose || { echo "setup: Docker Compose is installed in $plugins but does not answer. Run \"docker compose version\" to see why." >&2; exit 1; }
fi

# Tests run on the installed compose and on the newest one.
if ! scripts/newest-compose.sh >/dev/null 2>&1; then
  echo "setup: unpacking the newest Docker Compose"
  scripts/newest-compose.sh --fetch >/dev/null
fi
