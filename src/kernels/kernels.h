/* The device table: every numeric kernel, an allocator and copies. The graph reaches a tensor's bytes only through it.
 *
 * One device is one row of function pointers. The processor has one for each instruction set (portable, avx2, avx512),
 * chosen once at start, and one that computes everything in double precision: the reference for gradient checks.
 *
 * `real` is the device's working type: f32, or f64 on the reference device. Matrices of activations (mat) may be stored
 * as real or as bf16, and so may their gradients where an operation says that it takes them so; biases, scales,
 * parameters, their gradients and statistics are always real. All sums are f32 (f64 on the reference device).
 *
 * Determinism: an output element is summed in an order that depends only on its own row's inputs and on the instruction
 * set, never on the number of threads nor on the number of rows. */
#ifndef INLAY_KERNELS_KERNELS_H
#define INLAY_KERNELS_KERNELS_H

#include "base/dtype.h"
#include "base/pool.h"
#include "base/rng.h"

/* Row-major matrix, possibly a column range of a wider one: element (r, c) is data[r * stride + c]. */
typedef struct mat {
    void *data;
    dtype type; /* real or DTYPE_BF16 (images: DTYPE_U8) */
    int64_t rows, cols;
    int64_t stride;         /* elements from row to row, >= cols */
    const int32_t *samples; /* then row r is row samples[r / group] * group + r % group of what lies at data: some
                               samples of a batch. Taken by gemm (y, x, residual) */
    int64_t group;          /* and layernorm (x, dx) only; NULL: all rows */
} mat;

typedef enum activation {
    ACT_NONE,
    ACT_RELU,
    ACT_GELU,      /* exact: x * Phi(x) */
    ACT_GELU_TANH, /* tanh approximation, "gelu_new" */
    ACT_SILU,
    ACT_TANH,
    ACT_SIGMOID,
    ACT_QUICK_GELU, /* x * sigmoid(1.702 x) */
    ACT_COUNT
} activation;

const char *
activation_name(activation act); /* "none", "relu", "gelu", "gelu_tanh", "silu", "tanh", "sigmoid", "quick_gelu" */
bool activation_from_name(const char *name,
                          activation *act); /* also accepts gelu_new, gelu_pytorch_tanh, swish, identity, linear */

/* Where an array lies. What kernels' arguments point to lies on the device, but where they say otherwise. */
typedef enum array_place { PLACE_HOST, PLACE_DEVICE } array_place;

/* Threads, scratch memory for each, and what surrounds their work: what a kernel runs on. */
typedef struct compute {
    pool *threads;
    void **scratch; /* on the host, for kernels that run there: a block of scratch_size bytes for each thread, 64-byte
                       aligned; NULL where scratch_size is 0 */
    size_t scratch_size;
    void (*begin)(void), (*end)(void);               /* of the kernel set: see struct kernels */
    const struct micro_kernel *const *micro_kernels; /* of the kernel set */
} compute;

/* Runs task(argument, thread, threads) once on each thread, between begin and end on that thread, and returns when all
 * are done. Kernels run nothing in another way. */
void compute_run(compute *c, pool_fn task, void *argument);

#define PATCH_CHANNELS 4

/* A matrix that images are read as: pixels [samples, height, width, channels], u8 or f32 in 0..255. Each of its (height
 * / patch) * (width / patch) rows a sample is a patch, in the order of a convolution's weight [out, channel, y, x],
 * normalised: (p / 255 - mean[c]) / std[c]. */
typedef struct patch_rows {
    const void *pixels;
    dtype type;
    int64_t height, width, channels, patch;
    float mean[PATCH_CHANNELS], std[PATCH_CHANNELS];
} patch_rows;

/* ---- matrix product
 * -------------------------------------------------------------------------------------------------------------- */

#define INT8_DEPTH 65536 /* k of int8 weights is less: then no sum overflows */

/* Weights of y = x W^T, W [n, k] as PyTorch stores a Linear's, laid out in panels for the micro-kernel of one device.
 */
