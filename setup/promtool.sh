#!/bin/sh
# Prints the path of promtool, which reads alerts and metrics as Prometheus does: the one in PATH, or
# else that of the distribution's package, without the rest of it, which would start a server.
set -eu

if command -v promtool; then
    exit 0
fi
setup=$(cd "$(dirname "$0")" && pwd)
tools=${CARGO_TARGET_DIR:-$(dirname "$setup")/target}/tools
program=$tools/promtool

if [ ! -x "$program" ]; then
    if ! command -v apt-get >/dev/null; then
        echo "setup: promtool is missing here: it is a part of Prometheus" >&2
        exit 1
    fi
    echo "setup: fetching promtool" >&2
    fetched=$tools/fetched-promtool
    rm -rf "$fetched"
    mkdir -p "$fetched"
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
    rm -rf "$fetched"
fi
echo "$program"
