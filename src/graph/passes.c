/* What happens once between building a graph and planning it. */
#include <string.h>

#include "graph/op_impl.h"

/* How far the epilogue of a product already reaches: y = residual + mask * gamma * act(x W^T + b). A constant factor
 * rides on the mask. */
enum { STAGE_BIAS, STAGE_ACT, STAGE_GAMMA, STAGE_DROP_PATH, STAGE_RESIDUAL };

static int linear_stage(const op_node *linear)
{
    if (linear->in[4] != NO_VALUE)
        return STAGE_RESIDUAL;
    if (linear->a.rate > 0)
        return STAGE_DROP_PATH;
    if (linear->in[3] != NO_VALUE || linear->a.scale != 1)
        return STAGE_GAMMA;
    return linear->a.act != ACT_NONE ? STAGE_ACT : STAGE_BIAS;
}

/* The operation whose result `v` is, if nobody else reads it. */
static op_node *private_op(graph *g, const int *readers, value v)
{
    const value_info *info = &g->values[v];

    return info->producer < 0 || info->kept || readers[v] != 1 ? NULL : &g->ops[info->producer];
}

/* The product that makes v, if nobody else reads it and it may be changed in place; else NULL. */
static op_node *private_linear(graph *g, const int *readers, value v, int stage)
{
    op_node *op = private_op(g, readers, v);

    return op && op->kind == OP_linear && linear_stage(op) < stage ? op : NULL;
}

/* Takes the operation at `index` over into the product that feeds it: the product moves to that place in the order,
 * where all that it now reads is there. */
static void absorb(graph *g, int index, op_node *linear, op_node merged)
{
    merged.out = g->ops[index].out;
    g->values[merged.out].producer = index;
    linear->dead = true;
    g->ops[index] = merged;
}

static void fuse_into_linear(graph *g, int index, const int *readers)
{
    op_node *op = &g->ops[index], *linear, merged;

    switch (op->kind) {
    case OP_activation:
        if ((linear = private_linear(g, readers, op->in[0], STAGE_ACT))) {
            merged = *linear;
            merged.a.act = op->a.act;
            absorb(g, index, linear, merged);
        }
        break;
    case OP_affine:
        if (op->in[2] == NO_VALUE &&
            (op->in[1] == NO_VALUE || (op->a.scale == 1 && op->a.count == g->values[op->out].cols)) &&
            (linear = private_linear(g, readers, op->in[0], STAGE_GAMMA))) {
            merged = *linear;
            merged.in[3] = op->in[1];
            merged.a.scale = op->a.scale;
            absorb(g, index, linear, merged);
        }
        break;
    case OP_drop_path:
        if ((linear = private_linear(g, readers, op->in[0], STAGE_DROP_PATH))) {
            merged = *linear;
            merged.a.rate = op->a.rate;
            merged.a.stream = op->a.stream;
            absorb(g, index, linear, merged);
        }
        break;
    case OP_add:
        if (op->a.scale == 1 && g->values[op->in[0]].cols == g->values[op->in[1]].cols &&
            (linear = private_linear(g, readers, op->in[1], STAGE_RESIDUAL))) {
            merged = *linear;
            merged.in[4] = op->in[0];
            absorb(g, index, linear, merged);
        }
        break;
    default:
        break;
    }
}

/* A product of an image's patches makes them of the pixels itself. Not where something in it is trained or random:
 * there the gradient of the weights reads the patches, or the feature cache keeps them. */
static void fuse_patches(graph *g, int index, const int *readers)
{
    op_node *op = &g->ops[index], *patches;

    if (op->dead || op->kind != OP_linear || op->branch >= 0 || !g->values[op->out].fixed)
        return;
    patches = private_op(g, readers, op->in[0]);
    if (!patches || patches->kind != OP_patchify || g->values[patches->in[0]].kind != VALUE_INPUT)
        return;
    op->in[0] = patches->in[0];
    op->a.height = patches->a.height;
    op->a.image_width = patches->a.image_width;
    op->a.channels = patches->a.channels;
    op->a.patch = patches->a.patch;
    op->a.mean = patches->a.mean;
    op->a.std = patches->a.std;
    patches->dead = true;
}

