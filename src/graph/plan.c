/* Makes a program: which operations run, in which memory each value and gradient lives and for how long, in which types
 * gradients are stored. */
#include "graph/program_impl.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* With a backward pass, most of what a slice computes stays until then: of a wide model, it is as many samples as have
 * so many bytes of it, two at least. */
#define SLICE_BYTES 260000000
#define SLICE_LEAST 2

static bool runs_once(const graph *g, const op_node *op)
{
    bool batched = g->values[op->out].batched;

    for (int j = 0; j < OP_INPUTS; j++)
        batched |= op->in[j] != NO_VALUE && g->values[op->in[j]].batched;
    return !batched;
}

/* Samples of a slice: a function of the graph and of what is asked of it alone, since the sums of gradients depend on
 * it. */
static int64_t slice_of(const graph *g, bool backward)
{
    int64_t rows = 1, bytes = 1, samples, fit;

    for (value v = 0; v < g->value_count; v++) {
        const value_info *info = &g->values[v];
        if (info->kind == VALUE_INPUT || info->kind == VALUE_PARAM || !info->batched || g->ops[info->producer].dead)
            continue;
        rows = info->rows > rows ? info->rows : rows;
        bytes += (int64_t)value_bytes(g, v, 1);
    }
    samples = (g->k->limits.slice_rows + rows / 2) / rows;
    fit = SLICE_BYTES / bytes > SLICE_LEAST ? SLICE_BYTES / bytes : SLICE_LEAST;
    samples = backward && samples > fit ? fit : samples;
    return samples > 1 ? samples : 1;
}

static void find_steps(program *p)
{
    const graph *g = p->g;
    bool *needed = ARENA_ARRAY(p->memory, bool, g->value_count);
    int next;

    memcpy(needed, p->wanted, (size_t)g->value_count * sizeof *needed);
    for (value v = 0; v < g->value_count; v++) /* what an operation keeps beside its result comes with the result */
        if (p->wanted[v] && g->values[v].kind == VALUE_AUX)
            needed[g->ops[g->values[v].producer].out] = true;
    for (int i = g->op_count - 1; i >= 0; i--) {
        const op_node *op = &g->ops[i];
        if (op->dead || !needed[op->out] || p->given[op->out])
            continue;
        p->count++;
        for (int j = 0; j < OP_INPUTS; j++)
            if (op->in[j] != NO_VALUE)
                needed[op->in[j]] = true;
    }
    p->steps = ARENA_ARRAY(p->memory, step_plan, p->count);
    next = 0;
    for (int i = 0; i < g->op_count; i++)
        if (!g->ops[i].dead && needed[g->ops[i].out] && !p->given[g->ops[i].out])
            p->steps[next++] = (step_plan){.op = i, .once = runs_once(g, &g->ops[i])};
    for (value v = 0; v < g->value_count; v++) /* inputs that something reads are supplied by the caller */
        if (g->values[v].kind == VALUE_INPUT && needed[v])
            p->given[v] = true;
}

/* What has room for all samples, or has none, lives through all slices. */
static int new_buffer(program *p, value v, dtype type, bool full, int start, int end)
{
    int64_t samples = !p->g->values[v].batched ? 1 : full ? p->max_batch : p->slice;
    size_t row = size_product(value_stride(p->g, v, type), dtype_size(type)),
           size = size_product(samples, size_product(p->g->values[v].rows, row));

    if (full || !p->g->values[v].batched) {
        start = 0;
        end = 2 * p->count;
    }
    p->buffers[p->buffer_count] = (layout_buffer){.size = size, .start = start, .end = end};
    return p->buffer_count++;
}

/* Moment of a slice at which step s runs: forward passes first, then backward passes in reverse. */
static int forward_time(int s)
{
    return s;
}

static int backward_time(const program *p, int s)
{
    return 2 * p->count - 1 - s;
}

