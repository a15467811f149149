/* What happens to a graph while it is built and when it is finished: equal operations become one, products take over
 * what follows them unless it is kept, and what is fixed can be given from outside. */
#include "graph/graph_bench.h"

/* ---- equal operations ---- */

static void test_merged(void **state)
{
    param *w, *b;
    value x, y;
    bench s;

    (void)state;
    open_bench(&s, &kernels_reference, 1, DTYPE_F64, EVERYTHING);
    w = make_param(&s, WIDTH, WIDTH);
    b = make_param(&s, 0, WIDTH);
    x = graph_input(s.g, "input", DTYPE_F64, ROWS, WIDTH);
    y = graph_linear(s.g, x, w, b, 0, 0);
    assert_int_equal(graph_linear(s.g, x, w, b, 0, 0), y);
    assert_int_equal(graph_linear(s.g, x, w, b, 0, WIDTH), y);
    assert_int_not_equal(graph_linear(s.g, x, w, NULL, 0, 0), y);
    assert_int_not_equal(graph_linear(s.g, x, w, b, 1, WIDTH - 1), y);
    assert_int_equal(graph_layernorm(s.g, y, b, NULL, 1e-6), graph_layernorm(s.g, y, b, NULL, 1e-6));
    assert_int_not_equal(graph_layernorm(s.g, y, b, NULL, 1e-6), graph_layernorm(s.g, y, b, NULL, 1e-5));
    assert_int_equal(graph_select_tokens(s.g, y, 1, 2), graph_select_tokens(s.g, y, 1, 2));
    assert_int_not_equal(graph_select_tokens(s.g, y, 1, 2), graph_select_tokens(s.g, y, 2, 2));
    assert_int_not_equal(graph_dropout(s.g, y, 0.5), graph_dropout(s.g, y, 0.5)); /* draw numbers of their own */
    assert_int_not_equal(graph_drop_path(s.g, y, 0.5), graph_drop_path(s.g, y, 0.5));
    close_bench(&s);
}

/* ---- parameters that stand for one of several ---- */

static double loss_with(bench *s, param *w, const step_info *at)
{
    value input = graph_input(s->g, "input", DTYPE_F64, ROWS, WIDTH), loss;

    loss = to_loss(s, graph_linear(s->g, input, w, NULL, 0, 0));
    graph_finish(s->g);
    s->p = make_program(s, true, &loss, 1, NULL, 0);
    fill_labels(s, s->p);
    fill_reals(s, s->p, input);
    program_step(s->p, BATCH, at);
    return real_at(s->dev.k, program_value(s->p, loss, BATCH).data, 0);
}

enum { EXPERTS = 3 };

static void make_experts(bench *s, param *experts[EXPERTS])
{
    open_bench(s, &kernels_reference, 1, DTYPE_F64, EVERYTHING);
    for (int i = 0; i < EXPERTS; i++)
        experts[i] = make_param(s, WIDTH, WIDTH);
}

static void test_choice(void **state)
{
    bool drawn[EXPERTS] = {false};

    (void)state;
    for (uint32_t number = 0; number < 12; number++) {
        step_info at = {.seed = 6, .step = number};
        param *experts[EXPERTS], *listed[MAX_PARAMS];
        int chosen = -1;
        double loss;
        bench s;
        make_experts(&s, experts);
        loss = loss_with(&s, param_choose(s.memory, experts, EXPERTS, 4), &at);
        assert_int_equal(program_params(s.p, listed, MAX_PARAMS), EXPERTS + 1); /* and the head */
        for (int i = 0; i < EXPERTS; i++) {
            double size = 0;
            for (int64_t j = 0; j < experts[i]->count; j++)
                size += fabs(real_at(s.dev.k, experts[i]->grad, j));
            assert_int_equal(size > 0, param_touched(experts[i]));
            if (param_touched(experts[i])) {
                assert_int_equal(chosen, -1);
                chosen = i;
            }
        }
        assert_in_range(chosen, 0, EXPERTS - 1);
        drawn[chosen] = true;
        close_bench(&s);

        make_experts(&s, experts); /* the same with that one alone */
        assert_true(loss_with(&s, experts[chosen], &at) == loss);
        close_bench(&s);
    }
    for (int i = 0; i < EXPERTS; i++)
        assert_true(drawn[i]);
}

