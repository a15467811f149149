/* The rows of the table of methods. */
#ifndef INLAY_ADAPTERS_METHOD_H
#define INLAY_ADAPTERS_METHOD_H

#include "adapters/adapter.h"

/* Rows that methods with something in every layer have in common: which layers, AdapterDrop (arXiv 2010.11918), and a
 * rank for each. */
#define OPTION_LAYERS                                                                                                  \
    {                                                                                                                  \
        "layers", OPTION_STRING, "all", NULL, 0, 0, "LIST", "the layers that it is for, say 0,2,5-11; all; none",      \
            false                                                                                                      \
    }
#define OPTION_DROP_LAYERS                                                                                             \
    {                                                                                                                  \
        "drop_layers", OPTION_STRING, "0", NULL, 0, 0, "N",                                                            \
            "no adapters in the lowest N layers; random, random:LOW-HIGH: each step draws N, from 0 to depth - 1 or "  \
            "as given",                                                                                                \
            false                                                                                                      \
    }
#define OPTION_RANKS                                                                                                   \
    {                                                                                                                  \
        "ranks", OPTION_STRING, "", NULL, 0, 0, "MAP",                                                                 \
            "ranks of single layers, say 0-5:4,6:16; others have that of --rank", false                                \
    }

#define OPTION_UNFREEZE                                                                                                \
    {                                                                                                                  \
        "unfreeze", OPTION_CHOICE, "none", "none|norm|bias|all", 0, 0, NULL,                                           \
            "weights of the backbone that are trained as well: of every LayerNorm, every bias, all", false             \
    }

#define METHOD(name) extern const method method_##name;
#include "adapters/methods.def"
#undef METHOD

#endif