/* Which steps have a backward pass: those whose result's gradient somebody produces. */
static void mark_backward(program *p, bool *has_grad)
{
    const graph *g = p->g;

    has_grad[p->loss] = true;
    for (int s = p->count - 1; s >= 0; s--) {
        const op_node *op = &g->ops[p->steps[s].op];
        p->steps[s].backward = op_table[op->kind]->backward && has_grad[op->out] && g->values[op->out].needs_grad;
        for (int j = 0; p->steps[s].backward && j < OP_INPUTS; j++)
            if (op->in[j] != NO_VALUE && g->values[op->in[j]].needs_grad)
                has_grad[op->in[j]] = true;
    }
}

static void find_last_reads(const program *p, int *last)
{
    const graph *g = p->g;

    for (value v = 0; v < g->value_count; v++)
        last[v] = p->wanted[v] || p->given[v] ? 2 * p->count : -1;
    for (int s = 0; s < p->count; s++) {
        const op_node *op = &g->ops[p->steps[s].op];
        unsigned reads = 0;
        if (p->steps[s].backward)
            reads = op_table[op->kind]->backward_reads ? op_table[op->kind]->backward_reads(g, op) : 0;
        for (int j = 0; j < OP_INPUTS; j++) {
            int moment = reads >> j & 1 ? backward_time(p, s) : forward_time(s);
            if (op->in[j] != NO_VALUE && last[op->in[j]] < moment)
                last[op->in[j]] = moment;
        }
        if (last[op->out] < forward_time(s))
            last[op->out] = forward_time(s);
        for (int j = 0; j < OP_AUX; j++)
            if (op->aux[j] != NO_VALUE && !p->wanted[op->aux[j]])
                last[op->aux[j]] = p->steps[s].backward ? backward_time(p, s) : forward_time(s);
    }
}

/* Whether inputs i and j are one value whose two parts of the gradient the operation takes together. */
static bool are_joint(const op_node *op, int i, int j)
{
    int passes = op_table[op->kind]->passes;

    return op_table[op->kind]->joint && op->in[i] == op->in[j] && ((i == 0 && j == passes) || (i == passes && j == 0));
}

/* The result may take over the buffer of an input that nobody reads any more. */
static bool takes_over(const program *p, int s, const int *last)
{
    const graph *g = p->g;
    const op_node *op = &g->ops[p->steps[s].op];
    int j = op_table[op->kind]->inplace;
    value v = j < 0 ? NO_VALUE : op->in[j];

    if (v == NO_VALUE || g->values[v].kind != VALUE_RESULT || p->home[v] < 0 || last[v] > forward_time(s) ||
        p->buffers[p->home[v]].end > forward_time(s))
        return false;
    for (int i = 0; i < OP_INPUTS; i++)
        if (i != j && op->in[i] == v && !are_joint(op, i, j))
            return false;
    return g->values[v].batched && g->values[op->out].batched && p->full[v] == p->full[op->out] &&
           g->values[v].type == g->values[op->out].type && value_bytes(g, v, 1) == value_bytes(g, op->out, 1);
}

static void place_values(program *p, const int *last)
{
    const graph *g = p->g;

    for (value v = 0; v < g->value_count; v++)
        if (p->given[v])
            p->home[v] = new_buffer(p, v, g->values[v].type, true, 0, 2 * p->count);
    for (int s = 0; s < p->count; s++) {
        const op_node *op = &g->ops[p->steps[s].op];
        if (takes_over(p, s, last)) {
            p->home[op->out] = p->home[op->in[op_table[op->kind]->inplace]];
            p->buffers[p->home[op->out]].end = last[op->out];
        } else {
            p->home[op->out] =
                new_buffer(p, op->out, g->values[op->out].type, p->full[op->out], forward_time(s), last[op->out]);
        }
        for (int j = 0; j < OP_AUX; j++)
            if (op->aux[j] != NO_VALUE &&
                (p->steps[s].backward || !op_table[op->kind]->keeps_for_backward || p->wanted[op->aux[j]]))
                p->home[op->aux[j]] = new_buffer(p, op->aux[j], g->values[op->aux[j]].type, p->full[op->aux[j]],
                                                 forward_time(s), last[op->aux[j]]);
    }
}

