/* Lists with targets that are no class: which task a header means, numbers, several labels, what is refused. */
#include "support.h"

#include "data/dataset.h"

static char folder[64];

static int set_up(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "%s", support_folder());
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    support_remove(folder);
    return 0;
}

static const char *put(const char *text)
{
    static char path[200];
    inlay_error err;

    snprintf(path, sizeof path, "%s/list.csv", folder);
    ASSERT_OK(file_write(path, text, strlen(text), &err));
    return path;
}

static dataset *open_list(const char *text, dataset_request request)
{
    inlay_error err;
    dataset *d;

    request.path = put(text);
    ASSERT_OK(dataset_open(&d, &request, &err));
    return d;
}

static void refuse(const char *text, dataset_request request, inlay_status wanted, const char *part)
{
    inlay_error err;
    dataset *d;

    request.path = put(text);
    assert_int_equal(dataset_open(&d, &request, &err), wanted);
    if (!strstr(err.message, part))
        fail_msg("'%s' is not in: %s", part, err.message);
}

static void expect_target(const dataset *d, const char *name, const float *right)
{
    for (int i = 0; i < d->count; i++)
        if (strcmp(path_base(d->samples[i].path), name) == 0) {
            float got[8];
            dataset_targets(d, &i, 1, got);
            assert_int_equal(task_target_bytes(d->task, d->outputs), (size_t)d->outputs * sizeof *got);
            assert_memory_equal(got, right, (size_t)d->outputs * sizeof *got);
            return;
        }
    fail_msg("there is no '%s'", name);
}

static void test_header_decides(void **state)
{
    static const struct {
        const char *text, *task;
        int outputs, classes;
    } rows[] = {
        {"path,label\na.png,1\nb.png,0\n", "classify", 2, 2},
        {"path,target\na.png,1.5\nb.png,-2e-1\n", "regress", 1, 0},
        {"target\tpath\n1;2;3\ta.png\n4;5;6\tb.png\n", "regress", 3, 0},
        {"path,labels\na.png,cat;dog\nb.png,\n", "multilabel", 2, 2},
        {"path,labels,target,label\na.png,x,3,one\nb.png,y,4,two\n", "classify", 2, 2},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        dataset *d = open_list(rows[i].text, (dataset_request){0});
        assert_string_equal(d->task->name, rows[i].task);
        assert_int_equal(d->outputs, rows[i].outputs);
        assert_int_equal(d->class_count, rows[i].classes);
        assert_int_equal(d->count, 2);
        dataset_free(d);
    }
}

static void test_task_overrides(void **state)
{
    const char *all = "path,labels,target,label\na.png,x;y,3,1\nb.png,y,4,0\n";
    dataset *d = open_list(all, (dataset_request){.task = task_find("regress")});

    (void)state;
    expect_target(d, "a.png", (const float[]){3});
    dataset_free(d);
    d = open_list(all, (dataset_request){.task = task_find("multilabel")});
    expect_target(d, "a.png", (const float[]){1, 1});
    expect_target(d, "b.png", (const float[]){0, 1});
    dataset_free(d);
    /* the column of another task, read in the way of the one that is asked for */
    d = open_list("path,label\na.png,3\nb.png,40\n", (dataset_request){.task = task_find("regress")});
    expect_target(d, "b.png", (const float[]){40});
    dataset_free(d);
    d = open_list("path,target\na.png,cat\nb.png,dog\n", (dataset_request){.task = task_find("classify")});
    assert_int_equal(d->class_count, 2);
    dataset_free(d);
}

