/* The kernels that move, scale and sum rows, and the loss, of every kernel set against plain loops in double precision:
 * odd shapes, columns of wider buffers, bf16, sums into what is there. Scratch memory begins as NaN. */
#include "kernel_sets.h"

static struct {
    void *data[64];
    int count;
} held;

static mat make(const kernels *k, int64_t rows, int64_t cols, dtype type, int64_t extra, uint32_t seed)
{
    mat m = random_mat(k, rows, cols, type, extra, seed);

    assert_true(held.count < 64);
    return held.data[held.count++] = m.data, m;
}

/* Every set, with activations as reals and as bf16. */
static void for_each_set(void (*check)(const kernels *k, compute *c, dtype type))
{
    const kernels *sets[MOST_SETS];
    int count = kernel_sets(sets);

    for (int s = 0; s < count; s++)
        for (int bf16 = 0; bf16 < 2; bf16++) {
            inlay_error err;
            device d;
            ASSERT_OK(device_open(&d, sets[s], 2, &err));
            for (int thread = 0; thread < 2; thread++)
                memset(d.c.scratch[thread], 0xff, (size_t)1 << 18);
            check(sets[s], &d.c, bf16 ? DTYPE_BF16 : sets[s]->real);
            while (held.count)
                sets[s]->release(held.data[--held.count]);
            device_close(&d);
        }
}

static void near(const kernels *k, const mat *m, int64_t r, int64_t c, double expected, double times, const char *what)
{
    double found = get(m, r, c);

    if (!(fabs(found - expected) <= times * slack(k, m, expected)))
        fail_msg("%s: %s(%d, %d) is %.9g, expected %.9g", k->name, what, (int)r, (int)c, found, expected);
}

/* `m` was drawn from `seed`: what lies beside its columns is still that. */
static void beside_untouched(const kernels *k, const mat *m, uint32_t seed)
{
    mat whole = make(k, m->rows, m->stride, m->type, 0, seed), now = *m;

    now.cols = m->stride;
    for (int64_t r = 0; r < m->rows; r++)
        for (int64_t c = m->cols; c < m->stride; c++)
            assert_true(get(&now, r, c) == get(&whole, r, c));
}

/* ---- affine ---- */

static void check_affine(const kernels *k, compute *c, dtype type)
{
    int64_t rows = 131, cols = 37;
    mat x = make(k, rows, cols, type, 1, 1), gamma = make(k, 1, cols, k->real, 0, 2),
        beta = make(k, 1, cols, k->real, 0, 3), dy = make(k, rows, cols, k->real, 0, 4);

    for (int variant = 0; variant < 4; variant++) {
        bool with_gamma = variant & 1, with_beta = variant & 2;
        mat y = make(k, rows, cols, type, 2, 5), dx = make(k, rows, cols, k->real, 3, 6),
            dgamma = make(k, 1, cols, k->real, 0, 7), dbeta = make(k, 1, cols, k->real, 0, 8);
        mat old_dx = make(k, rows, cols, k->real, 3, 6), old_dgamma = make(k, 1, cols, k->real, 0, 7);
        affine_args a = {.y = y,
                         .x = x,
                         .gamma = with_gamma ? gamma.data : NULL,
                         .beta = with_beta ? beta.data : NULL,
                         .factor = 0.75,
                         .dy = dy,
                         .dx = dx,
                         .accumulate = with_beta,
                         .need_dx = true,
                         .dgamma = dgamma.data,
                         .dbeta = dbeta.data,
                         .accumulate_params = with_gamma};
        k->affine(c, &a);
        k->affine_backward(c, &a);
        for (int64_t j = 0; j < cols; j++) {
            double g = with_gamma ? get(&gamma, 0, j) : 1, sum_g = with_gamma ? get(&old_dgamma, 0, j) : 0, sum_b = 0;
            for (int64_t r = 0; r < rows; r++) {
                near(k, &y, r, j, get(&x, r, j) * 0.75 * g + (with_beta ? get(&beta, 0, j) : 0), 1, "affine");
                near(k, &dx, r, j, get(&dy, r, j) * 0.75 * g + (with_beta ? get(&old_dx, r, j) : 0), 1, "affine dx");
                sum_g += get(&dy, r, j) * get(&x, r, j) * 0.75;
                sum_b += get(&dy, r, j);
            }
            near(k, &dgamma, 0, j, sum_g, 10, "dgamma");
            if (!with_gamma)
                near(k, &dbeta, 0, j, sum_b, 10, "dbeta");
        }
        beside_untouched(k, &y, 5);
        beside_untouched(k, &dx, 6);
    }
}

