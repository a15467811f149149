/* The graph of a plain ViT, with its sites. */
#include "backbones/vit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "backbones/vit_config.h"

typedef struct builder {
    backbone *b;
    graph *g;
    const build_request *request;
    const char *name; /* prefix of the block at hand */
} builder;

static value reach(builder *s, site_kind kind, int layer, value v)
{
    const site_hooks *hooks = s->request->hooks;

    return hooks ? hooks->reach(hooks->context, s->g, (site){kind, layer}, v, 0, graph_cols(s->g, v)) : v;
}

static value reach_columns(builder *s, site_kind kind, int layer, value v, int64_t offset)
{
    const site_hooks *hooks = s->request->hooks;

    return hooks ? hooks->reach(hooks->context, s->g, (site){kind, layer}, v, offset, s->b->shape.width) : v;
}

static bool listens(builder *s, site_kind kind, int layer)
{
    const site_hooks *hooks = s->request->hooks;

    return hooks && hooks->listens(hooks->context, (site){kind, layer});
}

/* A parameter of the block at hand, or of the whole model when there is none; NULL when the checkpoint has no such
 * tensor. */
static param *get(builder *s, const char *name)
{
    char full[160];

    snprintf(full, sizeof full, "%s%s", s->name, name);
    return backbone_param(s->b, full);
}

static value norm(builder *s, const char *name, value x)
{
    char weight[96], bias[96];

    snprintf(weight, sizeof weight, "%s.weight", name);
    snprintf(bias, sizeof bias, "%s.bias", name);
    return graph_layernorm(s->g, x, get(s, weight), get(s, bias), s->b->shape.eps);
}

/* Puts one token in front of every sample's: class, distillation, registers. */
static value prepend(builder *s, value x, const char *name, int64_t at)
{
    param *token = get(s, name);

    return token ? graph_insert_tokens(s->g, x, graph_broadcast(s->g, token), at) : x;
}

static value dropout(builder *s, value x)
{
    return graph_dropout(s->g, x, s->request->training ? s->request->dropout : 0);
}

static value embed(builder *s)
{
    const backbone_shape *shape = &s->b->shape;
    const vit_state *state = s->b->state;
    graph *g = s->g;
    value x = graph_patchify(g, s->request->pixels, shape->height, shape->image_width, shape->channels, shape->patch,
                             s->request->mean ? s->request->mean : s->b->input.mean,
                             s->request->std ? s->request->std : s->b->input.std);

    x = graph_linear(g, x, get(s, "patch_embed.proj.weight"), get(s, "patch_embed.proj.bias"), 0, 0);
    x = reach(s, SITE_PATCHES, -1, x);
    if (!state->positions_cover_prefix)
        x = graph_add_table(g, x, get(s, "pos_embed"));
    x = prepend(s, x, "reg_token", 0);
    x = prepend(s, x, "dist_token", 0);
    x = prepend(s, x, "cls_token", 0);
    if (state->positions_cover_prefix)
        x = graph_add_table(g, x, get(s, "pos_embed"));
    x = dropout(s, x);
    return get(s, "norm_pre.weight") ? norm(s, "norm_pre", x) : x;
}

/* softmax(q k^T) v for the first `rows` tokens (0: all). Where only those are read, queries of the others are not
 * computed. */
static value attend(builder *s, int layer, value x, int64_t rows)
{
    const backbone_shape *shape = &s->b->shape;
    int64_t width = shape->width, head_dim = width / shape->heads;
    param *w = get(s, "attn.qkv.weight"), *b = get(s, "attn.qkv.bias");
    value q, k, v;
    int64_t q_at = 0, k_at, v_at;

    if (rows && !listens(s, SITE_QKV, layer)) {
        q = graph_linear(s->g, graph_select_tokens(s->g, x, 0, rows), w, b, 0, width);
        k = graph_linear(s->g, x, w, b, width, 2 * width);
        k_at = 0;
        v_at = width;
        q = reach_columns(s, SITE_Q, layer, q, 0);
    } else {
        k = reach(s, SITE_QKV, layer, graph_linear(s->g, x, w, b, 0, 0));
        k_at = width;
        v_at = 2 * width;
        k = q = reach_columns(s, SITE_Q, layer, k, 0);
    }
    k = reach_columns(s, SITE_K, layer, k, k_at);
    k = reach_columns(s, SITE_V, layer, k, v_at);
    v = k;
    if (k_at)
        q = k;
    if (rows && k_at)
        q = graph_select_tokens(s->g, q, 0, rows);
    if (get(s, "attn.q_norm.weight")) {
        q = graph_layernorm_groups(s->g, q, get(s, "attn.q_norm.weight"), get(s, "attn.q_norm.bias"), shape->eps, q_at,
                                   shape->heads, head_dim);
        k = graph_layernorm_groups(s->g, k, get(s, "attn.k_norm.weight"), get(s, "attn.k_norm.bias"), shape->eps, k_at,
                                   shape->heads, head_dim);
        q_at = k_at = 0;
    }
    return graph_attention(s->g, q, q_at, k, k_at, v, v_at, shape->heads, head_dim, 1.0 / sqrt((double)head_dim));
}