typedef struct packed {
    int64_t n, k;
    /* real; DTYPE_BF16: weights and x are rounded to bf16, sums are f32; DTYPE_I8: weights are quantised by rows of W,
     * and x, rounded to bf16, by its rows. Sums are exact then. For y = x W they are packed the other way around. */
    dtype type;
    void *data; /* kernels.pack_size bytes, 64-byte aligned; owner: whoever called pack */
} packed;

/* y = residual + row_scale * col_scale * act(x W^T + bias); each part optional. Behind bf16 and int8 weights GELU is
 * exact to 1e-6 |x|, its act_grad to 1e-5; else both to 1e-7. */
typedef struct gemm_epilogue {
    const void *bias; /* real [n] */
    activation act;
    mat act_grad; /* where to keep act' of the value in front of act, [rows, n], for the backward pass; data NULL: not
                     kept */
    const void *col_scale;  /* real [n] */
    const float *row_scale; /* one factor for each group of row_group rows (a sample): the drop-path mask divided by its
                               keep rate */
    int64_t row_group;
    mat residual; /* [rows, n]; may be y itself; data NULL: none */
} gemm_epilogue;

/* What is done to the left operand on its way in: x'[r,c] = x[r,c] * row_scale[r / row_group] * col_scale[c] *
 * act_grad[r,c]. So the backward pass through an epilogue needs no pass of its own. */
typedef struct gemm_prologue {
    const void *col_scale; /* real [k] */
    const float *row_scale;
    int64_t row_group;
    mat act_grad; /* [rows, k] */
} gemm_prologue;

typedef struct gemm_args {
    mat y;                    /* [m, n] */
    mat x;                    /* [m, k]; for int8 weights also quantised rows */
    const patch_rows *pixels; /* x is these patches, made where they are multiplied: it has rows and columns only, and
                                 no prologue; NULL: what lies at x */
    const packed *w;          /* n x k */
    bool transposed; /* false: y = x W^T (forward; m x n from k). true: y = x W (data gradient: x is [m, n], y is [m,
                        k]); not with int8 weights */
    gemm_prologue in;
    gemm_epilogue out;
} gemm_args;

/* dw[n, k] (+)= sum over rows of dy[r, n] * x[r, k], both operands as stored; sums run over chunks of rows in a fixed
 * order. */
typedef struct gemm_outer_args {
    void *dw; /* real [n, k] contiguous */
    mat dy;   /* [rows, n] */
    mat x;    /* [rows, k] */
    bool accumulate;
} gemm_outer_args;

#define BOTTLENECK_RANK 64    /* the widest bottleneck of any set */
#define BOTTLENECK_WIDTH 8192 /* the widest rows outside it */

/* y = residual + row_scale * col_scale * (act(x Wd^T + bd) Wu^T + bu), in one pass over the rows: an adapter. Biases,
 * col_scale, row_scale and residual are optional. */
typedef struct bottleneck_args {
    mat y, x;                        /* [m, n], [m, k] */
    const packed *down, *up;         /* r x k and n x r, real; r <= BOTTLENECK_RANK, n, k <= BOTTLENECK_WIDTH */
    const void *down_bias, *up_bias; /* real [r], [n] */
    activation act;
    const void *col_scale; /* real [n] */
    const float *row_scale;
    int64_t row_group;
    mat residual;         /* [m, n] */
    mat hidden, act_grad; /* real [m, r] contiguous: act(x Wd^T + bd) and act'; written forward (data NULL: not kept),
                             read backward (no act_grad: 1) */
    /* backward only; what is NULL is not wanted */
    mat dy, dx;
    bool accumulate; /* dx += */
    bool add_dy;     /* x is the residual, too: dx gets dy beside what comes through the bottleneck. With `accumulate`
                        instead, dx may be dy */
    const void *down_weight, *up_weight;                    /* real [r, k], [n, r] */
    void *ddown, *ddown_bias, *dup, *dup_bias, *dcol_scale; /* real; += */
    void *partials; /* room: real [ceil(m / bottleneck_chunk(r))][(r + 1) n + r k + r] */
} bottleneck_args;