static void test_affine(void **state)
{
    (void)state;
    for_each_set(check_affine);
}

/* ---- add ---- */

static void check_add(const kernels *k, compute *c, dtype type)
{
    int64_t rows = 42, cols = 29;
    const float factors[3] = {1.25f, 0, 2};
    mat a = make(k, rows, cols, type, 1, 1), b = make(k, rows, cols, type, 2, 2),
        narrow = make(k, rows, 9, k->real, 1, 3), table = make(k, 7, cols, k->real, 0, 4);
    mat y = make(k, rows, cols, type, 4, 5), place = make(k, rows, cols, type, 2, 6),
        before = make(k, rows, cols, type, 2, 6), only = make(k, rows, cols, type, 0, 7);

    k->add(c, &(add_args){.y = y,
                          .a = a,
                          .b = b,
                          .factor = 0.5,
                          .row_scale = factors,
                          .row_group = 14,
                          .table = table.data,
                          .table_rows = 7});
    k->add(c, &(add_args){.y = place, .a = place, .b = narrow, .offset = 13, .factor = 1});
    k->add(c, &(add_args){.y = only, .a = a, .table = table.data, .table_rows = 7});
    for (int64_t r = 0; r < rows; r++)
        for (int64_t j = 0; j < cols; j++) {
            near(k, &y, r, j, get(&a, r, j) + 0.5 * (double)factors[r / 14] * get(&b, r, j) + get(&table, r % 7, j), 1,
                 "add");
            near(k, &place, r, j, get(&before, r, j) + (j >= 13 && j < 22 ? get(&narrow, r, j - 13) : 0), 1,
                 "add at columns");
            near(k, &only, r, j, get(&a, r, j) + get(&table, r % 7, j), 1, "add table");
        }
    beside_untouched(k, &y, 5);
    beside_untouched(k, &place, 6);
}

static void test_add(void **state)
{
    (void)state;
    for_each_set(check_add);
}

/* ---- multiply ---- */

static void check_multiply(const kernels *k, compute *c, dtype type)
{
    int64_t rows = 42, cols = 29;
    mat a = make(k, rows, cols, type, 1, 1), b = make(k, rows, cols, k->real, 2, 2),
        y = make(k, rows, cols, type, 4, 3), sum = make(k, rows, cols, k->real, 2, 4),
        before = make(k, rows, cols, k->real, 2, 4), place = make(k, rows, cols, type, 1, 5),
        was = make(k, rows, cols, type, 1, 5);

    k->multiply(c, &(multiply_args){.y = y, .a = a, .b = b});
    k->multiply(c, &(multiply_args){.y = sum, .a = b, .b = a, .accumulate = true});
    k->multiply(c, &(multiply_args){.y = place, .a = place, .b = b});
    for (int64_t r = 0; r < rows; r++)
        for (int64_t j = 0; j < cols; j++) {
            near(k, &y, r, j, get(&a, r, j) * get(&b, r, j), 1, "product");
            near(k, &sum, r, j, get(&before, r, j) + get(&a, r, j) * get(&b, r, j), 1, "product added");
            near(k, &place, r, j, get(&was, r, j) * get(&b, r, j), 1, "product in place");
        }
    beside_untouched(k, &y, 3);
    beside_untouched(k, &sum, 4);
    beside_untouched(k, &place, 5);
}

