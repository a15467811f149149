/* What the papers and codes of MoSA (arXiv 2312.02923) and AdaMix (arXiv 2205.12410) say that must hold, with their
 * numbers. */
#include "adapters/specs.h"

/* ---- MoSA ---- */

static void read_mask(const device *d, const adapter *a, const param *p, unsigned char *mask)
{
    assert_non_null(adapter_drawn_mask(a, p));
    d->k->copy_out(mask, adapter_drawn_mask(a, p), (size_t)p->count);
}

/* How many of `count` entries that lie `stride` apart are 1. */
static int ones(const unsigned char *mask, int count, int stride)
{
    int sum = 0;

    for (int i = 0; i < count; i++)
        sum += mask[i * stride];
    return sum;
}

/* The masks of one side with `experts`, [rows, cols]: each entry is in one of them, and each line that is divided is
 * divided evenly. */
static void check_partition(const toy *t, const char *side, const char *kind, int experts, int rows, int cols)
{
    unsigned char mask[64 * 64], sum[64 * 64] = {0};

    for (int e = 0; e < experts; e++) {
        char name[64];
        snprintf(name, sizeof name, "blocks.0.adapter.%s.%d.weight", side, e);
        read_mask(&t->d, t->a, find(t->a, name), mask);
        for (int i = 0; i < rows * cols; i++)
            sum[i] += mask[i];
        if (kind[0] == 'a' && rows * cols % experts == 0)
            assert_int_equal(ones(mask, rows * cols, 1), rows * cols / experts);
        for (int r = 0; kind[0] == 'r' && r < rows; r++)
            assert_int_equal(ones(mask + r * cols, cols, 1), (e + 1) * cols / experts - e * cols / experts);
        for (int c = 0; kind[0] == 'c' && c < cols; c++)
            assert_int_equal(ones(mask + c, rows, cols), (e + 1) * rows / experts - e * rows / experts);
        snprintf(name, sizeof name, "blocks.0.adapter.%s.%d.bias", side, e);
        assert_null(adapter_drawn_mask(t->a, find(t->a, name)));
    }
    for (int i = 0; i < rows * cols; i++)
        assert_int_equal(sum[i], 1);
}

/* sum of Q_i = 1, n / N ones in each. */
static void test_masks(void **state)
{
    static const char *const kinds[] = {"all", "row", "column"};
    static const int counts[] = {2, 3, 4, 8};

    (void)state;
    for (int k = 0; k < 3; k++)
        for (int n = 0; n < 4; n++) {
            char settings[96];
            toy t;
            snprintf(settings, sizeof settings, "split=both rank=8 mask=%s experts=%d", kinds[k], counts[n]);
            toy_open(&t, 24, 96, "mosa", settings);
            check_partition(&t, "down", kinds[k], counts[n], 8, 24);
            check_partition(&t, "up", kinds[k], counts[n], 24, 8);
            toy_close(&t);
        }
}

/* Masks come from the seed alone; the sides and layers have masks of their own. */
static void test_masks_differ(void **state)
{
    unsigned char first[8 * 32], other[8 * 32];
    inlay_error err;
    tuned_vit v;

    (void)state;
    vit_open(&v, "mosa", "split=both rank=8");
    read_mask(&v.d, v.a, find(v.a, "blocks.0.adapter.up.0.weight"), first);
    read_mask(&v.d, v.a, find(v.a, "blocks.0.adapter.down.0.weight"), other);
    assert_memory_not_equal(first, other, sizeof first);
    read_mask(&v.d, v.a, find(v.a, "blocks.1.adapter.up.0.weight"), other);
    assert_memory_not_equal(first, other, sizeof first);
    vit_close(&v);
    for (uint64_t seed = 1; seed <= 2; seed++) {
        vit_open(&v, "mosa", "split=both rank=8");
        for (const adapter_param *i = NULL; (i = adapter_each_param(v.a, i));)
            param_release(i->p, &v.d);
        ASSERT_OK(adapter_initialise(v.a, &v.d, seed, &err));
        read_mask(&v.d, v.a, find(v.a, "blocks.0.adapter.up.0.weight"), other);
        assert_int_equal(memcmp(first, other, sizeof first) == 0, seed == 1);
        vit_close(&v);
    }
}

