/* Which layers have adapters, and of what rank: any method with something in every layer. */
#include "adapters/specs.h"
#include "graph/graph_impl.h"
#include "train/cache.h"

#define VIT TEST_DATA "/oracle/vit"
#define DEPTH 3

/* ---- what is refused, by which message ---- */

static const struct {
    const char *option, *text, *message;
} refused[] = {
    {"layers", "", "layers: expected 'all', 'none' or numbers of layers, say 0,2,5-11, found '' in ''"},
    {"layers", "0,", "found '' in '0,'"},
    {"layers", ",0", "found ',0' in ',0'"},
    {"layers", "0,,2", "found ',2' in '0,,2'"},
    {"layers", "0;2", "found '0;2'"},
    {"layers", "0 2", "found '0 2'"},
    {"layers", "+1", "found '+1'"},
    {"layers", "-1", "found '-1'"},
    {"layers", "1-", "found '1-'"},
    {"layers", "0-1-2", "found '0-1-2'"},
    {"layers", "0x1", "found '0x1'"},
    {"layers", "1.0", "found '1.0'"},
    {"layers", "All", "found 'All'"},
    {"layers", "all,0", "found 'all,0'"},
    {"layers", "0:4", "found '0:4'"},
    {"layers", "3", "layers: expected layers from 0 to 2, of a range the lower end first, found '3' in '3'"},
    {"layers", "0,1-3", "found '1-3' in '0,1-3'"},
    {"layers", "2-1", "found '2-1'"},
    {"layers", "99999999999999999999", "expected layers from 0 to 2"},
    {"layers", "1,1", "layers: layer 1 is named twice in '1,1'"},
    {"layers", "0-2,1", "layer 1 is named twice"},
    {"ranks", "4", "ranks: expected layers and their ranks, say 0-5:4,6:16, found '4' in '4'"},
    {"ranks", "0:", "found '0:'"},
    {"ranks", "0:4,", "found '' in '0:4,'"},
    {"ranks", "0:0", "ranks: expected ranks from 1 to 65536, found '0:0' in '0:0'"},
    {"ranks", "0:65537", "expected ranks from 1 to 65536"},
    {"ranks", "0:-4", "found '0:-4'"},
    {"ranks", "3:4", "expected layers from 0 to 2"},
    {"ranks", "0-1:4,1:8", "layer 1 is named twice"},
    {"drop_layers", "4",
     "drop_layers: expected a number of layers from 0 to 3, 'random' or 'random:LOW-HIGH', found '4'"},
    {"drop_layers", "-1", "found '-1'"},
    {"drop_layers", "1,2", "found '1,2'"},
    {"drop_layers", "", "found ''"},
    {"drop_layers", "randomly", "found 'randomly'"},
    {"drop_layers", "random:", "found 'random:'"},
    {"drop_layers", "random:1", "found 'random:1'"},
    {"drop_layers", "random:2-1", "found 'random:2-1'"},
    {"drop_layers", "random:0-4", "found 'random:0-4'"},
    {"drop_layers", "random:0-2x", "found 'random:0-2x'"},
};

static void test_refused(void **state)
{
    backbone *b;
    inlay_error err;

    (void)state;
    ASSERT_OK(backbone_open(&b, VIT, 0, &err));
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        options *o;
        adapter *a;
        ASSERT_OK(adapter_settings(&o, "bottleneck", &err));
        ASSERT_OK(options_set(o, refused[i].option, refused[i].text, "test", &err));
        assert_int_equal(adapter_new(&a, "bottleneck", o, b, CLASSES, NULL, &err), INLAY_ERR_USAGE);
        if (!strstr(err.message, refused[i].message))
            fail_msg("%s '%s': '%s', expected '%s'", refused[i].option, refused[i].text, err.message,
                     refused[i].message);
    }
    backbone_close(b);
}

