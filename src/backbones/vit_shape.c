/* The shape that a checkpoint's tensors tell, the check that each has it, and that configuration does not say
 * otherwise. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "backbones/vit_config.h"

#define LONGEST_SIDE 8192

static inlay_status expect(const backbone *b, const char *name, bool optional, int ndim, const int64_t *dims,
                           inlay_error *err)
{
    const param *p = backbone_param(b, name);
    bool good = p && p->ndim == ndim;
    char expected[96] = "", found[96] = "";

    if (!p && optional)
        return INLAY_OK;
    if (!p)
        FAIL(err, INLAY_ERR_FORMAT, "%s: tensor '%s' is missing (%s naming)", b->path, name, b->shape.layout);
    for (int i = 0; i < ndim; i++)
        snprintf(expected + strlen(expected), sizeof expected - strlen(expected), "%s%lld", i ? ", " : "",
                 (long long)dims[i]);
    for (int i = 0; i < p->ndim; i++) {
        good = good && p->dims[i] == dims[i];
        snprintf(found + strlen(found), sizeof found - strlen(found), "%s%lld", i ? ", " : "", (long long)p->dims[i]);
    }
    if (!good)
        FAIL(err, INLAY_ERR_SHAPE, "%s: tensor '%s' has shape [%s], expected [%s]", b->path, name, found, expected);
    return INLAY_OK;
}

#define EXPECT(optional, name, ...)                                                              \
    TRY(expect(b, (name), (optional), (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), \
               (const int64_t[]){__VA_ARGS__}, err))

/* What blocks must have, may have, and have in pairs: all of them, or none. */
static const struct {
    const char *name;
    const char *with; /* it is there exactly where this is; NULL: in every block, or, when it is `optional`, in every
                         one or none */
    bool optional;
    char rows, columns; /* w: width, 3: three times the width, h: hidden, d: width of a head; 0: there are none */
} block_tensors[] = {
    {"norm1.weight", NULL, false, 'w', 0},
    {"norm1.bias", NULL, false, 'w', 0},
    {"attn.qkv.weight", NULL, false, '3', 'w'},
    {"attn.qkv.bias", NULL, true, '3', 0},
    {"attn.q_norm.weight", NULL, true, 'd', 0},
    {"attn.q_norm.bias", "attn.q_norm.weight", false, 'd', 0},
    {"attn.k_norm.weight", "attn.q_norm.weight", false, 'd', 0},
    {"attn.k_norm.bias", "attn.q_norm.weight", false, 'd', 0},
    {"attn.proj.weight", NULL, false, 'w', 'w'},
    {"attn.proj.bias", NULL, true, 'w', 0},
    {"ls1.gamma", NULL, true, 'w', 0},
    {"norm2.weight", NULL, false, 'w', 0},
    {"norm2.bias", NULL, false, 'w', 0},
    {"mlp.fc1.weight", NULL, false, 'h', 'w'},
    {"mlp.fc1.bias", NULL, true, 'h', 0},
    {"mlp.fc2.weight", NULL, false, 'w', 'h'},
    {"mlp.fc2.bias", NULL, true, 'w', 0},
    {"ls2.gamma", "ls1.gamma", false, 'w', 0},
};

static const char *in_block(const backbone *b, int64_t layer, const char *name)
{
    return arena_printf(b->memory, "blocks.%lld.%s", (long long)layer, name);
}

static int64_t side(const backbone_shape *s, char what)
{
    return what == '3' ? 3 * s->width : what == 'h' ? s->hidden : what == 'd' ? s->width / s->heads : s->width;
}