static value scaled(builder *s, const char *gamma, value x)
{
    param *p = get(s, gamma);

    return p ? graph_affine(s->g, x, p, NULL, 1) : x;
}

/* Builds a block. rows > 0: only the first `rows` tokens are wanted from it. Stochastic depth drops a branch before the
 * site at its end: what is added there is not dropped with it. */
static value block(builder *s, int layer, value x, int64_t rows)
{
    const backbone_shape *shape = &s->b->shape;
    graph *g = s->g;
    double rate =
        s->request->training && shape->depth > 1 ? s->request->drop_path * layer / (double)(shape->depth - 1) : 0;
    value y;

    x = reach(s, SITE_BLOCK_INPUT, layer, x);
    y = reach(s, SITE_ATTN_NORM, layer, norm(s, "norm1", x));
    y = reach(s, SITE_ATTN_HIDDEN, layer, attend(s, layer, y, rows));
    y = reach(s, SITE_ATTN_PROJ, layer, graph_linear(g, y, get(s, "attn.proj.weight"), get(s, "attn.proj.bias"), 0, 0));
    y = reach(s, SITE_ATTN_OUTPUT, layer, graph_drop_path(g, scaled(s, "ls1.gamma", y), rate));
    if (rows)
        x = graph_select_tokens(g, x, 0, rows);
    x = reach(s, SITE_ATTN_RESIDUAL, layer, graph_add(g, x, y));
    y = reach(s, SITE_FFN_NORM, layer, norm(s, "norm2", x));
    y = reach(s, SITE_FFN_PRE, layer, graph_linear(g, y, get(s, "mlp.fc1.weight"), get(s, "mlp.fc1.bias"), 0, 0));
    y = reach(s, SITE_FFN_HIDDEN, layer, dropout(s, graph_activation(g, y, shape->act)));
    y = reach(s, SITE_FFN_PROJ, layer, graph_linear(g, y, get(s, "mlp.fc2.weight"), get(s, "mlp.fc2.bias"), 0, 0));
    y = reach(s, SITE_FFN_OUTPUT, layer, graph_drop_path(g, scaled(s, "ls2.gamma", dropout(s, y)), rate));
    return reach(s, SITE_BLOCK_OUTPUT, layer, graph_add(g, x, y));
}

/* Whether the checkpoint's own head, beside the class token, reads the mean of the patch tokens. */
static bool reads_patches(const builder *s)
{
    return s->request->own_head && backbone_param(s->b, "head_patches.weight");
}

/* How many tokens the head reads, at the front of the sequence; 0: the patch tokens' mean needs them all. */
static int64_t tokens_read(const builder *s)
{
    const vit_state *state = s->b->state;
    const site_hooks *hooks = s->request->hooks;

    if (s->b->shape.pool != POOL_TOKEN || s->request->keep_blocks || reads_patches(s) ||
        (hooks && hooks->keeps_tokens && hooks->keeps_tokens(hooks->context)))
        return 0;
    return state->tokens_read;
}

/* The mean over patch tokens. Tokens that a method inserted stand behind the prefix and are no patches. */
static value patch_mean(builder *s, value x)
{
    const backbone_shape *shape = &s->b->shape;
    const vit_state *state = s->b->state;
    int64_t rows = graph_rows(s->g, x), patches = shape->tokens - shape->prefix_tokens;

    if (state->parts & PART_PREFIX_POOLED)
        return graph_mean_tokens(s->g, x, 0, rows);
    return graph_mean_tokens(s->g, x, rows - patches, patches);
}

