/* The training loop: what must not change a bit of the result - cache, threads, interruption - and what it leaves
 * behind. */
#include "train/runs.h"

#include <signal.h>
#include <sys/wait.h>
#include <time.h>

#include "train/checkpoint.h"

static const setup plain = {.method = "adapter_plus", .threads = 2, .workers = 2, .cache = CACHE_AUTO};

static void test_same_bits(void **state)
{
    setup s = plain;

    (void)state;
    run_to_end("plain", plain);
    s.cache = CACHE_OFF;
    run_to_end("uncached", s);
    same_bytes("plain", "uncached", "adapter.safetensors");
    s = plain;
    s.threads = 1;
    s.workers = 1;
    run_to_end("one", s);
    same_bytes("plain", "one", "adapter.safetensors");
    same_bytes("plain", "one", "adapter.json");
    s.threads = 3;
    s.workers = 3;
    run_to_end("three", s);
    same_bytes("plain", "three", "adapter.safetensors");
}

/* Stopped after any step and resumed, also several times. */
static void test_resume(void **state)
{
    (void)state;
    for (int mode = 0; mode < 3; mode++) {
        setup s = plain;
        char name[64], whole[64];
        s.cache = mode == 0 ? CACHE_AUTO : CACHE_OFF;
        s.augment = mode == 2;
        snprintf(whole, sizeof whole, "whole%d", mode);
        run_to_end(whole, s);
        for (int stop = 1; stop < 20; stop += 4) {
            snprintf(name, sizeof name, "stopped%d-%d", mode, stop);
            s.resume = false;
            s.stop_after = stop;
            run_and_stop(name, s);
            s.resume = true;
            if (stop < 10) {
                s.stop_after = 5;
                run_and_stop(name, s);
            }
            s.stop_after = 0;
            run_to_end(name, s);
            same_bytes(whole, name, "adapter.safetensors");
            same_bytes(whole, name, "adapter.json");
        }
    }
}

/* Killed in the first epoch and in later ones, in the middle and at the end. */
static void test_killed(void **state)
{
    static const int steps[] = {1, 2, 4, 5, 7, 9};

    (void)state;
    run_to_end("unharmed", plain);
    for (size_t trial = 0; trial < sizeof steps / sizeof *steps; trial++) {
        char name[64];
        setup s = plain;
        snprintf(name, sizeof name, "killed%zu", trial);
        run_and_kill(name, s, steps[trial]);
        s.resume = true;
        run_to_end(name, s);
        same_bytes("unharmed", name, "adapter.safetensors");
    }
}

/* Robust training (AdapterDrop): every step drops a number of layers that it draws. */
static void test_dropped_layers(void **state)
{
    setup s = plain;

    (void)state;
    s.settings = "drop_layers=random";
    s.threads = s.workers = 1;
    run_to_end("robust", s);
    s.threads = s.workers = 2;
    run_to_end("robust2", s);
    same_bytes("robust", "robust2", "adapter.safetensors");
    for (int stop = 1; stop < 12; stop += 5) {
        char name[64];
        snprintf(name, sizeof name, "robust-stopped%d", stop);
        s.stop_after = stop;
        s.resume = false;
        run_and_stop(name, s);
        s.stop_after = 0;
        s.resume = true;
        run_to_end(name, s);
        same_bytes("robust", name, "adapter.safetensors");
    }
}

static void test_methods_resume(void **state)
{
    static const char *const methods[] = {"lora", "vpt", "ssf", "bitfit", "full", "linear", "houlsby"};

    (void)state;
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++) {
        setup s = plain;
        char name[64], whole[64];
        s.method = methods[i];
        snprintf(whole, sizeof whole, "whole-%s", methods[i]);
        snprintf(name, sizeof name, "stopped-%s", methods[i]);
        run_to_end(whole, s);
        s.stop_after = 7;
        run_and_stop(name, s);
        s.stop_after = 0;
        s.resume = true;
        s.threads = 1;
        run_to_end(name, s);
        same_bytes(whole, name, "adapter.safetensors");
    }
}

