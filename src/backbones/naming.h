/* Names of the same weights in different libraries. A naming is a table of patterns; canonical names are timm's. */
#ifndef INLAY_BACKBONES_NAMING_H
#define INLAY_BACKBONES_NAMING_H

#include "backbones/backbone.h"

typedef enum naming_change {
    CHANGE_NONE,
    CHANGE_TRANSPOSE,      /* [in, out...] -> [out..., in], trailing dimensions flattened */
    CHANGE_CONV,           /* [y, x, in, out] -> [out, in, y, x] */
    CHANGE_OUT_PROJECTION, /* [heads, head_dim, out] -> [out, heads * head_dim] */
    CHANGE_FLATTEN,        /* shape only */
    CHANGE_QUERY,          /* query, key and value side by side: the first third along the first dimension */
    CHANGE_KEY_VALUE       /* query, key and value side by side: the last two thirds */
} naming_change;

typedef struct naming_rule {
    const char *canonical;  /* "blocks.#.norm1.weight"; # stands for the layer */
    const char *sources[3]; /* one, or three that are stacked along the first dimension (query, key, value) */
    naming_change change;
} naming_rule;

/* Tensors that are left out on purpose, and why nothing is lost. */
typedef struct naming_pass {
    const char *pattern; /* "pooler.*"; NULL ends a list */
    const char *reason;
} naming_pass;

/* Where an encoder may lie in a larger model. Whatever wraps all of it ("module.", "_orig_mod.") is found by itself. */
typedef struct naming_place {
    const char *prefix;         /* "visual.trunk."; NULL ends a list. The last one is "" */
    const naming_pass *outside; /* what else the larger model has; NULL: nothing */
} naming_place;

typedef struct naming {
    const char *name; /* "timm" */
    const char *mark; /* a tensor (after the prefix) by which this naming is recognised */
    const naming_place *places;
    const naming_rule *rules;  /* ended by canonical == NULL */
    const naming_pass *passed; /* tensors without meaning for an encoder */
} naming;

/* Registers every tensor of `file` as a parameter of `b` under its canonical name; notes in `b` what was passed over. A
 * tensor that neither a rule nor a list names is an error. */
inlay_status naming_load(backbone *b, const tensor_set *file, const naming *names, inlay_error *err);
/* The naming whose mark the file has; NULL: none. */
const naming *naming_find(const tensor_set *file, const naming *const *all);
/* "a.#.b" against "a.7.b": the layer number, -1 when there is none; false when it does not match. A final * matches any
 * rest. */
bool naming_match(const char *pattern, const char *name, int *layer);

#endif
