/* What every kernel set promises: the same bits with any number of threads, and for a sample alone as in a batch. And
 * the reference set's backward passes against central differences of its forward passes. Scratch memory begins as NaN,
 * so nothing may hang on what an earlier call left there. */
#include "kernel_sets.h"

#define SAMPLES 5

/* A run of samples [first, first + count) of a fixed input. The results go to `bytes`: those of each sample after one
 * another (`each` bytes a sample), then sums over all samples. */
typedef struct run {
    const kernels *k;
    compute *c;
    dtype type; /* of activations */
    int64_t first, count;
    unsigned char bytes[1 << 20];
    size_t size, each;
    void *held[64];
    int held_count;
} run;

/* `rows` rows for each sample; those of the run's samples are what is returned. */
static mat draw(run *r, int64_t rows, int64_t cols, dtype type, int64_t extra, uint32_t seed)
{
    mat m = random_mat(r->k, SAMPLES * rows, cols, type, extra, seed);

    assert_true(r->held_count < 64);
    r->held[r->held_count++] = m.data;
    m.data = (unsigned char *)m.data + (size_t)(r->first * rows * m.stride) * dtype_size(type);
    m.rows = r->count * rows;
    return m;
}

static void *array(run *r, int64_t count, uint32_t seed)
{
    mat m = random_mat(r->k, 1, count, r->k->real, 0, seed);

    assert_true(r->held_count < 64);
    return r->held[r->held_count++] = m.data;
}

static void emit(run *r, const void *data, size_t size)
{
    assert_true(r->size + size <= sizeof r->bytes);
    memcpy(r->bytes + r->size, data, size);
    r->size += size;
}

static void emit_real(run *r, const void *data, int64_t count)
{
    emit(r, data, (size_t)count * dtype_size(r->k->real));
}

static void emit_sample(run *r, const mat *m, int64_t sample)
{
    int64_t rows = m->rows / r->count;

    for (int64_t i = 0; i < rows; i++)
        emit(r, (unsigned char *)m->data + (size_t)((sample * rows + i) * m->stride) * dtype_size(m->type),
             (size_t)m->cols * dtype_size(m->type));
}

static void emit_samples(run *r, const mat *results, int count)
{
    for (int64_t s = 0; s < r->count; s++)
        for (int i = 0; i < count; i++)
            emit_sample(r, &results[i], s);
    r->each = r->size / (size_t)r->count;
}

static mat columns(mat m, int64_t first, int64_t cols)
{
    m.data = (unsigned char *)m.data + (size_t)first * dtype_size(m.type);
    m.cols = cols;
    return m;
}

/* ---- runs ---- */

static void run_attention(run *r, int64_t q_rows, int64_t k_rows, int64_t heads, int64_t dim)
{
    int64_t width = heads * dim;
    dtype real = r->k->real;
    mat q = draw(r, q_rows, width, r->type, 1, 1), kv = draw(r, k_rows, 2 * width, r->type, 0, 2),
        dkv = draw(r, k_rows, 2 * width, real, 0, 3);
    mat lse = draw(r, heads * q_rows, 1, real, 0, 4);
    attention_args a = {.out = draw(r, q_rows, width, r->type, 0, 5),
                        .q = q,
                        .k = columns(kv, 0, width),
                        .v = columns(kv, width, width),
                        .samples = r->count,
                        .q_rows = q_rows,
                        .k_rows = k_rows,
                        .heads = heads,
                        .head_dim = dim,
                        .scale = 0.3,
                        .rounded = r->type == DTYPE_BF16,
                        .lse = lse.data,
                        .dout = draw(r, q_rows, width, real, 0, 6),
                        .dq = draw(r, q_rows, width, real, 1, 7),
                        .dk = columns(dkv, 0, width),
                        .dv = columns(dkv, width, width),
                        .accumulate_k = true};

    r->k->attention(r->c, &a);
    r->k->attention_backward(r->c, &a);
    emit_samples(r, (mat[]){a.out, lse, a.dq, dkv}, 4);
}

static void run_square_attention(run *r)
{
    run_attention(r, 59, 59, 2, 16);
}

