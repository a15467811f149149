/* AdapterFusion: what it computes, what it saves, which adapters it takes. */
#include "make_adapter.h"

#include <math.h>

#include "adapters/fusion.h"
#include "infer/model.h"

#define VIT TEST_DATA "/oracle/vit"
#define CLASSES 3
#define BATCH 2
#define DEPTH 3
#define WIDTH 32

static char folder[64];
static device dev;
static backbone *b;

static const char *at(const char *name)
{
    return support_path(folder, name);
}

static int set_up(void **state)
{
    inlay_error err;

    (void)state;
    snprintf(folder, sizeof folder, "%s", support_folder());
    ASSERT_OK(device_open(&dev, NULL, 2, &err));
    ASSERT_OK(backbone_open(&b, VIT, 0, &err));
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    backbone_close(b);
    device_close(&dev);
    support_remove(folder);
    return 0;
}

/* "name option=value option=value" */
static inlay_status try_new(adapter **out, const char *text, inlay_error *err)
{
    options *o = support_options(text);

    return adapter_new(out, support_method(text), o, b, CLASSES, (const char *const[]){"a", "b", "c"}, err);
}

/* Its values are moved away from where they begin. */
static adapter *make(const char *text, uint32_t seed)
{
    inlay_error err;
    adapter *a;

    ASSERT_OK(try_new(&a, text, &err));
    ASSERT_OK(adapter_initialise(a, &dev, seed, &err));
    support_shake(a, &dev, seed);
    return a;
}

static void save(const adapter *a, const char *name)
{
    inlay_error err;

    ASSERT_OK(adapter_save(a, &dev, at(name), NULL, NULL, &err));
}

static void make_saved(const char *name, const char *text, uint32_t seed)
{
    adapter *a = make(text, seed);

    save(a, name);
    adapter_free(a, &dev);
}

static adapter *load(const char *name)
{
    inlay_error err;
    adapter *a;

    ASSERT_OK(adapter_load(&a, at(name), b, false, NULL, &err));
    return a;
}

static void answer(const adapter *a, float *logits)
{
    model_request request = {.dev = &dev, .b = b, .a = a, .pixel_type = DTYPE_U8};
    predictor p;
    inlay_error err;

    ASSERT_OK(predictor_open(&p, &request, BATCH, &err));
    for (int64_t i = 0; i < BATCH * 32 * 32 * 3; i++)
        ((uint8_t *)predictor_pixels(&p))[i] =
            (uint8_t)(rng_u32((rng_stream){.seed = 5, .purpose = RNG_TEST}, (uint64_t)i) >> 24);
    predictor_run(&p, BATCH, logits);
    predictor_close(&p);
}

static void set_all(adapter *a, const char *name, const float *values)
{
    param *p = adapter_find(a, name);

    assert_non_null(p);
    param_set(p, &dev, values);
}

static void identity_values(adapter *a)
{
    static float identity[WIDTH * WIDTH];
    char name[64];

    for (int i = 0; i < WIDTH; i++)
        identity[i * WIDTH + i] = 1;
    for (int layer = 0; layer < DEPTH; layer++) {
        snprintf(name, sizeof name, "blocks.%d.fusion.value.weight", layer);
        set_all(a, name, identity);
    }
}

/* Two different parts without the value matrix are those with the identity for it; the regulariser has nothing to weigh
 * then. */
static void test_without_value(void **state)
{
    char text[400];
    float with[BATCH * CLASSES], without[BATCH * CLASSES];

    (void)state;
    make_saved("v0", "bottleneck rank=4", 3);
    make_saved("v1", "bottleneck rank=2", 4);
    snprintf(text, sizeof text, "fusion adapters=%s,%s", at("v0"), at("v1"));
    adapter *a = make(text, 20);
    snprintf(text, sizeof text, "fusion value=false adapters=%s,%s", at("v0"), at("v1"));
    adapter *plain = make(text, 21);
    identity_values(a);
    assert_int_equal(adapter_trained_total(a, false) - adapter_trained_total(plain, false), DEPTH * WIDTH * WIDTH);
    for (const adapter_param *i = NULL; (i = adapter_each_param(plain, i));) {
        param *p = i->p, *from = adapter_find(a, p->name);
        float *values = calloc((size_t)p->count, sizeof *values);
        assert_non_null(from);
        param_get(from, &dev, values);
        param_set(p, &dev, values);
        free(values);
    }
    answer(a, with);
    answer(plain, without);
    for (int i = 0; i < BATCH * CLASSES; i++)
        if (fabsf(with[i] - without[i]) > 1e-5f)
            fail_msg("logit %d is %g without a value matrix, %g with the identity", i, (double)without[i],
                     (double)with[i]);
    adapter_free(a, &dev);
    adapter_free(plain, &dev);
}

