/* A graph that a test builds, its parameters with random values, and a program that runs it. */
#ifndef TESTS_GRAPH_GRAPH_BENCH_H
#define TESTS_GRAPH_GRAPH_BENCH_H

#include "kernels/kernel_sets.h"

#include "graph/op_impl.h"

#define BATCH 3
#define CLASSES 5
#define ROWS 6
#define WIDTH 8
#define MAX_PARAMS 40
#define EVERYTHING (~(uint64_t)0)

typedef struct bench {
    device dev;
    arena *memory;
    graph *g;
    param *params[MAX_PARAMS];
    void *moments[MAX_PARAMS][2]; /* of those that are trained, where a test has them */
    int param_count;
    uint64_t trained; /* bit i: parameter i */
    int64_t slice;    /* samples that programs run at a time; 0: as they like */
    value labels;
    program *p;
} bench;

static const step_info step = {.seed = 3, .step = 5};

static inline void open_bench(bench *s, const kernels *k, int threads, dtype weight_type, uint64_t trained)
{
    inlay_error err;

    *s = (bench){.memory = arena_new(), .g = graph_new(k, weight_type), .trained = trained};
    ASSERT_OK(device_open(&s->dev, k, threads, &err));
    s->labels = graph_target(s->g, "labels", DTYPE_I32, 1, 1);
}

static inline void close_bench(bench *s)
{
    program_free(s->p);
    for (int i = 0; i < s->param_count; i++) {
        param_release(s->params[i], &s->dev);
        s->dev.k->release(s->moments[i][0]);
        s->dev.k->release(s->moments[i][1]);
    }
    graph_free(s->g);
    arena_free(s->memory);
    device_close(&s->dev);
}

/* rows 0: a vector */
static inline param *make_param(bench *s, int64_t rows, int64_t cols)
{
    param *p = param_new(s->memory, arena_printf(s->memory, "param%d", s->param_count), rows ? 2 : 1,
                         rows ? (int64_t[]){rows, cols} : &cols);
    float *values = ARENA_ARRAY(s->memory, float, p->count);

    assert_true(s->param_count < MAX_PARAMS);
    rng_fill_normal(values, (uint64_t)p->count, 0, 0.3,
                    (rng_stream){.purpose = RNG_TEST, .stream = (uint32_t)s->param_count});
    param_set_source(p, values, DTYPE_F32, false);
    p->trainable = s->trained >> s->param_count & 1;
    return s->params[s->param_count++] = p;
}

static inline program *make_program(bench *s, bool backward, const value *wanted, int wanted_count, const value *given,
                                    int given_count)
{
    program_request request = {.dev = &s->dev,
                               .max_batch = BATCH,
                               .slice = s->slice,
                               .backward = backward,
                               .wanted = wanted,
                               .wanted_count = wanted_count,
                               .given = given,
                               .given_count = given_count};
    inlay_error err;
    program *p;

    ASSERT_OK(program_new(&p, s->g, &request, &err));
    return p;
}

static inline void fill_labels(const bench *s, program *p)
{
    int32_t *labels = program_value(p, s->labels, BATCH).data;

    for (int i = 0; i < BATCH; i++)
        labels[i] = (i + 1) % CLASSES;
}

static inline void fill_reals(const bench *s, program *p, value v)
{
    mat m = program_value(p, v, BATCH);
    int64_t count = m.rows * m.cols;
    float *values = ARENA_ARRAY(s->memory, float, count);

    rng_fill_normal(values, (uint64_t)count, 0, 1, (rng_stream){.seed = 2, .purpose = RNG_TEST});
    device_set_f32(&s->dev, m.data, values, count);
}

static inline double loss_of(const bench *s, program *p, value loss)
{
    program_forward(p, BATCH, &step);
    return real_at(s->dev.k, program_value(p, loss, BATCH).data, 0);
}

static inline value to_loss(bench *s, value x)
{
    value features = graph_mean_tokens(s->g, x, 0, graph_rows(s->g, x));

    return graph_cross_entropy(
        s->g, graph_linear(s->g, features, make_param(s, CLASSES, graph_cols(s->g, x)), NULL, 0, 0), s->labels, 0);
}

#endif
