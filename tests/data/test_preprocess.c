/* Preprocessing against hashes of what timm's evaluation transforms make (tests/data/images/preprocess.txt), and the
 * random crops. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "data/preprocess.h"
#include "patterns.h"

static void test_same_pixels_as_timm(void **state)
{
    FILE *list = fopen(TEST_DATA "/images/preprocess.txt", "r");
    int w, h, cases = 0;
    char mode[20], filter[20], hash[20], found[20];
    preprocess p = {.mean = {0.5f, 0.4f, 0.3f}};

    (void)state;
    assert_non_null(list);
    while (fscanf(list, "%d %d %d %d %lf %19s %19s %19s", &w, &h, &p.height, &p.width, &p.crop_pct, mode, filter,
                  hash) == 8) {
        image in = pattern(w, h);
        size_t bytes = preprocess_pixel_bytes(&p);
        uint8_t *pixels = malloc(bytes);
        inlay_error err;
        assert_true(preprocess_mode_from_name(strcmp(mode, "crop") == 0 ? "center" : mode, &p.mode));
        assert_true(resample_from_name(filter, &p.interpolation));
        assert_int_equal(bytes, (size_t)p.height * (size_t)p.width * 3);
        assert_int_equal(preprocess_image(&p, &in, NULL, pixels, &err), INLAY_OK);
        snprintf(found, sizeof found, "%016llx", (unsigned long long)fnv(pixels, bytes));
        if (strcmp(found, hash) != 0)
            fail_msg("%d x %d to %d x %d, crop_pct %g, %s, %s differs from timm", w, h, p.height, p.width, p.crop_pct,
                     mode, filter);
        free(pixels);
        image_free(&in);
        cases++;
    }
    fclose(list);
    assert_true(cases >= 90);
}

static void test_too_small_images_are_padded_with_zeros(void **state)
{
    preprocess p = {.height = 8,
                    .width = 8,
                    .mode = PREPROCESS_CROP,
                    .crop_pct = 2.0,
                    .interpolation = RESAMPLE_BILINEAR,
                    .mean = {0.5f, 0.5f, 0.5f}};
    image in = pattern(16, 16);
    uint8_t pixels[8 * 8 * 3];
    inlay_error err;

    (void)state;
    for (size_t i = 0; i < 16 * 16 * 3; i++)
        in.rgb[i] = 200;
    assert_int_equal(preprocess_image(&p, &in, NULL, pixels, &err), INLAY_OK);
    for (int y = 0; y < 8; y++)
        for (int x = 0; x < 8; x++)
            assert_int_equal(pixels[(y * 8 + x) * 3], x >= 2 && x < 6 && y >= 2 && y < 6 ? 200 : 0);
    image_free(&in);
}

static void test_tf_bilinear_makes_floats(void **state)
{
    preprocess p = {
        .height = 24, .width = 24, .mode = PREPROCESS_SQUASH, .crop_pct = 1.0, .interpolation = RESAMPLE_TF_BILINEAR};
    image in = pattern(37, 50);
    float squashed[24 * 24 * 3], cropped[24 * 24 * 3], whole[24 * 32 * 3];
    inlay_error err;

    (void)state;
    assert_int_equal(preprocess_pixel_type(&p), DTYPE_F32);
    assert_int_equal(preprocess_pixel_bytes(&p), sizeof squashed);
    assert_int_equal(preprocess_image(&p, &in, NULL, squashed, &err), INLAY_OK);
    image_resize_tf_bilinear(whole, &in, 24, 24);
    assert_memory_equal(squashed, whole, sizeof squashed);
    p.mode = PREPROCESS_CROP; /* 24 x int(24 * 50 / 37) = 24 x 32, offset 4 */
    assert_int_equal(preprocess_image(&p, &in, NULL, cropped, &err), INLAY_OK);
    image_resize_tf_bilinear(whole, &in, 24, 32);
    assert_memory_equal(cropped, whole + 4 * 24 * 3, sizeof cropped);
    image_free(&in);
}

/* An image whose colours tell their place: red the column, green the row. */
static image map_of_places(int width, int height)
{
    image img = pattern(width, height);

    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++) {
            img.rgb[(y * width + x) * 3] = (uint8_t)x;
            img.rgb[(y * width + x) * 3 + 1] = (uint8_t)y;
        }
    return img;
}