static inlay_status check_block(const backbone *b, int64_t layer, inlay_error *err)
{
    for (size_t i = 0; i < sizeof block_tensors / sizeof *block_tensors; i++) {
        const char *name = in_block(b, layer, block_tensors[i].name), *with = block_tensors[i].with;
        int64_t dims[2] = {side(&b->shape, block_tensors[i].rows), side(&b->shape, block_tensors[i].columns)};
        bool wanted = with ? backbone_param(b, in_block(b, layer, with)) != NULL
                           : !block_tensors[i].optional || backbone_param(b, in_block(b, 0, block_tensors[i].name));
        if (!wanted && backbone_param(b, name))
            FAIL(err, INLAY_ERR_FORMAT, "%s: there is a tensor '%s', but no '%s'", b->path, name,
                 with ? in_block(b, layer, with) : in_block(b, 0, block_tensors[i].name));
        TRY(expect(b, name, !wanted, block_tensors[i].columns ? 2 : 1, dims, err));
    }
    return INLAY_OK;
}

/* JAX and Hugging Face store a few tensors in another rank than timm; canonical is timm's. */
void vit_give_shape(backbone *b, const char *name, int ndim, const int64_t *dims)
{
    param *p = backbone_param(b, name);
    int64_t count = 1;

    for (int i = 0; i < ndim; i++)
        count *= dims[i];
    if (!p || p->count != count)
        return;
    p->ndim = ndim;
    memcpy(p->dims, dims, (size_t)ndim * sizeof *dims);
}

static inlay_status check_claim(const backbone *b, const vit_claim *claim, const char *what, int64_t found,
                                inlay_error *err)
{
    if (claim->key && claim->value != found)
        FAIL(err, INLAY_ERR_FORMAT, "%s: config.json: %s says that %s is %lld, in the tensors it is %lld", b->path,
             claim->key, what, (long long)claim->value, (long long)found);
    return INLAY_OK;
}

static inlay_status check_claims(const backbone *b, inlay_error *err)
{
    const vit_state *state = b->state;
    const backbone_shape *s = &b->shape;

    TRY(check_claim(b, &state->width, "the width", s->width, err));
    TRY(check_claim(b, &state->depth, "the number of blocks", s->depth, err));
    TRY(check_claim(b, &state->patch, "the side of a patch", s->patch, err));
    return check_claim(b, &state->hidden, "the width of the feed-forward part", s->hidden, err);
}

/* Refuses sizes that kernels cannot do. */
static inlay_status check_limits(const backbone *b, inlay_error *err)
{
    const backbone_shape *s = &b->shape;
    const kernel_limits *can = kernels_limits();
    const struct {
        const char *what;
        int64_t value, most;
    } limits[] = {{"a width", s->width, can->width},
                  {"a feed-forward part", s->hidden, can->width},
                  {"a patch's pixels and channels", s->channels * s->patch * s->patch, can->width},
                  {"a head", s->width / s->heads, can->head_dim}};

    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++)
        if (limits[i].value > limits[i].most)
            FAIL(err, INLAY_ERR_UNSUPPORTED, "%s: %s of %lld: at most %lld are supported", b->path, limits[i].what,
                 (long long)limits[i].value, (long long)limits[i].most);
    return INLAY_OK;
}

inlay_status vit_measure(backbone *b, inlay_error *err)
{
    backbone_shape *s = &b->shape;
    const param *proj = backbone_param(b, "patch_embed.proj.weight"), *fc1, *head = backbone_param(b, "head.weight");

    if (!proj || proj->ndim != 4 || proj->dims[2] != proj->dims[3] || proj->dims[1] != 3 || proj->dims[2] < 1 ||
        proj->dims[0] < 1)
        FAIL(err, INLAY_ERR_SHAPE, "%s: tensor 'patch_embed.proj.weight' must be [width, 3, patch, patch]", b->path);
    s->width = proj->dims[0];
    s->channels = proj->dims[1];
    s->patch = proj->dims[2];
    for (param *const *i = NULL; (i = backbone_each_param(b, i));) {
        int layer;
        if (naming_match("blocks.#.norm1.weight", (*i)->name, &layer) && layer >= s->depth)
            s->depth = layer + 1;
    }
    if (!s->depth)
        FAIL(err, INLAY_ERR_SHAPE,
             "%s: no tensor 'blocks.0.norm1.weight' (%s naming): a model without blocks is not supported", b->path,
             s->layout);
    fc1 = backbone_param(b, "blocks.0.mlp.fc1.weight");
    if (!fc1 || fc1->ndim != 2 || fc1->dims[0] < 1)
        FAIL(err, INLAY_ERR_SHAPE, "%s: tensor 'blocks.0.mlp.fc1.weight' must be [hidden, width]", b->path);
    s->hidden = fc1->dims[0];
    s->classes = head ? head->dims[0] : 0;
    TRY(check_claims(b, err));
    if (s->heads < 1 || s->width % s->heads != 0)
        FAIL(err, INLAY_ERR_FORMAT,
             "%s: %lld heads do not divide a width of %lld (config.json: model_args.num_heads or num_attention_heads)",
             b->path, (long long)s->heads, (long long)s->width);
    return check_limits(b, err);
}