/* A fresh adapter changes nothing, in training and in what would be saved; its experts are equal. */
static void test_mosa_start(void **state)
{
    static const char *const styles[] = {"style=adaptformer dropout=0", "style=pfeiffer split=down",
                                         "style=houlsby split=both dropout=0"};
    double frozen[LOGITS], logits[LOGITS], loss = frozen_logits(frozen);

    (void)state;
    for (int i = 0; i < 3; i++) {
        tuned_vit v;
        vit_open(&v, "mosa", styles[i]);
        vit_set_head(&v);
        vit_build(&v, true, false);
        for (int which = 0; which < 2; which++) {
            expect_near(vit_run(&v, 3, which, logits), loss, 1e-14, "the loss");
            assert_true(apart(logits, frozen, LOGITS) <= 1e-14);
        }
        vit_merge(&v);
        vit_build(&v, false, false);
        vit_run(&v, 0, 0, logits);
        assert_true(apart(logits, frozen, LOGITS) <= 1e-14);
        vit_close(&v);
    }
}

static const char *up_name(char out[64], int expert)
{
    snprintf(out, 64, "blocks.0.adapter.up.%d.weight", expert);
    return out;
}

/* Four up-projections with one entry each, the bottleneck's activation being g = (1, 2). */
static void test_mosa_merge_example(void **state)
{
    static const float merged_up[] = {0.25f, 0.5f, 0.75f, 1};
    const step_info any = {0};
    double x[2] = {0.3, -0.7}, y[2];
    char name[64];
    inlay_error err;
    adapter *merged;
    float *up;
    toy t;

    (void)state;
    toy_open(&t, 2, 8, "mosa", "style=pfeiffer rank=2 experts=4 dropout=0");
    set(&t.d, t.a, "blocks.0.adapter.norm.weight", (const float[]){0, 0});
    set(&t.d, t.a, "blocks.0.adapter.norm.bias", (const float[]){1, 2});
    set(&t.d, t.a, "blocks.0.adapter.down.weight", (const float[]){1, 0, 0, 1});
    for (int e = 0; e < 4; e++) {
        float entry[4] = {0};
        entry[e] = (float)e + 1;
        set(&t.d, t.a, up_name(name, e), entry);
    }
    mean_over_draws(&t.d, t.a, 1, 4, x, 1, 2, y);
    assert_true(y[0] == 1.25 && y[1] == 2.75);
    ASSERT_OK(adapter_conclude(&merged, t.a, &t.d, &err));
    up = get(&t.d, find(merged, "blocks.0.adapter.up.weight"));
    assert_memory_equal(up, merged_up, sizeof merged_up);
    run_edge(&t.d, merged, 0, x, 1, 2, &any, y);
    assert_true(y[0] == 1.25 && y[1] == 2.75);
    free(up);
    adapter_free(merged, &t.d);
    toy_close(&t);
}

/* Two methods with the same parameters by name give the same logits, and loss and gradients `times` as large. */
static void expect_same_model(const char *name, const char *settings, double times, const char *plain,
                              const char *plain_settings)
{
    double logits[LOGITS], plain_logits[LOGITS], loss;
    tuned_vit v, w;

    vit_open(&v, name, settings);
    vit_open(&w, plain, plain_settings);
    scramble(&v.d, v.a);
    assert_int_equal(v.a->declared->param_count, w.a->declared->param_count);
    for (const adapter_param *i = NULL; (i = adapter_each_param(v.a, i));) {
        float *values = get(&v.d, i->p);
        assert_null(i->drawn);
        param_set(find(w.a, i->p->name), &w.d, values);
        free(values);
    }
    vit_build(&v, true, false);
    vit_build(&w, true, false);
    loss = times * vit_run(&w, 1, 0, plain_logits);
    for (int which = 0; which < 2; which++) {
        expect_near(vit_run(&v, 1, which, logits), loss, 1e-13, name);
        assert_true(apart(logits, plain_logits, LOGITS) <= 1e-13);
    }
    for (const adapter_param *i = NULL; (i = adapter_each_param(v.a, i));) {
        const param *p = i->p, *q = find(w.a, p->name);
        for (int64_t k = 0; k < p->count; k++)
            ((double *)q->grad)[k] *= times;
        if (apart(p->grad, q->grad, p->count) > 1e-12)
            fail_msg("%s: gradients of '%s' differ by %g", name, p->name, apart(p->grad, q->grad, p->count));
    }
    vit_close(&v);
    vit_close(&w);
}

