/* Training steps against PyTorch, on every device: methods that draw in each pass - logits of every pass, loss,
 * gradients - and ten steps of the optimiser. The draws are those that Inlay makes for the seed and step of a row:
 * tools/philox.py draws them once more. */
#include "adapters/oracle.h"

#include "train/train.h"

/* ---- one step ---- */

static void each_case(const kernels *k, precision prec, tolerance limit)
{
    check_file(ORACLE "training.json", 15, k, prec, limit);
    check_file(ORACLE "options_training.json", 5, k, prec, limit);
}

static void test_step_f64(void **state)
{
    (void)state;
    each_case(&kernels_reference, PRECISION_F32, tolerance_f64);
}

static void test_step_f32(void **state)
{
    (void)state;
    each_device(each_case, PRECISION_F32, tolerance_f32);
}

static void test_step_bf16(void **state)
{
    (void)state;
    each_device(each_case, PRECISION_BF16, tolerance_bf16);
}

/* ---- ten steps of AdamW ---- */

/* The entries that an expert trains are those that the oracle's generator drew. */
static void expect_masks(const oracle_case *c)
{
    for (const adapter_param *i = NULL; (i = adapter_each_param(c->a, i));) {
        const param *p = i->p;
        const tensor_view *t;
        unsigned char *mask;
        if (!adapter_drawn_mask(c->a, p))
            continue;
        t = oracle_tensor(c->oracle, "mask.", p->name, c->name);
        mask = malloc((size_t)p->count);
        c->d.k->copy_out(mask, adapter_drawn_mask(c->a, p), (size_t)p->count);
        assert_memory_equal(mask, t->data, p->count);
        free(mask);
    }
}

static void run_steps(oracle_case *c, const json_t *about, double loss_limit)
{
    const char *inputs_name = json_string_value(json_object_get(about, "inputs"));
    step_info step = {.seed = (uint64_t)json_integer_value(json_object_get(about, "seed")),
                      .epochs = (int)json_integer_value(json_object_get(about, "epochs"))};
    const float *losses = oracle_tensor(c->oracle, "", "losses", c->name)->data,
                *lr = oracle_tensor(c->oracle, "", "lr", c->name)->data;
    char path[256];
    inlay_error err;
    model m;
    program *p;
    tensor_set *inputs = c->oracle;

    if (inputs_name) {
        snprintf(path, sizeof path, ORACLE "%s", inputs_name);
        ASSERT_OK(tensor_set_open(&inputs, path, &err));
    }
    const optimizer_settings set = {.beta1 = 0.9,
                                    .beta2 = 0.999,
                                    .eps = 1e-8,
                                    .weight_decay = json_number_value(json_object_get(about, "weight_decay")),
                                    .move_untouched = json_is_true(json_object_get(about, "move_untouched"))};
    const schedule rates = {.lr = json_number_value(json_object_get(about, "lr"))};
    const json_t *updates = json_object_get(about, "updates");
    optimizer update;
    model_request request = {.dev = &c->d,
                             .b = c->b,
                             .a = c->a,
                             .pixel_type = DTYPE_U8,
                             .training = true,
                             .drop_path = json_number_value(json_object_get(about, "backbone_drop_path")),
                             .backbone_dropout = json_number_value(json_object_get(about, "backbone_dropout"))};
    ASSERT_OK(model_build(&m, &request, &err));
    program_request plan = {.dev = &c->d, .max_batch = BATCH, .backward = true, .wanted = &m.loss, .wanted_count = 1};
    ASSERT_OK(program_new(&p, m.g, &plan, &err));
    ASSERT_OK(optimizer_open(&update, &set, &rates, c->a, &c->d, &err));
    for (int s = 0; s < 10; s++) {
        float loss;
        step.step = (uint32_t)s;
        step.epoch = s / 2;
        set_step_inputs(p, &m, inputs, s);
        program_step(p, BATCH, &step);
        device_get_f32(&c->d, &loss, program_value(p, m.loss, BATCH).data, 1);
        if (!(fabs((double)loss - (double)losses[s]) <= loss_limit))
            fail_msg("%s: loss of step %d is %.7f, PyTorch's %.7f", c->name, s, (double)loss, (double)losses[s]);
        optimizer_step(&update, (double)lr[s]);
    }
    for (int i = 0; i < update.count; i++)
        assert_int_equal(update.slots[i].updates,
                         updates ? json_integer_value(json_object_get(updates, update.slots[i].p->name)) : 10);
    optimizer_close(&update);
    program_free(p);
    model_free(&m);
    if (inputs_name)
        tensor_set_close(inputs);
}

static void ten_steps(const char *name, const kernels *k, double loss_limit, double final_limit)
{
    char path[256], file[256];
    json_t *about;
    oracle_case c;

    snprintf(path, sizeof path, ORACLE "%s.json", name);
    snprintf(file, sizeof file, "%s.safetensors", name);
    about = json_load_file(path, 0, NULL);
    open_case(&c, about, file, k, (uint64_t)json_integer_value(json_object_get(about, "seed")));
    c.name = name;
    expect_masks(&c);
    run_steps(&c, about, loss_limit);
    for (const adapter_param *i = NULL; (i = adapter_each_param(c.a, i));) {
        const param *p = i->p;
        expect_close(&c.d, p->data, c.oracle, "final.", p->name, final_limit, false, name);
    }
    close_case(&c);
    json_decref(about);
}

static void test_steps(void **state)
{
    static const char *const names[] = {
        "steps",
        "steps_decay",
        "steps_mosa",
        "steps_mosa_decay_masked",
        "steps_mosa_move_untouched",
        "steps_adaptable",
        "steps_adamix_move_untouched",
        "steps_adamix_lora",
        "steps_mosl",
        "steps_mosl_row",
        "steps_mosa_biases",
        "steps_mosa_sparse",
    };

    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        ten_steps(names[i], &kernels_reference, 1e-6, 2e-6);
        ten_steps(names[i], NULL, 1e-5, 1e-4);
    }
}

/* Stochastic depth and dropout on, with the masks drawn again by the oracle's generator. */
static void test_steps_with_draws(void **state)
{
    static const char *const names[] = {
        "depth_post",          "depth_pre",      "depth_parallel",       "depth_intermediate", "depth_houlsby",
        "depth_pfeiffer",      "depth_pre_post", "depth_layerscale",     "depth_adamix",       "depth_mosa_pfeiffer",
        "depth_adapter_bias",  "dropout_post",   "dropout_houlsby",      "dropout_avg",        "dropout_adamix",
        "dropout_adamix_lora", "dropout_mosa",   "dropout_adapter_bias",
    };

    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char name[64];
        snprintf(name, sizeof name, "draws/%s", names[i]);
        ten_steps(name, &kernels_reference, 1e-6, 2e-6);
        ten_steps(name, NULL, 1e-5, 1e-4);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_step_f64), cmocka_unit_test(test_step_f32),         cmocka_unit_test(test_step_bf16),
        cmocka_unit_test(test_steps),    cmocka_unit_test(test_steps_with_draws),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
