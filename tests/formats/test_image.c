/* Decoding against the pixels that Pillow gives (tests/data/images, made by tools/make_image_fixtures.py), damaged
 * files, cropping. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

#include "formats/image.h"

#define IMAGES TEST_DATA "/images/"

typedef void (*fixture_check)(const char *name, const int size[2], const int upright[2]);

static void each_fixture(fixture_check check)
{
    FILE *list = fopen(IMAGES "decode.txt", "r");
    char name[100];
    int size[2], upright[2], found = 0;

    assert_non_null(list);
    while (fscanf(list, "%99s %d %d %d %d", name, &size[0], &size[1], &upright[0], &upright[1]) == 5) {
        found++;
        if (!strstr(image_formats(), "AVIF") && strstr(name, ".avif"))
            continue;
        if (!strstr(image_formats(), "JPEG XL") && strstr(name, ".jxl"))
            continue;
        check(name, size, upright);
    }
    fclose(list);
    assert_true(found > 150);
}

static void assert_pixels(const char *name, const image *img, const int size[2], const char *suffix)
{
    char path[300], *expected;
    size_t bytes;
    inlay_error err;

    snprintf(path, sizeof path, IMAGES "%s%s", name, suffix);
    assert_int_equal(file_read(path, 1 << 20, &expected, &bytes, &err), INLAY_OK);
    if (img->width != size[0] || img->height != size[1])
        fail_msg("%s: %d x %d, expected %d x %d", name, img->width, img->height, size[0], size[1]);
    assert_int_equal(bytes, (size_t)size[0] * (size_t)size[1] * 3);
    for (size_t i = 0; i < bytes; i++)
        if (img->rgb[i] != (uint8_t)expected[i])
            fail_msg("%s%s: channel %zu of pixel (%zu, %zu) is %d, expected %d", name, suffix, i % 3,
                     i / 3 % (size_t)size[0], i / 3 / (size_t)size[0], img->rgb[i], (uint8_t)expected[i]);
    free(expected);
}

static void check_decoded(const char *name, const int size[2], const int upright[2])
{
    char path[300], turned[300];
    image img;
    inlay_error err = {0};

    snprintf(path, sizeof path, IMAGES "%s", name);
    snprintf(turned, sizeof turned, IMAGES "%s.upright.rgb", name);
    if (image_load(&img, path, false, &err) != INLAY_OK)
        fail_msg("%s", err.message);
    assert_pixels(name, &img, size, ".rgb");
    image_free(&img);
    if (image_load(&img, path, true, &err) != INLAY_OK)
        fail_msg("%s", err.message);
    assert_pixels(name, &img, upright, file_exists(turned) ? ".upright.rgb" : ".rgb");
    image_free(&img);
}

static void test_decodes_as_pillow(void **state)
{
    (void)state;
    each_fixture(check_decoded);
}

/* libjxl and dav1d write a line or several to standard error for every broken file: of those fewer are made. */
static size_t pace(const char *name, size_t usual)
{
    return strstr(name, ".jxl") || strstr(name, ".avif") ? 37 : usual;
}

/* Cut anywhere, a file is refused with its name or, where only what follows the pixels is gone, read to the same
 * pixels. */
static void check_truncated(const char *name, const int size[2], const int upright[2])
{
    char path[300], *bytes;
    size_t length;
    bool several = strstr(name, "two_") || strstr(name, "pages") ||
                   strstr(name, "apng"); /* the first is whole in less than half of the file */
    inlay_error err = {0};

    (void)upright;
    snprintf(path, sizeof path, IMAGES "%s", name);
    assert_int_equal(file_read(path, 1 << 20, &bytes, &length, &err), INLAY_OK);
    for (size_t cut = 0; cut < length; cut += pace(name, length > 800 ? 3 : 1)) {
        char *copy = malloc(cut ? cut : 1); /* its own block: reading past the end is seen by the address sanitizer */
        image img;
        memcpy(copy, bytes, cut);
        if (image_decode(&img, copy, cut, name, cut & 1, &err) == INLAY_OK) {
            if (!(cut & 1) && !strstr(name, "plain"))
                assert_pixels(name, &img, size, ".rgb");
            if (cut < length / 2 && length > 200 && !several)
                fail_msg("%s cut after %zu of %zu bytes was accepted", name, cut, length);
        } else {
            assert_non_null(strstr(err.message, name));
            assert_null(img.rgb);
        }
        image_free(&img);
        free(copy);
    }
    free(bytes);
}

