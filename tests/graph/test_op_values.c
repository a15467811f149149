/* What operations compute, and the gradients that they pass back, against plain loops of the formulas that PyTorch
 * documents, a batch at once and a sample at a time. */
#include "graph/graph_bench.h"

#define NEAR 1e-12

static void near(const char *what, double found, double expected)
{
    if (!(fabs(found - expected) <= NEAR * (1 + fabs(expected))))
        fail_msg("%s is %.15g, expected %.15g", what, found, expected);
}

/* A value that wants a gradient, over an input that is returned as well. */
static value over_input(bench *s, int64_t rows, int64_t cols, value *input)
{
    value v;

    *input = graph_input(s->g, "input", DTYPE_F64, rows, cols);
    v = graph_affine(s->g, *input, make_param(s, 0, cols), NULL, 1);
    graph_keep(s->g, v);
    return v;
}

/* The mean of the squares of y, with its gradient: dy = 2 y / elements. */
static value squares(bench *s, value y, value *zero)
{
    *zero = graph_input(s->g, "zero", DTYPE_F64, graph_rows(s->g, y), graph_cols(s->g, y));
    return graph_distance(s->g, y, *zero);
}

static double dy_of(const mat *y, int64_t r, int64_t c)
{
    return 2 * get(y, r, c) / (double)(y->rows * y->cols);
}

/* Calls `check` with programs that run a batch at once, and a sample at a time. */
static void in_slices(void (*check)(bench *s))
{
    for (int64_t slice = 0; slice < 2; slice++) {
        bench s;
        open_bench(&s, &kernels_reference, 2, DTYPE_F64, EVERYTHING);
        s.slice = slice;
        check(&s);
        close_bench(&s);
    }
}

/* ---- conv1d: out[n][t] = bias[n] + sum over c and i of weight[n][c][i] x[c][t * stride + i - padding] ---- */

static double padded(const mat *x, int64_t sample, int64_t at, int64_t c)
{
    return at >= 0 && at < ROWS ? get(x, sample * ROWS + at, c) : 0;
}

static void check_conv1d(bench *s)
{
    enum { COLS = 3, OUT = 4, KERNEL = 3, STRIDE = 2, PADDING = 2, STEPS = (ROWS + 2 * PADDING - KERNEL) / STRIDE + 1 };
    value input, zero, x = over_input(s, ROWS, COLS, &input);
    param *w = make_param(s, OUT, KERNEL * COLS), *b = make_param(s, 0, OUT);
    value y = graph_linear(s->g, graph_windows(s->g, x, KERNEL, STRIDE, PADDING), w, b, 0, 0),
          loss = squares(s, y, &zero);
    double weight[OUT][COLS][KERNEL], dweight[OUT][COLS][KERNEL] = {0}, dx[BATCH * ROWS][COLS] = {0};
    mat xs, ys, grad;

    assert_int_equal(graph_rows(s->g, y), STEPS);
    graph_finish(s->g);
    s->p = make_program(s, true, (value[]){loss, x, y}, 3, NULL, 0);
    fill_reals(s, s->p, input);
    program_step(s->p, BATCH, &step);
    xs = program_value(s->p, x, BATCH);
    ys = program_value(s->p, y, BATCH);
    grad = program_grad(s->p, x, BATCH);
    for (int n = 0; n < OUT; n++)
        for (int c = 0; c < COLS; c++)
            for (int i = 0; i < KERNEL; i++)
                weight[n][c][i] = ((double *)w->data)[n * KERNEL * COLS + i * COLS + c];
    for (int64_t sample = 0; sample < BATCH; sample++)
        for (int64_t t = 0; t < STEPS; t++)
            for (int n = 0; n < OUT; n++) {
                double sum = ((double *)b->data)[n], dy = dy_of(&ys, sample * STEPS + t, n);
                for (int c = 0; c < COLS; c++)
                    for (int i = 0; i < KERNEL; i++) {
                        int64_t at = t * STRIDE + i - PADDING;
                        sum += weight[n][c][i] * padded(&xs, sample, at, c);
                        dweight[n][c][i] += dy * padded(&xs, sample, at, c);
                        if (at >= 0 && at < ROWS)
                            dx[sample * ROWS + at][c] += dy * weight[n][c][i];
                    }
                near("conv1d", get(&ys, sample * STEPS + t, n), sum);
            }
    for (int n = 0; n < OUT; n++)
        for (int c = 0; c < COLS; c++)
            for (int i = 0; i < KERNEL; i++)
                near("conv1d's weight gradient", ((double *)w->grad)[n * KERNEL * COLS + i * COLS + c],
                     dweight[n][c][i]);
    for (int64_t r = 0; r < BATCH * ROWS; r++)
        for (int c = 0; c < COLS; c++)
            near("conv1d's data gradient", get(&grad, r, c), dx[r][c]);
}

static void test_conv1d(void **state)
{
    (void)state;
    in_slices(check_conv1d);
}

/* ---- parts side by side, and the product of two values: a gated linear unit, y = a * sigmoid(b) ---- */

