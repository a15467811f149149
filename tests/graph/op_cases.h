/* A case for each form of every operation: a function that builds it over values and parameters that the test gives. */
#ifndef TESTS_GRAPH_OP_CASES_H
#define TESTS_GRAPH_OP_CASES_H

#include "kernels/kernel_sets.h"

#include "graph/op_impl.h"

#define CLASSES 3
#define RATE 0.4
#define MAX_ITEMS 8

typedef struct shape {
    int64_t batch, max_batch, rows, cols;
} shape;

static const shape shapes[] = {{2, 2, 3, 5}, {3, 4, 5, 7}, {2, 3, 1, 1}, {3, 3, 13, 19}};

/* Whether something else reads what the operation reads. Backward passes run in reverse: behind the operation, that
 * reader leaves a gradient which the operation has to add to. */
typedef enum others { OTHERS_NONE, OTHERS_BEFORE, OTHERS_AFTER, OTHERS_COUNT } others;

typedef struct op_case op_case;

/* A graph around one operation. Its items are the parameters and the given values that may want a gradient. */
typedef struct setup {
    const op_case *row;
    shape s;
    int only; /* the one item that wants a gradient, -1: all do */
    others readers;
    bool live; /* what the operation reads is computed, and its memory is given away as soon as may be; else the test
                  supplies it */
    int items;
    arena *memory;
    graph *g;
    param *params[MAX_ITEMS];
    value filled[MAX_ITEMS], given[MAX_ITEMS],
        side[MAX_ITEMS]; /* what the test fills, what the operation reads, who reads that before */
    int param_count, given_count;
    uint32_t drawn; /* random arrays handed out */
    value tested, pixels, labels, ids, row_labels, row_weights, loss;
    device dev;
    program *p;
} setup;

struct op_case {
    int kind;
    const char *name;
    value (*build)(setup *s, int variant); /* returns the operation's result; a loss stays as it is */
    int variant;
};

/* ---- items ---- */

static float *draw(setup *s, int64_t count)
{
    float *values = ARENA_ARRAY(s->memory, float, count);

    rng_fill_normal(values, (uint64_t)count, 0, 0.6,
                    (rng_stream){.seed = 9, .purpose = RNG_TEST, .stream = s->drawn++});
    return values;
}

static bool wanted(setup *s)
{
    int item = s->items++;

    return s->only < 0 || s->only == item;
}

/* rows 0: a vector */
static param *make_param(setup *s, int64_t rows, int64_t cols)
{
    param *p = param_new(s->memory, arena_printf(s->memory, "param%u", s->drawn), rows ? 2 : 1,
                         rows ? (int64_t[]){rows, cols} : &cols);

    param_set_source(p, draw(s, p->count), DTYPE_F32, false);
    return p;
}

static param *trained(setup *s, int64_t rows, int64_t cols)
{
    param *p = make_param(s, rows, cols);

    assert_true(s->param_count < MAX_ITEMS);
    p->trainable = wanted(s);
    return s->params[s->param_count++] = p;
}

/* A value that the operation reads. It wants a gradient when something trained lies below it; that never runs where the
 * test supplies the value. */
static value given(setup *s, int64_t rows, int64_t cols)
{
    value input = graph_input(s->g, "given", DTYPE_F64, rows, cols), v = input;
    int i = s->given_count++;

    assert_true(i < MAX_ITEMS);
    if (s->live) {
        v = graph_affine(s->g, input, trained(s, 0, cols), NULL, 1);
    } else if (wanted(s)) {
        param *below = make_param(s, 0, cols);
        below->trainable = true;
        v = graph_affine(s->g, input, below, NULL, 1);
        graph_keep(s->g, v);
    }
    if (s->readers == OTHERS_BEFORE)
        s->side[i] = graph_activation(s->g, v, ACT_TANH);
    s->filled[i] = s->live ? input : v;
    return s->given[i] = v;
}

/* ---- the operations ---- */

enum { BIAS = 1, ACT = 2, GAMMA = 4, FACTOR = 8, DROP = 16, RESIDUAL = 32, ROWS = 64, SELF = 128, SHARED = 256 };

/* What follows a product of x behind its activation. */
static value with_epilogue(setup *s, value x, value y, int variant)
{
    int64_t n = graph_cols(s->g, y);

    if (variant & GAMMA)
        y = graph_affine(s->g, y, trained(s, 0, n), NULL, 1);
    if (variant & FACTOR)
        y = graph_affine(s->g, y, NULL, NULL, 0.7);
    if (variant & DROP)
        y = graph_drop_path(s->g, y, RATE);
    if (variant & RESIDUAL)
        y = graph_add(s->g, given(s, s->s.rows, n), y);
    return variant & SELF ? graph_add(s->g, x, y) : y;
}

