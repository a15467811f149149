/* What the papers and codes of Adaptable Adapters (arXiv 2205.01549) and AdapterBias (arXiv 2205.00305) say that must
 * hold, with their numbers; the parameter counts of these two, AdaMix and MoSA; and what all of them have in common. */
#include "adapters/specs.h"

/* ---- rational activations ---- */

/* R(x) for `count` values. */
static void rational(const float numerator[6], const float denominator[4], bool safe, const double *x, int count,
                     double *y)
{
    arena *memory = arena_new();
    graph *g = graph_new(&kernels_reference, DTYPE_F64);
    param *top = param_new(memory, "numerator", 1, (int64_t[]){6}),
          *low = param_new(memory, "denominator", 1, (int64_t[]){4});
    value in = graph_input(g, "x", DTYPE_F64, 1, count), out = graph_rational(g, in, top, low, safe);
    program_request plan = {.max_batch = 1, .wanted = &out, .wanted_count = 1};
    step_info step = {0};
    inlay_error err;
    device d;
    program *p;

    ASSERT_OK(device_open(&d, &kernels_reference, 1, &err));
    plan.dev = &d;
    ASSERT_OK(param_materialise(top, &d, &err));
    ASSERT_OK(param_materialise(low, &d, &err));
    param_set(top, &d, numerator);
    param_set(low, &d, denominator);
    graph_finish(g);
    ASSERT_OK(program_new(&p, g, &plan, &err));
    memcpy(program_value(p, in, 1).data, x, (size_t)count * sizeof *x);
    program_forward(p, 1, &step);
    memcpy(y, program_value(p, out, 1).data, (size_t)count * sizeof *y);
    program_free(p);
    graph_free(g);
    param_release(top, &d);
    param_release(low, &d);
    device_close(&d);
    arena_free(memory);
}

#define POINTS 601

static void test_rational_identities(void **state)
{
    static const float one[6] = {1}, identity[6] = {0, 1}, none[4] = {0}, b[4] = {1, -0.25f};
    double x[POINTS], y[POINTS];

    (void)state;
    for (int i = 0; i < POINTS; i++)
        x[i] = -30 + 0.1 * i;
    for (int safe = 0; safe < 2; safe++) {
        rational(one, none, safe, x, POINTS, y);
        for (int i = 0; i < POINTS; i++)
            assert_true(y[i] == 1);
        rational(identity, none, safe, x, POINTS, y);
        assert_memory_equal(x, y, sizeof x);
        x[0] = 2;
        rational(identity, b, safe, x, 1, y);
        assert_true(y[0] == (safe ? 1.0 : 0.5)); /* 2 / (1 + |2 - 1|), 2 / (1 + |2| + |-1|) */
        x[0] = -30;
    }
}

/* 1 / R with numerator 1 is the denominator: never below 1. */
static void test_rational_denominator(void **state)
{
    static const float one[6] = {1};
    double x[POINTS], y[POINTS];

    (void)state;
    for (int i = 0; i < POINTS; i++)
        x[i] = -6 + 0.02 * i;
    for (int trial = 0; trial < 50; trial++) {
        float b[4];
        rng_fill_normal(b, 4, 0, trial % 2 ? 1 : 0.01,
                        (rng_stream){.seed = 1, .purpose = RNG_TEST, .step = (uint32_t)trial});
        for (int safe = 0; safe < 2; safe++) {
            rational(one, b, safe, x, POINTS, y);
            for (int i = 0; i < POINTS; i++)
                assert_true(y[i] > 0 && y[i] <= 1);
        }
    }
}

/* Degrees 5 and 4 are enough for GELU on [-3, 3]: these coefficients are the best in the largest error, of each version
 * with what its denominator can be. */
