/* Options that methods share or that change what one computes, by identities: what another way of saying the same
 * gives. */
#include "adapters/specs.h"
#include "compose/fold.h"
#include "graph/program.h"

#define DEPTH 3
#define WIDTH 32

static int64_t trained(const char *name, const char *settings)
{
    tuned_vit v;
    int64_t count;

    vit_open(&v, name, settings);
    count = adapter_trained_total(v.a, false);
    vit_close(&v);
    return count;
}

/* ---- weights of the backbone beside an adapter ---- */

static void test_unfreeze_counts(void **state)
{
    const int64_t norms = (2 * DEPTH + 1) * 2 * WIDTH, biases = (11 * DEPTH + 2) * WIDTH;

    (void)state;
    assert_int_equal(trained("houlsby", "unfreeze=norm"), trained("houlsby", NULL) + norms);
    assert_int_equal(trained("lora", "unfreeze=bias"), trained("lora", NULL) + biases);
    assert_int_equal(trained("vpt", "unfreeze=norm"), trained("vpt", NULL) + norms);
    assert_int_equal(trained("bottleneck", "unfreeze=all"), trained("bottleneck", NULL) + trained("full", NULL));
    assert_int_equal(trained("bottleneck", "layers=1 unfreeze=norm"), trained("bottleneck", "layers=1") + 4 * WIDTH);
    assert_int_equal(trained("bottleneck", "layers=none unfreeze=bias"), 0);
}

/* Layers of such an adapter cannot be left out, for its weights are those of all layers. */
static void test_unfreeze_cannot_skip(void **state)
{
    tuned_vit v;

    (void)state;
    vit_open(&v, "bottleneck", "unfreeze=norm");
    assert_false(adapter_can_skip(v.a));
    vit_close(&v);
    vit_open(&v, "bottleneck", "unfreeze=none");
    assert_true(adapter_can_skip(v.a));
    vit_close(&v);
}

/* ---- folding ---- */

/* Random values, saved, loaded, folded; logits before and after. */
static inlay_status fold_round(const char *settings, double before[LOGITS], double after[LOGITS], inlay_error *refusal)
{
    inlay_error err;
    const char *folder = support_folder();
    char adapter_path[128], folded[128];
    inlay_status status;
    preprocess prep;
    tuned_vit v;
    uint32_t stream = 0;

    snprintf(adapter_path, sizeof adapter_path, "%s/adapter", folder);
    snprintf(folded, sizeof folded, "%s/folded", folder);
    vit_open(&v, "lora", settings);
    for (const adapter_param *i = NULL; (i = adapter_each_param(v.a, i));) {
        float *values = get(&v.d, i->p);
        for (int64_t j = 0; j < i->p->count; j++)
            values[j] +=
                (float)rng_below((rng_stream){.seed = 3, .purpose = RNG_TEST, .stream = stream}, (uint64_t)j, 100) /
                1000;
        param_set(i->p, &v.d, values);
        free(values);
        stream++;
    }
    vit_build(&v, false, false);
    vit_run(&v, 0, 0, before);
    ASSERT_OK(adapter_save(v.a, &v.d, adapter_path, NULL, NULL, &err));
    vit_close(&v);

    vit_open(&v, "linear", NULL);
    adapter_free(v.a, &v.d);
    ASSERT_OK(adapter_load(&v.a, adapter_path, v.b, false, NULL, &err));
    ASSERT_OK(preprocess_for(&prep, v.b, NULL, &err));
    status = fold_write(v.a, &prep, folded, DTYPE_F32, refusal);
    vit_close(&v);
    if (status == INLAY_OK) {
        memset(&v, 0, sizeof v);
        ASSERT_OK(device_open(&v.d, &kernels_reference, 1, &err));
        ASSERT_OK(backbone_open(&v.b, folded, 0, &err));
        vit_build(&v, false, false);
        vit_run(&v, 0, 0, after);
        vit_close(&v);
    }
    support_remove(folder);
    return status;
}