/* Checks that the tensors are there that the architecture's name promises: without them it would be another model. */
static inlay_status check_parts(const backbone *b, inlay_error *err)
{
    static const struct {
        unsigned part;
        const char *tensor, *other;
    } parts[] = {{PART_CLASS, "cls_token", NULL},
                 {PART_DISTILLATION, "dist_token", NULL},
                 {PART_REGISTERS, "reg_token", NULL},
                 {PART_PRE_NORM, "norm_pre.weight", NULL},
                 {PART_QKV_BIAS, "blocks.0.attn.qkv.bias", NULL},
                 {PART_QK_NORM, "blocks.0.attn.q_norm.weight", NULL},
                 {PART_LAYER_SCALE, "blocks.0.ls1.gamma", NULL},
                 {PART_FINAL_NORM, "norm.weight", "fc_norm.weight"}};
    const vit_state *state = b->state;

    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (state->parts & parts[i].part && !backbone_param(b, parts[i].tensor) &&
            !(parts[i].other && backbone_param(b, parts[i].other)))
            FAIL(err, INLAY_ERR_FORMAT, "%s: tensor '%s' is missing, as %s describes the model", b->path,
                 parts[i].tensor, b->described_by);
    return INLAY_OK;
}

/* Checks what stands in front of the head; a model without attention pooling has the normalisation alone. */
static inlay_status check_pool(backbone *b, inlay_error *err)
{
    int64_t width = b->shape.width;
    bool missing = b->shape.pool != POOL_MAP;
    const param *fc1 = backbone_param(b, "attn_pool.mlp.fc1.weight");
    int64_t hidden = fc1 && fc1->ndim == 2 ? fc1->dims[0] : b->shape.hidden;

    if (missing && backbone_param(b, "attn_pool.latent"))
        FAIL(err, INLAY_ERR_FORMAT,
             "%s: there is a tensor 'attn_pool.latent', so config.json should have global_pool 'map'", b->path);
    if (hidden > kernels_limits()->width)
        FAIL(err, INLAY_ERR_UNSUPPORTED, "%s: 'attn_pool.mlp.fc1.weight' has %lld rows: at most %lld are supported",
             b->path, (long long)hidden, (long long)kernels_limits()->width);
    EXPECT(missing, "attn_pool.latent", 1, 1, width);
    EXPECT(missing, "attn_pool.q.weight", width, width);
    EXPECT(missing, "attn_pool.q.bias", width);
    EXPECT(missing, "attn_pool.kv.weight", 2 * width, width);
    EXPECT(missing, "attn_pool.kv.bias", 2 * width);
    EXPECT(missing, "attn_pool.proj.weight", width, width);
    EXPECT(missing, "attn_pool.proj.bias", width);
    EXPECT(missing, "attn_pool.norm.weight", width);
    EXPECT(missing, "attn_pool.norm.bias", width);
    EXPECT(missing, "attn_pool.mlp.fc1.weight", hidden, width);
    EXPECT(missing, "attn_pool.mlp.fc1.bias", hidden);
    EXPECT(missing, "attn_pool.mlp.fc2.weight", width, hidden);
    EXPECT(missing, "attn_pool.mlp.fc2.bias", width);
    return INLAY_OK;
}

