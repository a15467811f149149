#include "backbones/vit_config.h"

#include <string.h>

#include "backbones/labels.h"

bool vit_recognises(const tensor_set *file, const void *config)
{
    (void)config;
    return naming_find(file, vit_namings) != NULL;
}

inlay_status vit_claim_read(const config_reader *r, const char *key, vit_claim *out)
{
    const char *dot = strrchr(key, '.');
    int64_t number = 0;

    TRY(config_int(r, dot ? dot + 1 : key, &number));
    if (number)
        *out = (vit_claim){key, number};
    return INLAY_OK;
}

/* Reads the heads of a JAX checkpoint off its query kernel: it has no configuration. */
static inlay_status jax_config(backbone *b, inlay_error *err)
{
    for (int i = 0; i < tensor_set_count(b->file); i++) {
        const tensor_view *t = tensor_set_at(b->file, i);
        if (strstr(t->name, "/query/kernel") && t->ndim == 3)
            b->shape.heads = t->dims[1];
    }
    b->shape.eps = 1e-6;
    if (!b->shape.heads)
        FAIL(err, INLAY_ERR_SHAPE, "%s: no query kernel of three dimensions, so the number of heads is unknown",
             b->path);
    return INLAY_OK;
}

/* Marks the blocks' matrices as what may be quantised: they are nearly all of the multiplications. */
static void mark_quantised(backbone *b)
{
    for (param *const *i = NULL; (i = backbone_each_param(b, i));) {
        param *p = *i;
        p->quantised =
            p->ndim == 2 && p->dims[0] < INT8_DEPTH && p->dims[1] < INT8_DEPTH && strncmp(p->name, "blocks.", 7) == 0;
    }
}

/* Drops JAX's head where it stands on top of a layer that is not computed here: it would give other logits. */
static void drop_headed(backbone *b)
{
    for (int i = 0; i < b->passed_count; i++)
        if (strcmp(b->passed[i].pattern, "pre_logits/*") == 0 && backbone_param(b, "head.weight")) {
            backbone_drop_param(b, "head.weight");
            backbone_drop_param(b, "head.bias");
            backbone_pass_over(b, "head/*", "it reads pre_logits");
        }
}

/* Reads what configuration says: timm's, when it has timm's keys, else Hugging Face's. */
static inlay_status read_config(backbone *b, const config_reader *r)
{
    const char *type = config_text(r, "model_type");
    bool named = json_object_get(r->object, "architecture") || json_object_get(r->object, "model_args");
    bool timm = type ? strcmp(type, "timm_wrapper") == 0
                     : !json_object_get(r->object, "hidden_size") &&
                           (named || strncmp(b->shape.layout, "hugging face", 12) != 0);

    return timm ? vit_timm_config(b, r) : vit_hf_config(b, r);
}

/* Gives tensors the rank that they have in timm: some libraries store them in another. */
static void give_ranks(backbone *b)
{
    const param *pos = backbone_param(b, "pos_embed");
    int64_t width = b->shape.width;

    vit_give_shape(b, "cls_token", 3, (const int64_t[]){1, 1, width});
    vit_give_shape(b, "head.bias", 1, (const int64_t[]){b->shape.classes});
    if (pos && pos->ndim == 2)
        vit_give_shape(b, "pos_embed", 3, (const int64_t[]){1, pos->dims[0], pos->dims[1]});
}

inlay_status vit_load(backbone *b, const void *config, const char *config_path, int64_t image_size, inlay_error *err)
{
    const naming *names = naming_find(b->file, vit_namings);
    const config_reader r = {config, config_path, err};

    b->shape.architecture = "vit";
    b->shape.layout = names->name;
    b->shape.act = ACT_GELU;
    b->described_by = "the tensors";
    b->state = ARENA_NEW(b->memory, vit_state);
    ((vit_state *)b->state)->parts = PART_FINAL_NORM;
    b->input = (backbone_input){.mean = {0.5f, 0.5f, 0.5f},
                                .std = {0.5f, 0.5f, 0.5f},
                                .crop_pct = 0.9,
                                .interpolation = "bicubic",
                                .crop_mode = "center"};
    if (!config && strcmp(names->name, "jax") != 0)
        FAIL(err, INLAY_ERR_IO,
             "'%s' does not exist: a checkpoint's config.json gives heads, normalisation and preprocessing",
             config_path);
    if (strcmp(names->name, "jax") == 0)
        TRY(jax_config(b, err));
    if (config)
        TRY(read_config(b, &r));
    TRY(naming_load(b, b->file, names, err));
    drop_headed(b);
    TRY(vit_hf_finish(b, err));
    TRY(vit_measure(b, err));
    give_ranks(b);
    TRY(vit_check_shapes(b, err));
    labels_fit(b);
    mark_quantised(b);
    return vit_fit_positions(b, image_size, err);
}
