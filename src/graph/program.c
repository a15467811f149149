#include "base/monitor.h"
#include "graph/program_impl.h"

const op_desc *const op_table[] = {
#define OP(name) [OP_##name] = &op_##name,
#include "graph/ops.def"
#undef OP
};

/* ---- running ---- */

/* `batch` samples of what lies in a buffer, from sample `first` on. */
static mat matrix(const program *p, int home, value v, dtype type, int64_t first, int64_t batch)
{
    int64_t stride = value_stride(p->g, v, type);

    if (home < 0)
        return (mat){0};
    return (mat){.data = p->room->block + p->buffers[home].offset +
                         (size_t)(first * p->g->values[v].rows * stride) * dtype_size(type),
                 .type = type,
                 .rows = value_rows(p->g, v, batch),
                 .cols = p->g->values[v].cols,
                 .stride = stride};
}

mat program_value(program *p, value v, int64_t batch)
{
    return matrix(p, p->home[v], v, p->g->values[v].type, 0, batch);
}

void *program_stage(program *p, value input)
{
    p->staged[input] = p->stages[input] != NULL;
    return p->stages[input] ? p->stages[input] : program_value(p, input, p->max_batch).data;
}

/* What the host has staged goes to the device. */
static void take_stages(program *p, int64_t batch)
{
    for (value v = 0; v < p->g->value_count; v++)
        if (p->staged[v]) {
            p->dev->k->copy_in(program_value(p, v, batch).data, p->stages[v], value_bytes(p->g, v, batch));
            p->staged[v] = false;
        }
}

void program_read(const program *p, value v, int64_t count, float *out)
{
    mat x = program_value((program *)(uintptr_t)p, v, count);
    enum { CHUNK = 256 };
    unsigned char bytes[CHUNK * sizeof(double)];

    for (int64_t r = 0; r < x.rows; r++)
        for (int64_t c = 0, now; c < x.cols; c += now) {
            now = x.cols - c < CHUNK ? x.cols - c : CHUNK;
            p->dev->k->copy_out(bytes, (const char *)x.data + (size_t)(r * x.stride + c) * dtype_size(x.type),
                                (size_t)now * dtype_size(x.type));
            dtype_to_f32(out + r * x.cols + c, bytes, x.type, (size_t)now);
        }
}

mat program_grad(program *p, value v, int64_t batch)
{
    return matrix(p, p->grad_home[v], v, p->grad_type[v], 0, batch);
}

/* The matrix of a value for `batch` samples of the running slice. */
static mat slice_value(const op_run *r, value v, int64_t batch)
{
    return matrix(r->p, r->p->home[v], v, r->p->g->values[v].type, r->p->full[v] ? r->first : 0, batch);
}

static mat slice_grad(const op_run *r, value v, int64_t batch)
{
    return matrix(r->p, r->p->grad_home[v], v, r->p->grad_type[v], r->p->full_grad[v] ? r->first : 0, batch);
}

/* Samples [first, first + batch) of `total`. */
typedef struct slice {
    int64_t first, batch, total;
} slice;

static op_run begin_run(program *p, const step_plan *step, const slice *at, const step_info *info)
{
    int branch = p->g->ops[step->op].branch;
    bool some = branch >= 0 && !p->whole[branch];

    return (op_run){.p = p,
                    .op = &p->g->ops[step->op],
                    .k = p->dev->k,
                    .c = &p->dev->c,
                    .batch = some ? p->active_count[branch] : at->batch,
                    .all = at->batch,
                    .first = at->first,
                    .total = at->total,
                    .active = some ? p->active + branch * p->slice : NULL,
                    .active_there = some ? p->active_there + branch * p->slice : NULL,
                    .step = info,
                    .workspace = p->room->workspace,
                    .accumulate = step->accumulate};
}

static bool dropped(const step_info *info, double rate, uint32_t stream, int64_t sample)
{
    return rng_uniform((rng_stream){.seed = info->seed, .purpose = RNG_DROP_PATH, .stream = stream, .step = info->step},
                       (uint64_t)sample) < rate;
}

