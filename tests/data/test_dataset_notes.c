/* What a data set says of what it does not read as it stands: lists that are not quite right, splits of other names,
 * files that are no images, classes that only a part of the data has. The images are empty files. */
#include "support.h"

#include "data/csv.h"
#include "data/dataset.h"

static char root[64];
static notes found;

static int make_root(void **state)
{
    (void)state;
    snprintf(root, sizeof root, "%s", support_folder());
    return 0;
}

static int remove_root(void **state)
{
    (void)state;
    support_remove(root);
    notes_free(&found);
    return 0;
}

static void put(const char *name, const char *text)
{
    char path[300], *slash;
    inlay_error err;

    snprintf(path, sizeof path, "%s/%s", root, name);
    slash = strrchr(path, '/');
    *slash = '\0';
    ASSERT_OK(file_make_folder(path, &err));
    *slash = '/';
    ASSERT_OK(file_write(path, text, strlen(text), &err));
}

static void put_all(const char *const *list)
{
    for (; *list; list++)
        put(*list, "");
}

static inlay_status try_set(dataset **set, const char *name, dataset_request request, inlay_error *err)
{
    char path[300];

    snprintf(path, sizeof path, "%s/%s", root, name);
    request.path = path;
    request.notes = &found;
    notes_free(&found);
    return dataset_open(set, &request, err);
}

static dataset *open_set(const char *name, dataset_request request)
{
    dataset *set;
    inlay_error err = {0};

    ASSERT_OK(try_set(&set, name, request, &err));
    return set;
}

static void assert_refused(const char *name, dataset_request request, const char *words)
{
    dataset *set;
    inlay_error err = {0};

    assert_int_not_equal(try_set(&set, name, request, &err), INLAY_OK);
    assert_null(set);
    if (!strstr(err.message, words))
        fail_msg("'%s' does not say '%s'", err.message, words);
}

/* The only note, or one of several. */
static void assert_note(const char *words, bool fault)
{
    for (int i = 0; i < found.count; i++)
        if (strstr(found.items[i].text, words)) {
            assert_int_equal(found.items[i].fault, fault);
            return;
        }
    fail_msg("no note says '%s', the first of %d: %s", words, found.count, found.count ? found.items[0].text : "");
}

static dataset *open_list(const char *text)
{
    put("lists/a.csv", text);
    return open_set("lists/a.csv", (dataset_request){0});
}

static void refuse_list(const char *text, const char *words)
{
    put("lists/a.csv", text);
    assert_refused("lists/a.csv", (dataset_request){0}, words);
}

static void assert_classes(const dataset *set, int count, const char *const *names)
{
    assert_int_equal(set->class_count, count);
    for (int i = 0; i < count; i++)
        assert_string_equal(set->classes[i], names[i]);
}

static void test_spaces(void **state)
{
    static const char *const texts[] = {
        "path,label\na.png,cat\nb.png,sea lion\n",
        "path, label\na.png, cat\nb.png, sea lion\n",
        " path\t, label \n a.png ,\tcat \n b.png ,  \"sea lion\"  \n",
        "label ,path\n\"cat\" ,a.png\n  \n \"sea lion\",\"b.png\"",
        "path;label\na.png; cat\nb.png;\"sea lion\"\n",
        "path\tlabel\na.png\t cat\nb.png\tsea lion \n",
        "path,label\ra.png,cat\r\rb.png,sea lion\r",
        "\xEF\xBB\xBFpath,label\r\na.png,cat\r\nb.png,\"sea lion\"\r\n",
    };

    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        dataset *set = open_list(texts[i]);
        assert_classes(set, 2, (const char *const[]){"cat", "sea lion"});
        assert_int_equal(set->count, 2);
        assert_string_equal(path_base(set->samples[0].path), "a.png");
        assert_int_equal(found.count, 0);
        dataset_free(set);
    }
    dataset *set = open_list("path,label\na.png,\" cat\"\n b c.png ,dog\n"); /* inside of quotes they are meant */
    assert_classes(set, 2, (const char *const[]){" cat", "dog"});
    assert_string_equal(path_base(set->samples[1].path), "b c.png");
    dataset_free(set);
}

