#include "graph/graph.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "graph/op_impl.h"

graph *graph_new(const kernels *k, dtype weight_type)
{
    arena *memory = arena_new();
    graph *g = ARENA_NEW(memory, graph);

    g->memory = memory;
    g->k = k;
    g->real = k->real;
    g->weight_type = weight_type;
    return g;
}

void graph_free(graph *g)
{
    if (!g)
        return;
    free(g->values);
    free(g->ops);
    free(g->marks);
    free(g->branches);
    arena_free(g->memory);
}

arena *graph_arena(const graph *g)
{
    return g->memory;
}

int64_t graph_rows(const graph *g, value v)
{
    return g->values[v].rows;
}

int64_t graph_cols(const graph *g, value v)
{
    return g->values[v].cols;
}

dtype graph_frozen_type(const graph *g)
{
    return g->weight_type;
}

void graph_set_override(graph *g, graph_override override, const void *context)
{
    g->override = override;
    g->override_context = context;
}

void graph_set_pass(graph *g, uint32_t pass)
{
    g->pass = pass;
}

uint32_t graph_stream(const graph *g)
{
    return g->streams;
}

void graph_set_stream(graph *g, uint32_t stream)
{
    g->streams = stream;
}

int64_t value_rows(const graph *g, value v, int64_t batch)
{
    const value_info *info = &g->values[v];

    return info->batched ? info->rows * batch : info->rows;
}

int64_t value_stride(const graph *g, value v, dtype stored)
{
    const value_info *info = &g->values[v];

    return info->kind == VALUE_RESULT && stored == DTYPE_U8 ? g->k->quantised_stride(info->cols) : info->cols;
}

size_t value_bytes(const graph *g, value v, int64_t batch)
{
    const value_info *info = &g->values[v];
    size_t row = size_product(value_stride(g, v, info->type), dtype_size(info->type));

    return size_product(info->batched ? batch : 1, size_product(info->rows, row));
}

dtype graph_weight_type(const graph *g, const param *p)
{
    if (p->trainable || p->exact)
        return g->real;
    return g->weight_type == DTYPE_I8 && !p->quantised ? DTYPE_BF16 : g->weight_type;
}

bool graph_transposes(const graph *g, const param *p)
{
    return graph_weight_type(g, p) == DTYPE_I8;
}

static value new_value(graph *g, value_info info)
{
    ARRAY_PUSH(g->values, g->value_count, g->value_capacity, info);
    return g->value_count - 1;
}

static value new_input(graph *g, const char *name, dtype type, int64_t rows, int64_t cols, bool target)
{
    return new_value(g, (value_info){.target = target,
                                     .name = arena_strdup(g->memory, name),
                                     .kind = VALUE_INPUT,
                                     .batched = true,
                                     .rows = rows,
                                     .cols = cols,
                                     .type = type,
                                     .producer = -1});
}

value graph_input(graph *g, const char *name, dtype type, int64_t rows, int64_t cols)
{
    return new_input(g, name, type, rows, cols, false);
}

value graph_target(graph *g, const char *name, dtype type, int64_t rows, int64_t cols)
{
    return new_input(g, name, type, rows, cols, true);
}

/* The pass that tells the value of a parameter from others of it: of a choice, that which is being built. */
static uint32_t pass_of(const graph *g, const param *p)
{
    return p->state->choice ? g->pass : 0;
}

static uint32_t param_hash(const param *p, uint32_t pass)
{
    return hash_mix(hash_mix(0, (uint64_t)(uintptr_t)p), pass);
}

static value known_param(const graph *g, const param *p)
{
    uint32_t pass = pass_of(g, p), hash = param_hash(p, pass);

    for (int e = hash_index_next(&g->known_params, hash, -1); e >= 0; e = hash_index_next(&g->known_params, hash, e)) {
        const value_info *known = &g->values[g->known_params.entries[e].id];
        if (known->p == p && known->pass == pass)
            return g->known_params.entries[e].id;
    }
    return NO_VALUE;
}

