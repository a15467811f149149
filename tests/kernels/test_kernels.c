/* Attention, normalisation, activations, optimiser and dropout of every kernel set against plain double precision. */
#include "kernel_sets.h"

static mat zeros(const kernels *k, int64_t rows, int64_t cols)
{
    return (mat){.data = k->alloc((size_t)(rows * cols) * dtype_size(k->real)),
                 .type = k->real,
                 .rows = rows,
                 .cols = cols,
                 .stride = cols};
}

static mat part(mat m, int64_t first, int64_t cols)
{
    m.data = (unsigned char *)m.data + (size_t)first * dtype_size(m.type);
    m.cols = cols;
    return m;
}

static device open_device(const kernels *k, int threads)
{
    inlay_error err;
    device d;

    ASSERT_OK(device_open(&d, k, threads, &err));
    return d;
}

/* ---- attention ---- */

/* Plain: out and, when dout is given, the gradients, all [rows, heads * dim] in double. */
static void plain_attention(const attention_args *a, double *out, const mat *dout, double *dq, double *dk, double *dv)
{
    int64_t n = a->k_rows, width = a->heads * a->head_dim;
    double *p = calloc((size_t)n, sizeof *p), *dp = calloc((size_t)n, sizeof *dp);

    for (int64_t s = 0; s < a->samples; s++)
        for (int64_t h = 0; h < a->heads; h++)
            for (int64_t i = 0; i < a->q_rows; i++) {
                int64_t row = s * a->q_rows + i, at = h * a->head_dim;
                double top = -1e300, sum = 0, inner = 0;
                for (int64_t j = 0; j < n; j++) {
                    p[j] = 0;
                    for (int64_t c = 0; c < a->head_dim; c++)
                        p[j] += a->scale * get(&a->q, row, at + c) * get(&a->k, s * n + j, at + c);
                    top = fmax(top, p[j]);
                }
                for (int64_t j = 0; j < n; j++)
                    sum += p[j] = exp(p[j] - top);
                for (int64_t j = 0; j < n; j++)
                    p[j] /= sum;
                for (int64_t c = 0; c < a->head_dim; c++) {
                    double total = 0;
                    for (int64_t j = 0; j < n; j++)
                        total += p[j] * get(&a->v, s * n + j, at + c);
                    out[row * width + at + c] = total;
                }
                if (!dout)
                    continue;
                for (int64_t j = 0; j < n; j++) {
                    dp[j] = 0;
                    for (int64_t c = 0; c < a->head_dim; c++) {
                        dp[j] += get(dout, row, at + c) * get(&a->v, s * n + j, at + c);
                        dv[(s * n + j) * width + at + c] += p[j] * get(dout, row, at + c);
                    }
                    inner += p[j] * dp[j];
                }
                for (int64_t j = 0; j < n; j++)
                    for (int64_t c = 0; c < a->head_dim; c++) {
                        double ds = a->scale * p[j] * (dp[j] - inner);
                        dq[row * width + at + c] += ds * get(&a->k, s * n + j, at + c);
                        dk[(s * n + j) * width + at + c] += ds * get(&a->q, row, at + c);
                    }
            }
    free(p);
    free(dp);
}

static void close_to(const kernels *k, const mat *m, const double *expected, double limit, const char *what)
{
    for (int64_t r = 0; r < m->rows; r++)
        for (int64_t c = 0; c < m->cols; c++) {
            double e = expected[r * m->cols + c], f = get(m, r, c);
            if (!(fabs(f - e) <= limit * (1 + fabs(e))))
                fail_msg("%s: %s(%d, %d) is %.9g, expected %.9g", k->name, what, (int)r, (int)c, f, e);
        }
}

