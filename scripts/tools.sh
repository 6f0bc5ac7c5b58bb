#!/usr/bin/env bash
# Installs what the storage tests start besides Python packages: the npm servers of requirements/npm into .tools/npm; with the argument
# ceph, Debian's Ceph too.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ "${1:-}" = ceph ]; then
    scripts/system.sh radosgw ceph-mon ceph-osd ceph-common
    exit
fi
command -v npm >/dev/null || scripts/system.sh npm
mkdir -p .tools/npm
cp requirements/npm/package.json requirements/npm/package-lock.json requirements/npm/.npmrc .tools/npm/
npm ci --prefix .tools/npm --no-audit --no-fund --loglevel=error
touch .tools/npm/.ready
echo "Storage servers ready: .tools/npm"