/* ---- dependencies ---- */

/* Nothing below an operation without a backward pass is trained, even when it is meant to be. */
static void test_no_backward(void **state)
{
    static const float mean[] = {0.5f}, std[] = {0.25f};
    param *listed[MAX_PARAMS];
    value x, y, loss;
    bench s;

    (void)state;
    open_bench(&s, &kernels_reference, 1, DTYPE_F64, EVERYTHING);
    x = graph_broadcast(s.g, make_param(&s, 16, 1));
    y = graph_patchify(s.g, x, 4, 4, 1, 2, mean, std);
    graph_keep(s.g, x);
    graph_keep(s.g, y);
    loss = to_loss(&s, y);
    graph_finish(s.g);
    s.p = make_program(&s, true, &loss, 1, NULL, 0);
    assert_int_equal(program_params(s.p, listed, MAX_PARAMS), 1);
    assert_ptr_equal(listed[0], s.params[1]); /* the head */
    assert_null(program_grad(s.p, x, BATCH).data);
    assert_null(program_grad(s.p, y, BATCH).data);
    close_bench(&s);
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
    chain c = {.input = graph_input(s->g, "input", s->dev.k->real, ROWS, WIDTH)};

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

    open_bench(&s, &kernels_reference, 1, DTYPE_F64, EVERYTHING);
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
    program_step(s.p, BATCH, &step);
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
    open_bench(&s, &kernels_reference, 1, DTYPE_F64, EVERYTHING);
    x = graph_input(s.g, "input", DTYPE_F64, ROWS, WIDTH);
    y = graph_linear(s.g, x, make_param(&s, WIDTH, WIDTH), NULL, 0, 0);
    z = graph_activation(s.g, y, ACT_GELU);
    graph_finish(s.g);
    assert_int_equal(live_ops(s.g), 1);
    close_bench(&s);

    open_bench(&s, &kernels_reference, 1, DTYPE_F64, EVERYTHING);
    x = graph_input(s.g, "input", DTYPE_F64, ROWS, WIDTH);
    y = graph_linear(s.g, x, make_param(&s, WIDTH, WIDTH), NULL, 0, 0);
    z = graph_activation(s.g, y, ACT_GELU);
    graph_add(s.g, y, z); /* reads y again */
    graph_finish(s.g);
    assert_int_equal(live_ops(s.g), 3);
    close_bench(&s);

    open_bench(&s, &kernels_reference, 1, DTYPE_F64, EVERYTHING);
    x = graph_input(s.g, "input", DTYPE_F64, ROWS, WIDTH);
    y = graph_linear(s.g, x, make_param(&s, WIDTH, WIDTH), NULL, 0, 0);
    y = graph_affine(s.g, graph_activation(s.g, y, ACT_GELU), NULL, NULL, 0.5);
    y = graph_activation(s.g, y, ACT_TANH);    /* behind a factor */
    y = graph_affine(s.g, y, NULL, NULL, 0.5); /* behind what did not fit */
    graph_finish(s.g);
    assert_int_equal(live_ops(s.g), 3);
    close_bench(&s);

    open_bench(&s, &kernels_reference, 1, DTYPE_F64, EVERYTHING);
    x = graph_input(s.g, "input", DTYPE_F64, ROWS, WIDTH);
    y = graph_linear(s.g, x, make_param(&s, WIDTH, WIDTH), NULL, 0, 0);
    z = graph_linear(s.g, x, make_param(&s, WIDTH, WIDTH), NULL, 0, 0);
    graph_add(s.g, x, graph_add(s.g, y, z)); /* one residual each: z takes y, and then nobody is left for x */
    graph_finish(s.g);
    assert_int_equal(live_ops(s.g), 3);
    close_bench(&s);
}

