/* Operations against those of PyTorch (tools/oracle_operations.py): results, losses and gradients of convolutions over
 * time, interpolation, embeddings, and losses of rows, of several labels and of numbers; whole and in slices. */
#include "graph/graph_bench.h"

#include "formats/tensors.h"

/* One operation. The value x is given, and its gradient kept. */
typedef struct trial {
    const char *name;
    const tensor_set *oracle;
    bench s;
    int64_t batch;
    value x, result, loss;
    value filled[3]; /* inputs, by the names of their tensors */
    const char *filled_as[3];
    int filled_count;
    param *trained;
    const char *trained_as;
} trial;

static const tensor_view *tensor(const trial *t, const char *what)
{
    const tensor_view *found;
    char name[64];

    snprintf(name, sizeof name, "%s.%s", t->name, what);
    found = tensor_set_find(t->oracle, name);
    if (!found)
        fail_msg("the oracle has no '%s'", name);
    return found;
}

static float *floats(const trial *t, const char *what)
{
    const tensor_view *v = tensor(t, what);

    return memcpy(ARENA_ARRAY(t->s.memory, float, v->count), v->data, (size_t)v->count * sizeof(float));
}

static value input(trial *t, const char *what)
{
    const tensor_view *v = tensor(t, what);

    t->filled_as[t->filled_count] = what;
    t->batch = v->dims[0];
    return t->filled[t->filled_count++] = graph_input(t->s.g, what, v->type, v->dims[1], v->ndim > 2 ? v->dims[2] : 1);
}

/* A value that wants a gradient, and which the test supplies. */
static value x_of(trial *t)
{
    const tensor_view *v = tensor(t, "x");
    param *below = make_param(&t->s, 0, v->dims[2]);

    below->trainable = true;
    t->batch = v->dims[0];
    t->x = graph_affine(t->s.g, graph_input(t->s.g, "below", t->s.dev.k->real, v->dims[1], v->dims[2]), below, NULL, 1);
    graph_keep(t->s.g, t->x);
    return t->x;
}

static param *own_param(trial *t, const char *what, int ndim, const int64_t *dims, const float *values)
{
    param *p = make_param(&t->s, ndim > 1 ? dims[0] : 0, dims[ndim - 1]);

    param_set_source(p, values, DTYPE_F32, false);
    p->trainable = p->exact = true;
    t->trained = p;
    t->trained_as = what;
    return p;
}

/* [out, in, width] as the matrix of graph_windows: [out, width * in]. */
static float *by_windows(const trial *t, const float *w, const tensor_view *v)
{
    float *m = ARENA_ARRAY(t->s.memory, float, v->count);

    for (int64_t o = 0; o < v->dims[0]; o++)
        for (int64_t i = 0; i < v->dims[1]; i++)
            for (int64_t k = 0; k < v->dims[2]; k++)
                m[(o * v->dims[2] + k) * v->dims[1] + i] = w[(o * v->dims[1] + i) * v->dims[2] + k];
    return m;
}

static void build_conv1d(trial *t, int64_t stride, int64_t padding)
{
    const tensor_view *w = tensor(t, "weight");
    int64_t dims[] = {w->dims[0], w->dims[1] * w->dims[2]};
    param *bias = own_param(t, "bias", 1, dims, floats(t, "bias")),
          *weight = own_param(t, "weight", 2, dims, by_windows(t, floats(t, "weight"), w));

    t->result = graph_linear(t->s.g, graph_windows(t->s.g, x_of(t), w->dims[2], stride, padding), weight, bias, 0, 0);
}

static void build(trial *t)
{
    graph *g = t->s.g;

    if (strncmp(t->name, "conv1d", 6) == 0) {
        bool apart = strcmp(t->name, "conv1d_apart") == 0, strided = strcmp(t->name, "conv1d_strided") == 0;
        build_conv1d(t, apart ? 4 : strided ? 2 : 1, !apart);
    } else if (strcmp(t->name, "upsample") == 0) {
        t->result = graph_upsample(g, x_of(t), 3, 4, 7, 9);
    } else if (strcmp(t->name, "upsample_whole") == 0) {
        t->result = graph_upsample(g, x_of(t), 2, 3, 8, 12);
    } else if (strcmp(t->name, "upsample_less") == 0) {
        t->result = graph_upsample(g, x_of(t), 5, 6, 2, 4);
    } else if (strcmp(t->name, "embedding") == 0) {
        param *table = own_param(t, "table", 2, tensor(t, "table")->dims, floats(t, "table"));
        t->result = graph_gather(g, table, input(t, "ids"));
    } else if (strcmp(t->name, "binary") == 0) {
        t->loss = graph_binary_cross_entropy(g, x_of(t), input(t, "target"));
    } else if (strcmp(t->name, "distance") == 0) {
        t->loss = graph_distance(g, x_of(t), input(t, "target"));
    } else {
        value x = x_of(t), labels = input(t, "labels"), weights = graph_input(g, "weights", DTYPE_F32, 6, 1);
        t->filled[t->filled_count] = weights;
        t->filled_as[t->filled_count++] = "weights";
        t->loss = graph_row_cross_entropy(g, x, labels, weights, strcmp(t->name, "rows_smoothed") == 0 ? 0.1 : 0);
    }
    if (t->result != NO_VALUE) {
        graph_keep(g, t->result);
        t->loss = graph_distance(g, t->result, input(t, "target"));
    }
}