static void test_rational_gelu(void **state)
{
    static const struct {
        float numerator[6], denominator[4];
        double bound;
    } rows[] = {
        {{-1.2737169e-3f, 0.5f, 0.40815290f, 0.10675765f, 8.5777614e-3f, 0}, {0, 0.21351530f, 0, 0}, 0.0041},
        {{-4.4289652e-4f, 0.5f, 0.40284503f, 0.075362158f, -0.011765990f, -3.5235206e-3f},
         {0, 0.15072432f, 0, -7.0470413e-3f},
         0.00095},
    };
    double x[POINTS], y[POINTS];

    (void)state;
    for (int i = 0; i < POINTS; i++)
        x[i] = -3 + 0.01 * i;
    for (int safe = 0; safe < 2; safe++) {
        double most = 0;
        rational(rows[safe].numerator, rows[safe].denominator, safe, x, POINTS, y);
        for (int i = 0; i < POINTS; i++)
            most = fmax(most, fabs(y[i] - 0.5 * x[i] * (1 + erf(x[i] / sqrt(2)))));
        assert_true(most < rows[safe].bound);
    }
}

/* ---- switches ---- */

/* The weight of the adapter, given the logits, each side's noise and the temperature. */
static double gate(device *d, const float logits[2], const double noise[2], double temperature)
{
    double l[2] = {(double)logits[0], (double)logits[1]}, x = 1, y, difference = noise[1] - noise[0];
    mat in = {.data = &x, .type = DTYPE_F64, .rows = 1, .cols = 1, .stride = 1}, out = in;

    out.data = &y;
    d->k->gate(
        &d->c,
        &(gate_args){.y = out, .x = in, .logits = l, .noise = &difference, .temperature = temperature, .group = 1});
    return y;
}

static void test_switch_weights(void **state)
{
    static const float half[2] = {0.5f, 0.5f};
    inlay_error err;
    device d;
    double w;

    (void)state;
    ASSERT_OK(device_open(&d, &kernels_reference, 1, &err));
    w = gate(&d, half, (const double[]){0.3, 0.1}, 0.1);
    expect_near(w, 0.119203, 5e-7, "the adapter's weight");
    expect_near(1 - w, 0.880797, 5e-7, "the weight of skipping");
    assert_true(gate(&d, half, (const double[]){0.3, 0.1}, 1e-4) ==
                0); /* towards temperature 0: the greater of logit and noise */
    assert_true(gate(&d, half, (const double[]){0.1, 0.3}, 1e-4) == 1);
    assert_true(gate(&d, (const float[]){0.2f, 0.6f}, (const double[]){0.3, 0.1}, 1e-4) == 1);
    device_close(&d);
}

#define SAMPLES 1000

/* Weights that `SAMPLES` samples draw in a step. */
static void draw_weights(const float logits[2], double high, double low, step_info step, double w[SAMPLES])
{
    arena *memory = arena_new();
    graph *g = graph_new(&kernels_reference, DTYPE_F64);
    param *l = param_new(memory, "switch", 1, (int64_t[]){2});
    value in = graph_input(g, "x", DTYPE_F64, 1, 1), out = graph_gate(g, in, l, high, low);
    program_request plan = {.max_batch = SAMPLES, .wanted = &out, .wanted_count = 1};
    inlay_error err;
    device d;
    program *p;

    ASSERT_OK(device_open(&d, &kernels_reference, 1, &err));
    plan.dev = &d;
    ASSERT_OK(param_materialise(l, &d, &err));
    param_set(l, &d, logits);
    graph_finish(g);
    ASSERT_OK(program_new(&p, g, &plan, &err));
    for (int i = 0; i < SAMPLES; i++)
        ((double *)program_value(p, in, SAMPLES).data)[i] = 1;
    program_forward(p, SAMPLES, &step);
    memcpy(w, program_value(p, out, SAMPLES).data, SAMPLES * sizeof *w);
    program_free(p);
    graph_free(g);
    param_release(l, &d);
    device_close(&d);
    arena_free(memory);
}