/* Whether an operation has the same value further in front among its inputs. */
static bool listed_before(const op_node *op, int input)
{
    for (int i = 0; i < input; i++)
        if (op->in[i] == op->in[input])
            return true;
    return false;
}

/* A gradient is stored as its value is when one operation produces it whole and can write that type; where several add
 * to it, or others do, it is real. */
static void choose_gradient_types(program *p)
{
    const graph *g = p->g;
    int *writers = ARENA_ARRAY(p->memory, int, g->value_count);

    for (value v = 0; v < g->value_count; v++)
        p->grad_type[v] = g->values[v].type == DTYPE_U8 ? DTYPE_BF16 : g->values[v].type;
    for (int s = 0; s < p->count; s++) {
        const op_node *op = &g->ops[p->steps[s].op];
        for (int j = 0; p->steps[s].backward && j < OP_INPUTS; j++) {
            if (op->in[j] == NO_VALUE)
                continue;
            writers[op->in[j]] += !listed_before(op, j);
            if (!(op_table[op->kind]->bf16_gradients >> j & 1) || writers[op->in[j]] > 1)
                p->grad_type[op->in[j]] = g->real;
        }
    }
}

/* In a branch, the gradient of what lies outside is written for the active samples only. */
static bool writes_some_samples(const program *p, const op_node *op, int input)
{
    return op->branch >= 0 && !p->whole[op->branch] && !p->compact[op->in[input]] &&
           input != op_table[op->kind]->passes && p->g->values[op->in[input]].kind != VALUE_PARAM;
}

/* Whether another input of the operation is the same value: y = x + x W^T. */
static bool listed_twice(const op_node *op, int input)
{
    for (int i = 0; i < OP_INPUTS; i++)
        if (i != input && op->in[i] == op->in[input] && !are_joint(op, i, input))
            return true;
    return false;
}

/* Whether the gradient of an input lies where the result's does. */
static bool gradient_passes(const program *p, const op_node *op, int input)
{
    const value_info *from = &p->g->values[op->in[input]], *to = &p->g->values[op->out];
    value v = op->in[input];

    return (input == op_table[op->kind]->passes || are_joint(op, input, op_table[op->kind]->passes)) &&
           !listed_twice(op, input) && !to->kept && p->full_grad[v] == p->full_grad[op->out] &&
           from->batched == to->batched && p->grad_type[v] == p->grad_type[op->out] && from->rows == to->rows &&
           from->cols == to->cols;
}

static void place_gradients(program *p)
{
    const graph *g = p->g;

    for (int s = p->count - 1; s >= 0; s--) {
        step_plan *step = &p->steps[s];
        const op_node *op = &g->ops[step->op];
        const op_desc *desc = op_table[op->kind];
        bool before[OP_INPUTS] = {false};
        if (!step->backward)
            continue;
        for (int j = 0; j < OP_INPUTS; j++)
            before[j] = op->in[j] != NO_VALUE && p->grad_home[op->in[j]] >= 0;
        for (int j = 0; j < OP_INPUTS; j++) {
            value v = op->in[j];
            bool twice = v != NO_VALUE && listed_twice(op, j);
            int end;
            if (v == NO_VALUE || !g->values[v].needs_grad || g->values[v].kind == VALUE_PARAM)
                continue;
            step->accumulate[j] = before[j];
            if (!before[j] && ((desc->partial ? desc->partial(g, op, j) : twice) || writes_some_samples(p, op, j)))
                step->clear[j] = step->accumulate[j] = true;
            if (p->grad_home[v] >= 0)
                continue;
            p->grad_home[v] = gradient_passes(p, op, j)
                                  ? p->grad_home[op->out]
                                  : new_buffer(p, v, p->grad_type[v], p->full_grad[v], backward_time(p, s), 0);
            end = g->values[v].kept || g->values[v].producer < 0 ? 2 * p->count : 2 * p->count - 1;
            for (int producer = 0; producer < s && !g->values[v].kept; producer++)
                if (g->ops[p->steps[producer].op].out == v)
                    end = backward_time(p, producer);
            if (p->buffers[p->grad_home[v]].end < end)
                p->buffers[p->grad_home[v]].end = end;
        }
    }
}