static void draw_active(program *p, const slice *at, const step_info *info)
{
    for (int b = 0; b < p->g->branch_count; b++) {
        const op_node *end = &p->g->ops[p->g->branches[b]];
        p->active_count[b] = 0;
        for (int64_t i = 0; i < at->batch; i++)
            if (!dropped(info, end->a.rate, end->a.stream, at->first + i))
                p->active[b * p->slice + p->active_count[b]++] = (int32_t)i;
    }
    if (p->active_there != p->active && p->g->branch_count > 0)
        p->dev->k->copy_in(p->active_there, p->active, (size_t)(p->g->branch_count * p->slice) * sizeof *p->active);
}

/* Multiply-adds times two of step s for one sample; backward, one product for each operand that wants a gradient. */
static double step_flops(const program *p, int s, bool backward)
{
    const op_node *op = &p->g->ops[p->steps[s].op];
    double flops = op_table[op->kind]->flops ? op_table[op->kind]->flops(p->g, op) : 0, total = 0;

    if (!backward)
        return flops;
    for (int j = 0; j < 2; j++)
        if (op->in[j] != NO_VALUE && p->g->values[op->in[j]].needs_grad)
            total += flops * (op->kind == OP_attention ? 1.25 : 1);
    return total;
}

/* Adds to the times of step s what it took since `begun`. */
static void take_time(program *p, int s, bool backward, int64_t samples, double begun)
{
    if (!p->times)
        return;
    p->times[s].seconds[backward] += monitor_seconds() - begun;
    p->times[s].operations[backward] += step_flops(p, s, backward) * (double)samples;
}

static double now(const program *p)
{
    return p->times ? monitor_seconds() : 0;
}

/* The steps of a slice, or those that run once. */
static void forward(program *p, const slice *at, bool once, const step_info *info)
{
    for (int s = 0; s < p->count; s++) {
        op_run r = begin_run(p, &p->steps[s], at, info);
        double begun = now(p);
        if (p->steps[s].once != once)
            continue;
        if (r.batch > 0)
            op_table[r.op->kind]->forward(&r);
        if (r.active && p->steps[s].op == p->g->branches[r.op->branch])
            op_copy_inactive(&r, 4);
        take_time(p, s, false, r.batch, begun);
    }
}

static void backward(program *p, const slice *at, bool once, const step_info *info)
{
    for (int s = p->count - 1; s >= 0; s--) {
        op_run r = begin_run(p, &p->steps[s], at, info);
        double begun = now(p);
        if (!p->steps[s].backward || p->steps[s].once != once)
            continue;
        for (int j = 0; j < OP_INPUTS; j++)
            if (p->steps[s].clear[j]) {
                mat dx = slice_grad(&r, r.op->in[j], p->compact[r.op->in[j]] ? r.batch : r.all);
                p->dev->k->zero(dx.data, (size_t)(dx.rows * dx.cols) * dtype_size(dx.type));
            }
        if (r.batch > 0)
            op_table[r.op->kind]->backward(&r);
        else if (op_table[r.op->kind]->passes >=
                 0) /* all samples are dropped: what goes past the branch is all there is */
            op_pass_grad(&r, op_table[r.op->kind]->passes);
        take_time(p, s, true, r.batch, begun);
    }
}

static void run_slices(program *p, int64_t batch, bool with_gradient, const step_info *info)
{
    int64_t count = (batch + p->slice - 1) / p->slice, size = (batch + count - 1) / count;

    take_stages(p, batch);
    for (int64_t first = 0; first < batch; first += size) {
        slice at = {first, batch - first < size ? batch - first : size, batch};
        draw_active(p, &at, info);
        forward(p, &at, false, info);
        if (with_gradient)
            backward(p, &at, false, info);
    }
    forward(p, &(slice){0, batch, batch}, true, info);
}

void program_forward(program *p, int64_t batch, const step_info *info)
{
    run_slices(p, batch, false, info);
}

