/* AdapterDrop (arXiv 2010.11918): layers left out at run time, and shared by several tasks on the same images. */
#include "make_adapter.h"

#include <math.h>

#include "graph/graph_impl.h"
#include "infer/session.h"
#include "train/train.h"

#define VIT TEST_DATA "/oracle/vit"
#define CLASSES 3
#define BATCH 2
#define DEPTH 3

static char folder[64];
static device dev;
static backbone *b;
static uint8_t pixels[BATCH * 32 * 32 * 3];

static int set_up(void **state)
{
    char data[300];
    inlay_error err;

    (void)state;
    snprintf(folder, sizeof folder, "%s", support_folder());
    snprintf(data, sizeof data, "%s/data", folder);
    support_images(data, "train", CLASSES, 7, 40);
    ASSERT_OK(device_open(&dev, NULL, 2, &err));
    ASSERT_OK(backbone_open(&b, VIT, 0, &err));
    for (size_t i = 0; i < sizeof pixels; i++)
        pixels[i] = (uint8_t)(rng_u32((rng_stream){.seed = 5, .purpose = RNG_TEST}, i) >> 24);
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

/* An adapter of rank 4; text: "method option=value option=value". */
static adapter *make(const char *text, const char *drop, uint32_t seed)
{
    options *o = support_options(text);
    inlay_error err;
    adapter *a;

    ASSERT_OK(options_set(o, "rank", "4", "test", &err));
    ASSERT_OK(options_set(o, "drop_layers", drop, "test", &err));
    ASSERT_OK(adapter_new(&a, support_method(text), o, b, CLASSES, NULL, &err));
    ASSERT_OK(adapter_initialise(a, &dev, seed, &err));
    support_shake(a, &dev, seed);
    return a;
}

static void answer(const adapter *a, int skip, precision prec, float logits[BATCH * CLASSES])
{
    model_request request = {.dev = &dev, .b = b, .a = a, .prec = prec, .pixel_type = DTYPE_U8, .skip_layers = skip};
    predictor p;
    inlay_error err;

    ASSERT_OK(predictor_open(&p, &request, BATCH, &err));
    memcpy(predictor_pixels(&p), pixels, sizeof pixels);
    predictor_run(&p, BATCH, logits);
    predictor_close(&p);
}

static void copy_values(adapter *to, const adapter *from)
{
    for (const adapter_param *i = NULL; (i = adapter_each_param(to, i));) {
        param *p = i->p;
        float *values = calloc((size_t)p->count, sizeof *values);
        assert_non_null(adapter_find(from, p->name));
        param_get(adapter_find(from, p->name), &dev, values);
        param_set(p, &dev, values);
        free(values);
    }
}

/* Wu = bu = 0 in every adapter of layers below `layers`. */
static void zero_up(adapter *a, int layers)
{
    for (const adapter_param *i = NULL; (i = adapter_each_param(a, i));) {
        param *p = i->p;
        int layer;
        if (sscanf(p->name, "blocks.%d.", &layer) == 1 && layer < layers && strstr(p->name, ".up.")) {
            float *zeros = calloc((size_t)p->count, sizeof *zeros);
            param_set(p, &dev, zeros);
            free(zeros);
        }
    }
}

/* n = 0 changes no bit; n = L is the frozen backbone with the head; n = l is a zero up-projection below l; n in the
 * settings is n at run time. */
static void test_skipped(void **state)
{
    static const char *const methods[] = {"bottleneck", "adapter_plus", "parallel", "houlsby", "lora"};

    (void)state;
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++) {
        adapter *a = make(methods[i], "0", 3);
        float plain[BATCH * CLASSES], other[BATCH * CLASSES], before[BATCH * CLASSES] = {0};
        answer(a, 0, PRECISION_F32, plain);
        for (int n = 0; n <= DEPTH; n++) {
            char drop[12];
            adapter *fixed, *zero = make(methods[i], "0", 3);
            answer(a, n, PRECISION_F32, plain);
            assert_memory_not_equal(plain, before, sizeof plain);
            memcpy(before, plain, sizeof before);
            snprintf(drop, sizeof drop, "%d", n);
            fixed = make(methods[i], drop, 4);
            copy_values(fixed, a);
            answer(fixed, 0, PRECISION_F32, other);
            if (memcmp(plain, other, sizeof plain) != 0)
                fail_msg("%s: drop_layers %d and skipping %d layers differ", methods[i], n, n);
            answer(fixed, n, PRECISION_F32, other); /* what is not there can be skipped */
            assert_memory_equal(plain, other, sizeof plain);
            zero_up(zero, n);
            answer(zero, 0, PRECISION_F32, other);
            for (int j = 0; j < BATCH * CLASSES && strcmp(methods[i], "lora") != 0; j++)
                if (fabsf(plain[j] - other[j]) > 1e-6f * (1 + fabsf(plain[j])))
                    fail_msg("%s: skipping %d layers gives %g, zero up-projections give %g", methods[i], n,
                             (double)plain[j], (double)other[j]);
            adapter_free(fixed, &dev);
            adapter_free(zero, &dev);
        }
        adapter_free(a, &dev);
    }
}

