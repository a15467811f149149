/* The planner: what is frozen costs nothing, running allocates nothing, rounding stays rounding, buffers do not
 * overlap, and memory is shared. The build lets the linker send this program's allocations through the counters below.
 */
#include "graph/graph_bench.h"

#include <stdatomic.h>

#include "graph/layout.h"

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

/* ---- frozen means free ---- */

/* Four products, one behind the other: parameters 0, 1, 2 and, of the head, 3. at[i]: the result of product i. */
typedef struct tower {
    value input, at[3], loss;
} tower;

static tower build_tower(bench *s)
{
    tower t = {.input = graph_input(s->g, "input", s->dev.k->real, ROWS, WIDTH)};
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
        for (int i = 0; i < 4;
             i++) { /* a product for its own weights when they are trained, and one for what lies below it */
            double flops = i < 3 ? product : head;
            bool ours = trained >> i & 1;
            backward += (ours ? flops : 0) + (i > lowest ? flops : 0);
            assert_int_equal(s.params[i]->grad != NULL, ours);
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
static size_t memory_of(uint64_t trained)
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
    value pixels, ids, labels, weights, loss;
} vit;

static value product(bench *s, value x, int64_t n, bool bias)
{
    param *w = make_param(s, n, graph_cols(s->g, x));

    return graph_linear(s->g, x, w, bias ? make_param(s, 0, n) : NULL, 0, 0);
}

/* One of an adapter's parameters. */
static param *own(param *p)
{
    p->exact = true;
    return p;
}

static value norm(bench *s, value x)
{
    param *w = make_param(s, 0, graph_cols(s->g, x));

    return graph_layernorm(s->g, x, w, make_param(s, 0, graph_cols(s->g, x)), 1e-6);
}

/* A small transformer in which every operation occurs. */
static vit build_vit(bench *s)
{
    static const float mean[] = {0.5f, 0.5f, 0.5f}, std[] = {0.5f, 0.5f, 0.5f};
    graph *g = s->g;
    vit m = {.pixels = graph_input(g, "pixels", DTYPE_U8, 1, SIDE * SIDE * 3),
             .ids = graph_input(g, "ids", DTYPE_I32, 10, 1),
             .labels = graph_target(g, "row labels", DTYPE_I32, 10, 1),
             .weights = graph_target(g, "row weights", DTYPE_F32, 10, 1)};
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
    y = graph_activation(g, graph_linear(g, x, own(make_param(s, 5, 24)), own(make_param(s, 0, 5)), 0, 0), ACT_GELU);
    x = graph_add(g, x,
                  graph_drop_path(g,
                                  graph_affine(g, graph_linear(g, y, own(make_param(s, 24, 5)), NULL, 0, 0),
                                               own(make_param(s, 0, 24)), NULL, 1),
                                  0.2));
    x = graph_drop_path(g, graph_activation(g, x, ACT_TANH), 0.2);
    y = graph_rational(g, x, make_param(s, 0, 6), make_param(s, 0, 4), true);
    k = graph_stack(g, graph_stack(g, NO_VALUE, x, 0, 2), y, 1, 2);
    x = graph_add_scaled(g, x, graph_gate(g, graph_mix(g, x, k, k, 2), make_param(s, 0, 2), 1, 0.5), 0.1);
    m.loss = to_loss(s, graph_select_tokens(g, x, 1, 4));
    m.loss = graph_add_scaled(g, m.loss, graph_distance(g, x, y), 0.1);
    m.loss = graph_add_scaled(g, m.loss,
                              graph_consistency(g, graph_mean_tokens(g, x, 0, 4), graph_mean_tokens(g, y, 0, 4)), 0.1);
    m.loss = graph_add_scaled(
        g, m.loss,
        graph_binary_cross_entropy(g, graph_mean_tokens(g, x, 0, 4), graph_broadcast(g, make_param(s, 1, 24))), 0.1);
    m.loss = graph_add_scaled(g, m.loss, graph_identity_distance(g, make_param(s, 3, 3)), 0.1);
    y = graph_patchify(g, m.pixels, SIDE, SIDE, 3, 6, mean, std);
    graph_keep(g, y); /* no product takes these patches over */
    m.loss =
        graph_add_scaled(g, m.loss, graph_distance(g, graph_select_tokens(g, x, 2, 4), product(s, y, 24, false)), 0.1);
    k = graph_multiply(g, x, graph_activation(g, x, ACT_SIGMOID));
    m.loss = graph_add_scaled(g, m.loss, graph_distance(g, x, k), 0.1);
    m.loss = graph_add_scaled(
        g, m.loss, graph_distance(g, graph_concat(g, (value[]){x, k}, 2), graph_concat(g, (value[]){k, x}, 2)), 0.1);
    m.loss =
        graph_add_scaled(g, m.loss, graph_distance(g, graph_windows(g, x, 3, 2, 1), graph_windows(g, k, 3, 2, 1)), 0.1);
    m.loss = graph_add_scaled(g, m.loss, graph_distance(g, x, graph_gather(g, make_param(s, 7, 24), m.ids)), 0.1);
    m.loss = graph_add_scaled(
        g, m.loss, graph_distance(g, graph_upsample(g, x, 5, 2, 3, 4), graph_upsample(g, k, 5, 2, 3, 4)), 0.1);
    m.loss = graph_add_scaled(g, m.loss, graph_row_cross_entropy(g, x, m.labels, m.weights, 0.1), 0.1);
    graph_finish(g);
    return m;
}

static void fill_rows(const bench *s, const vit *m)
{
    mat ids = program_value(s->p, m->ids, BATCH);
    int32_t *labels = program_value(s->p, m->labels, BATCH).data;
    float *weights = program_value(s->p, m->weights, BATCH).data;

    for (int64_t i = 0; i < ids.rows; i++) {
        ((int32_t *)ids.data)[i] = (int32_t)(i % 8);
        labels[i] = i % 3 ? (int32_t)(i % 24) : -100;
        weights[i] = i % 3 ? 0.1f : 0;
    }
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

/* AdamW's, of parameter `i`, made when they are first asked for. */
static void **moments_of(bench *s, int i)
{
    for (int j = 0; j < 2 && s->params[i]->trainable && !s->moments[i][j]; j++)
        s->moments[i][j] = s->dev.k->alloc((size_t)s->params[i]->count * dtype_size(s->dev.k->real));
    return s->moments[i];
}

/* As train.c does it; a changed parameter is packed again in the next step. */
static void train_step(bench *s, int64_t number)
{
    program_step(s->p, BATCH, &step);
    for (int i = 0; i < s->param_count; i++) {
        param *p = s->params[i];
        adamw_args args = {.value = p->data,
                           .m = moments_of(s, i)[0],
                           .v = moments_of(s, i)[1],
                           .grad = p->grad,
                           .count = p->count,
                           .step = number,
                           .lr = 1e-3,
                           .beta1 = 0.9,
                           .beta2 = 0.999,
                           .eps = 1e-8};
        if (p->trainable) {
            s->dev.k->adamw(&s->dev.c, &args, 1);
            param_changed(p);
        }
    }
}

static void check_allocations(const kernels *k, dtype weight_type, uint64_t trained)
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
    fill_rows(&s, &m);
    memset(program_value(s.p, m.pixels, BATCH).data, 77, (size_t)BATCH * SIDE * SIDE * 3);
    for (int i = 0; i < s.param_count; i++)
        moments_of(&s, i);
    before = allocations;
    for (int64_t i = 1; i <= 3; i++)
        train_step(&s, i);
    if (allocations != before)
        fail_msg("%s, %s weights: three training steps allocate %ld times", k->name, dtype_name(weight_type),
                 allocations - before);
    close_bench(&s);
}

static void test_no_allocation(void **state)
{
    const kernels *sets[MOST_SETS];
    int count = kernel_sets(sets);

    (void)state;
    for (int i = 0; i < count; i++) {
        check_allocations(sets[i], sets[i]->real, EVERYTHING);
        check_allocations(sets[i], sets[i]->real, 1u << 16);
        if (sets[i]->real == DTYPE_F32)
            check_allocations(sets[i], DTYPE_BF16, 0x25a5au);
    }
}

/* ---- slices ---- */

/* What a training step of the whole transformer leaves: the loss, and the gradients of all parameters one behind the
 * other. */
static double *step_in_slices(int64_t slice, double *loss, int64_t *count)
{
    double *all = NULL;
    bench s;
    vit m;

    open_bench(&s, &kernels_reference, 1, DTYPE_F64, EVERYTHING);
    s.slice = slice;
    m = build_vit(&s);
    s.p = make_program(&s, true, &m.loss, 1, NULL, 0);
    fill_labels(&s, s.p);
    fill_rows(&s, &m);
    for (int i = 0; i < BATCH * SIDE * SIDE * 3; i++)
        ((uint8_t *)program_value(s.p, m.pixels, BATCH).data)[i] =
            (uint8_t)(rng_u32((rng_stream){.purpose = RNG_TEST}, (uint64_t)i) >> 24);
    program_step(s.p, BATCH, &step);
    *loss = *(double *)program_value(s.p, m.loss, BATCH).data;
    *count = 0;
    for (int i = 0; i < s.param_count; i++) {
        all = realloc(all, (size_t)(*count + s.params[i]->count) * sizeof *all);
        assert_non_null(all);
        memcpy(all + *count, s.params[i]->grad, (size_t)s.params[i]->count * sizeof *all);
        *count += s.params[i]->count;
    }
    close_bench(&s);
    return all;
}

static void test_slices(void **state)
{
    double whole_loss, loss, *whole, *sliced;
    int64_t count;

    (void)state;
    whole = step_in_slices(BATCH, &whole_loss, &count);
    for (int64_t slice = 1; slice < BATCH; slice++) {
        sliced = step_in_slices(slice, &loss, &count);
        assert_true(fabs(loss - whole_loss) < 1e-12);
        for (int64_t i = 0; i < count; i++)
            assert_true(fabs(sliced[i] - whole[i]) < 1e-12 * (1 + fabs(whole[i])));
        free(sliced);
    }
    free(whole);
}

/* What is given, wanted or kept is there for every sample of the batch, whatever the slices. */
static void test_slices_outside(void **state)
{
    double kept[2][BATCH * ROWS * WIDTH];
    bench s[2];
    tower t[2];

    (void)state;
    for (int i = 0; i < 2; i++) {
        open_bench(&s[i], &kernels_reference, 1, DTYPE_F64, 1u << 1);
        s[i].slice = i ? 1 : BATCH;
        t[i] = build_tower(&s[i]);
        s[i].p = make_program(&s[i], true, (value[]){t[i].loss, t[i].at[2]}, 2, &t[i].at[0], 1);
        fill_labels(&s[i], s[i].p);
        fill_reals(&s[i], s[i].p, t[i].at[0]);
        program_step(s[i].p, BATCH, &step);
        memcpy(kept[i], program_grad(s[i].p, t[i].at[2], BATCH).data, sizeof kept[i]);
    }
    assert_true(loss_of(&s[0], s[0].p, t[0].loss) > 0);
    assert_memory_equal(kept[0], kept[1], sizeof kept[0]);
    assert_memory_equal(program_value(s[0].p, t[0].at[2], BATCH).data, program_value(s[1].p, t[1].at[2], BATCH).data,
                        sizeof kept[0]);
    for (int i = 0; i < BATCH * ROWS * WIDTH; i += ROWS * WIDTH) /* of each sample */
        assert_true(kept[0][i] != 0);
    close_bench(&s[0]);
    close_bench(&s[1]);
}

/* ---- bf16 ---- */

/* The gradients of a training step, all in one array. */
static double *gradients_of(const kernels *k, dtype weight_type, uint64_t trained, size_t *count)
{
    double *all = NULL;
    bench s;
    vit m;

    open_bench(&s, k, 1, weight_type, trained);
    m = build_vit(&s);
    s.p = make_program(&s, true, &m.loss, 1, NULL, 0);
    fill_labels(&s, s.p);
    fill_rows(&s, &m);
    for (int i = 0; i < BATCH * SIDE * SIDE * 3; i++)
        ((uint8_t *)program_value(s.p, m.pixels, BATCH).data)[i] =
            (uint8_t)(rng_u32((rng_stream){.purpose = RNG_TEST}, (uint64_t)i) >> 24);
    program_step(s.p, BATCH, &step);
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

/* With bf16 for what is frozen, stored activations and some of their gradients are rounded: to 8 bits, not to something
 * else. */
static void test_bf16(void **state)
{
    static const unsigned masks[] = {1u << 1, 0x25a5au, 0x1000u, 0x5a5a5u};
    const kernels *sets[MOST_SETS];
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
                fail_msg("%s, trained %x: gradients with bf16 weights are %.3g away, in all", sets[i]->name, masks[j],
                         sqrt(far / size));
        }
}

/* ---- branches: a sample that drop path drops does not enter, and the bits are those of computing it and multiplying
 * by 0 ---- */

#define DROPPED 0.5
#define MANY 7

/* Two frozen blocks with trained parts before, between and behind them; the last one, like a ViT's, goes on with the
 * first token only. */
static value build_dropping(bench *s)
{
    graph *g = s->g;
    value x = graph_input(g, "x", g->real, 5, 16), y;

    x = graph_affine(g, x, make_param(s, 0, 16), NULL, 1);
    for (int block = 0; block < 2; block++) {
        value norm_ = norm(s, x), first = block ? graph_select_tokens(g, norm_, 0, 1) : norm_;
        y = product(s, first, 16, false);
        y = graph_attention(g, y, 0, product(s, norm_, 32, false), 0,
                            graph_select_tokens(g, product(s, norm_, 16, false), 0, 5), 0, 2, 8, 0.4);
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
            float *values = ARENA_ARRAY(s.memory, float, x.rows *x.cols);
            rng_fill_normal(values, (uint64_t)(x.rows * x.cols), 0, 1, (rng_stream){.purpose = RNG_TEST, .stream = 99});
            device_set_f32(&s.dev, x.data, values, x.rows * x.cols);
        }
    for (int i = 0; i < MANY; i++)
        ((int32_t *)program_value(s.p, s.labels, MANY).data)[i] = i % CLASSES;
    program_step(s.p, MANY, &now);
    *count = 1;
    for (int i = 0; i < s.param_count; i++)
        *count += s.params[i]->trainable ? (size_t)s.params[i]->count : 0;
    bits = calloc(*count, sizeof *bits);
    bits[0] = k->real == DTYPE_F64 ? *(double *)program_value(s.p, loss, MANY).data
                                   : (double)*(float *)program_value(s.p, loss, MANY).data;
    size_t next = 1;
    for (int i = 0; i < s.param_count; i++)
        for (int64_t j = 0; s.params[i]->trainable && j < s.params[i]->count; j++)
            bits[next++] =
                k->real == DTYPE_F64 ? ((double *)s.params[i]->grad)[j] : (double)((float *)s.params[i]->grad)[j];
    close_bench(&s);
    return bits;
}

static void test_branches(void **state)
{
    const kernels *sets[MOST_SETS];
    int set_count = kernel_sets(sets);

    (void)state;
    for (int i = 0; i < set_count; i++)
        for (int bf16 = 0; bf16 < 2; bf16++)
            for (uint32_t at = 0; at < 6; at++) {
                dtype type = bf16 ? DTYPE_BF16 : sets[i]->real;
                size_t count, same;
                double *left_out = bits_of(sets[i], type, false, at, &count),
                       *multiplied = bits_of(sets[i], type, true, at, &same), norm_ = 0;
                assert_int_equal(count, same);
                for (size_t n = 0; n < count; n++) {
                    norm_ += fabs(left_out[n]);
                    if (left_out[n] != multiplied[n])
                        fail_msg("%s, %s, step %u: value %zu is %.9g, with masks %.9g", sets[i]->name, dtype_name(type),
                                 at, n, left_out[n], multiplied[n]);
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

static size_t whole_lines(size_t size)
{
    return (size + 63) / 64 * 64;
}

/* Whether buffer i could lie at `offset` beside the larger ones, and those of its size in front of it. */
static bool is_free(const layout_buffer *buffers, int count, int i, size_t offset)
{
    const layout_buffer *a = &buffers[i];

    for (int j = 0; j < count; j++) {
        const layout_buffer *b = &buffers[j];
        if (b->size > 0 && b->end >= b->start && (b->size > a->size || (b->size == a->size && j < i)) &&
            a->start <= b->end && b->start <= a->end && offset < b->offset + whole_lines(b->size) &&
            b->offset < offset + whole_lines(a->size))
            return false;
    }
    return true;
}

/* Each at the lowest free place: the block's begin and the ends of the others are all that there can be. */
static void check_lowest(const layout_buffer *buffers, int count, int i)
{
    assert_true(is_free(buffers, count, i, buffers[i].offset));
    assert_false(buffers[i].offset > 0 && is_free(buffers, count, i, 0));
    for (int j = 0; j < count; j++) {
        size_t end = buffers[j].offset + whole_lines(buffers[j].size);
        if (j != i && buffers[j].size > 0 && buffers[j].end >= buffers[j].start && end < buffers[i].offset)
            assert_false(is_free(buffers, count, i, end));
    }
}

static void test_layout(void **state)
{
    enum { COUNT = 60, MOMENTS = 40 };

    (void)state;
    for (uint32_t round = 0; round < 300; round++) {
        layout_buffer buffers[COUNT];
        int count = (int)below(round, 0, COUNT + 1);
        uint32_t longest = round % 4 < 2 ? MOMENTS / 2 : 4;
        size_t total, largest = 0;
        for (int i = 0; i < count; i++) {
            uint64_t at = 4 * (uint64_t)i + 1;
            int start = (int)below(round, at, MOMENTS);
            buffers[i] =
                (layout_buffer){.size = below(round, at + 1, 8) ? below(round, at + 2, round % 2 ? 3000 : 130) : 0,
                                .start = start,
                                .end = start + (int)below(round, at + 3, longest) - 1}; /* some end before they start */
            if (round % 3 == 0 && i % 4 == 0) { /* these are there all the time */
                buffers[i].start = 0;
                buffers[i].end = 2 * MOMENTS;
            }
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
            check_lowest(buffers, count, i);
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

/* Two programs that never run at once live in the same memory, and each finds its own way in it. */
static void test_share(void **state)
{
    program *small;
    double loss, again;
    inlay_error err;
    size_t alone;
    tower t;
    bench s;

    (void)state;
    open_bench(&s, &kernels_reference, 1, DTYPE_F64, EVERYTHING);
    t = build_tower(&s);
    small = make_program(&s, false, &t.loss, 1, NULL, 0);
    alone = program_memory(small);
    program_request request = {
        .dev = &s.dev, .max_batch = BATCH, .backward = true, .wanted = &t.loss, .wanted_count = 1, .share = small};
    ASSERT_OK(program_new(&s.p, s.g, &request, &err)); /* needs more: the memory of both grows */
    assert_int_equal(program_memory(small), alone);
    for (int i = 0; i < 2; i++) {
        fill_labels(&s, s.p);
        fill_reals(&s, s.p, t.input);
        loss = loss_of(&s, s.p, t.loss);
        program_step(s.p, BATCH, &step);
        fill_labels(&s, small);
        fill_reals(&s, small, t.input);
        again = loss_of(&s, small, t.loss);
        assert_true(loss == again);
    }
    program_free(small); /* the other one still has the memory */
    fill_labels(&s, s.p);
    fill_reals(&s, s.p, t.input);
    assert_true(loss_of(&s, s.p, t.loss) == loss);
    close_bench(&s);
}

/* ---- no memory ---- */

static void *no_memory(size_t size)
{
    (void)size;
    return NULL;
}

/* A form for which there is no memory leaves nothing behind: it is made when there is some. */
static void test_no_memory_for_a_form(void **state)
{
    static const float weights[2][2] = {{1, 2}, {3, 4}};
    kernels poor = kernels_reference;
    device d;
    inlay_error err;

    (void)state;
    poor.alloc = no_memory;
    ASSERT_OK(device_open(&d, &kernels_reference, 1, &err));
    for (int plain = 0; plain < 2; plain++) {
        arena *memory = arena_new();
        param *p = param_new(memory, "weights", 2, (int64_t[]){2, 2});
        device without = d;
        const packed *panels;
        without.k = &poor;
        p->source = weights;
        p->source_type = DTYPE_F32;
        for (int again = 0; again < 2; again++) {
            assert_int_equal(plain ? param_prepare(p, &without, &err)
                                   : param_panels(p, &without, 0, 2, DTYPE_F64, false, &panels, &err),
                             INLAY_ERR_NOMEM);
            assert_string_equal(err.message, "out of memory: packed weights of 'weights'");
        }
        ASSERT_OK(param_prepare(p, &d, &err));
        assert_true(((const double *)param_values(p, &d))[3] == 4);
        param_release(p, &d);
        arena_free(memory);
    }
    device_close(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_frozen),
        cmocka_unit_test(test_memory),
        cmocka_unit_test(test_no_allocation),
        cmocka_unit_test(test_bf16),
        cmocka_unit_test(test_slices),
        cmocka_unit_test(test_slices_outside),
        cmocka_unit_test(test_branches),
        cmocka_unit_test(test_layout),
        cmocka_unit_test(test_layout_reuse),
        cmocka_unit_test(test_share),
        cmocka_unit_test(test_no_memory_for_a_form),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
