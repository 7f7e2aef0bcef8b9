#!/bin/sh
# Says clearly what is wrong when the Rust toolchain is missing or too old.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
needed=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$root/Cargo.toml")

if ! command -v cargo >/dev/null 2>&1; then
    echo "setup: no cargo in PATH; install Rust $needed or newer, as https://rustup.rs tells" >&2
    exit 1
fi
found=$(cd "$root" && cargo --version | sed -n 's/^cargo \([0-9.]*\).*/\1/p')
oldest=$(printf '%s\n%s\n' "$needed" "$found" | sort -V | head -n 1)
if [ "$oldest" != "$needed" ]; then
    echo "setup: cargo $found is too old; Headwater needs Rust $needed or newer: rustup update" >&2
    exit 1
fi
