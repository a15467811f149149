/* Passes and planner: what is frozen costs nothing, running allocates nothing, buffers do not overlap, what is kept stays, and what is
 * fixed can be given from outside. The build lets the linker send this program's allocations through the counters below. */
#include "kernels/kernel_sets.h"

#include <stdatomic.h>

#include "graph/layout.h"
#include "graph/op.h"

#define BATCH 3
#define CLASSES 5
#define MAX_PARAMS 32

/* ---- counted allocations ---- */

static atomic_long allocations;

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *block, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);
int __real_posix_memalign(void **out, size_t alignment, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *block, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
int __wrap_posix_memalign(void **out, size_t alignment, size_t size);

void *__wrap_malloc(size_t size)
{
    allocations++;
    return __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    allocations++;
    return __real_calloc(count, size);
}

void *__wrap_realloc(void *block, size_t size)
{
    allocations++;
    return __real_realloc(block, size);
}

void *__wrap_aligned_alloc(size_t alignment, size_t size)
{
    allocations++;
    return __real_aligned_alloc(alignment, size);
}

int __wrap_posix_memalign(void **out, size_t alignment, size_t size)
{
    allocations++;
    return __real_posix_memalign(out, alignment, size);
}

/* ---- a graph, its parameters and a program ---- */

typedef struct bench {
    device dev;
    arena *memory;
    graph *g;
    param *params[MAX_PARAMS];
    int param_count;
    unsigned trained; /* bit i: parameter i */
    value labels;
    program *p;
} bench;

static const step_info step = {.seed = 3, .step = 5};

static void open_bench(bench *s, const kernels *k, int threads, dtype weight_type, unsigned trained)
{
    inlay_error err;

    *s = (bench){.memory = arena_new(), .g = graph_new(k->real, weight_type), .trained = trained};
    ASSERT_OK(device_open(&s->dev, k, threads, &err));
    s->labels = graph_input(s->g, "labels", DTYPE_I32, 1, 1);
}

static void close_bench(bench *s)
{
    program_free(s->p);
    for (int i = 0; i < s->param_count; i++)
        param_release(s->params[i], &s->dev);
    graph_free(s->g);
    arena_free(s->memory);
    device_close(&s->dev);
}

/* rows 0: a vector */
static param *make_param(bench *s, int64_t rows, int64_t cols)
{
    param *p =
        param_new(s->memory, arena_printf(s->memory, "param%d", s->param_count), rows ? 2 : 1, rows ? (int64_t[]){rows, cols} : &cols);
    float *values = ARENA_ARRAY(s->memory, float, p->count);

    assert_true(s->param_count < MAX_PARAMS);
    rng_fill_normal(values, (uint64_t)p->count, 0, 0.3, (rng_stream){.purpose = RNG_TEST, .site = (uint32_t)s->param_count});
    p->source = values;
    p->source_type = DTYPE_F32;
    p->trainable = s->trained >> s->param_count & 1;
    return s->params[s->param_count++] = p;
}

static program *make_program(bench *s, bool backward, const value *wanted, int wanted_count, const value *given, int given_count)
{
    program_request request = {.dev = &s->dev,
                               .max_batch = BATCH,
                               .backward = backward,
                               .wanted = wanted,
                               .wanted_count = wanted_count,
                               .given = given,
                               .given_count = given_count};
    inlay_error err;
    program *p;

    ASSERT_OK(program_new(&p, s->g, &request, &err));
    return p;
}

static void fill_labels(const bench *s, program *p)
{
    int32_t *labels = program_value(p, s->labels, BATCH).data;

    for (int i = 0; i < BATCH; i++)
        labels[i] = (i + 1) % CLASSES;
}

static void fill_reals(const bench *s, program *p, value v)
{
    mat m = program_value(p, v, BATCH);
    int64_t count = m.rows * m.cols;
    float *values = ARENA_ARRAY(s->memory, float, count);

    rng_fill_normal(values, (uint64_t)count, 0, 1, (rng_stream){.seed = 2, .purpose = RNG_TEST});
    device_set_f32(&s->dev, m.data, values, count);
}

static double loss_of(const bench *s, program *p, value loss)
{
    program_forward(p, BATCH, &step);
    return real_at(s->dev.k, program_value(p, loss, BATCH).data, 0);
}

static value to_loss(bench *s, value x)
{
    value features = graph_mean_tokens(s->g, x, 0, s->g->values[x].rows);

    return graph_cross_entropy(s->g, graph_linear(s->g, features, make_param(s, CLASSES, s->g->values[x].cols), NULL, 0, 0), s->labels, 0);
}

/* ---- frozen means free ---- */

#define ROWS 6
#define WIDTH 8

/* Four products, one behind the other: parameters 0, 1, 2 and, of the head, 3. at[i]: the result of product i. */
typedef struct tower {
    value input, at[3], loss;
} tower;

static tower build_tower(bench *s)
{
    tower t = {.input = graph_input(s->g, "input", s->g->real, ROWS, WIDTH)};
    value x = t.input;

    for (int i = 0; i < 3; i++) {
        x = t.at[i] = graph_linear(s->g, x, make_param(s, WIDTH, WIDTH), NULL, 0, 0);
        graph_keep(s->g, x);
        x = graph_activation(s->g, x, ACT_GELU);
    }
    t.loss = to_loss(s, x);
    graph_finish(s->g);
    return t;
}

static void test_frozen(void **state)
{
    static const double product = 2.0 * ROWS * WIDTH * WIDTH, head = 2.0 * WIDTH * CLASSES;

    (void)state;
    for (unsigned trained = 1; trained < 16; trained++) {
        param *listed[MAX_PARAMS];
        double backward = 0;
        int count, lowest = 0;
        tower t;
        bench s;
        open_bench(&s, &kernels_reference, 1, DTYPE_F64, trained);
        t = build_tower(&s);
        s.p = make_program(&s, true, &t.loss, 1, NULL, 0);
        while (!(trained >> lowest & 1))
            lowest++;
        count = program_params(s.p, listed, MAX_PARAMS);
        for (int i = 0; i < 4; i++) { /* a product for its own weights when they are trained, and one for what lies below it */
            double flops = i < 3 ? product : head;
            bool ours = trained >> i & 1;
            backward += (ours ? flops : 0) + (i > lowest ? flops : 0);
            assert_int_equal(s.params[i]->grad != NULL, ours);
            assert_int_equal(s.params[i]->m != NULL && s.params[i]->v != NULL, ours);
            for (int j = 0; j < count; j++)
                ours = ours && listed[j] != s.params[i];
            assert_false(ours); /* every trained one is in the list */
        }
        assert_int_equal(count, __builtin_popcount(trained));
        for (int i = 0; i < 3; i++)
            assert_int_equal(program_grad(s.p, t.at[i], BATCH).data != NULL, i >= lowest);
        assert_null(program_grad(s.p, t.input, BATCH).data);
        assert_true(program_flops(s.p, false) == 3 * product + head);
        assert_true(program_flops(s.p, true) == 3 * product + head + backward);
        close_bench(&s);
    }
}

/* trained 0: inference */
static size_t memory_of(unsigned trained)
{
    size_t size;
    tower t;
    bench s;

    open_bench(&s, &kernels_reference, 1, DTYPE_F64, trained);
    t = build_tower(&s);
    s.p = make_program(&s, trained != 0, &t.loss, 1, NULL, 0);
    size = program_memory(s.p);
    close_bench(&s);
    return size;
}

/* Memory falls with what the gradient need not reach: below the lowest trained product nothing is remembered. */
static void test_memory(void **state)
{
    size_t inference = memory_of(0), head = memory_of(8), matrix = BATCH * ROWS * WIDTH * sizeof(double);

    (void)state;
    assert_true(memory_of(1) >= memory_of(2));
    assert_true(memory_of(2) > memory_of(4));
    assert_true(memory_of(4) > head);
    assert_true(head >= inference && head < inference + matrix);
}

/* ---- running allocates nothing ---- */

#define SIDE 12

typedef struct vit {
    value pixels, loss;
} vit;

static value product(bench *s, value x, int64_t n, bool bias)
{
    param *w = make_param(s, n, s->g->values[x].cols);

    return graph_linear(s->g, x, w, bias ? make_param(s, 0, n) : NULL, 0, 0);
}

static value norm(bench *s, value x)
{
    param *w = make_param(s, 0, s->g->values[x].cols);

    return graph_layernorm(s->g, x, w, make_param(s, 0, s->g->values[x].cols), 1e-6);
}

/* A small transformer in which every operation occurs. */
static vit build_vit(bench *s)
{
    static const float mean[] = {0.5f, 0.5f, 0.5f}, std[] = {0.5f, 0.5f, 0.5f};
    graph *g = s->g;
    vit m = {.pixels = graph_input(g, "pixels", DTYPE_U8, 1, SIDE * SIDE * 3)};
    value x, y, k;

    x = product(s, graph_patchify(g, m.pixels, SIDE, SIDE, 3, 4, mean, std), 24, true);
    x = graph_insert_tokens(g, x, graph_broadcast(g, make_param(s, 1, 24)), 0);
    x = graph_add_table(g, x, make_param(s, 10, 24));
    x = graph_replace_tokens(g, x, graph_broadcast(g, make_param(s, 2, 24)), 3);
    y = product(s, norm(s, x), 72, true);
    k = graph_layernorm_groups(g, y, make_param(s, 0, 8), NULL, 1e-6, 24, 3, 8);
    y = product(s, graph_attention(g, y, 0, k, 0, y, 48, 3, 8, 0.35), 24, true);
    x = graph_add(g, x, graph_drop_path(g, graph_affine(g, y, make_param(s, 0, 24), NULL, 1), 0.3));
    y = graph_activation(g, product(s, x, 40, false), ACT_GELU);
    y = product(s, graph_dropout(g, y, 0.1), 24, false);
    x = graph_add(g, x, graph_affine(g, y, make_param(s, 0, 1), NULL, 1));
    x = graph_add_columns(g, x, product(s, x, 7, false), 5);
    x = graph_drop_path(g, graph_activation(g, x, ACT_TANH), 0.2);
    y = graph_rational(g, x, make_param(s, 0, 6), make_param(s, 0, 4), true);
    k = graph_stack(g, graph_stack(g, NO_VALUE, x, 0, 2), y, 1, 2);
    x = graph_add_scaled(g, x, graph_gate(g, graph_mix(g, x, k, k, 2), make_param(s, 0, 2), 1, 0.5), 0.1);
    m.loss = to_loss(s, graph_select_tokens(g, x, 1, 4));
    m.loss = graph_add_scaled(g, m.loss, graph_distance(g, x, y), 0.1);
    m.loss = graph_add_scaled(g, m.loss, graph_consistency(g, graph_mean_tokens(g, x, 0, 4), graph_mean_tokens(g, y, 0, 4)), 0.1);
    m.loss = graph_add_scaled(g, m.loss, graph_identity_distance(g, make_param(s, 3, 3)), 0.1);
    graph_finish(g);
    return m;
}

static void check_every_operation(const graph *g)
{
    bool occurs[OP_COUNT] = {false};

    for (int i = 0; i < g->op_count; i++)
        if (!g->ops[i].dead)
            occurs[g->ops[i].kind] = true;
    for (int i = 0; i < OP_COUNT; i++)
        if (!occurs[i])
            fail_msg("'%s' does not occur in the model", op_table[i]->name);
}

/* As train.c does it; a changed parameter is packed again in the next step. */
static void train_step(bench *s, int64_t number)
{
    program_forward(s->p, BATCH, &step);
    program_backward(s->p, BATCH, &step);
    for (int i = 0; i < s->param_count; i++) {
        param *p = s->params[i];
        adamw_args args = {.value = p->data,
                           .m = p->m,
                           .v = p->v,
                           .grad = p->grad,
                           .count = p->count,
                           .step = number,
                           .lr = 1e-3,
                           .beta1 = 0.9,
                           .beta2 = 0.999,
                           .eps = 1e-8};
        if (p->trainable) {
            s->dev.k->adamw(&s->dev.c, &args);
            p->version++;
        }
    }
}

static void check_allocations(const kernels *k, dtype weight_type, unsigned trained)
{
    long before = allocations;
    bench s;
    vit m;

    open_bench(&s, k, 2, weight_type, trained);
    m = build_vit(&s);
    check_every_operation(s.g);
    s.p = make_program(&s, true, &m.loss, 1, NULL, 0);
    assert_true(allocations > before); /* they are counted */
    fill_labels(&s, s.p);
    memset(program_value(s.p, m.pixels, BATCH).data, 77, (size_t)BATCH * SIDE * SIDE * 3);
    before = allocations;
    for (int64_t i = 1; i <= 3; i++)
        train_step(&s, i);
    if (allocations != before)
        fail_msg("%s, %s weights: three training steps allocate %ld times", k->name, dtype_name(weight_type), allocations - before);
    close_bench(&s);
}

static void test_no_allocation(void **state)
{
    const kernels *sets[8];
    int count = kernel_sets(sets);

    (void)state;
    for (int i = 0; i < count; i++) {
        check_allocations(sets[i], sets[i]->real, ~0u);
        check_allocations(sets[i], sets[i]->real, 1u << 16);
        if (sets[i]->real == DTYPE_F32)
            check_allocations(sets[i], DTYPE_BF16, 0x25a5au);
    }
}

/* ---- bf16 ---- */

/* The gradients of a training step, all in one array. */
static double *gradients_of(const kernels *k, dtype weight_type, unsigned trained, size_t *count)
{
    double *all = NULL;
    bench s;
    vit m;

    open_bench(&s, k, 1, weight_type, trained);
    m = build_vit(&s);
    s.p = make_program(&s, true, &m.loss, 1, NULL, 0);
    fill_labels(&s, s.p);
    for (int i = 0; i < BATCH * SIDE * SIDE * 3; i++)
        ((uint8_t *)program_value(s.p, m.pixels, BATCH).data)[i] = (uint8_t)(rng_u32((rng_stream){.purpose = RNG_TEST}, (uint64_t)i) >> 24);
    program_forward(s.p, BATCH, &step);
    program_backward(s.p, BATCH, &step);
    *count = 0;
    for (int i = 0; i < s.param_count; i++)
        if (s.params[i]->trainable) {
            all = realloc(all, (*count + (size_t)s.params[i]->count) * sizeof *all);
            assert_non_null(all);
            for (int64_t j = 0; j < s.params[i]->count; j++)
                all[(*count)++] = real_at(k, s.params[i]->grad, j);
        }
    close_bench(&s);
    return all;
}

/* With bf16 for what is frozen, stored activations and some of their gradients are rounded: to 8 bits, not to something else. */
static void test_bf16(void **state)
{
    static const unsigned masks[] = {1u << 1, 0x25a5au, 0x1000u, 0x5a5a5u};
    const kernels *sets[8];
    int set_count = kernel_sets(sets);

    (void)state;
    for (int i = 0; i < set_count; i++)
        for (size_t j = 0; j < sizeof masks / sizeof *masks; j++) {
            double far = 0, size = 0, *exact, *rounded;
            size_t count, same;
            if (sets[i]->real != DTYPE_F32)
                continue;
            exact = gradients_of(sets[i], DTYPE_F32, masks[j], &count);
            rounded = gradients_of(sets[i], DTYPE_BF16, masks[j], &same);
            assert_int_equal(count, same);
            for (size_t n = 0; n < count; n++) {
                far += (exact[n] - rounded[n]) * (exact[n] - rounded[n]);
                size += exact[n] * exact[n];
            }
            free(exact);
            free(rounded);
            if (!(far < 0.015 * 0.015 * size) || far == 0)
                fail_msg("%s, trained %x: gradients with bf16 weights are %.3g away, in all", sets[i]->name, masks[j], sqrt(far / size));
        }
}

/* ---- branches: a sample that drop path drops does not enter, and the bits are those of computing it and multiplying by 0 ---- */

#define DROPPED 0.5
#define MANY 7

/* Two frozen blocks with trained parts before, between and behind them; the last one, like a ViT's, goes on with the first token only. */
static value build_dropping(bench *s)
{
    graph *g = s->g;
    value x = graph_input(g, "x", g->real, 5, 16), y;

    x = graph_affine(g, x, make_param(s, 0, 16), NULL, 1);
    for (int block = 0; block < 2; block++) {
        value norm_ = norm(s, x), first = block ? graph_select_tokens(g, norm_, 0, 1) : norm_;
        y = product(s, first, 16, false);
        y = graph_attention(g, y, 0, product(s, norm_, 32, false), 0, graph_select_tokens(g, product(s, norm_, 16, false), 0, 5), 0, 2, 8, 0.4);
        x = block ? graph_select_tokens(g, x, 0, 1) : x;
        x = graph_add(g, x, graph_drop_path(g, product(s, y, 16, false), DROPPED));
        y = graph_activation(g, product(s, norm(s, x), 40, false), ACT_GELU);
        x = graph_add(g, x, graph_drop_path(g, product(s, y, 16, false), DROPPED));
        x = graph_add(g, x, product(s, x, 16, false)); /* trained */
    }
    return to_loss(s, x);
}

static double *bits_of(const kernels *k, dtype weight_type, bool masked, uint32_t at, size_t *count)
{
    step_info now = {.seed = 3, .step = at};
    double *bits = NULL;
    value loss;
    bench s;
    mat x;

    open_bench(&s, k, 2, weight_type, 1u | 1u << 11 | 1u << 22);
    s.g->mask_samples = masked;
    loss = build_dropping(&s);
    graph_finish(s.g);
    assert_int_equal(s.g->branch_count, masked ? 0 : 4);
    program_request request = {.dev = &s.dev, .max_batch = MANY, .backward = true, .wanted = &loss, .wanted_count = 1};
    inlay_error err;
    ASSERT_OK(program_new(&s.p, s.g, &request, &err));
    for (value v = 0; v < s.g->value_count; v++)
        if (s.g->values[v].kind == VALUE_INPUT && v != s.labels) {
            x = program_value(s.p, v, MANY);
            float *values = ARENA_ARRAY(s.memory, float, x.rows * x.cols);
            rng_fill_normal(values, (uint64_t)(x.rows * x.cols), 0, 1, (rng_stream){.purpose = RNG_TEST, .site = 99});
            device_set_f32(&s.dev, x.data, values, x.rows * x.cols);
        }
    for (int i = 0; i < MANY; i++)
        ((int32_t *)program_value(s.p, s.labels, MANY).data)[i] = i % CLASSES;
    program_forward(s.p, MANY, &now);
    program_backward(s.p, MANY, &now);
    *count = 1;
    for (int i = 0; i < s.param_count; i++)
        *count += s.params[i]->trainable ? (size_t)s.params[i]->count : 0;
    bits = calloc(*count, sizeof *bits);
    bits[0] = k->real == DTYPE_F64 ? *(double *)program_value(s.p, loss, MANY).data : (double)*(float *)program_value(s.p, loss, MANY).data;
    size_t next = 1;
    for (int i = 0; i < s.param_count; i++)
        for (int64_t j = 0; s.params[i]->trainable && j < s.params[i]->count; j++)
            bits[next++] = k->real == DTYPE_F64 ? ((double *)s.params[i]->grad)[j] : (double)((float *)s.params[i]->grad)[j];
    close_bench(&s);
    return bits;
}

static void test_branches(void **state)
{
    const kernels *sets[8];
    int set_count = kernel_sets(sets);

    (void)state;
    for (int i = 0; i < set_count; i++)
        for (int bf16 = 0; bf16 < 2; bf16++)
            for (uint32_t at = 0; at < 6; at++) {
                dtype type = bf16 ? DTYPE_BF16 : sets[i]->real;
                size_t count, same;
                double *left_out = bits_of(sets[i], type, false, at, &count), *multiplied = bits_of(sets[i], type, true, at, &same), norm_ = 0;
                assert_int_equal(count, same);
                for (size_t n = 0; n < count; n++) {
                    norm_ += fabs(left_out[n]);
                    if (left_out[n] != multiplied[n])
                        fail_msg("%s, %s, step %u: value %zu is %.9g, with masks %.9g", sets[i]->name, dtype_name(type), at, n, left_out[n], multiplied[n]);
                }
                assert_true(norm_ > 0);
                free(left_out);
                free(multiplied);
            }
}

/* ---- buffers ---- */

static uint32_t below(uint32_t round, uint64_t i, uint32_t limit)
{
    return rng_u32((rng_stream){.seed = 8, .purpose = RNG_TEST, .step = round}, i) % limit;
}

static void test_layout(void **state)
{
    enum { COUNT = 60, MOMENTS = 40 };

    (void)state;
    for (uint32_t round = 0; round < 300; round++) {
        layout_buffer buffers[COUNT];
        int count = (int)below(round, 0, COUNT + 1);
        size_t total, largest = 0;
        for (int i = 0; i < count; i++) {
            uint64_t at = 4 * (uint64_t)i + 1;
            int start = (int)below(round, at, MOMENTS);
            buffers[i] = (layout_buffer){.size = below(round, at + 1, 8) ? below(round, at + 2, round % 2 ? 3000 : 130) : 0,
                                         .start = start,
                                         .end = start + (int)below(round, at + 3, MOMENTS / 2) - 1}; /* some end before they start */
        }
        total = layout_assign(buffers, count);
        for (int moment = 0; moment < 2 * MOMENTS; moment++) {
            size_t alive = 0;
            for (int i = 0; i < count; i++)
                if (buffers[i].start <= moment && moment <= buffers[i].end)
                    alive += buffers[i].size;
            largest = alive > largest ? alive : largest;
        }
        assert_true(total >= largest);
        for (int i = 0; i < count; i++) {
            const layout_buffer *a = &buffers[i];
            if (a->size == 0 || a->end < a->start)
                continue;
            assert_int_equal(a->offset % 64, 0);
            assert_true(a->offset + a->size <= total);
            for (int j = 0; j < i; j++) {
                const layout_buffer *b = &buffers[j];
                if (b->size > 0 && b->end >= b->start && a->start <= b->end && b->start <= a->end &&
                    !(a->offset + a->size <= b->offset || b->offset + b->size <= a->offset))
                    fail_msg("round %u: buffers %d and %d overlap", round, j, i);
            }
        }
    }
}

/* Buffers whose lives do not meet share their place. */
static void test_layout_reuse(void **state)
{
    layout_buffer chain[] = {
        {.size = 1000, .start = 0, .end = 1}, {.size = 900, .start = 1, .end = 2}, {.size = 800, .start = 2, .end = 3}};

    (void)state;
    assert_int_equal(layout_assign(chain, 3), 1024 + 960);
    assert_int_equal(chain[0].offset, chain[2].offset);
    assert_int_equal(layout_assign(chain, 0), 0);
}

/* ---- fusion ---- */

static int live_ops(const graph *g)
{
    int count = 0;

    for (int i = 0; i < g->op_count; i++)
        count += !g->ops[i].dead;
    return count;
}

/* The results of a product with all that it can take over: W, activation, gamma, drop path, residual. */
typedef struct chain {
    param *w, *b;
    value input, at[5], loss;
} chain;

static chain build_chain(bench *s)
{
    chain c = {.input = graph_input(s->g, "input", s->g->real, ROWS, WIDTH)};

    c.w = make_param(s, WIDTH, WIDTH);
    c.b = make_param(s, 0, WIDTH);
    c.at[0] = graph_linear(s->g, c.input, c.w, c.b, 0, 0);
    c.at[1] = graph_activation(s->g, c.at[0], ACT_SILU);
    c.at[2] = graph_affine(s->g, c.at[1], make_param(s, 0, WIDTH), NULL, 1);
    c.at[3] = graph_drop_path(s->g, c.at[2], 0.4);
    c.at[4] = graph_add(s->g, c.input, c.at[3]);
    c.loss = to_loss(s, c.at[4]);
    return c;
}

/* Value `kept` of the chain (-1: none) is kept: it exists, and so does its gradient; nothing else changes. */
static void check_kept(int kept, double *loss, double gradients[MAX_PARAMS])
{
    value wanted[2];
    bench s;
    chain c;

    open_bench(&s, &kernels_reference, 1, DTYPE_F64, ~0u);
    c = build_chain(&s);
    if (kept >= 0)
        graph_keep(s.g, c.at[kept]);
    graph_finish(s.g);
    /* mean, head, loss, and the chain: one product up to what is kept, and what comes behind as it was built */
    assert_int_equal(live_ops(s.g), kept < 0 ? 4 : 4 + 4 - kept);
    wanted[0] = c.loss;
    wanted[1] = kept >= 0 ? c.at[kept] : c.loss;
    s.p = make_program(&s, true, wanted, 2, NULL, 0);
    fill_labels(&s, s.p);
    fill_reals(&s, s.p, c.input);
    *loss = loss_of(&s, s.p, c.loss);
    program_backward(s.p, BATCH, &step);
    for (int i = 0; i < s.param_count; i++) {
        gradients[i] = 0;
        for (int64_t j = 0; j < s.params[i]->count; j++)
            gradients[i] += (double)(j % 7 + 1) * real_at(s.dev.k, s.params[i]->grad, j);
    }
    for (int i = 0; i < 5; i++) {
        if (i == kept) {
            mat y = program_value(s.p, c.at[i], BATCH), dy = program_grad(s.p, c.at[i], BATCH);
            assert_int_equal(y.rows, BATCH * ROWS);
            assert_non_null(dy.data);
            if (i == 0) { /* it is what it is called: x W^T + b */
                mat x = program_value(s.p, c.input, BATCH);
                double sum = real_at(s.dev.k, c.b->data, 2);
                for (int64_t j = 0; j < WIDTH; j++)
                    sum += get(&x, 4, j) * real_at(s.dev.k, c.w->data, 2 * WIDTH + j);
                assert_true(fabs(get(&y, 4, 2) - sum) < 1e-12);
            }
        } else if (i < (kept < 0 ? 4 : kept)) { /* merged: there is no such buffer */
            assert_null(program_value(s.p, c.at[i], BATCH).data);
        }
    }
    close_bench(&s);
}

static void test_keep(void **state)
{
    double loss, gradients[MAX_PARAMS] = {0};

    (void)state;
    check_kept(-1, &loss, gradients);
    for (int kept = 0; kept < 5; kept++) {
        double again, others[MAX_PARAMS] = {0};
        check_kept(kept, &again, others);
        assert_true(fabs(again - loss) < 1e-12);
        for (int i = 0; i < MAX_PARAMS; i++)
            assert_true(fabs(others[i] - gradients[i]) < 1e-10);
    }
}

/* What somebody else reads as well, and what comes out of order, stays an operation of its own. */
static void test_not_fused(void **state)
{
    bench s;
    value x, y, z;

    (void)state;
    open_bench(&s, &kernels_reference, 1, DTYPE_F64, ~0u);
    x = graph_input(s.g, "input", DTYPE_F64, ROWS, WIDTH);
    y = graph_linear(s.g, x, make_param(&s, WIDTH, WIDTH), NULL, 0, 0);
    z = graph_activation(s.g, y, ACT_GELU);
    graph_finish(s.g);
    assert_int_equal(live_ops(s.g), 1);
    close_bench(&s);

    open_bench(&s, &kernels_reference, 1, DTYPE_F64, ~0u);
    x = graph_input(s.g, "input", DTYPE_F64, ROWS, WIDTH);
    y = graph_linear(s.g, x, make_param(&s, WIDTH, WIDTH), NULL, 0, 0);
    z = graph_activation(s.g, y, ACT_GELU);
    graph_add(s.g, y, z); /* reads y again */
    graph_finish(s.g);
    assert_int_equal(live_ops(s.g), 3);
    close_bench(&s);

    open_bench(&s, &kernels_reference, 1, DTYPE_F64, ~0u);
    x = graph_input(s.g, "input", DTYPE_F64, ROWS, WIDTH);
    y = graph_linear(s.g, x, make_param(&s, WIDTH, WIDTH), NULL, 0, 0);
    y = graph_affine(s.g, graph_activation(s.g, y, ACT_GELU), NULL, NULL, 0.5);
    y = graph_activation(s.g, y, ACT_TANH);    /* behind a factor */
    y = graph_affine(s.g, y, NULL, NULL, 0.5); /* behind what did not fit */
    graph_finish(s.g);
    assert_int_equal(live_ops(s.g), 3);
    close_bench(&s);

    open_bench(&s, &kernels_reference, 1, DTYPE_F64, ~0u);
    x = graph_input(s.g, "input", DTYPE_F64, ROWS, WIDTH);
    y = graph_linear(s.g, x, make_param(&s, WIDTH, WIDTH), NULL, 0, 0);
    z = graph_linear(s.g, x, make_param(&s, WIDTH, WIDTH), NULL, 0, 0);
    graph_add(s.g, x, graph_add(s.g, y, z)); /* one residual each: z takes y, and then nobody is left for x */
    graph_finish(s.g);
    assert_int_equal(live_ops(s.g), 3);
    close_bench(&s);
}

/* ---- the fixed frontier ---- */

enum { TRAIN_LATE = 1, TRAIN_NOTHING = 2, TRAIN_FIRST = 4, EARLY_DROPOUT = 8, READ_INPUT = 16 };

/* Two frozen products, then one that may be trained, with a residual from the first or from the input. at: the frozen products' results. */
typedef struct late {
    value input, at[2], loss;
} late;

static late build_late(bench *s, int variant)
{
    late l = {.input = graph_input(s->g, "input", s->g->real, ROWS, WIDTH)};
    param *first, *second, *third;
    value x;

    s->trained = variant & TRAIN_LATE ? 1u << 2 : variant & TRAIN_FIRST ? 1u : 0;
    first = make_param(s, WIDTH, WIDTH);
    second = make_param(s, WIDTH, WIDTH);
    third = make_param(s, WIDTH, WIDTH);
    x = variant & EARLY_DROPOUT ? graph_dropout(s->g, l.input, 0.2) : l.input;
    l.at[0] = graph_layernorm(s->g, graph_linear(s->g, x, first, NULL, 0, 0), NULL, NULL, 1e-6);
    l.at[1] = graph_activation(s->g, graph_linear(s->g, l.at[0], second, NULL, 0, 0), ACT_GELU);
    x = graph_add(s->g, variant & READ_INPUT ? l.input : l.at[0], graph_linear(s->g, l.at[1], third, NULL, 0, 0));
    l.loss = to_loss(s, graph_activation(s->g, x, ACT_TANH));
    graph_finish(s->g);
    return l;
}

static int count_frontier(int variant)
{
    value frontier[4];
    int count;
    bench s;
    late l;

    open_bench(&s, &kernels_reference, 1, DTYPE_F64, 0);
    l = build_late(&s, variant);
    count = graph_fixed_frontier(s.g, l.loss, frontier, 4);
    close_bench(&s);
    return count;
}

static void test_frontier(void **state)
{
    value frontier[4] = {NO_VALUE, NO_VALUE, NO_VALUE, NO_VALUE}, one[2] = {NO_VALUE, NO_VALUE};
    program *whole;
    double loss;
    bench s;
    late l;

    (void)state;
    assert_int_equal(count_frontier(TRAIN_NOTHING), 0); /* nothing that is not fixed reads anything */
    assert_int_equal(count_frontier(TRAIN_FIRST), 0);   /* the input is read by what is trained */
    assert_int_equal(count_frontier(TRAIN_LATE | READ_INPUT), 0);
    assert_int_equal(count_frontier(TRAIN_LATE | EARLY_DROPOUT), 0);

    open_bench(&s, &kernels_reference, 1, DTYPE_F64, 0);
    l = build_late(&s, TRAIN_LATE);
    assert_int_equal(graph_fixed_frontier(s.g, l.loss, frontier, 4), 2); /* in the order of the product's inputs: x, residual */
    assert_int_equal(frontier[0], l.at[1]);
    assert_int_equal(frontier[1], l.at[0]);
    assert_int_equal(graph_fixed_frontier(s.g, l.loss, one, 1), 2); /* the number is the whole one, with room for less */
    assert_int_equal(one[0], l.at[1]);
    assert_int_equal(one[1], NO_VALUE);
    assert_int_equal(graph_fixed_frontier(s.g, l.at[1], frontier, 4), 0);

    /* the values themselves, given to a program, are as good as what lies below them; they are still there after a step */
    whole = make_program(&s, false, (value[]){l.loss, frontier[0], frontier[1]}, 3, NULL, 0);
    fill_labels(&s, whole);
    fill_reals(&s, whole, l.input);
    loss = loss_of(&s, whole, l.loss);
    s.p = make_program(&s, true, &l.loss, 1, frontier, 2);
    fill_labels(&s, s.p);
    for (int i = 0; i < 2; i++)
        memcpy(program_value(s.p, frontier[i], BATCH).data, program_value(whole, frontier[i], BATCH).data,
               value_bytes(s.g, frontier[i], BATCH));
    assert_null(program_value(s.p, l.input, BATCH).data);
    assert_true(program_flops(s.p, false) == program_flops(whole, false) - 2 * 2.0 * ROWS * WIDTH * WIDTH);
    for (int i = 0; i < 3; i++) {
        assert_true(loss_of(&s, s.p, l.loss) == loss);
        program_backward(s.p, BATCH, &step);
        assert_null(program_grad(s.p, frontier[0], BATCH).data);
    }
    assert_non_null(s.params[2]->grad);
    program_free(whole);
    close_bench(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_frozen), cmocka_unit_test(test_memory),    cmocka_unit_test(test_no_allocation),
        cmocka_unit_test(test_bf16),   cmocka_unit_test(test_branches), cmocka_unit_test(test_layout),    cmocka_unit_test(test_layout_reuse),
        cmocka_unit_test(test_keep),   cmocka_unit_test(test_not_fused), cmocka_unit_test(test_frontier),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