static void copy_head(adapter *to, const adapter *from)
{
    float weight[CLASSES * WIDTH], bias[CLASSES];

    param_get(from->head_weight, &dev, weight);
    param_get(from->head_bias, &dev, bias);
    param_set(to->head_weight, &dev, weight);
    param_set(to->head_bias, &dev, bias);
}

/* N times the same part with V = I is that part, whatever Q and K are. */
static void test_equal_parts(void **state)
{
    adapter *single, *fusion;
    float one[BATCH * CLASSES], fused[BATCH * CLASSES];

    (void)state;
    make_saved("one", "bottleneck rank=4", 3);
    single = load("one");
    answer(single, one);
    for (int n = 2; n <= 3; n++) {
        char text[400];
        snprintf(text, sizeof text, "fusion adapters=%s,%s%s%s", at("one"), at("one"), n > 2 ? "," : "",
                 n > 2 ? at("one") : "");
        fusion = make(text, 20 + (uint32_t)n);
        assert_int_equal(fusion->part_count, n);
        identity_values(fusion);
        copy_head(fusion, single);
        answer(fusion, fused);
        for (int i = 0; i < BATCH * CLASSES; i++)
            if (fabsf(one[i] - fused[i]) > 1e-5f)
                fail_msg("%d equal parts: logit %d is %g, the part alone gives %g", n, i, (double)fused[i],
                         (double)one[i]);
        adapter_free(fusion, &dev);
    }
    adapter_free(single, &dev);
}

/* The part's folders may be gone; the saved fusion says what they were. */
static void test_self_contained(void **state)
{
    adapter *fusion, *loaded;
    float before[BATCH * CLASSES], after[BATCH * CLASSES];
    char text[400];

    (void)state;
    make_saved("first", "bottleneck rank=4 scaling=channel", 4);
    make_saved("second", "pfeiffer rank=3", 5);
    snprintf(text, sizeof text, "fusion adapters=%s,%s", at("first"), at("second"));
    fusion = make(text, 6);
    answer(fusion, before);
    save(fusion, "fused");
    assert_string_equal(options_string(fusion->settings, "adapters"), "");
    adapter_free(fusion, &dev);
    support_remove(at("first"));
    support_remove(at("second"));

    loaded = load("fused");
    assert_int_equal(loaded->part_count, 2);
    assert_string_equal(loaded->parts[1]->name, "pfeiffer");
    assert_int_equal(options_int(loaded->parts[0]->settings, "rank"), 4);
    assert_non_null(adapter_find(loaded, "parts.0.blocks.2.adapter.scaling"));
    assert_non_null(adapter_find(loaded, "parts.1.blocks.0.adapter.norm.weight"));
    assert_null(adapter_find(loaded, "parts.0.head.weight"));
    answer(loaded, after);
    assert_memory_equal(before, after, sizeof before);
    save(loaded, "again"); /* as it was loaded, it can be saved */
    adapter_free(loaded, &dev);
    loaded = load("again");
    answer(loaded, after);
    assert_memory_equal(before, after, sizeof before);
    adapter_free(loaded, &dev);
}

