#include "backbones/vit_config.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "backbones/labels.h"

/* What a thread's scratch memory holds in the kernels. */
#define WIDEST 16384
#define MOST_TOKENS 4096

bool vit_recognises(const tensor_set *file, const void *config)
{
    const json_t *type = json_object_get(config, "model_type");

    if (json_is_string(type) && strcmp(json_string_value(type), "vit") != 0 && strcmp(json_string_value(type), "deit") != 0)
        return false;
    return naming_find(file, vit_namings) != NULL;
}

/* A JAX checkpoint has no configuration; its query kernel tells the heads. */
static inlay_status jax_config(backbone *b, inlay_error *err)
{
    for (int i = 0; i < tensor_set_count(b->file); i++) {
        const tensor_view *t = tensor_set_at(b->file, i);
        if (strstr(t->name, "/query/kernel") && t->ndim == 3)
            b->shape.heads = t->dims[1];
    }
    b->shape.eps = 1e-6;
    if (!b->shape.heads)
        FAIL(err, INLAY_ERR_SHAPE, "%s: no query kernel of three dimensions, so the number of heads is unknown", b->path);
    return INLAY_OK;
}

/* ---- the shape that the tensors tell, and the check that each has it ---- */

static inlay_status expect(const backbone *b, const char *name, bool optional, int ndim, const int64_t *dims, inlay_error *err)
{
    const param *p = backbone_param(b, name);
    bool good = p && p->ndim == ndim;
    char expected[96] = "", found[96] = "";

    if (!p && optional)
        return INLAY_OK;
    if (!p)
        FAIL(err, INLAY_ERR_FORMAT, "%s: tensor '%s' is missing (%s naming)", b->path, name, b->shape.layout);
    for (int i = 0; i < ndim; i++)
        snprintf(expected + strlen(expected), sizeof expected - strlen(expected), "%s%lld", i ? ", " : "", (long long)dims[i]);
    for (int i = 0; i < p->ndim; i++) {
        good = good && p->dims[i] == dims[i];
        snprintf(found + strlen(found), sizeof found - strlen(found), "%s%lld", i ? ", " : "", (long long)p->dims[i]);
    }
    if (!good)
        FAIL(err, INLAY_ERR_SHAPE, "%s: tensor '%s' has shape [%s], expected [%s]", b->path, name, found, expected);
    return INLAY_OK;
}

