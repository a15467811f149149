/* Comparing with what PyTorch computes (tests/data/oracle, made by tools/make_oracles.py). */
#ifndef TESTS_ADAPTERS_ORACLE_H
#define TESTS_ADAPTERS_ORACLE_H

#include "support.h"

#include <jansson.h>
#include <math.h>

#include "adapters/adapter.h"
#include "infer/model.h"

#define ORACLE TEST_DATA "/oracle/"
#define BATCH 3

extern const kernels kernels_reference;

/* Relative to the tensor's norm: its largest value for f32; its Euclidean norm for bf16, where a ReLU near zero may
 * switch. */
typedef struct tolerance {
    double logits, gradient;
    bool euclidean;
} tolerance;

static const tolerance tolerance_f64 = {1e-6, 1e-6, false}; /* the oracle is stored as f32 */
static const tolerance tolerance_f32 = {1e-5, 5e-5, false};
/* bf16 rounds weights and their inputs to 8 bits: a relative 2^-9 for each of a dozen products. */
static const tolerance tolerance_bf16 = {0.02, 0.08, true};

static inline double oracle_difference(const float *found, const tensor_view *expected, bool euclidean)
{
    double most = 0, scale = 1e-8, squares = 0, norm = 1e-16;

    for (int64_t i = 0; i < expected->count; i++) {
        float e;
        memcpy(&e, (const unsigned char *)expected->data + (size_t)i * sizeof e, sizeof e);
        most = fmax(most, fabs((double)found[i] - (double)e));
        scale = fmax(scale, fabs((double)e));
        squares += ((double)found[i] - (double)e) * ((double)found[i] - (double)e);
        norm += (double)e * (double)e;
    }
    return euclidean ? sqrt(squares / norm) : most / scale;
}

/* The tensor "<prefix><name>" of an oracle; a test fails without it. */
static inline const tensor_view *oracle_tensor(const tensor_set *oracle, const char *prefix, const char *name,
                                               const char *where)
{
    const tensor_view *t;
    char full[256];

    snprintf(full, sizeof full, "%s%s", prefix, name);
    t = tensor_set_find(oracle, full);
    if (!t)
        fail_msg("%s: the oracle has no '%s'", where, full);
    return t;
}

static inline void expect_close(const device *d, const void *array, const tensor_set *oracle, const char *prefix,
                                const char *name, double limit, bool euclidean, const char *where)
{
    const tensor_view *t = oracle_tensor(oracle, prefix, name, where);
    float *found = malloc((size_t)t->count * sizeof *found);
    double apart;

    device_get_f32(d, found, array, t->count);
    apart = oracle_difference(found, t, euclidean);
    if (!(apart <= limit))
        fail_msg("%s on %s: '%s%s' differs from PyTorch's by %.3g of its size, allowed %.3g", where, d->k->name, prefix,
                 name, apart, limit);
    free(found);
}

static inline void set_inputs(program *p, const model *m, const tensor_set *base)
{
    const tensor_view *pixels = tensor_set_find(base, "pixels"), *labels = tensor_set_find(base, "labels");

    memcpy(program_value(p, m->pixels, BATCH).data, pixels->data, (size_t)pixels->count);
    memcpy(program_value(p, m->targets, BATCH).data, labels->data, (size_t)labels->count * sizeof(int32_t));
}

/* Step s of ten reads batch s % 4. */
static inline void set_step_inputs(program *p, const model *m, const tensor_set *inputs, int s)
{
    const tensor_view *pixels = tensor_set_find(inputs, "pixels"), *labels = tensor_set_find(inputs, "labels");
    size_t bytes = BATCH * 32 * 32 * 3;

    memcpy(program_value(p, m->pixels, BATCH).data, (const uint8_t *)pixels->data + (size_t)(s % 4) * bytes, bytes);
    memcpy(program_value(p, m->targets, BATCH).data, (const int32_t *)labels->data + (s % 4) * BATCH,
           BATCH * sizeof(int32_t));
}

/* The method's options as a row of cases.json, training.json or steps*.json has them. */
static inline options *settings_of(const json_t *item)
{
    inlay_error err;
    options *o;
    const char *key;
    json_t *setting;

    ASSERT_OK(adapter_settings(&o, json_string_value(json_object_get(item, "method")), &err));
    json_object_foreach(json_object_get(item, "options"), key, setting)
    {
        char text[64];
        const char *given = json_string_value(setting);
        if (json_is_boolean(setting))
            given = json_is_true(setting) ? "true" : "false";
        else if (json_is_number(setting))
            snprintf(text, sizeof text, json_is_integer(setting) ? "%.0f" : "%.17g", json_number_value(setting));
        ASSERT_OK(options_default(o, key, given ? given : text, "oracle", &err));
    }
    return o;
}

/* A row of such a file, with the row's adapter on its backbone and the oracle's values in it. */
typedef struct oracle_case {
    const char *name;
    device d;
    backbone *b;
    adapter *a;
    tensor_set *oracle;
} oracle_case;

