/* What timm's config.json says of a ViT: model_args, and the architecture's name, which stands for what cannot be read
 * off the tensors. */
#include <math.h>
#include <string.h>

#include "backbones/vit_config.h"

/* What one of timm's names stands for. */
typedef struct timm_vit {
    const char *name;
    int width, heads, patch, size;
    activation act;
    double eps;
    pooling pool;
    bool kept;
    unsigned parts;
    const char *refused; /* what it has that is not supported; NULL: all of it is */
} timm_vit;

static const timm_vit timm_vits[] = {
#define KEPT true
#define READ false
#define TIMM(name, width, heads, patch, size, act, eps, pool, kept, parts) \
    {#name, width, heads, patch, size, ACT_##act, eps, POOL_##pool, kept, parts, NULL},
#define REFUSED(name, reason) {#name, 0, 0, 0, 0, ACT_NONE, 0, POOL_TOKEN, false, 0, reason},
#include "backbones/vit_timm.def"
#undef TIMM
#undef REFUSED
#undef KEPT
#undef READ
};

static const timm_vit *find_architecture(const char *name)
{
    for (size_t i = 0; name && i < sizeof timm_vits / sizeof *timm_vits; i++)
        if (strcmp(timm_vits[i].name, name) == 0)
            return &timm_vits[i];
    return NULL;
}

bool vit_timm_kept(const char *name, double *eps, bool *distilled)
{
    const timm_vit *vit = find_architecture(name);

    if (!vit || !vit->kept)
        return false;
    *eps = vit->eps;
    *distilled = (vit->parts & PART_DISTILLATION) != 0;
    return true;
}

/* ---- model_args: arguments that the architecture's own are replaced by ---- */

static const char training[] = "for training only", told[] = "read off the tensors";

/* The arguments that are known: any other one would change the computation. */
const vit_argument vit_timm_arguments[] = {
    {"num_heads", NULL, NULL, 0},
    {"img_size", NULL, NULL, 0},
    {"norm_eps", NULL, NULL, 0},
    {"act_layer", NULL, NULL, 0},
    {"global_pool", NULL, NULL, 0},
    {"embed_dim", NULL, NULL, 0},
    {"depth", NULL, NULL, 0},
    {"patch_size", NULL, NULL, 0},
    {"mlp_ratio", NULL, NULL, 0},
    {"pool_include_prefix", NULL, NULL, PART_PREFIX_POOLED},
    {"class_token", told, NULL, PART_CLASS},
    {"reg_tokens", told, NULL, PART_REGISTERS},
    {"pre_norm", told, NULL, PART_PRE_NORM},
    {"qkv_bias", told, NULL, PART_QKV_BIAS},
    {"qk_norm", told, NULL, PART_QK_NORM},
    {"init_values", told, NULL, PART_LAYER_SCALE},
    {"final_norm", told, NULL, PART_FINAL_NORM},
    {"fc_norm", told, NULL, 0},
    {"no_embed_class", told, NULL, 0},
    {"proj_bias", told, NULL, 0},
    {"num_classes", told, NULL, 0},
    {"in_chans", NULL, "3", 0},
    {"pos_embed", NULL, "\"learn\"", 0},
    {"norm_layer", NULL, "\"layernorm\"", 0},
    {"dynamic_img_pad", NULL, "false", 0},
    {"scale_attn_norm", NULL, "false", 0},
    {"scale_mlp_norm", NULL, "false", 0},
    {"dynamic_img_size", "whether timm takes other sizes", NULL, 0},
    {"strict_img_size", "whether timm takes other sizes", NULL, 0},
    {"drop_rate", training, NULL, 0},
    {"pos_drop_rate", training, NULL, 0},
    {"patch_drop_rate", training, NULL, 0},
    {"proj_drop_rate", training, NULL, 0},
    {"attn_drop_rate", training, NULL, 0},
    {"drop_path_rate", training, NULL, 0},
    {"weight_init", training, NULL, 0},
    {"fix_init", training, NULL, 0},
    {0},
};

static inlay_status check_arguments(vit_state *state, const config_reader *args)
{
    const char *key;
    json_t *item;
    size_t at;

    json_object_foreach((json_t *)(uintptr_t)args->object, key, item)
    {
        json_t *expected;
        for (at = 0; vit_timm_arguments[at].name && strcmp(vit_timm_arguments[at].name, key) != 0; at++)
            ;
        if (!vit_timm_arguments[at].name)
            FAIL(args->err, INLAY_ERR_UNSUPPORTED, "%s: model_args.%s is not supported", args->path, key);
        if (json_is_null(item))
            continue;
        state->parts &= ~vit_timm_arguments[at].part;
        if (!vit_timm_arguments[at].expected)
            continue;
        expected = json_loads(vit_timm_arguments[at].expected, JSON_DECODE_ANY, NULL);
        at = json_equal(item, expected) ? at : SIZE_MAX;
        json_decref(expected);
        if (at == SIZE_MAX)
            FAIL(args->err, INLAY_ERR_UNSUPPORTED, "%s: model_args.%s has a value that is not supported", args->path,
                 key);
    }
    return INLAY_OK;
}

static inlay_status read_arguments(backbone *b, const config_reader *args)
{
    vit_state *state = b->state;
    const char *norm = config_text(args, "norm_layer");
    double ratio = 0;

    TRY(check_arguments(state, args));
    if (norm) /* given by its name it has the layer's own epsilon */
        b->shape.eps = 1e-6;
    TRY(config_int(args, "num_heads", &b->shape.heads));
    TRY(config_size(args, "img_size", &b->shape.height, &b->shape.image_width));
    TRY(config_real(args, "norm_eps", 1e-12, 1, &b->shape.eps));
    TRY(config_activation(args, "act_layer", &b->shape.act));
    TRY(vit_claim_read(args, "model_args.embed_dim", &state->width));
    TRY(vit_claim_read(args, "model_args.depth", &state->depth));
    TRY(vit_claim_read(args, "model_args.patch_size", &state->patch));
    TRY(config_real(args, "mlp_ratio", 1e-3, 1e3, &ratio));
    if (ratio > 0 && state->width.key)
        state->hidden = (vit_claim){"model_args.mlp_ratio", (int64_t)((double)state->width.value * ratio)};
    if (json_is_true(json_object_get(args->object, "pool_include_prefix")))
        state->parts |= PART_PREFIX_POOLED;
    return INLAY_OK;
}

/* Takes the architecture's numbers; what model_args and global_pool say comes after them. */
static inlay_status take_architecture(backbone *b, const config_reader *r, const timm_vit *vit)
{
    vit_state *state = b->state;

    if (vit->refused)
        FAIL(r->err, INLAY_ERR_UNSUPPORTED, "%s: architecture '%s' is not supported: it has %s", r->path, vit->name,
             vit->refused);
    b->shape.heads = vit->heads;
    b->shape.act = vit->act;
    b->shape.eps = vit->eps;
    b->shape.pool = vit->pool;
    state->parts = vit->parts;
    state->width = (vit_claim){"architecture", vit->width};
    state->patch = (vit_claim){"architecture", vit->patch};
    state->usual_size = vit->size;
    b->described_by = arena_printf(b->memory, "config.json (timm's %s)", vit->name);
    return INLAY_OK;
}

static inlay_status read_pooling(backbone *b, const config_reader *r, const config_reader *args)
{
    const char *inner = config_text(args, "global_pool"), *text = inner ? inner : config_text(r, "global_pool");

    if (text && !pooling_from_name(text, &b->shape.pool))
        FAIL(r->err, INLAY_ERR_UNSUPPORTED, "%s: global_pool '%s' is not supported (expected 'token', 'avg' or 'map')",
             r->path, text);
    return INLAY_OK;
}

inlay_status vit_timm_config(backbone *b, const config_reader *r)
{
    const char *architecture = config_text(r, "architecture");
    const timm_vit *vit = find_architecture(architecture);
    const config_reader args = {json_object_get(r->object, "model_args"), r->path, r->err};
    vit_state *state = b->state;

    b->shape.eps = 1e-6;
    b->described_by = "config.json (model_args)";
    if (architecture)
        b->model_name = arena_strdup(b->memory, architecture);
    if (vit)
        TRY(take_architecture(b, r, vit));
    TRY(read_arguments(b, &args));
    TRY(read_pooling(b, r, &args));
    if (!b->shape.heads)
        FAIL(r->err, INLAY_ERR_FORMAT,
             "%s: architecture '%s' is not one that is known, so model_args.num_heads must say how many heads it has",
             r->path, architecture ? architecture : "");
    if (json_object_get(args.object, "num_heads") && state->width.key && strcmp(state->width.key, "architecture") == 0)
        state->width.key = NULL; /* a variant of its own: the tensors tell its width */
    return vit_timm_input(b, r);
}