static void check_attention(const kernels *k, int64_t samples, int64_t q_rows, int64_t k_rows, int64_t heads,
                            int64_t dim, dtype type)
{
    int64_t width = heads * dim;
    /* queries in one buffer, keys and values side by side in another, with columns of others around them */
    mat q = random_mat(k, samples * q_rows, width + 3, type, 1, 1),
        kv = random_mat(k, samples * k_rows, 2 * width + 2, type, 0, 2),
        dout = random_mat(k, samples * q_rows, width, k->real, 0, 3);
    mat dq = random_mat(k, samples * q_rows, width, k->real, 2, 4),
        dkv = random_mat(k, samples * k_rows, 2 * width, k->real, 0, 5);
    double *out = calloc((size_t)(samples * q_rows * width), sizeof *out),
           *eq = calloc((size_t)(samples * q_rows * width), sizeof *eq);
    double *ek = calloc((size_t)(samples * k_rows * width), sizeof *ek),
           *ev = calloc((size_t)(samples * k_rows * width), sizeof *ev);
    /* then gradients, and where pairs of bf16 are multiplied probabilities as well, are rounded to 8 bits in front of
     * their products */
    bool rounded = type == DTYPE_BF16 && k->real == DTYPE_F32;
    double limit = k->real == DTYPE_F64 ? 1e-12 : rounded ? 1e-3 : 2e-5;
    unsigned char *first = NULL;
    size_t size = (size_t)(samples * q_rows * width) * dtype_size(k->real);

    for (int threads = 1; threads <= 3; threads++) {
        device d = open_device(k, threads);
        mat result = zeros(k, samples * q_rows, width), lse = zeros(k, samples * heads, q_rows);
        attention_args a = {.out = result,
                            .q = part(q, 3, width),
                            .k = part(kv, 1, width),
                            .v = part(kv, width + 2, width),
                            .samples = samples,
                            .q_rows = q_rows,
                            .k_rows = k_rows,
                            .heads = heads,
                            .head_dim = dim,
                            .scale = 1 / sqrt((double)dim),
                            .rounded = rounded,
                            .lse = lse.data};
        k->attention(&d.c, &a);
        if (threads == 1) {
            plain_attention(&a, out, &dout, eq, ek, ev);
            close_to(k, &result, out, limit, "out");
            first = malloc(size);
            memcpy(first, result.data, size);
        }
        assert_memory_equal(first, result.data, size);
        a.dout = dout;
        a.dq = dq;
        a.dk = part(dkv, 0, width);
        a.dv = part(dkv, width, width);
        a.accumulate_q = a.accumulate_k = a.accumulate_v = threads > 1;
        if (threads <= 2) { /* the second run adds the same once more */
            k->attention_backward(&d.c, &a);
            for (int64_t i = 0; threads == 2 && i < samples * q_rows * width; i++)
                eq[i] *= 2;
            for (int64_t i = 0; threads == 2 && i < samples * k_rows * width; i++) {
                ek[i] *= 2;
                ev[i] *= 2;
            }
            close_to(k, &dq, eq, 2 * limit, "dq");
            mat dk = a.dk, dv = a.dv;
            close_to(k, &dk, ek, 4 * limit, "dk");
            close_to(k, &dv, ev, 4 * limit, "dv");
        }
        k->release(result.data);
        k->release(lse.data);
        device_close(&d);
    }
    free(first);
    free(out);
    free(eq);
    free(ek);
    free(ev);
    k->release(q.data);
    k->release(kv.data);
    k->release(dout.data);
    k->release(dq.data);
    k->release(dkv.data);
}

static void test_attention(void **state)
{
    const kernels *sets[MOST_SETS];
    int count = kernel_sets(sets);

    (void)state;
    for (int s = 0; s < count; s++) {
        check_attention(sets[s], 1, 1, 1, 1, 1, sets[s]->real);
        check_attention(sets[s], 2, 17, 17, 2, 16, sets[s]->real);
        check_attention(sets[s], 2, 50, 50, 3, 5, sets[s]->real);
        check_attention(sets[s], 3, 1, 97, 2, 33, sets[s]->real);
        check_attention(sets[s], 1, 101, 101, 1, 64, DTYPE_BF16);
        check_attention(sets[s], 2, 49, 35, 2, 7, DTYPE_BF16);
        check_attention(sets[s], 1, 3, 1, 1, 1, DTYPE_BF16);
        check_attention(sets[s], 1, 700, 640, 1, 16, DTYPE_BF16); /* several spans in the backward pass */
    }
}