#define EXPECT(optional, name, ...) \
    TRY(expect(b, (name), (optional), (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (const int64_t[]){__VA_ARGS__}, err))

static inlay_status check_block(const backbone *b, int64_t layer, inlay_error *err)
{
    const backbone_shape *s = &b->shape;
    char name[96];
#define BLOCK(text) (snprintf(name, sizeof name, "blocks.%lld." text, (long long)layer), name)
    EXPECT(false, BLOCK("norm1.weight"), s->width);
    EXPECT(false, BLOCK("norm1.bias"), s->width);
    EXPECT(false, BLOCK("attn.qkv.weight"), 3 * s->width, s->width);
    EXPECT(true, BLOCK("attn.qkv.bias"), 3 * s->width);
    EXPECT(true, BLOCK("attn.q_norm.weight"), s->width / s->heads);
    EXPECT(true, BLOCK("attn.q_norm.bias"), s->width / s->heads);
    EXPECT(!backbone_param(b, BLOCK("attn.q_norm.weight")), BLOCK("attn.k_norm.weight"), s->width / s->heads);
    EXPECT(true, BLOCK("attn.k_norm.bias"), s->width / s->heads);
    EXPECT(false, BLOCK("attn.proj.weight"), s->width, s->width);
    EXPECT(true, BLOCK("attn.proj.bias"), s->width);
    EXPECT(true, BLOCK("ls1.gamma"), s->width);
    EXPECT(false, BLOCK("norm2.weight"), s->width);
    EXPECT(false, BLOCK("norm2.bias"), s->width);
    EXPECT(false, BLOCK("mlp.fc1.weight"), s->hidden, s->width);
    EXPECT(true, BLOCK("mlp.fc1.bias"), s->hidden);
    EXPECT(false, BLOCK("mlp.fc2.weight"), s->width, s->hidden);
    EXPECT(true, BLOCK("mlp.fc2.bias"), s->width);
    EXPECT(true, BLOCK("ls2.gamma"), s->width);
#undef BLOCK
    return INLAY_OK;
}

/* JAX and Hugging Face store a few tensors in another rank than timm; canonical is timm's. */
static void give_shape(backbone *b, const char *name, int ndim, const int64_t *dims)
{
    param *p = backbone_param(b, name);
    int64_t count = 1;

    for (int i = 0; i < ndim; i++)
        count *= dims[i];
    if (!p || p->count != count)
        return;
    p->ndim = ndim;
    p->decay = ndim >= 2;
    memcpy(p->dims, dims, (size_t)ndim * sizeof *dims);
}

static inlay_status measure(backbone *b, inlay_error *err)
{
    backbone_shape *s = &b->shape;
    const param *proj = backbone_param(b, "patch_embed.proj.weight"), *fc1, *head = backbone_param(b, "head.weight");
    int64_t last = -1;

    if (!proj || proj->ndim != 4 || proj->dims[2] != proj->dims[3] || proj->dims[1] != 3 || proj->dims[2] < 1)
        FAIL(err, INLAY_ERR_SHAPE, "%s: tensor 'patch_embed.proj.weight' must be [width, 3, patch, patch]", b->path);
    s->width = proj->dims[0];
    s->channels = proj->dims[1];
    s->patch = proj->dims[2];
    for (int i = 0; i < b->param_count; i++) {
        int layer;
        if (naming_match("blocks.#.norm1.weight", b->params[i]->name, &layer) && layer > last)
            last = layer;
    }
    s->depth = last + 1;
    fc1 = backbone_param(b, "blocks.0.mlp.fc1.weight");
    if (!fc1 || fc1->ndim != 2)
        FAIL(err, INLAY_ERR_SHAPE, "%s: tensor 'blocks.0.mlp.fc1.weight' must be [hidden, width]", b->path);
    s->hidden = fc1->dims[0];
    s->classes = head ? head->dims[0] : 0;
    if (!s->heads && s->width % 64 == 0)
        s->heads = s->width / 64;
    if (s->heads < 1)
        FAIL(err, INLAY_ERR_FORMAT, "%s: the number of heads is unknown: config.json should have model_args.num_heads or num_attention_heads", b->path);
    if (s->width % s->heads != 0)
        FAIL(err, INLAY_ERR_FORMAT, "%s: %lld heads do not divide a width of %lld (config.json: model_args.num_heads or num_attention_heads)", b->path,
             (long long)s->heads, (long long)s->width);
    if (s->width / s->heads > 128 || s->hidden > WIDEST || s->channels * s->patch * s->patch > WIDEST)
        FAIL(err, INLAY_ERR_UNSUPPORTED, "%s: heads of %lld channels and products over %lld inputs: at most 128 and %d are supported", b->path,
             (long long)(s->width / s->heads), (long long)(s->hidden > s->channels * s->patch * s->patch ? s->hidden : s->channels * s->patch * s->patch), WIDEST);
    return INLAY_OK;
}

/* The blocks' matrices are nearly all of the multiplications. */
static void mark_quantised(backbone *b)
{
    for (int i = 0; i < b->param_count; i++)
        b->params[i]->quantised = b->params[i]->ndim == 2 && b->params[i]->dims[0] < INT8_DEPTH && b->params[i]->dims[1] < INT8_DEPTH && strncmp(b->params[i]->name, "blocks.", 7) == 0;
}

static inlay_status check_shapes(backbone *b, inlay_error *err)
{
    backbone_shape *s = &b->shape;
    const param *reg = backbone_param(b, "reg_token");
    bool own_norm = !(s->average && backbone_param(b, "fc_norm.weight"));

    EXPECT(true, "cls_token", 1, 1, s->width);
    EXPECT(true, "dist_token", 1, 1, s->width);
    if (reg)
        EXPECT(false, "reg_token", 1, reg->ndim == 3 ? reg->dims[1] : 0, s->width);
    if (!s->average && !backbone_param(b, "cls_token"))
        FAIL(err, INLAY_ERR_FORMAT, "%s: global_pool is 'token' but there is no tensor 'cls_token'", b->path);
    EXPECT(true, "patch_embed.proj.bias", s->width);
    EXPECT(true, "norm_pre.weight", s->width);
    EXPECT(!backbone_param(b, "norm_pre.weight"), "norm_pre.bias", s->width);
    for (int64_t layer = 0; layer < s->depth; layer++)
        TRY(check_block(b, layer, err));
    EXPECT(!own_norm, "norm.weight", s->width);
    EXPECT(!own_norm, "norm.bias", s->width);
    EXPECT(true, "fc_norm.weight", s->width);
    EXPECT(!backbone_param(b, "fc_norm.weight"), "fc_norm.bias", s->width);
    if (backbone_param(b, "fc_norm.weight") && !s->average)
        FAIL(err, INLAY_ERR_FORMAT, "%s: there is a tensor 'fc_norm.weight', so config.json should have global_pool 'avg'", b->path);
    EXPECT(true, "head.weight", s->classes, s->width);
    EXPECT(true, "head.bias", s->classes);
    EXPECT(true, "head_dist.weight", s->classes, s->width);
    EXPECT(!backbone_param(b, "head_dist.weight"), "head_dist.bias", s->classes);
    return INLAY_OK;
}

/* Position embeddings tell the checkpoint's grid; another image size gets resampled ones. */
static inlay_status fit_positions(backbone *b, int64_t image_size, inlay_error *err)
{
    backbone_shape *s = &b->shape;
    param *pos = backbone_param(b, "pos_embed");
    const param *reg = backbone_param(b, "reg_token");
    vit_state *state = b->state = ARENA_NEW(b->memory, vit_state);
    int64_t rows, grid, old, prefix_rows;
    inlay_status status;

    s->prefix_tokens = (backbone_param(b, "cls_token") != NULL) + (backbone_param(b, "dist_token") != NULL) + (reg ? reg->dims[1] : 0);
    if (!pos || pos->ndim != 3 || pos->dims[0] != 1 || pos->dims[2] != s->width)
        FAIL(err, INLAY_ERR_SHAPE, "%s: tensor 'pos_embed' must be [1, tokens, %lld]", b->path, (long long)s->width);
    rows = pos->dims[1];
    old = (int64_t)floor(sqrt((double)(rows - s->prefix_tokens)) + 0.5);
    state->positions_cover_prefix = rows > s->prefix_tokens && old * old == rows - s->prefix_tokens;
    if (!state->positions_cover_prefix) {
        old = (int64_t)floor(sqrt((double)rows) + 0.5);
        if (old * old != rows)
            FAIL(err, INLAY_ERR_SHAPE, "%s: tensor 'pos_embed' has %lld rows, which are no square grid with or without %lld prefix tokens", b->path,
                 (long long)rows, (long long)s->prefix_tokens);
    }
    if (!s->height)
        s->height = old * s->patch;
    if (image_size)
        s->height = image_size;
    if (s->height % s->patch != 0 || s->height < s->patch || s->height > 8192)
        FAIL(err, INLAY_ERR_USAGE, "%s: image size %lld is not a multiple of the patch size %lld", b->path, (long long)s->height, (long long)s->patch);
    s->image_width = s->height;
    grid = s->height / s->patch;
    s->tokens = s->prefix_tokens + grid * grid;
    if (s->tokens > MOST_TOKENS)
        FAIL(err, INLAY_ERR_UNSUPPORTED, "%s: images of %lld pixels a side become %lld tokens, at most %d are supported", b->path, (long long)s->height,
             (long long)s->tokens, MOST_TOKENS);
    prefix_rows = state->positions_cover_prefix ? s->prefix_tokens : 0;
    if (grid != old) {
        float *in = malloc((size_t)pos->count * sizeof *in), *out = backbone_buffer(b, (size_t)((prefix_rows + grid * grid) * s->width) * sizeof *out);
        if (!in || !out) {
            free(in);
            FAIL(err, INLAY_ERR_NOMEM, "out of memory resampling position embeddings");
        }
        dtype_to_f32(in, pos->source, pos->source_type, (size_t)pos->count);
        status = vit_resample_positions(out, grid, grid, in, old, prefix_rows, s->width, err);
        free(in);
        TRY(status);
        pos->source = out;
        pos->source_type = DTYPE_F32;
        pos->dims[1] = prefix_rows + grid * grid;
        pos->count = pos->dims[1] * s->width;
    }
    return INLAY_OK;
}

inlay_status vit_load(backbone *b, const void *config, const char *config_path, int64_t image_size, inlay_error *err)
{
    const naming *names = naming_find(b->file, vit_namings);
    const config_reader r = {config, config_path, err};
    int64_t width;

    b->shape.architecture = "vit";
    b->shape.act = ACT_GELU;
    b->input = (backbone_input){.mean = {0.5f, 0.5f, 0.5f}, .std = {0.5f, 0.5f, 0.5f}, .crop_pct = 0.9, .interpolation = "bicubic", .crop_mode = "center"};
    if (!config && strcmp(names->name, "jax") != 0)
        FAIL(err, INLAY_ERR_IO, "'%s' does not exist: a checkpoint's config.json gives heads, normalisation and preprocessing", config_path);
    if (strcmp(names->name, "jax") == 0)
        TRY(jax_config(b, err));
    if (config)
        TRY(json_object_get(config, "hidden_size") ? vit_hf_config(b, &r) : vit_timm_config(b, &r));
    TRY(naming_load(b, b->file, names, err));
    TRY(measure(b, err));
    labels_fit(b);
    width = b->shape.width;
    give_shape(b, "cls_token", 3, (const int64_t[]){1, 1, width});
    give_shape(b, "head.bias", 1, (const int64_t[]){b->shape.classes});
    TRY(check_shapes(b, err));
    mark_quantised(b);
    return fit_positions(b, image_size, err);
}