/* The forms in which input j of step s reads a parameter. */
typedef struct param_use {
    param *q;
    bool whole, panels, transposed; /* its values themselves, packed, packed as their transpose */
    int64_t first, count;           /* the rows that are packed */
    dtype type;
} param_use;

static param_use use_of(const program *p, int s, int j, param *q)
{
    const op_node *op = &p->g->ops[p->steps[s].op];
    bool panels = op_table[op->kind]->packed_inputs >> j & 1, backward = p->steps[s].backward;

    return (param_use){.q = q,
                       .whole = q->trainable || !panels || (op_table[op->kind]->reads_packed && backward),
                       .panels = panels,
                       .transposed =
                           panels && graph_transposes(p->g, q) && backward && p->g->values[op->in[0]].needs_grad,
                       .first = op->a.first,
                       .count = op->a.count ? op->a.count : q->dims[0],
                       .type = graph_weight_type(p->g, q)};
}

/* One parameter that a step reads. */
static inlay_status prepare_param(program *p, bool backward, const param_use *u, inlay_error *err)
{
    const packed *unused;
    bool listed = false;

    for (int i = 0; i < p->param_count; i++)
        listed |= p->params[i] == u->q;
    if (u->q->trainable && backward && !listed)
        p->params[p->param_count++] = u->q;
    if (u->whole)
        TRY(param_prepare(u->q, p->dev, err));
    if (u->panels)
        TRY(param_panels(u->q, p->dev, u->first, u->count, u->type, false, &unused, err));
    if (u->transposed)
        TRY(param_panels(u->q, p->dev, u->first, u->count, u->type, true, &unused, err));
    return INLAY_OK;
}

/* A form of a parameter that a program reads. */
typedef struct needed_form {
    const param *of;
    int64_t first, count;
    enum { NEEDED_WHOLE, NEEDED_PANELS, NEEDED_TRANSPOSED } kind;
    dtype type;
} needed_form;

struct counted_forms {
    arena *memory;
    needed_form *forms;
    int count, capacity;
    hash_index known;
};

static struct counted_forms *counted_forms_new(void)
{
    arena *memory = arena_new();
    struct counted_forms *c = ARENA_NEW(memory, struct counted_forms);

    c->memory = memory;
    return c;
}

/* What was counted already is not counted again; false: it was. */
static bool count_once(program_needs *n, needed_form form)
{
    uint32_t hash = hash_mix(0, (uint64_t)(uintptr_t)form.of);
    struct counted_forms *c;

    if (!n->forms)
        n->forms = counted_forms_new();
    c = n->forms;
    hash = hash_mix(hash_mix(hash, (uint64_t)form.first), (uint64_t)form.kind);
    for (int e = hash_index_next(&c->known, hash, -1); e >= 0; e = hash_index_next(&c->known, hash, e)) {
        const needed_form *f = &c->forms[c->known.entries[e].id];
        if (f->of == form.of && f->first == form.first && f->count == form.count && f->kind == form.kind &&
            f->type == form.type)
            return false;
    }
    hash_index_add(&c->known, c->memory, hash, c->count);
    ARRAY_PUSH(c->forms, c->count, c->capacity, form);
    return true;
}

