#!/bin/sh
# The command is a client of the library: it includes the public header, options and what prints, and nothing of the
# rooms in which the work is done.
set -eu
cd "$(dirname "$0")/.."

allowed='inlay/inlay.h cli/[a-z_.]* base/(arena|file|json|notes|options|progress|status|stop|text).h'
pattern=$(echo "$allowed" | sed 's/ /|/g')
if found=$(grep -HnE '^[[:space:]]*#[[:space:]]*include[[:space:]]*"' src/cli/*.[ch] | grep -vE "\"($pattern)\""); then
    echo 'src/cli must not include:' >&2
    echo "$found" >&2
    exit 1
fi
