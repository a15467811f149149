/* Logits, loss and every gradient against PyTorch (tests/data/oracle, made by tools/make_oracles.py), on every device.
 */
#include "adapters/adapter_impl.h"
#include "adapters/oracle.h"

static void each_case(const kernels *k, precision prec, tolerance limit)
{
    check_file(ORACLE "cases.json", 20, k, prec, limit);
    check_file(ORACLE "options.json", 9, k, prec, limit);
}

static void test_methods_f64(void **state)
{
    (void)state;
    each_case(&kernels_reference, PRECISION_F32, tolerance_f64);
}

static void test_methods_f32(void **state)
{
    (void)state;
    each_device(each_case, PRECISION_F32, tolerance_f32);
}

static void test_methods_bf16(void **state)
{
    (void)state;
    each_device(each_case, PRECISION_BF16, tolerance_bf16);
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
    int weights = 0;

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
    program_request plan = {
        .dev = &d, .max_batch = BATCH, .backward = true, .wanted = (value[]){m.loss, m.logits}, .wanted_count = 2};
    ASSERT_OK(program_new(&p, m.g, &plan, &err));
    set_inputs(p, &m, base);
    program_step(p, BATCH, &step);
    expect_close(&d, program_value(p, m.logits, BATCH).data, base, "", "logits", 1e-6, false, "full");
    for (const adapter_param *i = NULL; (i = adapter_each_param(a, i));)
        expect_close(&d, i->p->grad, base, "grad.", i->p->name, 1e-6, false, "full");
    for (param *const *i = NULL; (i = backbone_each_param(b, i));)
        weights++;
    assert_int_equal(a->declared->param_count, weights);
    program_free(p);
    model_free(&m);
    adapter_free(a, &d);
    backbone_close(b);
    device_close(&d);
    tensor_set_close(base);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_methods_f64),
        cmocka_unit_test(test_methods_f32),
        cmocka_unit_test(test_methods_bf16),
        cmocka_unit_test(test_full),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