/* SigLIP's pooling: attention of one learned query to the patch tokens, and a feed-forward part with its residual. */
static value attention_pool(builder *s, value x)
{
    const backbone_shape *shape = &s->b->shape;
    const vit_state *state = s->b->state;
    int64_t rows = graph_rows(s->g, x), patches = shape->tokens - shape->prefix_tokens,
            head_dim = shape->width / shape->heads;
    graph *g = s->g;
    value q, kv, y, z;

    if (!(state->parts & PART_PREFIX_POOLED) && rows > patches)
        x = graph_select_tokens(g, x, rows - patches, patches);
    q = graph_linear(g, graph_broadcast(g, get(s, "attn_pool.latent")), get(s, "attn_pool.q.weight"),
                     get(s, "attn_pool.q.bias"), 0, 0);
    kv = graph_linear(g, x, get(s, "attn_pool.kv.weight"), get(s, "attn_pool.kv.bias"), 0, 0);
    y = graph_attention(g, q, 0, kv, 0, kv, shape->width, shape->heads, head_dim, 1.0 / sqrt((double)head_dim));
    y = graph_linear(g, y, get(s, "attn_pool.proj.weight"), get(s, "attn_pool.proj.bias"), 0, 0);
    z = norm(s, "attn_pool.norm", y);
    z = graph_activation(
        g, graph_linear(g, z, get(s, "attn_pool.mlp.fc1.weight"), get(s, "attn_pool.mlp.fc1.bias"), 0, 0), shape->act);
    return graph_add(g, y,
                     graph_linear(g, z, get(s, "attn_pool.mlp.fc2.weight"), get(s, "attn_pool.mlp.fc2.bias"), 0, 0));
}

/* From the last block's tokens to what a head reads; *tokens gets the normalised ones. */
static value read_tokens(builder *s, value x, int64_t rows, value *tokens)
{
    const vit_state *state = s->b->state;

    if (s->b->shape.pool == POOL_TOKEN && !reads_patches(s))
        x = graph_select_tokens(s->g, x, 0, rows ? rows : state->tokens_read);
    if (get(s, "norm.weight"))
        x = reach(s, SITE_NORM, -1, norm(s, "norm", x));
    *tokens = x;
    if (s->b->shape.pool == POOL_MAP)
        x = attention_pool(s, x);
    else if (s->b->shape.pool == POOL_AVERAGE)
        x = patch_mean(s, x);
    else if (reads_patches(s))
        x = graph_select_tokens(s->g, x, 0, 1);
    else if (graph_rows(s->g, x) > 1)
        x = graph_mean_tokens(s->g, x, 0, graph_rows(s->g, x));
    return get(s, "fc_norm.weight") ? norm(s, "fc_norm", x) : x;
}

static value own_logits(builder *s, value tokens, value features)
{
    param *w = get(s, "head.weight"), *w2 = get(s, "head_dist.weight"), *b = get(s, "head.bias");
    graph *g = s->g;
    value y, z;

    if (!w)
        return NO_VALUE;
    y = graph_linear(g, w2 ? graph_select_tokens(g, tokens, 0, 1) : features, w, b, 0, 0);
    if (w2) {
        z = graph_linear(g, graph_select_tokens(g, tokens, 1, 1), w2, get(s, "head_dist.bias"), 0, 0);
        return graph_affine(g, graph_add(g, y, z), NULL, NULL, 0.5);
    }
    return reads_patches(s)
               ? graph_add(g, y, graph_linear(g, patch_mean(s, tokens), get(s, "head_patches.weight"), NULL, 0, 0))
               : y;
}

static build_result build(backbone *b, graph *g, const build_request *request)
{
    const backbone_shape *shape = &b->shape;
    builder s = {.b = b, .g = g, .request = request, .name = ""};
    int64_t rows = tokens_read(&s);
    build_result result = {.blocks = ARENA_ARRAY(graph_arena(g), value, shape->depth)};
    value x = embed(&s), tokens;

    for (int layer = 0; layer < shape->depth; layer++) {
        s.name = arena_printf(graph_arena(g), "blocks.%d.", layer);
        x = block(&s, layer, x, layer + 1 == shape->depth && rows < graph_rows(g, x) ? rows : 0);
        result.blocks[layer] = x;
        if (request->keep_blocks)
            graph_keep(g, x);
    }
    s.name = "";
    result.features = read_tokens(&s, x, rows, &tokens);
    result.features = reach(&s, SITE_FEATURES, -1, result.features);
    result.logits = request->own_head ? own_logits(&s, tokens, result.features) : NO_VALUE;
    return result;
}

const backbone_desc vit_desc = {
    .name = "vit",
    .summary = "plain vision transformer (timm, Hugging Face or JAX checkpoint)",
    .recognises = vit_recognises,
    .load = vit_load,
    .build = build,
    .facts = vit_facts,
};
