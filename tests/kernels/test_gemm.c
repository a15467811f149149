/* Matrix products of every kernel set against plain loops in double precision. */
#include "kernel_sets.h"

static const struct {
    int64_t m, n, k;
} shapes[] = {{1, 1, 1},    {5, 7, 3},     {6, 16, 8},   {13, 33, 17}, {12, 32, 64},
              {40, 70, 31}, {197, 24, 48}, {3, 100, 65}, {64, 5, 130}};

typedef struct problem {
    device d;
    mat x, w, y, act_grad, residual, in_slope;
    packed panels;
    void *bias, *scale, *in_scale;
    float factors[256];
} problem;

static double weight(const problem *p, dtype type, int64_t n, int64_t k)
{
    double w = get(&p->w, n, k);

    return type == DTYPE_BF16 ? (double)bf16_to_f32(f32_to_bf16((float)w)) : w;
}

static void open_problem(problem *p, const kernels *k, int threads, int64_t m, int64_t n, int64_t depth, dtype w_type,
                         dtype x_type, dtype y_type, bool transposed)
{
    inlay_error err;

    memset(p, 0, sizeof *p);
    ASSERT_OK(device_open(&p->d, k, threads, &err));
    p->w = random_mat(k, n, depth, DTYPE_F32, 0, 1);
    p->panels = (packed){n, depth, w_type, k->alloc(k->pack_size(k, n, depth, w_type))};
    k->pack(&p->d.c, &p->panels, p->w.data, DTYPE_F32, PLACE_DEVICE);
    p->x = random_mat(k, m, transposed ? n : depth, x_type, 3, 2);
    p->in_slope = random_mat(k, m, transposed ? n : depth, y_type, 1, 3);
    p->y = random_mat(k, m, transposed ? depth : n, y_type, 5, 4);
    p->act_grad = random_mat(k, m, transposed ? depth : n, y_type, 0, 5);
    p->residual = random_mat(k, m, transposed ? depth : n, k->real, 2, 6);
    p->bias = random_mat(k, 1, 256, k->real, 0, 7).data;
    p->scale = random_mat(k, 1, 256, k->real, 0, 8).data;
    p->in_scale = random_mat(k, 1, 256, k->real, 0, 9).data;
    for (int i = 0; i < 256; i++)
        p->factors[i] = i % 3 == 0 ? 0.0f : 1.25f;
}

static void close_problem(problem *p)
{
    const kernels *k = p->d.k;

    k->release(p->w.data);
    k->release(p->panels.data);
    k->release(p->x.data);
    k->release(p->in_slope.data);
    k->release(p->y.data);
    k->release(p->act_grad.data);
    k->release(p->residual.data);
    k->release(p->bias);
    k->release(p->scale);
    k->release(p->in_scale);
    device_close(&p->d);
}

/* The product for one element, in double, with every part of prologue and epilogue that `args` has. *act_grad gets the
 * activation's act_grad. */
static double expected(const problem *p, const gemm_args *args, int64_t r, int64_t c, double *act_grad)
{
    const kernels *k = p->d.k;
    dtype type = p->panels.type;
    double sum = 0, y;

    for (int64_t i = 0; i < args->x.cols; i++) {
        double x = get(&args->x, r, i);
        if (args->in.row_scale)
            x *= (double)args->in.row_scale[r / args->in.row_group];
        if (args->in.col_scale)
            x *= real_at(k, args->in.col_scale, i);
        if (args->in.act_grad.data)
            x *= get(&args->in.act_grad, r, i);
        if (type == DTYPE_BF16)
            x = (double)bf16_to_f32(f32_to_bf16((float)x));
        sum += x * (args->transposed ? weight(p, type, i, c) : weight(p, type, c, i));
    }
    if (args->out.bias)
        sum += real_at(k, args->out.bias, c);
    *act_grad = act_slope(args->out.act, sum);
    y = act_plain(args->out.act, sum);
    if (args->out.col_scale)
        y *= real_at(k, args->out.col_scale, c);
    if (args->out.row_scale)
        y *= (double)args->out.row_scale[r / args->out.row_group];
    return args->out.residual.data ? y + get(&args->out.residual, r, c) : y;
}

