#!/bin/sh
# setup/server-copy.sh PG_CONFIG FOLDER: copies a Postgres server's programs,
# libraries and shared files into FOLDER, as they lie below the root, and prints the
# path of the copy's pg_config.
#
# Postgres finds its libraries and shared files relative to its own program, so the
# copy is a complete server. Tests and demo install the extension there: the system's
# Postgres stays untouched, and nobody needs root's rights.
set -eu

pg_config=$1
folder=$2
programs=$("$pg_config" --bindir)
libraries=$("$pg_config" --pkglibdir)
shared=$("$pg_config" --sharedir)
copy=$folder$programs/pg_config

# The server's own file stands for what its package brings, all of it at once. A library
# that another package brought since is one that the copy does not have.
is_current() {
    cmp -s "$programs/postgres" "$folder$programs/postgres" || return 1
    for library in "$libraries"/*.so*; do
        [ -e "$folder$libraries/${library##*/}" ] || return 1
    done
}

if ! is_current; then
    echo "setup: copying $("$pg_config" --version) from $programs" >&2
    rm -rf "$folder"
    mkdir -p "$folder$programs" "$folder$libraries" "$folder$shared"
    cp "$libraries"/*.so* "$folder$libraries/"
    cp -R "$shared"/. "$folder$shared/"
    cp "$programs"/* "$folder$programs/"
fi
if [ "$("$copy" --pkglibdir)" != "$folder$libraries" ]; then
    echo "setup: the copy of $programs looks for its libraries in $("$copy" --pkglibdir), not in $folder$libraries" >&2
    exit 1
fi
echo "$copy"