static void run_class_token(run *r)
{
    run_attention(r, 1, 50, 3, 5);
}

static void run_many_blocks(run *r)
{
    run_attention(r, 103, 37, 1, 33);
}

static void run_layernorm(run *r)
{
    enum { ROWS = 29, GROUPS = 2, WIDTH = 43 };
    dtype real = r->k->real;
    mat mean = draw(r, ROWS * GROUPS, 1, real, 0, 1), rstd = draw(r, ROWS * GROUPS, 1, real, 0, 2);
    layernorm_args a = {.y = draw(r, ROWS, GROUPS * WIDTH, r->type, 1, 3),
                        .x = draw(r, ROWS, GROUPS * WIDTH, r->type, 0, 4),
                        .weight = array(r, WIDTH, 5),
                        .bias = array(r, WIDTH, 6),
                        .eps = 1e-5,
                        .groups = GROUPS,
                        .width = WIDTH,
                        .mean = mean.data,
                        .rstd = rstd.data,
                        .dy = draw(r, ROWS, GROUPS * WIDTH, real, 0, 7),
                        .dx = draw(r, ROWS, GROUPS * WIDTH, real, 0, 8),
                        .accumulate = true,
                        .need_dx = true,
                        .dweight = array(r, WIDTH, 9),
                        .dbias = array(r, WIDTH, 10),
                        .accumulate_params = true};

    r->k->layernorm(r->c, &a);
    r->k->layernorm_backward(r->c, &a);
    emit_samples(r, (mat[]){a.y, a.dx, mean, rstd}, 4);
    emit_real(r, a.dweight, WIDTH);
    emit_real(r, a.dbias, WIDTH);
}

static packed pack(run *r, int64_t n, int64_t k, const void *w)
{
    packed p = {.n = n, .k = k, .type = r->k->real, .data = r->k->alloc(r->k->pack_size(r->k, n, k, r->k->real))};

    assert_true(r->held_count < 64);
    r->held[r->held_count++] = p.data;
    r->k->pack(r->c, &p, w, r->k->real, PLACE_DEVICE);
    return p;
}

/* Also forward against the two products of which it is made: the same bits. In place: x is the residual, and its
 * gradient takes the place of the result's. */
static void run_bottleneck(run *r, int64_t k, int64_t n, int64_t rank, bool in_place)
{
    enum { ROWS = 29 };
    dtype real = r->k->real, type = in_place ? real : r->type;
    const float factors[SAMPLES] = {1.25f, 0, 1.25f, 0.5f, 1};
    void *wd = array(r, rank * k, 1), *wu = array(r, n * rank, 2);
    packed down = pack(r, rank, k, wd), up = pack(r, n, rank, wu);
    mat x = draw(r, ROWS, k, type, 0, 3), hidden = draw(r, ROWS, rank, real, 0, 4),
        again = draw(r, ROWS, n, real, 0, 5);
    bottleneck_args a = {
        .y = draw(r, ROWS, n, real, 1, 6),
        .x = x,
        .down = &down,
        .up = &up,
        .down_bias = array(r, rank, 7),
        .up_bias = array(r, n, 8),
        .act = ACT_GELU,
        .col_scale = array(r, n, 9),
        .row_scale = factors + r->first,
        .row_group = ROWS,
        .residual = in_place ? x : draw(r, ROWS, n, type, 0, 10),
        .hidden = draw(r, ROWS, rank, real, 0, 11),
        .act_grad = draw(r, ROWS, rank, real, 0, 12),
        .dy = draw(r, ROWS, n, real, 0, 13),
        .down_weight = wd,
        .up_weight = wu,
        .ddown = array(r, rank * k, 14),
        .ddown_bias = array(r, rank, 15),
        .dup = array(r, n * rank, 16),
        .dup_bias = array(r, n, 17),
        .dcol_scale = array(r, n, 18),
        .accumulate = true,
        .partials = array(r, (SAMPLES * ROWS / bottleneck_chunk(rank) + 1) * ((rank + 1) * n + rank * k + rank), 19)};

    r->k->bottleneck(r->c, &a);
    r->k->gemm(r->c, &(gemm_args){.y = hidden, .x = x, .w = &down, .out = {.bias = a.down_bias, .act = ACT_GELU}});
    r->k->gemm(r->c, &(gemm_args){.y = again,
                                  .x = hidden,
                                  .w = &up,
                                  .out = {.bias = a.up_bias,
                                          .col_scale = a.col_scale,
                                          .row_scale = a.row_scale,
                                          .row_group = ROWS,
                                          .residual = a.residual}});
    for (int64_t i = 0; i < again.rows; i++)
        assert_memory_equal((unsigned char *)a.y.data + (size_t)(i * a.y.stride) * dtype_size(real),
                            (unsigned char *)again.data + (size_t)(i * n) * dtype_size(real),
                            (size_t)n * dtype_size(real));
    a.dx = in_place ? a.dy : draw(r, ROWS, k, real, 0, 20);
    r->k->bottleneck_backward(r->c, &a);
    emit_samples(r, (mat[]){a.y, a.hidden, a.act_grad, a.dx}, 4);
    emit_real(r, a.ddown, rank * k);
    emit_real(r, a.ddown_bias, rank);
    emit_real(r, a.dup, n * rank);
    emit_real(r, a.dup_bias, n);
    emit_real(r, a.dcol_scale, n);
}