/* Rows whose sums are one part of a gradient: longer where a part is larger. */
static inline int64_t bottleneck_chunk(int64_t rank)
{
    return 24 * ((rank + 7) / 8);
}

/* ---- normalisation
 * ---------------------------------------------------------------------------------------------------------------- */

/* y = (x - mean) / sqrt(var + eps) * weight + bias over each of `groups` slices of `width` columns of a row (groups =
 * 1: the whole row; groups = heads: query/key normalisation). weight and bias are real [width]; NULL means 1 and 0. x
 * and y may be column ranges. */
typedef struct layernorm_args {
    mat y, x; /* y may be quantised rows where groups is 1 */
    const void *weight, *bias;
    double eps;
    int64_t groups, width;
    void *mean, *rstd; /* real [rows * groups], written forward (may be NULL), read backward */
    /* backward only: */
    mat dy, dx;
    bool accumulate; /* dx += */
    bool need_dx;
    void *dweight, *dbias; /* real [width] or NULL */
    bool accumulate_params;
} layernorm_args;

/* ---- attention
 * --------------------------------------------------------------------------------------------------------------------
 */

/* For each sample and head: out = softmax(scale * q k^T) v. Matrices hold all samples one after the other: q has
 * samples * q_rows rows, k and v samples * k_rows; head h occupies columns [h * head_dim, (h + 1) * head_dim) of each
 * (the mats are column ranges of wider buffers where q, k, v live together). lse: real [samples * heads * q_rows],
 * binary logarithm of the sum of exp(scaled scores). */
typedef struct attention_args {
    mat out, q, k, v;
    int64_t samples, q_rows, k_rows, heads, head_dim;
    double scale;
    bool rounded; /* q, k, v and dout count as rounded to bf16, however they are stored; so do probabilities where that
                     is faster */
    void *lse;    /* may be NULL forward */
    /* backward only; a mat with NULL data is not wanted */
    mat dout, dq, dk, dv;
    bool accumulate_q, accumulate_k, accumulate_v;
} attention_args;

/* ---- element by element
 * ------------------------------------------------------------------------------------------------------------ */

typedef struct map_args {
    mat y, x;
    activation act;
    mat dy, dx; /* backward: dx (+)= dy * act'(x) */
    bool accumulate;
} map_args;

/* y = x * gamma + beta, channel-wise; gamma or beta may be NULL; `factor` multiplies as well. */
typedef struct affine_args {
    mat y, x;
    const void *gamma, *beta; /* real [cols] */
    double factor;
    mat dy, dx;
    bool accumulate, need_dx;
    void *dgamma, *dbeta; /* real [cols] or NULL */
    bool accumulate_params;
} affine_args;

/* y = a + factor * row_scale[r / row_group] * b + table[r % table_rows]; b, table and row_scale may be absent. b may
 * have fewer columns than a: it is then added at columns [offset, offset + b.cols). y may be a. */
typedef struct add_args {
    mat y, a, b;
    int64_t offset;
    double factor;
    const float *row_scale;
    int64_t row_group;
    const void *table; /* real [table_rows, cols] */
    int64_t table_rows;
} add_args;

/* y = a * b, element by element; y may be a or b. accumulate: y +=, y is real then and neither of both. */
typedef struct multiply_args {
    mat y, a, b;
    bool accumulate;
} multiply_args;

/* Inverted dropout: y = x * keep / (1 - rate); the mask is a function of (stream, element index) and is drawn again
 * backward. The same call with y = dx, x = dy is the backward pass. accumulate: y += */
typedef struct dropout_args {
    mat y, x;
    double rate;
    rng_stream stream;
    int64_t first; /* index of the first element */
    bool accumulate;
} dropout_args;

/* out[c] (+)= sum over rows of dy[r,c] * row_scale[r / row_group] * (other ? other[r,c] : 1); with modulo > 0, out is
 * [modulo, cols] and row r adds to out[r % modulo]. */