static void test_multiply(void **state)
{
    (void)state;
    for_each_set(check_multiply);
}

/* ---- dropout: the very elements that the stream names ---- */

static void check_dropout(const kernels *k, compute *c, dtype type)
{
    int64_t rows = 23, cols = 31;
    rng_stream stream = {.seed = 8, .purpose = RNG_DROPOUT, .stream = 3, .step = 5};
    mat x = make(k, rows, cols, type, 1, 1), y = make(k, rows, cols, type, 2, 2),
        dx = make(k, rows, cols, k->real, 2, 3), old = make(k, rows, cols, k->real, 2, 3);

    k->dropout(c, &(dropout_args){.y = y, .x = x, .rate = 0.4, .stream = stream});
    k->dropout(c, &(dropout_args){.y = dx, .x = x, .rate = 0.4, .stream = stream, .accumulate = true});
    for (int64_t r = 0; r < rows; r++)
        for (int64_t j = 0; j < cols; j++) {
            bool keep = (double)rng_u32(stream, (uint64_t)(r * cols + j)) >= 0.4 * 4294967296.0;
            double e = keep ? get(&x, r, j) / (1 - 0.4) : 0;
            near(k, &y, r, j, e, 1, "dropout");
            near(k, &dx, r, j, e + get(&old, r, j), 1, "dropout backward");
        }
    beside_untouched(k, &y, 2);
    beside_untouched(k, &dx, 3);
}

static void test_dropout_mask(void **state)
{
    (void)state;
    for_each_set(check_dropout);
}

/* ---- activations of rows in wider buffers, gradients added ---- */

static void check_map(const kernels *k, compute *c, dtype type)
{
    for (int act = ACT_NONE; act < ACT_COUNT; act++) {
        mat x = make(k, 11, 21, type, 1, 1), y = make(k, 11, 21, type, 2, 2), dy = make(k, 11, 21, k->real, 0, 3);
        mat dx = make(k, 11, 21, k->real, 1, 4), old = make(k, 11, 21, k->real, 1, 4);
        map_args a = {.y = y, .x = x, .act = (activation)act, .dy = dy, .dx = dx, .accumulate = true};
        k->map(c, &a);
        k->map_backward(c, &a);
        for (int64_t r = 0; r < 11; r++)
            for (int64_t j = 0; j < 21; j++) {
                double at = get(&x, r, j), e = get(&old, r, j) + get(&dy, r, j) * act_slope((activation)act, at);
                near(k, &y, r, j, act_plain((activation)act, at), 2, activation_name((activation)act));
                assert_true(fabs(get(&dx, r, j) - e) <= 4e-6); /* the act_grad is a difference quotient */
            }
        beside_untouched(k, &y, 2);
        while (held.count)
            k->release(held.data[--held.count]);
    }
}

static void test_map(void **state)
{
    (void)state;
    for_each_set(check_map);
}

/* ---- column sums ---- */

static void check_column_sum(const kernels *k, compute *c, dtype type)
{
    int64_t rows = 5 * 83, cols = 19;
    const float factors[5] = {1, 0, 0.5f, 2, 1};
    mat dy = make(k, rows, cols, k->real, 2, 1), other = make(k, rows, cols, type, 1, 2);

    for (int64_t modulo = 0; modulo <= 83; modulo += 83)
        for (int accumulate = 0; accumulate < 2; accumulate++) {
            int64_t slots = modulo ? modulo : 1;
            mat out = make(k, slots, cols, k->real, 0, 3), old = make(k, slots, cols, k->real, 0, 3);
            k->column_sum(c, &(column_sum_args){.out = out.data,
                                                .dy = dy,
                                                .other = other,
                                                .row_scale = factors,
                                                .row_group = 83,
                                                .modulo = modulo,
                                                .accumulate = accumulate});
            for (int64_t slot = 0; slot < slots; slot++)
                for (int64_t j = 0; j < cols; j++) {
                    double e = accumulate ? get(&old, slot, j) : 0;
                    for (int64_t r = slot; r < rows; r += slots)
                        e += get(&dy, r, j) * get(&other, r, j) * (double)factors[r / 83];
                    near(k, &out, slot, j, e, 10, "column sum");
                }
        }
}

