#!/bin/sh
# Installs, through apt, what building and running Headwater needs from the
# distribution and does not find here. Costs a moment when nothing is missing.
#
#   setup/packages.sh        to build and to demonstrate
#   setup/packages.sh lint   the linters too
#   setup/packages.sh test   the output plugin that tests compare with, curl, and shells, too
#   setup/packages.sh bench  the output plugins that benches compare with too
#
# It looks for the programs and headers themselves, not for packages, so that a
# Postgres or a Java from elsewhere counts. Where apt or root's rights are missing
# it says what to install and ends with 1.
set -eu

wanted=''
want() { wanted="$wanted $*"; }
has() { command -v "$1" >/dev/null 2>&1; }

# The newest Java from 17 on, the oldest that Kafka's broker runs on.
java_is_new_enough() {
    has java && [ "$(java -XX:-UsePerfData -version 2>&1 | sed -n 's/.* version "\([0-9]*\).*/\1/p')" -ge 17 ] 2>/dev/null
}

# Another output plugin, where there is a server to look at.
has_plugin() {
    pg_config=${PG_CONFIG:-pg_config}
    has "$pg_config" && [ -e "$("$pg_config" --pkglibdir)/$1.so" ]
}

# pg_config of a server with its headers and programs, not of libpq alone.
postgres_is_complete() {
    pg_config=${PG_CONFIG:-pg_config}
    has "$pg_config" &&
        [ -e "$("$pg_config" --includedir-server)/postgres.h" ] &&
        [ -x "$("$pg_config" --bindir)/postgres" ]
}

libclang_is_here() {
    for library in /usr/lib/llvm-*/lib/libclang.so* /usr/lib*/libclang.so* /usr/lib/*-linux-gnu/libclang*.so* "${LIBCLANG_PATH:-/nonexistent}"/libclang*; do
        [ -e "$library" ] && return 0
    done
    return 1
}

if ! has cc || ! has c++ || ! has make; then want build-essential; fi
has pkg-config || want pkg-config
has clang || want clang
libclang_is_here || want libclang-dev
pkg-config --exists openssl 2>/dev/null || want libssl-dev
pkg-config --exists zlib 2>/dev/null || want zlib1g-dev
pkg-config --exists libpq 2>/dev/null || want libpq-dev
postgres_is_complete || want postgresql
java_is_new_enough || want jre
has mvn || want maven
has kcat || want kcat
has jq || want jq
has unzip || want unzip
has setpriv || want util-linux
if ! has python3 || ! python3 -m pip --version >/dev/null 2>&1; then want python3-pip; fi
case ${1:-} in
lint) has shellcheck || want shellcheck ;;
test)
    has_plugin wal2json || want wal2json
    # What the doctor prints is run as it is printed.
    has curl || want curl
    # What they complete is asked of themselves.
    has zsh || want zsh
    has fish || want fish
    ;;
bench)
    has_plugin wal2json || want wal2json
    has_plugin decoderbufs || want decoderbufs
    ;;
esac

[ -n "$wanted" ] || exit 0

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}
apt() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 "$@"
}

if ! has apt-get; then
    echo "setup: missing here, as Debian names them:$wanted" >&2
    echo "setup: install what your distribution calls them, and run this again" >&2
    exit 1
fi
if [ "$(id -u)" != 0 ] && ! sudo -n true 2>/dev/null; then
    echo "setup: missing here, and root's rights are needed to install it; as root, run" >&2
    echo "  apt-get install$wanted" |
        sed 's/ jre/ default-jre-headless/; s/ postgresql/ postgresql postgresql-server-dev-all/; s/ \(wal2json\|decoderbufs\)/ postgresql-NN-\1/g' >&2
    exit 1
fi

echo "setup: installing$wanted" >&2
apt update

# `postgresql` stands for the server of the distribution's major version and the
# headers that belong to it, a plugin's name for that of the server that is here or will be;
# `jre` for the first Java that is new enough.
major=$(apt-cache depends postgresql | sed -n 's/.*Depends: postgresql-\([0-9][0-9]*\)$/\1/p' | head -n 1)
if postgres_is_complete; then
    server_major=$("$pg_config" --version | sed -E 's/^PostgreSQL ([0-9]+).*/\1/')
else
    server_major=$major
fi
packages=''
installs_postgres=''
for package in $wanted; do
    case $package in
    postgresql)
        installs_postgres=yes
        packages="$packages postgresql-$major postgresql-server-dev-$major"
        ;;
    wal2json | decoderbufs) packages="$packages postgresql-$server_major-$package" ;;
    jre)
        for version in 17 21 25; do
            if [ -n "$(apt-cache search --names-only "^openjdk-$version-jre-headless\$")" ]; then
                packages="$packages openjdk-$version-jre-headless"
                break
            fi
        done
        ;;
    *) packages="$packages $package" ;;
    esac
done

# Debian's server package makes and starts a cluster unless told not to. Told so for
# the time of this installation, it leaves the machine without one.
cluster_settings=/etc/postgresql-common/createcluster.conf
if [ -n "$installs_postgres" ]; then
    apt install --no-install-recommends postgresql-common >/dev/null
    kept=$(mktemp)
    cp "$cluster_settings" "$kept"
    # shellcheck disable=SC2064 # the name of now is meant
    trap "as_root cp '$kept' '$cluster_settings'; rm -f '$kept'" EXIT
    echo 'create_main_cluster = false' | as_root tee -a "$cluster_settings" >/dev/null
fi

# shellcheck disable=SC2086 # a list of names
apt install --no-install-recommends $packages >/dev/null