static value build_linear(setup *s, int variant)
{
    int64_t k = s->s.cols, n = variant & SELF ? k : k + 2, first = variant & ROWS ? 3 : 0;
    value x = given(s, s->s.rows, k), y;
    param *w = trained(s, variant & (ROWS | SHARED) ? n + 4 : n, k),
          *b = variant & BIAS ? trained(s, 0, w->dims[0]) : NULL;

    y = graph_linear(s->g, x, w, b, first, variant & (ROWS | SHARED) ? n : 0);
    if (variant & SHARED) /* another, overlapping part of the same matrix */
        return graph_add(s->g, graph_linear(s->g, x, w, b, 2, n), y);
    if (variant & ACT)
        y = graph_activation(s->g, y, ACT_GELU);
    return with_epilogue(s, x, y, variant);
}

/* One of an adapter's parameters. */
static param *own(setup *s, int64_t rows, int64_t cols)
{
    param *p = trained(s, rows, cols);

    p->exact = true;
    return p;
}

static value build_bottleneck(setup *s, int variant)
{
    int64_t k = s->s.cols, n = variant & SELF ? k : k + 2, r = variant & ROWS ? 21 : 3;
    value x = given(s, s->s.rows, k),
          y = graph_linear(s->g, x, own(s, r, k), variant & BIAS ? own(s, 0, r) : NULL, 0, 0);

    if (variant & ACT)
        y = graph_activation(s->g, y, ACT_GELU);
    y = graph_linear(s->g, y, own(s, n, r), variant & BIAS ? own(s, 0, n) : NULL, 0, 0);
    return with_epilogue(s, x, y, variant);
}

static value build_activation(setup *s, int variant)
{
    return graph_activation(s->g, given(s, s->s.rows, s->s.cols), (activation)variant);
}

enum { NORM_PLAIN = 1, NORM_WEIGHT = 2, NORM_GROUPS = 4, NORM_OFFSET = 8 };

static value build_layernorm(setup *s, int variant)
{
    int64_t width = s->s.cols + 2, groups = variant & NORM_GROUPS ? 3 : 1, offset = variant & NORM_OFFSET ? 2 : 0;
    value x = given(s, s->s.rows, offset + groups * width + (offset ? 1 : 0));
    param *w = variant & NORM_PLAIN ? NULL : trained(s, 0, width),
          *b = variant & (NORM_PLAIN | NORM_WEIGHT) ? NULL : trained(s, 0, width);

    if (variant & (NORM_GROUPS | NORM_OFFSET))
        return graph_layernorm_groups(s->g, x, w, b, 1e-3, offset, groups, width);
    return graph_layernorm(s->g, x, w, b, 1e-3);
}

enum { QKV_FUSED, QKV_GAPS, QKV_SEPARATE, QKV_ROW, QKV_LONG };

static value build_attention(setup *s, int variant)
{
    int64_t dim = s->s.cols, heads = 2, w = heads * dim,
            rows = s->s.rows + (variant == QKV_LONG ? 50 : 1); /* of one key softmax is always 1 */
    double scale = 1.5 / sqrt((double)dim);
    value q, k, v;

    if (variant == QKV_GAPS) { /* columns that attention leaves alone in front, between and behind */
        q = given(s, rows, 3 * w + 6);
        return graph_attention(s->g, q, 1, q, w + 3, q, 2 * w + 5, heads, dim, scale);
    }
    if (variant == QKV_FUSED || variant == QKV_LONG) {
        q = given(s, rows, 3 * w);
        return graph_attention(s->g, q, 0, q, w, q, 2 * w, heads, dim, scale);
    }
    if (variant == QKV_ROW) { /* one query, at columns of a wider value; keys and values side by side */
        q = given(s, 1, w + 3);
        k = given(s, rows + 2, 2 * w);
        return graph_attention(s->g, q, 2, k, 0, k, w, heads, dim, scale);
    }
    q = given(s, rows, w);
    k = given(s, rows, w);
    v = given(s, rows, w);
    return graph_attention(s->g, q, 0, k, 0, v, 0, heads, dim, scale);
}