/* ---- LayerNorm ---- */

static void check_layernorm(const kernels *k, int64_t rows, int64_t groups, int64_t width, dtype type)
{
    device d = open_device(k, 3);
    mat x = random_mat(k, rows, groups * width, type, 2, 1), w = random_mat(k, 1, width, k->real, 0, 2),
        b = random_mat(k, 1, width, k->real, 0, 3);
    mat y = zeros(k, rows, groups * width), dy = random_mat(k, rows, groups * width, k->real, 0, 4),
        dx = random_mat(k, rows, groups * width, k->real, 1, 5);
    mat mean = zeros(k, rows, groups), rstd = zeros(k, rows, groups), dw = zeros(k, 1, width), db = zeros(k, 1, width);
    double *ey = calloc((size_t)(rows * groups * width), sizeof *ey),
           *ex = calloc((size_t)(rows * groups * width), sizeof *ex);
    double *ew = calloc((size_t)width, sizeof *ew), *eb = calloc((size_t)width, sizeof *eb),
           limit = k->real == DTYPE_F64 ? 1e-11 : 3e-5;
    layernorm_args a = {.y = y,
                        .x = x,
                        .weight = w.data,
                        .bias = b.data,
                        .eps = 1e-6,
                        .groups = groups,
                        .width = width,
                        .mean = mean.data,
                        .rstd = rstd.data,
                        .dy = dy,
                        .dx = dx,
                        .accumulate = true,
                        .need_dx = true,
                        .dweight = dw.data,
                        .dbias = db.data};

    for (int64_t r = 0; r < rows; r++)
        for (int64_t g = 0; g < groups; g++) {
            double m = 0, v = 0, sum = 0, inner = 0, scale;
            int64_t at = g * width;
            for (int64_t c = 0; c < width; c++)
                m += get(&x, r, at + c) / (double)width;
            for (int64_t c = 0; c < width; c++)
                v += (get(&x, r, at + c) - m) * (get(&x, r, at + c) - m) / (double)width;
            scale = 1 / sqrt(v + 1e-6);
            for (int64_t c = 0; c < width; c++) {
                double hat = (get(&x, r, at + c) - m) * scale, grad = get(&dy, r, at + c) * get(&w, 0, c);
                ey[r * groups * width + at + c] = hat * get(&w, 0, c) + get(&b, 0, c);
                sum += grad / (double)width;
                inner += grad * hat / (double)width;
                ew[c] += get(&dy, r, at + c) * hat;
                eb[c] += get(&dy, r, at + c);
            }
            for (int64_t c = 0; c < width; c++) {
                double hat = (get(&x, r, at + c) - m) * scale, grad = get(&dy, r, at + c) * get(&w, 0, c);
                ex[r * groups * width + at + c] = get(&dx, r, at + c) + scale * (grad - sum - hat * inner);
            }
        }
    k->layernorm(&d.c, &a);
    close_to(k, &y, ey, limit, "layernorm");
    k->layernorm_backward(&d.c, &a);
    close_to(k, &dx, ex, limit * 10, "dx");
    close_to(k, &dw, ew, limit * 10, "dweight");
    close_to(k, &db, eb, limit * 10, "dbias");
    void *blocks[] = {x.data, w.data, b.data, y.data, dy.data, dx.data, mean.data, rstd.data, dw.data, db.data};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
        k->release(blocks[i]);
    free(ey);
    free(ex);
    free(ew);
    free(eb);
    device_close(&d);
}

static void test_layernorm(void **state)
{
    const kernels *sets[MOST_SETS];
    int count = kernel_sets(sets);

    (void)state;
    for (int s = 0; s < count; s++) {
        check_layernorm(sets[s], 1, 1, 5, sets[s]->real);
        check_layernorm(sets[s], 150, 1, 37, sets[s]->real);
        check_layernorm(sets[s], 9, 3, 17, sets[s]->real);
        check_layernorm(sets[s], 70, 1, 64, DTYPE_BF16);
    }
}