static void test_rank_without_adapter(void **state)
{
    static const char *const settings[] = {"layers=0,2 ranks=1:4", "drop_layers=2 ranks=0-1:4",
                                           "layers=none ranks=0:1"};
    backbone *b;
    inlay_error err;

    (void)state;
    ASSERT_OK(backbone_open(&b, VIT, 0, &err));
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
        options *o;
        adapter *a;
        ASSERT_OK(adapter_settings(&o, "bottleneck", &err));
        support_settings(o, settings[i]);
        assert_int_equal(adapter_new(&a, "bottleneck", o, b, CLASSES, NULL, &err), INLAY_ERR_USAGE);
        assert_non_null(strstr(err.message, "has a rank, but no adapter"));
    }
    backbone_close(b);
}

/* ---- layers and what is dropped below are both left out ---- */

static void expect_layers(const char *settings, const char *expected)
{
    tuned_vit v;

    vit_open(&v, "bottleneck", settings);
    for (int layer = 0; layer < DEPTH; layer++) {
        char name[64];
        snprintf(name, sizeof name, "blocks.%d.adapter.down.weight", layer);
        if (v.a->layers[layer] != (expected[layer] == '1') || (adapter_find(v.a, name) != NULL) != v.a->layers[layer])
            fail_msg("'%s': layer %d, expected %s", settings, layer, expected);
    }
    vit_close(&v);
}

static void test_chosen(void **state)
{
    (void)state;
    expect_layers("layers=all", "111");
    expect_layers("layers=none", "000");
    expect_layers("layers=1", "010");
    expect_layers("layers=2,0", "101");
    expect_layers("layers=0-2", "111");
    expect_layers("layers=2-2", "001");
    expect_layers("layers=0,2 drop_layers=1", "001");
    expect_layers("layers=0-1 drop_layers=2", "000");
    expect_layers("layers=0,2 drop_layers=random", "101");
    expect_layers("drop_layers=3", "000");
}

static void test_random_range(void **state)
{
    static const struct {
        const char *settings;
        int low, high;
    } rows[] = {{"drop_layers=random", 0, 2},
                {"drop_layers=random:0-1", 0, 1},
                {"drop_layers=random:1-3", 1, 3},
                {"drop_layers=random:2-2", 2, 2}};

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        tuned_vit v;
        vit_open(&v, "bottleneck", rows[i].settings);
        assert_true(v.a->drop_random);
        assert_int_equal(v.a->drop_low, rows[i].low);
        assert_int_equal(v.a->drop_high, rows[i].high);
        vit_close(&v);
    }
}

/* ---- an adapter in some layers is the one in all layers without the others ---- */

static void forget_layer(adapter *a, int layer)
{
    struct adapter_declared *d = a->declared;
    int edges = 0, transforms = 0;

    for (int i = 0; i < d->edge_count; i++)
        if (d->edges[i].to.layer != layer)
            d->edges[edges++] = d->edges[i];
    for (int i = 0; i < d->transform_count; i++)
        if (d->transforms[i].at.layer != layer)
            d->transforms[transforms++] = d->transforms[i];
    d->edge_count = edges;
    d->transform_count = transforms;
}

static void logits_of(const char *name, const char *settings, int without, double logits[LOGITS])
{
    tuned_vit v;

    vit_open(&v, name, settings);
    for (const adapter_param *i = NULL; (i = adapter_each_param(v.a, i));) {
        param *p = i->p;
        float *values = get(&v.d, p);
        uint32_t hash = 0;
        for (const char *c = p->name; *c; c++)
            hash = hash * 31 + (unsigned char)*c;
        for (int64_t j = 0; j < p->count; j++)
            values[j] =
                (float)rng_below((rng_stream){.seed = 3, .purpose = RNG_TEST, .stream = hash}, (uint64_t)j, 100) / 500;
        param_set(p, &v.d, values);
        free(values);
    }
    if (without >= 0)
        forget_layer(v.a, without);
    vit_build(&v, false, false);
    vit_run(&v, 0, 0, logits);
    vit_close(&v);
}