static void test_column_sum(void **state)
{
    (void)state;
    for_each_set(check_column_sum);
}

/* ---- rows copied and averaged ---- */

static void check_rows(const kernels *k, compute *c, dtype type)
{
    mat x = make(k, 5 * 9, 11, type, 1, 1), y = make(k, 5 * 12, 11, k->real, 2, 2),
        old = make(k, 5 * 12, 11, k->real, 2, 2);
    mat narrow = make(k, 5 * 12, 11, type, 2, 3), was = make(k, 5 * 12, 11, type, 2, 3),
        shared = make(k, 4, 11, k->real, 0, 4);
    mat mean = make(k, 5, 11, type, 0, 5), dy = make(k, 5, 11, k->real, 0, 6), dx = make(k, 5 * 9, 11, k->real, 1, 7),
        sum = make(k, 5 * 9, 11, k->real, 1, 8);
    mat before = make(k, 5 * 9, 11, k->real, 1, 8);

    k->copy_rows(c, &(copy_rows_args){.y = y,
                                      .x = x,
                                      .samples = 5,
                                      .y_group = 12,
                                      .y_first = 2,
                                      .x_group = 9,
                                      .x_first = 1,
                                      .count = 7,
                                      .accumulate = true});
    k->copy_rows(c, &(copy_rows_args){.y = narrow,
                                      .x = shared,
                                      .samples = 5,
                                      .y_group = 12,
                                      .y_first = 1,
                                      .x_group = 0,
                                      .x_first = 1,
                                      .count = 3});
    k->mean_rows(c, &(mean_rows_args){.y = mean, .x = x, .samples = 5, .group = 9, .first = 1, .count = 8});
    k->mean_rows(
        c, &(mean_rows_args){.y = dx, .x = dy, .samples = 5, .group = 9, .first = 1, .count = 8, .backward = true});
    k->mean_rows(
        c,
        &(mean_rows_args){
            .y = sum, .x = dy, .samples = 5, .group = 9, .first = 1, .count = 8, .backward = true, .accumulate = true});
    for (int64_t s = 0; s < 5; s++)
        for (int64_t j = 0; j < 11; j++) {
            double e = 0;
            for (int64_t r = 0; r < 12; r++) {
                near(k, &y, s * 12 + r, j, get(&old, s * 12 + r, j) + (r >= 2 && r < 9 ? get(&x, s * 9 + r - 1, j) : 0),
                     1, "copy added");
                near(k, &narrow, s * 12 + r, j, r >= 1 && r < 4 ? get(&shared, r, j) : get(&was, s * 12 + r, j), 1,
                     "shared rows copied");
            }
            for (int64_t r = 0; r < 9; r++) {
                double share = r >= 1 ? get(&dy, s, j) / 8 : 0;
                e += r >= 1 ? get(&x, s * 9 + r, j) / 8 : 0;
                near(k, &dx, s * 9 + r, j, share, 1, "mean backward");
                near(k, &sum, s * 9 + r, j, get(&before, s * 9 + r, j) + share, 1, "mean backward added");
            }
            near(k, &mean, s, j, e, 1, "mean");
        }
    beside_untouched(k, &y, 2);
    beside_untouched(k, &narrow, 3);
    beside_untouched(k, &dx, 7);
}

static void test_rows(void **state)
{
    (void)state;
    for_each_set(check_rows);
}

/* ---- windows of a sequence ---- */