/* P(the adapter is chosen) = sigmoid(s1 - s0), at any temperature; near 0 the weights are 0 or 1. */
static void test_switch_probability(void **state)
{
    static const float logits[][2] = {{0.5f, 0.5f}, {0.1f, 0.9f}, {1.5f, -0.5f}};
    double w[SAMPLES];

    (void)state;
    for (int i = 0; i < 3; i++) {
        int chosen = 0, between = 0, steps = 40;
        double p = 1 / (1 + exp((double)logits[i][0] - (double)logits[i][1])),
               deviation = sqrt(p * (1 - p) / (SAMPLES * steps));
        for (int s = 0; s < steps; s++) {
            draw_weights(logits[i], 1e-4, 1e-4, (step_info){.seed = 4, .step = (uint32_t)s}, w);
            for (int k = 0; k < SAMPLES; k++) {
                chosen += w[k] > 0.5;
                between += w[k] > 1e-3 && w[k] < 1 - 1e-3;
            }
        }
        expect_near((double)chosen / (SAMPLES * steps), p, 4 * deviation, "the share of samples with the adapter");
        assert_true(between < SAMPLES * steps / 500);
    }
}

/* tau = max(low, high exp(-r epoch)), r = ln(high / low) / (epochs / 2). */
static void test_switch_temperature(void **state)
{
    static const float logits[2] = {0.2f, 0.4f};
    double w[SAMPLES], cooled[SAMPLES];

    (void)state;
    draw_weights(logits, 1, 1, (step_info){.seed = 4, .step = 1}, w);
    for (int epoch = 0; epoch < 10; epoch++) {
        double expected = fmax(0.1, exp(log(0.1) / 5 * epoch));
        draw_weights(logits, 1, 0.1, (step_info){.seed = 4, .step = 1, .epoch = epoch, .epochs = 10}, cooled);
        for (int i = 0; i < SAMPLES; i++) {
            double z = log(w[i] / (1 - w[i]));
            if (fabs(z) < 1)
                expect_near(cooled[i], 1 / (1 + exp(-z / expected)), 1e-9, "a weight");
        }
    }
}

/* ---- Adaptable Adapters in the ViT ---- */

/* Every switch gets these logits; all else is random. */
static void set_switches(const tuned_vit *v, float skip, float keep)
{
    scramble(&v->d, v->a);
    for (const adapter_param *i = NULL; (i = adapter_each_param(v->a, i));)
        if (strstr(i->p->name, ".switch"))
            param_set(i->p, &v->d, (const float[]){skip, keep});
    vit_set_head(v);
}

/* All switches skip: the frozen model, while training and in what is saved. All choose the adapter: the model without
 * switches, adapters in all layers. */
static void test_all_switches(void **state)
{
    static const char *const rows[] = {"rank=4", "rank=4 version=A position=houlsby", "rank=4 position=pre_post"};
    double frozen[LOGITS], logits[LOGITS], all[LOGITS];

    (void)state;
    frozen_logits(frozen);
    for (int i = 0; i < 3; i++) {
        char without[96];
        tuned_vit v, w;
        vit_open(&v, "adaptable", rows[i]);
        set_switches(&v, 400, -400);
        vit_build(&v, true, false);
        vit_run(&v, 1, 0, logits);
        assert_true(apart(logits, frozen, LOGITS) <= 1e-14);
        vit_merge(&v);
        assert_string_equal(options_string(v.a->settings, "layers"), "none");
        vit_build(&v, false, false);
        vit_run(&v, 0, 0, logits);
        assert_true(apart(logits, frozen, LOGITS) <= 1e-14);
        vit_close(&v);

        vit_open(&v, "adaptable", rows[i]);
        snprintf(without, sizeof without, "%s switches=false", rows[i]);
        vit_open(&w, "adaptable", without);
        set_switches(&v, -400, 400);
        for (const adapter_param *k = NULL; (k = adapter_each_param(w.a, k));) {
            float *values = get(&v.d, find(v.a, k->p->name));
            param_set(k->p, &w.d, values);
            free(values);
        }
        vit_build(&w, true, false);
        vit_run(&w, 0, 0, all);
        vit_build(&v, true, false);
        vit_run(&v, 1, 0, logits);
        assert_true(apart(logits, all, LOGITS) <= 1e-13 && apart(all, frozen, LOGITS) > 1e-3);
        vit_merge(&v);
        assert_string_equal(options_string(v.a->settings, "layers"), "0,1,2");
        vit_build(&v, false, false);
        vit_run(&v, 0, 0, logits);
        assert_true(apart(logits, all, LOGITS) <= 1e-13);
        vit_close(&v);
        vit_close(&w);
    }
}