static void test_list_refusals(void **state)
{
    (void)state;
    refuse_list("path,label\na.png,sea lion, young\n", "a.csv' line 2: 3 fields, the header has 2");
    refuse_list("path,label,x\n\na.png,cat,1\nb.png,cat\n", "line 4: 2 fields, the header has 3");
    refuse_list("path,label\na.png,cat,\n", "line 2: 3 fields, the header has 2");
    refuse_list("path;label\na.png;cat;x\n", "line 2: 3 fields, the header has 2");
    refuse_list("path,label\na.png,caf\xE9\n", "line 2: the label 'caf\\xe9' is not UTF-8");
    refuse_list("path,label\na.png,  \n", "line 2: the field 'label' is empty");
    refuse_list("path,label\n\"\",cat\n", "line 2: the field 'path' is empty");
    refuse_list("path,label,label\na.png,cat,dog\n", "line 1: the column 'label' is there twice, as number 2 and 3");
    refuse_list("Path,Label\na.png,cat\n", "line 1: no column 'path', found Path, Label");
    refuse_list("image|label\na.png|cat\n", "no column 'path', found image|label");
    refuse_list("path,label\n\"a\nb\" c,cat\n", "line 2: text after a closing quote, expected a comma");
    refuse_list("path\tlabel\n\"a\" c\tcat\n", "line 2: text after a closing quote, expected a tab");
    refuse_list("path,label\n\"a\rb\nc\",cat\n \"x", "line 5: a quote is opened and never closed");
}

static void test_list_notes(void **state)
{
    (void)state;
    dataset_free(open_list("id,path,label,,split\n1,a.png,cat,,train\n2,b.png,dog,,val\n"));
    assert_note("path and label are read and these are not: id, (without a name), split", false);
    dataset_free(open_list("path,label\na.png,cat\nb.png,dog\na.png,dog\nb.png,dog\n"));
    assert_note("1 images are listed again with another label, the first in line 2 as 'cat' and in line 4 as 'dog'",
                true);
    assert_note("1 images are listed again with the same label, the first in lines 3 and 5", false);
    dataset_free(open_list("path,label\ncaf\xE9.png,cat\nb.png,dog\n"));
    assert_note("1 paths are not UTF-8, the first in line 2", false);
}

static void test_utf16(void **state)
{
    char text[] = "\xFF\xFEp\0a\0t\0h\0\n\0";
    csv list;
    bool more;
    inlay_error err;

    (void)state;
    csv_start(&list, text, sizeof text - 1, "x.csv");
    assert_int_equal(csv_next(&list, &more, &err), INLAY_ERR_FORMAT);
    assert_non_null(strstr(err.message, "not a text file in UTF-8 (UTF-16, perhaps)"));
    csv_stop(&list);
}

static void test_numbers(void **state)
{
    static const char *const years[] = {"2019", "2021"}, *const three[] = {"a", "b", "c"};
    dataset *set = open_list("path,label\na.png,90210\nb.png,90001\nc.png,90210\n");

    (void)state;
    assert_classes(set, 2, (const char *const[]){"90001", "90210"});
    assert_false(set->numeric_labels);
    assert_note("leave out most of 0 ... 90210; the 2 that occur are the names", false);
    dataset_free(set);
    /* as numbers, whatever their digits */
    set = open_list("path,label\na.png,100\nb.png,9\nc.png,00020\nd.png,12345678901234567890\n");
    assert_classes(set, 4, (const char *const[]){"9", "00020", "100", "12345678901234567890"});
    dataset_free(set);
    /* half of them are enough: 1 to 3, and 0 to 5 with holes; below that they are names */
    set = open_list("path,label\na.png,1\nb.png,3\nc.png,02\n");
    assert_true(set->numeric_labels);
    assert_int_equal(set->class_count, 4);
    dataset_free(set);
    set = open_list("path,label\na.png,0\nb.png,5\nc.png,3\n");
    assert_true(set->numeric_labels);
    assert_int_equal(set->class_count, 6);
    dataset_free(set);
    set = open_list("path,label\na.png,0\nb.png,6\nc.png,3\n");
    assert_false(set->numeric_labels);
    assert_int_equal(set->class_count, 3);
    dataset_free(set);
    /* for a model of 1000 classes without names they are indices; for one whose names are numbers they are names */
    put("lists/a.csv", "path,label\na.png,0\nb.png,999\n");
    set = open_set("lists/a.csv", (dataset_request){.class_count = 1000});
    assert_true(set->numeric_labels);
    assert_int_equal(set->samples[1].label, 999);
    assert_int_equal(found.count, 0);
    dataset_free(set);
    assert_refused("lists/a.csv", (dataset_request){.class_count = 999}, "line 3: the label '999' is none of the 999");
    put("lists/a.csv", "path,label\na.png,1\n");
    assert_refused("lists/a.csv", (dataset_request){.classes = years, .class_count = 2},
                   "line 2: the label '1' is none");
    set = open_set("lists/a.csv", (dataset_request){.classes = three, .class_count = 3});
    assert_int_equal(set->samples[0].label, 1);
    dataset_free(set);
}