static void test_same_as_all_without_others(void **state)
{
    static const char *const rows[][3] = {{"bottleneck", "rank=4", "rank=4 layers=0,2"},
                                          {"houlsby", "rank=4", "rank=4 layers=2,0"},
                                          {"parallel", "rank=4", "rank=4 layers=0,2"},
                                          {"lora", "targets=q,proj,fc2", "targets=q,proj,fc2 layers=0,2"},
                                          {"adaptable", "switches=false", "switches=false layers=0,2"},
                                          {"adapter_bias", "norms=none", "norms=none layers=0,2"},
                                          {"ssf", NULL, "layers=0,2"},
                                          {"vpt", "prompts=3", "prompts=3 layers=0,2"}};

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        double some[LOGITS], filtered[LOGITS], all[LOGITS];
        logits_of(rows[i][0], rows[i][2], -1, some);
        logits_of(rows[i][0], rows[i][1], 1, filtered);
        logits_of(rows[i][0], rows[i][1], -1, all);
        if (memcmp(some, filtered, sizeof some) != 0)
            fail_msg("%s: '%s' is not '%s' without layer 1", rows[i][0], rows[i][2], rows[i][1]);
        assert_true(apart(all, some, LOGITS) > 1e-6);
    }
}

/* Every tensor of the backbone that is trained lies in the layers, or in front of the first or behind the last. */
static void test_weights_of_the_backbone(void **state)
{
    static const struct {
        const char *name, *settings;
        int64_t count;
    } rows[] = {{"layernorm", "layers=0", 4 * 32},
                {"layernorm", "layers=1-2", 10 * 32},
                {"bitfit", "layers=1", 11 * 32},
                {"bitfit", "layers=0", 12 * 32},
                {"full", "layers=2", 12 * 32 * 32 + 13 * 32 + 2 * 32},
                {"full", "layers=none", 0}};

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        tuned_vit v;
        vit_open(&v, rows[i].name, rows[i].settings);
        if (adapter_trained_total(v.a, false) != rows[i].count)
            fail_msg("%s %s trains %lld, expected %lld", rows[i].name, rows[i].settings,
                     (long long)adapter_trained_total(v.a, false), (long long)rows[i].count);
        vit_close(&v);
    }
}

/* ---- nothing is computed backwards below the lowest layer, and the feature cache begins there ---- */

static size_t cache_of(const char *settings)
{
    tuned_vit v;
    size_t size;

    vit_open(&v, "bottleneck", settings);
    vit_build(&v, true, true);
    for (int layer = 0; layer < DEPTH; layer++) {
        bool below = true;
        for (int other = 0; other <= layer; other++)
            below &= !v.a->layers[other];
        assert_int_equal(v.m.g->values[v.m.blocks[layer]].needs_grad, !below);
    }
    size = feature_cache_size(v.m.g, v.m.loss, 10);
    vit_close(&v);
    return size;
}

static void test_lowest_layer(void **state)
{
    (void)state;
    assert_int_equal(cache_of("layers=2"), cache_of("drop_layers=2"));
    assert_int_equal(cache_of("layers=1"), cache_of("drop_layers=1"));
    assert_int_equal(cache_of("layers=none"), cache_of("drop_layers=3"));
    assert_true(cache_of("layers=0,2") > 0 && cache_of("layers=none") > 0);
}

/* ---- any layers can be left out of a trained adapter ---- */

static void test_skipped_list(void **state)
{
    static const char *const methods[] = {"bottleneck", "houlsby", "parallel", "lora", "adapter_bias"};
    static const bool skipped[DEPTH] = {true, false, true};

    (void)state;
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++) {
        const char *settings = strcmp(methods[i], "adapter_bias") == 0 ? "norms=none" : NULL;
        double expected[LOGITS], found[LOGITS];
        float logits[LOGITS];
        inlay_error err;
        predictor p;
        tuned_vit v;
        vit_open(&v, methods[i], settings);
        scramble(&v.d, v.a);
        model_request request = {.dev = &v.d, .b = v.b, .a = v.a, .pixel_type = DTYPE_U8, .skipped = skipped};
        ASSERT_OK(predictor_open(&p, &request, BATCH, &err));
        for (int64_t j = 0; j < BATCH * 32 * 32 * 3; j++)
            ((uint8_t *)predictor_pixels(&p))[j] =
                (uint8_t)(rng_u32((rng_stream){.seed = 5, .purpose = RNG_TEST}, (uint64_t)j) >> 24);
        predictor_run(&p, BATCH, logits);
        predictor_close(&p);
        forget_layer(v.a, 0);
        forget_layer(v.a, 2);
        vit_build(&v, false, false);
        vit_run(&v, 0, 0, expected);
        vit_close(&v);
        for (int j = 0; j < LOGITS; j++)
            found[j] = (double)logits[j];
        expect_near(apart(found, expected, LOGITS), 0, 1e-5, methods[i]);
    }
}