/* A fusion may be a part of another. */
static void test_nested(void **state)
{
    adapter *fusion, *loaded;
    float before[BATCH * CLASSES], after[BATCH * CLASSES];
    char text[400];

    (void)state;
    make_saved("plain", "bottleneck rank=4", 7);
    snprintf(text, sizeof text, "fusion adapters=%s,%s", at("plain"), at("plain"));
    make_saved("inner", text, 8);
    snprintf(text, sizeof text, "fusion adapters=%s,%s", at("plain"), at("inner"));
    fusion = make(text, 9);
    answer(fusion, before);
    save(fusion, "outer");
    adapter_free(fusion, &dev);
    loaded = load("outer");
    assert_non_null(adapter_find(loaded, "parts.1.parts.0.blocks.0.adapter.down.weight"));
    answer(loaded, after);
    assert_memory_equal(before, after, sizeof before);
    adapter_free(loaded, &dev);
}

/* Whatever adds to one site can be a part; the mixture has the widths of that place. */
static void test_other_parts(void **state)
{
    static const char *const made[][2] = {{"adaptable rank=2 switches=false", "32 32"},
                                          {"lora targets=proj rank=2", "32 32"},
                                          {"lora targets=fc1 rank=2", "128 32"},
                                          {"lora targets=fc2 rank=2", "32 128"},
                                          {"adapter_bias norms=none", "32 128"}};
    char text[400], shape[32];

    (void)state;
    for (size_t i = 0; i < sizeof made / sizeof *made; i++) {
        float alone[BATCH * CLASSES], fused[BATCH * CLASSES];
        adapter *single, *fusion;
        const param *q;
        make_saved("other", made[i][0], 21);
        single = load("other");
        answer(single, alone);
        snprintf(text, sizeof text, "fusion adapters=%s,%s", at("other"), at("other"));
        fusion = make(text, 22);
        q = adapter_find(fusion, "blocks.1.fusion.query.weight");
        snprintf(shape, sizeof shape, "%d %d", (int)q->dims[0], (int)q->dims[1]);
        assert_string_equal(shape, made[i][1]);
        if (q->dims[0] == WIDTH) {
            identity_values(fusion);
            copy_head(fusion, single);
            answer(fusion, fused);
            for (int j = 0; j < BATCH * CLASSES; j++)
                if (fabsf(alone[j] - fused[j]) > 1e-4f * (1 + fabsf(alone[j])))
                    fail_msg("%s: logit %d is %g, the part alone gives %g", made[i][0], j, (double)fused[j],
                             (double)alone[j]);
        }
        answer(fusion, fused);
        for (int j = 0; j < BATCH * CLASSES; j++)
            assert_true(isfinite(fused[j]));
        adapter_free(single, &dev);
        adapter_free(fusion, &dev);
    }
}

/* `keep` with every part is no `keep`; with some, the others' weights are not there. */
static void test_keep(void **state)
{
    adapter *fusion;
    float all[BATCH * CLASSES], kept[BATCH * CLASSES], some[BATCH * CLASSES];
    char text[600], parts[300];
    const int *of;

    (void)state;
    make_saved("k0", "bottleneck rank=2", 10);
    make_saved("k1", "bottleneck rank=3", 11);
    make_saved("k2", "bottleneck rank=4", 12);
    snprintf(parts, sizeof parts, "fusion adapters=%s,%s,%s", at("k0"), at("k1"), at("k2"));
    fusion = make(parts, 13);
    answer(fusion, all);
    adapter_free(fusion, &dev);
    snprintf(text, sizeof text, "%s keep=0:0,1,2;1:0,1,2;2:0,1,2", parts);
    fusion = make(text, 13);
    answer(fusion, kept);
    assert_memory_equal(all, kept, sizeof all);
    adapter_free(fusion, &dev);
    snprintf(text, sizeof text, "%s keep=0:0,2;2:1", parts);
    fusion = make(text, 13);
    assert_int_equal(fusion_parts(fusion, 0, &of), 2);
    assert_int_equal(of[1], 2);
    assert_int_equal(fusion_parts(fusion, 1, &of), 3);
    assert_int_equal(fusion_parts(fusion, 2, &of), 1);
    assert_int_equal(of[0], 1);
    assert_null(adapter_find(fusion, "parts.1.blocks.0.adapter.up.weight"));
    assert_non_null(adapter_find(fusion, "parts.1.blocks.1.adapter.up.weight"));
    answer(fusion, some);
    assert_memory_not_equal(all, some, sizeof all);
    save(fusion, "some");
    adapter_free(fusion, &dev);
    fusion = load("some");
    answer(fusion, kept);
    assert_memory_equal(some, kept, sizeof some);
    adapter_free(fusion, &dev);
}