static void test_split_names(void **state)
{
    static const char *const names[][3] = {{"Training", "", "Testing"},
                                           {"trn", "dev", "test"},
                                           {"TRAIN", "Val", "TEST"},
                                           {"train", "validation", "testing"}};

    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        dataset *set;
        char text[100], path[300];
        for (int s = 0; s < 3; s++)
            for (int c = 0; *names[i][s] && c < 2; c++) {
                snprintf(text, sizeof text, "names%zu/%s/%s/%d.png", i, names[i][s], c ? "dog" : "cat", s);
                put(text, "");
            }
        snprintf(text, sizeof text, "names%zu", i);
        snprintf(path, sizeof path, "%s/%s", root, text);
        assert_true(dataset_has_split(path, "train") && dataset_has_split(path, "test") &&
                    dataset_has_split(path, NULL));
        assert_int_equal(dataset_has_split(path, "val"), names[i][1][0] != '\0');
        set = open_set(text, (dataset_request){.split = "train"});
        assert_classes(set, 2, (const char *const[]){"cat", "dog"});
        assert_int_equal(set->count, 2);
        dataset_free(set);
        assert_note("is read as the split", false);
        set = open_set(text, (dataset_request){.split = "test"});
        assert_string_equal(path_base(set->samples[0].path), "2.png");
        dataset_free(set);
    }
    assert_false(dataset_has_split("/nowhere", NULL));
    put_all((const char *const[]){"two/train/cat/1.png", "two/val/cat/1.png", "two/Valid/cat/1.png", NULL});
    assert_refused("two", (dataset_request){.split = "train"}, "are both names of the split val");
}

/* Splits whose names nobody knows, and splits without class folders, would make classes "A" and "B". */
static void test_no_classes_of_splits(void **state)
{
    dataset *set;

    (void)state;
    put_all((const char *const[]){"unknown/A/cat/1.png", "unknown/A/dog/1.png", "unknown/B/cat/1.png",
                                  "unknown/B/dog/1.png", NULL});
    assert_refused("unknown", (dataset_request){0}, "'A' and 'B' hold the same folders and no images of their own");
    put_all((const char *const[]){"inner/cat/train/1.png", "inner/cat/test/1.png", "inner/dog/train/1.png",
                                  "inner/dog/test/1.png", NULL});
    assert_refused("inner", (dataset_request){0}, "'cat' and 'dog' hold the same folders");
    put_all((const char *const[]){"bare2/train/1.png", "bare2/test/1.png", NULL});
    assert_refused("bare2", (dataset_request){0}, "the splits 'test' and 'train' hold their images side by side");
    put_all((const char *const[]){"views/cat/left/1.png", "views/dog/right/1.png", NULL});
    set = open_set("views", (dataset_request){0});
    assert_int_equal(set->class_count, 2);
    dataset_free(set);
}

static void test_beside(void **state)
{
    (void)state;
    put_all((const char *const[]){"beside/train/cat/1.png", "beside/train/2.png", "beside/extra/cat/1.png",
                                  "beside/list.csv", "beside/test/1.png", "beside/train/readme.md", "beside/.git/x",
                                  "beside/Thumbs.db", NULL});
    dataset_free(open_set("beside", (dataset_request){.split = "train"}));
    assert_note("/beside': beside its splits are not read: extra, test, list.csv", false);
    assert_note("/beside/train': 1 images lie beside the class folders and are not read, the first: '2.png'", true);
    assert_note("/beside/train': beside the class folders are not read: readme.md", false);
    assert_int_equal(found.count, 3);
}