static void run_narrow_bottleneck(run *r)
{
    run_bottleneck(r, 43, 37, 5, false);
}

static void run_wide_bottleneck(run *r)
{
    run_bottleneck(r, 64, 64, 37, true);
}

static void run_elementwise(run *r)
{
    enum { ROWS = 31, COLS = 27 };
    dtype real = r->k->real;
    mat x = draw(r, ROWS, COLS, r->type, 1, 1), dy = draw(r, ROWS, COLS, real, 0, 2), results[6];
    multiply_args multiply = {.y = draw(r, ROWS, COLS, real, 2, 14), .a = dy, .b = x, .accumulate = true};
    map_args map = {.y = draw(r, ROWS, COLS, r->type, 0, 3),
                    .x = x,
                    .act = ACT_GELU,
                    .dy = dy,
                    .dx = draw(r, ROWS, COLS, real, 1, 4),
                    .accumulate = true};
    affine_args affine = {.y = draw(r, ROWS, COLS, r->type, 0, 5),
                          .x = x,
                          .gamma = array(r, COLS, 6),
                          .beta = array(r, COLS, 7),
                          .factor = 0.7,
                          .dy = dy,
                          .dx = draw(r, ROWS, COLS, real, 0, 8),
                          .need_dx = true,
                          .dgamma = array(r, COLS, 9),
                          .dbeta = array(r, COLS, 10)};
    add_args add = {.y = draw(r, ROWS, COLS, r->type, 0, 11),
                    .a = x,
                    .b = dy,
                    .factor = 1,
                    .table = array(r, ROWS * COLS, 12),
                    .table_rows = ROWS};
    column_sum_args sum = {.out = array(r, ROWS * COLS, 13), .dy = dy, .other = x, .row_group = 1, .modulo = ROWS};

    r->k->map(r->c, &map);
    r->k->map_backward(r->c, &map);
    r->k->affine(r->c, &affine);
    r->k->affine_backward(r->c, &affine);
    r->k->add(r->c, &add);
    r->k->multiply(r->c, &multiply);
    r->k->column_sum(r->c, &sum);
    memcpy(results, (mat[]){map.y, map.dx, affine.y, affine.dx, add.y, multiply.y}, 6 * sizeof *results);
    emit_samples(r, results, 6);
    emit_real(r, affine.dgamma, COLS);
    emit_real(r, affine.dbeta, COLS);
    emit_real(r, sum.out, ROWS * COLS);
}