static inlay_status check_heads(backbone *b, inlay_error *err)
{
    const backbone_shape *s = &b->shape;

    EXPECT(true, "head.weight", s->classes, s->width);
    EXPECT(true, "head.bias", s->classes);
    EXPECT(true, "head_patches.weight", s->classes, s->width);
    EXPECT(true, "head_dist.weight", s->classes, s->width);
    EXPECT(!backbone_param(b, "head_dist.weight"), "head_dist.bias", s->classes);
    return INLAY_OK;
}

inlay_status vit_check_shapes(backbone *b, inlay_error *err)
{
    backbone_shape *s = &b->shape;
    const param *reg = backbone_param(b, "reg_token");

    TRY(check_parts(b, err));
    EXPECT(true, "cls_token", 1, 1, s->width);
    EXPECT(true, "dist_token", 1, 1, s->width);
    if (reg)
        EXPECT(false, "reg_token", 1, reg->ndim == 3 ? reg->dims[1] : 0, s->width);
    if (s->pool == POOL_TOKEN && !backbone_param(b, "cls_token"))
        FAIL(err, INLAY_ERR_FORMAT, "%s: global_pool is 'token' but there is no tensor 'cls_token'", b->path);
    EXPECT(true, "patch_embed.proj.bias", s->width);
    EXPECT(true, "norm_pre.weight", s->width);
    EXPECT(!backbone_param(b, "norm_pre.weight"), "norm_pre.bias", s->width);
    for (int64_t layer = 0; layer < s->depth; layer++)
        TRY(check_block(b, layer, err));
    EXPECT(true, "norm.weight", s->width);
    EXPECT(!backbone_param(b, "norm.weight"), "norm.bias", s->width);
    EXPECT(true, "fc_norm.weight", s->width);
    EXPECT(!backbone_param(b, "fc_norm.weight"), "fc_norm.bias", s->width);
    TRY(check_pool(b, err));
    return check_heads(b, err);
}

/* ---- position embeddings ---- */

/* Which rows of the position embeddings are of other tokens than patches, and the grid of those of patches. */
typedef struct layout {
    int64_t extra, grid[2];
} layout;

/* Whether the patches' rows are the grid of the image size that configuration gives, or else a square. */
static bool fits(const backbone_shape *s, const int64_t trained[2], int64_t patches, bool configured, int64_t grid[2])
{
    int64_t root = (int64_t)floor(sqrt((double)(patches > 0 ? patches : 0)) + 0.5);

    grid[0] = configured ? trained[0] / s->patch : root;
    grid[1] = configured ? trained[1] / s->patch : root;
    return patches > 0 && grid[0] * grid[1] == patches;
}

/* Finds the rows of the position embeddings: the tokens in front of the patches may all have one, or none; or the class
 * token alone, as in DINOv2 of Hugging Face. */
static inlay_status find_layout(const backbone *b, int64_t rows, layout *out, inlay_error *err)
{
    const backbone_shape *s = &b->shape;
    const vit_state *state = b->state;
    const int64_t trained[2] = {state->trained[0] ? state->trained[0] : s->height,
                                state->trained[1] ? state->trained[1] : s->image_width};
    const int64_t extras[] = {s->prefix_tokens, 0, backbone_param(b, "cls_token") ? 1 : 0};

    for (int configured = 1; configured >= 0; configured--)
        for (size_t i = 0; i < sizeof extras / sizeof *extras; i++) {
            out->extra = extras[i];
            if (fits(s, trained, rows - extras[i], configured, out->grid))
                return INLAY_OK;
        }
    FAIL(err, INLAY_ERR_SHAPE,
         "%s: tensor 'pos_embed' has %lld rows: neither the grid of %lld x %lld pixels nor a square, with or without "
         "%lld prefix tokens",
         b->path, (long long)rows, (long long)trained[0], (long long)trained[1], (long long)s->prefix_tokens);
}

