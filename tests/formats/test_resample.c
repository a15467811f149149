/* Resampling against hashes of what Pillow makes (tests/data/images/resize.txt), and TensorFlow's bilinear against its
 * definition. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "patterns.h"

static void test_resizes_as_pillow(void **state)
{
    FILE *list = fopen(TEST_DATA "/images/resize.txt", "r");
    int w, h, to_w, to_h, cases = 0;
    char name[20], where[100], hash[20], found[20];

    (void)state;
    assert_non_null(list);
    while (fscanf(list, "%d %d %d %d %19s %99s %19s", &w, &h, &to_w, &to_h, name, where, hash) == 7) {
        double box[4];
        bool boxed = sscanf(where, "%lf,%lf,%lf,%lf", &box[0], &box[1], &box[2], &box[3]) == 4;
        image in = pattern(w, h), out;
        resample filter;
        inlay_error err;
        assert_true(resample_from_name(name, &filter));
        assert_int_equal(image_resize(&out, &in, to_w, to_h, filter, boxed ? box : NULL, &err), INLAY_OK);
        snprintf(found, sizeof found, "%016llx", (unsigned long long)fnv(out.rgb, (size_t)to_w * (size_t)to_h * 3));
        if (out.width != to_w || out.height != to_h || strcmp(found, hash) != 0)
            fail_msg("%d x %d to %d x %d, %s, box %s differs from Pillow", w, h, to_w, to_h, name, where);
        image_free(&out);
        image_free(&in);
        cases++;
    }
    fclose(list);
    assert_true(cases >= 80);
}

static void test_window_is_a_crop_of_the_whole(void **state)
{
    static const int parts[][4] = {{0, 0, 40, 33}, {7, 5, 20, 11}, {39, 32, 1, 1}, {0, 30, 40, 3}};
    image in = pattern(97, 61), whole, part, crop;
    inlay_error err;

    (void)state;
    for (resample filter = RESAMPLE_NEAREST; filter <= RESAMPLE_HAMMING; filter++)
        for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
            const int *p = parts[i];
            assert_int_equal(image_resize(&whole, &in, 40, 33, filter, NULL, &err), INLAY_OK);
            assert_int_equal(image_crop(&crop, &whole, p[0], p[1], p[2], p[3], &err), INLAY_OK);
            assert_int_equal(image_resize_window(&part, &in, 40, 33, filter, NULL, p, &err), INLAY_OK);
            assert_memory_equal(part.rgb, crop.rgb, (size_t)p[2] * (size_t)p[3] * 3);
            image_free(&whole);
            image_free(&part);
            image_free(&crop);
        }
    /* axes that are only copied */
    assert_int_equal(image_resize_window(&part, &in, 97, 61, RESAMPLE_BICUBIC, NULL, (int[]){90, 2, 7, 59}, &err),
                     INLAY_OK);
    assert_int_equal(image_crop(&crop, &in, 90, 2, 7, 59, &err), INLAY_OK);
    assert_memory_equal(part.rgb, crop.rgb, 7 * 59 * 3);
    image_free(&part);
    image_free(&crop);
    image_free(&in);
}

static void test_refusals(void **state)
{
    image in = pattern(8, 8), out;
    inlay_error err;
    const double outside[4] = {0, 0, 9, 8}, empty[4] = {3, 0, 3, 8}, not_a_number[4] = {NAN, 0, 8, 8};

    (void)state;
    assert_int_equal(image_resize(&out, &in, 0, 4, RESAMPLE_BOX, NULL, &err), INLAY_ERR_USAGE);
    assert_int_equal(image_resize(&out, &in, 1 << 20, 1 << 20, RESAMPLE_BOX, NULL, &err), INLAY_ERR_USAGE);
    assert_int_equal(image_resize(&out, &in, 4, 4, RESAMPLE_TF_BILINEAR, NULL, &err), INLAY_ERR_USAGE);
    assert_int_equal(image_resize(&out, &in, 4, 4, RESAMPLE_BOX, outside, &err), INLAY_ERR_USAGE);
    assert_non_null(strstr(err.message, "not inside the image of 8 x 8"));
    assert_int_equal(image_resize(&out, &in, 4, 4, RESAMPLE_NEAREST, empty, &err), INLAY_ERR_USAGE);
    assert_int_equal(image_resize(&out, &in, 4, 4, RESAMPLE_BOX, not_a_number, &err), INLAY_ERR_USAGE);
    assert_int_equal(image_resize_window(&out, &in, 4, 4, RESAMPLE_BOX, NULL, (int[]){2, 0, 3, 4}, &err),
                     INLAY_ERR_USAGE);
    assert_null(out.rgb);
    image_free(&in);
}

/* Half-pixel centres without antialiasing, in double precision. */
static double tf_expected(const image *in, int width, int height, int x, int y, int c)
{
    double at_x = (x + 0.5) * in->width / width - 0.5, at_y = (y + 0.5) * in->height / height - 0.5, value = 0;

    for (int dy = 0; dy < 2; dy++)
        for (int dx = 0; dx < 2; dx++) {
            double weight_x = dx ? at_x - floor(at_x) : 1 - (at_x - floor(at_x)),
                   weight_y = dy ? at_y - floor(at_y) : 1 - (at_y - floor(at_y));
            int sx = (int)fmin(fmax(floor(at_x) + dx, 0), in->width - 1),
                sy = (int)fmin(fmax(floor(at_y) + dy, 0), in->height - 1);
            value += weight_x * weight_y * in->rgb[(sy * in->width + sx) * 3 + c];
        }
    return value;
}

static void test_tf_bilinear(void **state)
{
    static const int sizes[][4] = {{97, 61, 224, 224}, {97, 61, 30, 20}, {5, 4, 5, 4}, {1, 1, 3, 2}, {2, 300, 64, 7}};

    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        int width = sizes[i][2], height = sizes[i][3];
        image in = pattern(sizes[i][0], sizes[i][1]);
        float *out = malloc((size_t)width * (size_t)height * 3 * sizeof *out);
        image_resize_tf_bilinear(out, &in, width, height);
        for (int y = 0; y < height; y++)
            for (int x = 0; x < width; x++)
                for (int c = 0; c < 3; c++)
                    assert_true(fabs(out[(y * width + x) * 3 + c] - tf_expected(&in, width, height, x, y, c)) < 0.01);
        free(out);
        image_free(&in);
    }
}

static void test_names(void **state)
{
    resample r;

    (void)state;
    for (resample i = RESAMPLE_NEAREST; i <= RESAMPLE_TF_BILINEAR; i++) {
        assert_true(resample_from_name(resample_name(i), &r));
        assert_int_equal(r, i);
    }
    assert_true(resample_from_name("pil-bicubic-aa", &r) && r == RESAMPLE_BICUBIC);
    assert_true(resample_from_name("pil-bilinear-aa", &r) && r == RESAMPLE_BILINEAR);
    assert_false(resample_from_name("cubic", &r));
    assert_true(resample_from_pillow_code(1, &r) && r == RESAMPLE_LANCZOS);
    assert_true(resample_from_pillow_code(3, &r) && r == RESAMPLE_BICUBIC);
    assert_false(resample_from_pillow_code(6, &r) || resample_from_pillow_code(-1, &r));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_resizes_as_pillow),
        cmocka_unit_test(test_window_is_a_crop_of_the_whole),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_tf_bilinear),
        cmocka_unit_test(test_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