static value build_add(setup *s, int variant)
{
    value a = given(s, s->s.rows, s->s.cols + (variant ? 5 : 0)), b = given(s, s->s.rows, s->s.cols);

    return variant ? graph_add_columns(s->g, a, b, variant) : graph_add(s->g, a, b);
}

static value build_double(setup *s, int scaled)
{
    value x = given(s, s->s.rows, s->s.cols);

    return scaled ? graph_add_scaled(s->g, x, x, 0.3) : graph_add(s->g, x, x);
}

static value build_add_table(setup *s, int variant)
{
    (void)variant;
    return graph_add_table(s->g, given(s, s->s.rows, s->s.cols), trained(s, s->s.rows, s->s.cols));
}

static value build_multiply(setup *s, int itself)
{
    value a = given(s, s->s.rows, s->s.cols);

    return graph_multiply(s->g, a, itself ? a : given(s, s->s.rows, s->s.cols));
}

enum { CHANNEL = 1, SINGLE = 2, BETA = 4, FIXED = 8 };

static value build_affine(setup *s, int variant)
{
    value x = given(s, s->s.rows, s->s.cols);
    param *gamma = variant & (CHANNEL | SINGLE) ? trained(s, 0, variant & CHANNEL ? s->s.cols : 1) : NULL,
          *beta = variant & BETA ? trained(s, 0, s->s.cols) : NULL;

    return graph_affine(s->g, x, gamma, beta, variant & FIXED ? -1.3 : 1);
}

static value build_dropout(setup *s, int variant)
{
    (void)variant;
    return graph_dropout(s->g, given(s, s->s.rows + 4, s->s.cols), RATE);
}

static value build_drop_path(setup *s, int variant)
{
    (void)variant;
    return graph_drop_path(s->g, given(s, s->s.rows, s->s.cols), RATE);
}

static value build_broadcast(setup *s, int variant)
{
    (void)variant;
    return graph_broadcast(s->g, trained(s, s->s.rows, s->s.cols));
}

enum { AT_START, AT_MIDDLE, AT_END, OF_PARAM };

static int64_t place(int variant, int64_t room)
{
    return variant == AT_START ? 0 : variant == AT_END ? room : room / 2;
}

static value build_insert(setup *s, int variant)
{
    value x = given(s, s->s.rows, s->s.cols), rows;

    rows = variant == OF_PARAM ? graph_broadcast(s->g, trained(s, 2, s->s.cols)) : given(s, 2, s->s.cols);
    return graph_insert_tokens(s->g, x, rows, place(variant, s->s.rows));
}

static value build_replace(setup *s, int variant)
{
    value x = given(s, s->s.rows + 3, s->s.cols), rows;

    rows = variant == OF_PARAM ? graph_broadcast(s->g, trained(s, 2, s->s.cols)) : given(s, 2, s->s.cols);
    return graph_replace_tokens(s->g, x, rows, place(variant, s->s.rows + 1));
}

static value build_insert_itself(setup *s, int variant)
{
    value x = given(s, s->s.rows, s->s.cols);

    return graph_insert_tokens(s->g, x, x, place(variant, s->s.rows));
}

static value build_select(setup *s, int variant)
{
    return graph_select_tokens(s->g, given(s, s->s.rows + 2, s->s.cols), place(variant, 2), s->s.rows);
}

static value build_mean(setup *s, int variant)
{
    return graph_mean_tokens(s->g, given(s, s->s.rows + 2, s->s.cols), place(variant, 2), s->s.rows);
}

/* Parts of 1, 2, ... columns more; a negative number of them: one value twice, around another one. */
static value build_concat(setup *s, int count)
{
    value parts[MAX_ITEMS];

    for (int i = 0; i < count; i++)
        parts[i] = given(s, s->s.rows, s->s.cols + i);
    if (count < 0) {
        parts[0] = parts[2] = given(s, s->s.rows, s->s.cols);
        parts[1] = given(s, s->s.rows, s->s.cols + 1);
        count = 3;
    }
    return graph_concat(s->g, parts, count);
}

enum { WINDOWS_OVERLAP, WINDOWS_APART, WINDOWS_PADDED, WINDOWS_FAR };

static value build_windows(setup *s, int variant)
{
    static const struct {
        int64_t width, stride, padding;
    } windows[] = {{3, 1, 0}, {2, 3, 0}, {4, 2, 3}, {2, 1, 3}}; /* the last has windows of zeros only */

    return graph_windows(s->g, given(s, s->s.rows + 2, s->s.cols), windows[variant].width, windows[variant].stride,
                         windows[variant].padding);
}

