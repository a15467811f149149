/* Products with int8 weights of every kernel set against plain loops: the whole numbers and their scales exactly, the
 * epilogue in double precision. */
#include "kernel_sets.h"

#define MOST_ROWS 70

typedef struct problem {
    device d;
    mat x, w, y;
    packed panels;
} problem;

static void set(const mat *m, int64_t r, int64_t c, float value)
{
    int64_t i = r * m->stride + c;

    if (m->type == DTYPE_BF16)
        ((uint16_t *)m->data)[i] = f32_to_bf16(value);
    else if (m->type == DTYPE_F64)
        ((double *)m->data)[i] = (double)value;
    else
        ((float *)m->data)[i] = value;
}

/* Rows of all sorts: of both signs, all equal, zero but for one, all zero, huge, tiny, of one sign. */
static void fill_rows(const mat *x)
{
    for (int64_t r = 0; r < x->rows; r++)
        for (int64_t c = 0; c < x->cols; c++) {
            float v = (float)get(x, r, c);
            switch (r % 9) {
            case 1:
                v = -0.75f;
                break;
            case 2:
                v = c == x->cols / 2 ? 3.0f : 0.0f;
                break;
            case 3:
                v = 0;
                break;
            case 4:
                v *= 3e38f;
                break;
            case 5:
                v *= 1e-33f;
                break;
            case 6:
                v = fabsf(v) + 5;
                break;
            case 7:
                v = -fabsf(v);
                break;
            default:
                break;
            }
            set(x, r, c, v);
        }
}

static void open_problem(problem *p, const kernels *k, int threads, int64_t m, int64_t n, int64_t depth, dtype x_type,
                         dtype y_type)
{
    inlay_error err;

    memset(p, 0, sizeof *p);
    ASSERT_OK(device_open(&p->d, k, threads, &err));
    p->w = random_mat(k, n, depth, DTYPE_F32, 0, 1);
    for (int64_t c = 0; n > 2 && c < depth; c++)
        set(&p->w, 2, c, 0); /* a column of zeros */
    p->panels = (packed){n, depth, DTYPE_I8, k->alloc(k->pack_size(k, n, depth, DTYPE_I8))};
    k->pack(&p->d.c, &p->panels, p->w.data, DTYPE_F32, PLACE_DEVICE);
    p->x = random_mat(k, m, depth, x_type, 3, 2);
    fill_rows(&p->x);
    p->y = random_mat(k, m, n, y_type, 5, 4);
}

static void close_problem(problem *p)
{
    const kernels *k = p->d.k;

    k->release(p->w.data);
    k->release(p->panels.data);
    k->release(p->x.data);
    k->release(p->y.data);
    device_close(&p->d);
}

/* ---- the same in plain C; products of two floats are exact in double ---- */

static float plain_weights(const problem *p, int64_t n, int *q)
{
    float most = 0, scale;

    for (int64_t c = 0; c < p->w.cols; c++)
        most = fmaxf(most, fabsf((float)get(&p->w, n, c)));
    scale = most / 127.0f;
    for (int64_t c = 0; c < p->w.cols; c++)
        q[c] = scale > 0 ? (int)fmax(-127, fmin(127, nearbyint(get(&p->w, n, c) * (double)(1.0f / scale)))) : 0;
    return scale;
}

static double rounded(const mat *x, int64_t r, int64_t c)
{
    return (double)bf16_to_f32(f32_to_bf16((float)get(x, r, c)));
}

static float plain_row(const mat *x, int64_t r, int *q)
{
    double most = 0, least = 0, inverse, zero;
    float scale;

    for (int64_t c = 0; c < x->cols; c++) {
        most = fmax(most, rounded(x, r, c));
        least = fmin(least, rounded(x, r, c));
    }
    scale = (float)most * (1.0f / 254) - (float)least * (1.0f / 254);
    inverse = scale > 0 ? (double)(1.0f / scale) : 0;
    zero = nearbyint(-least * inverse);
    for (int64_t c = 0; c < x->cols; c++) {
        double code = nearbyint(rounded(x, r, c) * inverse + zero);
        assert_true(code >= 0 && code <= 255);
        q[c] = (int)code - (int)zero;
    }
    return scale;
}