static inline void open_case(oracle_case *c, const json_t *item, const char *file, const kernels *k, uint64_t seed)
{
    char path[512];
    inlay_error err;

    *c = (oracle_case){.name = json_string_value(json_object_get(item, "name"))};
    snprintf(path, sizeof path, ORACLE "%s", json_string_value(json_object_get(item, "backbone")));
    ASSERT_OK(device_open(&c->d, k, 2, &err));
    ASSERT_OK(backbone_open(&c->b, path, 0, &err));
    snprintf(path, sizeof path, ORACLE "%s", file);
    ASSERT_OK(tensor_set_open(&c->oracle, path, &err));
    ASSERT_OK(
        adapter_new(&c->a, json_string_value(json_object_get(item, "method")), settings_of(item), c->b, 5, NULL, &err));
    ASSERT_OK(adapter_initialise(c->a, &c->d, seed, &err));
    for (const adapter_param *i = NULL; (i = adapter_each_param(c->a, i));) {
        param *p = i->p;
        const tensor_view *t = oracle_tensor(c->oracle, "param.", p->name, c->name);
        assert_int_equal(t->count, p->count);
        param_set(p, &c->d, t->data);
    }
}

static inline void close_case(oracle_case *c)
{
    adapter_free(c->a, &c->d);
    backbone_close(c->b);
    device_close(&c->d);
    tensor_set_close(c->oracle);
}

static inline void expect_gradients(const oracle_case *c, tolerance limit)
{
    for (const adapter_param *i = NULL; (i = adapter_each_param(c->a, i));)
        expect_close(&c->d, i->p->grad, c->oracle, "grad.", i->p->name, limit.gradient, limit.euclidean, c->name);
}

/* Logits of every pass, loss and gradients of a row of such a file. Its `when` says at which step; without one nothing
 * is drawn. */
static inline void check_case(const json_t *item, const kernels *k, precision prec, tolerance limit)
{
    const json_t *when = json_object_get(item, "when");
    step_info step = {.seed = (uint64_t)json_integer_value(json_object_get(when, "seed")),
                      .step = (uint32_t)json_integer_value(json_object_get(when, "step")),
                      .epoch = (int)json_integer_value(json_object_get(when, "epoch")),
                      .epochs = (int)json_integer_value(json_object_get(when, "epochs"))};
    value wanted[3];
    inlay_error err;
    oracle_case c;
    model m;
    program *p;
    tensor_set *base;

    open_case(&c, item, json_string_value(json_object_get(item, "file")), k, when ? step.seed : 1);
    ASSERT_OK(tensor_set_open(&base, ORACLE "base.safetensors", &err));
    assert_int_equal(adapter_param_total(c.a, false), json_integer_value(json_object_get(item, "param_count")));
    model_request request = {.dev = &c.d,
                             .b = c.b,
                             .a = c.a,
                             .prec = prec,
                             .pixel_type = DTYPE_U8,
                             .training = json_is_true(json_object_get(item, "training")),
                             .label_smoothing = json_number_value(json_object_get(item, "label_smoothing"))};
    ASSERT_OK(model_build(&m, &request, &err));
    assert_true(m.passes >= 1 && m.passes <= 2 && m.pass_logits[0] == m.logits);
    wanted[0] = m.loss;
    memcpy(wanted + 1, m.pass_logits, (size_t)m.passes * sizeof *wanted);
    program_request plan = {
        .dev = &c.d, .max_batch = BATCH, .backward = true, .wanted = wanted, .wanted_count = 1 + m.passes};
    ASSERT_OK(program_new(&p, m.g, &plan, &err));
    set_inputs(p, &m, base);
    program_step(p, BATCH, &step);
    for (int i = 0; i < m.passes; i++)
        expect_close(&c.d, program_value(p, m.pass_logits[i], BATCH).data, c.oracle, "",
                     !when ? "logits"
                     : i   ? "logits.1"
                           : "logits.0",
                     limit.logits, limit.euclidean, c.name);
    expect_close(&c.d, program_value(p, m.loss, BATCH).data, c.oracle, "", "loss", limit.logits, limit.euclidean,
                 c.name);
    expect_gradients(&c, limit);
    program_free(p);
    model_free(&m);
    close_case(&c);
    tensor_set_close(base);
}

/* check_case for every row of a file that has `least` of them at least. */
static inline void check_file(const char *path, size_t least, const kernels *k, precision prec, tolerance limit)
{
    json_t *cases = json_load_file(path, 0, NULL);

    assert_true(json_array_size(cases) >= least);
    for (size_t i = 0; i < json_array_size(cases); i++)
        check_case(json_array_get(cases, i), k, prec, limit);
    json_decref(cases);
}

/* Calls `check` for every device of this machine. */
static inline void each_device(void (*check)(const kernels *k, precision prec, tolerance limit), precision prec,
                               tolerance limit)
{
    for (int k = 0; kernels_set(k); k++)
        if (!kernels_set(k)->refused())
            check(kernels_set(k), prec, limit);
}

#endif
