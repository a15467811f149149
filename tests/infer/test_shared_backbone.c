/* Several sessions on one backbone, in several threads: each answers with the bits that it has alone, what the backbone
 * is packed into is made once, and nothing of the backbone is written. */
#include "make_adapter.h"

#include <pthread.h>

#include "graph/param_impl.h"
#include "infer/evaluate.h"
#include "infer/session.h"

#define VIT TEST_DATA "/oracle/vit"
#define CLASSES 3
#define IMAGES 4
#define ADAPTERS 3

static char *folder;
static const char *const methods[ADAPTERS] = {"bitfit", "lora", "adapter_plus"};

static char paths[ADAPTERS][200];

/* An adapter of each method whose values are all other than at the begin. */
static int make_adapters(void **state)
{
    inlay_error err;
    device d;

    (void)state;
    folder = strdup(support_folder());
    ASSERT_OK(device_open(&d, NULL, 1, &err));
    for (int i = 0; i < ADAPTERS; i++) {
        options *o;
        adapter *a;
        backbone *b;
        ASSERT_OK(backbone_open(&b, VIT, 0, &err));
        ASSERT_OK(backbone_identify(b, &err));
        ASSERT_OK(adapter_settings(&o, methods[i], &err));
        ASSERT_OK(adapter_new(&a, methods[i], o, b, CLASSES, NULL, &err));
        ASSERT_OK(adapter_initialise(a, &d, (uint64_t)i, &err));
        support_shake(a, &d, 7 + (uint32_t)i);
        snprintf(paths[i], sizeof paths[i], "%s/%s", folder, methods[i]);
        ASSERT_OK(file_make_folder(paths[i], &err));
        ASSERT_OK(adapter_save(a, &d, paths[i], NULL, NULL, &err));
        adapter_free(a, &d);
        backbone_close(b);
    }
    device_close(&d);
    return 0;
}

static int remove_adapters(void **state)
{
    (void)state;
    support_remove(folder);
    free(folder);
    return 0;
}

static void answer(session *s, float logits[IMAGES][CLASSES])
{
    predictor p;
    inlay_error err;
    uint8_t *pixels;

    ASSERT_OK(session_predictor(s, IMAGES, &p, &err));
    pixels = predictor_pixels(&p);
    for (size_t i = 0; i < IMAGES * preprocess_pixel_bytes(&s->prep); i++)
        pixels[i] = (uint8_t)(i * 7919 >> 5);
    predictor_run(&p, IMAGES, logits[0]);
    predictor_close(&p);
}

typedef struct worker {
    backbone *shared; /* NULL: one of its own */
    int which;
    const char *precision;
    int rounds;
    float logits[IMAGES][CLASSES];
    bool same; /* in every round */
} worker;

static void *work(void *context)
{
    worker *w = context;

    w->same = true;
    for (int i = 0; i < w->rounds; i++) {
        session_request request = {
            .backbone = VIT, .shared = w->shared, .adapter = paths[w->which], .threads = 1, .precision = w->precision};
        session s;
        inlay_error err;
        float logits[IMAGES][CLASSES];
        ASSERT_OK(session_open(&s, &request, &err));
        answer(&s, logits);
        session_close(&s);
        w->same = w->same && (i == 0 || memcmp(logits, w->logits, sizeof logits) == 0);
        memcpy(w->logits, logits, sizeof logits);
    }
    return NULL;
}

static int count_forms(const backbone *b)
{
    int count = 0;

    for (param *const *i = NULL; (i = backbone_each_param(b, i));)
        for (const param_form *form = atomic_load(&(*i)->state->frozen.forms); form; form = form->next)
            count++;
    return count;
}

static void test_threads(void **state)
{
    static const char *const precisions[] = {"f32", "bf16", "int8"};

    (void)state;
    for (int k = 0; k < 3; k++) {
        worker alone[ADAPTERS], beside[2 * ADAPTERS];
        pthread_t threads[2 * ADAPTERS];
        backbone *b;
        inlay_error err;
        ASSERT_OK(backbone_open(&b, VIT, 0, &err));
        for (int i = 0; i < ADAPTERS; i++) {
            alone[i] = (worker){.which = i, .precision = precisions[k], .rounds = 1};
            work(&alone[i]);
        }
        for (int i = 0; i < 2 * ADAPTERS; i++) {
            beside[i] = (worker){.shared = b, .which = i % ADAPTERS, .precision = precisions[k], .rounds = 4};
            assert_int_equal(pthread_create(&threads[i], NULL, work, &beside[i]), 0);
        }
        for (int i = 0; i < 2 * ADAPTERS; i++) {
            pthread_join(threads[i], NULL);
            assert_true(beside[i].same);
            assert_memory_equal(beside[i].logits, alone[i % ADAPTERS].logits, sizeof alone->logits);
        }
        assert_memory_not_equal(alone[0].logits, alone[1].logits, sizeof alone->logits);
        backbone_close(b);
    }
}

/* What a second session takes is its own: no form of the backbone is made again. */
static void test_made_once(void **state)
{
    worker one = {.which = 1, .precision = "f32", .rounds = 1};
    inlay_error err;
    backbone *b;
    int forms;

    (void)state;
    ASSERT_OK(backbone_open(&b, VIT, 0, &err));
    one.shared = b;
    work(&one);
    forms = count_forms(b);
    assert_true(forms > 0);
    one.which = 2;
    one.rounds = 3;
    work(&one);
    assert_int_equal(count_forms(b), forms);
    backbone_release_forms(b);
    assert_int_equal(count_forms(b), 0);
    work(&one);
    assert_int_equal(count_forms(b), forms);
    for (param *const *i = NULL; (i = backbone_each_param(b, i));)
        assert_true(!(*i)->data && !(*i)->grad && !(*i)->trainable && !(*i)->exact);
    backbone_close(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_threads), cmocka_unit_test(test_made_once)};

    return cmocka_run_group_tests(tests, make_adapters, remove_adapters);
}