static void check_gated(bench *s)
{
    value input, zero,
        x = over_input(s, ROWS, 2, &input), gate = graph_activation(s->g, over_input(s, ROWS, 2, &input), ACT_SIGMOID),
        product = graph_multiply(s->g, x, gate), many[] = {product, x, gate, x, x, gate, product, x, gate},
        y = graph_concat(s->g, many, 9), loss = squares(s, y, &zero);
    mat xs, gates, ys, grad;

    assert_true(graph_concat(s->g, many, 1) == product);
    assert_true(graph_concat(s->g, many, 9) == y);
    assert_int_equal(graph_cols(s->g, y), 18);
    graph_finish(s->g);
    s->p = make_program(s, true, (value[]){loss, x, gate, y}, 4, NULL, 0);
    fill_reals(s, s->p, input);
    for (value v = 0; v < s->g->value_count; v++)
        if (s->g->values[v].kind == VALUE_INPUT && s->g->values[v].cols == 2)
            fill_reals(s, s->p, v);
    program_step(s->p, BATCH, &step);
    xs = program_value(s->p, x, BATCH);
    gates = program_value(s->p, gate, BATCH);
    ys = program_value(s->p, y, BATCH);
    grad = program_grad(s->p, x, BATCH);
    for (int64_t r = 0; r < BATCH * ROWS; r++)
        for (int64_t c = 0; c < 2; c++) {
            double a = get(&xs, r, c), b = get(&gates, r, c), dx = 0;
            const double expected[] = {a * b, a, b, a, a, b, a * b, a, b}, slope[] = {b, 1, 0, 1, 1, 0, b, 1, 0};
            for (int64_t i = 0; i < 9; i++) {
                near("a part", get(&ys, r, 2 * i + c), expected[i]);
                dx += slope[i] * dy_of(&ys, r, 2 * i + c);
            }
            near("gradient of a factor", get(&grad, r, c), dx);
        }
}

static void test_gated(void **state)
{
    (void)state;
    in_slices(check_gated);
}

/* ---- embedding: out[r] = weight[ids[r]], and weight's gradient the sum over the rows that show it ---- */

static void check_embedding(bench *s)
{
    enum { COUNT = 7, COLS = 3 };
    static const int32_t numbers[BATCH * ROWS] = {2, 0, 2, 6, -1, 2, 6, 6, 7, 0, 1, 2, -100, 1, 1, 5, 5, 2};
    value ids = graph_input(s->g, "ids", DTYPE_I32, ROWS, 1), zero, y, loss;
    param *table = make_param(s, COUNT, COLS);
    double dtable[COUNT][COLS] = {0};
    mat ys;

    y = graph_gather(s->g, table, ids);
    loss = squares(s, y, &zero);
    graph_finish(s->g);
    s->p = make_program(s, true, (value[]){loss, y}, 2, NULL, 0);
    memcpy(program_value(s->p, ids, BATCH).data, numbers, sizeof numbers);
    program_step(s->p, BATCH, &step);
    ys = program_value(s->p, y, BATCH);
    for (int64_t r = 0; r < BATCH * ROWS; r++)
        for (int c = 0; c < COLS; c++) {
            bool found = numbers[r] >= 0 && numbers[r] < COUNT;
            near("embedding", get(&ys, r, c), found ? ((double *)table->data)[numbers[r] * COLS + c] : 0);
            if (found)
                dtable[numbers[r]][c] += dy_of(&ys, r, c);
        }
    for (int i = 0; i < COUNT; i++)
        for (int c = 0; c < COLS; c++)
            near("embedding's gradient", ((double *)table->grad)[i * COLS + c], dtable[i][c]);
}

static void test_embedding(void **state)
{
    (void)state;
    in_slices(check_embedding);
}

/* ---- interpolate, bilinear, align_corners=False: the example of torch.nn.Upsample's page, and fewer points ---- */

static void check_interpolation(int64_t height, int64_t width, const double *in, int64_t out_height, int64_t out_width,
                                const double *out)
{
    value x, y;
    bench s;
    mat xs, ys;

    open_bench(&s, &kernels_reference, 2, DTYPE_F64, EVERYTHING);
    x = graph_input(s.g, "x", DTYPE_F64, height * width, 1);
    y = graph_upsample(s.g, x, height, width, out_height, out_width);
    graph_finish(s.g);
    s.p = make_program(&s, false, &y, 1, NULL, 0);
    xs = program_value(s.p, x, BATCH);
    for (int64_t r = 0; r < xs.rows; r++) /* each sample is the one before it and a hundred */
        ((double *)xs.data)[r] = in[r % (height * width)] + 100 * (double)(r / (height * width));
    program_forward(s.p, BATCH, &step);
    ys = program_value(s.p, y, BATCH);
    for (int64_t r = 0; r < ys.rows; r++)
        near("interpolated", get(&ys, r, 0),
             out[r % (out_height * out_width)] + 100 * (double)(r / (out_height * out_width)));
    close_bench(&s);
}

