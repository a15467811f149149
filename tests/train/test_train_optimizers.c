/* Whole runs under other optimisers and schedules than Adapter+'s: the same bits with any number of threads and after
 * interruptions and kills, errors for what is not finite. And clipping, the schedules and the table of recipes. */
#include "runs.h"

#include <math.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>

#include "train/recipe.h"

static const setup runs[] = {
    {"adapter_plus", "rank=4", 2, 2, 0, .optimizer = OPTIMIZER_SGD, .momentum = 0.9, .lr = 0.1},
    {"adamix", "rank=4", 2, 2, 0, .optimizer = OPTIMIZER_SGD, .momentum = 0.9, .clip_norm = 0.5, .by_step = true},
    {"mosa", "rank=4 experts=3", 2, 2, 0, .clip_norm = 0.5, .by_step = true},
    {"adapter_plus", "rank=4 drop_layers=random", 2, 2, 0, .clip_norm = 0.2, .by_step = true},
};

enum { RUNS = sizeof runs / sizeof *runs };

static void test_same_bits(void **state)
{
    (void)state;
    for (int i = 0; i < RUNS; i++) {
        char whole[32], other[32];
        snprintf(whole, sizeof whole, "whole%d", i);
        run_to_end(whole, runs[i]);
        for (int threads = 1; threads <= 3; threads += 2) {
            setup s = runs[i];
            s.threads = threads;
            snprintf(other, sizeof other, "threads%d-%d", i, threads);
            run_to_end(other, s);
            same_bytes(whole, other, "adapter.safetensors");
        }
    }
}

/* After the first step, within an epoch, at its end, and before the last step. */
static void test_resume(void **state)
{
    static const int stops[] = {1, 7, 10, 19};

    (void)state;
    for (int i = 0; i < RUNS; i++)
        for (size_t k = 0; k < sizeof stops / sizeof *stops; k++) {
            setup s = runs[i];
            char whole[32], name[32];
            snprintf(whole, sizeof whole, "whole%d", i);
            snprintf(name, sizeof name, "stopped%d-%d", i, stops[k]);
            s.stop_after = stops[k];
            run_and_stop(name, s);
            s.stop_after = 0;
            s.resume = true;
            s.threads = 1;
            run_to_end(name, s);
            same_bytes(whole, name, "adapter.safetensors");
            same_bytes(whole, name, "adapter.json");
        }
}

static void test_killed(void **state)
{
    static const int steps[] = {1, 6, 10, 17};

    (void)state;
    for (int trial = 0; trial < 4; trial++) {
        char name[64];
        setup s = runs[trial % 2];
        snprintf(name, sizeof name, "killed%d", trial);
        run_and_kill(name, s, steps[trial]);
        s.resume = true;
        run_to_end(name, s);
        same_bytes(trial % 2 ? "whole1" : "whole0", name, "adapter.safetensors");
    }
}

/* A gradient that a step did not touch may be an old one: it has no part in the norm. */
static void test_clip_untouched(void **state)
{
    inlay_error err;
    device d;
    backbone *b;
    adapter *a;
    options *o;
    float values[5 * 32];

    (void)state;
    ASSERT_OK(device_open(&d, NULL, 2, &err));
    ASSERT_OK(backbone_open(&b, backbone_path, 0, &err));
    ASSERT_OK(adapter_settings(&o, "linear", &err));
    ASSERT_OK(adapter_new(&a, "linear", o, b, 5, NULL, &err));
    ASSERT_OK(adapter_initialise(a, &d, 1, &err));
    for (int touched = 0; touched < 2; touched++) {
        const optimizer_settings set = {.kind = OPTIMIZER_SGD, .clip_norm = 1};
        optimizer update;
        float zero[5 * 32] = {0}, bias[5] = {0, 2, 0, 0, 0}, found[5];
        for (int i = 0; i < 5 * 32; i++)
            values[i] = 1e6F;
        param_set(a->head_bias, &d, zero);
        device_set_f32(&d, a->head_weight->grad, values, a->head_weight->count);
        device_set_f32(&d, a->head_bias->grad, bias, 5);
        param_set_touched(a->head_weight, touched);
        param_set_touched(a->head_bias, true);
        ASSERT_OK(optimizer_open(&update, &set, &(schedule){.lr = 1}, a, &d, &err));
        optimizer_step(&update, 1);
        optimizer_close(&update);
        param_get(a->head_bias, &d, found);
        if (touched)
            assert_true(fabsf(found[1]) < 1e-6F);
        else
            assert_true(fabsf(found[1] + 1) < 1e-5F); /* of length 2, clipped to 1 */
    }
    adapter_free(a, &d);
    backbone_close(b);
    device_close(&d);
}

/* Behind the last step's loss, as an update that overflows would. */
static void spoil_last(void)
{
    const float spoilt[CLASSES] = {0, NAN, INFINITY};

    if (steps_left == 1)
        param_set(running->head_bias, running_on, spoilt);
}

