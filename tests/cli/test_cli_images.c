/* The command and the pictures that people have: all formats in one folder, names that lie, the note on grey that is
 * cut, --scale-16bit from training to prediction. */
#include "cli/command.h"

#include "formats/image.h"

#include <sys/stat.h>

#define IMAGES TEST_DATA "/images"

static void expect_text(const char *name, const char *part, bool there)
{
    const char *text = text_of(name);

    if (!strstr(text, part) == there)
        fail_msg("'%s' is %sin %s: %s", part, there ? "not " : "", name, text);
}

/* Copies a fixture into the test's folder under another name. */
static void place(const char *fixture, const char *as)
{
    char command[600];

    snprintf(command, sizeof command, "mkdir -p \"$(dirname '%s/%s')\" && cp '" IMAGES "/%s' '%s/%s'", folder, as,
             fixture, folder, as);
    assert_int_equal(system(command), 0);
}

static int count_of(const char *text, const char *part)
{
    int count = 0;

    for (const char *at = text; (at = strstr(at, part)) != NULL; at += strlen(part))
        count++;
    return count;
}

/* Endings of all kinds, and contents of other kinds than the endings say. */
static void test_every_format_in_a_folder(void **state)
{
    static const char *const files[][2] = {{"rgb.jpg", "a.jfif"},       {"rgb.jpg", "b.JPE"},
                                           {"one_1_5.gif", "c.gif"},    {"RGB_21x15_tiff_lzw.tif", "d.TIFF"},
                                           {"tiles_1_le.tif", "e.tif"}, {"rgb24.dib", "f.dib"},
                                           {"plain.pbm", "g.pbm"},      {"spaced.pbm", "h.pnm"},
                                           {"rgb8.png", "i.jpg"},       {"grey.jpg", "j.tif"},
                                           {"lossy.webp", "k.gif"},     {"kind5__8_le.tif", "l.png"}};
    int count = (int)(sizeof files / sizeof files[0]);

    (void)state;
    for (int i = 0; i < count; i++) {
        char name[64];
        snprintf(name, sizeof name, "all/%s", files[i][1]);
        place(files[i][0], name);
    }
    expect(inlay("predict --backbone " VIT " --labels names.txt all --top-k 1 --quiet --strict"), 0);
    assert_int_equal(count_of(text_of("out.txt"), "all/"), count);
    expect_text("err.txt", "left out", false);
    expect_text("err.txt", "note", false);
}

static void test_version_lists_the_formats(void **state)
{
    (void)state;
    expect(inlay("--version"), 0);
    expect_text("out.txt", image_formats(), true);
    expect_text("out.txt", "JPEG, PNG", true);
}

/* One note a run, with the number; none where nothing is cut; another one where scaling could not help. */
static void test_note_on_cut_grey(void **state)
{
    (void)state;
    place("grey16.png", "deep/a.png");
    place("grey16.pgm", "deep/b.pgm");
    place("I16_21x15_raw.tif", "deep/c.tif");
    place("rgb16.png", "deep/d.png");
    expect(inlay("predict --backbone " VIT " --labels names.txt deep --top-k 1 --quiet"), 0);
    expect_text(
        "err.txt",
        "note: 3 images have grey of more than 8 bits, which is cut at 255 as Pillow does; --scale-16bit scales it",
        true);
    assert_int_equal(count_of(text_of("err.txt"), "note"), 1);
    expect(inlay("predict --backbone " VIT " --labels names.txt deep --top-k 1 --quiet --scale-16bit"), 0);
    expect_text("err.txt", "note", false);
    expect(inlay("predict --backbone " VIT " --labels names.txt deep/a.png deep/d.png --top-k 1 --quiet"), 0);
    expect_text("err.txt", "note: 1 image has grey", true);
    place("F_21x15_raw.tif", "deep/e.tif");
    expect(inlay("predict --backbone " VIT " --labels names.txt deep --top-k 1 --quiet --scale-16bit"), 0);
    expect_text("err.txt", "note: 1 image has signed or real grey", true);
}

static void place_classes(const char *const fixtures[2][3])
{
    for (int c = 0; c < 2; c++)
        for (int i = 0; i < 3; i++) {
            char name[64];
            snprintf(name, sizeof name, "set/%s/%d%s", c ? "two" : "one", i, strrchr(fixtures[c][i], '.'));
            place(fixtures[c][i], name);
        }
}

#define TRAIN                                                                                                 \
    "train --backbone " VIT " --data set --method linear --epochs 2 --batch-size 2 --quiet --no-tensorboard " \
    "--overwrite"

/* The adapter says how its images were read, and is used so; runs of both kinds do not go on from each other, and share
 * no cached features. */
static void test_scaling_belongs_to_the_adapter(void **state)
{
    static const char *const fixtures[2][3] = {{"grey16.png", "grey8.png", "rgb.jpg"},
                                               {"I16B_21x15_raw.tif", "rgb24.bmp", "one_0_None.gif"}};
    char command[200];

    (void)state;
    place_classes(fixtures);
    expect(inlay(TRAIN " --output plain --cache-dir cache"), 0);
    expect_text("err.txt", "note: 2 images have grey", true);
    assert_int_equal(count_of(text_of("err.txt"), "note"), 1);
    expect_text("plain/adapter.json", "\"scale_16bit\": false", true);
    expect(inlay(TRAIN " --output scaled --cache-dir cache --scale-16bit"), 0);
    expect_text("err.txt", "note", false);
    expect_text("scaled/adapter.json", "\"scale_16bit\": true", true);
    snprintf(command, sizeof command, "test \"$(ls '%s/cache' | grep -c features)\" = 2", folder);
    assert_int_equal(system(command), 0);
    expect(inlay("eval --backbone " VIT " --adapter plain --data set --quiet"), 0);
    expect_text("err.txt", "note: 2 images have grey", true);
    expect(inlay("eval --backbone " VIT " --adapter scaled --data set --quiet"), 0);
    expect_text("err.txt", "note", false);
    expect(inlay("predict --backbone " VIT " --adapter scaled --adapter plain set --quiet"), 2);
    expect_text("err.txt", "'scale_16bit' is true and false", true);
    expect(inlay(TRAIN " --output without --feature-cache off"), 0);
    expect_text("err.txt", "note: 2 images have grey", true);
}

/* The shared set-up, and names for the classes of the checkpoint's head, so that nothing has to be noted about them. */
static int begin(void **state)
{
    char path[300];
    inlay_error err;

    set_up(state);
    path_in(path, "names.txt");
    ASSERT_OK(file_write(path, "a\nb\nc\nd\ne\n", 10, &err));
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_format_in_a_folder),
        cmocka_unit_test(test_version_lists_the_formats),
        cmocka_unit_test(test_note_on_cut_grey),
        cmocka_unit_test(test_scaling_belongs_to_the_adapter),
    };

    return cmocka_run_group_tests(tests, begin, tear_down);
}
