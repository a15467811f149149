/* The rows of the table of methods. */
#ifndef INLAY_ADAPTERS_METHOD_H
#define INLAY_ADAPTERS_METHOD_H

#include "adapters/adapter.h"

/* Rows that methods with adapters in every layer have in common: AdapterDrop (arXiv 2010.11918). */
#define OPTION_DROP_LAYERS                                                                                                                         \
    {                                                                                                                                              \
        "drop_layers", OPTION_STRING, "0", NULL, 0, 0, "N", "no adapters in the lowest N layers; random: each step draws N from 0 to depth - 1", false \
    }

#define METHOD(name) extern const method method_##name;
#include "adapters/methods.def"
#undef METHOD

#endif