void program_step(program *p, int64_t batch, const step_info *info)
{
    size_t real = dtype_size(p->dev->k->real);
    const float one = 1;

    for (int i = 0; i < p->param_count; i++) {
        p->dev->k->zero(p->params[i]->grad, (size_t)p->params[i]->count * real);
        p->params[i]->state->touched = false;
    }
    device_set_f32(p->dev, program_grad(p, p->loss, batch).data, &one, 1);
    take_stages(p, batch);
    backward(p, &(slice){0, batch, batch}, true, info); /* from the loss to its parts, whatever they will be */
    run_slices(p, batch, true, info);
}

int64_t program_slice(const program *p)
{
    return p->slice;
}

size_t program_memory(const program *p)
{
    return p->block_size + p->workspace_size;
}

double program_flops(const program *p, bool backward)
{
    double total = 0;

    for (int s = 0; s < p->count; s++)
        total += step_flops(p, s, false) + (backward && p->steps[s].backward ? step_flops(p, s, true) : 0);
    return total;
}

int program_times(const program *p, program_time *out, int room)
{
    for (int s = 0; p->times && s < p->count && s < room; s++) {
        const op_node *op = &p->g->ops[p->steps[s].op];
        const value_info *y = &p->g->values[op->out];
        out[s] = p->times[s];
        out[s].name = op_table[op->kind]->name;
        out[s].rows = y->rows;
        out[s].cols = y->cols;
        out[s].depth = op_depth(p->g, op);
    }
    return p->times ? p->count : 0;
}

int program_params(const program *p, param **out, int room)
{
    for (int i = 0; i < p->param_count && i < room; i++)
        out[i] = p->params[i];
    return p->param_count;
}

/* ---- what operations ask of the program ---- */

/* In a branch, what lies outside has the rows of all samples: those of the active ones are taken. */
static mat of_samples(const op_run *r, mat m, value v)
{
    if (r->active && m.data && r->p->g->values[v].batched && !r->p->compact[v]) {
        m.samples = r->active_there;
        m.group = r->p->g->values[v].rows;
    }
    return m;
}

mat op_in(const op_run *r, int input)
{
    return of_samples(r, slice_value(r, r->op->in[input], r->batch), r->op->in[input]);
}

mat op_out(const op_run *r)
{
    return of_samples(r, slice_value(r, r->op->out, r->batch), r->op->out);
}

mat op_aux(const op_run *r, int index)
{
    return slice_value(r, r->op->aux[index], r->batch);
}

mat op_out_grad(const op_run *r)
{
    return of_samples(r, slice_grad(r, r->op->out, r->batch), r->op->out);
}

mat op_in_grad(const op_run *r, int input)
{
    return of_samples(r, slice_grad(r, r->op->in[input], r->batch), r->op->in[input]);
}

bool op_wants(const op_run *r, int input)
{
    return r->op->in[input] != NO_VALUE && r->p->g->values[r->op->in[input]].needs_grad;
}

/* The parameter at an input; of a choice, the one drawn for this step and the value's pass. */
static param *param_of(const op_run *r, int input)
{
    const value_info *info = r->op->in[input] == NO_VALUE ? NULL : &r->p->g->values[r->op->in[input]];
    const param_choice *c = info && info->p ? info->p->state->choice : NULL;

    if (!c)
        return info ? info->p : NULL;
    return c->of[rng_below(
        (rng_stream){.seed = r->step->seed, .purpose = RNG_CHOICE, .stream = c->stream, .step = r->step->step},
        info->pass, (uint32_t)c->count)];
}

const param *op_param(const op_run *r, int input)
{
    return param_of(r, input);
}

void *op_data(const op_run *r, int input)
{
    param *q = param_of(r, input);

    return q ? param_values(q, r->p->dev) : NULL;
}

void *op_param_grad(const op_run *r, int input)
{
    param *q = param_of(r, input);

    if (!q || !q->trainable)
        return NULL;
    q->state->touched = true;
    return q->grad;
}

static const packed *panels_of(const op_run *r, int input, bool gradient)
{
    param *w = param_of(r, input);
    int64_t count = r->op->a.count ? r->op->a.count : w->dims[0];
    const packed *panels = NULL;

    /* made when the program was: only renewed here, which cannot fail, since what is transposed is frozen */
    (void)param_panels(w, r->p->dev, r->op->a.first, count, graph_weight_type(r->p->g, w),
                       gradient && graph_transposes(r->p->g, w), &panels, NULL);
    return panels;
}