/* ---- ranks ---- */

static void test_ranks(void **state)
{
    static const struct {
        const char *name, *settings;
        int64_t ranks[DEPTH];
    } rows[] = {{"bottleneck", "rank=8 ranks=1:2", {8, 2, 8}},
                {"bottleneck", "ranks=0-1:4,2:16", {4, 4, 16}},
                {"houlsby", "rank=2 ranks=2:5", {2, 2, 5}},
                {"pfeiffer", "rank=1 ranks=0:3 layers=0,2", {3, 0, 1}},
                {"adaptable", "switches=false ranks=0:7", {7, 2, 2}}};

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        tuned_vit v;
        vit_open(&v, rows[i].name, rows[i].settings);
        for (int layer = 0; layer < DEPTH; layer++) {
            char down[64], up[64];
            snprintf(down, sizeof down, "blocks.%d.adapter.down.weight", layer);
            snprintf(up, sizeof up, "blocks.%d.adapter.up.weight", layer);
            if (!rows[i].ranks[layer]) {
                assert_null(adapter_find(v.a, down));
                continue;
            }
            assert_int_equal(find(v.a, down)->dims[0], rows[i].ranks[layer]);
            assert_int_equal(find(v.a, up)->dims[1], rows[i].ranks[layer]);
        }
        vit_close(&v);
    }
}

/* The change is scaled by alpha over the layer's own rank. */
static void test_lora_scale(void **state)
{
    (void)state;
    for (int rank = 2; rank <= 4; rank += 2) {
        double own[LOGITS], plain[LOGITS];
        char settings[64];
        snprintf(settings, sizeof settings, "ranks=1:%d layers=1", rank);
        logits_of("lora", settings, -1, own);
        snprintf(settings, sizeof settings, "rank=%d layers=1", rank);
        logits_of("lora", settings, -1, plain);
        assert_memory_equal(own, plain, sizeof own);
    }
}

/* ---- what is saved in the place of experts and switches has the same layers and ranks ---- */

static void expect_merged(const char *name, const char *settings, int64_t rank)
{
    tuned_vit v;

    vit_open(&v, name, settings);
    for (const adapter_param *i = NULL; (i = adapter_each_param(v.a, i));) /* switches: off in layer 0, on in 2 */
        if (strstr(i->p->name, ".switch"))
            param_set(i->p, &v.d, strstr(i->p->name, "blocks.2.") ? (float[]){0, 1} : (float[]){1, 0});
    vit_merge(&v);
    for (const adapter_param *i = NULL; (i = adapter_each_param(v.a, i));)
        assert_null(strstr(i->p->name, "blocks.1."));
    assert_int_equal(v.a->layers[0], strcmp(name, "adaptable") != 0);
    assert_false(v.a->layers[1]);
    assert_true(v.a->layers[2]);
    assert_int_equal(v.a->ranks[2], rank);
    vit_close(&v);
}

static void test_merged(void **state)
{
    (void)state;
    expect_merged("adamix", "layers=0,2 ranks=2:3", 3);
    expect_merged("adamix", "kind=lora layers=0,2 ranks=2:3", 3);
    expect_merged("mosa", "layers=0,2 ranks=2:6", 6);
    expect_merged("adaptable", "layers=0,2 ranks=0:5,2:6", 6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_rank_without_adapter),
        cmocka_unit_test(test_chosen),
        cmocka_unit_test(test_random_range),
        cmocka_unit_test(test_same_as_all_without_others),
        cmocka_unit_test(test_weights_of_the_backbone),
        cmocka_unit_test(test_lowest_layer),
        cmocka_unit_test(test_skipped_list),
        cmocka_unit_test(test_ranks),
        cmocka_unit_test(test_lora_scale),
        cmocka_unit_test(test_merged),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