static void refuse(const char *text, const char *part)
{
    inlay_error err;
    adapter *a;

    if (try_new(&a, text, &err) == INLAY_OK)
        fail_msg("'%s' is accepted", text);
    if (!strstr(err.message, part))
        fail_msg("'%s' is not in: %s", part, err.message);
}

static void test_refused(void **state)
{
    static const char *const made[][2] = {{"r-plain", "bottleneck rank=4"},
                                          {"r-bitfit", "bitfit"},
                                          {"r-vpt", "vpt prompts=2"},
                                          {"r-houlsby", "houlsby rank=2"},
                                          {"r-pre", "bottleneck position=pre rank=2"},
                                          {"r-dropped", "bottleneck rank=2 drop_layers=1"},
                                          {"r-linear", "linear"},
                                          {"r-experts", "adamix position=post rank=2"},
                                          {"r-switches", "adaptable rank=2"}};
    static const char *const cases[][2] = {
        {"r-bitfit", "part 1 ('bitfit') transforms activations or trains weights of the backbone"},
        {"r-vpt", "part 1 ('vpt') transforms activations"},
        {"r-houlsby", "part 1 ('houlsby') has 2 adapters in layer 0"},
        {"r-pre", "part 1 ('bottleneck') reads 'attn.residual'"},
        {"r-dropped", "part 1 ('bottleneck') has 0 adapters in layer 0"},
        {"r-linear", "part 1 ('linear') has 0 adapters"},
        {"r-experts", "part 1 ('adamix') draws experts"},
        {"r-switches", "part 1 ('adaptable') draws experts or switches"},
        {"r-nothing", "part 1: '"}};
    char text[600];
    inlay_error err;
    backbone *mine = b;

    (void)state;
    for (size_t i = 0; i < sizeof made / sizeof *made; i++)
        make_saved(made[i][0], made[i][1], 14);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        snprintf(text, sizeof text, "fusion adapters=%s,%s", at("r-plain"), at(cases[i][0]));
        refuse(text, cases[i][1]);
    }
    snprintf(text, sizeof text, "fusion adapters=%s,%s drop_layers=1", at("r-plain"), at("r-dropped"));
    adapter_free(make(text, 15), &dev);
    refuse("fusion", "at least 2");
    snprintf(text, sizeof text, "fusion adapters=%s", at("r-plain"));
    refuse(text, "found 1");
    ASSERT_OK(backbone_open(&b, TEST_DATA "/oracle/variants/layerscale", 0, &err));
    snprintf(text, sizeof text, "fusion adapters=%s,%s", at("r-plain"), at("r-plain"));
    refuse(text, "part 0: ");
    refuse(text, "another backbone");
    backbone_close(b);
    b = mine;
    for (size_t i = 0; i < 8; i++) {
        static const char *const wrong[] = {"3:0", "0", "0:", "0:2", "0:0,0", "0:0;", "x", "0:0,1:1"};
        bool trailing = i == 5; /* a separator at the end does no harm */
        snprintf(text, sizeof text, "fusion adapters=%s,%s keep=%s", at("r-plain"), at("r-plain"), wrong[i]);
        if (!trailing)
            refuse(text, "keep: expected");
    }
}

/* Given as text only, the parts have no values to train with. */
static void test_no_values(void **state)
{
    inlay_error err;
    adapter *a;

    (void)state;
    ASSERT_OK(try_new(
        &a,
        "fusion "
        "parts=[{\"method\":\"bottleneck\",\"options\":{}},{\"method\":\"bottleneck\",\"options\":{\"rank\":\"2\"}}]",
        &err));
    assert_int_equal(adapter_initialise(a, &dev, 1, &err), INLAY_ERR_USAGE);
    assert_non_null(strstr(err.message, "parts.0.blocks.0.adapter.down.weight"));
    adapter_free(a, &dev);
    refuse("fusion parts=[{\"method\":\"nothing\",\"options\":{}}]", "unknown method 'nothing'");
    refuse("fusion parts=[{\"method\":\"lora\"}]", "keys 'method' (text) and 'options' (object)");
    refuse("fusion parts=[{\"method\"", "parts: column");
}