bool graph_has_param(const graph *g, const param *p)
{
    return known_param(g, p) != NO_VALUE;
}

value graph_param(graph *g, param *asked)
{
    param *p = g->override ? g->override(g->override_context, asked) : asked;
    int64_t rows = p->ndim >= 2 ? p->dims[0] : 1;
    value known = known_param(g, p);

    if (known != NO_VALUE)
        return known;
    hash_index_add(&g->known_params, g->memory, param_hash(p, pass_of(g, p)), g->value_count);
    return new_value(g, (value_info){.name = p->name,
                                     .kind = VALUE_PARAM,
                                     .rows = rows,
                                     .cols = p->count / rows,
                                     .type = g->real,
                                     .p = p,
                                     .pass = pass_of(g, p),
                                     .producer = -1});
}

static value optional_param(graph *g, param *p)
{
    return p ? graph_param(g, p) : NO_VALUE;
}

/* `channels` numbers, the same or none on both sides. */
static bool equal_colours(const float *a, const float *b, int64_t channels)
{
    bool equal = !a == !b;

    for (int64_t c = 0; equal && a && c < channels; c++)
        equal = a[c] == b[c];
    return equal;
}

#define EQUAL_ACTIVATION(a, b, name) ((a)->name == (b)->name)
#define EQUAL_REAL(a, b, name) ((a)->name == (b)->name)
#define EQUAL_COUNT(a, b, name) ((a)->name == (b)->name)
#define EQUAL_NAMED(a, b, name) ((a)->name == (b)->name)
#define EQUAL_COLOURS(a, b, name) equal_colours((a)->name, (b)->name, (a)->channels)
#define EQUAL_STREAM(a, b, name) ((a)->name == (b)->name)
#define EQUAL_CHOSEN(a, b, name) true

/* Counts come in front of colours: `channels` is compared before it is gone by. */
static bool equal_attributes(const op_attributes *a, const op_attributes *b)
{
    return true
#define ATTRIBUTE(kind, name) &&EQUAL_##kind(a, b, name)
#include "graph/op_attributes.def"
#undef ATTRIBUTE
        ;
}

static uint32_t hash_of(const op_node *op)
{
    uint32_t hash = hash_mix(0, (uint64_t)op->kind);

    for (int j = 0; j < OP_INPUTS; j++)
        hash = hash_mix(hash, (uint64_t)op->in[j]);
    return hash_mix(hash_mix(hash, (uint64_t)op->a.first), op->a.stream);
}

static value find_op(const graph *g, const op_node *op, uint32_t hash)
{
    for (int e = hash_index_next(&g->known_ops, hash, -1); e >= 0; e = hash_index_next(&g->known_ops, hash, e)) {
        const op_node *known = &g->ops[g->known_ops.entries[e].id];
        if (known->kind == op->kind && memcmp(known->in, op->in, sizeof op->in) == 0 &&
            equal_attributes(&known->a, &op->a))
            return known->out;
    }
    return NO_VALUE;
}

/* The result of an operation over up to OP_INPUTS inputs, with the given shape: a new one, unless it is there already.
 */
static value new_op_of(graph *g, int kind, const value *in, int count, int64_t rows, int64_t cols,
                       op_attributes attributes)
{
    op_node op = {.kind = kind, .aux = {NO_VALUE, NO_VALUE}, .a = attributes, .branch = -1};
    uint32_t hash;

    for (int i = 0; i < OP_INPUTS; i++)
        op.in[i] = i < count ? in[i] : NO_VALUE;
    hash = hash_of(&op);
    op.out = find_op(g, &op, hash);
    if (op.out != NO_VALUE)
        return op.out;
    op.out = new_value(g, (value_info){.name = op_table[kind]->name,
                                       .kind = VALUE_RESULT,
                                       .batched = true,
                                       .rows = rows,
                                       .cols = cols,
                                       .type = g->real,
                                       .producer = g->op_count});
    hash_index_add(&g->known_ops, g->memory, hash, g->op_count);
    ARRAY_PUSH(g->ops, g->op_count, g->op_capacity, op);
    return op.out;
}