static int *count_readers(const graph *g)
{
    int *readers = ARENA_ARRAY(g->memory, int, g->value_count);

    for (int i = 0; i < g->op_count; i++)
        for (int j = 0; j < OP_INPUTS; j++)
            if (!g->ops[i].dead && g->ops[i].in[j] != NO_VALUE)
                readers[g->ops[i].in[j]]++;
    return readers;
}

/* ---- adapters: two products with a narrow value between them are one operation ---- */

static bool is_own(const graph *g, value v)
{
    const param *p = g->values[v].p;

    return p->exact || p->trainable;
}

/* All of W is used, and W is an adapter's. */
static bool whole_own_weight(const graph *g, const op_node *linear)
{
    return linear->a.first == 0 && linear->a.count == g->values[linear->in[1]].rows && is_own(g, linear->in[1]);
}

/* The product that makes the narrow value which `up` reads, or NULL. */
static op_node *down_projection(graph *g, const op_node *up, const int *readers)
{
    value h = up->in[0];
    op_node *down;

    if (!g->k->bottleneck || up->a.act != ACT_NONE || !whole_own_weight(g, up) ||
        g->values[up->out].cols > g->k->limits.bottleneck_width)
        return NULL;
    down = private_linear(g, readers, h, STAGE_GAMMA);
    return down && whole_own_weight(g, down) && g->values[h].cols <= g->k->limits.bottleneck_rank &&
                   g->values[h].batched && g->values[down->in[0]].cols <= g->k->limits.bottleneck_width
               ? down
               : NULL;
}

/* What an operation keeps for its backward pass. */
static value new_aux(graph *g, int producer, const char *name, int64_t rows, int64_t cols, dtype type)
{
    value_info info = {.name = name,
                       .kind = VALUE_AUX,
                       .batched = true,
                       .rows = rows,
                       .cols = cols,
                       .type = type,
                       .producer = producer};

    ARRAY_PUSH(g->values, g->value_count, g->value_capacity, info);
    return g->value_count - 1;
}

static void fuse_bottleneck(graph *g, int index, const int *readers)
{
    op_node up = g->ops[index], *down = up.dead || up.kind != OP_linear ? NULL : down_projection(g, &up, readers);
    value hidden = up.in[0];

    if (!down)
        return;
    g->ops[index] = (op_node){.kind = OP_bottleneck,
                              .in = {down->in[0], down->in[1], down->in[2], up.in[1], up.in[2], up.in[3], up.in[4]},
                              .out = up.out,
                              .aux = {hidden, NO_VALUE},
                              .a = {.act = down->a.act, .scale = up.a.scale, .rate = up.a.rate, .stream = up.a.stream},
                              .branch = up.branch};
    down->dead = true;
    g->values[hidden].kind = VALUE_AUX;
    g->values[hidden].producer = index;
    if (g->ops[index].a.act != ACT_NONE)
        g->ops[index].aux[1] = new_aux(g, index, "act_grad", g->values[hidden].rows, g->values[hidden].cols, g->real);
}

static void mark_dependencies(graph *g)
{
    for (value v = 0; v < g->value_count; v++) {
        value_info *info = &g->values[v];
        info->needs_grad = info->kind == VALUE_PARAM && info->p->trainable;
        info->fixed = info->kind == VALUE_INPUT || (info->kind == VALUE_PARAM && !info->p->trainable);
    }
    for (int i = 0; i < g->op_count; i++) {
        const op_node *op = &g->ops[i];
        const op_desc *desc = op_table[op->kind];
        bool needs = false, fixed = !(desc->random && desc->random(op));
        if (op->dead)
            continue;
        for (int j = 0; j < OP_INPUTS; j++) {
            if (op->in[j] == NO_VALUE)
                continue;
            needs |= g->values[op->in[j]].needs_grad;
            fixed &= g->values[op->in[j]].fixed;
        }
        g->values[op->out].needs_grad = needs && desc->backward;
        g->values[op->out].fixed = fixed;
        for (int j = 0; j < OP_AUX; j++)
            if (op->aux[j] != NO_VALUE)
                g->values[op->aux[j]].fixed = fixed;
    }
}

static bool exact_weights(const graph *g, const op_node *linear)
{
    return graph_weight_type(g, g->values[linear->in[1]].p) == g->real;
}