/* features: bits of what the call uses */
static gemm_args arguments(problem *p, int features, bool transposed, activation act)
{
    gemm_args args = {.y = p->y, .x = p->x, .w = &p->panels, .transposed = transposed};

    if (features & 1)
        args.out.bias = p->bias;
    if (features & 2) {
        args.out.act = act;
        args.out.act_grad = p->act_grad;
    }
    if (features & 4)
        args.out.col_scale = p->scale;
    if (features & 8) {
        args.out.row_scale = p->factors;
        args.out.row_group = 2;
    }
    if (features & 16)
        args.out.residual = p->residual;
    if (features & 32) {
        args.in.col_scale = p->in_scale;
        args.in.row_scale = p->factors;
        args.in.row_group = 3;
    }
    if (features & 64)
        args.in.act_grad = p->in_slope;
    return args;
}

static void check(problem *p, const gemm_args *args)
{
    const kernels *k = p->d.k;
    /* bf16: a prologue's f32 rounding may tip a value to the next bf16 */
    double product = p->panels.type == DTYPE_BF16 ? (args->in.act_grad.data || args->in.row_scale ? 0.02 : 1e-5) : 0;

    k->gemm(&p->d.c, args);
    for (int64_t r = 0; r < args->y.rows; r++)
        for (int64_t c = 0; c < args->y.cols; c++) {
            double act_grad,
                e = expected(p, args, r, c, &act_grad), found = get(&args->y, r, c),
                limit = (double)args->x.cols * (product + slack(k, &p->residual, 1)) + slack(k, &args->y, e);
            if (!(fabs(found - e) <= limit))
                fail_msg("%s: element (%d, %d) of %d x %d x %d is %.9g, expected %.9g", k->name, (int)r, (int)c,
                         (int)args->y.rows, (int)args->y.cols, (int)args->x.cols, found, e);
            /* a product's error moves the act_grad by at most as much again; it is a difference itself in `expected` */
            limit = 2 * (double)args->x.cols * (product + slack(k, &p->residual, 1)) +
                    slack(k, &args->out.act_grad, act_grad) + 1e-7;
            if (args->out.act_grad.data && !(fabs(get(&args->out.act_grad, r, c) - act_grad) <= limit))
                fail_msg("%s: the kept act_grad (%d, %d) is %.9g, expected %.9g", k->name, (int)r, (int)c,
                         get(&args->out.act_grad, r, c), act_grad);
        }
}

static void test_products(void **state)
{
    const kernels *sets[MOST_SETS];
    int count = kernel_sets(sets);

    (void)state;
    for (int s = 0; s < count; s++)
        for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
            for (int variant = 0; variant < 16; variant++) {
                static const int features[8] = {0, 1, 3, 7, 31, 96, 127, 48};
                dtype w = variant & 8 ? DTYPE_BF16 : sets[s]->real, y = i % 2 ? DTYPE_BF16 : sets[s]->real;
                problem p;
                for (int transposed = 0; transposed < 2; transposed++) {
                    open_problem(&p, sets[s], 2, shapes[i].m, shapes[i].n, shapes[i].k, w,
                                 variant & 1 ? DTYPE_BF16 : sets[s]->real, y, transposed);
                    gemm_args args =
                        arguments(&p, features[variant & 7], transposed, variant & 1 ? ACT_GELU : ACT_SILU);
                    check(&p, &args);
                    close_problem(&p);
                }
            }
}

/* The bits depend neither on the threads nor on the other rows; in f32 not on the kernel set either. Forward and
 * transposed. */
static void test_bits(void **state)
{
    const kernels *sets[MOST_SETS];
    int count = kernel_sets(sets);
    float *agreed[2] = {NULL, NULL};

    (void)state;
    for (int s = 0; s < count; s++)
        for (int variant = 0; variant < 4; variant++) {
            int bf16 = variant & 1, transposed = variant >> 1;
            dtype w = bf16 ? DTYPE_BF16 : sets[s]->real;
            size_t row = (transposed ? 131 : 70) * dtype_size(sets[s]->real), size = 40 * row;
            unsigned char *first = NULL;
            for (int threads = 1; threads <= 5; threads++) {
                problem p;
                open_problem(&p, sets[s], threads, 40, 70, 131, w, sets[s]->real, sets[s]->real, transposed);
                p.y.stride = p.y.cols;
                gemm_args args = {.y = p.y, .x = p.x, .w = &p.panels, .transposed = transposed};
                sets[s]->gemm(&p.d.c, &args);
                if (!first) {
                    first = malloc(size);
                    memcpy(first, p.y.data, size);
                }
                assert_memory_equal(first, p.y.data, size);
                for (int64_t r = 0; r < 40; r += 7) { /* a row alone */
                    gemm_args one = args;
                    one.x.data = (unsigned char *)p.x.data + (size_t)(r * p.x.stride) * dtype_size(p.x.type);
                    one.x.rows = one.y.rows = 1;
                    sets[s]->gemm(&p.d.c, &one);
                    assert_memory_equal(first + (size_t)r * row, p.y.data, row);
                }
                close_problem(&p);
            }
            if (!bf16 && sets[s]->real == DTYPE_F32) {
                if (agreed[transposed] && memcmp(agreed[transposed], first, size) != 0)
                    fail_msg("%s: f32 products differ from the other sets'", sets[s]->name);
                if (!agreed[transposed]) {
                    agreed[transposed] = malloc(size);
                    memcpy(agreed[transposed], first, size);
                }
            }
            free(first);
        }
    free(agreed[0]);
    free(agreed[1]);
}

