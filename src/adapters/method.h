/* The rows of the table of methods. */
#ifndef INLAY_ADAPTERS_METHOD_H
#define INLAY_ADAPTERS_METHOD_H

#include "adapters/adapter.h"

/* Rows that methods with something in every layer have in common: which layers, AdapterDrop (arXiv 2010.11918), and a
 * rank for each. */
#define OPTION_LAYERS OPT_TEXT("layers", "all", "LIST", "the layers that it is for, say 0,2,5-11; all; none")
#define OPTION_DROP_LAYERS                                                                                             \
    OPT_TEXT("drop_layers", "0", "N",                                                                                  \
             "no adapters in the lowest N layers; random, random:LOW-HIGH: each step draws N, from 0 to depth - 1 or " \
             "as given")
#define OPTION_RANKS OPT_TEXT("ranks", "", "MAP", "ranks of single layers, say 0-5:4,6:16; others have that of --rank")

#define OPTION_UNFREEZE                                  \
    OPT_CHOICE("unfreeze", "none", "none|norm|bias|all", \
               "weights of the backbone that are trained as well: of every LayerNorm, every bias, all")

#define METHOD(name) extern const method method_##name;
#include "adapters/methods.def"
#undef METHOD

#endif
