/* The backward pass of every operation against central differences, in double precision. A case builds one operation
 * over values that the test gives; what follows makes its gradient another one for each element. A row of ops.def
 * without a case fails. */
#include "graph/op_cases.h"

/* ---- the reference device, noting what is called ---- */

static kernel_set called;

#define X(name, parameters, arguments)    \
    static void noted_##name parameters   \
    {                                     \
        called |= USES(name);             \
        kernels_reference.name arguments; \
    }
#include "kernels/kernels.def"
#undef X

static kernels noted;
static const kernels none; /* a row without any kernel */

static int open_noted(void **state)
{
    (void)state;
    noted = kernels_reference;
#define X(name, parameters, arguments) noted.name = noted_##name;
#include "kernels/kernels.def"
#undef X
    return 0;
}

/* ---- from the operation's result to a loss ---- */

static value add_logits(setup *s, value logits, value x)
{
    const value_info *info = &s->g->values[x];
    value more =
        graph_linear(s->g, graph_mean_tokens(s->g, x, 0, info->rows), make_param(s, CLASSES, info->cols), NULL, 0, 0);

    return logits == NO_VALUE ? more : graph_add(s->g, logits, more);
}

/* A table and tanh let the mean's gradient, the same for all rows, become another one for each element; and no product
 * takes an add_table over. */
static value to_loss(setup *s, value y)
{
    const value_info *info = &s->g->values[y];
    value logits;

    y = graph_add_table(s->g, y, make_param(s, info->rows, info->cols));
    logits = add_logits(s, NO_VALUE, graph_activation(s->g, y, ACT_TANH));
    for (int i = 0; i < s->given_count && s->readers != OTHERS_NONE; i++)
        logits = add_logits(s, logits,
                            s->readers == OTHERS_BEFORE ? s->side[i] : graph_activation(s->g, s->given[i], ACT_TANH));
    return graph_cross_entropy(s->g, logits, s->labels, 0);
}

static void fill_inputs(setup *s)
{
    int32_t *labels = program_value(s->p, s->labels, s->s.batch).data;

    for (int64_t i = 0; labels && i < s->s.batch; i++) /* not every loss has labels */
        labels[i] = (int32_t)((i + 1) % CLASSES);
    for (int i = 0; i < s->given_count; i++) {
        mat m = program_value(s->p, s->filled[i], s->s.batch);
        device_set_f32(&s->dev, m.data, draw(s, m.rows * m.cols), m.rows * m.cols);
    }
    if (s->ids != NO_VALUE) { /* some come several times, some are of no row */
        mat m = program_value(s->p, s->ids, s->s.batch);
        for (int64_t i = 0; i < m.rows; i++)
            ((int32_t *)m.data)[i] = (int32_t)(i / 2 % (s->s.rows + 2)) - 1;
    }
    if (s->row_labels != NO_VALUE) { /* some rows do not count */
        mat m = program_value(s->p, s->row_labels, s->s.batch);
        float *weights = program_value(s->p, s->row_weights, s->s.batch).data;
        for (int64_t i = 0; i < m.rows; i++) {
            weights[i] = (float)((i + 1) % 4) * 0.3f;
            ((int32_t *)m.data)[i] = weights[i] == 0 ? -100 : (int32_t)(i % CLASSES);
        }
    }
    if (s->pixels != NO_VALUE) {
        mat m = program_value(s->p, s->pixels, s->s.batch);
        for (int64_t i = 0; i < m.rows * m.cols; i++) {
            uint8_t byte = (uint8_t)(rng_u32((rng_stream){.seed = 4, .purpose = RNG_TEST}, (uint64_t)i) >> 24);
            if (m.type == DTYPE_U8)
                ((uint8_t *)m.data)[i] = byte;
            else
                ((float *)m.data)[i] = (float)byte + 0.25f;
        }
    }
}

