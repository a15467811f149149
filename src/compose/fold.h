/* Writing an adapter into the backbone's own weights. */
#ifndef INLAY_COMPOSE_FOLD_H
#define INLAY_COMPOSE_FOLD_H

#include "adapters/adapter.h"
#include "data/preprocess.h"

/* Writes a checkpoint in timm's naming (model.safetensors, config.json) that computes what backbone and loaded adapter
 * compute together, its head included. type: DTYPE_F32 or DTYPE_BF16. Works for methods that change weights linearly
 * (LoRA, SSF) and for those that train the backbone's own weights; others are refused. `prep`: the preprocessing that
 * config.json states. */
inlay_status fold_write(const adapter *a, const preprocess *prep, const char *folder, dtype type, inlay_error *err);

/* A parameter of a backbone and the values that it is written with, [count]. */
typedef struct backbone_edit {
    const param *of;
    float *values;
} backbone_edit;

/* What backbone_write writes a checkpoint from: the backbone's parameters, those of `edits` with other values, with
 * `labels` (may be NULL) as label_names; the head is `head_weight` [classes, width] and `head_bias` [classes], or
 * absent. */
typedef struct backbone_content {
    const backbone *b;
    const backbone_edit *edits;
    int edit_count;
    const float *head_weight, *head_bias;
    int64_t classes;
    const char *const *labels;
    const preprocess *prep;
} backbone_content;
/* The config.json of such a checkpoint (a json_t *). */
void *backbone_config(const backbone_content *content);
/* The LayerNorms' epsilon that timm will use for such a checkpoint: its architectures have 1e-6 and 1e-5 only. */
double backbone_timm_eps(const backbone *b);
inlay_status backbone_write(const backbone_content *content, const char *folder, dtype type, inlay_error *err);

#endif
