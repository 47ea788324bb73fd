#!/usr/bin/env bash
# Prints a folder for DOCKER_CONFIG in which docker finds the newest Docker Compose: that of Debian sid, unpacked, or the
# installed one where it is at least as new. With "--fetch" it downloads the package first, which needs root on Debian.
set -euo pipefail

folder=${NEWEST_COMPOSE_DIR:-/usr/local/lib/docker-compose-newest}
plugin=$folder/cli-plugins/docker-compose
# The oldest version that counts as new: it has every feature that the tests on the newest compose use.
minimum=2.40

is_new() { # is_new PLUGIN
  local version
  version=$("$1" version --short 2>/dev/null) || return 1
  [ "$(printf '%s\n' "$minimum" "${version#v}" | sort -V | head -n 1)" = "$minimum" ]
}

if [ -x "$plugin" ] && is_new "$plugin"; then
  echo "$folder"
  exit 0
fi
installed=$(docker info --format '{{range .ClientInfo.Plugins}}{{if eq .Name "compose"}}{{.Path}}{{end}}{{end}}' 2>/dev/null) || installed=
if [ -n "$installed" ] && is_new "$installed"; then
  dirname "$(dirname "$installed")"
  exit 0
fi
if [ "${1:-}" != --fetch ]; then
  echo "newest-compose: Docker Compose $minimum or newer is missing. Run \"make setup\"." >&2
  exit 1
fi

keyring=/usr/share/keyrings/debian-archive-keyring.gpg
mirror=$(apt-get indextargets --format '$(REPO_URI) $(CODENAME)' 2>/dev/null |
  awk '$2 ~ /^(bookworm|trixie|forky|sid)$/ { print $1; exit }') || mirror=
if [ "$(id -u)" -ne 0 ] || [ -z "$mirror" ]; then
  echo "newest-compose: only root on a Debian with a mirror can unpack Debian's newest package. Install Docker Compose $minimum or newer: https://docs.docker.com/compose/install/linux/" >&2
  exit 1
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/lists/partial" "$work/deb"
echo "deb [signed-by=$keyring] $mirror sid main" >"$work/sources.list"
apt=(-qq -o "Dir::Etc::sourcelist=$work/sources.list" -o Dir::Etc::sourceparts=- -o "Dir::State::lists=$work/lists" -o APT::Sandbox::User=root)
apt-get "${apt[@]}" update
(cd "$work/deb" && apt-get "${apt[@]}" download docker-compose)
dpkg -x "$work"/deb/docker-compose_*.deb "$work/deb"
install -D -m 755 "$work/deb/usr/libexec/docker/cli-plugins/docker-compose" "$plugin"
is_new "$plugin" || { echo "newest-compose: $plugin does not answer, or is older than $minimum. Run \"$plugin version\" to see why." >&2; exit 1; }
echo "$folder"