/* N = 1 is the adapter that is split, trained densely. */
static void test_mosa_of_one(void **state)
{
    (void)state;
    expect_same_model("mosa", "experts=1 rank=4 dropout=0", 1, "bottleneck",
                      "position=parallel activation=gelu layernorm=true scaling=fixed scale=0.1 rank=4");
    expect_same_model("mosa",
                      "experts=1 rank=4 dropout=0 style=pfeiffer split=both second_loss=0.5 deep_regulariser=true", 1.5,
                      "bottleneck", "position=intermediate activation=relu layernorm=true rank=4");
    expect_same_model("mosa", "experts=1 rank=4 dropout=0 style=houlsby", 1, "bottleneck",
                      "position=pre_post activation=silu rank=4");
}

/* The mean over all draws against the merged adapter, on random values; returns how far they are apart. */
static double mean_against_merged(const char *name, const char *settings, int down, int up)
{
    enum { WIDTH = 8, ROWS = 5 };
    const step_info any = {0};
    double x[ROWS * WIDTH], mean[ROWS * WIDTH], y[ROWS * WIDTH], far;
    inlay_error err;
    adapter *merged;
    toy t;

    for (int i = 0; i < ROWS * WIDTH; i++)
        x[i] = 4 * rng_uniform((rng_stream){.seed = 2, .purpose = RNG_TEST}, (uint64_t)i) - 2;
    toy_open(&t, WIDTH, 4 * WIDTH, name, settings);
    scramble(&t.d, t.a);
    mean_over_draws(&t.d, t.a, down, up, x, ROWS, WIDTH, mean);
    ASSERT_OK(adapter_conclude(&merged, t.a, &t.d, &err));
    run_edge(&t.d, merged, 0, x, ROWS, WIDTH, &any, y);
    far = apart(mean, y, ROWS * WIDTH);
    adapter_free(merged, &t.d);
    toy_close(&t);
    return far;
}

/* What is linear in the experts is merged exactly: up-projections behind a shared activation, and low-rank changes.
 * Down-projections are not. */
static void test_mean_is_merged(void **state)
{
    (void)state;
    assert_true(mean_against_merged("mosa", "split=up rank=4 dropout=0", 1, 4) < 1e-14);
    assert_true(mean_against_merged("mosa", "split=up rank=4 dropout=0 style=pfeiffer", 1, 4) < 1e-14);
    assert_true(mean_against_merged("mosa", "split=up rank=4 dropout=0 style=houlsby", 1, 4) < 1e-14);
    assert_true(mean_against_merged("adamix", "share=down rank=4", 1, 4) < 1e-14);
    assert_true(mean_against_merged("adamix", "kind=lora share=down targets=v rank=4", 1, 4) < 1e-13);
    assert_true(mean_against_merged("adamix", "kind=lora share=up targets=v rank=4", 4, 1) < 1e-13);
    assert_true(mean_against_merged("adamix", "kind=lora share=none targets=v rank=4", 4, 4) <
                1e-13); /* the two sides are drawn independently */
    assert_true(mean_against_merged("adamix", "share=none rank=4 activation=none", 4, 4) < 1e-14);
    assert_true(mean_against_merged("mosa", "split=down rank=4 dropout=0", 4, 1) > 1e-3);
    assert_true(mean_against_merged("mosa", "split=both rank=4 dropout=0", 4, 4) > 1e-3);
    assert_true(mean_against_merged("adamix", "share=up rank=4", 4, 1) > 1e-3);
    assert_true(mean_against_merged("adamix", "share=none rank=4", 4, 4) > 1e-3);
}