static double expected(const kernels *k, const int *x, float x_scale, const int *w, float w_scale, int64_t depth)
{
    int64_t sum = 0;

    for (int64_t c = 0; c < depth; c++)
        sum += x[c] * w[c];
    return k->real == DTYPE_F64 ? (double)sum * ((double)x_scale * (double)w_scale)
                                : (double)((float)sum * (x_scale * w_scale));
}

static void check_products(problem *p)
{
    int64_t m = p->x.rows, n = p->w.rows, depth = p->w.cols;
    int *x = calloc((size_t)(m * depth), sizeof *x), *w = calloc((size_t)(n * depth), sizeof *w);
    float x_scale[MOST_ROWS], *w_scale = calloc((size_t)n, sizeof *w_scale);

    for (int64_t r = 0; r < m; r++)
        x_scale[r] = plain_row(&p->x, r, x + r * depth);
    for (int64_t c = 0; c < n; c++)
        w_scale[c] = plain_weights(p, c, w + c * depth);
    p->d.k->gemm(&p->d.c, &(gemm_args){.y = p->y, .x = p->x, .w = &p->panels});
    for (int64_t r = 0; r < m; r++)
        for (int64_t c = 0; c < n; c++) {
            double e = expected(p->d.k, x + r * depth, x_scale[r], w + c * depth, w_scale[c], depth),
                   found = get(&p->y, r, c);
            if (!(found == e))
                fail_msg("%s: element (%d, %d) of %d x %d x %d is %.9g, expected %.9g", p->d.k->name, (int)r, (int)c,
                         (int)m, (int)n, (int)depth, found, e);
        }
    free(x);
    free(w);
    free(w_scale);
}

static void test_products(void **state)
{
    static const struct {
        int64_t n, k;
    } shapes[] = {{1, 1}, {7, 3}, {33, 5}, {32, 64}, {19, 70}, {100, 131}, {48, 257}, {5, 1030}};
    const kernels *sets[MOST_SETS];
    int count = kernel_sets(sets);

    (void)state;
    for (int s = 0; s < count; s++)
        for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
            for (int64_t m = 1; m <= MOST_ROWS; m += m < 14 ? 1 : 14)
                for (int bf16 = 0; bf16 < 2; bf16++) {
                    problem p;
                    open_problem(&p, sets[s], 2, m, shapes[i].n, shapes[i].k, bf16 ? DTYPE_BF16 : sets[s]->real,
                                 sets[s]->real);
                    check_products(&p);
                    close_problem(&p);
                }
}

/* The deepest sums: all of the largest bytes. */
static void test_deep(void **state)
{
    const kernels *sets[MOST_SETS];
    int count = kernel_sets(sets);

    (void)state;
    for (int s = 0; s < count; s++) {
        problem p;
        open_problem(&p, sets[s], 1, 3, 2, INT8_DEPTH - 1, DTYPE_BF16, sets[s]->real);
        for (int64_t c = 0; c < p.w.cols; c++) {
            set(&p.w, 0, c, 1);
            set(&p.w, 1, c, -1);
            for (int64_t r = 0; r < 3; r++)
                set(&p.x, r, c, r == 2 && c == 0 ? 1 : r ? -1 : 1);
        }
        sets[s]->pack(&p.d.c, &p.panels, p.w.data, DTYPE_F32, PLACE_DEVICE);
        check_products(&p);
        close_problem(&p);
    }
}

/* What is not a number stays so, in its own row only. */
static void test_not_a_number(void **state)
{
    const kernels *sets[MOST_SETS];
    int count = kernel_sets(sets);

    (void)state;
    for (int s = 0; s < count; s++)
        for (int negative = 0; negative < 2; negative++) {
            problem p;
            open_problem(&p, sets[s], 1, 3, 20, 40, DTYPE_BF16, sets[s]->real);
            ((uint16_t *)p.x.data)[p.x.stride + 17] = negative ? 0xffc0u : 0x7fc0u;
            sets[s]->gemm(&p.d.c, &(gemm_args){.y = p.y, .x = p.x, .w = &p.panels});
            for (int64_t r = 0; r < 3; r++)
                for (int64_t c = 0; c < 20; c++)
                    assert_int_equal(isnan(get(&p.y, r, c)) != 0, r == 1);
            close_problem(&p);
        }
}

