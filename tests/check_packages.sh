#!/bin/sh
# Whether the packages that tools/install-deps.sh asks for are those that the build uses, no fewer and no more: what one
# command's packages lack must not be hidden by what another command has installed. Usage: check_packages.sh <the shared
# library in a build folder>.
# For each group: with the pkg-config files of nothing but its packages and what these depend on, the configuration must
# succeed; every file outside the project that the compiler read must belong to them; and of every library asked for at
# least one file must have been read.
set -eu
cd "$(dirname "$0")/.."
build=$(dirname "$1")

for tool in dpkg-query ninja cmake pkg-config; do
    command -v $tool >/dev/null 2>&1 || { echo "skipped: no $tool"; exit 77; }
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
bad=0

# the packages of a group, by name
packages() {
    awk -v begin="$1='" '
        index($0, begin) == 1 { take = 1; $0 = substr($0, length(begin) + 1) }
        take {
            last = sub(/\047$/, "")
            for (i = 1; i <= NF; i++) { sub(/=.*/, "", $i); print $i }
            if (last) exit
        }' tools/install-deps.sh
}

# closure <names>: those packages and what they depend on, as far as it is installed
closure() {
    dpkg-query -W -f '${db:Status-Status}\t${binary:Package}\t${Provides}\t${Depends}, ${Pre-Depends}\n' |
        awk -F '\t' -v names="$1" '
        function bare(text) { gsub(/\([^)]*\)|:[a-z0-9]+|[ ]/, "", text); return text }
        $1 == "installed" {
            name = bare($2); real[name] = $2; needs[name] = $4
            count = split($3, list, ",")
            for (i = 1; i <= count; i++) by[bare(list[i])] = by[bare(list[i])] " " name
        }
        END {
            count = split(names, queue, " ")
            for (at = 1; at <= count; at++) {
                providers = split((queue[at] in real ? queue[at] : by[queue[at]]), some, " ")
                for (i = 1; i <= providers; i++) {
                    if (seen[some[i]]++) continue
                    print real[some[i]]
                    alternatives = split(needs[some[i]], list, /[,|]/)
                    for (k = 1; k <= alternatives; k++) queue[++count] = bare(list[k])
                }
            }
        }'
}

# configure <folder> <INLAY_TESTS>: with the pkg-config files that $work/files lists
configure() {
    mkdir -p "$work/$1/pc"
    grep -E '/pkgconfig/[^/]*\.pc$' "$work/files" | while IFS= read -r file; do ln -sf "$file" "$work/$1/pc/"; done
    PKG_CONFIG_LIBDIR="$work/$1/pc" cmake -G Ninja -S . -B "$work/$1/build" -DCMAKE_BUILD_TYPE=Release \
        "-DINLAY_TESTS=$2" >"$work/$1/log" 2>&1 || {
        echo "with the packages of '$3' alone the configuration fails:" >&2
        tail -n 20 "$work/$1/log" >&2
        bad=1
    }
}

# check <folder> <INLAY_TESTS> <group>...: the files that a build reads, against the packages of those groups
check() {
    folder=$1 tests=$2
    shift 2
    for group in "$@"; do packages "$group"; done >"$work/asked"
    closure "$(tr '\n' ' ' <"$work/asked")" >"$work/closure"
    # shellcheck disable=SC2046 # a list of words
    dpkg-query -L $(cat "$work/closure") 2>/dev/null | sort -u >"$work/files"
    configure "$folder" "$tests" "$*"
    # the library's and the command's objects only, or those of the tests as well
    ninja -C "$build" -t deps | awk -v all="$tests" '
        /^[^ ].*: #deps/ { take = all == "ON" || $1 !~ /^CMakeFiles\/(test_|bench_|gemm_|kernels_emulated|make_vit)/ }
        /^    \// && take { print $1 }' | sort -u | grep -vF "$PWD/" | xargs -r realpath -e | sort -u >"$work/read"
    xargs -r -a "$work/files" realpath -eq | sort -u >"$work/owned"
    if comm -23 "$work/read" "$work/owned" | grep -v '^/usr/local/' >"$work/foreign" && [ -s "$work/foreign" ]; then
        echo "the build reads files of packages that '$*' does not ask for (tools/install-deps.sh):" >&2
        head -n 10 "$work/foreign" >&2
        bad=1
    fi
    # shellcheck disable=SC2013 # one word a line
    for package in $(grep -E '^lib.*-dev$' "$work/asked"); do
        # another package provides it
        dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -q '^installed' || continue
        # nothing is emulated here
        [ "$package" != libsimde-dev ] || grep -q '^INLAY_EMULATED_AVX512:BOOL=ON' "$build/CMakeCache.txt" || continue
        carriers=$package
        if ! dpkg-query -L "$package" | grep -q '/include/.*\.h$'; then # it only depends on the real one
            carriers=$(dpkg-query -W -f '${Depends}' "$package" | tr ',|' '\n' |
                sed 's/(.*//; s/ //g; s/:.*//' | grep -E -- '-dev$')
        fi
        # shellcheck disable=SC2086 # a list of words
        dpkg-query -L $carriers 2>/dev/null | xargs -r realpath -eq | sort -u >"$work/its"
        if [ -z "$(comm -12 "$work/read" "$work/its" | head -n 1)" ]; then
            echo "nothing in the build reads a file of '$package' (tools/install-deps.sh)" >&2
            bad=1
        fi
    done
}

# a compiler of another make has headers of its own
compiler=$(sed -n 's/^CMAKE_C_COMPILER:[A-Z]*=//p' "$build/CMakeCache.txt")
case ${compiler##*/} in clang*) own=clang ;; *) own= ;; esac
# shellcheck disable=SC2086 # one group or none
{
    check command OFF build $own
    check tests ON build test $own
}
exit $bad