static value new_op(graph *g, int kind, value a, value b, value c, int64_t rows, int64_t cols, op_attributes attributes)
{
    return new_op_of(g, kind, (value[]){a, b, c}, 3, rows, cols, attributes);
}

/* What the operation that makes `out` keeps beside it. */
static void add_aux(graph *g, value out, int index, int64_t rows, int64_t cols)
{
    op_node *op = &g->ops[g->values[out].producer];

    if (op->aux[index] == NO_VALUE)
        op->aux[index] = new_value(g, (value_info){.name = "aux",
                                                   .kind = VALUE_AUX,
                                                   .batched = g->values[out].batched,
                                                   .rows = rows,
                                                   .cols = cols,
                                                   .type = g->real,
                                                   .producer = g->values[out].producer});
}

static value like(graph *g, int kind, value x, value b, value c, op_attributes attributes)
{
    return new_op(g, kind, x, b, c, g->values[x].rows, g->values[x].cols, attributes);
}

value graph_linear(graph *g, value x, param *w, param *b, int64_t first, int64_t count)
{
    value wv = graph_param(g, w), bv = optional_param(g, b);

    if (count == 0)
        count = w->dims[0];
    assert(w->count / w->dims[0] == g->values[x].cols);
    return new_op(g, OP_linear, x, wv, bv, g->values[x].rows, count,
                  (op_attributes){.first = first, .count = count, .scale = 1});
}

value graph_activation(graph *g, value x, activation act)
{
    if (act == ACT_NONE)
        return x;
    return like(g, OP_activation, x, NO_VALUE, NO_VALUE, (op_attributes){.act = act});
}

value graph_layernorm_groups(graph *g, value x, param *w, param *b, double eps, int64_t offset, int64_t groups,
                             int64_t width)
{
    value wv = optional_param(g, w), bv = optional_param(g, b), out;

    out = new_op(g, OP_layernorm, x, wv, bv, g->values[x].rows, groups * width,
                 (op_attributes){.eps = eps, .offset = offset, .groups = groups, .width = width});
    add_aux(g, out, 0, g->values[x].rows, groups);
    add_aux(g, out, 1, g->values[x].rows, groups);
    return out;
}

value graph_layernorm(graph *g, value x, param *w, param *b, double eps)
{
    return graph_layernorm_groups(g, x, w, b, eps, 0, 1, g->values[x].cols);
}

value graph_attention(graph *g, value q, int64_t q_offset, value k, int64_t k_offset, value v, int64_t v_offset,
                      int64_t heads, int64_t head_dim, double scale)
{
    value out;

    assert(q != k || llabs(q_offset - k_offset) >= heads * head_dim);
    assert(q != v || llabs(q_offset - v_offset) >= heads * head_dim);
    assert(k != v || llabs(k_offset - v_offset) >= heads * head_dim);
    out = new_op(g, OP_attention, q, k, v, g->values[q].rows, heads * head_dim,
                 (op_attributes){.scale = scale,
                                 .heads = heads,
                                 .head_dim = head_dim,
                                 .q_offset = q_offset,
                                 .k_offset = k_offset,
                                 .v_offset = v_offset});

    add_aux(g, out, 0, g->values[q].rows, heads);
    return out;
}

value graph_add(graph *g, value a, value b)
{
    assert(g->values[a].rows == g->values[b].rows && g->values[a].cols == g->values[b].cols);
    return like(g, OP_add, a, b, NO_VALUE, (op_attributes){.scale = 1});
}