/* What is saved has the layers whose adapter has the greater logit, and --focus makes a fresh adapter for just these.
 */
static void test_chosen_layers(void **state)
{
    const char *folder = support_folder();
    char settings[128];
    inlay_error err;
    tuned_vit v;
    float *down, *trained;

    (void)state;
    vit_open(&v, "adaptable", "rank=4");
    set_switches(&v, 0.5f, 0.5f); /* as they begin: no choice yet, no adapter */
    set(&v.d, v.a, "blocks.0.adapter.switch", (const float[]){0.25f, 0.5f});
    set(&v.d, v.a, "blocks.2.adapter.switch", (const float[]){-1, 2});
    assert_int_equal(adapter_param_total(v.a, false), 3 * (2 * 32 * 4 + 4 + 32 + 10) + 2 * 3);
    trained = get(&v.d, find(v.a, "blocks.2.adapter.down.weight"));
    vit_merge(&v);
    assert_string_equal(options_string(v.a->settings, "layers"), "0,2");
    assert_int_equal(adapter_param_total(v.a, false), 2 * (2 * 32 * 4 + 4 + 32 + 10));
    assert_null(adapter_find(v.a, "blocks.1.adapter.down.weight"));
    assert_null(adapter_find(v.a, "blocks.0.adapter.switch"));
    down = get(&v.d, find(v.a, "blocks.2.adapter.down.weight"));
    assert_memory_equal(down, trained, 4 * 32 * sizeof *down);
    ASSERT_OK(adapter_save(v.a, &v.d, folder, NULL, NULL, &err));
    free(down);
    free(trained);
    vit_close(&v);

    snprintf(settings, sizeof settings, "rank=4 focus=%s", folder);
    vit_open(&v, "adaptable", settings);
    assert_string_equal(options_string(v.a->settings, "layers"), "0,2");
    assert_false(options_flag(v.a->settings, "switches"));
    assert_int_equal(adapter_param_total(v.a, false), 2 * (2 * 32 * 4 + 4 + 32 + 10));
    vit_close(&v);
    support_remove(folder);
}

/* Switches and coefficients have learning rates of their own. */
static double peak_lr(const adapter *a, const char *name)
{
    const param *p = find(a, name);
    const adapter_param *i = NULL;

    do
        i = adapter_each_param(a, i);
    while (i->p != p);
    return i->peak_lr;
}

static void test_own_rates(void **state)
{
    tuned_vit v;

    (void)state;
    vit_open(&v, "adaptable", "rank=4 switch_lr=0.25 rational_lr=0.125");
    assert_true(peak_lr(v.a, "blocks.1.adapter.switch") == 0.25);
    assert_true(peak_lr(v.a, "blocks.1.adapter.numerator") == 0.125 &&
                peak_lr(v.a, "blocks.1.adapter.denominator") == 0.125);
    assert_true(peak_lr(v.a, "blocks.1.adapter.down.weight") == 0);
    vit_close(&v);
}

/* ---- AdapterBias ---- */

/* g = (1, 0, 2), w = (0.5, 1, -0.25), c = 0.1, v = (1, -2): alpha = 0.1, shift (0.1, -0.2). */
static void test_bias_example(void **state)
{
    static const double g[3] = {1, 0, 2};
    const step_info any = {0};
    double y[2];
    toy t;

    (void)state;
    toy_open(&t, 2, 3, "adapter_bias", "norms=none");
    set(&t.d, t.a, "blocks.0.alpha.weight", (const float[]){0.5f, 1, -0.25f});
    set(&t.d, t.a, "blocks.0.alpha.bias", (const float[]){0.1f});
    set(&t.d, t.a, "blocks.0.vector", (const float[]){1, -2});
    run_edge(&t.d, t.a, 0, g, 1, 3, &any, y);
    expect_near(y[0], 0.1, 1e-8, "the first channel's shift");
    expect_near(y[1], -0.2, 1e-8, "the second channel's shift");
    toy_close(&t);
}

