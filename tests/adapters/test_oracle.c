/* Logits, loss and every gradient against PyTorch (tests/data/oracle, made by tools/make_oracles.py), on every device. */
#include "support.h"

#include <jansson.h>
#include <math.h>

#include "adapters/adapter.h"
#include "train/model.h"

#define ORACLE TEST_DATA "/oracle/"
#define BATCH 3

extern const kernels kernels_reference;

/* Relative to the tensor's norm: its largest value for f32; its Euclidean norm for bf16, where a ReLU near zero may switch. */
typedef struct tolerance {
    double logits, gradient;
    bool euclidean;
} tolerance;

static double difference(const float *found, const tensor_view *expected, bool euclidean)
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

static void expect_close(const device *d, const void *array, const tensor_set *oracle, const char *name, double limit, bool euclidean, const char *where)
{
    const tensor_view *t = tensor_set_find(oracle, name);
    float *found;

    if (!t)
        fail_msg("%s: the oracle has no '%s'", where, name);
    found = malloc((size_t)t->count * sizeof *found);
    device_get_f32(d, found, array, t->count);
    if (!(difference(found, t, euclidean) <= limit))
        fail_msg("%s on %s: '%s' differs from PyTorch's by %.3g of its size, allowed %.3g", where, d->k->name, name, difference(found, t, euclidean), limit);
    free(found);
}

static void set_inputs(program *p, const model *m, const tensor_set *base)
{
    const tensor_view *pixels = tensor_set_find(base, "pixels"), *labels = tensor_set_find(base, "labels");

    memcpy(program_value(p, m->pixels, BATCH).data, pixels->data, (size_t)pixels->count);
    memcpy(program_value(p, m->labels, BATCH).data, labels->data, (size_t)labels->count * sizeof(int32_t));
}

static options *settings_of(const json_t *item)
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
        ASSERT_OK(options_set(o, key, given ? given : text, "cases.json", &err));
    }
    return o;
}

static void check_case(const json_t *item, const kernels *k, precision prec, tolerance limit)
{
    const char *name = json_string_value(json_object_get(item, "name"));
    char path[512], tensor[256];
    inlay_error err;
    device d;
    backbone *b;
    adapter *a;
    model m;
    program *p;
    tensor_set *oracle, *pixels;
    step_info step = {.seed = 0, .step = 0};

    snprintf(path, sizeof path, ORACLE "%s", json_string_value(json_object_get(item, "backbone")));
    ASSERT_OK(device_open(&d, k, 2, &err));
    ASSERT_OK(backbone_open(&b, path, 0, &err));
    snprintf(path, sizeof path, ORACLE "%s", json_string_value(json_object_get(item, "file")));
    ASSERT_OK(tensor_set_open(&oracle, path, &err));
    ASSERT_OK(tensor_set_open(&pixels, tensor_set_find(oracle, "pixels") ? path : ORACLE "base.safetensors", &err));
    ASSERT_OK(adapter_new(&a, json_string_value(json_object_get(item, "method")), settings_of(item), b, 5, NULL, &err));
    ASSERT_OK(adapter_initialise(a, &d, 1, &err));
    assert_int_equal(adapter_param_total(a, false), json_integer_value(json_object_get(item, "param_count")));
    for (int i = 0; i < a->param_count; i++) {
        const tensor_view *t;
        snprintf(tensor, sizeof tensor, "param.%s", a->params[i].p->name);
        t = tensor_set_find(oracle, tensor);
        if (!t)
            fail_msg("%s: the oracle has no '%s'", name, tensor);
        assert_int_equal(t->count, a->params[i].p->count);
        param_set(a->params[i].p, &d, t->data);
    }
    model_request request = {.dev = &d, .b = b, .a = a, .prec = prec, .pixel_type = DTYPE_U8};
    ASSERT_OK(model_build(&m, &request, &err));
    program_request plan = {.dev = &d, .max_batch = BATCH, .backward = true, .wanted = (value[]){m.loss, m.logits}, .wanted_count = 2};
    ASSERT_OK(program_new(&p, m.g, &plan, &err));
    set_inputs(p, &m, pixels);
    program_forward(p, BATCH, &step);
    program_backward(p, BATCH, &step);
    expect_close(&d, program_value(p, m.logits, BATCH).data, oracle, "logits", limit.logits, limit.euclidean, name);
    expect_close(&d, program_value(p, m.loss, BATCH).data, oracle, "loss", limit.logits, limit.euclidean, name);
    for (int i = 0; i < a->param_count; i++) {
        snprintf(tensor, sizeof tensor, "grad.%s", a->params[i].p->name);
        expect_close(&d, a->params[i].p->grad, oracle, tensor, limit.gradient, limit.euclidean, name);
    }
    program_free(p);
    model_free(&m);
    for (int i = 0; i < b->param_count; i++)
        param_release(b->params[i], &d);
    adapter_free(a, &d);
    backbone_close(b);
    device_close(&d);
    tensor_set_close(oracle);
    tensor_set_close(pixels);
}

