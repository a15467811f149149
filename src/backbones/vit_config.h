/* From a checkpoint's configuration and tensors to the shape of a ViT; every tensor is checked against it. */
#ifndef INLAY_BACKBONES_VIT_CONFIG_H
#define INLAY_BACKBONES_VIT_CONFIG_H

#include "backbones/config.h"
#include "backbones/vit.h"

typedef struct vit_state {
    bool positions_cover_prefix; /* position embeddings have rows for class and register tokens, not only for patches */
} vit_state;

bool vit_recognises(const tensor_set *file, const void *config);
inlay_status vit_load(backbone *b, const void *config, const char *config_path, int64_t image_size, inlay_error *err);

/* What a library's config.json gives: heads, epsilon, activation, pooling, image size, preprocessing, labels. */
inlay_status vit_timm_config(backbone *b, const config_reader *r);
inlay_status vit_hf_config(backbone *b, const config_reader *r);
/* The part of it that says how images are brought to the model. */
inlay_status vit_timm_input(backbone *b, const config_reader *r);
inlay_status vit_hf_input(backbone *b, const config_reader *config);

#endif