static void test_labels(void **state)
{
    static const char *const given[] = {"zebra", "cat", "owl"};
    dataset *d =
        open_list("path,labels\na.png, cat ; sea lion\nb.png,dog\nc.png,\nd.png,cat;cat\n", (dataset_request){0});

    (void)state;
    assert_int_equal(d->class_count, 3);
    assert_string_equal(d->classes[0], "cat");
    assert_string_equal(d->classes[1], "dog");
    assert_string_equal(d->classes[2], "sea lion");
    expect_target(d, "a.png", (const float[]){1, 0, 1});
    expect_target(d, "b.png", (const float[]){0, 1, 0});
    expect_target(d, "c.png", (const float[]){0, 0, 0});
    expect_target(d, "d.png", (const float[]){1, 0, 0});
    dataset_free(d);
    d = open_list("path,labels\na.png,owl;zebra\n", (dataset_request){.classes = given, .class_count = 3});
    expect_target(d, "a.png", (const float[]){1, 0, 1});
    dataset_free(d);
    refuse("path,labels\na.png,owl\nb.png,owl;dog\n", (dataset_request){.classes = given, .class_count = 3},
           INLAY_ERR_MISMATCH, "line 3: the label 'dog' is none of the 3 classes");
    refuse("path,labels\na.png,owl;;dog\n", (dataset_request){0}, INLAY_ERR_FORMAT,
           "line 2: 'owl;;dog' has a label without a name");
    refuse("path,labels\na.png,\n", (dataset_request){0}, INLAY_ERR_FORMAT, "has no label in any line");
}

static void test_numbers(void **state)
{
    static const char *const bad[] = {"one", "nan", "inf", "0x10", "1e300", "1.5.2", "1,5", "1e", "--1"};
    dataset *d = open_list("path,target\na.png, -1.5e-1 ; 7 \nb.png,0;1\n", (dataset_request){0});

    (void)state;
    expect_target(d, "a.png", (const float[]){-0.15f, 7});
    dataset_free(d);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char text[100], part[100];
        snprintf(text, sizeof text, "path,target\na.png,1\nb.png,\"%s\"\n", bad[i]);
        snprintf(part, sizeof part, "line 3: the target '%s' is not a finite number", bad[i]);
        refuse(text, (dataset_request){0}, INLAY_ERR_FORMAT, part);
    }
    refuse("path,target\na.png,1;2\nb.png,1\n", (dataset_request){0}, INLAY_ERR_MISMATCH,
           "line 3: the target '1' has 1 numbers, 2 are expected");
    refuse("path,target\na.png,1;2\n", (dataset_request){.class_count = 1}, INLAY_ERR_MISMATCH,
           "line 2: the target '1;2' has 2 numbers, 1 are expected");
    refuse("path,target\na.png,\n", (dataset_request){0}, INLAY_ERR_FORMAT, "line 2: the field 'target' is empty");
    refuse("path,target\na.png,1;\n", (dataset_request){0}, INLAY_ERR_FORMAT, "is not a finite number");
    refuse("path,name\na.png,1\n", (dataset_request){0}, INLAY_ERR_FORMAT,
           "no column 'label' (or 'target', 'labels'), found path, name");
    refuse("path,name\na.png,1\n", (dataset_request){.task = task_find("regress")}, INLAY_ERR_FORMAT,
           "no column 'target', found path, name");
}

/* Class folders have classes; a share of a list without classes is drawn from all of it. */
static void test_folders_and_shares(void **state)
{
    char data[200], text[2000] = "path,target\n";
    dataset *train, *val;
    inlay_error err;

    (void)state;
    snprintf(data, sizeof data, "%s/data", folder);
    support_images(data, "train", 2, 2, 8);
    assert_int_equal(dataset_open(&train, &(dataset_request){.path = data, .task = task_find("regress")}, &err),
                     INLAY_ERR_USAGE);
    assert_non_null(strstr(err.message, "'regress' needs a list with the columns path and target"));
    for (int i = 0; i < 40; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text), "%02d.png,%d\n", i, i);
    train = open_list(text, (dataset_request){.split = "train", .val_split = 0.25, .seed = 3});
    val = open_list(text, (dataset_request){.split = "val", .val_split = 0.25, .seed = 3});
    assert_int_equal(train->count, 30);
    assert_int_equal(val->count, 10);
    for (int i = 0; i < val->count; i++) {
        float target;
        dataset_targets(val, &i, 1, &target);
        assert_int_equal((int)target, atoi(path_base(val->samples[i].path)));
        for (int j = 0; j < train->count; j++)
            assert_string_not_equal(train->samples[j].path, val->samples[i].path);
    }
    dataset_free(train);
    dataset_free(val);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_header_decides), cmocka_unit_test(test_task_overrides),
                                       cmocka_unit_test(test_labels), cmocka_unit_test(test_numbers),
                                       cmocka_unit_test(test_folders_and_shares)};

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
