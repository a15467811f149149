/* What the tests of what the methods' papers say have in common: an adapter for a backbone that is a shape only, whose
 * edges run alone, and the small ViT with an adapter. All in double precision: what is equal there is equal but for the
 * order of sums. */
#ifndef TESTS_ADAPTERS_SPECS_H
#define TESTS_ADAPTERS_SPECS_H

#include "make_adapter.h"

#include <math.h>

#include "adapters/adapter_impl.h"
#include "train/train.h"

#define CLASSES 3
#define BATCH 3
#define LOGITS (BATCH * CLASSES)

extern const kernels kernels_reference;

static inline void expect_near(double found, double expected, double limit, const char *what)
{
    if (!(fabs(found - expected) <= limit))
        fail_msg("%s is %.12g, expected %.12g within %.1g", what, found, expected, limit);
}

/* Largest difference of two arrays. */
static inline double apart(const double *a, const double *b, int64_t count)
{
    double most = 0;

    for (int64_t i = 0; i < count; i++)
        most = fmax(most, fabs(a[i] - b[i]));
    return most;
}

static inline adapter *new_adapter(backbone *b, const char *name, const char *settings)
{
    inlay_error err;
    adapter *a;
    options *o;

    ASSERT_OK(adapter_settings(&o, name, &err));
    support_settings(o, settings);
    ASSERT_OK(adapter_new(&a, name, o, b, CLASSES, NULL, &err));
    return a;
}

/* ---- an adapter alone ---- */

typedef struct toy {
    device d;
    backbone b;
    adapter *a;
} toy;

static inline void toy_open(toy *t, int64_t width, int64_t hidden, const char *name, const char *settings)
{
    inlay_error err;

    *t = (toy){.b = {.memory = arena_new(),
                     .shape = {.width = width,
                               .depth = 1,
                               .heads = 1,
                               .hidden = hidden,
                               .patch = 1,
                               .tokens = 5,
                               .prefix_tokens = 1,
                               .eps = 1e-6}}};
    ASSERT_OK(device_open(&t->d, &kernels_reference, 1, &err));
    t->a = new_adapter(&t->b, name, settings);
    ASSERT_OK(adapter_initialise(t->a, &t->d, 1, &err));
}

static inline void toy_close(toy *t)
{
    adapter_free(t->a, &t->d);
    device_close(&t->d);
    arena_free(t->b.memory);
}

static inline param *find(const adapter *a, const char *name)
{
    param *p = adapter_find(a, name);

    if (!p)
        fail_msg("there is no parameter '%s'", name);
    return p;
}

static inline void set(const device *d, const adapter *a, const char *name, const float *values)
{
    param_set(find(a, name), d, values);
}

static inline float *get(const device *d, const param *p)
{
    float *values = malloc((size_t)p->count * sizeof *values);

    param_get(p, d, values);
    return values;
}

/* Random multiples of 1/256: their means over two or four are exact. */
static inline void scramble(const device *d, const adapter *a)
{
    uint32_t stream = 0;

    for (const adapter_param *i = NULL; (i = adapter_each_param(a, i));) {
        float *values = get(d, i->p);
        for (int64_t j = 0; j < i->p->count; j++)
            values[j] =
                ((float)rng_below((rng_stream){.seed = 3, .purpose = RNG_TEST, .stream = stream}, (uint64_t)j, 257) -
                 128) /
                256;
        param_set(i->p, d, values);
        free(values);
        stream++;
    }
}

/* y [rows, width] = the adapter's function at one of its edges, of x [rows, cols]. */
static inline void run_edge(device *d, const adapter *a, int index, const double *x, int rows, int cols,
                            const step_info *step, double *y)
{
    graph *g = graph_new(d->k, d->k->real);
    const edge *e = &a->declared->edges[index];
    value in = graph_input(g, "x", d->k->real, rows, cols),
          out = e->function(&(build_context){.a = a, .g = g, .at = e->to}, in, e->context);
    program_request plan = {.dev = d, .max_batch = 1, .wanted = &out, .wanted_count = 1};
    inlay_error err;
    program *p;

    graph_finish(g);
    ASSERT_OK(program_new(&p, g, &plan, &err));
    memcpy(program_value(p, in, 1).data, x, (size_t)(rows * cols) * sizeof *x);
    program_forward(p, 1, step);
    memcpy(y, program_value(p, out, 1).data, (size_t)(rows * graph_cols(g, out)) * sizeof *y);
    program_free(p);
    graph_free(g);
}

/* A step in which the first pass draws expert i of `down` and j of `up` at the first edge. */
static inline step_info step_that_draws(int down, int i, int up, int j)
{
    step_info step = {.seed = 9};

    for (;; step.step++) {
        rng_stream s = {.seed = step.seed, .purpose = RNG_CHOICE, .step = step.step}, t = s;
        t.stream = 1;
        if (rng_below(s, 0, (uint32_t)down) == (uint32_t)i && rng_below(t, 0, (uint32_t)up) == (uint32_t)j)
            return step;
    }
}