static value build_gather(setup *s, int variant)
{
    (void)variant;
    s->ids = graph_input(s->g, "ids", DTYPE_I32, s->s.rows + 2, 1);
    return graph_gather(s->g, trained(s, s->s.rows, s->s.cols), s->ids);
}

enum { UP, UP_UNEVENLY, DOWN_AND_UP };

static value build_upsample(setup *s, int variant)
{
    value x = given(s, 2 * s->s.rows, s->s.cols);

    return variant == UP ? graph_upsample(s->g, x, s->s.rows, 2, 2 * s->s.rows, 4)
                         : graph_upsample(s->g, x, 2, s->s.rows, variant == UP_UNEVENLY ? 5 : 1, s->s.rows + 1);
}

static value build_patchify(setup *s, int variant)
{
    static const float mean[] = {0.5f, 0.4f, 0.3f}, std[] = {0.25f, 0.2f, 0.3f};
    int64_t patch = s->s.rows > 3 ? 3 : 2, area = 3 * patch * patch;

    s->pixels = graph_input(s->g, "pixels", (dtype)variant, 1, 6 * area);
    s->tested = graph_patchify(s->g, s->pixels, 2 * patch, 3 * patch, 3, patch, mean, std);
    return graph_linear(s->g, s->tested, trained(s, s->s.cols, area), NULL, 0, 0);
}

static value build_cross_entropy(setup *s, int variant)
{
    return graph_cross_entropy(s->g, given(s, 1, s->s.cols + 2), s->labels, variant / 100.0);
}

static value build_row_cross_entropy(setup *s, int variant)
{
    s->row_labels = graph_target(s->g, "row labels", DTYPE_I32, s->s.rows, 1);
    s->row_weights = graph_target(s->g, "row weights", DTYPE_F32, s->s.rows, 1);
    return graph_row_cross_entropy(s->g, given(s, s->s.rows, s->s.cols + 2), s->row_labels, s->row_weights,
                                   variant / 100.0);
}

static value build_add_scaled(setup *s, int variant)
{
    (void)variant;
    return graph_add_scaled(s->g, given(s, s->s.rows, s->s.cols), given(s, s->s.rows, s->s.cols), -0.7);
}

static value build_distance(setup *s, int variant)
{
    (void)variant;
    return graph_distance(s->g, given(s, s->s.rows, s->s.cols), given(s, s->s.rows, s->s.cols));
}

static value build_binary_cross_entropy(setup *s, int variant)
{
    (void)variant;
    return graph_binary_cross_entropy(s->g, given(s, s->s.rows, s->s.cols), given(s, s->s.rows, s->s.cols));
}

static value build_identity_distance(setup *s, int variant)
{
    (void)variant;
    return graph_identity_distance(s->g, trained(s, s->s.cols, s->s.cols));
}

static value build_sum_of_losses(setup *s, int variant)
{
    value logits = given(s, 1, s->s.cols + 2), loss = graph_cross_entropy(s->g, logits, s->labels, 0);

    (void)variant;
    loss = graph_add_scaled(s->g, loss, graph_cross_entropy(s->g, given(s, 1, s->s.cols + 2), s->labels, 0.1), 0.3);
    return graph_add_scaled(s->g, loss, graph_distance(s->g, logits, given(s, 1, s->s.cols + 2)), 2);
}

static value build_rational(setup *s, int variant)
{
    return graph_rational(s->g, given(s, s->s.rows, s->s.cols), trained(s, 0, 6), trained(s, 0, 4), variant);
}

static value build_gate(setup *s, int variant)
{
    (void)variant;
    return graph_gate(s->g, given(s, s->s.rows, s->s.cols), trained(s, 0, 2), 0.5, 0.5);
}

static value build_stack(setup *s, int parts)
{
    value all = NO_VALUE;

    for (int n = 0; n < parts; n++)
        all = graph_stack(s->g, all, given(s, s->s.rows, s->s.cols), n, parts);
    return all;
}

static value build_mix(setup *s, int parts)
{
    return graph_mix(s->g, given(s, s->s.rows, s->s.cols + 1), given(s, parts * s->s.rows, s->s.cols + 1),
                     given(s, parts * s->s.rows, s->s.cols), parts);
}

/* The keys are what is mixed. */
static value build_mix_keys(setup *s, int parts)
{
    value k = given(s, parts * s->s.rows, s->s.cols);

    return graph_mix(s->g, given(s, s->s.rows, s->s.cols), k, k, parts);
}

