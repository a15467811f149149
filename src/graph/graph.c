#include "graph/graph.h"

#include <assert.h>
#include <stdlib.h>

#include "graph/op.h"

graph *graph_new(dtype real, dtype weight_type)
{
    arena *memory = arena_new();
    graph *g = ARENA_NEW(memory, graph);

    g->memory = memory;
    g->real = real;
    g->weight_type = weight_type;
    return g;
}

void graph_free(graph *g)
{
    if (!g)
        return;
    free(g->values);
    free(g->ops);
    arena_free(g->memory);
}

int64_t value_rows(const graph *g, value v, int64_t batch)
{
    const value_info *info = &g->values[v];

    return info->batched ? info->rows * batch : info->rows;
}

size_t value_bytes(const graph *g, value v, int64_t batch)
{
    return (size_t)(value_rows(g, v, batch) * g->values[v].cols) * dtype_size(g->values[v].type);
}

dtype graph_weight_type(const graph *g, const param *p)
{
    return p->trainable || p->exact ? g->real : g->weight_type;
}

static value new_value(graph *g, value_info info)
{
    ARRAY_PUSH(g->values, g->value_count, g->value_capacity, info);
    return g->value_count - 1;
}

value graph_input(graph *g, const char *name, dtype type, int64_t rows, int64_t cols)
{
    return new_value(g, (value_info){.name = arena_strdup(g->memory, name), .kind = VALUE_INPUT, .batched = true, .rows = rows, .cols = cols,
                                     .type = type, .producer = -1});
}

value graph_param(graph *g, param *p)
{
    int64_t rows = p->ndim >= 2 ? p->dims[0] : 1;

    for (value v = 0; v < g->value_count; v++)
        if (g->values[v].kind == VALUE_PARAM && g->values[v].p == p)
            return v;
    return new_value(g, (value_info){.name = p->name, .kind = VALUE_PARAM, .rows = rows, .cols = p->count / rows, .type = g->real, .p = p, .producer = -1});
}

static value optional_param(graph *g, param *p)
{
    return p ? graph_param(g, p) : NO_VALUE;
}

/* A new operation over up to three inputs whose result has the given shape. */
static value new_op(graph *g, int kind, value a, value b, value c, int64_t rows, int64_t cols, op_attributes attributes)
{
    op_node op = {.kind = kind, .in = {a, b, c, NO_VALUE, NO_VALUE}, .aux = {NO_VALUE, NO_VALUE}, .a = attributes};

    op.out = new_value(g, (value_info){.name = op_table[kind]->name, .kind = VALUE_RESULT, .batched = true, .rows = rows, .cols = cols, .type = g->real,
                                       .producer = g->op_count});
    ARRAY_PUSH(g->ops, g->op_count, g->op_capacity, op);
    return op.out;
}

static void add_aux(graph *g, int index, int64_t rows, int64_t cols)
{
    value v = new_value(g, (value_info){.name = "aux", .kind = VALUE_AUX, .batched = true, .rows = rows, .cols = cols, .type = g->real,
                                        .producer = g->op_count - 1});

    g->ops[g->op_count - 1].aux[index] = v;
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
    return new_op(g, OP_linear, x, wv, bv, g->values[x].rows, count, (op_attributes){.first = first, .count = count, .scale = 1});
}

value graph_activation(graph *g, value x, activation act)
{
    if (act == ACT_NONE)
        return x;
    return like(g, OP_activation, x, NO_VALUE, NO_VALUE, (op_attributes){.act = act});
}

value graph_layernorm_groups(graph *g, value x, param *w, param *b, double eps, int64_t offset, int64_t groups, int64_t width)
{
    value wv = optional_param(g, w), bv = optional_param(g, b), out;

    out = new_op(g, OP_layernorm, x, wv, bv, g->values[x].rows, groups * width,
                 (op_attributes){.eps = eps, .offset = offset, .groups = groups, .width = width});
    add_aux(g, 0, g->values[x].rows, groups);
    add_aux(g, 1, g->values[x].rows, groups);
    return out;
}

value graph_layernorm(graph *g, value x, param *w, param *b, double eps)
{
    return graph_layernorm_groups(g, x, w, b, eps, 0, 1, g->values[x].cols);
}