static void open_setup(setup *s, const op_case *row, shape size, int only, others readers, bool live)
{
    inlay_error err;
    value y;

    *s = (setup){.row = row,
                 .s = size,
                 .only = only,
                 .readers = readers,
                 .live = live,
                 .memory = arena_new(),
                 .g = graph_new(&noted, DTYPE_F64),
                 .tested = NO_VALUE,
                 .pixels = NO_VALUE,
                 .ids = NO_VALUE,
                 .row_labels = NO_VALUE};
    ASSERT_OK(device_open(&s->dev, &noted, 1, &err));
    s->labels = graph_target(s->g, "labels", DTYPE_I32, 1, 1);
    y = row->build(s, row->variant);
    if (s->tested == NO_VALUE)
        s->tested = y;
    s->loss = s->g->values[y].batched ? to_loss(s, y) : y;
    graph_finish(s->g);
    program_request request = {.dev = &s->dev,
                               .max_batch = size.max_batch,
                               .slice = live ? 2 : 0, /* of a batch of three, two slices whose gradients add up */
                               .backward = true,
                               .wanted = &s->loss,
                               .wanted_count = 1,
                               .given = s->given,
                               .given_count = live ? 0 : s->given_count};
    ASSERT_OK(program_new(&s->p, s->g, &request, &err));
    fill_inputs(s);
}

static void close_setup(setup *s)
{
    program_free(s->p);
    for (value v = 0; v < s->g->value_count; v++)
        if (s->g->values[v].kind == VALUE_PARAM)
            param_release(s->g->values[v].p, &s->dev);
    graph_free(s->g);
    arena_free(s->memory);
    device_close(&s->dev);
}

/* ---- differences ---- */

static const step_info step = {.seed = 13, .step = 3};

static double loss_of(setup *s)
{
    program_forward(s->p, s->s.batch, &step);
    return *(double *)program_value(s->p, s->loss, s->s.batch).data;
}

/* p: the parameter whose values these are, NULL: a given value's */
static void check_differences(setup *s, const char *what, int index, double *x, const double *grad, int64_t count,
                              param *p)
{
    int64_t stride = count / 20 + 1;
    double largest = 0;

    for (int64_t i = 0; i < count; i += stride) {
        double kept = x[i], h = 1e-5, at[2], numeric;
        for (int side = 0; side < 2; side++) {
            x[i] = side ? kept - h : kept + h;
            if (p)
                param_changed(p);
            at[side] = loss_of(s);
        }
        x[i] = kept;
        numeric = (at[0] - at[1]) / (2 * h);
        if (!(fabs(numeric - grad[i]) <= 1e-6 * (1e-3 + fabs(numeric))))
            fail_msg("%s (%lld x %lld, others %d, only %d, live %d): gradient of %s %d [%lld] is %.9g, differences "
                     "give %.9g",
                     s->row->name, (long long)s->s.rows, (long long)s->s.cols, (int)s->readers, s->only, (int)s->live,
                     what, index, (long long)i, grad[i], numeric);
        largest = fabs(numeric) > largest ? fabs(numeric) : largest;
    }
    if (p)
        param_changed(p);
    if (largest < 1e-6)
        fail_msg("%s (%lld x %lld): no gradient reaches %s %d", s->row->name, (long long)s->s.rows,
                 (long long)s->s.cols, what, index);
}

static void check_params(setup *s)
{
    param *listed[MAX_ITEMS];
    int count = program_params(s->p, listed, MAX_ITEMS), trainable = 0;

    for (int i = 0; i < s->param_count; i++) {
        param *p = s->params[i];
        bool found = false;
        for (int j = 0; j < count; j++)
            found |= listed[j] == p;
        assert_int_equal(found, p->trainable);
        assert_int_equal(p->grad != NULL, p->trainable);
        if (p->trainable)
            check_differences(s, "parameter", i, p->data, p->grad, p->count, p);
        trainable += p->trainable;
    }
    assert_int_equal(trainable, count);
}