/* ---- activations: value to 2e-7, act_grad to 1e-6 of its size in f32 ---- */

static void test_activations(void **state)
{
    const kernels *sets[MOST_SETS];
    int count = kernel_sets(sets);

    (void)state;
    for (int s = 0; s < count; s++)
        for (int act = 1; act < ACT_COUNT; act++) {
            const kernels *k = sets[s];
            device d = open_device(k, 2);
            mat x = random_mat(k, 50, 101, k->real, 0, 1), y = zeros(k, 50, 101), dy = zeros(k, 50, 101),
                dx = zeros(k, 50, 101);
            double limit = k->real == DTYPE_F64 ? 1e-12 : 4e-7;
            for (int64_t i = 0; i < 50 * 101; i++) { /* values in [-12, 12], and far out */
                double value_ = real_at(k, x.data, i) * (i % 11 == 0 ? 100 : 12);
                if (k->real == DTYPE_F64) {
                    ((double *)x.data)[i] = value_;
                    ((double *)dy.data)[i] = 1;
                } else {
                    ((float *)x.data)[i] = (float)value_;
                    ((float *)dy.data)[i] = 1;
                }
            }
            k->map(&d.c, &(map_args){.y = y, .x = x, .act = (activation)act});
            k->map_backward(&d.c, &(map_args){.x = x, .act = (activation)act, .dy = dy, .dx = dx});
            for (int64_t i = 0; i < 50 * 101; i++) {
                double at = real_at(k, x.data, i), e = act_plain((activation)act, at),
                       act_grad = act_slope((activation)act, at);
                if (!(fabs(real_at(k, y.data, i) - e) <= limit * (1 + fabs(at))))
                    fail_msg("%s: %s(%.9g) is %.9g, expected %.9g", k->name, activation_name((activation)act), at,
                             real_at(k, y.data, i), e);
                if (!(fabs(real_at(k, dx.data, i) - act_grad) <= 1e-6 + limit * 4 * (1 + fabs(at))) && fabs(at) > 1e-5)
                    fail_msg("%s: act_grad of %s at %.9g is %.9g, expected %.9g", k->name,
                             activation_name((activation)act), at, real_at(k, dx.data, i), act_grad);
            }
            k->release(x.data);
            k->release(y.data);
            k->release(dy.data);
            k->release(dx.data);
            device_close(&d);
        }
}

/* ---- dropout: what is kept is scaled, the share is right, backward draws the same mask ---- */

static void test_dropout(void **state)
{
    const kernels *sets[MOST_SETS];
    int count = kernel_sets(sets);

    (void)state;
    for (int s = 0; s < count; s++) {
        const kernels *k = sets[s];
        mat x = random_mat(k, 90, 111, k->real, 0, 1), y1 = zeros(k, 90, 111), y3 = zeros(k, 90, 111);
        dropout_args a = {.x = x, .rate = 0.3, .stream = {.seed = 4, .purpose = RNG_DROPOUT, .stream = 2, .step = 9}};
        device one = open_device(k, 1), three = open_device(k, 3);
        int kept = 0;
        a.y = y1;
        k->dropout(&one.c, &a);
        a.y = y3;
        k->dropout(&three.c, &a);
        assert_memory_equal(y1.data, y3.data, (size_t)(90 * 111) * dtype_size(k->real));
        for (int64_t i = 0; i < 90 * 111; i++) {
            double e = real_at(k, x.data, i) / 0.7, f = real_at(k, y1.data, i);
            assert_true(f == 0 || fabs(f - e) <= 1e-6);
            kept += f != 0;
        }
        assert_true(kept > 90 * 111 * 0.67 && kept < 90 * 111 * 0.73);
        k->release(x.data);
        k->release(y1.data);
        k->release(y3.data);
        device_close(&one);
        device_close(&three);
    }
}

/* ---- AdamW ---- */