value graph_attention(graph *g, value q, int64_t q_offset, value k, int64_t k_offset, value v, int64_t v_offset, int64_t heads, int64_t head_dim,
                      double scale)
{
    value out = new_op(g, OP_attention, q, k, v, g->values[q].rows, heads * head_dim,
                       (op_attributes){.scale = scale, .heads = heads, .head_dim = head_dim, .q_offset = q_offset, .k_offset = k_offset, .v_offset = v_offset});

    add_aux(g, 0, g->values[q].rows, heads);
    return out;
}

value graph_add(graph *g, value a, value b)
{
    assert(a != b && g->values[a].rows == g->values[b].rows && g->values[a].cols == g->values[b].cols);
    return like(g, OP_add, a, b, NO_VALUE, (op_attributes){0});
}

value graph_add_columns(graph *g, value a, value b, int64_t offset)
{
    assert(a != b && g->values[a].rows == g->values[b].rows && offset + g->values[b].cols <= g->values[a].cols);
    return like(g, OP_add, a, b, NO_VALUE, (op_attributes){.offset = offset});
}

value graph_add_table(graph *g, value x, param *table)
{
    value t = graph_param(g, table);

    assert(table->count == g->values[x].rows * g->values[x].cols);
    return like(g, OP_add_table, x, t, NO_VALUE, (op_attributes){0});
}

value graph_affine(graph *g, value x, param *gamma, param *beta, double factor)
{
    value gv = optional_param(g, gamma), bv = optional_param(g, beta);

    return like(g, OP_affine, x, gv, bv, (op_attributes){.scale = factor, .count = gamma ? gamma->count : 0});
}

value graph_dropout(graph *g, value x, double rate)
{
    if (rate == 0)
        return x;
    return like(g, OP_dropout, x, NO_VALUE, NO_VALUE, (op_attributes){.rate = rate, .site = g->sites++});
}

value graph_drop_path(graph *g, value x, double rate)
{
    if (rate == 0)
        return x;
    return like(g, OP_drop_path, x, NO_VALUE, NO_VALUE, (op_attributes){.rate = rate, .site = g->sites++});
}

value graph_broadcast(graph *g, param *rows)
{
    value p = graph_param(g, rows);

    return new_op(g, OP_broadcast, p, NO_VALUE, NO_VALUE, rows->count / rows->dims[rows->ndim - 1], rows->dims[rows->ndim - 1], (op_attributes){0});
}

value graph_insert_tokens(graph *g, value x, value rows, int64_t at)
{
    assert(g->values[x].cols == g->values[rows].cols && at <= g->values[x].rows);
    return new_op(g, OP_insert_tokens, x, rows, NO_VALUE, g->values[x].rows + g->values[rows].rows, g->values[x].cols, (op_attributes){.first = at});
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
    return new_op(g, OP_select_tokens, x, NO_VALUE, NO_VALUE, count, g->values[x].cols, (op_attributes){.first = first, .count = count});
}

value graph_mean_tokens(graph *g, value x, int64_t first, int64_t count)
{
    assert(first + count <= g->values[x].rows);
    return new_op(g, OP_mean_tokens, x, NO_VALUE, NO_VALUE, 1, g->values[x].cols, (op_attributes){.first = first, .count = count});
}

value graph_patchify(graph *g, value pixels, int64_t height, int64_t width, int64_t channels, int64_t patch, const float *mean, const float *std)
{
    float *copy = ARENA_ARRAY(g->memory, float, 2 * channels);

    for (int64_t c = 0; c < channels; c++) {
        copy[c] = mean[c];
        copy[channels + c] = std[c];
    }
    return new_op(g, OP_patchify, pixels, NO_VALUE, NO_VALUE, (height / patch) * (width / patch), channels * patch * patch,
                  (op_attributes){.height = height, .image_width = width, .channels = channels, .patch = patch, .mean = copy, .std = copy + channels});
}

value graph_cross_entropy(graph *g, value logits, value labels, double smoothing)
{
    value loss = new_op(g, OP_cross_entropy, logits, labels, NO_VALUE, 1, 1, (op_attributes){.scale = smoothing});

    g->values[loss].batched = false;
    add_aux(g, 0, 1, 1);
    return loss;
}

void graph_keep(graph *g, value v)
{
    g->values[v].kept = true;
}