static void test_truncated_files_are_refused(void **state)
{
    (void)state;
    each_fixture(check_truncated);
}

/* Every byte of the head replaced by several values: no crash, and either an image or a message. */
static void check_damaged(const char *name, const int size[2], const int upright[2])
{
    static const uint8_t values[] = {0x00, 0x7F, 0x80, 0xFF};
    char path[300], *bytes;
    size_t length;
    inlay_error err;

    (void)size;
    (void)upright;
    snprintf(path, sizeof path, IMAGES "%s", name);
    assert_int_equal(file_read(path, 1 << 20, &bytes, &length, &err), INLAY_OK);
    for (size_t at = 2; at < length && at < 120; at += pace(name, 1))
        for (size_t v = 0; v < sizeof values; v++) {
            char kept = bytes[at];
            image img;
            if (strncmp(name, "rle", 3) == 0 &&
                (at == 20 || at == 24)) /* makes run lengths that stand for 250 million pixels: valid, but slow */
                continue;
            err.message[0] = '\0';
            bytes[at] = (char)values[v];
            if (image_decode(&img, bytes, length, name, true, &err) == INLAY_OK)
                assert_true(img.width > 0 && img.height > 0 && img.rgb);
            else
                assert_non_null(strstr(err.message, name));
            image_free(&img);
            bytes[at] = kept;
        }
    free(bytes);
}

static void test_damaged_files_are_survived(void **state)
{
    (void)state;
    each_fixture(check_damaged);
}

static void assert_refused(const char *bytes, size_t size, inlay_status status, const char *words)
{
    image img;
    inlay_error err = {0};

    assert_int_equal(image_decode(&img, bytes, size, "a/b.img", false, &err), status);
    assert_non_null(strstr(err.message, "a/b.img"));
    if (!strstr(err.message, words))
        fail_msg("'%s' does not say '%s'", err.message, words);
}

/* A checksum that is wrong in front of the pixels, data that are cut or spoiled: files that Pillow does not read
 * either. */
static void test_refuses_what_pillow_refuses(void **state)
{
    static const char *const names[] = {
        "IHDR_bad", "tEXt_bad_before", "abCd_bad_before", "gAMA_bad_before", "zlib_adler", "zlib_short", "apart"};
    char path[300];
    image img;
    inlay_error err;

    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        snprintf(path, sizeof path, IMAGES "refused_%s.png", names[i]);
        if (image_load(&img, path, 0, &err) != INLAY_ERR_FORMAT)
            fail_msg("%s: not refused as a broken file", path);
        assert_non_null(strstr(err.message, path));
        assert_true(!strstr(names[i], "before") || strstr(err.message, "checksum of the chunk"));
    }
}

/* Every ending that a row names, in both cases, and nothing else. */
static void test_endings(void **state)
{
    static const char *const known[] = {"a.jpg",  "a.JPEG", "b.jpe", "b.jfif", "b.JFI",  "x.y.png", "apng.apng",
                                        "c.webp", "d.GIF",  "e.tif", "e.TIFF", "f.avif", "f.avifs", "g.jxl",
                                        "h.bmp",  "h.DIB",  "i.pnm", "i.ppm",  "i.pgm",  "i.pbm",   ".png"};
    static const char *const unknown[] = {"",          "jpg",        "a.",  "a.jp",    "a.jpgg",
                                          "a.jpg.txt", "a.jpg jpeg", "a. ", "png.zip", "a.tif~"};

    (void)state;
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (!image_has_ending(known[i]))
            fail_msg("'%s' is not known", known[i]);
    for (size_t i = 0; i < sizeof unknown / sizeof unknown[0]; i++)
        if (image_has_ending(unknown[i]))
            fail_msg("'%s' is known", unknown[i]);
    assert_non_null(strstr(image_endings(), "jfif"));
}