static void count_param(program_needs *n, const program *p, const param_use *u)
{
    const kernels *k = p->dev->k;
    int64_t columns = u->q->dims[0] > 0 ? u->q->count / u->q->dims[0] : 0;
    size_t values = size_product(u->q->count, dtype_size(k->real));

    if (u->whole && count_once(n, (needed_form){.of = u->q, .kind = NEEDED_WHOLE})) {
        n->weights = size_sum(n->weights, values);
        n->training = size_sum(n->training, u->q->trainable ? size_product(3, values) : 0); /* gradient and moments */
    }
    if (u->panels && count_once(n, (needed_form){u->q, u->first, u->count, NEEDED_PANELS, u->type}))
        n->weights = size_sum(n->weights, k->pack_size(k, u->count, columns, u->type));
    if (u->transposed && count_once(n, (needed_form){u->q, u->first, u->count, NEEDED_TRANSPOSED, u->type}))
        n->weights = size_sum(n->weights, k->pack_size(k, columns, u->count, u->type));
}

static void count_params(program_needs *n, const program *p)
{
    for (int s = 0; s < p->count; s++)
        for (int j = 0; j < OP_INPUTS; j++) {
            value v = p->g->ops[p->steps[s].op].in[j];
            param *q = v == NO_VALUE ? NULL : p->g->values[v].p;
            for (int i = 0; q && i < (q->state->choice ? q->state->choice->count : 1); i++) {
                param_use u = use_of(p, s, j, q->state->choice ? q->state->choice->of[i] : q);
                count_param(n, p, &u);
            }
        }
}

static inlay_status prepare_params(program *p, inlay_error *err)
{
    int most = 0;

    for (value v = 0; v < p->g->value_count; v++)
        if (p->g->values[v].p)
            most += p->g->values[v].p->state->choice ? p->g->values[v].p->state->choice->count : 1;
    p->params = ARENA_ARRAY(p->memory, param *, most + 1);
    for (int s = 0; s < p->count; s++)
        for (int j = 0; j < OP_INPUTS; j++) {
            value v = p->g->ops[p->steps[s].op].in[j];
            param *q = v == NO_VALUE ? NULL : p->g->values[v].p;
            for (int i = 0; q && i < (q->state->choice ? q->state->choice->count : 1); i++) {
                param_use u = use_of(p, s, j, q->state->choice ? q->state->choice->of[i] : q);
                TRY(prepare_param(p, p->steps[s].backward, &u, err));
            }
        }
    return INLAY_OK;
}

/* Memory of its own, or a part in another program's, which grows when it must. */
static inlay_status find_room(program *p, program *share, inlay_error *err)
{
    const kernels *k = p->dev->k;
    program_room *r = share ? share->room : calloc(1, sizeof *r);

    if (!r)
        FAIL(err, INLAY_ERR_NOMEM, "out of memory for a program");
    p->room = r;
    r->users++;
    if (!r->block || r->block_size < p->block_size) {
        k->release(r->block);
        r->block = k->alloc(size_sum(p->block_size, 64));
        r->block_size = p->block_size;
    }
    if (!r->workspace || r->workspace_size < p->workspace_size) {
        k->release(r->workspace);
        r->workspace = k->alloc(size_sum(p->workspace_size, 64));
        r->workspace_size = p->workspace_size;
    }
    if (!r->block || !r->workspace)
        FAIL(err, INLAY_ERR_NOMEM,
             "out of memory: %.1f MB for the activations of %lld samples (a smaller batch needs less)",
             (double)(p->block_size + p->workspace_size) / 1e6, (long long)p->max_batch);
    return INLAY_OK;
}

/* What the caller gives or reads is there for all samples at once. */
static void find_full(program *p)
{
    const graph *g = p->g;

    for (value v = 0; v < g->value_count; v++) {
        p->full[v] =
            g->values[v].batched && (p->given[v] || p->wanted[v] ||
                                     (g->values[v].kind == VALUE_AUX && p->wanted[g->ops[g->values[v].producer].out]));
        p->full_grad[v] = g->values[v].batched && g->values[v].kept;
    }
    for (int s = 0; s < p->count; s++)
        for (int j = 0; j < OP_INPUTS; j++) {
            value v = g->ops[p->steps[s].op].in[j];
            assert(p->steps[s].once || v == NO_VALUE || g->values[v].batched ||
                   g->values[v].kind == VALUE_PARAM); /* they run when all slices have */
            (void)v;
        }
}