static void *at(const mat *m, int64_t column)
{
    return (unsigned char *)m->data + (size_t)column * dtype_size(m->type);
}

static void test_adamw(void **state)
{
    static const int64_t begins[] = {0, 5, 76, 77};
    const kernels *sets[MOST_SETS];
    int count = kernel_sets(sets);

    (void)state;
    for (int s = 0; s < count; s++) {
        const kernels *k = sets[s];
        device d = open_device(k, 2);
        mat value_ = random_mat(k, 1, 77, k->real, 0, 1), m = zeros(k, 1, 77), v = zeros(k, 1, 77);
        double p[77], pm[77] = {0}, pv[77] = {0};
        for (int i = 0; i < 77; i++)
            p[i] = get(&value_, 0, i);
        for (int step = 1; step <= 5; step++) {
            mat g = random_mat(k, 1, 77, k->real, 0, (uint32_t)step + 10);
            adamw_args sweep[3]; /* three tensors of one array */
            for (int i = 0; i < 3; i++)
                sweep[i] = (adamw_args){.value = at(&value_, begins[i]),
                                        .m = at(&m, begins[i]),
                                        .v = at(&v, begins[i]),
                                        .grad = at(&g, begins[i]),
                                        .count = begins[i + 1] - begins[i],
                                        .step = step,
                                        .lr = 0.01,
                                        .beta1 = 0.9,
                                        .beta2 = 0.999,
                                        .eps = 1e-8,
                                        .weight_decay = 0.1};
            k->adamw(&d.c, sweep, 3);
            for (int i = 0; i < 77; i++) {
                double grad = get(&g, 0, i);
                p[i] *= 1 - 0.01 * 0.1;
                pm[i] = 0.9 * pm[i] + 0.1 * grad;
                pv[i] = 0.999 * pv[i] + 0.001 * grad * grad;
                p[i] -= 0.01 * (pm[i] / (1 - pow(0.9, step))) / (sqrt(pv[i] / (1 - pow(0.999, step))) + 1e-8);
            }
            k->release(g.data);
        }
        close_to(k, &value_, p, k->real == DTYPE_F64 ? 1e-12 : 2e-6, "AdamW");
        k->release(value_.data);
        k->release(m.data);
        k->release(v.data);
        device_close(&d);
    }
}

/* What AdamW's fields change: decay behind the step, no bias correction, a mask that decay passes or does not. */
static void test_adamw_fields(void **state)
{
    static const struct {
        bool decay_last, uncorrected, masked, decay_masked;
    } cases[] = {{true, false, false, false},
                 {false, true, false, false},
                 {true, true, true, false},
                 {true, false, true, true},
                 {false, false, true, false}};
    enum { COUNT = 21 };
    const kernels *sets[MOST_SETS];
    int count = kernel_sets(sets);
    unsigned char mask[COUNT];

    (void)state;
    for (int i = 0; i < COUNT; i++)
        mask[i] = i % 3 != 0;
    for (int s = 0; s < count; s++)
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
            const kernels *k = sets[s];
            device d = open_device(k, 2);
            mat p = random_mat(k, 1, COUNT, k->real, 0, 1), g = random_mat(k, 1, COUNT, k->real, 0, 2);
            mat m = zeros(k, 1, COUNT), v = zeros(k, 1, COUNT);
            adamw_args args = {.value = p.data,
                               .m = m.data,
                               .v = v.data,
                               .grad = g.data,
                               .count = COUNT,
                               .step = 1,
                               .lr = 0.1,
                               .beta1 = 0.9,
                               .beta2 = 0.99,
                               .eps = 1e-3,
                               .weight_decay = 0.5,
                               .mask = cases[i].masked ? mask : NULL,
                               .decay_masked = cases[i].decay_masked,
                               .decay_last = cases[i].decay_last,
                               .uncorrected = cases[i].uncorrected};
            double want[COUNT];
            for (int j = 0; j < COUNT; j++) {
                bool open = !cases[i].masked || mask[j];
                double grad = open ? get(&g, 0, j) : 0, decay = open || cases[i].decay_masked ? 1 - 0.1 * 0.5 : 1;
                double c1 = cases[i].uncorrected ? 1 : 0.1, c2 = cases[i].uncorrected ? 1 : 0.01;
                double step = 0.1 * (0.1 * grad / c1) / (sqrt(0.01 * grad * grad / c2) + 1e-3);
                want[j] = cases[i].decay_last ? (get(&p, 0, j) - step) * decay : get(&p, 0, j) * decay - step;
            }
            k->adamw(&d.c, &args, 1);
            close_to(k, &p, want, k->real == DTYPE_F64 ? 1e-12 : 2e-6, "AdamW's fields");
            k->release(p.data);
            k->release(m.data);
            k->release(v.data);
            k->release(g.data);
            device_close(&d);
        }
}

