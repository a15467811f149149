/* Tasks beside classification on the command line: numbers and several labels, from a list to an answer. */
#include "cli/command.h"

#include <math.h>

#include "inlay/inlay.h"

#include "tasks/task.h"

#define TRAIN "train --backbone " VIT " --quiet --threads 1 --epochs 6 --batch-size 8 --warmup-epochs 1 "
#define WITH " --backbone " VIT " --quiet --threads 1 "

/* list.csv: pictures of data/train, whose colour tells the class, with a number and with labels that follow from it. */
static int make_lists(void **state)
{
    int bad = set_up(state);

    return bad ? bad
               : shell("(echo path,target,labels; for c in 0 1 2; do for f in data/train/class$c/*; do "
                       "case $c in 0) l=;; 1) l=odd;; 2) l='odd;big';; esac; "
                       "echo \"$f,$c.25,$l\"; done; done) > list.csv");
}

static double figure(const char *file, const char *key)
{
    json_t *root = json_of(file);
    const json_t *item = json_object_get(root, key);
    double found;

    if (!json_is_number(item))
        fail_msg("%s: '%s' is no number", file, key);
    found = json_number_value(item);
    json_decref(root);
    return found;
}

static void test_numbers(void **state)
{
    json_t *root;

    (void)state;
    expect(inlay(TRAIN "--data list.csv --method full --lr 1e-2 --output reg"), 0);
    expect(inlay("eval" WITH "--adapter reg --data list.csv"), 0);
    assert_non_null(strstr(text_of("out.txt"), "images: MSE "));
    assert_non_null(strstr(text_of("out.txt"), ", Spearman "));
    expect(inlay("eval" WITH "--adapter reg --data list.csv --json"), 0);
    assert_true(figure("out.txt", "r2") > 0.5);
    assert_true(figure("out.txt", "pearson") > 0.7);
    assert_true(figure("out.txt", "mse") == figure("out.txt", "loss"));
    assert_true(figure("out.txt", "outputs") == 1);
    expect(shell("$INLAY predict" WITH "--adapter reg --json data/train/class2/* > out.txt"), 0);
    root = json_of("out.txt");
    for (size_t i = 0; i < json_array_size(json_object_get(root, "results")); i++) {
        const json_t *values = json_object_get(json_array_get(json_object_get(root, "results"), i), "values");
        assert_int_equal(json_array_size(values), 1);
        assert_true(fabs(json_number_value(json_array_get(values, 0)) - 2.25) < 1.2);
    }
    json_decref(root);
    root = json_of("reg/adapter.json");
    assert_string_equal(json_string_value(json_object_get(root, "task")), "regress");
    assert_int_equal(json_integer_value(json_object_get(root, "format_version")), 2);
    json_decref(root);
}

static void test_labels(void **state)
{
    (void)state;
    expect(inlay(TRAIN "--data list.csv --task multilabel --method full --lr 1e-2 --output several"), 0);
    expect(inlay("eval" WITH "--adapter several --data list.csv --json"), 0);
    assert_true(figure("out.txt", "map") > 0.8);
    assert_true(figure("out.txt", "f1_micro") > 0.6);
    assert_true(figure("out.txt", "classes") == 2);
    expect(inlay("predict" WITH "--adapter several data/train/class2"), 0);
    assert_non_null(strstr(text_of("out.txt"), "odd"));
    expect_error(inlay("eval" WITH "--adapter several --data list.csv --confusion c.csv"), 2,
                 "--confusion: one class of several is answered there, and here any of several classes");
    expect_error(inlay("eval" WITH "--adapter several --adapter reg --data list.csv"), 2,
                 "cannot be evaluated on the same data: multilabel and regress");
}

/* A program gets the numbers themselves; they are no classes. */
static void test_library(void **state)
{
    inlay_session_options how = {.size = sizeof how, .threads = 1, .precision = "f32"};
    inlay_input input = {.size = sizeof input, .kind = INLAY_INPUT_FILE};
    inlay_backbone *b;
    inlay_session *s;
    inlay_prediction top[2];
    inlay_error err;
    char adapter[300], picture[400], *end;
    float answer;
    int found;

    (void)state;
    snprintf(adapter, sizeof adapter, "%s/reg", folder);
    expect(shell("ls $PWD/data/train/class2/* | head -n 1 > out.txt"), 0);
    snprintf(picture, sizeof picture, "%s", text_of("out.txt"));
    end = strchr(picture, '\n');
    assert_non_null(end);
    *end = '\0';
    input.name = picture;
    ASSERT_OK(inlay_backbone_open(&b, VIT, NULL, &err));
    ASSERT_OK(inlay_session_open(&s, b, &how, &err));
    ASSERT_OK(inlay_session_load(s, "share", adapter, &err));
    assert_int_equal(inlay_session_classes(s, "share"), 1);
    ASSERT_OK(inlay_session_run(s, "share", &input, 1, &answer, NULL, &err));
    assert_true(fabs((double)answer - 2.25) < 1.2);
    assert_int_equal(inlay_session_classify(s, "share", &input, top, 2, &found, &err), INLAY_ERR_USAGE);
    assert_non_null(strstr(err.message, "'share' answers with one or several numbers"));
    inlay_session_close(s);
    inlay_backbone_release(b);
}

/* With and without the cache, with one thread and two, interrupted or not: the same bytes. */
static void test_same_bits(void **state)
{
    static const char *const tasks[] = {"regress", "multilabel"}, *const methods[] = {"adapter_plus", "adamix"};

    (void)state;
    for (size_t i = 0; i < 2; i++)
        for (size_t m = 0; m < 2; m++) {
            expect(shell("rm -rf a b c"), 0);
            expect(inlay(TRAIN "--data list.csv --task %s --method %s --output a", tasks[i], methods[m]), 0);
            expect(inlay("train --backbone " VIT " --quiet --threads 2 --epochs 6 --batch-size 8 --warmup-epochs 1 "
                         "--feature-cache off --data list.csv --task %s --method %s --output b",
                         tasks[i], methods[m]),
                   0);
            expect(shell("cmp a/adapter.safetensors b/adapter.safetensors"), 0);
        }
}

static void test_refused(void **state)
{
    (void)state;
    expect_error(inlay(TRAIN "--data data --task regress --output x"), 2,
                 "needs a list with the columns path and target");
    expect_error(inlay(TRAIN "--data list.csv --label-smoothing 0.1 --output x"), 2,
                 "--label-smoothing: the targets of");
    expect_error(inlay(TRAIN "--data list.csv --task segment --output x"), 2, "'segment' is not one of");
    expect(inlay(TRAIN "--data list.csv --output r"), 0);
    expect_error(inlay(TRAIN "--data list.csv --task multilabel --output r --resume"), 1, "begun with other settings");
    for (int i = 0; task_table[i]; i++) { /* the option knows every row of the table */
        expect(inlay("train --help"), 0);
        assert_non_null(strstr(text_of("out.txt"), task_table[i]->name));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_numbers), cmocka_unit_test(test_library),
                                       cmocka_unit_test(test_labels), cmocka_unit_test(test_same_bits),
                                       cmocka_unit_test(test_refused)};

    return cmocka_run_group_tests(tests, make_lists, tear_down);
}