const packed *op_panels(const op_run *r, int input)
{
    return panels_of(r, input, false);
}

const packed *op_gradient_panels(const op_run *r, int input)
{
    return panels_of(r, input, true);
}

patch_rows op_patches(const op_run *r)
{
    const op_attributes *a = &r->op->a;
    mat pixels = op_in(r, 0);
    patch_rows patches = {.pixels = pixels.data,
                          .type = pixels.type,
                          .height = a->height,
                          .width = a->image_width,
                          .channels = a->channels,
                          .patch = a->patch};

    memcpy(patches.mean, a->mean, (size_t)a->channels * sizeof *a->mean);
    memcpy(patches.std, a->std, (size_t)a->channels * sizeof *a->std);
    return patches;
}

int64_t op_depth(const graph *g, const op_node *op)
{
    if (op->a.patch)
        return op->a.channels * op->a.patch * op->a.patch;
    return op->in[0] == NO_VALUE ? 0 : g->values[op->in[0]].cols;
}

void op_pass_grad(const op_run *r, int input)
{
    mat dx, dy = slice_grad(r, r->op->out,
                            r->all); /* of all samples of the slice, whether their branch was dropped or not */

    if (!op_wants(r, input))
        return;
    dx = slice_grad(r, r->op->in[input], r->all);
    if (dx.data == dy.data)
        return;
    if (r->accumulate[input])
        r->k->add(r->c, &(add_args){.y = dx, .a = dx, .b = dy, .factor = 1});
    else
        r->k->add(r->c, &(add_args){.y = dx, .a = dy});
}

void *op_host_room(const op_run *r)
{
    return r->k->host_memory ? r->workspace : r->p->host_room;
}

void *op_take_room(const op_run *r, size_t size)
{
    if (!r->k->host_memory)
        r->k->copy_in(r->workspace, r->p->host_room, size);
    return r->workspace;
}

static void draw_mask(const op_run *r, double rate, uint32_t stream, float *room)
{
    for (int64_t i = 0; i < r->batch; i++)
        room[i] = !r->active && dropped(r->step, rate, stream, r->first + i) ? 0.0f : (float)(1.0 / (1.0 - rate));
}

const float *op_drop_path_mask(const op_run *r)
{
    draw_mask(r, r->op->a.rate, r->op->a.stream, op_host_room(r));
    return op_take_room(r, (size_t)r->batch * sizeof(float));
}

const float *op_row_factors(const op_run *r)
{
    const op_attributes *a = &r->op->a;
    float *room = op_host_room(r);

    if (a->rate == 0 && a->scale == 1)
        return NULL;
    if (a->rate > 0)
        draw_mask(r, a->rate, a->stream, room);
    for (int64_t i = 0; i < r->batch; i++)
        room[i] = (float)a->scale * (a->rate > 0 ? room[i] : 1.0f);
    return op_take_room(r, (size_t)r->batch * sizeof(float));
}

size_t op_factor_bytes(int64_t batch)
{
    return ((size_t)batch * sizeof(float) + 63) & ~(size_t)63;
}

bool op_drops(const op_node *op)
{
    return op->a.rate > 0;
}

void op_copy_inactive(const op_run *r, int input)
{
    mat y = slice_value(r, r->op->out, r->all), x = slice_value(r, r->op->in[input], r->all);
    int64_t group = y.rows / r->all, next = 0;

    for (int64_t s = 0; s < r->all && y.data != x.data; s++) {
        if (next < r->batch && r->active[next] == s) {
            next++;
            continue;
        }
        r->k->copy_rows(r->c,
                        &(copy_rows_args){
                            .y = y, .x = x, .samples = 1, .y_first = s * group, .x_first = s * group, .count = group});
    }
}

mat mat_columns(mat m, int64_t first, int64_t count)
{
    if (m.data)
        m.data = (unsigned char *)m.data + (size_t)first * dtype_size(m.type);
    m.cols = count;
    return m;
}
