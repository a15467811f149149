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

/* Calls `check` for every device of this machine. */
static inline void each_device(void (*check)(const kernels *k, precision prec, tolerance limit), precision prec,
                               tolerance limit)
{
    for (int k = 0; kernels_set(k); k++)
        if (kernels_set(k)->available())
            check(kernels_set(k), prec, limit);
}

#endif