static const op_case cases[] = {
    {OP_linear, "linear", build_linear, 0},
    {OP_linear, "linear, bias", build_linear, BIAS},
    {OP_linear, "linear, some rows", build_linear, ROWS},
    {OP_linear, "linear, some rows with their bias", build_linear, BIAS | ROWS},
    {OP_linear, "linear, two parts of one matrix", build_linear, BIAS | SHARED},
    {OP_linear, "linear, activation", build_linear, BIAS | ACT},
    {OP_linear, "linear, gamma", build_linear, BIAS | GAMMA},
    {OP_linear, "linear, gamma without bias", build_linear, GAMMA},
    {OP_linear, "linear, factor", build_linear, BIAS | FACTOR},
    {OP_linear, "linear, drop path", build_linear, BIAS | DROP},
    {OP_linear, "linear, residual", build_linear, BIAS | RESIDUAL},
    {OP_linear, "linear, its own input as residual", build_linear, BIAS | SELF},
    {OP_linear, "linear, its own input as residual behind all else", build_linear,
     BIAS | ACT | GAMMA | DROP | ROWS | SELF},
    {OP_linear, "linear, activation, drop path, residual", build_linear, BIAS | ACT | DROP | RESIDUAL},
    {OP_linear, "linear, activation, factor, drop path", build_linear, ACT | FACTOR | DROP},
    {OP_linear, "linear, factor, drop path, residual", build_linear, BIAS | FACTOR | DROP | RESIDUAL},
    {OP_linear, "linear, everything", build_linear, BIAS | ACT | GAMMA | DROP | RESIDUAL | ROWS},
    {OP_bottleneck, "bottleneck", build_bottleneck, 0},
    {OP_bottleneck, "bottleneck, biases, activation", build_bottleneck, BIAS | ACT},
    {OP_bottleneck, "bottleneck, its own input as residual", build_bottleneck, BIAS | ACT | SELF},
    {OP_bottleneck, "bottleneck, gamma without biases, residual", build_bottleneck, GAMMA | RESIDUAL},
    {OP_bottleneck, "bottleneck, factor, drop path", build_bottleneck, ACT | FACTOR | DROP},
    {OP_bottleneck, "bottleneck, everything, residual", build_bottleneck, BIAS | ACT | GAMMA | DROP | RESIDUAL},
    {OP_bottleneck, "bottleneck, everything, its own input as residual", build_bottleneck,
     BIAS | ACT | GAMMA | DROP | SELF},
    {OP_bottleneck, "bottleneck, wide", build_bottleneck, BIAS | ACT | GAMMA | SELF | ROWS},
    {OP_activation, "relu", build_activation, ACT_RELU},
    {OP_activation, "gelu", build_activation, ACT_GELU},
    {OP_activation, "gelu_tanh", build_activation, ACT_GELU_TANH},
    {OP_activation, "silu", build_activation, ACT_SILU},
    {OP_activation, "tanh", build_activation, ACT_TANH},
    {OP_activation, "sigmoid", build_activation, ACT_SIGMOID},
    {OP_activation, "quick_gelu", build_activation, ACT_QUICK_GELU},
    {OP_layernorm, "layernorm", build_layernorm, 0},
    {OP_layernorm, "layernorm, weight only", build_layernorm, NORM_WEIGHT},
    {OP_layernorm, "layernorm without weight and bias", build_layernorm, NORM_PLAIN},
    {OP_layernorm, "layernorm of groups", build_layernorm, NORM_GROUPS},
    {OP_layernorm, "layernorm of some columns", build_layernorm, NORM_OFFSET},
    {OP_layernorm, "layernorm of groups from a column on", build_layernorm, NORM_GROUPS | NORM_OFFSET},
    {OP_attention, "attention, one value", build_attention, QKV_FUSED},
    {OP_attention, "attention, columns of one value", build_attention, QKV_GAPS},
    {OP_attention, "attention, three values", build_attention, QKV_SEPARATE},
    {OP_attention, "attention, one query", build_attention, QKV_ROW},
    {OP_attention, "attention, many tokens", build_attention, QKV_LONG},
    {OP_add, "add", build_add, 0},
    {OP_add, "add_columns", build_add, 3},
    {OP_add, "add_columns, the last", build_add, 5},
    {OP_add_table, "add_table", build_add_table, 0},
    {OP_multiply, "multiply", build_multiply, false},
    {OP_multiply, "multiply, x * x", build_multiply, true},
    {OP_affine, "affine, a factor for each channel", build_affine, CHANNEL},
    {OP_affine, "affine, scale and shift", build_affine, CHANNEL | BETA},
    {OP_affine, "affine, scale and shift behind a fixed factor", build_affine, CHANNEL | BETA | FIXED},
    {OP_affine, "affine, shift", build_affine, BETA},
    {OP_affine, "affine, one factor", build_affine, SINGLE},
    {OP_affine, "affine, one factor and a fixed one", build_affine, SINGLE | FIXED},
    {OP_affine, "affine, one factor and shift", build_affine, SINGLE | BETA | FIXED},
    {OP_affine, "affine, a fixed factor", build_affine, FIXED},
    {OP_dropout, "dropout", build_dropout, 0},
    {OP_drop_path, "drop_path", build_drop_path, 0},
    {OP_broadcast, "broadcast", build_broadcast, 0},
    {OP_insert_tokens, "insert_tokens, in front", build_insert, AT_START},
    {OP_insert_tokens, "insert_tokens, between", build_insert, AT_MIDDLE},
    {OP_insert_tokens, "insert_tokens, behind", build_insert, AT_END},
    {OP_insert_tokens, "insert_tokens, a parameter", build_insert, OF_PARAM},
    {OP_replace_tokens, "replace_tokens, the first", build_replace, AT_START},
    {OP_replace_tokens, "replace_tokens, between", build_replace, AT_MIDDLE},
    {OP_replace_tokens, "replace_tokens, the last", build_replace, AT_END},
    {OP_replace_tokens, "replace_tokens, by a parameter", build_replace, OF_PARAM},
    {OP_select_tokens, "select_tokens, the first", build_select, AT_START},
    {OP_select_tokens, "select_tokens, between", build_select, AT_MIDDLE},
    {OP_mean_tokens, "mean_tokens, the first", build_mean, AT_START},
    {OP_mean_tokens, "mean_tokens, the last", build_mean, AT_END},
    {OP_concat, "concat", build_concat, 2},
    {OP_concat, "concat of seven", build_concat, OP_INPUTS},
    {OP_concat, "concat of more than an operation has inputs", build_concat, OP_INPUTS + 1},
    {OP_concat, "concat of a value twice", build_concat, -1},
    {OP_windows, "windows that overlap", build_windows, WINDOWS_OVERLAP},
    {OP_windows, "windows with rows between them", build_windows, WINDOWS_APART},
    {OP_windows, "windows with padding", build_windows, WINDOWS_PADDED},
    {OP_windows, "windows with padding wider than they are", build_windows, WINDOWS_FAR},
    {OP_gather, "gather", build_gather, 0},
    {OP_upsample, "upsample, to twice the size", build_upsample, UP},
    {OP_upsample, "upsample, to no multiple of the size", build_upsample, UP_UNEVENLY},
    {OP_upsample, "upsample, to fewer lines", build_upsample, DOWN_AND_UP},
    {OP_patchify, "patchify, bytes", build_patchify, DTYPE_U8},
    {OP_patchify, "patchify, numbers", build_patchify, DTYPE_F32},
    {OP_cross_entropy, "cross_entropy", build_cross_entropy, 0},
    {OP_cross_entropy, "cross_entropy, smoothed", build_cross_entropy, 15},
    {OP_row_cross_entropy, "row_cross_entropy", build_row_cross_entropy, 0},
    {OP_row_cross_entropy, "row_cross_entropy, smoothed", build_row_cross_entropy, 15},
    {OP_add, "add, scaled", build_add_scaled, 0},
    {OP_add, "add, losses", build_sum_of_losses, 0},
    {OP_distance, "distance", build_distance, 0},
    {OP_binary_cross_entropy, "binary_cross_entropy", build_binary_cross_entropy, 0},
    {OP_identity_distance, "identity_distance", build_identity_distance, 0},
    {OP_rational, "rational, A", build_rational, false},
    {OP_rational, "rational, B", build_rational, true},
    {OP_gate, "gate", build_gate, 0},
    {OP_stack, "stack", build_stack, 2},
    {OP_stack, "stack of one", build_stack, 1},
    {OP_mix, "mix", build_mix, 3},
    {OP_mix, "mix of its own keys", build_mix_keys, 2},
    {OP_add, "add, x + x", build_double, false},
    {OP_add, "add, x + 0.3 x", build_double, true},
    {OP_insert_tokens, "insert_tokens, into itself", build_insert_itself, AT_MIDDLE},
};

#endif