/* ---- products of patches: the bits of storing the patches and multiplying them then, whatever their type ---- */

typedef struct image {
    int64_t height, width, channels, patch;
} image;

static void check_pixels(const kernels *k, int threads, const image *at, int64_t samples, int64_t n, dtype w_type,
                         dtype pixel_type)
{
    float means[4] = {0.5f, 0.45f, 0.4f, 0.3f}, stds[4] = {0.25f, 0.2f, 0.3f, 0.7f};
    int64_t rows = samples * (at->height / at->patch) * (at->width / at->patch),
            depth = at->channels * at->patch * at->patch;
    int64_t count = samples * at->height * at->width * at->channels;
    mat w = random_mat(k, n, depth, DTYPE_F32, 0, 1), y = random_mat(k, rows, n, k->real, 3, 2),
        bias = random_mat(k, 1, n, k->real, 0, 3);
    patch_rows x = {.pixels = malloc((size_t)count * dtype_size(pixel_type)),
                    .type = pixel_type,
                    .height = at->height,
                    .width = at->width,
                    .channels = at->channels,
                    .patch = at->patch,
                    .mean = {means[0], means[1], means[2], means[3]},
                    .std = {stds[0], stds[1], stds[2], stds[3]}}; /* of their exact size: nothing reads beyond them */
    packed panels = {n, depth, w_type, k->alloc(k->pack_size(k, n, depth, w_type))};
    inlay_error err;
    device d;

    ASSERT_OK(device_open(&d, k, threads, &err));
    for (int i = 0; i < threads; i++)
        memset(d.c.scratch[i], 0xff, (size_t)3 << 20);
    for (int64_t i = 0; i < count; i++) {
        uint8_t byte = (uint8_t)(rng_u32((rng_stream){.seed = 4, .purpose = RNG_TEST}, (uint64_t)i) >> 24);
        if (pixel_type == DTYPE_U8)
            ((uint8_t *)(uintptr_t)x.pixels)[i] = byte;
        else
            ((float *)(uintptr_t)x.pixels)[i] = (float)byte * 0.75f;
    }
    k->pack(&d.c, &panels, w.data, DTYPE_F32, PLACE_DEVICE);
    k->gemm(&d.c, &(gemm_args){
                      .y = y, .x = {.rows = rows, .cols = depth}, .pixels = &x, .w = &panels, .out.bias = bias.data});
    for (int bf16 = 0; bf16 < (w_type == k->real ? 1 : 2); bf16++) {
        mat patches = random_mat(k, rows, depth, bf16 ? DTYPE_BF16 : k->real, 0, 5),
            stored = random_mat(k, rows, n, k->real, 3, 2);
        k->patchify(&d.c, &patches, &x);
        k->gemm(&d.c, &(gemm_args){.y = stored, .x = patches, .w = &panels, .out.bias = bias.data});
        if (memcmp(y.data, stored.data, (size_t)(rows * y.stride) * dtype_size(k->real)) != 0)
            fail_msg("%s, %d threads: %d x %d x %d of patches of %d, %s pixels and %s weights, has other bits than of "
                     "stored patches (%s)",
                     k->name, threads, (int)rows, (int)n, (int)depth, (int)at->patch, dtype_name(pixel_type),
                     dtype_name(w_type), dtype_name(patches.type));
        k->release(patches.data);
        k->release(stored.data);
    }
    free((void *)(uintptr_t)x.pixels);
    k->release(w.data);
    k->release(y.data);
    k->release(bias.data);
    k->release(panels.data);
    device_close(&d);
}