/* ---- patches ---- */

enum { SIDE = 12, PATCH = 4, PATCHES = 9 };

/* A product of patches; with the loss, the gradients and the operations of the forward pass that come of it. */
typedef struct patched {
    value pixels, patches, embedded;
    double loss, gradients, flops;
    bool fused;
    int frontier;
} patched;

/* One number of all gradients of a step. */
static double gradients_of(bench *s)
{
    double total = 0;

    program_step(s->p, BATCH, &step);
    for (int i = 0; i < s->param_count; i++)
        for (int64_t j = 0; s->params[i]->trainable && j < s->params[i]->count; j++)
            total += (double)(i + j % 7 + 1) * real_at(s->dev.k, s->params[i]->grad, j);
    return total;
}

static patched run_patches(const kernels *k, dtype weight_type, uint64_t trained, bool keep, bool twice)
{
    static const float mean[] = {0.5f, 0.4f, 0.3f}, std[] = {0.25f, 0.2f, 0.3f};
    value frontier[4], loss;
    param *w, *b;
    patched r = {0};
    uint8_t *bytes;
    bench s;

    open_bench(&s, k, 2, weight_type, trained);
    s.slice = 2;
    r.pixels = graph_input(s.g, "pixels", DTYPE_U8, 1, SIDE * SIDE * 3);
    r.patches = graph_patchify(s.g, r.pixels, SIDE, SIDE, 3, PATCH, mean, std);
    w = make_param(&s, 20, 3 * PATCH * PATCH);
    b = make_param(&s, 0, 20);
    r.embedded = graph_activation(s.g, graph_linear(s.g, r.patches, w, b, 0, 0), ACT_GELU);
    if (keep)
        graph_keep(s.g, r.patches);
    loss = to_loss(&s, graph_affine(s.g, r.embedded, make_param(&s, 0, 20), make_param(&s, 0, 20), 1));
    if (twice)
        (void)graph_linear(s.g, r.patches, w, NULL, 0, 0);
    graph_finish(s.g);
    r.fused = s.g->ops[s.g->values[r.embedded].producer].in[0] == r.pixels;
    assert_int_equal(s.g->ops[s.g->values[r.patches].producer].dead, r.fused);
    r.frontier = graph_fixed_frontier(s.g, loss, frontier, 4);
    if (r.frontier) /* the last fixed value */
        assert_int_equal(frontier[0], trained & 3 ? r.patches : r.embedded);
    s.p = make_program(&s, true, &loss, 1, NULL, 0);
    assert_true(r.fused == !program_value(s.p, r.patches, BATCH).data);
    r.flops = program_flops(s.p, true);
    bytes = program_value(s.p, r.pixels, BATCH).data;
    for (uint64_t i = 0; i < BATCH * SIDE * SIDE * 3; i++)
        bytes[i] = (uint8_t)(rng_u32((rng_stream){.seed = 4, .purpose = RNG_TEST}, i) >> 24);
    fill_labels(&s, s.p);
    r.loss = loss_of(&s, s.p, loss);
    r.gradients = gradients_of(&s);
    close_bench(&s);
    return r;
}

/* A frozen product makes its patches itself, with the same bits. Where it has something to train, and where somebody
 * else reads them, the patches are stored. */