static void run_rows(run *r)
{
    enum { ROWS = 13, COLS = 21 };
    dtype real = r->k->real;
    mat x = draw(r, ROWS, COLS, r->type, 1, 1), copied = draw(r, ROWS + 2, COLS, real, 0, 2),
        mean = draw(r, 1, COLS, r->type, 0, 3), dx = draw(r, ROWS, COLS, real, 0, 4);

    r->k->copy_rows(r->c, &(copy_rows_args){.y = copied,
                                            .x = x,
                                            .samples = r->count,
                                            .y_group = ROWS + 2,
                                            .y_first = 2,
                                            .x_group = ROWS,
                                            .count = ROWS,
                                            .accumulate = true});
    r->k->mean_rows(
        r->c, &(mean_rows_args){.y = mean, .x = x, .samples = r->count, .group = ROWS, .first = 1, .count = ROWS - 1});
    r->k->mean_rows(r->c, &(mean_rows_args){.y = dx,
                                            .x = draw(r, 1, COLS, real, 0, 5),
                                            .samples = r->count,
                                            .group = ROWS,
                                            .first = 1,
                                            .count = ROWS - 1,
                                            .backward = true});
    emit_samples(r, (mat[]){copied, mean, dx}, 3);
}

static void run_sampling(run *r)
{
    enum {
        ROWS = 13,
        COLS = 21,
        WIDTH = 4,
        STRIDE = 2,
        PADDING = 3,
        COUNT = (ROWS + 2 * PADDING - WIDTH) / STRIDE + 1
    };
    dtype real = r->k->real;
    windows_args windows = {.y = draw(r, COUNT, WIDTH * COLS, r->type, 0, 1),
                            .x = draw(r, ROWS, COLS, r->type, 1, 2),
                            .samples = r->count,
                            .rows = ROWS,
                            .count = COUNT,
                            .width = WIDTH,
                            .stride = STRIDE,
                            .padding = PADDING,
                            .dy = draw(r, COUNT, WIDTH * COLS, r->type, 0, 3),
                            .dx = draw(r, ROWS, COLS, real, 0, 4),
                            .accumulate = true};

    int32_t ids[SAMPLES * COUNT];
    gather_args gather = {.y = draw(r, COUNT, COLS, r->type, 0, 5),
                          .table = array(r, ROWS * COLS, 6),
                          .count = ROWS,
                          .ids = ids + r->first * COUNT,
                          .dy = draw(r, COUNT, COLS, r->type, 1, 7),
                          .dtable = array(r, ROWS * COLS, 8)};

    upsample_args upsample = {.y = draw(r, 5 * 7, COLS, r->type, 0, 9),
                              .x = draw(r, 4 * 3, COLS, r->type, 1, 10),
                              .samples = r->count,
                              .height = 4,
                              .width = 3,
                              .out_height = 5,
                              .out_width = 7,
                              .dy = draw(r, 5 * 7, COLS, r->type, 1, 11),
                              .dx = draw(r, 4 * 3, COLS, real, 0, 12),
                              .accumulate = true};

    for (int i = 0; i < SAMPLES * COUNT; i++)
        ids[i] = i * 11 % 7 - 1;
    r->k->windows(r->c, &windows);
    r->k->windows_backward(r->c, &windows);
    r->k->gather(r->c, &gather);
    r->k->gather_backward(r->c, &gather);
    r->k->upsample(r->c, &upsample);
    r->k->upsample_backward(r->c, &upsample);
    emit_samples(r, (mat[]){windows.y, windows.dx, gather.y, upsample.y, upsample.dx}, 5);
    emit_real(r, gather.dtable, ROWS * COLS);
}