static int grey_of(const char *name, unsigned how, bool *cut)
{
    char path[300];
    image img;
    inlay_error err = {0};
    int grey;

    snprintf(path, sizeof path, IMAGES "%s", name);
    if (image_load(&img, path, how, &err) != INLAY_OK)
        fail_msg("%s", err.message);
    *cut = img.cut;
    grey = img.rgb[((size_t)7 * (size_t)img.width + 11) * 3];
    image_free(&img);
    return grey;
}

/* Grey of more than 8 bits is cut and said to be so, or scaled: the value at (11, 7) of these files is known. Others
 * are neither. */
static void test_deep_grey(void **state)
{
    static const struct {
        const char *name;
        int cut, scaled; /* scaled -1: no range to scale from */
    } cases[] = {{"grey16.png", 255, 158},         {"grey16_low.png", 158, 1},        {"interlaced_grey16.png", 158, 1},
                 {"grey16.pgm", 255, 1},           {"grey3000.pgm", 255, 2},          {"I16_21x15_raw.tif", 6, 0},
                 {"I16B_21x15_raw.tif", 255, 158}, {"grey12_1_1_le.tif", 255, 177},   {"grey32_1_1_le.tif", 255, 23},
                 {"F_21x15_raw.tif", 0, -1},       {"I_21x15_tiff_lzw.tif", 255, -1}, {"signed16_2_be.tif", 0, -1}};
    bool cut;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int plain = grey_of(cases[i].name, 0, &cut), scaled;
        assert_true(cut);
        scaled = grey_of(cases[i].name, IMAGE_SCALE_GREY, &cut);
        assert_int_equal(cut, cases[i].scaled < 0);
        assert_int_equal(plain, cases[i].cut);
        assert_int_equal(scaled, cases[i].scaled < 0 ? plain : cases[i].scaled);
    }
    assert_int_equal(grey_of("rgb16.png", 0, &cut), grey_of("rgb16.png", IMAGE_SCALE_GREY, &cut));
    assert_false(cut);
    grey_of("grey8.png", 0, &cut);
    assert_false(cut);
    grey_of("grey15.pgm", 0, &cut);
    assert_false(cut);
    grey_of("grey_alpha16.png", 0, &cut);
    assert_false(cut);
}

/* The header of a progressive JPEG changed to another size; what the file lacks is grey, but it cannot lack nearly
 * everything. */
static void test_jpeg_that_claims_a_large_size(void **state)
{
    static const struct {
        int size;
        inlay_status status;
        const char *words;
    } cases[] = {{1000, INLAY_OK, ""},
                 {4097, INLAY_ERR_FORMAT, "4097 x 4097 pixels take"},
                 {13370, INLAY_ERR_FORMAT, "13370 x 13370 pixels take"},
                 {16384, INLAY_ERR_UNSUPPORTED, "16384 x 16384 pixels, at most 178956970"}};
    char *bytes, *at;
    size_t length;
    image img;
    inlay_error err = {0};

    (void)state;
    assert_int_equal(file_read(IMAGES "progressive.jpg", 1 << 20, &bytes, &length, &err), INLAY_OK);
    for (at = bytes; memcmp(at, "\xFF\xC2", 2) != 0; at++)
        assert_true(at < bytes + length - 10);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        at[5] = at[7] = (char)(cases[i].size >> 8);
        at[6] = at[8] = (char)(cases[i].size & 255);
        assert_int_equal(image_decode(&img, bytes, length, "a/b.img", 0, &err), cases[i].status);
        assert_non_null(strstr(cases[i].status == INLAY_OK ? "" : err.message, cases[i].words));
        image_free(&img);
    }
    free(bytes);
}

static void test_refusals_say_why(void **state)
{
    image img;
    inlay_error err;

    (void)state;
    assert_refused("", 0, INLAY_ERR_FORMAT, "empty");
    assert_refused("PK\3\4....", 8, INLAY_ERR_UNSUPPORTED, "known format");
    assert_refused("GIF89a..", 8, INLAY_ERR_FORMAT, "broken GIF");
    assert_refused("P5 100000 100000 255 x", 22, INLAY_ERR_UNSUPPORTED, "100000 x 100000 pixels, at most 178956970");
    assert_refused("P5 0 4 255 x", 12, INLAY_ERR_FORMAT, "empty");
    assert_refused("P5 2 2 70000 xxxx", 17, INLAY_ERR_FORMAT, "70000");
    assert_refused("P2 2 1 7 6 8", 12, INLAY_ERR_FORMAT, "above the largest value 7");
    assert_refused("P6 two 2 255 ", 13, INLAY_ERR_FORMAT, "width");
    assert_refused("\xff\xd8\xff", 3, INLAY_ERR_FORMAT, "truncated");
    assert_int_equal(image_load(&img, TEST_DATA "/images/none.png", false, &err), INLAY_ERR_IO);
    assert_non_null(strstr(err.message, "none.png"));
}