static void test_patches(void **state)
{
    const kernels *sets[MOST_SETS];
    int count = kernel_sets(sets);

    (void)state;
    for (int i = 0; i < count; i++)
        for (int bf16 = 0; bf16 < 2; bf16++)
            for (unsigned trained = 0; trained < 4;
                 trained++) { /* of the product: nothing, weights, bias, both; of what comes behind it, all */
                dtype type = bf16 ? DTYPE_BF16 : sets[i]->real;
                uint64_t mask = EVERYTHING << 2 | trained;
                patched found = run_patches(sets[i], type, mask, false, false),
                        stored = run_patches(sets[i], type, mask, true, false);
                assert_int_equal(found.fused, trained == 0);
                assert_false(stored.fused);
                assert_int_equal(found.frontier, 1);
                assert_int_equal(stored.frontier, 1);
                assert_true(found.flops == stored.flops && found.flops >= 2.0 * PATCHES * 20 * 3 * PATCH * PATCH);
                if (!(found.loss == stored.loss && found.gradients == stored.gradients))
                    fail_msg("%s, %s weights, trained %u: loss %.9g and %.9g", sets[i]->name, dtype_name(type), trained,
                             found.loss, stored.loss);
                assert_true(found.gradients != 0);
                assert_false(run_patches(sets[i], type, mask, false, true).fused);
            }
}

/* ---- LayerNorm in front of products with int8 weights ---- */

enum { CODES_TRAINED = 1, CODES_OTHER_READER = 2, CODES_KEPT = 4, CODES_BF16_WEIGHTS = 8 };

typedef struct normalised {
    dtype type;
    double loss, gradients;
} normalised;

static normalised run_normalised(const kernels *k, int variant)
{
    bench s;
    param *w[2];
    value input, first, x, y, loss;
    normalised r = {0};

    open_bench(&s, k, 2, DTYPE_I8, 1 | (variant & CODES_TRAINED ? 2 : 0) | EVERYTHING << 5);
    s.slice = 2;
    input = graph_input(s.g, "input", k->real, ROWS, WIDTH);
    first = graph_linear(s.g, input, make_param(&s, WIDTH, WIDTH), NULL, 0,
                         0); /* trained: a gradient passes what follows */
    w[0] = make_param(&s, WIDTH, WIDTH);
    w[1] = make_param(&s, WIDTH, WIDTH);
    w[0]->quantised = w[1]->quantised = !(variant & CODES_BF16_WEIGHTS);
    x = graph_layernorm(s.g, first, make_param(&s, 0, WIDTH), make_param(&s, 0, WIDTH), 1e-6);
    y = graph_add(s.g, graph_linear(s.g, x, w[0], NULL, 0, 0),
                  graph_activation(s.g, graph_linear(s.g, x, w[1], NULL, 0, 0), ACT_GELU));
    if (variant & CODES_OTHER_READER)
        (void)graph_activation(s.g, x, ACT_GELU);
    if (variant & CODES_KEPT)
        graph_keep(s.g, x);
    loss = to_loss(&s, y);
    graph_finish(s.g);
    r.type = s.g->values[x].type;
    s.p = make_program(&s, true, &loss, 1, NULL, 0);
    fill_reals(&s, s.p, input);
    fill_labels(&s, s.p);
    r.loss = loss_of(&s, s.p, loss);
    r.gradients = gradients_of(&s);
    close_bench(&s);
    return r;
}

/* It writes their bytes where nobody reads anything else of it, with the same bits. */
static void test_codes(void **state)
{
    const kernels *sets[MOST_SETS];
    int count = kernel_sets(sets);

    (void)state;
    for (int i = 0; i < count; i++) {
        normalised coded = run_normalised(sets[i], 0), read = run_normalised(sets[i], CODES_OTHER_READER),
                   kept = run_normalised(sets[i], CODES_KEPT);
        assert_int_equal(coded.type, DTYPE_U8);
        assert_int_not_equal(read.type, DTYPE_U8);
        assert_int_equal(kept.type, sets[i]->real);
        assert_int_not_equal(run_normalised(sets[i], CODES_TRAINED).type, DTYPE_U8);
        assert_int_equal(run_normalised(sets[i], CODES_BF16_WEIGHTS).type, DTYPE_BF16);
        if (!(coded.loss == read.loss && coded.gradients == read.gradients && coded.loss == kept.loss &&
              coded.gradients == kept.gradients))
            fail_msg("%s: loss %.9g and %.9g, gradients %.9g and %.9g", sets[i]->name, coded.loss, read.loss,
                     coded.gradients, read.gradients);
        assert_true(coded.gradients != 0);
    }
}