static void check_windows(const kernels *k, compute *c, dtype type)
{
    enum { SAMPLES = 3, ROWS = 11, COLS = 13 };
    static const int64_t forms[][3] = {{3, 1, 1}, {4, 2, 3}, {2, 3, 0}, {1, 1, 2}, {ROWS, 1, 0}};

    for (size_t f = 0; f < sizeof forms / sizeof *forms; f++) {
        int64_t width = forms[f][0], stride = forms[f][1], padding = forms[f][2],
                count = (ROWS + 2 * padding - width) / stride + 1;
        mat x = make(k, SAMPLES * ROWS, COLS, type, 1, 1), y = make(k, SAMPLES * count, width * COLS, type, 2, 2),
            dy = make(k, SAMPLES * count, width * COLS, type, 1, 3), old = make(k, SAMPLES * ROWS, COLS, k->real, 2, 4);
        for (int accumulate = 0; accumulate < 2; accumulate++) {
            mat dx = make(k, SAMPLES * ROWS, COLS, k->real, 2, 4);
            windows_args a = {.y = y,
                              .x = x,
                              .samples = SAMPLES,
                              .rows = ROWS,
                              .count = count,
                              .width = width,
                              .stride = stride,
                              .padding = padding,
                              .dy = dy,
                              .dx = dx,
                              .accumulate = accumulate};
            double expected[SAMPLES * ROWS][COLS];
            k->windows(c, &a);
            k->windows_backward(c, &a);
            for (int64_t r = 0; r < SAMPLES * ROWS; r++)
                for (int64_t j = 0; j < COLS; j++)
                    expected[r][j] = accumulate ? get(&old, r, j) : 0;
            for (int64_t r = 0; r < SAMPLES * count; r++)
                for (int64_t i = 0; i < width; i++)
                    for (int64_t j = 0; j < COLS; j++) {
                        int64_t at = r % count * stride - padding + i, from = r / count * ROWS + at;
                        bool inside = at >= 0 && at < ROWS;
                        near(k, &y, r, i * COLS + j, inside ? get(&x, from, j) : 0, 0, "window");
                        if (inside)
                            expected[from][j] += get(&dy, r, i * COLS + j);
                    }
            for (int64_t r = 0; r < SAMPLES * ROWS; r++)
                for (int64_t j = 0; j < COLS; j++)
                    near(k, &dx, r, j, expected[r][j], 4, "window's gradient");
            beside_untouched(k, &dx, 4);
        }
        beside_untouched(k, &y, 2);
        while (held.count)
            k->release(held.data[--held.count]);
    }
}

static void test_windows(void **state)
{
    (void)state;
    for_each_set(check_windows);
}

/* ---- rows of a table ---- */

static void check_gather(const kernels *k, compute *c, dtype type)
{
    enum { ROWS = 23, COLS = 19, COUNT = 6 };
    int32_t ids[ROWS] = {INT32_MIN, -1, COUNT, INT32_MAX};
    double expected[COUNT][COLS];
    mat table = make(k, COUNT, COLS, k->real, 0, 1), y = make(k, ROWS, COLS, type, 2, 2),
        dy = make(k, ROWS, COLS, type, 1, 3), dtable = make(k, COUNT, COLS, k->real, 0, 4);

    for (int i = 0; i < COUNT; i++)
        for (int j = 0; j < COLS; j++)
            expected[i][j] = get(&dtable, i, j);
    for (int r = 4; r < ROWS; r++)
        ids[r] = r * 7 % (COUNT - 1); /* nobody has the last one */
    gather_args a = {.y = y, .table = table.data, .count = COUNT, .ids = ids, .dy = dy, .dtable = dtable.data};
    k->gather(c, &a);
    k->gather_backward(c, &a);
    for (int r = 0; r < ROWS; r++)
        for (int j = 0; j < COLS; j++) {
            near(k, &y, r, j, r < 4 ? 0 : get(&table, ids[r], j), 1, "row of a table");
            if (r >= 4)
                expected[ids[r]][j] += get(&dy, r, j);
        }
    for (int i = 0; i < COUNT; i++)
        for (int j = 0; j < COLS; j++)
            near(k, &dtable, i, j, expected[i][j], 4, "gradient of a table");
    beside_untouched(k, &y, 2);
}