/* v = 0 is the frozen model, and there only v has a gradient. */
static void test_bias_start(void **state)
{
    double frozen[LOGITS], logits[LOGITS], loss = frozen_logits(frozen);

    (void)state;
    for (int shared = 0; shared < 2; shared++) {
        tuned_vit v;
        vit_open(&v, "adapter_bias", shared ? "norms=all share_alpha=true" : "norms=none");
        vit_set_head(&v);
        vit_build(&v, true, false);
        expect_near(vit_run(&v, 0, 0, logits), loss, 1e-14, "the loss");
        assert_true(apart(logits, frozen, LOGITS) <= 1e-14);
        for (const adapter_param *i = NULL; (i = adapter_each_param(v.a, i));) {
            const param *p = i->p;
            double zero[256] = {0}, most = apart(p->grad, zero, p->count < 256 ? p->count : 256);
            if (strstr(p->name, "alpha") && most != 0)
                fail_msg("'%s' has the gradient %g", p->name, most);
            if (strstr(p->name, "vector") && most < 1e-4)
                fail_msg("'%s' has no gradient", p->name);
        }
        vit_close(&v);
    }
}

/* w = 0 and c = 1 make v a constant bias: the feed-forward part's own, trained by BitFit. v = -2 b, so that b + v is
 * exact. */
static void test_bias_constant(void **state)
{
    static const float zero[128] = {0}, one[1] = {1};
    double logits[LOGITS], constant[LOGITS];
    tuned_vit v, w;

    (void)state;
    vit_open(&v, "adapter_bias", "norms=none");
    vit_open(&w, "bitfit", NULL);
    for (int layer = 0; layer < 3; layer++) {
        char name[64];
        float *bias, values[32];
        snprintf(name, sizeof name, "blocks.%d.mlp.fc2.bias", layer);
        bias = get(&w.d, find(w.a, name));
        for (int i = 0; i < 32; i++) {
            values[i] = -2 * bias[i];
            bias[i] = -bias[i];
        }
        set(&w.d, w.a, name, bias);
        snprintf(name, sizeof name, "blocks.%d.vector", layer);
        set(&v.d, v.a, name, values);
        snprintf(name, sizeof name, "blocks.%d.alpha.weight", layer);
        set(&v.d, v.a, name, zero);
        snprintf(name, sizeof name, "blocks.%d.alpha.bias", layer);
        set(&v.d, v.a, name, one);
        free(bias);
    }
    vit_set_head(&v);
    vit_set_head(&w);
    vit_build(&v, false, false);
    vit_build(&w, false, false);
    vit_run(&v, 0, 0, logits);
    vit_run(&w, 0, 0, constant);
    assert_true(apart(logits, constant, LOGITS) < 1e-13);
    vit_close(&v);
    vit_close(&w);
}

/* What a layer adds to the tokens is of rank 1: every minor of order 2 of the difference vanishes. */
static void test_bias_rank(void **state)
{
    enum { TOKENS = 17, WIDTH = 32 };
    double(*shifted)[WIDTH] = malloc(2 * sizeof(double[TOKENS][WIDTH])), (*plain)[WIDTH] = shifted + TOKENS;
    double logits[LOGITS], most = 0, minor = 0;

    (void)state;
    for (int i = 0; i < 2; i++) {
        tuned_vit v;
        vit_open(&v, i ? "linear" : "adapter_bias", i ? NULL : "norms=none");
        scramble(&v.d, v.a);
        vit_build(&v, false, true);
        vit_run(&v, 0, 0, logits);
        memcpy(i ? plain : shifted, program_value(v.p, v.m.blocks[0], BATCH).data, TOKENS * WIDTH * sizeof(double));
        vit_close(&v);
    }
    for (int t = 0; t < TOKENS; t++)
        for (int c = 0; c < WIDTH; c++) {
            shifted[t][c] -= plain[t][c];
            most = fmax(most, fabs(shifted[t][c]));
        }
    for (int s = 0; s < TOKENS; s++)
        for (int t = 0; t < s; t++)
            for (int c = 0; c < WIDTH; c++)
                for (int e = 0; e < c; e++)
                    minor = fmax(minor, fabs(shifted[s][c] * shifted[t][e] - shifted[s][e] * shifted[t][c]));
    assert_true(most > 0.1 && minor < 1e-12 * most * most);
    free(shifted);
}