/* Which branches can leave dropped samples out here, and which values then hold fewer samples. */
static void plan_branches(program *p)
{
    graph *g = p->g;

    p->whole = ARENA_ARRAY(p->memory, bool, g->branch_count + 1);
    p->active = ARENA_ARRAY(p->memory, int32_t, g->branch_count * p->slice + 1);
    p->active_count = ARENA_ARRAY(p->memory, int, g->branch_count + 1);
    p->stages = ARENA_ARRAY(p->memory, void *, g->value_count + 1);
    p->staged = ARENA_ARRAY(p->memory, bool, g->value_count + 1);
    p->compact = ARENA_ARRAY(p->memory, bool, g->value_count);
    for (value v = 0; v < g->value_count; v++)
        if ((p->given[v] || p->wanted[v]) && g->values[v].producer >= 0 && g->ops[g->values[v].producer].branch >= 0 &&
            g->values[v].producer != g->branches[g->ops[g->values[v].producer].branch])
            p->whole[g->ops[g->values[v].producer].branch] = true;
    for (int i = 0; i < g->op_count; i++) {
        const op_node *op = &g->ops[i];
        if (op->dead || op->branch < 0 || p->whole[op->branch])
            continue;
        p->compact[op->out] = i != g->branches[op->branch];
        for (int j = 0; j < OP_AUX; j++)
            if (op->aux[j] != NO_VALUE)
                p->compact[op->aux[j]] = true;
    }
}

/* All but the memory. */
static void plan(program *p, const program_request *request)
{
    const graph *g = p->g;
    bool *has_grad = ARENA_ARRAY(p->memory, bool, g->value_count);
    int *last = ARENA_ARRAY(p->memory, int, g->value_count);

    find_steps(p);
    find_full(p);
    plan_branches(p);
    p->buffers = ARENA_ARRAY(p->memory, layout_buffer, 2 * g->value_count + 1);
    if (request->backward) {
        p->loss = request->wanted[0];
        mark_backward(p, has_grad);
    }
    find_last_reads(p, last);
    place_values(p, last);
    if (request->backward) {
        p->grad_home[p->loss] = new_buffer(p, p->loss, g->real, true, 0, 2 * p->count);
        choose_gradient_types(p);
        place_gradients(p);
    }
    p->block_size = layout_assign(p->buffers, p->buffer_count);
    for (int s = 0; s < p->count; s++) {
        const op_node *op = &g->ops[p->steps[s].op];
        size_t size =
            op_table[op->kind]->workspace ? op_table[op->kind]->workspace(g, op, p->slice, p->steps[s].backward) : 0;
        p->workspace_size = size > p->workspace_size ? size : p->workspace_size;
    }
    if (request->timed)
        p->times = ARENA_ARRAY(p->memory, program_time, p->count);
}

static program *new_plan(graph *g, const program_request *request)
{
    arena *memory = arena_new();
    program *p = ARENA_NEW(memory, program);

    *p = (program){.g = g,
                   .dev = request->dev,
                   .memory = memory,
                   .max_batch = request->max_batch,
                   .loss = NO_VALUE,
                   .slice = request->slice ? request->slice : slice_of(g, request->backward)};
    p->slice = p->slice < p->max_batch ? p->slice : p->max_batch;
    p->home = ARENA_ARRAY(memory, int, g->value_count);
    p->grad_home = ARENA_ARRAY(memory, int, g->value_count);
    p->grad_type = ARENA_ARRAY(memory, dtype, g->value_count);
    p->wanted = ARENA_ARRAY(memory, bool, g->value_count);
    p->given = ARENA_ARRAY(memory, bool, g->value_count);
    p->full = ARENA_ARRAY(memory, bool, g->value_count);
    p->full_grad = ARENA_ARRAY(memory, bool, g->value_count);
    for (value v = 0; v < g->value_count; v++)
        p->home[v] = p->grad_home[v] = -1;
    for (int i = 0; i < request->wanted_count; i++)
        p->wanted[request->wanted[i]] = true;
    for (int i = 0; i < request->given_count; i++)
        p->given[request->given[i]] = true;
    plan(p, request);
    return p;
}