/* In bf16 and int8, a value is stored as bf16 when every reader takes it so: products with frozen weights round their
 * input to bf16 anyway. Readers come later in the order, so one sweep from the end decides. What is not batched is a
 * loss, or a term of one: it stays as it is. */
static void choose_types(graph *g)
{
    bool *wide = ARENA_ARRAY(g->memory, bool, g->value_count); /* some reader wants it as it is */

    for (int i = g->op_count - 1; i >= 0; i--) {
        const op_node *op = &g->ops[i];
        const op_desc *desc = op_table[op->kind];
        value_info *out = &g->values[op->out];
        if (op->dead)
            continue;
        g->ops[i].a.rounded = op->kind == OP_attention; /* however a reader of its inputs may want them stored */
        if (desc->bf16_result && out->batched && !out->kept && !wide[op->out] &&
            !(op->kind == OP_linear && (exact_weights(g, op) || linear_stage(op) == STAGE_RESIDUAL)))
            out->type = DTYPE_BF16;
        for (int j = 0; j < OP_INPUTS; j++) {
            bool takes = desc->bf16_inputs >> j & 1;
            if (op->in[j] == NO_VALUE)
                continue;
            if (op->kind == OP_linear)
                takes = j == 0 && !exact_weights(g, op);
            else if (op->kind != OP_attention)
                takes = takes && out->type == DTYPE_BF16;
            wide[op->in[j]] |= !takes;
        }
    }
}

/* Whether the bytes of its rows are all that an operation reads of input j, also backward. */
static bool reads_quantised(const graph *g, const op_node *op, int j)
{
    return op->kind == OP_linear && j == 0 && graph_weight_type(g, g->values[op->in[1]].p) == DTYPE_I8 &&
           !(op_table[op->kind]->backward_reads(g, op) & 1u);
}

/* Products with int8 weights make bytes of their rows, each the same: a LayerNorm that nobody else reads writes these
 * itself. */
static void choose_quantised(graph *g)
{
    bool *other = ARENA_ARRAY(g->memory, bool, g->value_count); /* some reader wants more */

    for (int i = 0; i < g->op_count; i++)
        for (int j = 0; j < OP_INPUTS; j++)
            if (!g->ops[i].dead && g->ops[i].in[j] != NO_VALUE)
                other[g->ops[i].in[j]] |= !reads_quantised(g, &g->ops[i], j);
    for (int i = 0; i < g->op_count; i++) {
        value_info *out = &g->values[g->ops[i].out];
        if (!g->ops[i].dead && g->ops[i].kind == OP_layernorm && g->ops[i].a.groups == 1 && out->type == DTYPE_BF16 &&
            !other[g->ops[i].out])
            out->type = DTYPE_U8;
    }
}

/* ---- branches: what drop path does to a branch of frozen operations, it can do by not computing it for the samples
 * that it drops ---- */

static bool trained_inside(const graph *g, const op_node *op)
{
    for (int j = 0; j < OP_INPUTS; j++)
        if (op->in[j] != NO_VALUE && g->values[op->in[j]].kind == VALUE_PARAM && g->values[op->in[j]].needs_grad)
            return true;
    return false;
}

/* Whether the operation at `index` feeds only operations of the branch that ends at `last`, and the end itself not by
 * its residual. */
static bool feeds_only(const graph *g, int index, int last)
{
    value v = g->ops[index].out;

    for (int i = index + 1; i < g->op_count; i++)
        for (int j = 0; j < OP_INPUTS; j++)
            if (!g->ops[i].dead && g->ops[i].in[j] == v &&
                (g->ops[i].branch != g->ops[last].branch || (i == last && j > 0)))
                return false;
    return !g->values[v].kept && g->values[v].batched;
}

/* An operation of a branch reads values from outside only where its kernel finds the rows of some samples; the end's
 * residual is one of these. */
static bool reads_allowed(const graph *g, int index, int branch)
{
    const op_node *op = &g->ops[index];

    for (int j = 0; j < OP_INPUTS; j++) {
        const value_info *info = op->in[j] == NO_VALUE ? NULL : &g->values[op->in[j]];
        bool outside =
            info && info->kind != VALUE_PARAM && (info->producer < 0 || g->ops[info->producer].branch != branch);
        if (outside &&
            !((op->kind == OP_layernorm || op->kind == OP_linear) && (j == 0 || index == g->branches[branch])))
            return false;
    }
    return true;
}

