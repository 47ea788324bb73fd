#!/usr/bin/env bash
# Runs a command with a Docker engine: the running one, or else a private one that is stopped after the command.
set -euo pipefail

if [ $# -eq 0 ]; then
  echo "usage: scripts/with-engine.sh COMMAND [ARGUMENT…]" >&2
  exit 2
fi
if timeout 10 docker info >/dev/null 2>&1; then exec "$@"; fi
if [ "$(id -u)" -ne 0 ]; then
  echo "with-engine: no Docker engine answers, and only root can start one. Start Docker, or set DOCKER_HOST." >&2
  exit 1
fi

dir=$(mktemp -d /tmp/chatops-engine.XXXXXX)
engine=
child=
stop() {
  trap - EXIT
  trap '' INT TERM
  [ -z "$child" ] || kill "$child" 2>/dev/null || true
  if [ -n "$engine" ]; then
    kill "$engine" 2>/dev/null || true
    for _ in $(seq 100); do kill -0 "$engine" 2>/dev/null || break; sleep 0.2; done
    kill -9 "$engine" 2>/dev/null || true
  fi
  # An engine that was killed leaves mounts. Unmount them before the folder is deleted.
  awk -v dir="$dir/" 'index($2, dir) == 1 { print $2 }' /proc/mounts | sort -r | xargs -r umount -l 2>/dev/null || true
  rm -rf "$dir"
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

export DOCKER_HOST="unix://$dir/docker.sock"
# The default pools hold about thirty networks. Smaller ones make room for the tests.
start() { # start STORAGE-DRIVER
  PATH=$PATH:/usr/sbin:/sbin dockerd --host "$DOCKER_HOST" --data-root "$dir/data" --exec-root "$dir/exec" \
    --pidfile "$dir/docker.pid" --storage-driver "$1" \
    --default-address-pool base=172.17.0.0/16,size=16 --default-address-pool base=10.213.0.0/16,size=26 >"$dir/dockerd.log" 2>&1 &
  engine=$!
  for _ in $(seq 150); do
    timeout 5 docker info >/dev/null 2>&1 && return 0
    kill -0 "$engine" 2>/dev/null || break
    sleep 0.2
  done
  kill "$engine" 2>/dev/null || true
  wait "$engine" 2>/dev/null || true
  engine=
  return 1
}
if ! start overlay2 && ! start vfs; then
  echo "with-engine: dockerd did not start. Its last log lines:" >&2
  tail -n 20 "$dir/dockerd.log" >&2
  exit 1
fi

"$@" &
child=$!
code=0
wait "$child" || code=$?
child=
exit "$code"
