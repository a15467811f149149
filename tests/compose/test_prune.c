/* Pruning a fusion: what is measured, what is kept, what is written. */
#include "make_adapter.h"

#include <math.h>

#include "adapters/fusion.h"
#include "compose/prune.h"

#define VIT TEST_DATA "/oracle/vit"
#define CLASSES 3
#define DEPTH 3
#define PARTS 3

static char folder[64];

static const char *at(const char *name)
{
    return support_path(folder, name);
}

/* Saves an adapter with values away from where they begin. */
static void make_saved(const char *name, const char *text, uint32_t seed)
{
    inlay_error err;
    device d;
    backbone *b;
    adapter *a;
    options *o = support_options(text);

    ASSERT_OK(device_open(&d, NULL, 1, &err));
    ASSERT_OK(backbone_open(&b, VIT, 0, &err));
    ASSERT_OK(adapter_new(&a, support_method(text), o, b, CLASSES, (const char *const[]){"class0", "class1", "class2"},
                          &err));
    ASSERT_OK(adapter_initialise(a, &d, seed, &err));
    support_shake(a, &d, seed);
    ASSERT_OK(adapter_save(a, &d, at(name), NULL, NULL, &err));
    adapter_free(a, &d);
    backbone_close(b);
    device_close(&d);
}

static int set_up(void **state)
{
    char list[700];

    (void)state;
    snprintf(folder, sizeof folder, "%s", support_folder());
    support_images(at("data"), "train", CLASSES, 3, 40);
    make_saved("a", "bottleneck rank=2", 1);
    make_saved("b", "bottleneck rank=3", 2);
    make_saved("c", "bottleneck rank=4", 3);
    snprintf(list, sizeof list, "fusion adapters=%s,%s,%s", at("a"), at("b"), at("c"));
    make_saved("fusion", list, 4);
    snprintf(list, sizeof list, "fusion adapters=%s,%s,%s", at("a"), at("a"), at("a"));
    make_saved("equal", list, 5);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    support_remove(folder);
    return 0;
}

static void measure(const char *name, int threads, int64_t batch, prune_usage *u)
{
    session_request open = {.backbone = VIT, .adapter = at(name), .threads = threads, .precision = "f32"};
    session s;
    dataset *d;
    inlay_error err;

    ASSERT_OK(session_open(&s, &open, &err));
    ASSERT_OK(session_dataset(&s, &d, at("data"), "train", NULL, &err));
    prune_request request = {.s = &s, .data = d, .batch = batch, .workers = 2};
    ASSERT_OK(prune_measure(u, &request, &err));
    dataset_free(d);
    session_close(&s);
}

static void prune_to(const char *name, const char *output, int keep)
{
    session_request open = {.backbone = VIT, .adapter = at(name), .threads = 2, .precision = "f32"};
    arena *memory = arena_new();
    prune_usage u;
    session s;
    inlay_error err;

    measure(name, 2, 4, &u);
    ASSERT_OK(session_open(&s, &open, &err));
    ASSERT_OK(prune_write(s.a, &s.dev, prune_text(memory, &u, keep), at(output), NULL, NULL, &err));
    session_close(&s);
    prune_free(&u);
    arena_free(memory);
}

static void answer(const char *name, float logits[2 * CLASSES])
{
    session_request open = {.backbone = VIT, .adapter = at(name), .threads = 2, .precision = "f32"};
    session s;
    predictor p;
    inlay_error err;

    ASSERT_OK(session_open(&s, &open, &err));
    ASSERT_OK(session_predictor(&s, 2, &p, &err));
    for (int i = 0; i < 2 * 32 * 32 * 3; i++)
        ((uint8_t *)predictor_pixels(&p))[i] = (uint8_t)(i * 7919 >> 5);
    predictor_run(&p, 2, logits);
    predictor_close(&p);
    session_close(&s);
}

/* Attention adds up to 1 in every layer; batches and threads change no bit of its mean. */
static void test_measured(void **state)
{
    prune_usage first, other;

    (void)state;
    measure("fusion", 1, 1, &first);
    assert_int_equal(first.images, 3 * CLASSES);
    assert_int_equal(first.layers, DEPTH);
    assert_int_equal(first.parts, PARTS);
    for (int layer = 0; layer < DEPTH; layer++)
        assert_true(
            fabs(first.mean[layer * PARTS] + first.mean[layer * PARTS + 1] + first.mean[layer * PARTS + 2] - 1) < 1e-6);
    measure("fusion", 2, 4, &other);
    assert_memory_equal(first.mean, other.mean, DEPTH * PARTS * sizeof *first.mean);
    prune_free(&first);
    prune_free(&other);
}