typedef struct column_sum_args {
    void *out; /* real */
    mat dy, other;
    const float *row_scale;
    int64_t row_group, modulo;
    bool accumulate;
} column_sum_args;

/* Copies rows: for each sample s, y rows [y_first, y_first + count) of its y_group (+)= x rows [x_first, ...) of its
 * x_group. x_group = 0: the same x rows for every sample. */
typedef struct copy_rows_args {
    mat y, x;
    int64_t samples, y_group, y_first, x_group, x_first, count;
    bool accumulate;
} copy_rows_args;

/* Mean over rows [first, first + count) of each sample's group: y [samples, cols]. Backward: dx rows (+)= dy / count.
 */
typedef struct mean_rows_args {
    mat y, x;
    int64_t samples, group, first, count;
    bool backward; /* then y is dx [samples * group, cols] (rows outside the range get 0 unless accumulating) and x is
                      dy */
    bool accumulate;
} mean_rows_args;

/* Windows of a sequence: row t of each sample of y is rows [t * stride - padding, ... + width) of the sample's x side
 * by side, zeros where there are none. */
typedef struct windows_args {
    mat y, x;                       /* [samples * count, width * cols], [samples * rows, cols] */
    int64_t samples, rows, count;   /* rows and windows of a sample */
    int64_t width, stride, padding; /* stride >= 1 */
    /* backward only: dx row r (+)= the columns of dy that row r stands at, summed in the order of the windows */
    mat dy, dx;
    bool accumulate;
} windows_args;

/* y[r] = table[ids[r]], of `count` rows; zeros where there is no such row. */
typedef struct gather_args {
    mat y;
    const void *table; /* real [count, cols] */
    int64_t count;
    const int32_t *ids; /* [rows of y] */
    /* backward only: dtable[ids[r]] += dy[r], the rows in their order */
    mat dy;
    void *dtable; /* real [count, cols] */
} gather_args;

/* Bilinear interpolation, align_corners=False (torch.nn.functional.interpolate). A sample's rows are the points of a
 * grid, line by line. Point o of an axis lies at s = max((o + 1/2) in / out - 1/2, 0) of the other grid, between i =
 * floor(s) and min(i + 1, in - 1), and takes 1 - (s - i) and s - i of them. */
typedef struct upsample_args {
    mat y, x; /* [samples * out_height * out_width, cols], [samples * height * width, cols] */
    int64_t samples, height, width, out_height, out_width;
    /* backward only: dx (+)= each point's part of dy, summed in the order of dy's rows */
    mat dy, dx;
    bool accumulate;
} upsample_args;

/* Mean over `count` samples, of which these are some or all, of the cross-entropy with label smoothing
 * (torch.nn.CrossEntropyLoss): loss real [1] and, for each sample, losses real [samples] (may be NULL); dlogits =
 * gradient of the mean times dloss. row_cross_entropy: the sum over the rows instead, each times its weight; `losses`
 * are these terms, without which there is no loss. */
typedef struct cross_entropy_args {
    mat logits;
    const int32_t *labels;
    const float *weights; /* row_cross_entropy only: of each row; where it is 0, neither logits nor label are read */
    double smoothing;
    int64_t count; /* cross_entropy only */
    void *loss, *losses;
    bool add_loss;     /* loss += */
    mat dlogits;       /* data NULL: forward only */
    bool accumulate;   /* dlogits += */
    const void *dloss; /* real [1], NULL: 1 */
} cross_entropy_args;

/* With p = softmax(a), q = softmax(b): loss = mean over `count` samples, of which the rows are some or all, of (KL(p ||
 * q) + KL(q || p)) / 2, where in the gradient the first of each divergence is constant: da = dloss (p - q) / (2 count),
 * db = -da. */
typedef struct consistency_args {
    mat a, b;
    int64_t count;
    void *loss;
    bool add_loss; /* loss += */
    mat da, db;    /* data NULL: not wanted */
    bool accumulate_a, accumulate_b;
    const void *dloss; /* real [1], NULL: 1 */
} consistency_args;