static void each_case(const kernels *k, precision prec, tolerance limit)
{
    json_t *cases = json_load_file(ORACLE "cases.json", 0, NULL);

    assert_true(json_array_size(cases) >= 20);
    for (size_t i = 0; i < json_array_size(cases); i++)
        check_case(json_array_get(cases, i), k, prec, limit);
    json_decref(cases);
}

static void test_methods_f64(void **state)
{
    (void)state;
    each_case(&kernels_reference, PRECISION_F32, (tolerance){1e-6, 1e-6, false}); /* the oracle is stored as f32 */
}

static void test_methods_f32(void **state)
{
    (void)state;
    for (int k = 0; kernels_table[k]; k++)
        if (kernels_table[k]->available())
            each_case(kernels_table[k], PRECISION_F32, (tolerance){1e-5, 5e-5, false});
}

/* bf16 rounds weights and their inputs to 8 bits: a relative 2^-9 for each of a dozen products. */
static void test_methods_bf16(void **state)
{
    (void)state;
    for (int k = 0; kernels_table[k]; k++)
        if (kernels_table[k]->available())
            each_case(kernels_table[k], PRECISION_BF16, (tolerance){0.02, 0.08, true});
}

/* ---- ten steps of AdamW ---- */

static void ten_steps(const char *name, const kernels *k, double loss_limit, double final_limit)
{
    char path[256];
    inlay_error err;
    device d;
    backbone *b;
    adapter *a;
    model m;
    program *p;
    tensor_set *oracle;
    json_t *about;
    const tensor_view *losses, *lr, *pixels, *labels;

    snprintf(path, sizeof path, ORACLE "%s.safetensors", name);
    ASSERT_OK(tensor_set_open(&oracle, path, &err));
    snprintf(path, sizeof path, ORACLE "%s.json", name);
    about = json_load_file(path, 0, NULL);
    ASSERT_OK(device_open(&d, k, 2, &err));
    ASSERT_OK(backbone_open(&b, ORACLE "vit", 0, &err));
    ASSERT_OK(adapter_new(&a, "bottleneck", settings_of(about), b, 5, NULL, &err));
    ASSERT_OK(adapter_initialise(a, &d, 1, &err));
    for (int i = 0; i < a->param_count; i++) {
        char tensor[256];
        snprintf(tensor, sizeof tensor, "param.%s", a->params[i].p->name);
        param_set(a->params[i].p, &d, tensor_set_find(oracle, tensor)->data);
    }
    model_request request = {.dev = &d, .b = b, .a = a, .pixel_type = DTYPE_U8};
    ASSERT_OK(model_build(&m, &request, &err));
    program_request plan = {.dev = &d, .max_batch = BATCH, .backward = true, .wanted = &m.loss, .wanted_count = 1};
    ASSERT_OK(program_new(&p, m.g, &plan, &err));
    losses = tensor_set_find(oracle, "losses");
    lr = tensor_set_find(oracle, "lr");
    pixels = tensor_set_find(oracle, "pixels");
    labels = tensor_set_find(oracle, "labels");
    for (int s = 0; s < 10; s++) {
        step_info step = {.step = (uint32_t)s};
        size_t bytes = 32 * 32 * 3;
        float loss, expected = ((const float *)losses->data)[s];
        memcpy(program_value(p, m.pixels, BATCH).data, (const uint8_t *)pixels->data + (size_t)(s % 4) * BATCH * bytes, BATCH * bytes);
        memcpy(program_value(p, m.labels, BATCH).data, (const int32_t *)labels->data + (s % 4) * BATCH, BATCH * sizeof(int32_t));
        program_forward(p, BATCH, &step);
        program_backward(p, BATCH, &step);
        device_get_f32(&d, &loss, program_value(p, m.loss, BATCH).data, 1);
        if (fabs((double)loss - (double)expected) > loss_limit)
            fail_msg("%s: loss of step %d is %.7f, PyTorch's %.7f", name, s, (double)loss, (double)expected);
        for (int i = 0; i < a->param_count; i++) {
            param *q = a->params[i].p;
            adamw_args args = {.value = q->data, .m = q->m, .v = q->v, .grad = q->grad, .count = q->count, .step = s + 1, .lr = (double)((const float *)lr->data)[s],
                               .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .weight_decay = q->decay ? json_number_value(json_object_get(about, "weight_decay")) : 0};
            d.k->adamw(&d.c, &args);
            q->version++;
        }
    }
    for (int i = 0; i < a->param_count; i++) {
        char tensor[256];
        snprintf(tensor, sizeof tensor, "final.%s", a->params[i].p->name);
        expect_close(&d, a->params[i].p->data, oracle, tensor, final_limit, false, name);
    }
    program_free(p);
    model_free(&m);
    for (int i = 0; i < b->param_count; i++)
        param_release(b->params[i], &d);
    adapter_free(a, &d);
    backbone_close(b);
    device_close(&d);
    tensor_set_close(oracle);
    json_decref(about);
}