value graph_add_scaled(graph *g, value a, value b, double factor)
{
    value sum;

    assert(g->values[a].rows == g->values[b].rows && g->values[a].cols == g->values[b].cols &&
           g->values[a].batched == g->values[b].batched);
    sum = like(g, OP_add, a, b, NO_VALUE, (op_attributes){.scale = factor});
    g->values[sum].batched = g->values[a].batched;
    return sum;
}

value graph_add_columns(graph *g, value a, value b, int64_t offset)
{
    assert(g->values[a].rows == g->values[b].rows && offset + g->values[b].cols <= g->values[a].cols);
    return like(g, OP_add, a, b, NO_VALUE, (op_attributes){.offset = offset, .scale = 1});
}

value graph_add_table(graph *g, value x, param *table)
{
    value t = graph_param(g, table);

    assert(table->count == g->values[x].rows * g->values[x].cols);
    return like(g, OP_add_table, x, t, NO_VALUE, (op_attributes){0});
}

value graph_multiply(graph *g, value a, value b)
{
    assert(g->values[a].rows == g->values[b].rows && g->values[a].cols == g->values[b].cols && g->values[a].batched &&
           g->values[b].batched);
    return like(g, OP_multiply, a, b, NO_VALUE, (op_attributes){0});
}

value graph_affine(graph *g, value x, param *gamma, param *beta, double factor)
{
    value gv, bv;

    assert((!gamma || gamma->count == 1 || gamma->count == g->values[x].cols) &&
           (!beta || beta->count == g->values[x].cols));
    if (gamma && beta &&
        gamma->count != beta->count) { /* one factor for a whole row, one shift for each channel: two operations */
        x = graph_affine(g, x, gamma, NULL, factor);
        gamma = NULL;
        factor = 1;
    }
    gv = optional_param(g, gamma);
    bv = optional_param(g, beta);
    return like(g, OP_affine, x, gv, bv, (op_attributes){.scale = factor, .count = gamma ? gamma->count : 0});
}

value graph_dropout(graph *g, value x, double rate)
{
    if (rate == 0)
        return x;
    return like(g, OP_dropout, x, NO_VALUE, NO_VALUE, (op_attributes){.rate = rate, .stream = g->streams++});
}

value graph_drop_path(graph *g, value x, double rate)
{
    if (rate == 0)
        return x;
    return like(g, OP_drop_path, x, NO_VALUE, NO_VALUE, (op_attributes){.rate = rate, .stream = g->streams++});
}

value graph_broadcast(graph *g, param *rows)
{
    value p = graph_param(g, rows);

    return new_op(g, OP_broadcast, p, NO_VALUE, NO_VALUE, rows->count / rows->dims[rows->ndim - 1],
                  rows->dims[rows->ndim - 1], (op_attributes){0});
}

value graph_insert_tokens(graph *g, value x, value rows, int64_t at)
{
    assert(g->values[x].cols == g->values[rows].cols && at <= g->values[x].rows);
    return new_op(g, OP_insert_tokens, x, rows, NO_VALUE, g->values[x].rows + g->values[rows].rows, g->values[x].cols,
                  (op_attributes){.first = at});
}

value graph_replace_tokens(graph *g, value x, value rows, int64_t at)
{
    assert(g->values[x].cols == g->values[rows].cols && at + g->values[rows].rows <= g->values[x].rows);
    return like(g, OP_replace_tokens, x, rows, NO_VALUE, (op_attributes){.first = at});
}

value graph_select_tokens(graph *g, value x, int64_t first, int64_t count)
{
    assert(first + count <= g->values[x].rows);
    if (count == g->values[x].rows)
        return x;
    return new_op(g, OP_select_tokens, x, NO_VALUE, NO_VALUE, count, g->values[x].cols,
                  (op_attributes){.first = first, .count = count});
}