/* What the graph became: the operation is there under its own name, or a product took all of it over. */
static void check_form(const setup *s)
{
    const op_node *op = &s->g->ops[s->g->values[s->tested].producer];
    int variant = s->row->variant;

    if (op->kind != s->row->kind)
        fail_msg("%s became '%s'", s->row->name, op_table[op->kind]->name);
    if (op->kind != OP_linear)
        return;
    assert_int_equal(op->a.act, variant & ACT ? ACT_GELU : ACT_NONE);
    assert_int_equal(op->in[3] != NO_VALUE, (variant & GAMMA) != 0);
    assert_true(op->a.scale == (variant & FACTOR ? 0.7 : 1));
    assert_true(op->a.rate == (variant & DROP ? RATE : 0));
    assert_int_equal(op->in[4] != NO_VALUE, (variant & (RESIDUAL | SELF | SHARED)) != 0);
}

static kernel_set used[OP_COUNT]; /* what was called while a case of it ran */

/* Only what the operations of the graph say that they use was called. */
static void check_uses(const setup *s)
{
    kernel_set said = USES(add) | USES(pack) | (s->g->branch_count ? USES(copy_rows) : 0);

    used[s->row->kind] |= called;
    for (int i = 0; i < s->g->op_count; i++)
        said |= op_table[s->g->ops[i].kind]->uses | op_table[s->g->ops[i].kind]->backward_uses;
    if (called & ~said)
        fail_msg("operation '%s' calls '%s' without saying so", s->row->name, kernels_lack(&none, called & ~said));
}

static int check_case(const op_case *row, shape size, int only, others readers, bool live)
{
    double *grads[MAX_ITEMS] = {0};
    int items;
    setup s;

    called = 0;
    open_setup(&s, row, size, only, readers, live);
    check_form(&s);
    loss_of(&s);
    program_step(s.p, s.s.batch, &step);
    for (int i = 0; i < s.given_count && !live; i++) { /* forward passes write where gradients were */
        mat grad = program_grad(s.p, s.given[i], s.s.batch);
        int64_t count = grad.rows * grad.cols;
        assert_int_equal(grad.data != NULL, s.g->values[s.given[i]].needs_grad);
        if (grad.data)
            grads[i] = memcpy(ARENA_ARRAY(s.memory, double, count), grad.data, (size_t)count * sizeof *grads[i]);
    }
    if (!op_table[row->kind]->backward) {
        const op_node *op = &s.g->ops[s.g->values[s.tested].producer];
        assert_null(program_grad(s.p, op->out, s.s.batch).data);
        assert_null(program_grad(s.p, op->in[0], s.s.batch).data);
    }
    check_params(&s);
    for (int i = 0; i < s.given_count; i++) {
        mat m = program_value(s.p, s.given[i], s.s.batch);
        if (grads[i])
            check_differences(&s, "given value", i, m.data, grads[i], m.rows * m.cols, NULL);
    }
    items = s.items;
    check_uses(&s);
    close_setup(&s);
    return items;
}

static void check_shape(const op_case *row, shape size, bool live)
{
    int items = 0;

    for (int readers = 0; readers < OTHERS_COUNT; readers++)
        items = check_case(row, size, -1, (others)readers, live);
    for (int only = 0; only < items && items > 1; only++)
        check_case(row, size, only, OTHERS_NONE, live);
}

static void test_gradients(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (size_t j = 0; j < sizeof shapes / sizeof *shapes; j++) {
            check_shape(&cases[i], shapes[j], false);
            check_shape(&cases[i], shapes[j], true);
        }
}

/* Differences agree with whatever the forward pass computes; here the builder may choose among several forms, so the
 * values are checked as well. */