static void test_steps(void **state)
{
    (void)state;
    ten_steps("steps", &kernels_reference, 1e-6, 2e-6);
    ten_steps("steps", NULL, 1e-4, 1e-3);
    ten_steps("steps_decay", &kernels_reference, 1e-6, 2e-6);
    ten_steps("steps_decay", NULL, 1e-4, 1e-3);
}

/* ---- full training: every gradient of the backbone ---- */

static void test_full(void **state)
{
    inlay_error err;
    device d;
    backbone *b;
    adapter *a;
    model m;
    program *p;
    tensor_set *base;
    options *o;
    step_info step = {.seed = 0, .step = 0};

    (void)state;
    ASSERT_OK(tensor_set_open(&base, ORACLE "base.safetensors", &err));
    ASSERT_OK(device_open(&d, &kernels_reference, 1, &err));
    ASSERT_OK(backbone_open(&b, ORACLE "vit", 0, &err));
    ASSERT_OK(adapter_settings(&o, "full", &err));
    ASSERT_OK(adapter_new(&a, "full", o, b, 5, NULL, &err));
    ASSERT_OK(adapter_initialise(a, &d, 1, &err));
    param_set(a->head_weight, &d, backbone_param(b, "head.weight")->source);
    param_set(a->head_bias, &d, backbone_param(b, "head.bias")->source);
    model_request request = {.dev = &d, .b = b, .a = a, .pixel_type = DTYPE_U8};
    ASSERT_OK(model_build(&m, &request, &err));
    program_request plan = {.dev = &d, .max_batch = BATCH, .backward = true, .wanted = (value[]){m.loss, m.logits}, .wanted_count = 2};
    ASSERT_OK(program_new(&p, m.g, &plan, &err));
    set_inputs(p, &m, base);
    program_forward(p, BATCH, &step);
    program_backward(p, BATCH, &step);
    expect_close(&d, program_value(p, m.logits, BATCH).data, base, "logits", 1e-6, false, "full");
    for (int i = 0; i < a->param_count; i++) {
        char tensor[256];
        snprintf(tensor, sizeof tensor, "grad.%s", a->params[i].p->name);
        expect_close(&d, a->params[i].p->grad, base, tensor, 1e-6, false, "full");
    }
    assert_int_equal(a->param_count, b->param_count);
    program_free(p);
    model_free(&m);
    for (int i = 0; i < b->param_count; i++)
        param_release(b->params[i], &d);
    adapter_free(a, &d);
    backbone_close(b);
    device_close(&d);
    tensor_set_close(base);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_methods_f64), cmocka_unit_test(test_methods_f32), cmocka_unit_test(test_methods_bf16),
        cmocka_unit_test(test_steps), cmocka_unit_test(test_full),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
