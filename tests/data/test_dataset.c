/* Class folders, splits, shares and CSV lists; the images of these sets are empty files, a data set only knows their
 * names. */
#define _XOPEN_SOURCE 700 /* nftw */
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "data/csv.h"
#include "data/dataset.h"

static char root[64];

static int make_root(void **state)
{
    (void)state;
    strcpy(root, "/tmp/inlay-dataset-XXXXXX");
    return mkdtemp(root) ? 0 : -1;
}

static int remove_one(const char *path, const struct stat *info, int kind, struct FTW *where)
{
    (void)info;
    (void)kind;
    (void)where;
    return remove(path);
}

static int remove_root(void **state)
{
    (void)state;
    return nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* Writes root/name, with the folders that it needs. */
static void put(const char *name, const char *text)
{
    char path[300], *slash;
    inlay_error err;

    snprintf(path, sizeof path, "%s/%s", root, name);
    slash = strrchr(path, '/');
    *slash = '\0';
    assert_int_equal(file_make_folder(path, &err), INLAY_OK);
    *slash = '/';
    assert_int_equal(file_write(path, text, strlen(text), &err), INLAY_OK);
}

static dataset *open_set(const char *name, dataset_request request)
{
    char path[300];
    dataset *set;
    inlay_error err = {0};

    snprintf(path, sizeof path, "%s/%s", root, name);
    request.path = path;
    if (dataset_open(&set, &request, &err) != INLAY_OK)
        fail_msg("%s", err.message);
    return set;
}

static void assert_refused(const char *name, dataset_request request, inlay_status status, const char *words)
{
    char path[300];
    dataset *set;
    inlay_error err = {0};

    snprintf(path, sizeof path, "%s/%s", root, name);
    request.path = path;
    assert_int_equal(dataset_open(&set, &request, &err), status);
    assert_null(set);
    if (!strstr(err.message, words))
        fail_msg("'%s' does not say '%s'", err.message, words);
}

static void assert_sample(const dataset *set, int index, const char *end, int label)
{
    const char *path = set->samples[index].path;

    assert_true(index < set->count);
    if (strlen(path) < strlen(end) || strcmp(path + strlen(path) - strlen(end), end) != 0)
        fail_msg("sample %d is '%s', expected '...%s'", index, path, end);
    assert_int_equal(set->samples[index].label, label);
}

static void test_class_folders(void **state)
{
    dataset *set;

    (void)state;
    put("flat/cat/b.JPG", "");
    put("flat/cat/a.png", "");
    put("flat/cat/notes.txt", "");
    put("flat/cat/._a.png", "");
    put("flat/cat/deep/er/c.webp", "");
    put("flat/Ant/z.ppm", "");
    put("flat/.git/x.png", "");
    put("flat/bee10/1.bmp", "");
    put("flat/bee2/1.jpeg", "");
    set = open_set("flat", (dataset_request){.split = "train"});
    assert_int_equal(set->count, 6);
    assert_int_equal(set->class_count, 4);
    assert_string_equal(set->classes[0], "Ant");
    assert_string_equal(set->classes[1], "bee10");
    assert_string_equal(set->classes[2], "bee2");
    assert_string_equal(set->classes[3], "cat");
    assert_sample(set, 0, "/flat/Ant/z.ppm", 0);
    assert_sample(set, 3, "/cat/a.png", 3);
    assert_sample(set, 4, "/cat/b.JPG", 3);
    assert_sample(set, 5, "/cat/deep/er/c.webp", 3);
    assert_false(set->numeric_labels);
    dataset_free(set);
    set = open_set("flat/", (dataset_request){.natural_sort = true});
    assert_string_equal(set->classes[1], "bee2");
    assert_string_equal(set->classes[2], "bee10");
    assert_sample(set, 1, "flat/bee2/1.jpeg", 1);
    dataset_free(set);
}

/* The order that timm's natural_key gives. */
static void test_natural_order(void **state)
{
    static const char *const sorted[] = {"1",     "2", "010", "a",  "A1",     "a01b",    "a2",    "a2b3",
                                         "a2b10", "B", "c-1", "ca", "class9", "class10", "classb"};
    enum { COUNT = sizeof sorted / sizeof sorted[0] };
    dataset *set;

    (void)state;
    for (int i = 0; i < COUNT; i++) {
        char name[60];
        snprintf(name, sizeof name, "natural/%s/x.png", sorted[i]);
        put(name, "");
    }
    set = open_set("natural", (dataset_request){.natural_sort = true});
    assert_int_equal(set->class_count, COUNT);
    for (int i = 0; i < COUNT; i++)
        assert_string_equal(set->classes[i], sorted[i]);
    dataset_free(set);
}

static void test_splits(void **state)
{
    dataset *set;

    (void)state;
    put("split/train/b/1.png", "");
    put("split/train/c/1.png", "");
    put("split/train/c/2.png", "");
    put("split/validation/a/1.png", "");
    put("split/validation/c/0.png", "");
    set = open_set("split", (dataset_request){.split = "train"});
    assert_int_equal(set->class_count, 3); /* the union: class a keeps index 0 */
    assert_int_equal(set->count, 3);
    assert_sample(set, 0, "train/b/1.png", 1);
    dataset_free(set);
    set = open_set("split", (dataset_request){.split = "val"});
    assert_int_equal(set->count, 2);
    assert_sample(set, 0, "validation/a/1.png", 0);
    dataset_free(set);
    set = open_set("split", (dataset_request){.split = "train+valid"});
    assert_int_equal(set->count, 5);
    assert_sample(set, 2, "train/c/1.png", 2);
    assert_sample(set, 4, "validation/c/0.png", 2);
    dataset_free(set);
    assert_refused("split", (dataset_request){.split = "test"}, INLAY_ERR_USAGE,
                   "has no split 'test': found train, val");
    assert_refused("split", (dataset_request){.split = "train+test"}, INLAY_ERR_USAGE,
                   "has no split 'train+test': found train, val");
    assert_refused("split", (dataset_request){.split = "rest"}, INLAY_ERR_USAGE, "unknown split 'rest'");
    assert_refused("split", (dataset_request){.split = "train+"}, INLAY_ERR_USAGE, "unknown split ''");
    assert_refused("split", (dataset_request){0}, INLAY_ERR_USAGE, "train, val");
}

static void test_a_class_may_be_called_train(void **state)
{
    dataset *set;

    (void)state;
    put("vehicles/train/1.png", "");
    put("vehicles/car/1.png", "");
    set = open_set("vehicles", (dataset_request){.split = "train"});
    assert_int_equal(set->class_count, 2);
    assert_string_equal(set->classes[1], "train");
    dataset_free(set);
}

static void test_share_of_each_class(void **state)
{
    dataset_request request = {.val_split = 0.2, .seed = 5};
    dataset *train, *val, *both, *other;
    bool differs = false;

    (void)state;
    for (int i = 0; i < 40; i++) {
        char name[60];
        snprintf(name, sizeof name, "share/%s/%02d.png", i < 30 ? "many" : i < 38 ? "few" : i < 39 ? "one" : "zero", i);
        put(name, "");
    }
    request.split = "train";
    train = open_set("share", request);
    request.split = "val";
    val = open_set("share", request);
    request.seed = 6;
    other = open_set("share", request);
    request.split = "train+val";
    both = open_set("share", request);
    assert_int_equal(both->count, 40);
    assert_int_equal(val->count, 6 + 2); /* of 30, 8, 1 and 1: 6, 2, 0 and 0 */
    assert_int_equal(train->count, 32);
    assert_int_equal(other->count, val->count);
    for (int i = 0, t = 0, v = 0; i < both->count; i++) { /* in order, each sample in exactly one of them */
        bool in_train = t < train->count && strcmp(train->samples[t].path, both->samples[i].path) == 0;
        bool in_val = v < val->count && strcmp(val->samples[v].path, both->samples[i].path) == 0;
        assert_int_equal(in_train + in_val, 1);
        t += in_train;
        v += in_val;
    }
    for (int i = 0; i < val->count; i++)
        differs = differs || strcmp(val->samples[i].path, other->samples[i].path) != 0;
    assert_true(differs);
    dataset_free(train);
    dataset_free(val);
    dataset_free(other);
    dataset_free(both);
    assert_refused("share", (dataset_request){.split = "test", .val_split = 0.2}, INLAY_ERR_USAGE, "found train, val");
    assert_refused("share", (dataset_request){.split = "val"}, INLAY_ERR_USAGE, "found train (one folder of classes");
    assert_refused("share", (dataset_request){.split = "val", .val_split = 1.0}, INLAY_ERR_USAGE, "val_split is 1");
}

static void test_given_classes(void **state)
{
    static const char *const classes[] = {"c", "b", "never seen", "a"}, *const fewer[] = {"c", "b"};
    dataset *set = open_set("split", (dataset_request){.split = "train+val", .classes = classes, .class_count = 4});

    (void)state;
    assert_int_equal(set->class_count, 4);
    assert_sample(set, 0, "train/c/1.png", 0);
    assert_sample(set, 3, "train/b/1.png", 1);
    assert_sample(set, 4, "validation/a/1.png", 3);
    dataset_free(set);
    assert_refused("split", (dataset_request){.split = "val", .classes = fewer, .class_count = 2}, INLAY_ERR_MISMATCH,
                   "validation/a");
}

static void test_folder_refusals(void **state)
{
    char path[300];
    inlay_error err;

    (void)state;
    put("bare/a.png", "");
    put("hollow/a/x.txt", "");
    put("hollow/b/x.png", "");
    snprintf(path, sizeof path, "%s/nothing", root);
    assert_int_equal(file_make_folder(path, &err), INLAY_OK);
    assert_refused("missing", (dataset_request){0}, INLAY_ERR_IO, "missing");
    assert_refused("nothing", (dataset_request){0}, INLAY_ERR_FORMAT, "no class folders");
    assert_refused("bare", (dataset_request){0}, INLAY_ERR_FORMAT, "side by side");
    assert_refused("hollow", (dataset_request){0}, INLAY_ERR_FORMAT, "hollow/a' holds no images");
    snprintf(path, sizeof path, "%s/circle/a", root);
    put("circle/a/x.png", "");
    strcat(path, "/again");
    assert_int_equal(symlink("..", path), 0);
    assert_refused("circle", (dataset_request){0}, INLAY_ERR_IO, "nested more than");
}

static void test_csv_lists(void **state)
{
    static const char *const classes[] = {"zebra", "a \"q\", b"}, *const numbers[] = {"7", "12", "40"};
    dataset *set;

    (void)state;
    put("lists/numbers.csv",
        "\xEF\xBB\xBFlabel,ignored, path \r\n2,x,b.png\r\n\r\n10,\"y\r\nz\",\"sub/a, b.png\"\r\n0,,/abs/c.png");
    set = open_set("lists/numbers.csv", (dataset_request){.split = "test", .class_count = 11});
    assert_true(set->numeric_labels);
    assert_int_equal(set->count, 3);
    assert_int_equal(set->class_count, 11);
    assert_string_equal(set->classes[10], "10");
    assert_string_equal(set->samples[0].path, "/abs/c.png");
    assert_sample(set, 1, "/lists/b.png", 2);
    assert_sample(set, 2, "/lists/sub/a, b.png", 10);
    dataset_free(set);
    put("lists/names.csv", "path,label\nx.png,zebra\ny.png,\"a \"\"q\"\", b\"\nz.png,zebra\n");
    set = open_set("lists/names.csv", (dataset_request){0});
    assert_false(set->numeric_labels);
    assert_int_equal(set->class_count, 2);
    assert_string_equal(set->classes[0], "a \"q\", b");
    assert_sample(set, 2, "z.png", 1);
    dataset_free(set);
    set = open_set("lists/names.csv", (dataset_request){.classes = classes, .class_count = 2});
    assert_sample(set, 0, "x.png", 0);
    assert_sample(set, 2, "y.png", 1);
    dataset_free(set);
    /* numbers that are the given names, and numbers that are not */
    put("lists/seven.csv", "path,label\nx.png,40\ny.png,7\n");
    set = open_set("lists/seven.csv", (dataset_request){.classes = numbers, .class_count = 3});
    assert_false(set->numeric_labels);
    assert_sample(set, 1, "x.png", 2);
    dataset_free(set);
    put("lists/index.csv", "path,label\nx.png,1\n");
    set = open_set("lists/index.csv", (dataset_request){.classes = classes, .class_count = 2});
    assert_true(set->numeric_labels);
    assert_sample(set, 0, "x.png", 1);
    dataset_free(set);
    assert_refused("lists/seven.csv", (dataset_request){.classes = classes, .class_count = 2}, INLAY_ERR_MISMATCH,
                   "line 2: the label '40'");
}

static void test_csv_refusals(void **state)
{
    static const char *const classes[] = {"dog"};

    (void)state;
    put("bad/empty.csv", "");
    assert_refused("bad/empty.csv", (dataset_request){0}, INLAY_ERR_FORMAT, "is empty");
    put("bad/column.csv", "file,label\nx.png,1\n");
    assert_refused("bad/column.csv", (dataset_request){0}, INLAY_ERR_FORMAT,
                   "line 1: no column 'path', found file, label");
    put("bad/label.csv", "path,class\nx.png,1\n");
    assert_refused("bad/label.csv", (dataset_request){0}, INLAY_ERR_FORMAT, "no column 'label'");
    put("bad/short.csv", "path,x,label\na.png,1,2\n\nb.png,1\n");
    assert_refused("bad/short.csv", (dataset_request){0}, INLAY_ERR_FORMAT, "line 4: 2 fields");
    put("bad/hole.csv", "path,label\na.png,\n");
    assert_refused("bad/hole.csv", (dataset_request){0}, INLAY_ERR_FORMAT, "line 2: the field 'label' is empty");
    put("bad/quote.csv", "path,label\na.png,1\n\"b.png,2\nc.png,3\n");
    assert_refused("bad/quote.csv", (dataset_request){0}, INLAY_ERR_FORMAT, "line 3: a quote is opened");
    put("bad/after.csv", "path,label\n\"a\"b,2\n");
    assert_refused("bad/after.csv", (dataset_request){0}, INLAY_ERR_FORMAT, "line 2: text after a closing quote");
    put("bad/none.csv", "path,label\n");
    assert_refused("bad/none.csv", (dataset_request){0}, INLAY_ERR_FORMAT, "lists no images");
    put("bad/name.csv", "path,label\na.png,cat\n");
    assert_refused("bad/name.csv", (dataset_request){.classes = classes, .class_count = 1}, INLAY_ERR_MISMATCH,
                   "line 2: the label 'cat'");
}

static void test_csv_zero_byte(void **state)
{
    char text[] = "path,la\0bel\n";
    csv list;
    bool found;
    inlay_error err;

    (void)state;
    csv_start(&list, text, sizeof text - 1, "x.csv");
    assert_int_equal(csv_next(&list, &found, &err), INLAY_ERR_FORMAT);
    assert_non_null(strstr(err.message, "'x.csv' line 1"));
    csv_stop(&list);
}

static void test_paths(void **state)
{
    char folder[300], file[300];
    const char *paths[] = {folder, file}, *missing[] = {"/nowhere/at/all"};
    dataset *set;
    inlay_error err;

    (void)state;
    snprintf(folder, sizeof folder, "%s/split", root);
    snprintf(file, sizeof file, "%s/flat/cat/notes.txt", root);
    assert_int_equal(dataset_from_paths(&set, paths, 2, NULL, &err), INLAY_OK);
    assert_int_equal(set->count, 6);
    assert_int_equal(set->class_count, 0);
    assert_sample(set, 0, "flat/cat/notes.txt", -1);
    assert_sample(set, 5, "validation/c/0.png", -1);
    dataset_free(set);
    assert_int_equal(dataset_from_paths(&set, missing, 1, NULL, &err), INLAY_ERR_IO);
    assert_non_null(strstr(err.message, "/nowhere/at/all"));
    snprintf(folder, sizeof folder, "%s/nothing", root);
    assert_int_equal(dataset_from_paths(&set, paths, 1, NULL, &err), INLAY_ERR_FORMAT);
    assert_null(set);
}

static void test_assets(void **state)
{
    dataset *set;
    inlay_error err;

    (void)state;
    if (!file_is_folder(TEST_ASSETS "/data/imagenet_sample")) {
        print_message("no test assets: skipped\n");
        skip();
    }
    assert_int_equal(
        dataset_open(&set,
                     &(dataset_request){.path = TEST_ASSETS "/data/imagenet_sample/labels.csv", .class_count = 1000},
                     &err),
        INLAY_OK);
    assert_int_equal(set->count, 100);
    assert_true(set->numeric_labels);
    assert_int_equal(set->samples[1].label, 10);
    assert_true(file_exists(set->samples[99].path));
    dataset_free(set);
    assert_int_equal(
        dataset_open(&set, &(dataset_request){.path = TEST_ASSETS "/data/caltech101", .split = "train+val"}, &err),
        INLAY_OK);
    assert_int_equal(set->count, 1010);
    assert_int_equal(set->class_count, 101);
    dataset_free(set);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_class_folders),
        cmocka_unit_test(test_natural_order),
        cmocka_unit_test(test_splits),
        cmocka_unit_test(test_a_class_may_be_called_train),
        cmocka_unit_test(test_share_of_each_class),
        cmocka_unit_test(test_given_classes),
        cmocka_unit_test(test_folder_refusals),
        cmocka_unit_test(test_csv_lists),
        cmocka_unit_test(test_csv_refusals),
        cmocka_unit_test(test_csv_zero_byte),
        cmocka_unit_test(test_paths),
        cmocka_unit_test(test_assets),
    };

    return cmocka_run_group_tests(tests, make_root, remove_root);
}
