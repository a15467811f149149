/* What the commands say about their data: notes that stand on standard error, errors with --strict, splits that are
 * evaluated on, images that change. */
#include "cli/command.h"

#define TRAIN \
    "train --backbone " VIT " --method linear --epochs 2 --batch-size 4 --warmup-epochs 0 --quiet --overwrite "

static int prepare(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "%s", support_folder());
    return 0;
}

static int clean(void **state)
{
    (void)state;
    support_remove(folder);
    return 0;
}

static void images(const char *data, const char *split, int classes)
{
    char path[300];

    path_in(path, data);
    support_images(path, split, classes, 3, 40);
}

static void put(const char *name, const char *text)
{
    char path[300];
    inlay_error err;

    path_in(path, name);
    ASSERT_OK(file_write(path, text, strlen(text), &err));
}

static void expect_note(const char *part)
{
    const char *text = text_of("err.txt"), *at = strstr(text, part);

    if (!at || !strstr(text, "note: "))
        fail_msg("no note says '%s': %s", part, text);
}

static void move(const char *from, const char *to)
{
    char a[300], b[300];

    path_in(a, from);
    path_in(b, to);
    assert_int_equal(rename(a, b), 0);
}

static void test_passed_over(void **state)
{
    (void)state;
    images("passed", "train", 2);
    images("passed", "test", 2);
    put("passed/train/class0/list.txt", "");
    put("passed/train/class1/film.mp4", "");
    put("passed/test/class1/Thumbs.db", "");
    expect(inlay(TRAIN "--data passed --output out"), 0);
    expect_note("2 files that are no known images were passed over: .mp4 (1), .txt (1); the first: "
                "'passed/train/class0/list.txt'");
    expect_error(inlay(TRAIN "--data passed --output strict --strict"), 1,
                 "2 files that are no known images were passed over");
    expect(inlay("eval --backbone " VIT " --adapter out --data passed --quiet --strict"), 0);
    put("passed/test/class1/x.gif.part", "");
    expect(inlay("eval --backbone " VIT " --adapter out --data passed --quiet"), 0);
    expect_note("1 files that are no known images were passed over: .part (1)");
    expect_error(inlay("eval --backbone " VIT " --adapter out --data passed --strict"), 1, "passed over: .part (1)");
    expect(inlay("predict --backbone " VIT " --adapter out --quiet passed/train/class0"), 0);
    expect_note("'passed/train/class0': 1 files that are no known images were passed over: .txt (1)");
}

/* Names of files reach the terminal as text. */
static void test_control_characters(void **state)
{
    (void)state;
    images("odd", "train", 2);
    put("odd/train/class0/\x1b[2J.t\xE9", "");
    expect(inlay(TRAIN "--data odd --output odd-out"), 0);
    expect_note("odd/train/class0/\\x1b[2J.t\\xe9'");
    assert_null(strchr(text_of("err.txt"), '\x1b'));
}

static void test_split_names(void **state)
{
    (void)state;
    images("named", "Training", 2);
    images("named", "Testing", 2);
    images("named", "DEV", 2);
    expect(inlay(TRAIN "--data named --output named-out"), 0);
    expect_note("'named/Training' is read as the split train");
    expect_note("'named/DEV' is read as the split val");
    assert_non_null(strstr(text_of("named-out/adapter.json"), "\"split\": \"val\""));
    expect(inlay("eval --backbone " VIT " --adapter named-out --data named --json --quiet"), 0);
    expect_note("'named/Testing' is read as the split test");
    move("named/DEV", "named/more");
    expect(inlay(TRAIN "--data named --output named-out"), 0);
    expect_note("'named': beside its splits are not read: more");
    move("named/Training", "named/Mine");
    expect_error(inlay(TRAIN "--data named --output named-out"), 2, "has no split 'train': found test");
    move("named/Testing", "named/Yours");
    expect_error(inlay(TRAIN "--data named --output named-out"), 1, "hold the same folders and no images of their own");
}

