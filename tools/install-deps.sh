#!/bin/sh
# Installs the Debian packages that are missing, or says how to. Silent when nothing is missing. Systems without dpkg
# are left alone: there the configuration names what it does not find.
# Usage: install-deps.sh [build] [test] [demo] [torture] [fuzz] [clang] [tidy]; no group: all of them.
set -eu

# package, or package=command where any provider of the command will do
build='gcc=cc cmake=cmake ninja-build=ninja pkg-config=pkg-config
    libjansson-dev libjpeg-dev libpng-dev libwebp-dev libtiff-dev libgif-dev libavif-dev libjxl-dev
    zlib1g-dev libssl-dev'
test='libcmocka-dev libsimde-dev g++=c++'
demo='dataset-fashion-mnist'
torture='strace mount=mount'
fuzz='clang libclang-rt-dev'
clang='clang=clang'
tidy='clang=clang clang-tidy=clang-tidy'

if [ $# -eq 0 ]; then
    set -- build test demo torture fuzz clang tidy
fi
wanted=
for group in "$@"; do
    case $group in
    build) wanted="$wanted $build" ;;
    test) wanted="$wanted $test" ;;
    demo) wanted="$wanted $demo" ;;
    torture) wanted="$wanted $torture" ;;
    fuzz) wanted="$wanted $fuzz" ;;
    clang) wanted="$wanted $clang" ;;
    tidy) wanted="$wanted $tidy" ;;
    *)
        echo "usage: $0 [build] [test] [demo] [torture] [fuzz] [clang] [tidy]" >&2
        exit 2
        ;;
    esac
done
command -v dpkg-query >/dev/null 2>&1 || exit 0

# one dpkg-query for all; a virtual package (libjpeg-dev on some releases) counts when an installed package provides it
installed=" $(dpkg-query -W -f '${db:Status-Status} ${Package} ${Provides}\n' | sed -n 's/^installed //p' |
    sed 's/([^)]*)//g; s/,/ /g' | tr '\n' ' ') "
missing=
for item in $wanted; do
    package=${item%%=*}
    case $item in
    *=*) command -v "${item#*=}" >/dev/null 2>&1 && continue ;;
    esac
    case $installed in
    *" $package "*) ;;
    *) missing="$missing $package" ;;
    esac
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" -ne 0 ]; then
    echo "packages are missing; install them with:" >&2
    echo "sudo apt-get install$missing" >&2
    exit 1
fi

export DEBIAN_FRONTEND=noninteractive
echo "installing$missing" >&2
# shellcheck disable=SC2086 # a list of words
if ! apt-cache show --no-all-versions $missing >/dev/null 2>&1; then
    apt-get update -q
fi
# shellcheck disable=SC2086
if ! apt-get install -q -y --no-install-recommends $missing; then
    # lists from an older point release name files that the servers no longer have
    apt-get update -q
    apt-get install -q -y --no-install-recommends $missing
fi