static void test_affine(void **state)
{
    static const int variants[] = {CHANNEL,        CHANNEL | BETA, CHANNEL | BETA | FIXED, BETA, BETA | FIXED, SINGLE,
                                   SINGLE | FIXED, SINGLE | BETA,  SINGLE | BETA | FIXED,  FIXED};

    (void)state;
    for (size_t i = 0; i < sizeof variants / sizeof *variants; i++) {
        int variant = variants[i], next = 0;
        op_case row = {OP_affine, "affine", build_affine, variant};
        const float *gamma = NULL, *beta = NULL;
        inlay_error err;
        program *p;
        setup s;
        open_setup(&s, &row, shapes[1], -1, OTHERS_NONE, false);
        program_request request = {
            .dev = &s.dev, .max_batch = 2, .wanted = &s.tested, .wanted_count = 1, .given = s.given, .given_count = 1};
        ASSERT_OK(program_new(&p, s.g, &request, &err));
        gamma = variant & (CHANNEL | SINGLE) ? s.params[next++]->source : NULL;
        beta = variant & BETA ? s.params[next]->source : NULL;
        mat x = program_value(p, s.given[0], 2), y = program_value(p, s.tested, 2);
        device_set_f32(&s.dev, x.data, draw(&s, x.rows * x.cols), x.rows * x.cols);
        program_forward(p, 2, &step);
        for (int64_t r = 0; r < y.rows; r++)
            for (int64_t c = 0; c < y.cols; c++) {
                double scale = gamma ? (double)gamma[variant & SINGLE ? 0 : c] : 1,
                       right = get(&x, r, c) * scale * (variant & FIXED ? -1.3 : 1) + (beta ? (double)beta[c] : 0);
                if (fabs(get(&y, r, c) - right) > 1e-12)
                    fail_msg("affine %d at %lld, %lld: %.9g instead of %.9g", variant, (long long)r, (long long)c,
                             get(&y, r, c), right);
            }
        program_free(p);
        close_setup(&s);
    }
}

/* ---- the table ---- */

static void test_every_row(void **state)
{
    bool covered[OP_COUNT] = {[OP_consistency] = true /* test_consistency.c */},
         activations[ACT_COUNT] = {[ACT_NONE] = true};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        covered[cases[i].kind] = true;
        if (cases[i].kind == OP_activation)
            activations[cases[i].variant] = true;
    }
    for (int i = 0; i < OP_COUNT; i++)
        if (!covered[i])
            fail_msg("operation '%s' has no case", op_table[i]->name);
    for (int i = 0; i < ACT_COUNT; i++)
        if (!activations[i])
            fail_msg("activation '%s' has no case", activation_name((activation)i));
}

/* What an operation says that it uses was called in one of its cases. */
static void test_uses(void **state)
{
    (void)state;
    for (int i = 0; i < OP_COUNT; i++) {
        kernel_set idle = (op_table[i]->uses | op_table[i]->backward_uses) & ~used[i];
        if (used[i] && idle)
            fail_msg("operation '%s' never calls '%s', which it says that it uses", op_table[i]->name,
                     kernels_lack(&none, idle));
    }
}

/* A device without a kernel: what needs it is refused by name, everything else runs. */
static void test_missing_kernels(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const op_desc *op = op_table[cases[i].kind];
        program_request request = {.max_batch = 2, .wanted_count = 1, .given_count = 0};
        program *p;
        inlay_error err;
        setup s;
        open_setup(&s, &cases[i], shapes[0], -1, OTHERS_NONE, false);
        kernels poor = noted;
        s.dev.k = &poor;
        request.dev = &s.dev;
        request.wanted = &s.tested;
        request.given = s.given;
        request.given_count = s.given_count;
#define X(name, parameters, arguments)                                                        \
    poor.name = NULL;                                                                         \
    if (op->uses & USES(name)) {                                                              \
        assert_int_equal(program_new(&p, s.g, &request, &err), INLAY_ERR_UNSUPPORTED);        \
        assert_non_null(strstr(err.message, "has no kernel '" #name "', which operation '")); \
    }                                                                                         \
    poor.name = noted.name;
#include "kernels/kernels.def"
#undef X
        close_setup(&s);
    }
}

/* The cases with drop path are worth something only when one sample is dropped and another is not. */
static void test_masks(void **state)
{
    rng_stream stream = {.seed = step.seed, .purpose = RNG_DROP_PATH, .stream = 0, .step = step.step};

    (void)state;
    assert_int_not_equal(rng_uniform(stream, 0) < RATE, rng_uniform(stream, 1) < RATE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_gradients), cmocka_unit_test(test_affine),
                                       cmocka_unit_test(test_every_row), cmocka_unit_test(test_masks),
                                       cmocka_unit_test(test_uses),      cmocka_unit_test(test_missing_kernels)};

    return cmocka_run_group_tests(tests, open_noted, NULL);
}
