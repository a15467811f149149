/* Twelve training steps under the optimisers and schedules of the methods' authors, against PyTorch, timm and
 * transformers (tools/oracle_optimizers.py): losses, what the parameters come to, and the learning rates. */
#include "adapters/oracle.h"

#include "train/train.h"

enum { STEPS = 12, PER_EPOCH = 2 };

static const char *const rows[] = {"mosa", "transformers", "adaptable", "adamix", "bert", "ssf", "sgd", "sgd_masked"};

static double number(const json_t *o, const char *key)
{
    assert_true(json_is_number(json_object_get(o, key)));
    return json_number_value(json_object_get(o, key));
}

static int choice(const json_t *o, const char *key, const char *const *names)
{
    int i = 0;

    while (strcmp(names[i], json_string_value(json_object_get(o, key))) != 0)
        i++;
    return i;
}

static schedule read_schedule(const json_t *about)
{
    const json_t *s = json_object_get(about, "schedule");

    return (schedule){.kind = (schedule_kind)choice(s, "schedule", schedule_names),
                      .lr = number(about, "lr"),
                      .start = number(s, "warmup_lr"),
                      .end = number(s, "min_lr"),
                      .warmup = (int64_t)number(s, "warmup_epochs"),
                      .warmup_share = number(s, "warmup_share"),
                      .epochs = STEPS / PER_EPOCH,
                      .peak_behind = !json_is_true(json_object_get(s, "peak_in_warmup")),
                      .by_step = strcmp(json_string_value(json_object_get(s, "schedule_unit")), "step") == 0,
                      .from_first = json_is_true(json_object_get(s, "decay_from_start"))};
}

static train_request read_request(const json_t *about, oracle_case *c)
{
    const json_t *betas = json_object_get(about, "betas");

    return (train_request){.dev = &c->d,
                           .a = c->a,
                           .lr = read_schedule(about),
                           .update.kind = (optimizer_kind)choice(about, "optimizer", optimizer_names),
                           .update.rule = (adam_rule)choice(about, "adam_rule", adam_rule_names),
                           .update.decay_on = (decay_reach)choice(about, "decay_on", decay_reach_names),
                           .update.weight_decay = number(about, "weight_decay"),
                           .update.momentum = number(about, "momentum"),
                           .update.beta1 = json_number_value(json_array_get(betas, 0)),
                           .update.beta2 = json_number_value(json_array_get(betas, 1)),
                           .update.eps = number(about, "adam_eps"),
                           .update.clip_norm = number(about, "clip_grad_norm")};
}

static void expect_rates(const train_request *q, const float *lr, const char *name)
{
    schedule s = schedule_resolved(&q->lr, PER_EPOCH);

    for (int i = 0; i < STEPS; i++) {
        double found = schedule_lr(&s, s.by_step ? i : i / PER_EPOCH);
        if (!(fabs(found - (double)lr[i]) <= 1e-7 * s.lr))
            fail_msg("%s: the learning rate of step %d is %.9g, the authors' %.9g", name, i, found, (double)lr[i]);
    }
}

static void run_steps(oracle_case *c, const train_request *q, uint64_t seed, const float *lr, double limit)
{
    const float *losses = oracle_tensor(c->oracle, "", "losses", c->name)->data;
    step_info step = {.seed = seed, .epochs = STEPS / PER_EPOCH};
    inlay_error err;
    model m;
    program *p;
    optimizer update;
    tensor_set *inputs;
    model_request request = {.dev = &c->d, .b = c->b, .a = c->a, .pixel_type = DTYPE_U8, .training = true};

    ASSERT_OK(tensor_set_open(&inputs, ORACLE "steps.safetensors", &err));
    ASSERT_OK(model_build(&m, &request, &err));
    program_request plan = {.dev = &c->d, .max_batch = BATCH, .backward = true, .wanted = &m.loss, .wanted_count = 1};
    ASSERT_OK(program_new(&p, m.g, &plan, &err));
    ASSERT_OK(optimizer_open(&update, &q->update, &q->lr, c->a, &c->d, &err));
    for (int s = 0; s < STEPS; s++) {
        float loss;
        step.step = (uint32_t)s;
        step.epoch = s / PER_EPOCH;
        for (const adapter_param *i = NULL; (i = adapter_each_param(c->a, i));)
            param_set_touched(i->p, false);
        set_step_inputs(p, &m, inputs, s);
        program_step(p, BATCH, &step);
        device_get_f32(&c->d, &loss, program_value(p, m.loss, BATCH).data, 1);
        if (!(fabs((double)loss - (double)losses[s]) <= limit))
            fail_msg("%s on %s: loss of step %d is %.7f, PyTorch's %.7f", c->name, c->d.k->name, s, (double)loss,
                     (double)losses[s]);
        optimizer_step(&update, (double)lr[s]);
    }
    optimizer_close(&update);
    program_free(p);
    model_free(&m);
    tensor_set_close(inputs);
}

static void twelve_steps(const char *row, const kernels *k, double loss_limit, double final_limit)
{
    char path[256], file[256];
    json_t *about;
    oracle_case c;
    train_request q;
    const float *lr;
    uint64_t seed;

    snprintf(path, sizeof path, ORACLE "optimizers_%s.json", row);
    snprintf(file, sizeof file, "optimizers_%s.safetensors", row);
    about = json_load_file(path, 0, NULL);
    assert_non_null(about);
    seed = (uint64_t)json_integer_value(json_object_get(about, "seed"));
    open_case(&c, about, file, k, seed);
    c.name = row;
    lr = oracle_tensor(c.oracle, "", "lr", row)->data;
    q = read_request(about, &c);
    expect_rates(&q, lr, row);
    run_steps(&c, &q, seed, lr, loss_limit);
    for (const adapter_param *i = NULL; (i = adapter_each_param(c.a, i));)
        expect_close(&c.d, i->p->data, c.oracle, "final.", i->p->name, final_limit, false, row);
    close_case(&c);
    json_decref(about);
}

static void test_reference(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        twelve_steps(rows[i], &kernels_reference, 1e-6, 2e-6);
}

static void test_devices(void **state)
{
    (void)state;
    for (int k = 0; kernels_set(k); k++)
        for (size_t i = 0; !kernels_set(k)->refused() && i < sizeof rows / sizeof *rows; i++)
            twelve_steps(rows[i], kernels_set(k), 1e-5, 1e-4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_reference), cmocka_unit_test(test_devices)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