static void find_branch(graph *g, int last)
{
    int branch = g->branch_count;
    bool good = true;

    ARRAY_PUSH(g->branches, g->branch_count, g->branch_capacity, last);
    g->ops[last].branch = branch;
    for (int i = last - 1; i >= 0; i--) {
        op_node *op = &g->ops[i];
        bool kind = op->kind == OP_layernorm || op->kind == OP_linear || op->kind == OP_attention ||
                    op->kind == OP_select_tokens;
        if (!op->dead && kind && op->branch < 0 && op->in[4] == NO_VALUE && !trained_inside(g, op) &&
            !(op_table[op->kind]->random && op_table[op->kind]->random(op)) && feeds_only(g, i, last))
            op->branch = branch;
    }
    for (int i = 0; i <= last; i++)
        good &= g->ops[i].dead || g->ops[i].branch != branch || reads_allowed(g, i, branch);
    if (good)
        return;
    for (int i = 0; i <= last; i++)
        if (g->ops[i].branch == branch)
            g->ops[i].branch = -1;
    g->branch_count--;
}

static void find_branches(graph *g)
{
    for (int i = 0; i < g->op_count; i++)
        if (!g->ops[i].dead && g->ops[i].kind == OP_linear && g->ops[i].a.rate > 0 && g->ops[i].in[4] != NO_VALUE &&
            !trained_inside(g, &g->ops[i]))
            find_branch(g, i);
}

void graph_finish(graph *g)
{
    int *readers = count_readers(g);

    for (int i = 0; i < g->op_count; i++)
        fuse_into_linear(g, i, readers);
    for (int i = 0; i < g->op_count; i++)
        fuse_bottleneck(g, i, readers);
    mark_dependencies(g);
    if (!g->mask_samples)
        find_branches(g);
    for (int i = 0; i < g->op_count; i++)
        fuse_patches(g, i, readers);
    if (g->weight_type != g->real)
        choose_types(g);
    if (g->weight_type == DTYPE_I8)
        choose_quantised(g);
    for (int i = 0; i < g->op_count;
         i++) { /* the activation's act_grad is kept beside a product whose epilogue has one */
        op_node *op = &g->ops[i];
        if (op->dead || op->kind != OP_linear || op->a.act == ACT_NONE || !g->values[op->out].needs_grad)
            continue;
        op->aux[0] = new_aux(g, i, "act_grad", g->values[op->out].rows, g->values[op->out].cols,
                             exact_weights(g, op) ? g->real : DTYPE_BF16);
    }
}

void graph_mark_needed(const graph *g, value wanted, bool *needed)
{
    needed[wanted] = true;
    for (int i = g->op_count - 1; i >= 0; i--)
        if (!g->ops[i].dead && needed[g->ops[i].out])
            for (int j = 0; j < OP_INPUTS; j++)
                if (g->ops[i].in[j] != NO_VALUE)
                    needed[g->ops[i].in[j]] = true;
}

int graph_fixed_frontier(const graph *g, value wanted, value *out, int room)
{
    bool *needed = ARENA_ARRAY(g->memory, bool, g->value_count), *taken = ARENA_ARRAY(g->memory, bool, g->value_count);
    int count = 0;
    bool possible = true;

    graph_mark_needed(g, wanted, needed);
    for (int i = 0; possible && i < g->op_count; i++) {
        const op_node *op = &g->ops[i];
        if (op->dead || !needed[op->out] || g->values[op->out].fixed)
            continue;
        for (int j = 0; j < OP_INPUTS; j++) {
            const value_info *info = op->in[j] == NO_VALUE ? NULL : &g->values[op->in[j]];
            if (!info || !info->fixed || info->kind == VALUE_PARAM || taken[op->in[j]])
                continue;
            if (info->kind == VALUE_INPUT) {
                possible &= info->target;
                continue;
            }
            taken[op->in[j]] = true;
            if (count < room)
                out[count] = op->in[j];
            count++;
        }
    }
    return possible ? count : 0;
}