/* ---- parameter counts ---- */

/* A backbone that is a shape; `norms`: with its LayerNorms, which AdapterBias trains. */
static backbone *shape_of(int64_t width, int64_t depth, bool norms)
{
    backbone *b = backbone_new();

    b->shape = (backbone_shape){.width = width,
                                .depth = depth,
                                .heads = width / 64,
                                .hidden = 4 * width,
                                .patch = 16,
                                .tokens = 197,
                                .prefix_tokens = 1};
    for (int layer = 0; norms && layer < depth; layer++)
        for (int i = 0; i < 4; i++) {
            char name[64];
            snprintf(name, sizeof name, "blocks.%d.norm%d.%s", layer, 1 + i / 2, i % 2 ? "bias" : "weight");
            backbone_add_param(b, name, 1, &width, NULL, DTYPE_F32);
        }
    return b;
}

static bool begins_with(const char *name, const char *part)
{
    return strncmp(name, part, strlen(part)) == 0;
}

/* AdapterBias `behind`: the first norm of each block and the model's last, whatever else has "norm" in its name. */
static void test_norms_behind(void **state)
{
    static const char *const backbones[] = {"vit", "variants/qk_norm", "variants/avg", "variants/norm_pre"};

    (void)state;
    for (size_t i = 0; i < sizeof backbones / sizeof *backbones; i++) {
        char path[256];
        backbone *b;
        adapter *a;
        inlay_error err;
        int64_t count = 0;
        snprintf(path, sizeof path, TEST_DATA "/oracle/%s", backbones[i]);
        ASSERT_OK(backbone_open(&b, path, 0, &err));
        a = new_adapter(b, "adapter_bias", "norms=behind");
        for (const adapter_param *j = NULL; (j = adapter_each_param(a, j));) {
            const char *name = j->p->name;
            bool last = begins_with(name, "norm.") || begins_with(name, "fc_norm.");
            if (!j->of_backbone)
                continue;
            if (!last && !strstr(name, ".norm1."))
                fail_msg("%s: '%s' is trained", backbones[i], name);
            count++;
        }
        assert_int_equal(count, 2 * (b->shape.depth + 1));
        adapter_free(a, NULL);
        backbone_close(b);
    }
}

static void test_counts(void **state)
{
    static const struct {
        const char *name, *settings;
        int64_t width, depth, total, trained; /* trained 0: the same */
    } rows[] = {
        {"adapter_bias", "norms=none", 768, 12, 46092, 0},
        {"adapter_bias", "norms=none", 1024, 24, 122904, 0},
        {"adapter_bias", "norms=none share_alpha=true", 768, 12, 12289, 0},
        {"adapter_bias", "norms=ffn", 768, 12, 64524, 0},
        {"adapter_bias", "norms=ffn", 1024, 24, 172056, 0},
        {"adapter_bias", "norms=ffn share_alpha=true", 1024, 24, 77825, 0},
        {"adamix", "rank=16", 1024, 24, 1992192, 0}, /* down experts, one up */
        {"adamix", "rank=16 experts=1", 1024, 24, 811392, 0},
        {"adamix", "rank=48 experts=1", 768, 12, 894528, 0},
        {"adamix", "rank=8 experts=1", 1024, 24, 417984, 0},
        {"adamix", "kind=lora rank=4 experts=1", 1024, 24, 393216, 0},
        {"mosa", "rank=64 experts=1", 768, 12, 1208064, 0},
        {"mosa", "rank=64", 768, 12, 3005184, 1235712}, /* of weights one adapter's, and four up biases */
        {"adaptable", "switches=false layers=3", 1024, 24, 132170, 0},
        {"adaptable", "switches=false", 1024, 24, 24 * 132170, 0},
        {"adaptable", "", 1024, 24, 24 * 132170 + 2 * 24, 0},
        {"bottleneck", "rank=64", 1024, 24, 3171840, 0},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        backbone *b = shape_of(rows[i].width, rows[i].depth, true);
        adapter *a = new_adapter(b, rows[i].name, rows[i].settings);
        assert_int_equal(adapter_param_total(a, false), rows[i].total);
        assert_int_equal(adapter_trained_total(a, false), rows[i].trained ? rows[i].trained : rows[i].total);
        assert_int_equal(adapter_param_total(a, true) - rows[i].total, CLASSES * (rows[i].width + 1));
        adapter_free(a, NULL);
        backbone_close(b);
    }
}