static void run_head(run *r)
{
    enum { SIDE = 12, PATCH = 4, CLASSES = 17, ROWS = 3 };
    dtype real = r->k->real;
    uint8_t pixels[SAMPLES * SIDE * SIDE];
    int32_t labels[SAMPLES * ROWS];
    mat patches = draw(r, SIDE / PATCH * (SIDE / PATCH), PATCH * PATCH, r->type, 0, 1),
        logits = draw(r, ROWS, CLASSES, r->type, 0, 2), losses = draw(r, ROWS, 1, real, 0, 3),
        targets = draw(r, ROWS, CLASSES, real, 0, 5), shares = draw(r, ROWS, 1, real, 0, 6),
        dlogits = draw(r, ROWS, CLASSES, real, 0, 7), dtargets = draw(r, ROWS, CLASSES, real, 0, 8),
        terms = draw(r, ROWS, 1, real, 0, 10), drows = draw(r, ROWS, CLASSES, real, 0, 11);
    float weights[SAMPLES * ROWS];
    void *loss = array(r, 1, 4), *one = array(r, 1, 9), *sum = array(r, 1, 12);
    cross_entropy_args rows = {.logits = logits,
                               .labels = labels + r->first * ROWS,
                               .weights = weights + r->first * ROWS,
                               .smoothing = 0.1,
                               .loss = sum,
                               .losses = terms.data,
                               .dlogits = drows,
                               .accumulate = true,
                               .dloss = one};

    for (int i = 0; i < SAMPLES * SIDE * SIDE; i++)
        pixels[i] = (uint8_t)(i * 31);
    for (int i = 0; i < SAMPLES * ROWS; i++) {
        labels[i] = i * 7 % CLASSES;
        weights[i] = (float)(i % 4) / 7;
    }
    r->k->patchify(r->c, &patches,
                   &(patch_rows){.pixels = pixels + r->first * SIDE * SIDE,
                                 .type = DTYPE_U8,
                                 .height = SIDE,
                                 .width = SIDE,
                                 .channels = 1,
                                 .patch = PATCH,
                                 .mean = {0.4f},
                                 .std = {0.3f}});
    r->k->cross_entropy(r->c, &(cross_entropy_args){.logits = logits,
                                                    .labels = labels + r->first * ROWS,
                                                    .smoothing = 0.1,
                                                    .count = logits.rows,
                                                    .loss = loss,
                                                    .losses = losses.data});
    r->k->binary_cross_entropy(r->c, &(binary_cross_entropy_args){.logits = logits,
                                                                  .targets = targets,
                                                                  .scale = 0.25,
                                                                  .losses = shares.data,
                                                                  .dlogits = dlogits,
                                                                  .dtargets = dtargets,
                                                                  .dloss = one});
    r->k->row_cross_entropy(r->c, &rows);
    emit_samples(r, (mat[]){patches, losses, shares, dlogits, dtargets, terms, drows}, 7);
    emit_real(r, loss, 1);
    emit_real(r, sum, 1);
}

/* Neither has samples: the mask hangs on the row's number, and parameters are updated one by one. */
static void run_threads_only(run *r)
{
    enum { COUNT = 531 };
    mat x = draw(r, 19, 23, r->type, 0, 1), y = draw(r, 19, 23, r->type, 0, 2);
    void *value = array(r, COUNT, 3), *m = array(r, COUNT, 4), *v = r->k->alloc(COUNT * sizeof(double));

    r->held[r->held_count++] = v;
    r->k->dropout(r->c, &(dropout_args){.y = y, .x = x, .rate = 0.5, .stream = {.seed = 1, .purpose = RNG_DROPOUT}});
    r->k->adamw(r->c,
                &(adamw_args){.value = value,
                              .m = m,
                              .v = v,
                              .grad = array(r, COUNT, 5),
                              .count = COUNT,
                              .step = 2,
                              .lr = 0.1,
                              .beta1 = 0.9,
                              .beta2 = 0.99,
                              .eps = 1e-8,
                              .weight_decay = 0.1},
                1);
    for (int64_t s = 0; s < r->count; s++)
        emit_sample(r, &y, s);
    emit_real(r, value, COUNT);
    emit_real(r, m, COUNT);
    emit_real(r, v, COUNT);
    r->k->sgd(r->c,
              &(sgd_args){.value = value,
                          .m = m,
                          .grad = array(r, COUNT, 6),
                          .count = COUNT,
                          .lr = 0.1,
                          .momentum = 0.9,
                          .weight_decay = 0.1},
              1);
    emit_real(r, value, COUNT);
    emit_real(r, m, COUNT);
}