static void test_fold(void **state)
{
    static const char *const settings[] = {"unfreeze=all", "unfreeze=norm targets=q,fc2 scale=0.5",
                                           "unfreeze=bias layers=1,2", "layers=0,2 ranks=2:3 targets=k,proj"};
    double before[LOGITS], after[LOGITS];
    inlay_error err;

    (void)state;
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
        ASSERT_OK(fold_round(settings[i], before, after, &err));
        expect_near(apart(before, after, LOGITS), 0, 1e-5, settings[i]);
    }
    assert_int_equal(fold_round("activation=relu", before, after, &err), INLAY_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.message, "activation 'relu'"));
    assert_non_null(strstr(err.message, "not linear"));
}

/* ---- LoRA ---- */

static void adapter_logits(const char *name, const char *settings, double logits[LOGITS])
{
    tuned_vit v;

    vit_open(&v, name, settings);
    scramble(&v.d, v.a);
    vit_build(&v, false, false);
    vit_run(&v, 0, 0, logits);
    vit_close(&v);
}

static void test_lora_scale(void **state)
{
    double factor[LOGITS], alpha[LOGITS];

    (void)state;
    adapter_logits("lora", "rank=4 scale=0.5", factor);
    adapter_logits("lora", "rank=4 alpha=2", alpha);
    assert_memory_equal(factor, alpha, sizeof factor);
    adapter_logits("lora", "rank=4 scale=0 alpha=2", factor);
    assert_memory_equal(factor, alpha, sizeof factor);
}

/* ---- bottlenecks: where dropout lies ---- */

/* One sum of all inputs: dropout behind it gives 0 or all of it, dropout in front gives sums of a part. */
static void test_dropout_at(void **state)
{
    (void)state;
    for (int at_input = 0; at_input < 2; at_input++) {
        float down[8] = {1, 1, 1, 1, 1, 1, 1, 1}, up[8] = {1, 1, 1, 1, 1, 1, 1, 1};
        step_info step = {.seed = 9};
        bool between = false;
        toy t;
        toy_open(&t, 8, 16, "bottleneck",
                 at_input ? "rank=1 activation=none dropout=0.5 dropout_at=input"
                          : "rank=1 activation=none dropout=0.5");
        set(&t.d, t.a, "blocks.0.adapter.down.weight", down);
        set(&t.d, t.a, "blocks.0.adapter.up.weight", up);
        for (int s = 0; s < 8; s++) {
            graph *g = graph_new(t.d.k, t.d.k->real);
            const edge *e = &t.a->declared->edges[0];
            value in = graph_input(g, "x", t.d.k->real, 1, 8),
                  out = e->function(&(build_context){.a = t.a, .g = g, .at = e->to, .training = true}, in, e->context);
            program_request plan = {.dev = &t.d, .max_batch = 1, .wanted = &out, .wanted_count = 1};
            inlay_error err;
            program *p;
            double y;
            graph_finish(g);
            ASSERT_OK(program_new(&p, g, &plan, &err));
            for (int i = 0; i < 8; i++)
                ((double *)program_value(p, in, 1).data)[i] = 1;
            step.step = (uint32_t)s;
            program_forward(p, 1, &step);
            y = *(double *)program_value(p, out, 1).data;
            between |= y > 0 && y < 16; /* 8 inputs over 1 - 0.5 */
            program_free(p);
            graph_free(g);
        }
        assert_int_equal(between, at_input);
        toy_close(&t);
    }
}

/* ---- VPT ---- */

static void test_shared_prompts(void **state)
{
    double shared[LOGITS], own[LOGITS];
    tuned_vit v;

    (void)state;
    assert_int_equal(trained("vpt", "prompts=3 shared=true"), 3 * WIDTH);
    assert_int_equal(trained("vpt", "prompts=3 shared=true layers=1,2"), 3 * WIDTH);
    vit_open(&v, "vpt", "prompts=3 shared=true");
    vit_set_head(&v);
    scramble(&v.d, v.a);
    vit_build(&v, false, false);
    vit_run(&v, 0, 0, shared);
    float *rows = get(&v.d, find(v.a, "prompts.0.weight"));
    float *head = get(&v.d, v.a->head_weight), *bias = get(&v.d, v.a->head_bias);
    vit_close(&v);
    vit_open(&v, "vpt", "prompts=3");
    set(&v.d, v.a, "prompts.0.weight", rows);
    set(&v.d, v.a, "prompts.1.weight", rows);
    set(&v.d, v.a, "prompts.2.weight", rows);
    param_set(v.a->head_weight, &v.d, head);
    param_set(v.a->head_bias, &v.d, bias);
    vit_build(&v, false, false);
    vit_run(&v, 0, 0, own);
    vit_close(&v);
    free(rows);
    free(head);
    free(bias);
    assert_memory_equal(shared, own, sizeof shared);
}