/* ---- MoSA: what training moves ---- */

#define EXPERTS 4

typedef struct side {
    float *before[EXPERTS], *after[EXPERTS];
    unsigned char mask[EXPERTS][8 * 32];
    int64_t updates[EXPERTS];
} side;

/* Trains six steps; what the experts of a side of block 1 were and are. */
static void train_side(side *s, tuned_vit *v, const char *settings, const char *stem, double decay)
{
    param *p[EXPERTS];

    vit_open(v, "mosa", settings);
    for (int e = 0; e < EXPERTS; e++) {
        char name[64];
        snprintf(name, sizeof name, "blocks.1.adapter.%s.%d.weight", stem, e);
        p[e] = find(v->a, name);
        s->before[e] = get(&v->d, p[e]);
        read_mask(&v->d, v->a, p[e], s->mask[e]);
    }
    vit_build(v, true, false);
    vit_steps(v, 0, 6, 1e-2, decay);
    for (int e = 0; e < EXPERTS; e++) {
        s->after[e] = get(&v->d, p[e]);
        for (int i = 0; i < v->update.count; i++)
            if (v->update.slots[i].p == p[e])
                s->updates[e] = v->update.slots[i].updates;
    }
}

static void free_side(side *s, tuned_vit *v)
{
    for (int e = 0; e < EXPERTS; e++) {
        free(s->before[e]);
        free(s->after[e]);
    }
    vit_close(v);
}

/* Where the mask is 0 the value is what it was times `shrink` for each of the expert's updates; where it is 1 it has
 * moved once the expert was drawn. */
static void expect_masked(const side *s, double shrink)
{
    int moved = 0;

    for (int e = 0; e < EXPERTS; e++)
        for (int i = 0; i < 8 * 32; i++) {
            double kept = (double)s->before[e][i] * pow(shrink, (double)s->updates[e]);
            if (s->mask[e][i])
                moved += s->after[e][i] != s->before[e][i];
            else if (shrink == 1)
                assert_true(s->after[e][i] == s->before[e][i]);
            else
                expect_near((double)s->after[e][i], kept, 1e-7, "a value that only decays");
        }
    assert_in_range(moved, 8 * 32 / 2, 8 * 32);
}

static void test_mosa_off_mask(void **state)
{
    static const struct {
        const char *settings, *stem;
        double decay, shrink;
    } rows[] = {
        {"split=up rank=8 dropout=0 second_loss=1", "up", 0, 1},
        {"split=down rank=8 dropout=0 second_loss=1", "down", 0, 1},
        {"split=down rank=8 dropout=0 second_loss=1", "down", 0.5, 1}, /* decay stays within the mask */
        {"split=down rank=8 dropout=0 second_loss=1 decay_masked=true", "down", 0.5,
         1 - 5e-3},                                                                  /* as in the authors' code */
        {"split=up rank=8 dropout=0 second_loss=1 decay_masked=true", "up", 0.5, 1}, /* 0 stays 0 */
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        tuned_vit v;
        side s;
        train_side(&s, &v, rows[i].settings, rows[i].stem, rows[i].decay);
        expect_masked(&s, rows[i].shrink);
        free_side(&s, &v);
    }
}

