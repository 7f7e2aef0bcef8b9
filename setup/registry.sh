#!/bin/sh
# Fetches Apicurio Registry (142 MB), which speaks the protocol of Confluent's schema
# registry, into target/registry, once for each content of registry.xml. The demo with
# FORMAT=avro and the tests need it.
set -eu

sum=3cda1b34aa020fb4ac4dd6a66018d757e81e437f97e20a1f92d366b70091c6ba
setup=$(cd "$(dirname "$0")" && pwd)
registry=${CARGO_TARGET_DIR:-$setup/../target}/registry

"$setup/maven.sh" registry -DexcludeTransitive=true
# The archive goes only when all of it is unpacked.
if [ -d "$registry/libs" ]; then
    archive=$(echo "$registry"/libs/apicurio-registry-app-*.tar.gz)
    if ! echo "$sum  $archive" | sha256sum -c --quiet - >&2; then
        echo "setup: $archive is not the file that was pinned" >&2
        # So that the next run fetches it again.
        rm -rf "$registry"
        exit 1
    fi
    tar -xzf "$archive" -C "$registry"
    rm -rf "$registry/libs"
fi