static void test_gather(void **state)
{
    (void)state;
    for_each_set(check_gather);
}

/* ---- points of a grid: each takes its share of four others, and gives it back ---- */

static void check_upsample(const kernels *k, compute *c, dtype type)
{
    enum { SAMPLES = 2, COLS = 11, MOST = 60 };
    static const int64_t forms[][4] = {{3, 4, 6, 8}, {4, 5, 6, 7}, {1, 1, 3, 2},
                                       {5, 6, 2, 3}, {4, 3, 4, 9}, {7, 2, 1, 1}};

    for (size_t f = 0; f < sizeof forms / sizeof *forms; f++) {
        const int64_t *size = forms[f];
        mat x = make(k, SAMPLES * size[0] * size[1], COLS, type, 1, 1),
            y = make(k, SAMPLES * size[2] * size[3], COLS, type, 2, 2),
            dy = make(k, SAMPLES * size[2] * size[3], COLS, type, 1, 3),
            old = make(k, SAMPLES * size[0] * size[1], COLS, k->real, 2, 4);
        for (int accumulate = 0; accumulate < 2; accumulate++) {
            mat dx = make(k, SAMPLES * size[0] * size[1], COLS, k->real, 2, 4);
            double expected[MOST][COLS];
            upsample_args a = {.y = y,
                               .x = x,
                               .samples = SAMPLES,
                               .height = size[0],
                               .width = size[1],
                               .out_height = size[2],
                               .out_width = size[3],
                               .dy = dy,
                               .dx = dx,
                               .accumulate = accumulate};
            assert_true(x.rows <= MOST);
            k->upsample(c, &a);
            k->upsample_backward(c, &a);
            for (int64_t r = 0; r < x.rows; r++)
                for (int64_t j = 0; j < COLS; j++)
                    expected[r][j] = accumulate ? get(&old, r, j) : 0;
            for (int64_t r = 0; r < y.rows; r++) {
                int64_t area = size[2] * size[3], o[2] = {r % area / size[3], r % size[3]}, from[2][2];
                double part[2][2], sum[COLS] = {0};
                for (int axis = 0; axis < 2; axis++) {
                    double s = fmax(((double)o[axis] + 0.5) * (double)size[axis] / (double)size[2 + axis] - 0.5, 0);
                    from[axis][0] = (int64_t)floor(s + 1e-12);
                    from[axis][1] = from[axis][0] + 1 < size[axis] ? from[axis][0] + 1 : size[axis] - 1;
                    part[axis][1] = s - (double)from[axis][0];
                    part[axis][0] = 1 - part[axis][1];
                }
                for (int i = 0; i < 4; i++) {
                    int64_t at = (r / area * size[0] + from[0][i / 2]) * size[1] + from[1][i % 2];
                    for (int64_t j = 0; j < COLS; j++) {
                        sum[j] += part[0][i / 2] * part[1][i % 2] * get(&x, at, j);
                        expected[at][j] += part[0][i / 2] * part[1][i % 2] * get(&dy, r, j);
                    }
                }
                for (int64_t j = 0; j < COLS; j++)
                    near(k, &y, r, j, sum[j], 1, "upsampled");
            }
            for (int64_t r = 0; r < x.rows; r++)
                for (int64_t j = 0; j < COLS; j++)
                    near(k, &dx, r, j, expected[r][j], 4, "upsampled's gradient");
            beside_untouched(k, &dx, 4);
        }
        beside_untouched(k, &y, 2);
        while (held.count)
            k->release(held.data[--held.count]);
    }
}

static void test_upsample(void **state)
{
    (void)state;
    for_each_set(check_upsample);
}

/* ---- patches ---- */