/* Norms of several gradients, and the gradients scaled by it. */
static void run_clip(run *r)
{
    enum { COUNT = 531, TENSORS = 5 };
    gradient_args args[TENSORS];
    double sums[TENSORS];
    void *norms = r->k->alloc(TENSORS * sizeof(double));

    r->held[r->held_count++] = norms;
    for (int i = 0; i < TENSORS; i++)
        args[i] = (gradient_args){.grad = array(r, COUNT, (uint32_t)i + 1), .count = COUNT - 7 * i};
    r->k->square_sums(r->c, sums, args, TENSORS);
    for (int i = 0; i < TENSORS; i++) {
        args[i].factor = 1 / sqrt(sums[i]);
        if (r->k->real == DTYPE_F64)
            ((double *)norms)[i] = sums[i];
        else
            ((float *)norms)[i] = (float)sums[i];
    }
    r->k->scale_gradients(r->c, args, TENSORS);
    emit_real(r, norms, TENSORS);
    for (int i = 0; i < TENSORS; i++)
        emit_real(r, args[i].grad, args[i].count);
}

/* ---- the promises ---- */

static void perform(run *r, void (*kernel_run)(run *), const kernels *k, dtype type, int threads, int64_t first,
                    int64_t count)
{
    inlay_error err;
    device d;

    ASSERT_OK(device_open(&d, k, threads, &err));
    for (int i = 0; i < threads; i++)
        memset(d.c.scratch[i], 0xff, (size_t)1 << 20);
    r->k = k;
    r->c = &d.c;
    r->type = type;
    r->first = first;
    r->count = count;
    r->size = r->each = 0;
    kernel_run(r);
    while (r->held_count)
        k->release(r->held[--r->held_count]);
    device_close(&d);
}

static void test_bits(void **state)
{
    static const struct {
        const char *name;
        void (*run)(run *);
    } runs[] = {
        {"attention", run_square_attention},
        {"attention of a class token", run_class_token},
        {"attention in several blocks", run_many_blocks},
        {"layernorm", run_layernorm},
        {"narrow bottleneck", run_narrow_bottleneck},
        {"wide bottleneck", run_wide_bottleneck},
        {"element by element", run_elementwise},
        {"rows", run_rows},
        {"rows from elsewhere", run_sampling},
        {"patches and loss", run_head},
        {"dropout and optimisers", run_threads_only},
        {"norms of gradients", run_clip},
    };
    static run batch, other;
    const kernels *sets[MOST_SETS];
    int count = kernel_sets(sets);

    (void)state;
    for (int s = 0; s < count; s++)
        for (int bf16 = 0; bf16 < 2; bf16++)
            for (size_t i = 0; i < sizeof runs / sizeof *runs; i++) {
                dtype type = bf16 ? DTYPE_BF16 : sets[s]->real;
                perform(&batch, runs[i].run, sets[s], type, 1, 0, SAMPLES);
                for (int threads = 2; threads <= 3; threads++) {
                    perform(&other, runs[i].run, sets[s], type, threads, 0, SAMPLES);
                    if (other.size != batch.size || memcmp(other.bytes, batch.bytes, batch.size) != 0)
                        fail_msg("%s: %s with %d threads has other bits than with one", sets[s]->name, runs[i].name,
                                 threads);
                }
                for (int64_t sample = 0; sample < SAMPLES && batch.each; sample++) {
                    perform(&other, runs[i].run, sets[s], type, 2, sample, 1);
                    assert_int_equal(other.each, batch.each);
                    if (memcmp(other.bytes, batch.bytes + (size_t)sample * batch.each, batch.each) != 0)
                        fail_msg("%s: %s of sample %d alone has other bits than in the batch", sets[s]->name,
                                 runs[i].name, (int)sample);
                }
            }
}

/* ---- central differences ---- */

typedef struct act_grad {
    compute *c;
    void (*forward)(compute *c, const void *args);
    const void *args;
    const mat *y, *dy; /* the objective is the sum of y * dy */
} act_grad;

static double objective(const act_grad *s)
{
    double total = 0;

    s->forward(s->c, s->args);
    for (int64_t r = 0; r < s->y->rows; r++)
        for (int64_t c = 0; c < s->y->cols; c++)
            total += get(s->y, r, c) * get(s->dy, r, c);
    return total;
}