static void test_nothing_but_head(void **state)
{
    adapter *a = make("bottleneck", "0", 3), *head;
    float plain[BATCH * CLASSES], other[BATCH * CLASSES];
    options *o;
    inlay_error err;

    (void)state;
    ASSERT_OK(adapter_settings(&o, "linear", &err));
    ASSERT_OK(adapter_new(&head, "linear", o, b, CLASSES, NULL, &err));
    ASSERT_OK(adapter_initialise(head, &dev, 1, &err));
    copy_values(head, a);
    answer(a, DEPTH, PRECISION_F32, plain);
    answer(head, 0, PRECISION_F32, other);
    assert_memory_equal(plain, other, sizeof plain);
    adapter_free(a, &dev);
    adapter_free(head, &dev);
}

/* Nothing below the first adapter has a gradient, and what is trained is (L - n) times an adapter. */
static void test_no_gradient_below(void **state)
{
    (void)state;
    for (int n = 0; n <= DEPTH; n++) {
        char drop[12];
        adapter *a;
        model m;
        program *p;
        param *with_gradient[64];
        inlay_error err;
        int bn = 2 * 32 * 4 + 4 + 32, count;
        snprintf(drop, sizeof drop, "%d", n);
        a = make("bottleneck", drop, 3);
        assert_int_equal(adapter_trained_total(a, false), (DEPTH - n) * bn);
        model_request request = {
            .dev = &dev, .b = b, .a = a, .pixel_type = DTYPE_U8, .training = true, .drop_path = 0.1};
        ASSERT_OK(model_build(&m, &request, &err));
        program_request plan = {
            .dev = &dev, .max_batch = BATCH, .backward = true, .wanted = &m.loss, .wanted_count = 1};
        ASSERT_OK(program_new(&p, m.g, &plan, &err));
        count = program_params(p, with_gradient, 64);
        assert_int_equal(count, 4 * (DEPTH - n) + 2);
        for (int layer = 0; layer < DEPTH; layer++) {
            assert_int_equal(m.g->values[m.blocks[layer]].needs_grad, layer >= n);
            if (layer < n)
                assert_null(program_grad(p, m.blocks[layer], BATCH).data);
        }
        program_free(p);
        model_free(&m);
        adapter_free(a, &dev);
    }
}

/* ---- several tasks ---- */

static double flops_until(const model_request *request, int block)
{
    model m;
    program *p;
    inlay_error err;
    double flops;

    ASSERT_OK(model_build(&m, request, &err));
    program_request plan = {
        .dev = &dev, .max_batch = BATCH, .wanted = block < DEPTH ? &m.blocks[block] : &m.logits, .wanted_count = 1};
    if (block > DEPTH) {
        plan.wanted = m.task_logits;
        plan.wanted_count = m.task_count;
    }
    ASSERT_OK(program_new(&p, m.g, &plan, &err));
    flops = program_flops(p, false);
    program_free(p);
    model_free(&m);
    return flops;
}

/* T tasks that share n layers cost (n + T (L - n)) / L of T passes' blocks, and T heads. An adapter behind a block
 * leaves that block itself to all tasks, so n layers without adapters are n + 1 shared blocks. */
static void test_tasks_cost(void **state)
{
    const adapter *tasks[4];

    (void)state;
    for (int t = 0; t < 4; t++)
        tasks[t] = make("bottleneck", "0", 20 + (uint32_t)t);
    model_request bare = {.dev = &dev,
                          .b = b,
                          .a = tasks[0],
                          .pixel_type = DTYPE_U8,
                          .keep_blocks = true,
                          .skip_layers = DEPTH},
                  with = bare;
    with.skip_layers = 0;
    double block = flops_until(&bare, 1) - flops_until(&bare, 0), embedding = flops_until(&bare, 0) - block,
           head = flops_until(&bare, DEPTH) - flops_until(&bare, DEPTH - 1);
    double function = flops_until(&with, 1) - flops_until(&with, 0) - block;
    assert_true(block > 0 && head > 0 && function > 0);
    for (int count = 2; count <= 4; count++)
        for (int n = 0; n <= DEPTH; n++) {
            model_request request = {.dev = &dev,
                                     .b = b,
                                     .tasks = tasks,
                                     .task_count = count,
                                     .pixel_type = DTYPE_U8,
                                     .keep_blocks = true,
                                     .skip_layers = n};
            int shared = n < DEPTH ? n + 1 : DEPTH;
            double blocks = shared + count * (DEPTH - shared), functions = count * (DEPTH - n);
            double expected = embedding + blocks * block + functions * function + count * head;
            double found = flops_until(&request, DEPTH + 1);
            if (fabs(found - expected) > 1e-6 * expected)
                fail_msg("%d tasks, %d layers skipped: %.0f operations, expected %.0f", count, n, found, expected);
        }
    for (int t = 0; t < 4; t++)
        adapter_free((adapter *)(uintptr_t)tasks[t], &dev);
}