static void test_pixels(void **state)
{
    static const image images[] = {{32, 60, 3, 2}, {3, 5, 3, 1},    {9, 6, 1, 3},   {10, 15, 4, 5},
                                   {14, 21, 3, 7}, {28, 42, 3, 14}, {48, 32, 3, 16}};
    const kernels *sets[MOST_SETS];
    int count = kernel_sets(sets);

    (void)state;
    for (int s = 0; s < count; s++)
        for (size_t i = 0; i < sizeof images / sizeof *images; i++)
            for (int threads = 1; threads <= 3; threads++)
                for (int variant = 0; variant < 6; variant++) {
                    dtype type = variant % 3 == 0 ? sets[s]->real : variant % 3 == 1 ? DTYPE_BF16 : DTYPE_I8;
                    check_pixels(sets[s], threads, &images[i], i % 2 ? 1 : 2, i % 3 ? 70 : 33, type,
                                 variant < 3 ? DTYPE_U8 : DTYPE_F32);
                }
}

static void test_outer(void **state)
{
    static const struct {
        int64_t rows, n, k;
    } outer[] = {{1, 1, 1}, {300, 8, 19}, {513, 19, 8}, {7, 40, 33}, {256, 12, 64}};
    const kernels *sets[MOST_SETS];
    int count = kernel_sets(sets);

    (void)state;
    for (int s = 0; s < count; s++)
        for (size_t i = 0; i < sizeof outer / sizeof *outer; i++) {
            const kernels *k = sets[s];
            unsigned char *first = NULL;
            size_t size = (size_t)(outer[i].n * outer[i].k) * dtype_size(k->real);
            for (int threads = 1; threads <= 3; threads++) {
                inlay_error err;
                device d;
                mat dy = random_mat(k, outer[i].rows, outer[i].n, k->real, 2, 1),
                    x = random_mat(k, outer[i].rows, outer[i].k, i % 2 ? DTYPE_BF16 : k->real, 0, 2);
                mat dw = random_mat(k, outer[i].n, outer[i].k, k->real, 0, 3),
                    before = random_mat(k, outer[i].n, outer[i].k, k->real, 0, 3);
                ASSERT_OK(device_open(&d, k, threads, &err));
                k->gemm_outer(&d.c, &(gemm_outer_args){.dw = dw.data, .dy = dy, .x = x, .accumulate = true});
                for (int64_t n = 0; n < outer[i].n; n++)
                    for (int64_t c = 0; c < outer[i].k; c++) {
                        double e = get(&before, n, c);
                        for (int64_t r = 0; r < outer[i].rows; r++)
                            e += get(&dy, r, n) * get(&x, r, c);
                        if (!(fabs(get(&dw, n, c) - e) <= (double)outer[i].rows * slack(k, &dw, 1)))
                            fail_msg("%s: dw(%d, %d) is %.9g, expected %.9g", k->name, (int)n, (int)c, get(&dw, n, c),
                                     e);
                    }
                if (!first) {
                    first = malloc(size);
                    memcpy(first, dw.data, size);
                }
                assert_memory_equal(first, dw.data, size);
                k->release(dy.data);
                k->release(x.data);
                k->release(dw.data);
                k->release(before.data);
                device_close(&d);
            }
            free(first);
        }
}

static void test_unpack(void **state)
{
    const kernels *sets[MOST_SETS];
    int count = kernel_sets(sets);

    (void)state;
    for (int s = 0; s < count; s++)
        for (int type = 0; type < 2; type++) {
            problem p;
            float back[35 * 19];
            dtype w = type ? DTYPE_BF16 : sets[s]->real;
            open_problem(&p, sets[s], 2, 1, 35, 19, w, sets[s]->real, sets[s]->real, false);
            sets[s]->unpack(&p.d.c, back, &p.panels);
            for (int64_t n = 0; n < 35; n++)
                for (int64_t c = 0; c < 19; c++)
                    assert_true((double)back[n * 19 + c] == (double)(float)weight(&p, w, n, c));
            close_problem(&p);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_products), cmocka_unit_test(test_bits),   cmocka_unit_test(test_pixels),
        cmocka_unit_test(test_outer),    cmocka_unit_test(test_unpack),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
