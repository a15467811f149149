#!/bin/sh
# Every text file of the project: no line is longer than 120 columns (tables, code and addresses in documents aside), no
# blank ends a line, no tab stands where none is needed, one newline is at the end. C is as clang-format 14 writes it,
# Python as black 26 does; other versions format a little differently. Scripts are what their shells can read,
# and clean to shellcheck. What is not installed is named; skipped (77) where there is no such clang-format.
set -eu
cd "$(dirname "$0")/.."
bad=0

complain() { # what is wrong, where: nothing when it is nowhere
    [ -n "$2" ] || return 0
    printf '%s:\n%s\n' "$1" "$2" >&2
    bad=1
}

# Everything but data; no file of the project has a space in its name.
texts=$(
    find .ci bench demo docs examples fuzz include src tests tools -type f ! -path 'fuzz/seeds/*' \
        ! -path 'demo/backbone/*' ! -path '*/__pycache__/*' ! -name '*.svg' \
        \( ! -path 'tests/data/*' -o -name '*.[ch]' -o -name '*.md' \)
    ls .clang-format .clang-tidy .editorconfig .git-blame-ignore-revs .gitignore ./*.md ./*.txt ./*.json ./*.in \
        LICENSE Makefile
)
export LC_ALL=C
# shellcheck disable=SC2086 # lists of words
{
    scripts=$(awk 'FNR == 1 && /^#!.*sh$/ { print FILENAME }' $texts)
    python=$(echo "$texts" | grep '\.py$')
    complain 'lines of more than 120 columns' "$(awk '
        FNR == 1 { code = 0 }
        /^ *```/ { code = !code }
        FILENAME ~ /md$/ && (code || /^    |^\|/) || /^ *<|https?:/ { next }
        length($0) - gsub(/[\200-\277]/, "&") > 120 { print FILENAME ":" FNR }' $texts)"
    complain 'lines that end with a blank' "$(grep -nE '[[:space:]]$' $texts | cut -d : -f 1,2)"
    complain 'tabs (only a line of a Makefile begins with one)' "$(awk '
        FILENAME == "Makefile" { sub(/^\t/, "") }
        /\t/ { print FILENAME ":" FNR }' $texts)"
    complain 'not one newline at the end' "$(for file in $texts; do
        [ -z "$(tail -c 1 "$file")" ] && [ -n "$(tail -c 2 "$file")" ] || echo "$file"
    done)"
    for script in $scripts; do
        complain "no shell script" "$($(sed -n '1s/.*[ /]//p' "$script") -n "$script" 2>&1)"
    done
    if command -v shellcheck >/dev/null; then
        complain 'shellcheck' "$(shellcheck --format=gcc $scripts)"
    else
        echo 'not checked: shellcheck is not installed' >&2
    fi
    if command -v python3 >/dev/null; then
        complain 'no Python' "$(python3 -c '
import ast, sys
for path in sys.argv[1:]:
    try:
        ast.parse(open(path, encoding="utf-8").read(), path)
    except SyntaxError as e:
        print(e)' $python)"
    else
        echo 'not checked: Python is not installed' >&2
    fi
    case $(black --version 2>/dev/null || true) in
    'black, 26.'*) complain "not as 'black -l 120' writes it" "$(black -l 120 --check $python 2>&1 | grep '^would')" ;;
    *) echo 'not checked: black 26 is not installed' >&2 ;;
    esac
}
case $(clang-format --version 2>/dev/null || true) in
*'version 14.'*) ;;
*)
    [ $bad -eq 0 ] || exit 1
    exit 77
    ;;
esac
# shellcheck disable=SC2016 # the inner shell's argument
complain "not as clang-format writes it ('make format' does)" "$(echo "$texts" | grep -E '\.([ch]|cpp)$' |
    xargs -P "$(getconf _NPROCESSORS_ONLN)" -n 1 \
        sh -c 'clang-format --dry-run -Werror "$1" 2>/dev/null || echo "$1"' format)"
exit $bad