static void test_random_crops(void **state)
{
    preprocess p = {.height = 16,
                    .width = 16,
                    .mode = PREPROCESS_CROP,
                    .crop_pct = 1.0,
                    .interpolation = RESAMPLE_NEAREST,
                    .scale_low = 0.08,
                    .scale_high = 1.0,
                    .ratio_low = 0.75,
                    .ratio_high = 4.0 / 3,
                    .flip = 0.5};
    image in = map_of_places(200, 150);
    uint8_t pixels[16 * 16 * 3], again[16 * 16 * 3];
    double total_share = 0, smallest = 1, largest = 0;
    int flips = 0, draws = 2000;
    inlay_error err;

    (void)state;
    for (int i = 0; i < draws; i++) {
        rng_stream stream = {.seed = 7, .purpose = RNG_AUGMENT, .stream = (uint32_t)i, .step = 3};
        const uint8_t *last = pixels + (15 * 16 + 15) * 3;
        double width, height, share, ratio;
        assert_int_equal(preprocess_image(&p, &in, &stream, pixels, &err), INLAY_OK);
        width = (last[0] - pixels[0]) * 16.0 / 15;
        height = (last[1] - pixels[1]) * 16.0 / 15;
        flips += width < 0;
        share = fabs(width) * height / (200 * 150);
        ratio = fabs(width) / height;
        assert_true(share > 0.06 && share < 1.05);
        assert_true(ratio > 0.65 && ratio < 1.5);
        total_share += share;
        smallest = share < smallest ? share : smallest;
        largest = share > largest ? share : largest;
        assert_int_equal(preprocess_image(&p, &in, &stream, again, &err), INLAY_OK);
        assert_memory_equal(pixels, again, sizeof pixels);
    }
    assert_true(flips > draws * 45 / 100 && flips < draws * 55 / 100);
    assert_true(smallest < 0.12 && largest > 0.85);
    assert_true(total_share / draws > 0.42 && total_share / draws < 0.58);
    image_free(&in);
}

/* No crop of the shape fits: the largest centred one is taken, as torchvision does. */
static void test_random_crop_falls_back_to_the_centre(void **state)
{
    preprocess p = {.height = 4,
                    .width = 4,
                    .interpolation = RESAMPLE_NEAREST,
                    .scale_low = 1.0,
                    .scale_high = 1.0,
                    .ratio_low = 0.75,
                    .ratio_high = 4.0 / 3};
    image in = map_of_places(240, 30);
    uint8_t pixels[4 * 4 * 3];
    inlay_error err;

    (void)state;
    assert_int_equal(preprocess_image(&p, &in, &(rng_stream){.seed = 1, .purpose = RNG_AUGMENT}, pixels, &err),
                     INLAY_OK);
    assert_int_equal(pixels[0], 105); /* 40 columns from 100 on, 10 for each pixel */
    assert_int_equal(pixels[3], 115);
    assert_int_equal(pixels[1], 3);
    image_free(&in);
}

static void test_flip(void **state)
{
    preprocess p = {.height = 2,
                    .width = 3,
                    .interpolation = RESAMPLE_NEAREST,
                    .scale_low = 1,
                    .scale_high = 1,
                    .ratio_low = 1.5,
                    .ratio_high = 1.5,
                    .flip = 1};
    uint8_t given[3 * 2 * 3], pixels[3 * 2 * 3];
    image in = {.width = 3, .height = 2, .rgb = given};
    inlay_error err;

    (void)state;
    for (size_t i = 0; i < sizeof given; i++)
        given[i] = (uint8_t)i;
    assert_int_equal(preprocess_image(&p, &in, &(rng_stream){.purpose = RNG_AUGMENT}, pixels, &err), INLAY_OK);
    assert_memory_equal(pixels, ((uint8_t[]){6, 7, 8, 3, 4, 5, 0, 1, 2, 15, 16, 17, 12, 13, 14, 9, 10, 11}),
                        sizeof pixels);
}

static void test_without_augmentation_nothing_is_drawn(void **state)
{
    preprocess p = {.height = 16, .width = 16, .crop_pct = 0.9, .interpolation = RESAMPLE_BICUBIC, .flip = 1.0};
    image in = pattern(60, 40);
    uint8_t plain[16 * 16 * 3], other[16 * 16 * 3];
    inlay_error err;

    (void)state;
    assert_int_equal(preprocess_image(&p, &in, NULL, plain, &err), INLAY_OK);
    assert_int_equal(preprocess_image(&p, &in, &(rng_stream){.seed = 9}, other, &err), INLAY_OK); /* scale_low is 0 */
    assert_memory_equal(plain, other, sizeof plain);
    p.scale_low = p.scale_high = 1.0;
    p.ratio_low = p.ratio_high = 1.0;
    assert_int_equal(preprocess_image(&p, &in, NULL, other, &err), INLAY_OK);
    assert_memory_equal(plain, other, sizeof plain);
    image_free(&in);
}

static void test_messages_name_the_file(void **state)
{
    preprocess p = {.height = 16, .width = 16, .crop_pct = 0.9, .interpolation = RESAMPLE_BICUBIC};
    uint8_t pixels[16 * 16 * 3];
    inlay_error err;

    (void)state;
    assert_int_equal(preprocess_file(&p, TEST_DATA "/images/rgb8.png", NULL, pixels, NULL, &err), INLAY_OK);
    assert_int_equal(preprocess_file(&p, TEST_DATA "/images/resize.txt", NULL, pixels, NULL, &err),
                     INLAY_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.message, "resize.txt"));
    p.width = 0;
    assert_int_equal(preprocess_file(&p, TEST_DATA "/images/rgb8.png", NULL, pixels, NULL, &err), INLAY_ERR_USAGE);
    assert_non_null(strstr(err.message, "rgb8.png"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_pixels_as_timm),
        cmocka_unit_test(test_too_small_images_are_padded_with_zeros),
        cmocka_unit_test(test_tf_bilinear_makes_floats),
        cmocka_unit_test(test_random_crops),
        cmocka_unit_test(test_random_crop_falls_back_to_the_centre),
        cmocka_unit_test(test_flip),
        cmocka_unit_test(test_without_augmentation_nothing_is_drawn),
        cmocka_unit_test(test_messages_name_the_file),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