static void check_slope(const char *what, const act_grad *s, const mat *x, const mat *dx)
{
    for (int64_t r = 0; r < x->rows; r++)
        for (int64_t c = 0; c < x->cols; c++) {
            double *at = (double *)x->data + r * x->stride + c, here = *at, h = 1e-5, up, down, e,
                   found = get(dx, r, c);
            *at = here + h;
            up = objective(s);
            *at = here - h;
            down = objective(s);
            *at = here;
            e = (up - down) / (2 * h);
            if (!(fabs(found - e) <= 2e-8 * (1 + fabs(e))))
                fail_msg("%s(%d, %d) is %.12g, the difference quotient %.12g", what, (int)r, (int)c, found, e);
        }
}

static void forward_attention(compute *c, const void *args)
{
    kernels_reference.attention(c, args);
}

static void forward_layernorm(compute *c, const void *args)
{
    kernels_reference.layernorm(c, args);
}

static void forward_map(compute *c, const void *args)
{
    kernels_reference.map(c, args);
}

static void forward_affine(compute *c, const void *args)
{
    kernels_reference.affine(c, args);
}

static void forward_cross_entropy(compute *c, const void *args)
{
    kernels_reference.cross_entropy(c, args);
}

static void differ_attention(run *r)
{
    const kernels *k = r->k;
    mat qkv = draw(r, 7, 3 * 6, k->real, 0, 1), d = draw(r, 7, 3 * 6, k->real, 0, 2),
        lse = draw(r, 2 * 7, 1, k->real, 0, 3);
    attention_args a = {.out = draw(r, 7, 6, k->real, 0, 4),
                        .q = columns(qkv, 0, 6),
                        .k = columns(qkv, 6, 6),
                        .v = columns(qkv, 12, 6),
                        .samples = SAMPLES,
                        .q_rows = 7,
                        .k_rows = 7,
                        .heads = 2,
                        .head_dim = 3,
                        .scale = 0.7,
                        .lse = lse.data,
                        .dout = draw(r, 7, 6, k->real, 0, 5),
                        .dq = columns(d, 0, 6),
                        .dk = columns(d, 6, 6),
                        .dv = columns(d, 12, 6)};
    act_grad s = {r->c, forward_attention, &a, &a.out, &a.dout};

    k->attention(r->c, &a);
    k->attention_backward(r->c, &a);
    check_slope("attention: dqkv", &s, &qkv, &d);
    a.dq.data = a.dk.data = NULL; /* only one of the three is wanted: the others' columns stay */
    a.accumulate_v = true;
    k->attention_backward(r->c, &a);
    for (int64_t i = 0; i < d.rows; i++)
        for (int64_t j = 12; j < 18; j++)
            ((double *)d.data)[i * d.stride + j] /= 2;
    check_slope("attention: dqkv, dv added", &s, &qkv, &d);
}

static void differ_layernorm(run *r)
{
    const kernels *k = r->k;
    mat x = draw(r, 3, 14, k->real, 1, 1), dy = draw(r, 3, 14, k->real, 0, 2), dx = draw(r, 3, 14, k->real, 0, 3),
        y = draw(r, 3, 14, k->real, 0, 4);
    mat w = {.data = array(r, 7, 5), .type = k->real, .rows = 1, .cols = 7, .stride = 7},
        b = {.data = array(r, 7, 6), .type = k->real, .rows = 1, .cols = 7, .stride = 7},
        dw = {.data = array(r, 7, 7), .type = k->real, .rows = 1, .cols = 7, .stride = 7},
        db = {.data = array(r, 7, 8), .type = k->real, .rows = 1, .cols = 7, .stride = 7};
    layernorm_args a = {.y = y,
                        .x = x,
                        .weight = w.data,
                        .bias = b.data,
                        .eps = 1e-3,
                        .groups = 2,
                        .width = 7,
                        .mean = array(r, 6 * SAMPLES, 9),
                        .rstd = array(r, 6 * SAMPLES, 10),
                        .dy = dy,
                        .dx = dx,
                        .need_dx = true,
                        .dweight = dw.data,
                        .dbias = db.data};
    act_grad s = {r->c, forward_layernorm, &a, &y, &dy};

    k->layernorm(r->c, &a);
    k->layernorm_backward(r->c, &a);
    check_slope("layernorm: dx", &s, &x, &dx);
    check_slope("layernorm: dweight", &s, &w, &dw);
    check_slope("layernorm: dbias", &s, &b, &db);
}

