#!/bin/sh
# Every option that the sources look up by a literal name is a row of some table of options: a misspelt name would be
# met only when that line runs.
set -eu
cd "$(dirname "$0")/.."
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

find src -name '*.[ch]' -exec cat {} + | tr '\n\134' '  ' >"$folder/text"
grep -oE 'OPT_[A-Z_]+\( *"[a-z_0-9]+"' "$folder/text" | sed -E 's/.*"([a-z_0-9]+)"/\1/' | sort -u >"$folder/rows"
grep -oE 'options_[a-z]+\([^(),"]+, *"[a-z_0-9]+"' "$folder/text" | sed -E 's/.*"([a-z_0-9]+)"/\1/' | sort -u \
    >"$folder/asked"
if [ "$(wc -l <"$folder/asked")" -lt 100 ]; then
    echo "only $(wc -l <"$folder/asked") names are asked for: the pattern does not find them" >&2
    exit 1
fi
unknown=$(comm -23 "$folder/asked" "$folder/rows")
if [ -n "$unknown" ]; then
    echo "options that no table has:" >&2
    echo "$unknown" >&2
    exit 1
fi