/* average: W_0 + 1/N sum Q_i D_i. union: W_0 + sum Q_i D_i; biases are averaged in both. */
static void test_mosa_merges(void **state)
{
    static const char *const kinds[] = {"average", "union"};

    (void)state;
    for (int k = 0; k < 2; k++) {
        char settings[96];
        float *merged, *bias, *biases[EXPERTS];
        tuned_vit v;
        side s;
        snprintf(settings, sizeof settings, "split=down rank=8 dropout=0 second_loss=1 merge=%s", kinds[k]);
        train_side(&s, &v, settings, "down", 0);
        for (int e = 0; e < EXPERTS; e++) {
            char name[64];
            snprintf(name, sizeof name, "blocks.1.adapter.down.%d.bias", e);
            biases[e] = get(&v.d, find(v.a, name));
        }
        vit_merge(&v);
        merged = get(&v.d, find(v.a, "blocks.1.adapter.down.weight"));
        bias = get(&v.d, find(v.a, "blocks.1.adapter.down.bias"));
        for (int i = 0; i < 8 * 32; i++) {
            double delta = 0;
            for (int e = 0; e < EXPERTS; e++)
                delta += s.mask[e][i] * ((double)s.after[e][i] - (double)s.before[e][i]);
            expect_near((double)merged[i], (double)s.before[0][i] + (k ? delta : delta / EXPERTS), k ? 0 : 3e-8,
                        kinds[k]);
        }
        for (int i = 0; i < 8; i++) {
            double sum = 0;
            for (int e = 0; e < EXPERTS; e++)
                sum += (double)biases[e][i];
            expect_near((double)bias[i], sum / EXPERTS, 1e-9, "a merged bias");
        }
        for (int e = 0; e < EXPERTS; e++)
            free(biases[e]);
        free(merged);
        free(bias);
        free_side(&s, &v);
    }
}

/* ---- AdaMix ---- */

/* Each expert of a side gets the values of expert 0. */
static void make_experts_equal(const tuned_vit *v)
{
    for (const adapter_param *i = NULL; (i = adapter_each_param(v->a, i));) {
        char first[128];
        const char *name = i->p->name, *part = strrchr(name, '.');
        float *values;
        if (!part || part - name < 2 || part[-1] < '1' || part[-1] > '9' || part[-2] != '.')
            continue;
        snprintf(first, sizeof first, "%.*s0%s", (int)(part - name - 1), name, part);
        values = get(&v->d, find(v->a, first));
        param_set(i->p, &v->d, values);
        free(values);
    }
}

/* All experts equal: any routing is the merged model, and the divergence is 0. */
static void test_equal_experts(void **state)
{
    static const char *const rows[] = {"share=up rank=4", "share=down rank=4 position=post experts=3",
                                       "share=none rank=4 position=houlsby", "kind=lora share=none rank=4"};
    double logits[LOGITS], merged[LOGITS], loss;

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        tuned_vit v;
        vit_open(&v, "adamix", rows[i]);
        scramble(&v.d, v.a);
        make_experts_equal(&v);
        vit_merge(&v);
        vit_build(&v, false, false);
        loss = vit_run(&v, 0, 0, merged); /* of the cross-entropy alone */
        vit_close(&v);
        vit_open(&v, "adamix", rows[i]);
        scramble(&v.d, v.a);
        make_experts_equal(&v);
        vit_build(&v, true, false);
        for (uint32_t step = 0; step < 6; step++)
            for (int which = 0; which < 2; which++) {
                assert_true(vit_run(&v, step, which, logits) == loss);
                assert_memory_equal(logits, merged, sizeof logits);
            }
        vit_close(&v);
    }
}

/* --equal-experts, and low-rank experts with --init lora, begin alike; others differ. */
static void test_first_values(void **state)
{
    static const struct {
        const char *settings, *stem;
        bool equal;
    } rows[] = {
        {"rank=4", "blocks.0.adapter.down", false},
        {"rank=4 equal_experts=true", "blocks.0.adapter.down", true},
        {"rank=4 kind=lora targets=v init=lora", "blocks.0.attn.v.lora_A", true},
        {"rank=4 kind=lora targets=v equal_experts=true", "blocks.0.attn.v.lora_A", true},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        toy t;
        toy_open(&t, 8, 32, "adamix", rows[i].settings);
        for (int e = 1; e < 4; e++) {
            char name[96], first[96];
            float *a, *b;
            snprintf(first, sizeof first, "%s.0.weight", rows[i].stem);
            snprintf(name, sizeof name, "%s.%d.weight", rows[i].stem, e);
            a = get(&t.d, find(t.a, first));
            b = get(&t.d, find(t.a, name));
            assert_int_equal(memcmp(a, b, 4 * 8 * sizeof *a) == 0, rows[i].equal);
            free(a);
            free(b);
        }
        toy_close(&t);
    }
}