/* Every part of the epilogue, on the sums of the bare product. */
static void check_epilogue(const kernels *k, int features, dtype y_type)
{
    problem p;
    mat bare, act_grad, residual, bias, scale;
    float factors[MOST_ROWS];

    open_problem(&p, k, 2, 29, 70, 37, DTYPE_BF16, y_type);
    for (int64_t r = 0; r < 29; r++)
        for (int64_t c = 0; c < 37; c++)
            set(&p.x, r, c, (float)((r * 37 + c) % 19) / 9 - 1);
    for (int i = 0; i < MOST_ROWS; i++)
        factors[i] = i % 3 == 0 ? 0.0f : 1.25f;
    bare = random_mat(k, 29, 70, k->real, 0, 5);
    act_grad = random_mat(k, 29, 70, y_type, 0, 6);
    residual = random_mat(k, 29, 70, features & 32 ? DTYPE_BF16 : k->real, 2, 7);
    bias = random_mat(k, 1, 70, k->real, 0, 8);
    scale = random_mat(k, 1, 70, k->real, 0, 9);
    gemm_args args = {.y = bare, .x = p.x, .w = &p.panels};
    k->gemm(&p.d.c, &args);
    args.y = p.y;
    args.out = (gemm_epilogue){.bias = features & 1 ? bias.data : NULL,
                               .act = features & 2 ? ACT_GELU : ACT_NONE,
                               .col_scale = features & 4 ? scale.data : NULL,
                               .row_scale = features & 8 ? factors : NULL,
                               .row_group = 2,
                               .act_grad = features & 64 ? act_grad : (mat){0},
                               .residual = features & 16 ? residual : (mat){0}};
    k->gemm(&p.d.c, &args);
    for (int64_t r = 0; r < 29; r++)
        for (int64_t c = 0; c < 70; c++) {
            double sum = get(&bare, r, c) + (features & 1 ? get(&bias, 0, c) : 0), e = act_plain(args.out.act, sum),
                   found = get(&p.y, r, c);
            e *= features & 4 ? get(&scale, 0, c) : 1;
            e *= features & 8 ? (double)factors[r / 2] : 1;
            e += features & 16 ? get(&residual, r, c) : 0;
            if (!(fabs(found - e) <= slack(k, &p.y, e)))
                fail_msg("%s: with parts %d, element (%d, %d) is %.9g, expected %.9g", k->name, features, (int)r,
                         (int)c, found, e);
            if (features & 64 && !(fabs(get(&act_grad, r, c) - act_slope(args.out.act, sum)) <=
                                   slack(k, &act_grad, 1) + (k->real == DTYPE_F32 ? 1e-5 : 1e-7)))
                fail_msg("%s: with parts %d, the act_grad (%d, %d) is %.9g", k->name, features, (int)r, (int)c,
                         get(&act_grad, r, c));
        }
    k->release(bare.data);
    k->release(act_grad.data);
    k->release(residual.data);
    k->release(bias.data);
    k->release(scale.data);
    close_problem(&p);
}

static void test_epilogue(void **state)
{
    const kernels *sets[MOST_SETS];
    int count = kernel_sets(sets);

    (void)state;
    for (int s = 0; s < count; s++)
        for (int bf16 = 0; bf16 < 2; bf16++)
            for (int features = 0; features < 128; features++)
                check_epilogue(sets[s], features, bf16 ? DTYPE_BF16 : sets[s]->real);
}