static void test_choice(void **state)
{
    double mean[] = {0.2, 0.5, 0.3, 0.4, 0.2, 0.4, -1, -1, -1, 0.6, -1, 0.4};
    prune_usage u = {.layers = 4, .parts = 3, .mean = mean};
    arena *memory = arena_new();
    int parts[3];

    (void)state;
    assert_string_equal(prune_text(memory, &u, 1), "0:1;1:0;3:0"); /* of equal ones the lower */
    assert_string_equal(prune_text(memory, &u, 2), "0:1,2;1:0,2;3:0,2");
    assert_string_equal(prune_text(memory, &u, 3), "0:0,1,2;1:0,1,2;3:0,2");
    assert_int_equal(prune_layer(&u, 2, 2, parts), 0);
    arena_free(memory);
}

static void test_all_kept(void **state)
{
    float before[2 * CLASSES], after[2 * CLASSES];

    (void)state;
    answer("fusion", before);
    prune_to("fusion", "all", PARTS);
    answer("all", after);
    assert_memory_equal(before, after, sizeof before);
}

/* The file gets smaller, a pruned fusion can be pruned again, and one part that is left is that part. */
static void test_pruned(void **state)
{
    size_t whole, two, one;
    prune_usage u;
    const int *parts;
    session_request open = {.backbone = VIT, .adapter = NULL, .threads = 1, .precision = "f32"};
    session s;
    inlay_error err;

    (void)state;
    prune_to("fusion", "two", 2);
    prune_to("two", "one", 1);
    assert_true(file_size(at("fusion/adapter.safetensors"), &whole));
    assert_true(file_size(at("two/adapter.safetensors"), &two));
    assert_true(file_size(at("one/adapter.safetensors"), &one));
    assert_true(whole > two && two > one);
    measure("two", 1, 4, &u);
    for (int layer = 0; layer < DEPTH; layer++) {
        double sum = 0;
        int left = 0;
        for (int n = 0; n < PARTS; n++) {
            left += u.mean[layer * PARTS + n] >= 0;
            sum += u.mean[layer * PARTS + n] >= 0 ? u.mean[layer * PARTS + n] : 0;
        }
        assert_int_equal(left, 2);
        assert_true(fabs(sum - 1) < 1e-6); /* a softmax over what is left */
    }
    prune_free(&u);
    open.adapter = at("one");
    ASSERT_OK(session_open(&s, &open, &err));
    for (int layer = 0; layer < DEPTH; layer++) {
        char name[64];
        assert_int_equal(fusion_parts(s.a, layer, &parts), 1);
        for (int n = 0; n < PARTS; n++) {
            snprintf(name, sizeof name, "parts.%d.blocks.%d.adapter.down.weight", n, layer);
            assert_int_equal(adapter_find(s.a, name) != NULL, n == parts[0]);
        }
    }
    session_close(&s);
}

static void test_equal_parts(void **state)
{
    prune_usage u;
    arena *memory = arena_new();

    (void)state;
    measure("equal", 1, 4, &u);
    assert_string_equal(prune_text(memory, &u, 1), "0:0;1:0;2:0");
    prune_free(&u);
    arena_free(memory);
}

static void test_refused(void **state)
{
    session_request open = {.backbone = VIT, .adapter = at("a"), .threads = 1, .precision = "f32"};
    session s;
    dataset *d;
    prune_usage u;
    inlay_error err;

    (void)state;
    ASSERT_OK(session_open(&s, &open, &err));
    ASSERT_OK(session_dataset(&s, &d, at("data"), "train", NULL, &err));
    prune_request request = {.s = &s, .data = d, .batch = 4, .workers = 1};
    assert_int_equal(prune_measure(&u, &request, &err), INLAY_ERR_USAGE);
    assert_non_null(strstr(err.message, "'bottleneck'"));
    dataset_free(d);
    session_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_measured), cmocka_unit_test(test_choice),      cmocka_unit_test(test_all_kept),
        cmocka_unit_test(test_pruned),   cmocka_unit_test(test_equal_parts), cmocka_unit_test(test_refused),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