static void test_interpolate(void **state)
{
    static const double square[] = {1, 2, 3, 4},
                        twice[] = {1, 1.25, 1.75, 2, 1.5, 1.75, 2.25, 2.5, 2.5, 2.75, 3.25, 3.5, 3, 3.25, 3.75, 4},
                        line[] = {0, 1, 2, 3}, half[] = {0.5, 2.5};

    (void)state;
    check_interpolation(2, 2, square, 4, 4, twice);
    check_interpolation(1, 4, line, 1, 2, half);
    check_interpolation(4, 1, line, 2, 1, half);
    check_interpolation(2, 2, square, 2, 2, square);
}

/* ---- CrossEntropyLoss of every row: with x = log softmax, -(1 - e) x[label] - e / classes sum of x; rows with the
 * label `ignore_index` do not count, reduction 'mean' is over the others ---- */

static void check_rows(bench *s)
{
    enum { WORDS = 4, COUNTED = 12 };
    static const int32_t words[BATCH * ROWS] = {2, 0, -100, 3, 1, -100, -100, 0, 0, 3, -100, 2, 1, 1, -100, 3, -100, 2};
    const double smoothing = 0.2;
    value input, logits = over_input(s, ROWS, WORDS, &input), labels = graph_input(s->g, "rows", DTYPE_I32, ROWS, 1),
                 weights = graph_target(s->g, "weights", DTYPE_F32, ROWS, 1),
                 sum = graph_row_cross_entropy(s->g, logits, labels, weights, smoothing),
                 loss = graph_add_scaled(s->g, sum, sum, 2); /* 3 times the loss, and so its gradient */
    double expected = 0;
    float *weight;
    mat z, dz;

    graph_finish(s->g);
    s->p = make_program(s, true, (value[]){loss, logits}, 2, NULL, 0);
    fill_reals(s, s->p, input);
    memcpy(program_value(s->p, labels, BATCH).data, words, sizeof words);
    weight = program_value(s->p, weights, BATCH).data;
    for (int r = 0; r < BATCH * ROWS; r++)
        weight[r] = words[r] == -100 ? 0 : 1.0f / COUNTED;
    program_step(s->p, BATCH, &step);
    z = program_value(s->p, logits, BATCH);
    dz = program_grad(s->p, logits, BATCH);
    for (int64_t r = 0; r < BATCH * ROWS; r++) {
        double total = 0;
        for (int c = 0; c < WORDS; c++)
            total += exp(get(&z, r, c));
        for (int c = 0; c < WORDS; c++) {
            double x = get(&z, r, c) - log(total), target = smoothing / WORDS + (c == words[r] ? 1 - smoothing : 0),
                   mean = words[r] == -100 ? 0 : (double)(1.0f / COUNTED);
            expected -= 3 * mean * target * x;
            near("gradient of a row", get(&dz, r, c), 3 * mean * (exp(x) - target));
        }
    }
    near("loss of rows", *(double *)program_value(s->p, loss, BATCH).data, expected);
}

static void test_row_cross_entropy(void **state)
{
    (void)state;
    in_slices(check_rows);
}

/* ---- attributes tell operations apart, and descriptions ---- */

static void ignore_param(void *context, const param *p)
{
    (void)context;
    (void)p;
}

static void test_attributes(void **state)
{
    bench s;
    value x, seen[8];
    int count = 0;
    char *text[8];

    (void)state;
    open_bench(&s, &kernels_reference, 1, DTYPE_F64, EVERYTHING);
    x = graph_input(s.g, "x", DTYPE_F64, ROWS, WIDTH);
    seen[count++] = graph_windows(s.g, x, 3, 1, 1);
    seen[count++] = graph_windows(s.g, x, 3, 3, 1);
    seen[count++] = graph_windows(s.g, x, 3, 3, 0); /* as many rows as the one before it */
    seen[count++] = graph_upsample(s.g, x, 3, 2, 4, 6);
    seen[count++] = graph_upsample(s.g, x, 3, 2, 6, 4);
    seen[count++] = graph_upsample(s.g, x, 2, 3, 6, 4);
    seen[count++] = graph_add(s.g, x, x);
    assert_true(graph_windows(s.g, x, 3, 3, 1) == seen[1] && graph_upsample(s.g, x, 3, 2, 6, 4) == seen[4]);
    graph_finish(s.g);
    for (int i = 0; i < count; i++) {
        size_t length = 0;
        FILE *out = open_memstream(&text[i], &length);
        assert_true(graph_describe(s.g, &seen[i], 1, out, ignore_param, NULL));
        fclose(out);
        for (int j = 0; j < i; j++) {
            assert_int_not_equal(seen[i], seen[j]);
            assert_string_not_equal(text[i], text[j]);
        }
    }
    assert_non_null(strstr(text[1], " stride 3 padding 1\n"));
    assert_non_null(strstr(text[2], " stride 3\n"));
    assert_non_null(strstr(text[3], " out_height 4 out_width 6\n"));
    assert_non_null(strstr(text[6], " mean std\n")); /* nothing of attributes that it does not use */
    for (int i = 0; i < count; i++)
        free(text[i]);
    close_bench(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_conv1d),
        cmocka_unit_test(test_gated),
        cmocka_unit_test(test_embedding),
        cmocka_unit_test(test_interpolate),
        cmocka_unit_test(test_row_cross_entropy),
        cmocka_unit_test(test_attributes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
