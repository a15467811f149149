/* The rows of the table of methods. */
#ifndef INLAY_ADAPTERS_METHOD_H
#define INLAY_ADAPTERS_METHOD_H

#include "adapters/adapter.h"

#define METHOD(name) extern const method method_##name;
#include "adapters/methods.def"
#undef METHOD

#endif
