/* config.json of a checkpoint that is written: one that timm builds the same model from. An architecture of timm stands
 * for what cannot be said otherwise, the LayerNorms' epsilon; everything else is said in model_args, whatever the name
 * implies. */
#include <math.h>
#include <string.h>

#include "backbones/vit_config.h"
#include "base/json.h"
#include "compose/fold.h"

typedef struct timm_name {
    const char *name;
    double eps;
    bool distilled;
} timm_name;

/* Architectures that stand for any other size; the last one where no epsilon is the model's. */
static const timm_name carriers[] = {{"deit_tiny_distilled_patch16_224", 1e-6, true},
                                     {"vit_base_patch16_clip_224", 1e-5, false},
                                     {"vit_base_patch16_224", 1e-6, false}};

static bool fits(const timm_name *n, const backbone *b, bool distilled)
{
    return n->distilled == distilled && fabs(n->eps / b->shape.eps - 1) < 1e-6;
}

static timm_name name_for(const backbone *b)
{
    bool distilled = backbone_param(b, "dist_token") != NULL;
    timm_name own = {b->model_name, 0, false};

    if (vit_timm_kept(own.name, &own.eps, &own.distilled) && fits(&own, b, distilled))
        return own;
    for (size_t i = 0; i < sizeof carriers / sizeof *carriers; i++)
        if (fits(&carriers[i], b, distilled))
            return carriers[i];
    return distilled ? carriers[0] : carriers[2];
}

double backbone_timm_eps(const backbone *b)
{
    return name_for(b).eps;
}

/* The share of the width that timm makes the same whole number of, in few digits. */
static double mlp_ratio(const backbone_shape *s)
{
    return ceil((double)s->hidden / (double)s->width * 1e6) / 1e6;
}

static json_t *image_side(const backbone_shape *s)
{
    if (s->height == s->image_width)
        return json_integer((json_int_t)s->height);
    return json_pack("[I,I]", (json_int_t)s->height, (json_int_t)s->image_width);
}

static json_t *model_args(const backbone *b)
{
    const backbone_shape *s = &b->shape;
    const param *registers = backbone_param(b, "reg_token"), *positions = backbone_param(b, "pos_embed");
    const vit_state *state = b->state;
    bool distilled = backbone_param(b, "dist_token") != NULL;
    json_t *args = json_pack("{s:o, s:I, s:I, s:I, s:I, s:f, s:s, s:s}", "img_size", image_side(s), "patch_size",
                             (json_int_t)s->patch, "embed_dim", (json_int_t)s->width, "depth", (json_int_t)s->depth,
                             "num_heads", (json_int_t)s->heads, "mlp_ratio", mlp_ratio(s), "global_pool",
                             pooling_name(s->pool), "act_layer", activation_name(s->act));

    json_object_update_new(args, json_pack("{s:b, s:b, s:b, s:b}", "qkv_bias",
                                           backbone_param(b, "blocks.0.attn.qkv.bias") != NULL, "qk_norm",
                                           backbone_param(b, "blocks.0.attn.q_norm.weight") != NULL, "pre_norm",
                                           backbone_param(b, "norm_pre.weight") != NULL, "fc_norm",
                                           backbone_param(b, "fc_norm.weight") != NULL));
    json_object_set_new(args, "final_norm",
                        json_boolean(backbone_param(b, "norm.weight") || backbone_param(b, "fc_norm.weight")));
    json_object_set_new(args, "pool_include_prefix", json_boolean(state && state->parts & PART_PREFIX_POOLED));
    if (!distilled)
        json_object_update_new(args, json_pack("{s:b, s:b, s:I}", "class_token", backbone_param(b, "cls_token") != NULL,
                                               "no_embed_class", positions->dims[1] == s->tokens - s->prefix_tokens,
                                               "reg_tokens", (json_int_t)(registers ? registers->dims[1] : 0)));
    if (backbone_param(b, "blocks.0.ls1.gamma") || backbone_param(b, "blocks.0.ls2.gamma"))
        json_object_set_new(args, "init_values", json_real(1e-5));
    return args;
}

static json_t *pretrained_cfg(const backbone_content *c)
{
    const backbone_shape *s = &c->b->shape;
    const preprocess *p = c->prep;
    json_t *cfg =
        json_pack("{s:[I,I,I], s:s, s:f, s:s, s:[f,f,f], s:[f,f,f], s:I, s:s}", "input_size", (json_int_t)s->channels,
                  (json_int_t)s->height, (json_int_t)s->image_width, "interpolation", resample_name(p->interpolation),
                  "crop_pct", p->crop_pct, "crop_mode", preprocess_mode_name(p->mode), "mean", (double)p->mean[0],
                  (double)p->mean[1], (double)p->mean[2], "std", (double)p->std[0], (double)p->std[1],
                  (double)p->std[2], "num_classes", (json_int_t)c->classes, "first_conv", "patch_embed.proj");

    json_object_set_new(cfg, "classifier",
                        backbone_param(c->b, "dist_token") ? json_pack("[s,s]", "head", "head_dist")
                                                           : json_string("head"));
    return cfg;
}

/* The facts that timm has no key for. */
static json_t *beyond_timm(const backbone_content *c, const timm_name *n)
{
    json_t *own = json_object();

    if (!fits(n, c->b, n->distilled))
        json_object_set_new(own, "norm_eps", json_real(c->b->shape.eps));
    if (c->prep->crop_down)
        json_object_set_new(own, "crop_down", json_true());
    return own;
}

static json_t *label_names(const backbone_content *c)
{
    json_t *names = json_array();
    int missing = 0;

    for (int64_t i = 0; i < c->classes; i++)
        missing |= json_array_append_new(names, json_string(c->labels[i] ? c->labels[i] : ""));
    if (!missing)
        return names;
    json_decref(names);
    return NULL; /* one left out would give the others its number */
}

void *backbone_config(const backbone_content *c)
{
    timm_name n = name_for(c->b);
    json_t *root =
               json_pack("{s:s, s:I, s:I, s:s}", "architecture", n.name, "num_classes", (json_int_t)c->classes,
                         "num_features", (json_int_t)c->b->shape.width, "global_pool", pooling_name(c->b->shape.pool)),
           *own = beyond_timm(c, &n);
    int missing = 0;

    if (c->labels)
        missing |= json_object_set_new(root, "label_names", label_names(c));
    missing |= json_object_set_new(root, "model_args", model_args(c->b));
    missing |= json_object_set_new(root, "pretrained_cfg", pretrained_cfg(c));
    if (json_object_size(own))
        json_object_set(root, "inlay", own);
    json_decref(own);
    if (missing) { /* a number or a text that has no JSON form */
        json_decref(root);
        return NULL;
    }
    return root;
}
