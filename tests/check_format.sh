#!/bin/sh
# Every C file is as clang-format 14 writes it, and no line of C, C++ and documents is longer than 120
# columns (tables, code and addresses in documents aside). Skipped (77) where there is no such clang-format: another version formats a little differently.
set -eu
cd "$(dirname "$0")/.."
bad=0

long=$(find src include tests bench fuzz examples tools docs ./*.md -type f \
    \( -name '*.[ch]' -o -name '*.def' -o -name '*.cpp' -o -name '*.md' \) ! -path 'tests/data/*' \
    -exec awk 'FNR == 1 { code = 0 } /^ *```/ { code = !code }
        length($0) - gsub(/[\200-\277]/, "&") > 120 && !(FILENAME ~ /md$/ && (code || /^    |^\|/)) && !/^ *</ && !/https?:/ { print FILENAME ":" FNR }' {} +)
if [ -n "$long" ]; then
    echo "lines of more than 120 columns:" >&2
    echo "$long" >&2
    bad=1
fi
case $(clang-format --version 2>/dev/null || true) in
*'version 14.'*) ;;
*)
    [ $bad -eq 0 ] || exit 1
    exit 77
    ;;
esac
files=$(find src include tests bench fuzz examples \( -name '*.[ch]' -o -name '*.cpp' \))
wrong=$(echo "$files" | xargs -P "$(getconf _NPROCESSORS_ONLN)" -n 1 \
    sh -c 'clang-format --dry-run -Werror "$1" 2>/dev/null || echo "$1"' format)
if [ -n "$wrong" ]; then
    echo "not as clang-format writes it ('make format' does):" >&2
    echo "$wrong" >&2
    bad=1
fi
exit $bad