static void test_crop_fills_the_outside_with_zeros(void **state)
{
    uint8_t pixels[4 * 3 * 3];
    image in = {.width = 4, .height = 3, .rgb = pixels}, out;
    inlay_error err;

    (void)state;
    for (size_t i = 0; i < sizeof pixels; i++)
        pixels[i] = (uint8_t)(i + 1);
    for (int left = -7; left < 7; left++)
        for (int top = -5; top < 5; top++) {
            assert_int_equal(image_crop(&out, &in, left, top, 6, 5, &err), INLAY_OK);
            for (int y = 0; y < 5; y++)
                for (int x = 0; x < 6; x++) {
                    int sx = x + left, sy = y + top;
                    bool inside = sx >= 0 && sx < 4 && sy >= 0 && sy < 3;
                    assert_int_equal(out.rgb[(y * 6 + x) * 3 + 1], inside ? pixels[(sy * 4 + sx) * 3 + 1] : 0);
                }
            image_free(&out);
        }
    assert_int_equal(image_crop(&out, &in, INT32_MAX, INT32_MIN, 1, 1, &err), INLAY_OK);
    assert_int_equal(out.rgb[0], 0);
    image_free(&out);
    assert_int_equal(image_crop(&out, &in, 0, 0, 0, 1, &err), INLAY_ERR_USAGE);
    assert_int_equal(image_crop(&out, &in, 0, 0, 1 << 20, 1 << 20, &err), INLAY_ERR_USAGE);
}

/* What was written is read back; what cannot be written leaves nothing behind. */
static void test_png_round_trip(void **state)
{
    char folder[] = "/tmp/inlay-test-XXXXXX", path[64], temporary[80];
    struct rlimit room;
    static uint8_t pixels[13 * 7 * 3];
    image img = {.width = 13, .height = 7, .rgb = pixels}, back;
    inlay_error err;

    (void)state;
    for (size_t i = 0; i < sizeof pixels; i++)
        pixels[i] = (uint8_t)(i * 7919 >> 3);
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/a.png", folder);
    snprintf(temporary, sizeof temporary, "%s.tmp", path);
    assert_int_equal(image_write_png(&img, path, &err), INLAY_OK);
    assert_false(file_exists(temporary));
    assert_int_equal(image_load(&back, path, false, &err), INLAY_OK);
    assert_int_equal(back.width, 13);
    assert_int_equal(back.height, 7);
    assert_memory_equal(back.rgb, pixels, sizeof pixels);
    image_free(&back);
    img.height = 0;
    assert_int_equal(image_write_png(&img, path, &err), INLAY_ERR_USAGE);
    img.height = 7;
    assert_int_equal(image_write_png(&img, "/nowhere/a.png", &err), INLAY_ERR_IO);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &room), 0);
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &(struct rlimit){16, room.rlim_max}), 0); /* a full disk */
    assert_int_equal(image_write_png(&img, path, &err), INLAY_ERR_IO);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &room), 0);
    assert_non_null(strstr(err.message, "cannot write"));
    assert_int_equal(image_load(&back, path, false, &err), INLAY_OK); /* the old file is still there */
    image_free(&back);
    assert_int_equal(access(temporary, F_OK), -1);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(folder), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_decodes_as_pillow),
        cmocka_unit_test(test_truncated_files_are_refused),
        cmocka_unit_test(test_damaged_files_are_survived),
        cmocka_unit_test(test_refuses_what_pillow_refuses),
        cmocka_unit_test(test_jpeg_that_claims_a_large_size),
        cmocka_unit_test(test_endings),
        cmocka_unit_test(test_deep_grey),
        cmocka_unit_test(test_refusals_say_why),
        cmocka_unit_test(test_crop_fills_the_outside_with_zeros),
        cmocka_unit_test(test_png_round_trip),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
