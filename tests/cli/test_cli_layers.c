/* Layers, ranks and weights of the backbone on the command line: trained, saved, resumed, evaluated, refused. */
#include "cli/command.h"

#define TRAIN "train --backbone " VIT " --data data --quiet --threads 1 --epochs 2 --batch-size 9 "

static void expect_option(const char *run, const char *key, const char *wanted)
{
    json_t *saved = member_of_run(run, "options");
    const char *found = json_string_value(json_object_get(saved, key));

    if (!found || strcmp(found, wanted) != 0)
        fail_msg("%s: option '%s' is '%s', expected '%s'", run, key, found ? found : "absent", wanted);
    json_decref(saved);
}

static void test_trained(void **state)
{
    (void)state;
    expect(inlay(TRAIN "--layers 0,2 --ranks 2:3 --output some"), 0);
    expect_option("some", "layers", "0,2");
    expect_option("some", "ranks", "2:3");
    expect(inlay("eval --backbone " VIT " --adapter some --data data --quiet"), 0);
    expect(inlay(TRAIN "--method mosl --rank 4 --layers 1-2 --output mosl"), 0);
    expect_option("mosl", "layers", "1-2");
    expect(inlay("fold --backbone " VIT " --adapter mosl --output folded"), 0);
    expect(inlay("eval --backbone folded --data data --quiet"), 0);
    expect(inlay(TRAIN "--method houlsby --unfreeze norm --output norms"), 0);
    expect_option("norms", "unfreeze", "norm");
    expect(inlay("predict --backbone " VIT " --adapter norms data/test/class1"), 0);
    expect_error(inlay("eval --backbone " VIT " --adapter norms --data data --skip-layers 0,1"), 2,
                 "cannot be skipped");
}

static void test_resume_compares(void **state)
{
    (void)state;
    expect(inlay(TRAIN "--layers 1 --output one"), 0);
    expect_error(inlay(TRAIN "--layers 2 --output one --resume"), 1, "layers");
}

static void test_refused(void **state)
{
    (void)state;
    expect_error(inlay(TRAIN "--layers 0,3 --output x"), 2, "layers: expected layers from 0 to 2");
    expect_error(inlay(TRAIN "--layers 1,1 --output x"), 2, "layer 1 is named twice");
    expect_error(inlay(TRAIN "--ranks 4 --output x"), 2, "ranks: expected layers and their ranks");
    expect_error(inlay(TRAIN "--drop-layers random:2 --output x"), 2, "drop_layers: expected");
    expect_error(inlay(TRAIN "--method linear --layers 1 --output x"), 2, "layers");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_trained),
        cmocka_unit_test(test_resume_compares),
        cmocka_unit_test(test_refused),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
