/* Which code runs: this program and the libraries that it has loaded. */
#ifndef INLAY_BASE_CODE_H
#define INLAY_BASE_CODE_H

#include "base/status.h"

/* sha256, as hex digits, over the build ids of all of them; where a linker left none out of it, over name, size and
 * time of the file. Another build of Inlay, of a decoder or of the C library gives another one, so what was computed by
 * the same code is known to have the same bits. */
inlay_status code_identity(char hex[65], inlay_error *err);
/* code_identity with what `load` loads as well. It runs in a process of its own: what a library does while it is loaded
 * - one in C++ ends its process where there is no memory - is an error here. */
inlay_status code_identity_loaded(void (*load)(void), char hex[65], inlay_error *err);

#endif
