/* From a checkpoint's configuration and tensors to the shape of a ViT; every tensor is checked against it. */
#ifndef INLAY_BACKBONES_VIT_CONFIG_H
#define INLAY_BACKBONES_VIT_CONFIG_H

#include "backbones/config.h"
#include "backbones/vit.h"

/* What configuration says of a size that tensors tell as well. */
typedef struct vit_claim {
    const char *key; /* NULL: nothing */
    int64_t value;
} vit_claim;

/* Tensors that some models have: a file of an architecture that has them must as well. */
enum {
    PART_CLASS = 1 << 0,
    PART_DISTILLATION = 1 << 1,
    PART_REGISTERS = 1 << 2,
    PART_PRE_NORM = 1 << 3,
    PART_QKV_BIAS = 1 << 4,
    PART_QK_NORM = 1 << 5,
    PART_LAYER_SCALE = 1 << 6,
    PART_FINAL_NORM = 1 << 7,
    PART_PREFIX_POOLED = 1 << 8 /* no tensor: pooling looks at class and register tokens, too */
};

typedef struct hf_type hf_type;

typedef struct vit_state {
    bool positions_cover_prefix; /* position embeddings have rows for class and register tokens, not only for patches */
    int tokens_read;             /* class token, or class and distillation token, by POOL_TOKEN */
    vit_claim width, depth, patch, hidden;
    unsigned parts;
    int64_t trained[2]; /* height and width of the images that the position embeddings are for; 0: as the images are */
    bool plain_bicubic; /* position embeddings are resampled without antialiasing */
    const char *positions; /* what became of the position embeddings, in words */
    int64_t usual_size;    /* image side of the architecture; 0: not known */
    const hf_type *hf;     /* Hugging Face's type of the model; NULL: another library's */
} vit_state;

/* What becomes of each key of the files, ended by {0}: Hugging Face's config.json (all of it, or the encoder's part)
 * and preprocessor_config.json; timm's config.json, its pretrained_cfg and what Inlay adds to it. */
extern const config_key vit_hf_keys[], vit_hf_input_keys[], vit_timm_root_keys[], vit_timm_cfg_keys[],
    vit_timm_own_keys[];

/* What becomes of an argument in timm's model_args, as config_key says it of a key. */
typedef struct vit_argument {
    const char *name;
    const char *harmless; /* why it needs not be followed; NULL: it is read, or `expected` is all that is supported */
    const char *expected; /* as JSON; NULL: any value */
    unsigned part;        /* whether a file has these tensors is up to this argument, not to the architecture's name */
} vit_argument;

extern const vit_argument vit_timm_arguments[];

bool vit_recognises(const tensor_set *file, const void *config);
inlay_status vit_load(backbone *b, const void *config, const char *config_path, int64_t image_size, inlay_error *err);

/* A number under the last part of `key` ("model_args.depth"), where there is one. */
inlay_status vit_claim_read(const config_reader *r, const char *key, vit_claim *out);

/* What a library's config.json gives: heads, epsilon, activation, pooling, image size, preprocessing, labels. */
inlay_status vit_timm_config(backbone *b, const config_reader *r);
inlay_status vit_hf_config(backbone *b, const config_reader *r);
/* Whether a written checkpoint may keep this name of timm's, since it stands for a plain ViT of which model_args say
 * the rest; NULL is no name. */
bool vit_timm_kept(const char *name, double *eps, bool *distilled);
/* What a library's configuration says of how images are brought to the model. */
inlay_status vit_timm_input(backbone *b, const config_reader *r);
inlay_status vit_hf_input(backbone *b, const config_reader *config);
/* Once the tensors are registered: what a classification head of Hugging Face reads. */
inlay_status vit_hf_finish(backbone *b, inlay_error *err);

/* vit_shape.c: sizes, the check of every tensor, and position embeddings for the size of images. */
inlay_status vit_measure(backbone *b, inlay_error *err);
inlay_status vit_check_shapes(backbone *b, inlay_error *err);
inlay_status vit_fit_positions(backbone *b, int64_t image_size, inlay_error *err);
void vit_facts(const backbone *b, void *facts);
/* Files store a few tensors in another rank than timm; canonical is timm's. */
void vit_give_shape(backbone *b, const char *name, int ndim, const int64_t *dims);

/* vit_positions.c: the class token takes over its row of the position embeddings; those of patches become those of
 * another grid. */
inlay_status vit_move_class_position(backbone *b, param *pos, inlay_error *err);
inlay_status vit_change_grid(backbone *b, param *pos, const int64_t grid[2], int64_t prefix, inlay_error *err);

#endif