/* 12 (3 * 768^2 + 2 * 768) on BERT-base and ViT-B, the given adapters and the head not counted. */
static void test_count(void **state)
{
    backbone base = {
        .memory = arena_new(),
        .shape = {
            .width = 768, .depth = 12, .heads = 12, .hidden = 3072, .patch = 16, .prefix_tokens = 1, .tokens = 197}};
    backbone *mine = b;
    inlay_error err;
    adapter *a;

    (void)state;
    b = &base;
    ASSERT_OK(try_new(&a,
                      "fusion "
                      "parts=[{\"method\":\"pfeiffer\",\"options\":{\"rank\":\"48\"}},{\"method\":\"pfeiffer\","
                      "\"options\":{\"rank\":\"48\"}}]",
                      &err));
    assert_int_equal(adapter_trained_total(a, false), 21252096);
    adapter_free(a, NULL);
    b = mine;
    arena_free(base.memory);
}

/* The softmax over three scores, and over the two that are left; wanted of a program, it is there, also when its
 * mixture is not. */
static void test_weights(void **state)
{
    static const float scores[] = {1, 0, -1}, three[] = {0.6652f, 0.2447f, 0.0900f}, two[] = {0.7311f, 0.2689f};
    inlay_error err;

    (void)state;
    for (int parts = 3; parts >= 2; parts--) {
        graph *g = graph_new(kernels_set(0), DTYPE_F32);
        value q = graph_input(g, "q", DTYPE_F32, 1, 1), k = graph_input(g, "k", DTYPE_F32, parts, 1),
              v = graph_input(g, "v", DTYPE_F32, parts, 1);
        value weights = graph_mix_weights(g, graph_mix(g, q, k, v, parts));
        program_request request = {.dev = &dev, .max_batch = 1, .wanted = &weights, .wanted_count = 1};
        program *p;
        graph_finish(g);
        ASSERT_OK(program_new(&p, g, &request, &err));
        *(float *)program_value(p, q, 1).data = 1;
        memcpy(program_value(p, k, 1).data, scores, (size_t)parts * sizeof *scores);
        memcpy(program_value(p, v, 1).data, scores, (size_t)parts * sizeof *scores);
        program_forward(p, 1, &(step_info){0});
        for (int n = 0; n < parts; n++)
            assert_true(fabsf(((float *)program_value(p, weights, 1).data)[n] - (parts == 3 ? three : two)[n]) < 5e-5f);
        program_free(p);
        graph_free(g);
    }
}