/* ---- the fixed frontier ---- */

enum { TRAIN_LATE = 1, TRAIN_NOTHING = 2, TRAIN_FIRST = 4, EARLY_DROPOUT = 8, READ_INPUT = 16 };

/* Two frozen products, then one that may be trained, with a residual from the first or from the input. at: the frozen
 * products' results. */
typedef struct late {
    value input, at[2], loss;
} late;

static late build_late(bench *s, int variant)
{
    late l = {.input = graph_input(s->g, "input", s->dev.k->real, ROWS, WIDTH)};
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
    assert_int_equal(graph_fixed_frontier(s.g, l.loss, frontier, 4),
                     2); /* in the order of the product's inputs: x, residual */
    assert_int_equal(frontier[0], l.at[1]);
    assert_int_equal(frontier[1], l.at[0]);
    assert_int_equal(graph_fixed_frontier(s.g, l.loss, one, 1),
                     2); /* the number is the whole one, with room for less */
    assert_int_equal(one[0], l.at[1]);
    assert_int_equal(one[1], NO_VALUE);
    assert_int_equal(graph_fixed_frontier(s.g, l.at[1], frontier, 4), 0);

    /* the values themselves, given to a program, are as good as what lies below them; they are still there after a step
     */
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
        program_step(s.p, BATCH, &step);
        assert_null(program_grad(s.p, frontier[0], BATCH).data);
    }
    assert_non_null(s.params[2]->grad);
    program_free(whole);
    close_bench(&s);
}

/* ---- what a value is a function of ---- */

static void count_param(void *context, const param *p)
{
    (void)p;
    ++*(int *)context;
}

typedef struct described {
    double eps;
    bool extra;      /* something beside it that does not lead to it */
    int64_t columns; /* of the first matrix that are used */
} described;

static char *describe(described how, int *params)
{
    bench s;
    param *w, *b, *other;
    value x, y;
    char *text = NULL;
    size_t length = 0;
    FILE *out = open_memstream(&text, &length);

    open_bench(&s, &kernels_reference, 1, DTYPE_F64, 0);
    w = make_param(&s, WIDTH, WIDTH);
    b = make_param(&s, 0, WIDTH);
    other = make_param(&s, WIDTH, WIDTH);
    x = graph_input(s.g, "input", DTYPE_F64, ROWS, WIDTH);
    if (how.extra)
        (void)graph_linear(s.g, x, other, NULL, 0, 0);
    y = graph_layernorm(s.g, x, b, NULL, how.eps);
    y = graph_linear(s.g, y, w, NULL, 0, how.columns);
    graph_keep(s.g, y);
    graph_finish(s.g);
    *params = 0;
    assert_true(graph_describe(s.g, &y, 1, out, count_param, params));
    fclose(out);
    s.p = NULL;
    close_bench(&s);
    return text;
}

static void test_described(void **state)
{
    const described plain = {.eps = 1e-6};
    int params;
    char *text = describe(plain, &params), *other;

    (void)state;
    assert_int_equal(params, 2);
    assert_non_null(strstr(text, "layernorm"));
    assert_string_equal(text, (other = describe((described){.eps = 1e-6, .extra = true}, &params)));
    assert_int_equal(params, 2);
    free(other);
    assert_string_not_equal(text, (other = describe((described){.eps = 1e-5}, &params)));
    free(other);
    assert_string_not_equal(text, (other = describe((described){.eps = 1e-6, .columns = 1}, &params)));
    free(other);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_merged),  cmocka_unit_test(test_choice),    cmocka_unit_test(test_no_backward),
        cmocka_unit_test(test_keep),    cmocka_unit_test(test_not_fused), cmocka_unit_test(test_frontier),
        cmocka_unit_test(test_patches), cmocka_unit_test(test_codes),     cmocka_unit_test(test_described),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