/* 1 / n for each of the n rows that have a label. */
static void fill_weights(const trial *t, float *weights)
{
    const tensor_view *labels = tensor(t, "labels");
    int counts = 0;

    for (int64_t i = 0; i < labels->count; i++)
        counts += ((const int32_t *)labels->data)[i] >= 0;
    for (int64_t i = 0; i < labels->count; i++)
        weights[i] = ((const int32_t *)labels->data)[i] >= 0 ? 1 / (float)counts : 0;
}

static void fill(trial *t)
{
    for (int i = 0; i < t->filled_count; i++) {
        void *to = program_value(t->s.p, t->filled[i], t->batch).data;
        if (strcmp(t->filled_as[i], "weights") == 0)
            fill_weights(t, to);
        else
            memcpy(to, tensor(t, t->filled_as[i])->data, (size_t)tensor(t, t->filled_as[i])->count * 4);
    }
    if (t->x != NO_VALUE)
        device_set_f32(&t->s.dev, program_value(t->s.p, t->x, t->batch).data, floats(t, "x"), tensor(t, "x")->count);
}

static void expect(const trial *t, const char *what, const void *found, const float *expected, int64_t count)
{
    double limit = t->s.dev.k->real == DTYPE_F64 ? 2e-7 : 4e-6, most = 1e-3;

    assert_non_null(found);
    for (int64_t i = 0; i < count; i++)
        most = fmax(most, fabs((double)expected[i]));
    for (int64_t i = 0; i < count; i++) {
        double here = real_at(t->s.dev.k, found, i);
        if (!(fabs(here - (double)expected[i]) <= limit * most))
            fail_msg("%s on %s, slices of %lld: %s[%lld] is %.9g, PyTorch's %.9g", t->name, t->s.dev.k->name,
                     (long long)t->s.slice, what, (long long)i, here, (double)expected[i]);
    }
}

static void run_trial(const tensor_set *oracle, const char *name, const kernels *k, int64_t slice)
{
    trial t = {.name = name, .oracle = oracle, .x = NO_VALUE, .result = NO_VALUE};
    value wanted[2];

    open_bench(&t.s, k, 2, k->real, 0);
    t.s.slice = slice;
    build(&t);
    graph_finish(t.s.g);
    wanted[0] = t.loss;
    wanted[1] = t.result;
    t.s.p = make_program(&t.s, true, wanted, t.result == NO_VALUE ? 1 : 2, &t.x, t.x == NO_VALUE ? 0 : 1);
    fill(&t);
    program_step(t.s.p, t.batch, &step);
    expect(&t, "loss", program_value(t.s.p, t.loss, t.batch).data, floats(&t, "loss"), 1);
    if (t.result != NO_VALUE)
        expect(&t, "result", program_value(t.s.p, t.result, t.batch).data, floats(&t, "result"),
               tensor(&t, "result")->count);
    if (t.x != NO_VALUE)
        expect(&t, "gradient of x", program_grad(t.s.p, t.x, t.batch).data, floats(&t, "grad.x"),
               tensor(&t, "x")->count);
    if (t.trained) {
        const tensor_view *w = tensor(&t, t.trained_as);
        char gradient[64];
        float *expected;
        snprintf(gradient, sizeof gradient, "grad.%s", t.trained_as);
        expected = floats(&t, gradient);
        expect(&t, gradient, t.trained->grad, w->ndim == 3 ? by_windows(&t, expected, w) : expected, w->count);
    }
    close_bench(&t.s);
}

static void test_operations(void **state)
{
    static const char *const names[] = {"conv1d",         "conv1d_strided", "conv1d_apart", "upsample",
                                        "upsample_whole", "upsample_less",  "embedding",    "rows",
                                        "rows_smoothed",  "binary",         "distance"};
    const kernels *sets[MOST_SETS];
    int count = kernel_sets(sets);
    tensor_set *oracle;
    inlay_error err;

    (void)state;
    ASSERT_OK(tensor_set_open(&oracle, TEST_DATA "/oracle/operations.safetensors", &err));
    for (int i = 0; i < count; i++)
        for (size_t j = 0; j < sizeof names / sizeof *names; j++)
            for (int64_t slice = 0; slice < 2; slice++)
                run_trial(oracle, names[j], sets[i], slice);
    tensor_set_close(oracle);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_operations)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