/* The bits depend neither on the threads nor on the other rows, nor on the kernel set where it computes in f32. */
static void test_bits(void **state)
{
    const kernels *sets[MOST_SETS];
    int count = kernel_sets(sets);
    const int64_t rows = 61, cols = 70, depth = 131;
    float *agreed = NULL;

    (void)state;
    for (int s = 0; s < count; s++) {
        size_t row = (size_t)cols * dtype_size(sets[s]->real), size = (size_t)rows * row;
        unsigned char *first = NULL;
        for (int threads = 1; threads <= 5; threads++) {
            problem p;
            open_problem(&p, sets[s], threads, rows, cols, depth, DTYPE_BF16, sets[s]->real);
            p.y.stride = cols;
            gemm_args args = {.y = p.y, .x = p.x, .w = &p.panels};
            sets[s]->gemm(&p.d.c, &args);
            if (!first) {
                first = malloc(size);
                memcpy(first, p.y.data, size);
            }
            assert_memory_equal(first, p.y.data, size);
            for (int64_t r = 0; r < rows; r += 7) { /* a row alone */
                gemm_args one = args;
                one.x.data = (uint16_t *)p.x.data + r * p.x.stride;
                one.x.rows = one.y.rows = 1;
                sets[s]->gemm(&p.d.c, &one);
                assert_memory_equal(first + (size_t)r * row, p.y.data, row);
            }
            gemm_args some = args; /* samples 2 and 0 of groups of ten rows */
            some.x.samples = (const int32_t[]){2, 0};
            some.x.group = 10;
            some.x.rows = some.y.rows = 20;
            sets[s]->gemm(&p.d.c, &some);
            assert_memory_equal(first + 20 * row, p.y.data, 10 * row);
            assert_memory_equal(first, (unsigned char *)p.y.data + 10 * row, 10 * row);
            close_problem(&p);
        }
        if (agreed && sets[s]->real == DTYPE_F32 && memcmp(agreed, first, size) != 0)
            fail_msg("%s: int8 products differ from the other sets'", sets[s]->name);
        if (!agreed && sets[s]->real == DTYPE_F32)
            agreed = (float *)(void *)first;
        else
            free(first);
    }
    free(agreed);
}

/* The same bits as the product of what the prologue makes of x, rounded to bf16. */
static void check_prologue(const kernels *k, int features, dtype x_type)
{
    enum { ROWS = 29, COLS = 37, DEPTH = 70 };
    float factors[ROWS];
    problem p;
    mat ready, act_grad, scale, y;

    open_problem(&p, k, 2, ROWS, COLS, DEPTH, x_type, k->real);
    for (int64_t r = 0; r < ROWS; r++)
        for (int64_t c = 0; c < DEPTH; c++)
            set(&p.x, r, c, (float)((r * DEPTH + c) % 23) / 9 - 1);
    for (int i = 0; i < ROWS; i++)
        factors[i] = i % 3 == 0 ? 0.0f : 1.25f;
    ready = random_mat(k, ROWS, DEPTH, DTYPE_BF16, 0, 5);
    act_grad = random_mat(k, ROWS, DEPTH, DTYPE_BF16, 3, 6);
    scale = random_mat(k, 1, DEPTH, k->real, 0, 7);
    y = random_mat(k, ROWS, COLS, k->real, 5, 8);
    gemm_prologue in = {.col_scale = features & 1 ? scale.data : NULL,
                        .row_scale = features & 2 ? factors : NULL,
                        .row_group = 1,
                        .act_grad = features & 4 ? act_grad : (mat){0}};
    k->apply_prologue(&p.d.c, &ready, &p.x, &in);
    k->gemm(&p.d.c, &(gemm_args){.y = p.y, .x = ready, .w = &p.panels});
    k->gemm(&p.d.c, &(gemm_args){.y = y, .x = p.x, .w = &p.panels, .in = in});
    for (int64_t r = 0; r < ROWS; r++)
        for (int64_t c = 0; c < COLS; c++)
            if (get(&y, r, c) != get(&p.y, r, c))
                fail_msg("%s: with parts %d of the prologue, element (%d, %d) is %.9g, expected %.9g", k->name,
                         features, (int)r, (int)c, get(&y, r, c), get(&p.y, r, c));
    k->release(ready.data);
    k->release(act_grad.data);
    k->release(scale.data);
    k->release(y.data);
    close_problem(&p);
}