static void test_passed_over(void **state)
{
    char link[300];
    dataset *set;
    inlay_error err;

    (void)state;
    put_all((const char *const[]){"passed/cat/1.png", "passed/cat/a.txt", "passed/cat/b.TXT", "passed/cat/deep/c.txt",
                                  "passed/dog/1.png", "passed/dog/d.mp4", "passed/dog/noending", "passed/dog/.DS_Store",
                                  "passed/dog/desktop.ini", "passed/__MACOSX/cat/._1.png", "passed/dog/@eaDir/1.thumb",
                                  "passed/dog.jpg/1.png", NULL});
    snprintf(link, sizeof link, "%s/passed/dog/lost", root);
    assert_int_equal(symlink("/nowhere/at/all", link), 0);
    set = open_set("passed", (dataset_request){0});
    assert_classes(set, 3, (const char *const[]){"cat", "dog", "dog.jpg"});
    assert_int_equal(set->count, 3);
    assert_note("/passed': 6 files that are no known images were passed over: .mp4 (1), ", true);
    assert_note("(3)", true);
    assert_note("links to nothing (1), without an ending (1); the first: '", true);
    assert_note("/passed/cat/a.txt'", true);
    assert_int_equal(found.count, 1);
    assert_int_equal(notes_refuse_faults(&found, &err), INLAY_ERR_FORMAT);
    dataset_free(set);
    notes_free(&found);
    snprintf(link, sizeof link, "%s/passed/cat", root);
    ASSERT_OK(dataset_from_paths(&set, (const char *const[]){link}, 1, &found, &err));
    assert_note("/cat': 3 files that are no known images were passed over", true);
    dataset_free(set);
    put_all((const char *const[]){"texts/cat/1.txt", "texts/dog/1.png", NULL});
    assert_refused("texts", (dataset_request){0}, "holds no images (");
    assert_refused("texts", (dataset_request){0}, "; 1 other files are in it");
}

static void test_class_names(void **state)
{
    (void)state;
    put_all((const char *const[]){"latin/caf\xE9/1.png", "latin/dog/1.png", "latins/train/dog/1.png",
                                  "latins/val/caf\xE9/1.png", NULL});
    assert_refused("latin", (dataset_request){0}, "the class folder 'caf\\xe9' in");
    assert_refused("latins", (dataset_request){.split = "train"}, "the class folder 'caf\\xe9' in");
}

static void test_classes_of_one_split(void **state)
{
    dataset *train, *val;

    (void)state;
    put_all((const char *const[]){"one/train/dog/1.png", "one/train/sea_lion/1.png", "one/train/eel/1.png",
                                  "one/val/Dog/1.png", "one/val/sea lion/1.png", NULL});
    train = open_set("one", (dataset_request){.split = "train"});
    val = open_set("one", (dataset_request){.split = "val"});
    dataset_compare(train, val, "val", &found);
    assert_note("2 of 5 classes have no image to train on: 'Dog' (meant is 'dog'?), 'sea lion' (meant is 'sea_lion'?)",
                true);
    assert_note("3 of 5 classes have no image in the split val: 'dog' (meant is 'Dog'?), 'eel', 'sea_lion'", false);
    notes_free(&found);
    dataset_compare(train, NULL, NULL, &found);
    assert_int_equal(found.count, 1);
    dataset_free(train);
    dataset_free(val);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_spaces),
        cmocka_unit_test(test_list_refusals),
        cmocka_unit_test(test_list_notes),
        cmocka_unit_test(test_utf16),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_split_names),
        cmocka_unit_test(test_no_classes_of_splits),
        cmocka_unit_test(test_beside),
        cmocka_unit_test(test_passed_over),
        cmocka_unit_test(test_class_names),
        cmocka_unit_test(test_classes_of_one_split),
    };

    return cmocka_run_group_tests(tests, make_root, remove_root);
}