/* M = 1 is a plain adapter. */
static void test_adamix_of_one(void **state)
{
    (void)state;
    expect_same_model("adamix", "experts=1 rank=4", 1, "bottleneck", "position=intermediate rank=4");
    expect_same_model("adamix", "experts=1 rank=4 share=none position=post activation=relu", 1, "bottleneck",
                      "position=post activation=relu rank=4");
    expect_same_model("adamix", "experts=1 rank=4 kind=lora", 1, "lora", "rank=4");
}

/* Two up-projections behind a shared down-projection: the mean of the results is the merged adapter's. Two
 * down-projections: it is not. */
static void test_adamix_merge_examples(void **state)
{
    static const struct {
        const char *settings;
        int down, up;
        const char *names[3];
        float values[3][2];
        double mean[2], merged[2];
    } rows[] = {
        {"experts=2 rank=1 share=down",
         1,
         2,
         {"down.weight", "up.0.weight", "up.1.weight"},
         {{1, -1}, {1, 2}, {3, -2}},
         {0.6914625, 0},
         {0.6914625, 0}},
        {"experts=2 rank=1 share=up",
         2,
         1,
         {"up.weight", "down.0.weight", "down.1.weight"},
         {{1, 2}, {1, -1}, {-1, 1}},
         {0.0957312, 0.1914625},
         {0, 0}},
    };
    static const double x[2] = {0.7, 0.2};
    const step_info any = {0};

    (void)state;
    for (int i = 0; i < 2; i++) {
        double y[2];
        inlay_error err;
        adapter *merged;
        toy t;
        toy_open(&t, 2, 8, "adamix", rows[i].settings);
        for (int j = 0; j < 3; j++) {
            char name[64];
            snprintf(name, sizeof name, "blocks.0.adapter.%s", rows[i].names[j]);
            set(&t.d, t.a, name, rows[i].values[j]);
        }
        mean_over_draws(&t.d, t.a, rows[i].down, rows[i].up, x, 1, 2, y);
        assert_true(apart(y, rows[i].mean, 2) < 5e-8);
        ASSERT_OK(adapter_conclude(&merged, t.a, &t.d, &err));
        run_edge(&t.d, merged, 0, x, 1, 2, &any, y);
        assert_true(apart(y, rows[i].merged, 2) < 5e-8);
        adapter_free(merged, &t.d);
        toy_close(&t);
    }
}

/* ---- the divergence between two passes ---- */

/* graph_consistency of two trained rows; grad_a and grad_b may be NULL. */
static double consistency(const float *a, const float *b, int classes, double *grad_a, double *grad_b)
{
    arena *memory = arena_new();
    graph *g = graph_new(&kernels_reference, DTYPE_F64);
    param *rows[2];
    device d;
    inlay_error err;
    program *p;
    double loss;
    value result;
    step_info step = {0};

    ASSERT_OK(device_open(&d, &kernels_reference, 1, &err));
    for (int i = 0; i < 2; i++) {
        rows[i] = param_new(memory, "row", 2, (int64_t[]){1, classes});
        rows[i]->trainable = true;
        ASSERT_OK(param_materialise(rows[i], &d, &err));
        param_set(rows[i], &d, i ? b : a);
    }
    result = graph_consistency(g, graph_broadcast(g, rows[0]), graph_broadcast(g, rows[1]));
    graph_finish(g);
    program_request plan = {.dev = &d, .max_batch = 1, .backward = true, .wanted = &result, .wanted_count = 1};
    ASSERT_OK(program_new(&p, g, &plan, &err));
    program_step(p, 1, &step);
    loss = *(double *)program_value(p, result, 1).data;
    if (grad_a)
        memcpy(grad_a, rows[0]->grad, (size_t)classes * sizeof *grad_a);
    if (grad_b)
        memcpy(grad_b, rows[1]->grad, (size_t)classes * sizeof *grad_b);
    program_free(p);
    graph_free(g);
    for (int i = 0; i < 2; i++)
        param_release(rows[i], &d);
    device_close(&d);
    arena_free(memory);
    return loss;
}