/* ---- SGD, clipping ---- */

static void test_sgd(void **state)
{
    enum { COUNT = 77 };
    const kernels *sets[MOST_SETS];
    int count = kernel_sets(sets);
    unsigned char mask[COUNT];

    (void)state;
    for (int i = 0; i < COUNT; i++)
        mask[i] = i % 5 != 0;
    for (int s = 0; s < count; s++)
        for (int masked = 0; masked < 3; masked++) { /* 2: decay passes the mask */
            const kernels *k = sets[s];
            device d = open_device(k, 2);
            mat value_ = random_mat(k, 1, COUNT, k->real, 0, 1), m = zeros(k, 1, COUNT);
            double p[COUNT], pm[COUNT] = {0};
            for (int i = 0; i < COUNT; i++)
                p[i] = get(&value_, 0, i);
            for (int step = 1; step <= 5; step++) {
                mat g = random_mat(k, 1, COUNT, k->real, 0, (uint32_t)step + 10);
                sgd_args args = {.value = value_.data,
                                 .m = m.data,
                                 .grad = g.data,
                                 .count = COUNT,
                                 .lr = 0.1,
                                 .momentum = 0.9,
                                 .weight_decay = 0.2,
                                 .mask = masked ? mask : NULL,
                                 .decay_masked = masked == 2};
                k->sgd(&d.c, &args, 1);
                for (int i = 0; i < COUNT; i++) {
                    bool open = !masked || mask[i];
                    pm[i] *= 0.9;
                    pm[i] += (open ? get(&g, 0, i) : 0) + (open || masked == 2 ? 0.2 * p[i] : 0);
                    p[i] -= 0.1 * pm[i];
                }
                k->release(g.data);
            }
            close_to(k, &value_, p, k->real == DTYPE_F64 ? 1e-12 : 2e-6, "SGD");
            close_to(k, &m, pm, k->real == DTYPE_F64 ? 1e-12 : 1e-5, "SGD's momentum");
            k->release(value_.data);
            k->release(m.data);
            device_close(&d);
        }
}

static void test_clip(void **state)
{
    enum { COUNT = 77 };
    static const int64_t counts[] = {5, 71, 1};
    const kernels *sets[MOST_SETS];
    int count = kernel_sets(sets);
    unsigned char mask[COUNT];

    (void)state;
    for (int i = 0; i < COUNT; i++)
        mask[i] = i % 5 != 0;
    for (int s = 0; s < count; s++) {
        const kernels *k = sets[s];
        device d = open_device(k, 2);
        mat g = random_mat(k, 1, COUNT, k->real, 0, 3);
        gradient_args args[3];
        double sums[3], want[COUNT];
        for (int i = 0, begin = 0; i < 3; begin += (int)counts[i], i++) {
            double sum = 0;
            args[i] = (gradient_args){
                .grad = at(&g, begin), .count = counts[i], .mask = i == 1 ? mask : NULL, .factor = 0.5 + i};
            k->square_sums(&d.c, sums + i, args + i, 1);
            for (int j = 0; j < counts[i]; j++) {
                double x = get(&g, 0, begin + j);
                sum += i == 1 && !mask[j] ? 0 : x * x;
                want[begin + j] = x * (0.5 + i);
            }
            assert_true(fabs(sums[i] - sum) <= 1e-12 * (1 + sum));
        }
        k->scale_gradients(&d.c, args, 3);
        close_to(k, &g, want, k->real == DTYPE_F64 ? 1e-15 : 1e-6, "scaled gradients");
        k->release(g.data);
        device_close(&d);
    }
}

