#!/bin/sh
# Prints the path of promtool, which reads alerts and metrics as Prometheus does: the one in PATH, or
# else that of the distribution's package, without the rest of it, which would start a server.
set -eu

if command -v promtool; then
    exit 0
fi
setup=$(cd "$(dirname "$0")" && pwd)
tools=${CARGO_TARGET_DIR:-$(dirname "$setup")/target}/tools
mkdir -p "$tools"
tools=$(cd "$tools" && pwd)
program=$tools/promtool

if [ ! -x "$program" ]; then
    if ! command -v apt-get >/dev/null; then
        echo "setup: promtool is missing here: it is a part of Prometheus" >&2
        exit 1
    fi
    echo "setup: fetching promtool" >&2
    # A folder of its own, and a move within one file system: two may fetch at once.
    fetched=$(mktemp -d "$tools/fetched-promtool.XXXXXX")
    trap 'rm -rf "$fetched"' EXIT
    # As whoever runs this: the folder need not be open to apt's own user.
    apt() { apt-get -qq -o APT::Sandbox::User=root -o Acquire::Retries=3 "$@"; }
    cd "$fetched"
    if ! apt download prometheus 2>/dev/null; then
        # The lists of packages are old, or none.
        if [ "$(id -u)" = 0 ]; then apt update; else sudo apt-get -qq update; fi
        apt download prometheus
    fi
    dpkg-deb --fsys-tarfile prometheus_*.deb | tar -x ./usr/bin/promtool
    mv usr/bin/promtool "$program"
fi
echo "$program"