/* Chooses the size of images: as asked for, as configured, or as the position embeddings have been trained for. */
static inlay_status choose_size(backbone *b, const int64_t grid[2], int64_t image_size, inlay_error *err)
{
    backbone_shape *s = &b->shape;

    if (!s->height) {
        s->height = grid[0] * s->patch;
        s->image_width = grid[1] * s->patch;
    }
    if (image_size)
        s->height = s->image_width = image_size;
    if (s->height < s->patch || s->image_width < s->patch || s->height > LONGEST_SIDE || s->image_width > LONGEST_SIDE)
        FAIL(err, INLAY_ERR_USAGE, "%s: images of %lld x %lld pixels: sides from a patch's %lld to %d are supported",
             b->path, (long long)s->height, (long long)s->image_width, (long long)s->patch, LONGEST_SIDE);
    s->tokens = s->prefix_tokens + s->height / s->patch * (s->image_width / s->patch);
    if (s->tokens > kernels_limits()->tokens)
        FAIL(err, INLAY_ERR_UNSUPPORTED,
             "%s: images of %lld x %lld pixels become %lld tokens, at most %lld are supported", b->path,
             (long long)s->height, (long long)s->image_width, (long long)s->tokens,
             (long long)kernels_limits()->tokens);
    return INLAY_OK;
}

/* Fits the position embeddings, which tell the checkpoint's grid, to the size of images: another one gets resampled
 * ones. */
inlay_status vit_fit_positions(backbone *b, int64_t image_size, inlay_error *err)
{
    backbone_shape *s = &b->shape;
    param *pos = backbone_param(b, "pos_embed");
    const param *reg = backbone_param(b, "reg_token");
    vit_state *state = b->state;
    layout at;

    s->prefix_tokens =
        (backbone_param(b, "cls_token") != NULL) + (backbone_param(b, "dist_token") != NULL) + (reg ? reg->dims[1] : 0);
    if (!pos || pos->ndim != 3 || pos->dims[0] != 1 || pos->dims[2] != s->width)
        FAIL(err, INLAY_ERR_SHAPE, "%s: tensor 'pos_embed' must be [1, tokens, %lld]", b->path, (long long)s->width);
    if (!s->height && state->usual_size)
        s->height = s->image_width = state->usual_size;
    /* Hugging Face's DeiT reads the class token alone, unless it has both heads */
    state->tokens_read =
        backbone_param(b, "dist_token") && (!state->hf || backbone_param(b, "head_dist.weight")) ? 2 : 1;
    TRY(find_layout(b, pos->dims[1], &at, err));
    TRY(choose_size(b, at.grid, image_size, err));
    state->positions_cover_prefix = at.extra == s->prefix_tokens && at.extra > 0;
    if (at.extra && !state->positions_cover_prefix) {
        TRY(vit_move_class_position(b, pos, err));
        at.extra = 0;
    }
    if (at.grid[0] != s->height / s->patch || at.grid[1] != s->image_width / s->patch)
        state->positions = arena_printf(b->memory, "%lld x %lld resampled%s", (long long)at.grid[0],
                                        (long long)at.grid[1], state->plain_bicubic ? "" : " with antialiasing");
    return vit_change_grid(b, pos, at.grid, at.extra, err);
}

/* What decides the computation beside the tensors: the same ones are another model where configuration has another word
 * on these. */
void vit_facts(const backbone *b, void *facts)
{
    const vit_state *state = b->state;

    json_object_update_new(
        facts, json_pack("{s:s, s:b, s:b, s:i}", "positions", state->positions ? state->positions : "as they are",
                         "prefix_pooled", (state->parts & PART_PREFIX_POOLED) != 0, "final_norm",
                         backbone_param(b, "norm.weight") != NULL, "tokens_read", state->tokens_read));
}