/* loss = scale * sum over rows and columns of -(t log p + (1 - t) log(1 - p)), p = sigmoid(logits), t = targets. */
typedef struct binary_cross_entropy_args {
    mat logits, targets;
    double scale;
    void *loss, *losses;   /* real [1]; real [rows], each row's share, written where `loss` is */
    bool add_loss;         /* loss += */
    mat dlogits, dtargets; /* data NULL: not wanted */
    bool accumulate_logits, accumulate_targets;
    const void *dloss; /* real [1] */
} binary_cross_entropy_args;

/* loss = scale * sum of (a - b)^2; b may be absent: the identity. losses: real [rows], each row's share. */
typedef struct distance_args {
    mat a, b;
    double scale;
    void *loss, *losses;
    bool add_loss; /* loss += */
    mat da, db;    /* data NULL: not wanted */
    bool accumulate_a, accumulate_b;
    const void *dloss; /* real [1] */
} distance_args;

/* y = P(x) / Q(x) with P = sum a_i x^i, i = 0..5, and Q = 1 + |sum b_j x^j| (safe) or 1 + sum |b_j x^j|, j = 1..4. The
 * slope of |z| at 0 is taken as 1, so that coefficients that begin at 0 can move. Padé activation units: Molina et al.,
 * arXiv 1907.06732. */
typedef struct rational_args {
    mat y, x;
    const void *numerator, *denominator; /* real [6], [4] */
    bool safe;
    /* backward only */
    mat dy, dx; /* dx data NULL: not wanted */
    bool accumulate;
    void *dnumerator, *ddenominator; /* +=; NULL: not wanted */
    void *terms;                     /* room: real [rows, 10] */
} rational_args;

/* y = w x, one w for each sample (group rows): w = 1 / (1 + exp(-(logits[1] - logits[0] + noise) / temperature)), the
 * second of a softmax over two. */
typedef struct gate_args {
    mat y, x;
    const void *logits;  /* real [2] */
    const double *noise; /* [samples] */
    double temperature;
    int64_t group;
    /* backward only; dx data and dlogits NULL: not wanted */
    mat dy, dx;
    bool accumulate;
    void *dlogits;  /* +=; real [2] */
    void *dweights; /* room: real [samples] */
} gate_args;

/* weights[r, n] = softmax over n of q[r] . k[r * parts + n]; y[r] = sum over n of weights[r, n] v[r * parts + n]. */
typedef struct mix_args {
    mat y, q, k, v, weights;
    int64_t parts;
    /* backward only; data NULL: not wanted */
    mat dy, dq, dk, dv;
    bool accumulate_q, accumulate_k, accumulate_v;
} mix_args;

/* torch.optim.AdamW, one tensor: decoupled decay, bias correction, eps outside the square root. step counts from 1. */
typedef struct adamw_args {
    void *value, *m, *v; /* real [count] */
    const void *grad;
    int64_t count, step;
    double lr, beta1, beta2, eps, weight_decay;
    const unsigned char *mask; /* [count]; where it is 0 the gradient counts as 0; NULL: nowhere */
    bool decay_masked;         /* where the mask is 0, decay reaches the values all the same */
    bool decay_last;           /* decay is of the value behind the step, not in front of it */
    bool uncorrected;          /* no bias correction */
} adamw_args;

/* torch.optim.SGD, one tensor: g = grad + weight_decay * value, m = momentum * m + g, value -= lr * m. m begins with
 * zeros. */
typedef struct sgd_args {
    void *value, *m; /* real [count] */
    const void *grad;
    int64_t count;
    double lr, momentum, weight_decay;
    const unsigned char *mask; /* as in adamw_args */
    bool decay_masked;
} sgd_args;

/* One gradient of those whose common norm is clipped. */
typedef struct gradient_args {
    void *grad; /* real [count] */
    int64_t count;
    const unsigned char *mask; /* what is left out counts as 0 */
    double factor;
} gradient_args;