/* ---- sums over rows, and rows moved ---- */

static void test_rows(void **state)
{
    const kernels *sets[MOST_SETS];
    int count = kernel_sets(sets);

    (void)state;
    for (int s = 0; s < count; s++) {
        const kernels *k = sets[s];
        mat dy = random_mat(k, 6 * 70, 13, k->real, 3, 1), other = random_mat(k, 6 * 70, 13, DTYPE_BF16, 0, 2),
            total = zeros(k, 1, 13), table = zeros(k, 70, 13);
        float factors[6] = {0, 1, 2, 0.5f, 0, 3};
        double e[13] = {0}, et[70 * 13] = {0}, mean[6 * 13] = {0}, limit = k->real == DTYPE_F64 ? 1e-12 : 1e-5;
        mat averages = zeros(k, 6, 13), moved = zeros(k, 6 * 4, 13);
        device d = open_device(k, 3);
        for (int64_t r = 0; r < 6 * 70; r++)
            for (int64_t c = 0; c < 13; c++) {
                e[c] += get(&dy, r, c) * get(&other, r, c) * (double)factors[r / 70];
                et[r % 70 * 13 + c] += get(&dy, r, c);
                mean[r / 70 * 13 + c] += r % 70 >= 5 && r % 70 < 45 ? get(&dy, r, c) / 40 : 0;
            }
        k->column_sum(&d.c, &(column_sum_args){
                                .out = total.data, .dy = dy, .other = other, .row_scale = factors, .row_group = 70});
        close_to(k, &total, e, limit * 10, "column sum");
        k->column_sum(&d.c, &(column_sum_args){.out = table.data, .dy = dy, .row_group = 1, .modulo = 70});
        close_to(k, &table, et, limit, "table sum");
        k->mean_rows(&d.c,
                     &(mean_rows_args){.y = averages, .x = dy, .samples = 6, .group = 70, .first = 5, .count = 40});
        close_to(k, &averages, mean, limit, "mean");
        k->copy_rows(&d.c, &(copy_rows_args){.y = moved,
                                             .x = dy,
                                             .samples = 6,
                                             .y_group = 4,
                                             .y_first = 1,
                                             .x_group = 70,
                                             .x_first = 8,
                                             .count = 2});
        for (int64_t r = 0; r < 24; r++)
            for (int64_t c = 0; c < 13; c++)
                assert_true(get(&moved, r, c) ==
                            (r % 4 == 1 || r % 4 == 2 ? get(&dy, r / 4 * 70 + 8 + r % 4 - 1, c) : 0));
        void *blocks[] = {dy.data, other.data, total.data, table.data, averages.data, moved.data};
        for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
            k->release(blocks[i]);
        device_close(&d);
    }
}

static void test_no_room(void **state)
{
    const kernels *sets[MOST_SETS];
    inlay_error err;
    kernels greedy;
    device d;

    (void)state;
    kernel_sets(sets);
    greedy = *sets[0];
    greedy.scratch_size = (size_t)1 << 60;
    assert_int_equal(device_open(&d, &greedy, 2, &err), INLAY_ERR_NOMEM);
    assert_non_null(strstr(err.message, "out of memory: 1152921504606.8 MB of scratch for each of 2 threads"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_attention), cmocka_unit_test(test_layernorm), cmocka_unit_test(test_activations),
        cmocka_unit_test(test_dropout),   cmocka_unit_test(test_adamw),     cmocka_unit_test(test_adamw_fields),
        cmocka_unit_test(test_sgd),       cmocka_unit_test(test_clip),      cmocka_unit_test(test_rows),
        cmocka_unit_test(test_no_room),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