size_t program_measure(program_needs *n, graph *g, const program_request *request)
{
    program *p = new_plan(g, request);
    size_t size = size_sum(p->block_size, p->workspace_size);

    count_params(n, p);
    program_free(p);
    return size;
}

void program_needs_free(program_needs *n)
{
    if (n->forms) {
        free(n->forms->forms);
        arena_free(n->forms->memory);
    }
    *n = (program_needs){0};
}

/* Where the host cannot reach the device's memory: places that it fills instead, copied before a run. */
static inlay_status find_stages(program *p, inlay_error *err)
{
    bool good = true;

    p->active_there = p->active;
    if (p->dev->k->host_memory)
        return INLAY_OK;
    p->active_there = p->dev->k->alloc((size_t)(p->g->branch_count * p->slice + 1) * sizeof *p->active);
    p->host_room = malloc(size_sum(p->workspace_size, 64));
    for (value v = 0; v < p->g->value_count; v++)
        if (p->g->values[v].kind == VALUE_INPUT && p->home[v] >= 0) {
            p->stages[v] = malloc(value_bytes(p->g, v, p->max_batch));
            good = good && p->stages[v];
        }
    if (!good || !p->host_room || !p->active_there)
        FAIL(err, INLAY_ERR_NOMEM, "out of memory for the inputs of %lld samples", (long long)p->max_batch);
    return INLAY_OK;
}

/* Whether the device has the kernels of every operation that runs, and those that the program itself uses: gradients
 * are added, rows of samples that skip a branch copied, weights packed. */
static inlay_status check_kernels(const program *p, inlay_error *err)
{
    for (int s = 0; s < p->count; s++) {
        const op_desc *op = op_table[p->g->ops[p->steps[s].op].kind];
        kernel_set wanted = op->uses | (op->packed_inputs ? USES(pack) : 0);
        const char *lacking;
        if (p->steps[s].backward)
            wanted |= op->backward_uses | USES(add);
        if (p->g->branch_count > 0)
            wanted |= USES(copy_rows);
        lacking = kernels_lack(p->dev->k, wanted);
        if (lacking)
            FAIL(err, INLAY_ERR_UNSUPPORTED, "the device '%s' has no kernel '%s', which operation '%s' needs",
                 p->dev->k->name, lacking, op->name);
    }
    return INLAY_OK;
}

inlay_status program_new(program **out, graph *g, const program_request *request, inlay_error *err)
{
    program *p = new_plan(g, request);
    inlay_status status = check_kernels(p, err);

    if (status == INLAY_OK)
        status = find_room(p, request->share, err);
    if (status == INLAY_OK)
        status = find_stages(p, err);
    if (status == INLAY_OK)
        status = prepare_params(p, err);
    if (status != INLAY_OK) {
        program_free(p);
        p = NULL;
    }
    *out = p;
    return status;
}

void program_free(program *p)
{
    if (!p)
        return;
    if (p->room && --p->room->users == 0) {
        p->dev->k->release(p->room->block);
        p->dev->k->release(p->room->workspace);
        free(p->room);
    }
    for (value v = 0; v < p->g->value_count; v++)
        free(p->stages[v]);
    free(p->host_room);
    if (p->active_there != p->active)
        p->dev->k->release(p->active_there);
    arena_free(p->memory);
}
