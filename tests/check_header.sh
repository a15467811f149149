#!/bin/sh
# The public header compiles on its own as C11 and as C++, and the shared library exports nothing but what it declares.
# Usage: check_header.sh LIBRARY
set -eu
cd "$(dirname "$0")/.."
library=$1

program=${TMPDIR:-/tmp}/inlay-header-$$.c
trap 'rm -f "$program"' EXIT
printf '%s\n' '#include "inlay/inlay.h"' \
    'int main(void) { inlay_session *s = 0; inlay_session_close(s); return 0; }' >"$program"
cc -std=c11 -Wall -Wextra -Wpedantic -Werror -Iinclude -fsyntax-only "$program"
if command -v c++ >/dev/null 2>&1; then
    c++ -x c++ -std=c++11 -Wall -Wextra -Werror -Iinclude -fsyntax-only "$program"
fi
wanted=$(sed -n 's/^project(inlay VERSION \([0-9.]*\).*/\1/p' CMakeLists.txt)
if ! grep -q "INLAY_VERSION_STRING \"$wanted\"" include/inlay/inlay.h; then
    echo "the header does not say that this is version $wanted, as CMakeLists.txt does" >&2
    exit 1
fi
foreign=$(nm -D --defined-only "$library" | awk '{ print $3 }' | grep -v '^inlay_' || true)
if [ -n "$foreign" ]; then
    echo "the shared library exports names that are not its own: $foreign" >&2
    exit 1
fi