static void check_patches(const kernels *k, compute *c, dtype type, int channels, int patch)
{
    enum { SAMPLES = 2, DOWN = 3, ACROSS = 2, MOST = SAMPLES * DOWN * ACROSS * 4 * 7 * 7 };
    const float mean[4] = {0.5f, 0.25f, 0.1f, 0.6f}, std[4] = {0.5f, 0.2f, 0.3f, 0.4f};
    uint8_t bytes[MOST];
    float floats[MOST];
    int height = DOWN * patch, width = ACROSS * patch;
    mat y = make(k, SAMPLES * DOWN * ACROSS, channels * patch * patch, type, 1, 1),
        z = make(k, SAMPLES * DOWN * ACROSS, channels * patch * patch, type, 0, 2);
    patch_rows x = {.pixels = bytes,
                    .type = DTYPE_U8,
                    .height = height,
                    .width = width,
                    .channels = channels,
                    .patch = patch,
                    .mean = {mean[0], mean[1], mean[2], mean[3]},
                    .std = {std[0], std[1], std[2], std[3]}};

    for (int i = 0; i < MOST; i++) {
        bytes[i] = (uint8_t)(i * 37 % 256);
        floats[i] = (float)bytes[i] * 0.75f;
    }
    k->patchify(c, &y, &x);
    x.pixels = floats;
    x.type = DTYPE_F32;
    k->patchify(c, &z, &x);
    for (int s = 0; s < SAMPLES; s++)
        for (int py = 0; py < height; py++)
            for (int px = 0; px < width; px++)
                for (int ch = 0; ch < channels; ch++) {
                    int at = ((s * height + py) * width + px) * channels + ch;
                    int64_t row = (s * DOWN + py / patch) * ACROSS + px / patch,
                            col = (ch * patch + py % patch) * patch + px % patch;
                    near(k, &y, row, col, ((double)bytes[at] / 255 - (double)mean[ch]) / (double)std[ch], 1,
                         "patch of bytes");
                    near(k, &z, row, col, ((double)floats[at] / 255 - (double)mean[ch]) / (double)std[ch], 1,
                         "patch of floats");
                }
    beside_untouched(k, &y, 1);
}

static void check_patchify(const kernels *k, compute *c, dtype type)
{
    for (int patch = 1; patch <= 7; patch += 3)
        for (int channels = 1; channels <= 4; channels++)
            check_patches(k, c, type, channels, patch);
}

static void test_patchify(void **state)
{
    (void)state;
    for_each_set(check_patchify);
}

/* ---- cross-entropy ---- */

static void check_cross_entropy(const kernels *k, compute *c, dtype type)
{
    enum { ROWS = 21, CLASSES = 13 };
    int32_t labels[ROWS];
    mat z = make(k, ROWS, CLASSES, type, 2, 1), d = make(k, ROWS, CLASSES, k->real, 1, 2),
        loss = make(k, 1, 1, k->real, 0, 3), losses = make(k, 1, ROWS, k->real, 0, 4);
    mat dloss = make(k, 1, 1, k->real, 0, 5);

    for (int r = 0; r < ROWS; r++)
        labels[r] = r * 5 % CLASSES;
    for (int64_t i = 0; i < CLASSES; i++) { /* one row far beyond what exp can take */
        if (type == DTYPE_BF16)
            ((uint16_t *)z.data)[i] = f32_to_bf16((float)get(&z, 0, i) * 1000);
        else if (type == DTYPE_F64)
            ((double *)z.data)[i] *= 1000;
        else
            ((float *)z.data)[i] *= 1000;
    }
    for (double smoothing = 0; smoothing < 0.2; smoothing += 0.1) {
        double total = 0;
        cross_entropy_args a = {.logits = z,
                                .labels = labels,
                                .smoothing = smoothing,
                                .count = z.rows,
                                .loss = loss.data,
                                .losses = losses.data,
                                .dlogits = d,
                                .dloss = dloss.data};
        k->cross_entropy(c, &a);
        for (int64_t r = 0; r < ROWS; r++) {
            double top = -1e300, sum = 0, e = 0;
            for (int64_t j = 0; j < CLASSES; j++)
                top = fmax(top, get(&z, r, j));
            for (int64_t j = 0; j < CLASSES; j++)
                sum += exp(get(&z, r, j) - top);
            for (int64_t j = 0; j < CLASSES; j++) {
                double log_p = get(&z, r, j) - top - log(sum),
                       target = smoothing / CLASSES + (j == labels[r] ? 1 - smoothing : 0);
                e -= target * log_p;
                near(k, &d, r, j, get(&dloss, 0, 0) / ROWS * (exp(log_p) - target), 1, "dlogits");
            }
            near(k, &losses, 0, r, e, 2, "loss of a sample");
            total += e / ROWS;
        }
        near(k, &loss, 0, 0, total, 2, "loss");
        a.dlogits.data = NULL;
        a.losses = NULL;
        k->cross_entropy(c, &a);
        near(k, &loss, 0, 0, total, 2, "loss alone");
    }
    beside_untouched(k, &d, 2);
}