/* The marks, one a layer: what they show adds up to 1 for every token, and a backward pass leaves it alone. */
static void test_marks(void **state)
{
    adapter *a;
    char text[400];
    model m;
    program *p;
    inlay_error err;
    const graph_mark_entry *marks;
    int mark_count;
    value wanted[1 + DEPTH];
    float kept[BATCH * 17 * 2];

    (void)state;
    make_saved("m0", "bottleneck rank=2", 16);
    snprintf(text, sizeof text, "fusion adapters=%s,%s", at("m0"), at("m0"));
    a = make(text, 17);
    model_request request = {.dev = &dev, .b = b, .a = a, .pixel_type = DTYPE_U8, .training = true};
    ASSERT_OK(model_build(&m, &request, &err));
    marks = graph_marks(m.g, &mark_count);
    assert_int_equal(mark_count, DEPTH);
    wanted[0] = m.loss;
    for (int layer = 0; layer < DEPTH; layer++) {
        assert_string_equal(marks[layer].name, FUSION_MARK);
        assert_int_equal(marks[layer].layer, layer);
        wanted[1 + layer] = marks[layer].v;
    }
    program_request plan = {
        .dev = &dev, .max_batch = BATCH, .backward = true, .wanted = wanted, .wanted_count = 1 + DEPTH};
    ASSERT_OK(program_new(&p, m.g, &plan, &err));
    memset(program_value(p, m.pixels, BATCH).data, 77, BATCH * 32 * 32 * 3);
    memset(program_value(p, m.targets, BATCH).data, 0, BATCH * sizeof(int32_t));
    program_forward(p, BATCH, &(step_info){0});
    for (int layer = 0; layer < DEPTH; layer++) {
        mat w = program_value(p, wanted[1 + layer], BATCH);
        assert_int_equal(w.rows, layer + 1 < DEPTH ? BATCH * 17 : BATCH);
        for (int64_t r = 0; r < w.rows; r++)
            assert_true(fabsf(((float *)w.data)[2 * r] + ((float *)w.data)[2 * r + 1] - 1) < 1e-6f);
    }
    memcpy(kept, program_value(p, wanted[1], BATCH).data, sizeof kept);
    program_step(p, BATCH, &(step_info){0});
    assert_memory_equal(kept, program_value(p, wanted[1], BATCH).data, sizeof kept);
    program_free(p);
    model_free(&m);
    adapter_free(a, &dev);
}

static float loss_of(const adapter *a, int skip)
{
    model_request request = {
        .dev = &dev, .b = b, .a = a, .pixel_type = DTYPE_U8, .training = true, .skip_layers = skip};
    model m;
    program *p;
    inlay_error err;
    float loss;

    ASSERT_OK(model_build(&m, &request, &err));
    program_request plan = {.dev = &dev, .max_batch = BATCH, .wanted = &m.loss, .wanted_count = 1};
    ASSERT_OK(program_new(&p, m.g, &plan, &err));
    memset(program_value(p, m.pixels, BATCH).data, 77, BATCH * 32 * 32 * 3);
    memset(program_value(p, m.targets, BATCH).data, 0, BATCH * sizeof(int32_t));
    program_forward(p, BATCH, &(step_info){0});
    device_get_f32(&dev, &loss, program_value(p, m.loss, BATCH).data, 1);
    program_free(p);
    model_free(&m);
    return loss;
}

/* 0.5 times the squared distance from the identity, of the layers that take part. */
static void test_regulariser(void **state)
{
    adapter *with, *without;
    char text[400];
    double distance[DEPTH] = {0};
    static float v[WIDTH * WIDTH];

    (void)state;
    make_saved("p0", "bottleneck rank=2", 18);
    snprintf(text, sizeof text, "fusion adapters=%s,%s regulariser=0.5", at("p0"), at("p0"));
    with = make(text, 19);
    snprintf(text, sizeof text, "fusion adapters=%s,%s regulariser=0", at("p0"), at("p0"));
    without = make(text, 19);
    for (int layer = 0; layer < DEPTH; layer++) {
        char name[64];
        snprintf(name, sizeof name, "blocks.%d.fusion.value.weight", layer);
        param_get(adapter_find(with, name), &dev, v);
        for (int i = 0; i < WIDTH * WIDTH; i++)
            distance[layer] += pow((double)v[i] - (i / WIDTH == i % WIDTH), 2);
    }
    for (int skip = 0; skip <= DEPTH; skip++) {
        double expected = 0;
        for (int layer = skip; layer < DEPTH; layer++)
            expected += 0.5 * distance[layer];
        assert_true(fabs((double)loss_of(with, skip) - (double)loss_of(without, skip) - expected) <
                    1e-5 * (1 + expected));
    }
    adapter_free(with, &dev);
    adapter_free(without, &dev);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_equal_parts), cmocka_unit_test(test_self_contained), cmocka_unit_test(test_nested),
        cmocka_unit_test(test_other_parts), cmocka_unit_test(test_keep),           cmocka_unit_test(test_refused),
        cmocka_unit_test(test_no_values),   cmocka_unit_test(test_count),          cmocka_unit_test(test_weights),
        cmocka_unit_test(test_marks),       cmocka_unit_test(test_without_value),  cmocka_unit_test(test_regulariser),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