value graph_mean_tokens(graph *g, value x, int64_t first, int64_t count)
{
    assert(first + count <= g->values[x].rows);
    return new_op(g, OP_mean_tokens, x, NO_VALUE, NO_VALUE, 1, g->values[x].cols,
                  (op_attributes){.first = first, .count = count});
}

value graph_concat(graph *g, const value *parts, int count)
{
    value joined = parts[0], some[OP_INPUTS];

    for (int next = 1; next < count;) { /* more than an operation has inputs: what is joined is the next one's first */
        int64_t cols = g->values[joined].cols;
        int n = 1;
        some[0] = joined;
        for (; n < OP_INPUTS && next < count; n++) {
            some[n] = parts[next++];
            cols += g->values[some[n]].cols;
            assert(g->values[some[n]].rows == g->values[joined].rows);
        }
        joined = new_op_of(g, OP_concat, some, n, g->values[joined].rows, cols, (op_attributes){0});
    }
    return joined;
}

value graph_windows(graph *g, value x, int64_t width, int64_t stride, int64_t padding)
{
    int64_t rows = g->values[x].rows + 2 * padding;

    assert(width > 0 && stride > 0 && padding >= 0 && rows >= width);
    return new_op(g, OP_windows, x, NO_VALUE, NO_VALUE, (rows - width) / stride + 1, width * g->values[x].cols,
                  (op_attributes){.width = width, .stride = stride, .padding = padding});
}

value graph_gather(graph *g, param *table, value ids)
{
    value t = graph_param(g, table);

    assert(table->ndim == 2 && g->values[ids].type == DTYPE_I32 && g->values[ids].cols == 1);
    return new_op(g, OP_gather, t, ids, NO_VALUE, g->values[ids].rows, table->dims[1], (op_attributes){0});
}

value graph_upsample(graph *g, value x, int64_t height, int64_t width, int64_t out_height, int64_t out_width)
{
    assert(height * width == g->values[x].rows && out_height > 0 && out_width > 0);
    if (height == out_height && width == out_width)
        return x;
    return new_op(g, OP_upsample, x, NO_VALUE, NO_VALUE, out_height * out_width, g->values[x].cols,
                  (op_attributes){.height = height, .width = width, .out_height = out_height, .out_width = out_width});
}

/* A scalar over the whole batch. */
static value new_loss(graph *g, int kind, value a, value b, value c, double scale)
{
    value loss = new_op(g, kind, a, b, c, 1, 1, (op_attributes){.scale = scale});

    g->values[loss].batched = false;
    return loss;
}

static void add_batched_aux(graph *g, value loss, int64_t rows)
{
    add_aux(g, loss, 0, rows, 1);
    g->values[g->ops[g->values[loss].producer].aux[0]].batched = true;
}

value graph_patchify(graph *g, value pixels, int64_t height, int64_t width, int64_t channels, int64_t patch,
                     const float *mean, const float *std)
{
    float *copy = ARENA_ARRAY(g->memory, float, 2 * channels);

    assert(channels <= PATCH_CHANNELS);
    for (int64_t c = 0; c < channels; c++) {
        copy[c] = mean[c];
        copy[channels + c] = std[c];
    }
    return new_op(g, OP_patchify, pixels, NO_VALUE, NO_VALUE, (height / patch) * (width / patch),
                  channels * patch * patch,
                  (op_attributes){.height = height,
                                  .image_width = width,
                                  .channels = channels,
                                  .patch = patch,
                                  .mean = copy,
                                  .std = copy + channels});
}

value graph_cross_entropy(graph *g, value logits, value labels, double smoothing)
{
    value loss = new_loss(g, OP_cross_entropy, logits, labels, NO_VALUE, smoothing);

    add_batched_aux(g, loss, 1);
    return loss;
}

