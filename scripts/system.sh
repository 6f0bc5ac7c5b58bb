#!/usr/bin/env bash
# Makes sure that the system's packages NAME... are there (npm, postgresql, chromium: names of Debian's): installs what is missing as root, else says
# what to install.
set -euo pipefail
missing=()
for name in "$@"; do
    dpkg-query --show --showformat='${db:Status-Status}' "$name" 2>/dev/null | grep -qx installed || missing+=("$name")
done
[ ${#missing[@]} -gt 0 ] || exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "These are needed, and only root on Debian can be given them here: ${missing[*]}. Install them and try again." >&2
    exit 1
fi
echo "Installing ${missing[*]}"
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