/* The mean of an edge's result over all that can be drawn: `down` and `up` experts on the two sides. */
static inline void mean_over_draws(device *d, const adapter *a, int down, int up, const double *x, int rows, int cols,
                                   double *mean)
{
    int64_t count = rows * a->shape->width;
    double *y = malloc((size_t)count * sizeof *y);

    memset(mean, 0, (size_t)count * sizeof *mean);
    for (int i = 0; i < down; i++)
        for (int j = 0; j < up; j++) {
            step_info step = step_that_draws(down, i, up, j);
            run_edge(d, a, 0, x, rows, cols, &step, y);
            for (int64_t k = 0; k < count; k++)
                mean[k] += y[k] / (down * up);
        }
    free(y);
}

/* ---- the small ViT ---- */

typedef struct tuned_vit {
    device d;
    backbone *b;
    adapter *a;
    model m;
    program *p;
    optimizer update; /* opened by the first step */
} tuned_vit;

static inline void vit_open(tuned_vit *v, const char *name, const char *settings)
{
    inlay_error err;

    memset(v, 0, sizeof *v);
    ASSERT_OK(device_open(&v->d, &kernels_reference, 1, &err));
    ASSERT_OK(backbone_open(&v->b, TEST_DATA "/oracle/vit", 0, &err));
    v->a = new_adapter(v->b, name, settings);
    ASSERT_OK(adapter_initialise(v->a, &v->d, 1, &err));
}

static inline void vit_unbuild(tuned_vit *v)
{
    program_free(v->p);
    v->p = NULL;
    if (v->m.g)
        model_free(&v->m);
}

static inline void vit_close(tuned_vit *v)
{
    vit_unbuild(v);
    optimizer_close(&v->update);
    adapter_free(v->a, &v->d);
    backbone_close(v->b);
    device_close(&v->d);
}

/* Puts what would be saved in the adapter's place. */
static inline void vit_merge(tuned_vit *v)
{
    inlay_error err;
    adapter *merged;

    vit_unbuild(v);
    ASSERT_OK(adapter_conclude(&merged, v->a, &v->d, &err));
    if (merged != v->a)
        adapter_free(v->a, &v->d);
    v->a = merged;
}

/* Builds the model as it is now; without dropout and stochastic depth of the backbone. keep_blocks: m.blocks can be
 * read after vit_run. */
static inline void vit_build(tuned_vit *v, bool training, bool keep_blocks)
{
    model_request request = {
        .dev = &v->d, .b = v->b, .a = v->a, .pixel_type = DTYPE_U8, .training = training, .keep_blocks = keep_blocks};
    value wanted[8];
    program_request plan = {.dev = &v->d, .max_batch = BATCH, .backward = true, .wanted = wanted};
    uint8_t *pixels;
    inlay_error err;

    vit_unbuild(v);
    ASSERT_OK(model_build(&v->m, &request, &err));
    wanted[plan.wanted_count++] = v->m.loss;
    for (int i = 0; i < v->m.passes; i++)
        wanted[plan.wanted_count++] = v->m.pass_logits[i];
    for (int64_t i = 0; keep_blocks && i < v->b->shape.depth; i++)
        wanted[plan.wanted_count++] = v->m.blocks[i];
    ASSERT_OK(program_new(&v->p, v->m.g, &plan, &err));
    pixels = program_value(v->p, v->m.pixels, BATCH).data;
    for (int64_t i = 0; i < BATCH * 32 * 32 * 3; i++)
        pixels[i] = (uint8_t)(rng_u32((rng_stream){.seed = 5, .purpose = RNG_TEST}, (uint64_t)i) >> 24);
    for (int32_t i = 0; i < BATCH; i++)
        ((int32_t *)program_value(v->p, v->m.targets, BATCH).data)[i] = i % CLASSES;
}

/* Runs forward and backward; logits of pass `which`. Returns the loss. */
static inline double vit_run(tuned_vit *v, uint32_t step, int which, double logits[LOGITS])
{
    step_info info = {.seed = 7, .step = step};

    program_step(v->p, BATCH, &info);
    memcpy(logits, program_value(v->p, v->m.pass_logits[which], BATCH).data, LOGITS * sizeof *logits);
    return *(double *)program_value(v->p, v->m.loss, BATCH).data;
}

/* The head is the same in every test that compares two models. */
static inline void vit_set_head(const tuned_vit *v)
{
    float weight[CLASSES * 32], bias[CLASSES] = {0.1f, -0.2f, 0.3f};

    rng_fill_normal(weight, CLASSES * 32, 0, 0.2, (rng_stream){.seed = 8, .purpose = RNG_TEST});
    param_set(v->a->head_weight, &v->d, weight);
    param_set(v->a->head_bias, &v->d, bias);
}

/* Logits and loss of the backbone with that head and nothing else. */
static inline double frozen_logits(double logits[LOGITS])
{
    tuned_vit v;
    double loss;

    vit_open(&v, "linear", NULL);
    vit_set_head(&v);
    vit_build(&v, false, false);
    loss = vit_run(&v, 0, 0, logits);
    vit_close(&v);
    return loss;
}

/* The optimiser's steps first .. first + count - 1. */
static inline void vit_steps(tuned_vit *v, int first, int count, double lr, double decay)
{
    const optimizer_settings set = {.weight_decay = decay, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8};
    inlay_error err;
    double logits[LOGITS];

    for (int s = first; s < first + count; s++) {
        vit_run(v, (uint32_t)s, 0, logits);
        if (!v->update.slots)
            ASSERT_OK(optimizer_open(&v->update, &set, &(schedule){.lr = lr}, v->a, &v->d, &err));
        optimizer_step(&v->update, lr);
    }
}

#endif