/* What is saved is one adapter, however many experts were trained. */
static void test_merged_counts(void **state)
{
    static const struct {
        const char *name, *settings;
        int64_t width, depth, merged;
    } rows[] = {
        {"adamix", "rank=16", 1024, 24, 811392},
        {"adamix", "rank=48 share=none", 768, 12, 894528},
        {"adamix", "rank=8 share=down", 1024, 24, 417984},
        {"mosa", "rank=64", 768, 12, 1208064},
        {"mosa", "rank=64 split=both merge=union", 768, 12, 1208064},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        backbone *b = shape_of(rows[i].width, rows[i].depth, false);
        adapter *a = new_adapter(b, rows[i].name, rows[i].settings), *merged;
        inlay_error err;
        device d;
        ASSERT_OK(device_open(&d, NULL, 1, &err));
        ASSERT_OK(adapter_initialise(a, &d, 1, &err));
        ASSERT_OK(adapter_conclude(&merged, a, &d, &err));
        assert_int_equal(adapter_param_total(merged, false), rows[i].merged);
        adapter_free(merged, &d);
        adapter_free(a, &d);
        device_close(&d);
        backbone_close(b);
    }
}

/* ---- what they have in common ---- */

static const struct row {
    const char *name, *settings;
    bool draws; /* a training step has something random */
} rows[] = {
    {"adamix", "rank=4 init=lora", true},    {"adamix", "rank=4 kind=lora", true},  {"mosa", "rank=4 dropout=0", true},
    {"adaptable", "rank=4 init=lora", true}, {"adapter_bias", "norms=none", false},
};
#define ROWS (sizeof rows / sizeof *rows)

/* An up-projection or vector of zeros: the frozen model, while training and in what is saved. */
static void test_zero_is_frozen(void **state)
{
    double frozen[LOGITS], logits[LOGITS];

    (void)state;
    frozen_logits(frozen);
    for (size_t i = 0; i < ROWS; i++) {
        tuned_vit v;
        vit_open(&v, rows[i].name, rows[i].settings);
        vit_set_head(&v);
        vit_build(&v, true, false);
        for (int which = 0; which < v.m.passes; which++) {
            vit_run(&v, 1, which, logits);
            assert_true(apart(logits, frozen, LOGITS) <= 1e-14);
        }
        vit_merge(&v);
        vit_build(&v, false, false);
        vit_run(&v, 1, 0, logits);
        assert_true(apart(logits, frozen, LOGITS) <= 1e-14);
        vit_close(&v);
    }
}

/* Random while training, and always the same afterwards. */
static void test_training_draws(void **state)
{
    double first[LOGITS], logits[LOGITS];

    (void)state;
    for (size_t i = 0; i < ROWS; i++) {
        tuned_vit v;
        int others = 0;
        vit_open(&v, rows[i].name, rows[i].settings);
        scramble(&v.d, v.a);
        vit_build(&v, true, false);
        vit_run(&v, 0, 0, first);
        for (uint32_t step = 1; step < 10; step++) {
            vit_run(&v, step, 0, logits);
            others += memcmp(first, logits, sizeof first) != 0;
        }
        assert_true(rows[i].draws ? others > 5 : others == 0);
        vit_merge(&v);
        vit_build(&v, false, false);
        vit_run(&v, 0, 0, first);
        for (uint32_t step = 1; step < 4; step++) {
            vit_run(&v, step, 0, logits);
            assert_memory_equal(first, logits, sizeof first);
        }
        vit_close(&v);
    }
}