static void softmax(const double *z, int classes, double *p)
{
    double sum = 0;

    for (int c = 0; c < classes; c++)
        sum += exp(z[c]);
    for (int c = 0; c < classes; c++)
        p[c] = exp(z[c]) / sum;
}

/* KL(p || q) */
static double divergence(const double *p, const double *q, int classes)
{
    double sum = 0;

    for (int c = 0; c < classes; c++)
        sum += p[c] * log(p[c] / q[c]);
    return sum;
}

static void test_divergence_values(void **state)
{
    double p[2], q[2];

    (void)state;
    softmax((const double[]){2, 0}, 2, p);
    softmax((const double[]){0, 0}, 2, q);
    expect_near(p[0], 0.880797, 5e-7, "p");
    expect_near(divergence(p, q, 2), 0.327813, 5e-7, "KL(p || q)");
    expect_near(divergence(q, p, 2), 0.433781, 5e-7, "KL(q || p)");
    expect_near(consistency((const float[]){2, 0}, (const float[]){0, 0}, 2, NULL, NULL), 0.380797, 5e-7,
                "half their sum");
    assert_true(consistency((const float[]){5}, (const float[]){-3}, 1, NULL, NULL) == 0); /* one logit */
    assert_true(consistency((const float[]){1, 2, 3}, (const float[]){1, 2, 3}, 3, NULL, NULL) == 0);
}

/* The target of each divergence is constant: what reaches `a` is half the slope of KL(q || softmax(a)) at constant q,
 * and not that of the whole. */
static void test_divergence_targets(void **state)
{
    static const float a[3] = {0.7f, -0.4f, 1.3f}, b[3] = {-0.2f, 0.9f, 0.1f};
    double grad_a[3], grad_b[3], whole = 0;

    (void)state;
    consistency(a, b, 3, grad_a, grad_b);
    for (int c = 0; c < 3; c++) {
        double z[2][3], p[3], q[3], once[2], both[2], h = 1e-6;
        for (int up = 0; up < 2; up++) {
            for (int i = 0; i < 3; i++) {
                z[0][i] = (double)a[i] + (i == c ? (up ? h : -h) : 0);
                z[1][i] = (double)b[i];
            }
            softmax(z[0], 3, p);
            softmax(z[1], 3, q);
            once[up] = divergence(q, p, 3) / 2;
            both[up] = (divergence(q, p, 3) + divergence(p, q, 3)) / 2;
        }
        expect_near(grad_a[c], (once[1] - once[0]) / (2 * h), 1e-9, "the gradient");
        expect_near(grad_a[c], (p[c] - q[c]) / 2, 1e-6, "the gradient");
        expect_near(grad_b[c], -grad_a[c], 1e-15, "the other pass's gradient");
        whole = fmax(whole, fabs(grad_a[c] - (both[1] - both[0]) / (2 * h)));
    }
    assert_true(whole > 0.05);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_masks),
        cmocka_unit_test(test_masks_differ),
        cmocka_unit_test(test_mosa_start),
        cmocka_unit_test(test_mosa_merge_example),
        cmocka_unit_test(test_mosa_of_one),
        cmocka_unit_test(test_mean_is_merged),
        cmocka_unit_test(test_mosa_off_mask),
        cmocka_unit_test(test_mosa_merges),
        cmocka_unit_test(test_equal_experts),
        cmocka_unit_test(test_first_values),
        cmocka_unit_test(test_adamix_of_one),
        cmocka_unit_test(test_adamix_merge_examples),
        cmocka_unit_test(test_divergence_values),
        cmocka_unit_test(test_divergence_targets),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