static void test_cross_entropy(void **state)
{
    (void)state;
    for_each_set(check_cross_entropy);
}

/* ---- cross-entropy of rows with weights ---- */

static void check_row_cross_entropy(const kernels *k, compute *c, dtype type)
{
    enum { ROWS = 21, CLASSES = 13 };
    int32_t labels[ROWS];
    float weights[ROWS];
    mat z = make(k, ROWS, CLASSES, type, 2, 1), loss = make(k, 1, 1, k->real, 0, 3),
        losses = make(k, 1, ROWS, k->real, 0, 4), dloss = make(k, 1, 1, k->real, 0, 5);

    for (int r = 0; r < ROWS; r++) {
        weights[r] = (float)(r % 3) / 5;
        labels[r] = r % 3 ? r * 5 % CLASSES : r % 2 ? -100 : INT32_MAX;
    }
    for (int form = 0; form < 4; form++) {
        bool smoothed = form & 1, accumulate = form & 2;
        double smoothing = smoothed ? 0.1 : 0, total = accumulate ? get(&loss, 0, 0) : 0;
        mat d = make(k, ROWS, CLASSES, k->real, 1, 2), old = make(k, ROWS, CLASSES, k->real, 1, 2);
        cross_entropy_args a = {.logits = z,
                                .labels = labels,
                                .weights = weights,
                                .smoothing = smoothing,
                                .loss = loss.data,
                                .losses = losses.data,
                                .add_loss = accumulate,
                                .dlogits = d,
                                .accumulate = accumulate,
                                .dloss = dloss.data};
        k->row_cross_entropy(c, &a);
        for (int64_t r = 0; r < ROWS; r++) {
            double sum = 0, e = 0, weight = (double)weights[r];
            for (int64_t j = 0; j < CLASSES; j++)
                sum += exp(get(&z, r, j));
            for (int64_t j = 0; j < CLASSES; j++) {
                double log_p = get(&z, r, j) - log(sum),
                       target = smoothing / CLASSES + (j == labels[r] ? 1 - smoothing : 0);
                e -= target * log_p;
                near(k, &d, r, j,
                     (accumulate ? get(&old, r, j) : 0) + get(&dloss, 0, 0) * weight * (exp(log_p) - target), 1,
                     "gradient of a row");
            }
            near(k, &losses, 0, r, weight * e, 2, "term of a row");
            total += weight * e;
        }
        near(k, &loss, 0, 0, total, 2, "sum of rows");
        beside_untouched(k, &d, 2);
    }
}

static void test_row_cross_entropy(void **state)
{
    (void)state;
    for_each_set(check_row_cross_entropy);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_affine),
        cmocka_unit_test(test_add),
        cmocka_unit_test(test_dropout_mask),
        cmocka_unit_test(test_map),
        cmocka_unit_test(test_column_sum),
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_patchify),
        cmocka_unit_test(test_cross_entropy),
        cmocka_unit_test(test_multiply),
        cmocka_unit_test(test_windows),
        cmocka_unit_test(test_gather),
        cmocka_unit_test(test_upsample),
        cmocka_unit_test(test_row_cross_entropy),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