/* Training moves no weight of the backbone; of what stands in their place only the LayerNorms that AdapterBias names.
 */
static void test_frozen_stays(void **state)
{
    (void)state;
    for (size_t i = 0; i <= ROWS; i++) {
        tuned_vit v;
        float *before[64];
        int moved = 0, k = 0;
        vit_open(&v, i < ROWS ? rows[i].name : "adapter_bias", i < ROWS ? rows[i].settings : "norms=ffn");
        for (param *const *w = NULL; (w = backbone_each_param(v.b, w)); k++) {
            assert_in_range(k, 0, 63);
            before[k] = get(&v.d, *w);
        }
        assert_true(k > 0);
        k = 0;
        vit_build(&v, true, false);
        vit_steps(&v, 0, 3, 1e-2, 0.1);
        for (param *const *w = NULL; (w = backbone_each_param(v.b, w)); k++) {
            const param *p = adapter_stand_in(v.a, *w);
            float *after = get(&v.d, p), *frozen = get(&v.d, *w);
            bool same = memcmp(after, before[k], (size_t)p->count * sizeof *after) == 0;
            assert_int_equal(same, !(i == ROWS && strstr(p->name, ".norm2.")));
            assert_memory_equal(frozen, before[k], (size_t)p->count * sizeof *frozen);
            moved += !same;
            free(frozen);
            free(after);
            free(before[k]);
        }
        assert_int_equal(moved, i == ROWS ? 6 : 0);
        vit_close(&v);
    }
}

/* Where the sources disagree or leave a choice, this one is the default. */
static void test_defaults(void **state)
{
    static const char *const choices[][3] = {
        {"mosa", "merge", "average"}, {"mosa", "style", "adaptformer"}, {"mosa", "split", "up"},
        {"adamix", "share", "up"},    {"adaptable", "version", "B"},    {"adapter_bias", "norms", "ffn"},
    };
    static const struct {
        const char *name, *option;
        double value;
    } numbers[] = {
        {"mosa", "experts", 4},
        {"mosa", "consistency", 1},
        {"mosa", "second_loss", 0},
        {"mosa", "dropout", 0.1},
        {"adamix", "experts", 4},
        {"adamix", "consistency", 1},
        {"adaptable", "denominator_init", 1e-3},
        {"adaptable", "temperature", 0.1},
        {"adaptable", "min_temperature", 0.1},
        {"adaptable", "switch_lr", 0.05},
        {"adaptable", "rational_lr", 0.01},
    };
    inlay_error err;
    options *o;

    (void)state;
    for (size_t i = 0; i < sizeof choices / sizeof *choices; i++) {
        ASSERT_OK(adapter_settings(&o, choices[i][0], &err));
        assert_string_equal(options_string(o, choices[i][1]), choices[i][2]);
        options_free(o);
    }
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        ASSERT_OK(adapter_settings(&o, numbers[i].name, &err));
        expect_near(strtod(options_string(o, numbers[i].option), NULL), numbers[i].value, 0, numbers[i].option);
        options_free(o);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rational_identities),
        cmocka_unit_test(test_rational_denominator),
        cmocka_unit_test(test_rational_gelu),
        cmocka_unit_test(test_switch_weights),
        cmocka_unit_test(test_switch_probability),
        cmocka_unit_test(test_switch_temperature),
        cmocka_unit_test(test_all_switches),
        cmocka_unit_test(test_chosen_layers),
        cmocka_unit_test(test_own_rates),
        cmocka_unit_test(test_bias_example),
        cmocka_unit_test(test_bias_start),
        cmocka_unit_test(test_bias_constant),
        cmocka_unit_test(test_bias_rank),
        cmocka_unit_test(test_norms_behind),
        cmocka_unit_test(test_counts),
        cmocka_unit_test(test_merged_counts),
        cmocka_unit_test(test_zero_is_frozen),
        cmocka_unit_test(test_training_draws),
        cmocka_unit_test(test_frozen_stays),
        cmocka_unit_test(test_defaults),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