/* With int8 weights all of that holds as well. */
static void test_int8(void **state)
{
    setup s = plain;

    (void)state;
    s.prec = PRECISION_INT8;
    run_to_end("int8", s);
    s.cache = CACHE_OFF;
    s.threads = 1;
    run_to_end("int8-one", s);
    same_bytes("int8", "int8-one", "adapter.safetensors");
    s.threads = 3;
    run_to_end("int8-three", s);
    same_bytes("int8", "int8-three", "adapter.safetensors");
    s.stop_after = 6;
    run_and_stop("int8-stopped", s);
    s.stop_after = 0;
    s.resume = true;
    run_to_end("int8-stopped", s);
    same_bytes("int8", "int8-stopped", "adapter.safetensors");
}

static void test_learns(void **state)
{
    char data[300], output[300];
    train_result result;
    inlay_error err;

    (void)state;
    path_of(data, "data");
    path_of(output, "learns");
    ASSERT_OK(train_once(data, output, plain, &result, &err));
    assert_true(result.eval.values[0] > 0.9); /* the colour tells the class */
    train_result_free(&result);
}

static void test_bad_images(void **state)
{
    char data[300], output[300], path[400];
    train_result result;
    inlay_error err;

    (void)state;
    path_of(data, "broken");
    support_images(data, "train", CLASSES, PER_CLASS, 40);
    support_images(data, "val", CLASSES, 2, 40);
    snprintf(path, sizeof path, "%s/train/class1/03.ppm", data);
    ASSERT_OK(file_write(path, "P6 40 40 255 truncated", 22, &err));
    for (int cached = 0; cached < 2; cached++) {
        setup s = plain;
        s.cache = cached ? CACHE_AUTO : CACHE_OFF;
        path_of(output, cached ? "broken-cached" : "broken-uncached");
        ASSERT_OK(train_once(data, output, s, &result, &err));
        assert_int_equal(result.bad_count, 1);
        assert_non_null(strstr(result.bad[0], "03.ppm"));
        train_result_free(&result);
    }
    same_bytes("broken-cached", "broken-uncached", "adapter.safetensors");
}

static void test_other_settings(void **state)
{
    setup s = plain;
    char checkpoint[300];
    train_state where;
    inlay_error err;
    backbone *b;
    adapter *a;
    options *o;
    optimizer update;
    device d;

    (void)state;
    s.stop_after = 3;
    run_and_stop("other", s);
    path_of(checkpoint, "other/checkpoint.safetensors");
    ASSERT_OK(device_open(&d, NULL, 1, &err));
    ASSERT_OK(backbone_open(&b, backbone_path, 0, &err));
    ASSERT_OK(adapter_settings(&o, "adapter_plus", &err));
    ASSERT_OK(adapter_new(&a, "adapter_plus", o, b, CLASSES, NULL, &err));
    ASSERT_OK(adapter_initialise(a, &d, 5, &err));
    ASSERT_OK(optimizer_open(&update, &(optimizer_settings){0}, &(schedule){.lr = 1}, a, &d, &err));
    assert_int_equal(checkpoint_load(checkpoint, &update, &where, &(train_extent){EPOCHS, CLASSES * PER_CLASS, 4},
                                     "{\"seed\": 6}", NULL, &err),
                     INLAY_ERR_MISMATCH);
    assert_non_null(strstr(err.message, "'seed' was 5, now 6"));
    optimizer_close(&update);
    adapter_free(a, &d);
    backbone_close(b);
    device_close(&d);
}

static void test_schedule(void **state)
{
    schedule s = {.lr = 1e-3, .start = 1e-5, .end = 1e-6, .warmup = 10, .epochs = 100};

    (void)state;
    assert_true(schedule_lr(&s, 0) == 1e-5);
    assert_true(schedule_lr(&s, 9) > 0.999e-3 && schedule_lr(&s, 9) < 1.001e-3);
    assert_true(schedule_lr(&s, 10) == 1e-3);
    s.repeat_first = true;
    assert_true(schedule_lr(&s, 0) == 1e-5 && schedule_lr(&s, 1) == 1e-5);
    assert_true(schedule_lr(&s, 11) == 1e-3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_schedule),       cmocka_unit_test(test_same_bits),
        cmocka_unit_test(test_resume),         cmocka_unit_test(test_killed),
        cmocka_unit_test(test_dropped_layers), cmocka_unit_test(test_methods_resume),
        cmocka_unit_test(test_int8),           cmocka_unit_test(test_learns),
        cmocka_unit_test(test_bad_images),     cmocka_unit_test(test_other_settings),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