/* What shapes a set of kernels takes, and in which pieces it likes them. */
typedef struct kernel_limits {
    int64_t width;                             /* widest rows of activations */
    int64_t tokens;                            /* longest sequence of attention */
    int64_t head_dim;                          /* widest head */
    int64_t bottleneck_rank, bottleneck_width; /* of the fused bottleneck; 0: it is composed of products */
    /* rows of the longest value that run through a program at a time: enough for products and for threads to wait
     * little for one another, few enough that what a slice writes stays near */
    int64_t slice_rows;
    size_t part_bytes; /* of rows that a thread keeps near while it goes over weights */
} kernel_limits;

/* Which of f32 and bf16 weights a set multiplies faster. PACE_UNKNOWN: it depends on the processor. */
typedef enum bf16_pace { PACE_SLOWER, PACE_FASTER, PACE_UNKNOWN } bf16_pace;

/* Types of weights, of which each has a micro-kernel. */
enum { MICRO_KERNEL_REAL, MICRO_KERNEL_BF16, MICRO_KERNEL_INT8, MICRO_KERNEL_COUNT };

typedef struct kernels {
    const char *name; /* "portable", "avx2", "avx512", "reference" */
    kernel_limits limits;
    bf16_pace bf16;
    bool host_memory; /* what alloc gives can be read and written by the host */
    dtype real;
    const char *(*refused)(void); /* NULL where this process can run the set; else why not, a clause */
    bool on_request;              /* chosen only where it is asked for by its name */
    void *(*alloc)(size_t size);  /* 64-byte aligned, zeroed; NULL when out of memory */
    void (*release)(void *block);
    void (*copy_in)(void *device, const void *host, size_t size);
    void (*copy_out)(void *host, const void *device, size_t size);
    void (*zero)(void *device, size_t size);
    size_t scratch_size; /* what compute.scratch must hold for each thread */
    /* State of a processor that the set needs while its kernels run (the shape of tiles, how small numbers are
     * treated): called on every thread that takes part in a kernel, before and after its part. The caller's thread
     * takes part, and keeps nothing of it. NULL: there is none. */
    void (*begin)(void), (*end)(void);

    /* Bytes from row to row of quantised rows of so many values (DTYPE_U8): as products with int8 weights take them,
     * each with its scale and zero point behind it. */
    int64_t (*quantised_stride)(int64_t cols);
    /* What products with each type of weights run on, for sets whose products go by it (isa/gemm_kernel.h). */
    const struct micro_kernel *micro_kernels[MICRO_KERNEL_COUNT];
    /* Bytes of packed weights on `set`, the row itself. */
    size_t (*pack_size)(const struct kernels *set, int64_t n, int64_t k, dtype type);
    /* the weights back in f32 [n, k] (bf16 and int8: as rounded) */
    void (*unpack)(const compute *c, float *w, const packed *in);
    /* Multiplies registers on every thread, `rounds` times, as products of that type do; returns the operations done.
     * For benchmarks. */
    double (*peak)(compute *c, dtype type, int64_t rounds);
/* What a set has not is NULL: an operation that needs it cannot be part of a program there (program_new says so), and
 * a bottleneck is not fused. */
/* NOLINTNEXTLINE(bugprone-macro-parentheses): a declarator */
#define X(name, parameters, arguments) void(*name) parameters;
#include "kernels/kernels.def"
#undef X
} kernels;

/* Kernels by their number, and as members of sets of kernels. */
enum {
#define X(name, parameters, arguments) KERNEL_NUMBER_##name,
#include "kernels/kernels.def"
#undef X
    KERNEL_COUNT
};
typedef uint64_t kernel_set;
#define USES(name) ((kernel_set)1 << KERNEL_NUMBER_##name)

/* The name of a kernel that is wanted and that the row has not; NULL: it has all of them. */
const char *kernels_lack(const kernels *k, kernel_set wanted);

/* Set i of the kernel sets of this build, fastest first, whether the processor has what it needs or not; NULL behind
 * the last one. The reference device is not among them. */
const kernels *kernels_set(int i);
extern const kernels kernels_reference;
/* What every set of this build takes. */
const kernel_limits *kernels_limits(void);

#endif