/* A split that is there and wrong is no split that is not there. */
static void test_split_with_a_mistake(void **state)
{
    char path[300];
    inlay_error err;

    (void)state;
    images("wrong", "train", 2);
    expect(inlay(TRAIN "--data wrong --output wrong-out"), 0);
    assert_int_equal(text_of("err.txt")[0], '\0');
    images("wrong", "val", 2);
    path_in(path, "wrong/val/class7");
    ASSERT_OK(file_make_folder(path, &err));
    expect_error(inlay(TRAIN "--data wrong --output wrong-out"), 1, "class folder 'wrong/val/class7' holds no images");
    path_in(path, "wrong/valid/class0");
    ASSERT_OK(file_make_folder(path, &err));
    expect_error(inlay(TRAIN "--data wrong --output wrong-out"), 1, "are both names of the split val");
    expect(inlay(TRAIN "--data wrong --output wrong-out --eval-split none"), 1);
}

static void test_class_of_one_split(void **state)
{
    (void)state;
    images("one", "train", 2);
    images("one", "val", 2);
    move("one/val/class1", "one/val/Class1");
    expect(inlay(TRAIN "--data one --output one-out"), 0);
    expect_note("1 of 3 classes have no image to train on: 'Class1' (meant is 'class1'?)");
    expect_note("1 of 3 classes have no image in the split val: 'class1' (meant is 'Class1'?)");
    expect_error(inlay(TRAIN "--data one --output one-out --strict"), 1, "have no image to train on: 'Class1'");
}

static void test_lists(void **state)
{
    (void)state;
    images("listed", "train", 2);
    put("years.csv", "path, label\nlisted/train/class0/00.ppm, 2019\nlisted/train/class0/01.ppm,2019\n"
                     "listed/train/class1/00.ppm,\"2021\"\nlisted/train/class1/01.ppm, 2021\n");
    expect(inlay(TRAIN "--data years.csv --output years --val-split 0.5"), 0);
    expect_note(
        "'years.csv': the labels are numbers that leave out most of 0 ... 2021; the 2 that occur are the names");
    expect(inlay("eval --backbone " VIT " --adapter years --data years.csv --json --quiet"), 0);
    json_t *root = json_of("out.txt");
    assert_int_equal(json_integer_value(json_object_get(root, "classes")), 2);
    assert_int_equal(json_integer_value(json_object_get(root, "count")), 4);
    json_decref(root);
    put("fields.csv", "path,label\nlisted/train/class0/00.ppm,sea lion, young\n");
    expect_error(inlay(TRAIN "--data fields.csv --output x"), 1, "'fields.csv' line 2: 3 fields, the header has 2");
    put("gone.csv", "path,label\nlisted/train/class0/00.ppm,a\nno/such.png,b\nlisted/train/class1/00.ppm,b\n");
    expect_error(inlay(TRAIN "--data gone.csv --output gone"), 0, "left out: cannot open 'no/such.png'");
}

static void test_changed_image(void **state)
{
    (void)state;
    images("moving", "train", 2);
#define LONG                                                                                                        \
    "train --backbone " VIT " --method adapter_plus --rank 4 --epochs 100000 --batch-size 4 --quiet --data moving " \
    "--output moved "
    /* in the background once the first command has gone to the folder; stopped as soon as there is a checkpoint */
    expect(inlay("--version >said.txt; '%s' " LONG
                 "2>said.txt & pid=$!; while kill -0 $pid && [ ! -e moved/checkpoint.safetensors ]; "
                 "do sleep 0.1; done; kill -TERM $pid; wait $pid",
                 INLAY_BINARY),
           143);
    move("moving/train/class1/00.ppm", "moving/kept.ppm");
    put("moving/train/class1/00.ppm", "P6 1 1 255 abc");
    expect_error(inlay(LONG "--resume"), 1, "'moving/train/class1/00.ppm' is another image than this run read before");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_passed_over),        cmocka_unit_test(test_control_characters),
        cmocka_unit_test(test_split_names),        cmocka_unit_test(test_split_with_a_mistake),
        cmocka_unit_test(test_class_of_one_split), cmocka_unit_test(test_lists),
        cmocka_unit_test(test_changed_image),
    };

    return cmocka_run_group_tests(tests, prepare, clean);
}