static void test_prologue(void **state)
{
    const kernels *sets[MOST_SETS];
    int count = kernel_sets(sets);

    (void)state;
    for (int s = 0; s < count; s++)
        for (int bf16 = 0; bf16 < 2; bf16++)
            for (int features = 0; features < 8; features++)
                check_prologue(sets[s], features, bf16 ? DTYPE_BF16 : sets[s]->real);
}

/* Rows that LayerNorm writes as bytes: the bits of those that the product makes of its bf16. */
static void check_coded(const kernels *k, int threads, int64_t rows, int64_t depth)
{
    enum { COLS = 37 };
    int64_t stride = k->quantised_stride(depth);
    problem p;
    mat from, y,
        coded = {
            .data = k->alloc((size_t)(rows * stride)), .type = DTYPE_U8, .rows = rows, .cols = depth, .stride = stride};
    const int32_t chosen[] = {2, 0};

    open_problem(&p, k, threads, rows, COLS, depth, DTYPE_BF16, k->real);
    from = random_mat(k, rows, depth, k->real, 0, 5);
    y = random_mat(k, rows, COLS, k->real, 5, 8);
    layernorm_args norm = {.y = p.x, .x = from, .eps = 1e-6, .groups = 1, .width = depth};
    gemm_args wide = {.y = p.y, .x = p.x, .w = &p.panels}, narrow = {.y = y, .x = coded, .w = &p.panels};
    k->layernorm(&p.d.c, &norm);
    norm.y = coded;
    k->layernorm(&p.d.c, &norm);
    for (int samples = 0; samples < 2; samples++) {
        if (samples) {
            wide.x.samples = narrow.x.samples = chosen;
            wide.x.group = narrow.x.group = rows / 3;
            wide.x.rows = narrow.x.rows = wide.y.rows = narrow.y.rows = rows / 3 * 2;
        }
        k->gemm(&p.d.c, &wide);
        k->gemm(&p.d.c, &narrow);
        for (int64_t r = 0; r < wide.y.rows; r++)
            for (int64_t c = 0; c < COLS; c++)
                if (get(&y, r, c) != get(&p.y, r, c))
                    fail_msg("%s: %d rows of %d, element (%d, %d) is %.9g, expected %.9g", k->name, (int)rows,
                             (int)depth, (int)r, (int)c, get(&y, r, c), get(&p.y, r, c));
    }
    k->release(from.data);
    k->release(y.data);
    k->release(coded.data);
    close_problem(&p);
}

static void test_coded(void **state)
{
    const kernels *sets[MOST_SETS];
    int count = kernel_sets(sets);

    (void)state;
    assert_int_equal(kernels_reference.quantised_stride(192), 256);
    assert_int_equal(kernels_reference.quantised_stride(56), 64);
    assert_int_equal(kernels_reference.quantised_stride(57), 128);
    assert_int_equal(kernels_reference.quantised_stride(4088), 4160);
    for (int s = 0; s < count; s++)
        for (int threads = 1; threads <= 3; threads++) {
            check_coded(sets[s], threads, 3, 192);
            check_coded(sets[s], threads, 29, 37);
            check_coded(sets[s], threads, 250, 70);
        }
}

static void test_unpack(void **state)
{
    const kernels *sets[MOST_SETS];
    int count = kernel_sets(sets), q[19];

    (void)state;
    for (int s = 0; s < count; s++) {
        problem p;
        float back[35 * 19];
        open_problem(&p, sets[s], 2, 1, 35, 19, DTYPE_BF16, sets[s]->real);
        sets[s]->unpack(&p.d.c, back, &p.panels);
        for (int64_t n = 0; n < 35; n++) {
            float scale = plain_weights(&p, n, q);
            for (int64_t c = 0; c < 19; c++)
                assert_true(back[n * 19 + c] == scale * (float)q[c]);
        }
        close_problem(&p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_products), cmocka_unit_test(test_deep),   cmocka_unit_test(test_not_a_number),
        cmocka_unit_test(test_epilogue), cmocka_unit_test(test_bits),   cmocka_unit_test(test_prologue),
        cmocka_unit_test(test_coded),    cmocka_unit_test(test_unpack),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