/* The bound has the width, 32, or the number of prompts in it; patches have 8 pixels. */
static void test_prompt_bound(void **state)
{
    (void)state;
    for (int by_prompts = 0; by_prompts < 2; by_prompts++) {
        double bound = sqrt(6.0 / (3 * 64 + (by_prompts ? 200 : WIDTH))), most = 0;
        tuned_vit v;
        vit_open(&v, "vpt", by_prompts ? "prompts=200 init=prompts" : "prompts=200");
        float *rows = get(&v.d, find(v.a, "prompts.0.weight"));
        for (int i = 0; i < 200 * WIDTH; i++)
            most = fmax(most, fabs((double)rows[i]));
        free(rows);
        vit_close(&v);
        assert_true(most <= bound && most > 0.99 * bound);
    }
}

/* ---- AdaMix with both sides shared is a bottleneck with two passes ---- */

static void test_adamix_both(void **state)
{
    double trained_logits[LOGITS], merged[LOGITS];
    tuned_vit v;

    (void)state;
    assert_int_equal(trained("adamix", "share=both"), trained("bottleneck", NULL));
    assert_int_equal(trained("adamix", "share=both kind=lora"), trained("lora", NULL));
    vit_open(&v, "adamix", "share=both");
    scramble(&v.d, v.a);
    assert_int_equal(v.a->passes, 2);
    vit_build(&v, true, false);
    vit_run(&v, 0, 0, trained_logits);
    vit_merge(&v);
    vit_build(&v, false, false);
    vit_run(&v, 0, 0, merged);
    vit_close(&v);
    expect_near(apart(trained_logits, merged, LOGITS), 0, 1e-12, "merge of what is shared");
}

/* ---- MoSA ---- */

static void fill(const device *d, param *p, float with)
{
    float *values = malloc((size_t)p->count * sizeof *values);

    for (int64_t i = 0; i < p->count; i++)
        values[i] = with;
    param_set(p, d, values);
    free(values);
}

/* Fills expert e of 4 with e + 1; expected[i]: of entry i the value of the expert that trains it, 0 without masks. */
static void number_experts(tuned_vit *v, const char *part, float *expected)
{
    for (int e = 0; e < 4; e++) {
        char name[64];
        unsigned char *mask;
        snprintf(name, sizeof name, "blocks.1.adapter.down.%d.%s", e, part);
        param *p = find(v->a, name);
        fill(&v->d, p, (float)(e + 1));
        mask = calloc((size_t)p->count, 1);
        if (adapter_drawn_mask(v->a, p))
            v->d.k->copy_out(mask, adapter_drawn_mask(v->a, p), (size_t)p->count);
        for (int64_t i = 0; i < p->count; i++)
            expected[i] += mask[i] ? (float)(e + 1) : 0;
        free(mask);
    }
}

/* merge=average: the mean, 2.5, everywhere. union: each entry from its expert, without masks the mean. joint: the same
 * over 4, without masks the last expert's. */
static float merged_value(char way, float of_expert)
{
    if (way == 'u' && of_expert > 0)
        return of_expert;
    return way == 'j' ? (of_expert > 0 ? of_expert : 4) / 4 : 2.5f;
}

static void test_mosa_merges(void **state)
{
    static const char *const settings[] = {"merge=average",
                                           "merge=union",
                                           "merge=joint",
                                           "merge=average split_biases=true",
                                           "merge=union split_biases=true",
                                           "merge=joint split_biases=true"};
    static const char *const parts[] = {"weight", "bias"};

    (void)state;
    for (int s = 0; s < 6; s++)
        for (int part = 0; part < 2; part++) {
            float expected[4 * WIDTH] = {0}, *merged;
            char text[96], name[64];
            tuned_vit v;
            snprintf(text, sizeof text, "rank=4 split=down %s", settings[s]);
            snprintf(name, sizeof name, "blocks.1.adapter.down.%s", parts[part]);
            vit_open(&v, "mosa", text);
            number_experts(&v, parts[part], expected);
            for (int i = 0; i < (part ? 4 : 4 * WIDTH); i++)
                assert_int_equal(expected[i] >= 1 && expected[i] <= 4, part == 0 || s >= 3);
            vit_merge(&v);
            merged = get(&v.d, find(v.a, name));
            for (int i = 0; i < (part ? 4 : 4 * WIDTH); i++)
                assert_true(merged[i] == merged_value(settings[s][6], expected[i]));
            free(merged);
            vit_close(&v);
        }
}