static void differ_map(run *r)
{
    const kernels *k = r->k;
    mat x = draw(r, 4, 9, k->real, 0, 1), dy = draw(r, 4, 9, k->real, 0, 2), dx = draw(r, 4, 9, k->real, 0, 3),
        y = draw(r, 4, 9, k->real, 0, 4);

    for (int act = ACT_NONE; act < ACT_COUNT; act++) {
        map_args a = {.y = y, .x = x, .act = (activation)act, .dy = dy, .dx = dx};
        act_grad s = {r->c, forward_map, &a, &y, &dy};
        k->map_backward(r->c, &a);
        check_slope(activation_name((activation)act), &s, &x, &dx);
    }
}

static void differ_affine(run *r)
{
    const kernels *k = r->k;
    mat x = draw(r, 4, 9, k->real, 0, 1), dy = draw(r, 4, 9, k->real, 0, 2), dx = draw(r, 4, 9, k->real, 0, 3),
        y = draw(r, 4, 9, k->real, 0, 4);
    mat g = {.data = array(r, 9, 5), .type = k->real, .rows = 1, .cols = 9, .stride = 9},
        b = {.data = array(r, 9, 6), .type = k->real, .rows = 1, .cols = 9, .stride = 9},
        dg = {.data = array(r, 9, 7), .type = k->real, .rows = 1, .cols = 9, .stride = 9},
        db = {.data = array(r, 9, 8), .type = k->real, .rows = 1, .cols = 9, .stride = 9};
    affine_args a = {.y = y,
                     .x = x,
                     .gamma = g.data,
                     .beta = b.data,
                     .factor = 1.5,
                     .dy = dy,
                     .dx = dx,
                     .need_dx = true,
                     .dgamma = dg.data,
                     .dbeta = db.data};
    act_grad s = {r->c, forward_affine, &a, &y, &dy};

    k->affine_backward(r->c, &a);
    check_slope("affine: dx", &s, &x, &dx);
    check_slope("affine: dgamma", &s, &g, &dg);
    check_slope("affine: dbeta", &s, &b, &db);
}

static void differ_cross_entropy(run *r)
{
    const kernels *k = r->k;
    const int32_t labels[SAMPLES] = {3, 0, 6, 2, 2};
    mat logits = draw(r, 1, 7, k->real, 2, 1), d = draw(r, 1, 7, k->real, 0, 2),
        loss = {.data = array(r, 1, 3), .type = k->real, .rows = 1, .cols = 1, .stride = 1},
        dloss = {.data = array(r, 1, 4), .type = k->real, .rows = 1, .cols = 1, .stride = 1};
    cross_entropy_args a = {.logits = logits,
                            .labels = labels,
                            .smoothing = 0.2,
                            .count = logits.rows,
                            .loss = loss.data,
                            .dlogits = d,
                            .dloss = dloss.data};
    act_grad s = {r->c, forward_cross_entropy, &a, &loss, &dloss};
    cross_entropy_args alone = a;

    k->cross_entropy(r->c, &a);
    alone.dlogits.data = NULL;
    s.args = &alone;
    check_slope("cross-entropy: dlogits", &s, &logits, &d);
}

static void test_slopes(void **state)
{
    static run r;
    void (*const all[])(run *) = {differ_attention, differ_layernorm, differ_map, differ_affine, differ_cross_entropy};

    (void)state;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        perform(&r, all[i], &kernels_reference, DTYPE_F64, 1, 0, SAMPLES);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_bits), cmocka_unit_test(test_slopes)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