/* Each task answers as it does alone, bit for bit - also where one of them reads what others share as it is, and they
 * take it rounded. */
static void tasks_answer(const adapter *const *tasks, int count, int skip, precision prec)
{
    model_request request = {.dev = &dev,
                             .b = b,
                             .tasks = tasks,
                             .task_count = count,
                             .prec = prec,
                             .pixel_type = DTYPE_U8,
                             .skip_layers = skip};
    predictor p;
    inlay_error err;

    ASSERT_OK(predictor_open(&p, &request, BATCH, &err));
    memcpy(predictor_pixels(&p), pixels, sizeof pixels);
    predictor_forward(&p, BATCH);
    for (int t = 0; t < count; t++) {
        float together[BATCH * CLASSES], alone[BATCH * CLASSES];
        assert_int_equal(predictor_classes(&p, t), CLASSES);
        predictor_logits(&p, t, BATCH, together);
        answer(tasks[t], skip, prec, alone);
        if (memcmp(together, alone, sizeof alone) != 0)
            fail_msg("task %d in %s with %d layers skipped answers otherwise than alone", t, precision_name(prec),
                     skip);
    }
    predictor_close(&p);
}

static void test_tasks_answers(void **state)
{
    const adapter *tasks[] = {make("bottleneck", "1", 30), make("houlsby", "0", 31), make("lora", "2", 32),
                              make("lora targets=fc2", "0", 33)};

    (void)state;
    for (int prec = PRECISION_F32; prec <= PRECISION_INT8; prec++)
        for (int skip = 0; skip <= DEPTH; skip++)
            tasks_answer(tasks, 4, skip, (precision)prec);
    for (int t = 0; t < 4; t++)
        adapter_free((adapter *)(uintptr_t)tasks[t], &dev);
}

/* ---- sessions ---- */

static void test_session_refuses(void **state)
{
    static const char *const made[] = {"vpt", "bitfit", "bottleneck"};
    char path[3][300];
    session_request q = {.backbone = VIT, .threads = 1, .precision = "f32", .skip_layers = 1};
    session s;
    inlay_error err;

    (void)state;
    for (int i = 0; i < 3; i++) {
        options *o;
        adapter *a;
        snprintf(path[i], sizeof path[i], "%s/%s", folder, made[i]);
        ASSERT_OK(adapter_settings(&o, made[i], &err));
        ASSERT_OK(adapter_new(&a, made[i], o, b, CLASSES, NULL, &err));
        ASSERT_OK(adapter_initialise(a, &dev, 1, &err));
        ASSERT_OK(adapter_save(a, &dev, path[i], NULL, NULL, &err));
        adapter_free(a, &dev);
    }
    for (int i = 0; i < 2; i++) {
        q.adapter = path[i];
        assert_int_equal(session_open(&s, &q, &err), INLAY_ERR_USAGE);
        assert_non_null(strstr(err.message, "cannot be skipped"));
        assert_non_null(strstr(err.message, made[i]));
    }
    q.adapter = path[2];
    q.skip_layers = DEPTH;
    ASSERT_OK(session_open(&s, &q, &err));
    session_close(&s);
    q.skip_layers = DEPTH + 1;
    assert_int_equal(session_open(&s, &q, &err), INLAY_ERR_USAGE);
    assert_non_null(strstr(err.message, "has 3 layers, 4 cannot be skipped"));
    q.adapter = NULL;
    q.skip_layers = 1;
    assert_int_equal(session_open(&s, &q, &err), INLAY_ERR_USAGE);
    assert_non_null(strstr(err.message, "there is no adapter"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_skipped),           cmocka_unit_test(test_nothing_but_head),
        cmocka_unit_test(test_no_gradient_below), cmocka_unit_test(test_tasks_cost),
        cmocka_unit_test(test_tasks_answers),     cmocka_unit_test(test_session_refuses),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