/* Without a check at the end, such a run would end well. */
static void test_last_step_not_finite(void **state)
{
    char data[300], output[300];
    setup s = {.method = "linear", .threads = 2, .workers = 2, .stop_after = EPOCHS * (CLASSES * PER_CLASS / 4) + 1};
    train_result result;
    inlay_error err;

    (void)state;
    path_of(data, "data");
    path_of(output, "spoilt-last");
    when_asked = spoil_last;
    assert_int_equal(train_once(data, output, s, &result, &err), INLAY_ERR_INTERNAL);
    when_asked = NULL;
    assert_string_equal(err.message, "after epoch 4, tensor 'head.bias' has a value that is not finite: "
                                     "a lower --lr may help");
    train_result_free(&result);
    strcat(output, "/adapter.safetensors");
    assert_false(file_exists(output));
}

static void test_not_finite(void **state)
{
    static const double rates[] = {1e30, 1e39};

    (void)state;
    for (size_t i = 0; i < sizeof rates / sizeof *rates; i++) {
        char data[300], output[300], name[32];
        setup s = {"linear", NULL, 2, 2, 0, .optimizer = OPTIMIZER_SGD, .momentum = 0.9, .lr = rates[i]};
        train_result result;
        inlay_error err;
        snprintf(name, sizeof name, "spoilt%zu", i);
        path_of(data, "data");
        path_of(output, name);
        assert_int_not_equal(train_once(data, output, s, &result, &err), INLAY_OK);
        assert_non_null(strstr(err.message, "not finite"));
        assert_non_null(strstr(err.message, "lr"));
        train_result_free(&result);
        path_of(output, name);
        strcat(output, "/adapter.safetensors");
        assert_false(file_exists(output));
    }
}

/* ---- schedules ---- */

static void test_schedules(void **state)
{
    schedule s = {.lr = 1, .start = 0, .end = 0.2, .warmup = 4, .epochs = 12, .peak_behind = true};

    (void)state;
    assert_true(schedule_lr(&s, 0) == 0 && schedule_lr(&s, 2) == 0.5 && schedule_lr(&s, 4) == 1);
    assert_true(fabs(schedule_lr(&s, 8) - 0.6) < 1e-12);
    s.kind = SCHEDULE_LINEAR;
    assert_true(fabs(schedule_lr(&s, 6) - 0.8) < 1e-12);
    s.kind = SCHEDULE_CONSTANT;
    assert_true(schedule_lr(&s, 4) == 1 && schedule_lr(&s, 11) == 1);
    s.kind = SCHEDULE_LINEAR;
    s.from_first = true;
    assert_true(fabs(schedule_lr(&s, 6) - 0.6) < 1e-12);
    s.by_step = true;
    s = schedule_resolved(&s, 5);
    assert_true(s.warmup == 20 && s.epochs == 60);
    s = (schedule){.lr = 1, .epochs = 7, .warmup_share = 0.06, .by_step = true};
    assert_true(schedule_resolved(&s, 10).warmup == 5); /* 4.2, rounded up */
    s = (schedule){.lr = 0, .epochs = 7};
    assert_true(schedule_factor(&s, 0) == 0);
    s.lr = 0.5;
    assert_true(schedule_factor(&s, 0.25) == 0.5);
}

/* ---- recipes ---- */

typedef struct looked {
    const char *option;
    bool found;
} looked;

static void look(void *context, const char *option, const char *text, const char *who)
{
    looked *l = context;

    (void)who;
    assert_true(*text);
    l->found |= strcmp(option, l->option) == 0;
}

/* What a row names must be known to the first one: it would be left out otherwise. */
static void expect_known(const char *list)
{
    char option[96];
    const char *text;

    while (options_next_pair(&list, option, sizeof option, &text)) {
        looked l = {option, false};
        recipe_each(recipe_table, look, &l);
        if (!l.found)
            fail_msg("'%s' is not an option of the first recipe", option);
    }
}

static void test_recipes(void **state)
{
    (void)state;
    for (const recipe *r = recipe_table; r->name; r++) {
        assert_true(recipe_find(r->name) == r); /* no name twice */
        assert_true(*r->source);
        expect_known(r->theirs);
        expect_known(r->ours);
    }
    for (int i = 0; method_table[i]; i++)
        if (!recipe_of(method_table[i]->name))
            fail_msg("%s: its recipe '%s' is no row of the table", method_table[i]->name, method_table[i]->recipe);
    for (const preset *p = preset_table; p->name; p++)
        assert_non_null(recipe_of(p->name));
    assert_string_equal(recipe_of("adapter_plus")->name, "adapter_plus");
    assert_string_equal(recipe_of("bottleneck")->name, "adapter_plus");
    assert_string_equal(recipe_of("adaptformer")->name, "adapter_plus_no_drop_path");
    assert_null(recipe_of("nothing"));
    assert_true(recipe_real(recipe_find("mosa"), "weight_decay") == 0.01);
    assert_true(recipe_real(recipe_find("mosa"), "beta2") == 0.999);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_bits),  cmocka_unit_test(test_resume),
        cmocka_unit_test(test_killed),     cmocka_unit_test(test_clip_untouched),
        cmocka_unit_test(test_not_finite), cmocka_unit_test(test_schedules),
        cmocka_unit_test(test_recipes),    cmocka_unit_test(test_last_step_not_finite),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