/* One adapter, one pass, a quarter of every tensor; the merge is a plain adapter with the same answer. */
static void test_mosa_sparse(void **state)
{
    static const char *const settings[] = {"split=none", "split=none style=pfeiffer rank=4",
                                           "split=none style=lora scaling=none rank=4"};

    (void)state;
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
        double before[LOGITS], after[LOGITS];
        tuned_vit v;
        vit_open(&v, "mosa", settings[i]);
        assert_int_equal(v.a->passes, 1);
        assert_int_equal(adapter_trained_total(v.a, false), adapter_param_total(v.a, false) / 4);
        scramble(&v.d, v.a);
        vit_build(&v, false, false);
        vit_run(&v, 0, 0, before);
        vit_merge(&v);
        assert_null(v.a->method->loss);
        vit_build(&v, false, false);
        vit_run(&v, 0, 0, after);
        vit_close(&v);
        expect_near(apart(before, after, LOGITS), 0, 1e-6, settings[i]);
    }
}

/* The factor that the merged adapter has. */
static void test_mosa_scaling(void **state)
{
    static const struct {
        const char *settings;
        double scale;
    } rows[] = {{"scaling=style", 0.1},
                {"scaling=none", 1},
                {"scaling=fixed scale=0.25", 0.25},
                {"scaling=fixed scale=1", 1},
                {"scaling=style style=houlsby", 1}};
    tuned_vit v;

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        vit_open(&v, "mosa", rows[i].settings);
        vit_merge(&v);
        expect_near(options_real(v.a->settings, "scale"), rows[i].scale, 0, rows[i].settings);
        assert_string_equal(options_string(v.a->settings, "scaling"), rows[i].scale == 1 ? "none" : "fixed");
        vit_close(&v);
    }
    vit_open(&v, "mosa", "scaling=learned scale=0.25");
    fill(&v.d, find(v.a, "blocks.1.adapter.scaling"), 0.75f);
    vit_merge(&v);
    for (int layer = 0; layer < 2; layer++) {
        float *scaling = get(&v.d, find(v.a, layer ? "blocks.1.adapter.scaling" : "blocks.0.adapter.scaling"));
        assert_true(scaling[0] == (layer ? 0.75f : 0.25f));
        free(scaling);
    }
    vit_close(&v);
}

/* ---- MoSL: its merge is a LoRA of factor 1 with the experts' means ---- */

static void test_mosl(void **state)
{
    const int64_t a = 16 * WIDTH, b = WIDTH * 16;
    tuned_vit v;
    inlay_error err;
    options *o;
    adapter *refused;

    (void)state;
    vit_open(&v, "mosl", NULL);
    assert_int_equal(adapter_param_total(v.a, false), DEPTH * 2 * (a + 4 * b));
    assert_int_equal(adapter_trained_total(v.a, false), DEPTH * 2 * (a + b));
    for (int e = 0; e < 4; e++) {
        char name[64];
        snprintf(name, sizeof name, "blocks.2.attn.v.lora_B.%d.weight", e);
        fill(&v.d, find(v.a, name), (float)(e + 1));
    }
    vit_merge(&v);
    assert_string_equal(v.a->method->name, "lora");
    assert_true(options_real(v.a->settings, "scale") == 1);
    float *mean = get(&v.d, find(v.a, "blocks.2.attn.v.lora_B.weight"));
    assert_true(mean[0] == 2.5f && mean[b - 1] == 2.5f);
    free(mean);
    ASSERT_OK(adapter_settings(&o, "mosl", &err));
    support_settings(o, "scaling=learned");
    assert_int_equal(adapter_new(&refused, "mosl", o, v.b, CLASSES, NULL, &err), INLAY_ERR_USAGE);
    assert_non_null(strstr(err.message, "scaling: style lora"));
    vit_close(&v);
}