value graph_row_cross_entropy(graph *g, value logits, value labels, value weights, double smoothing)
{
    int64_t rows = g->values[logits].rows;
    value loss = new_loss(g, OP_row_cross_entropy, logits, labels, weights, smoothing);

    assert(g->values[labels].type == DTYPE_I32 && g->values[labels].rows == rows && g->values[labels].cols == 1);
    assert(g->values[weights].type == DTYPE_F32 && g->values[weights].rows == rows && g->values[weights].cols == 1);
    add_batched_aux(g, loss, rows);
    return loss;
}

value graph_consistency(graph *g, value logits_a, value logits_b)
{
    assert(g->values[logits_a].rows == g->values[logits_b].rows &&
           g->values[logits_a].cols == g->values[logits_b].cols);
    return new_loss(g, OP_consistency, logits_a, logits_b, NO_VALUE, 0);
}

value graph_distance(graph *g, value a, value b)
{
    value loss = new_loss(g, OP_distance, a, b, NO_VALUE, 0);

    assert(g->values[a].rows == g->values[b].rows && g->values[a].cols == g->values[b].cols);
    add_batched_aux(g, loss, g->values[a].rows);
    return loss;
}

value graph_binary_cross_entropy(graph *g, value logits, value targets)
{
    value loss = new_loss(g, OP_binary_cross_entropy, logits, targets, NO_VALUE, 0);

    assert(g->values[logits].rows == g->values[targets].rows && g->values[logits].cols == g->values[targets].cols);
    add_batched_aux(g, loss, g->values[logits].rows);
    return loss;
}

value graph_identity_distance(graph *g, param *matrix)
{
    return new_loss(g, OP_identity_distance, graph_param(g, matrix), NO_VALUE, NO_VALUE, 0);
}

value graph_rational(graph *g, value x, param *numerator, param *denominator, bool safe)
{
    assert(numerator->count == 6 && denominator->count == 4);
    return like(g, OP_rational, x, graph_param(g, numerator), graph_param(g, denominator),
                (op_attributes){.first = safe});
}

value graph_gate(graph *g, value x, param *logits, double high, double low)
{
    assert(logits->count == 2);
    return like(g, OP_gate, x, graph_param(g, logits), NO_VALUE,
                (op_attributes){.rate = high, .scale = low, .stream = g->streams++});
}

value graph_stack(graph *g, value others, value x, int64_t n, int64_t parts)
{
    assert((n == 0) == (others == NO_VALUE));
    return new_op(g, OP_stack, x, others, NO_VALUE, g->values[x].rows * parts, g->values[x].cols,
                  (op_attributes){.first = n, .count = parts});
}

value graph_mix(graph *g, value q, value k, value v, int64_t parts)
{
    value out = new_op(g, OP_mix, q, k, v, g->values[q].rows, g->values[v].cols, (op_attributes){.count = parts});

    assert(g->values[k].rows == parts * g->values[q].rows && g->values[v].rows == g->values[k].rows &&
           g->values[k].cols == g->values[q].cols);
    add_aux(g, out, 0, g->values[q].rows, parts);
    return out;
}

value graph_mix_weights(const graph *g, value mix)
{
    assert(g->ops[g->values[mix].producer].kind == OP_mix);
    return g->ops[g->values[mix].producer].aux[0];
}

void graph_mark(graph *g, value v, const char *name, int layer)
{
    graph_mark_entry entry = {name, layer, v};

    ARRAY_PUSH(g->marks, g->mark_count, g->mark_capacity, entry);
}

const graph_mark_entry *graph_marks(const graph *g, int *count)
{
    *count = g->mark_count;
    return g->marks;
}

bool graph_draws(const graph *g)
{
    for (int i = 0; i < g->op_count; i++)
        if (op_table[g->ops[i].kind]->random && op_table[g->ops[i].kind]->random(&g->ops[i]))
            return true;
    for (value v = 0; v < g->value_count; v++)
        if (g->values[v].p && g->values[v].p->state->choice)
            return true;
    return false;
}

void graph_keep(graph *g, value v)
{
    g->values[v].kept = true;
}