static void test_mosa_unused(void **state)
{
    static const char *const rows[][3] = {
        {"mosa", "targets=q", "--targets: of --style lora only; this run has adaptformer"},
        {"mosl", "split_biases=true", "--split-biases: of --style"},
        {"mosa", "scale=0.5", "--scale: of --scaling fixed or learned only; this run has style"},
        {"mosa", "scaling=none scale=2", "this run has none"}};
    backbone *b;
    inlay_error err;

    (void)state;
    ASSERT_OK(backbone_open(&b, TEST_DATA "/oracle/vit", 0, &err));
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        options *o;
        adapter *a;
        ASSERT_OK(adapter_settings(&o, rows[i][0], &err));
        support_settings(o, rows[i][1]);
        assert_int_equal(adapter_new(&a, rows[i][0], o, b, CLASSES, NULL, &err), INLAY_ERR_USAGE);
        assert_non_null(strstr(err.message, rows[i][2]));
    }
    backbone_close(b);
}

/* ---- Adaptable: what the activation begins as ---- */

static double one_(double x)
{
    (void)x;
    return 1;
}

static double identity_(double x)
{
    return x;
}

static double gelu_(double x)
{
    return x * (1 + erf(x / sqrt(2))) / 2;
}

static double relu_(double x)
{
    return x > 0 ? x : 0;
}

static double sigmoid_(double x)
{
    return 1 / (1 + exp(-x));
}

static double swish_(double x)
{
    return x * sigmoid_(x);
}

static double leaky_relu_(double x)
{
    return x > 0 ? x : 0.01 * x;
}

/* Limits as tools/fit_rational.py prints them. */
static void test_starts(void **state)
{
    static const struct {
        const char *name;
        double (*function)(double);
        double limit;
    } rows[] = {{"one", one_, 0.12},         {"identity", identity_, 1e-7},    {"gelu", gelu_, 3e-3},
                {"relu", relu_, 0.04},       {"swish", swish_, 2e-5},          {"tanh", tanh, 1e-5},
                {"sigmoid", sigmoid_, 2e-5}, {"leaky_relu", leaky_relu_, 0.04}};

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        for (int version = 0; version < 2; version++) {
            char settings[96];
            float one = 1;
            double x[61], y[61];
            toy t;
            snprintf(settings, sizeof settings, "rank=1 switches=false start=%s version=%c", rows[i].name,
                     "AB"[version]);
            toy_open(&t, 1, 4, "adaptable", settings);
            set(&t.d, t.a, "blocks.0.adapter.down.weight", &one);
            set(&t.d, t.a, "blocks.0.adapter.up.weight", &one);
            for (int j = 0; j < 61; j++)
                x[j] = (j - 30) / 10.0;
            run_edge(&t.d, t.a, 0, x, 61, 1, &(step_info){0}, y);
            for (int j = 0; j < 61; j++)
                expect_near(y[j], rows[i].function(x[j]), rows[i].limit, settings);
            toy_close(&t);
        }
}

/* A start has coefficients of its own. */
static void test_start_refused(void **state)
{
    inlay_error err;
    tuned_vit v;
    options *o;
    adapter *a;

    (void)state;
    vit_open(&v, "adaptable", "denominator_init=0.5");
    ASSERT_OK(adapter_settings(&o, "adaptable", &err));
    support_settings(o, "start=gelu denominator_init=0.5");
    assert_int_equal(adapter_new(&a, "adaptable", o, v.b, CLASSES, NULL, &err), INLAY_ERR_USAGE);
    assert_non_null(strstr(err.message, "--denominator-init: of --start one only; this run has gelu"));
    vit_close(&v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unfreeze_counts),
        cmocka_unit_test(test_unfreeze_cannot_skip),
        cmocka_unit_test(test_fold),
        cmocka_unit_test(test_lora_scale),
        cmocka_unit_test(test_dropout_at),
        cmocka_unit_test(test_shared_prompts),
        cmocka_unit_test(test_prompt_bound),
        cmocka_unit_test(test_adamix_both),
        cmocka_unit_test(test_mosa_merges),
        cmocka_unit_test(test_mosa_sparse),
        cmocka_unit_test(test_mosa_scaling),
        cmocka_unit_test(test_mosl),
        cmocka_unit_test(test_mosa_unused),
        cmocka_unit_test(test_starts),
        cmocka_unit_test(test_start_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
