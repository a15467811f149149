/* Reading ahead: the order, unreadable images, any number of workers, stopping early. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

#include "data/loader.h"

#define IMAGES TEST_DATA "/images/"
enum { SIZE = 16, BYTES = SIZE * SIZE * 3 };

/* Every fifth is not an image, one is missing. */
static const char *const files[] = {"rgb8.png",  "grey.jpg",      "lossy.webp", "rgb24.bmp",    "decode.txt",
                                    "rgb16.ppm", "ycbcr_420.jpg", "none.png",   "palette4.png", "resize.txt"};
enum { FILES = sizeof files / sizeof files[0], COUNT = 200 };

static const preprocess prep = {.height = SIZE,
                                .width = SIZE,
                                .crop_pct = 0.875,
                                .interpolation = RESAMPLE_BICUBIC,
                                .scale_low = 0.3,
                                .scale_high = 1.0,
                                .ratio_low = 0.75,
                                .ratio_high = 1.33,
                                .flip = 0.5};

static dataset *make_set(void)
{
    arena *memory = arena_new();
    dataset *set = ARENA_NEW(memory, dataset);

    set->memory = memory;
    set->count = FILES;
    set->samples = ARENA_ARRAY(memory, sample, FILES);
    for (int i = 0; i < FILES; i++)
        set->samples[i] = (sample){.path = arena_printf(memory, "%s%s", IMAGES, files[i]), .label = 100 + i};
    return set;
}

static bool is_bad(int index)
{
    return index == 4 || index == 7 || index == 9;
}

/* Reads all in batches, checks their order, returns a hash of the pixels. */
static uint64_t read_all(const loader_request *request, int batch)
{
    unsigned char *pixels = malloc((size_t)batch * BYTES);
    int *indices = malloc((size_t)batch * sizeof *indices), got, position = 0, bad = 0, short_batches = 0;
    uint64_t hash = 0xCBF29CE484222325u;
    loader *l;
    inlay_error err;

    assert_int_equal(loader_new(&l, request, &err), INLAY_OK);
    do {
        assert_int_equal(loader_next(l, batch, pixels, indices, &got, &err), INLAY_OK);
        short_batches += got < batch;
        for (int i = 0; i < got; i++, position++) {
            for (; is_bad(request->order[position]); position++)
                bad++;
            assert_int_equal(indices[i], request->order[position]);
            for (int j = 0; j < BYTES; j++)
                hash = (hash ^ pixels[i * BYTES + j]) * 0x100000001B3u;
        }
    } while (got > 0);
    for (; position < request->count; position++)
        bad += is_bad(request->order[position]);
    assert_true(short_batches <= 2); /* the last one with samples, and the empty one */
    assert_int_equal(loader_bad_count(l), bad);
    for (int i = 0; i < bad; i++)
        assert_non_null(strstr(loader_bad_message(l, i), IMAGES));
    loader_free(l);
    free(pixels);
    free(indices);
    return hash;
}

static void test_same_pixels_whatever_the_workers(void **state)
{
    static const int shapes[][3] = {{1, 1, 7},   {1, 8, 32},  {3, 2, 1},
                                    {4, 16, 32}, {8, 5, 300}, {2, 1000, 13}}; /* workers, ahead, batch */
    dataset *set = make_set();
    int order[COUNT];
    loader_request request = {.data = set, .prep = &prep, .order = order, .count = COUNT, .seed = 3, .epoch = 2};
    uint64_t plain = 0, augmented = 0;

    (void)state;
    for (int i = 0; i < COUNT; i++)
        order[i] = (i * 7 + i / 10) % FILES;
    for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++) {
        uint64_t found;
        request.workers = shapes[s][0];
        request.ahead = shapes[s][1];
        request.augment = false;
        found = read_all(&request, shapes[s][2]);
        assert_true(s == 0 || found == plain);
        plain = found;
        request.augment = true;
        found = read_all(&request, shapes[s][2]);
        assert_true(s == 0 || found == augmented);
        augmented = found;
    }
    assert_true(plain != augmented);
    request.epoch = 4;
    assert_true(read_all(&request, 32) != augmented);
    dataset_free(set);
}

static void test_pixels_are_those_of_preprocess_file(void **state)
{
    dataset *set = make_set();
    const int order[] = {3, 0};
    loader_request request = {.data = set,
                              .prep = &prep,
                              .order = order,
                              .count = 2,
                              .workers = 2,
                              .ahead = 4,
                              .augment = true,
                              .seed = 11,
                              .epoch = 5};
    unsigned char pixels[2 * BYTES], expected[BYTES];
    int indices[2], got;
    loader *l;
    inlay_error err;

    (void)state;
    assert_int_equal(loader_new(&l, &request, &err), INLAY_OK);
    assert_int_equal(loader_next(l, 2, pixels, indices, &got, &err), INLAY_OK);
    assert_int_equal(got, 2);
    for (int i = 0; i < 2; i++) {
        rng_stream stream = {.seed = 11, .purpose = RNG_AUGMENT, .stream = (uint32_t)order[i], .step = 5};
        assert_int_equal(preprocess_file(&prep, set->samples[order[i]].path, &stream, expected, NULL, &err), INLAY_OK);
        assert_memory_equal(pixels + i * BYTES, expected, BYTES);
    }
    loader_free(l);
    dataset_free(set);
}

static void test_stopping_early(void **state)
{
    dataset *set = make_set();
    int order[COUNT] = {0}, indices[4], got;
    loader_request request = {.data = set, .prep = &prep, .order = order, .count = COUNT, .workers = 4, .ahead = 8};
    unsigned char pixels[4 * BYTES];
    inlay_error err;

    (void)state;
    for (int batches = 0; batches < 3; batches++) {
        loader *l;
        assert_int_equal(loader_new(&l, &request, &err), INLAY_OK);
        for (int i = 0; i < batches; i++)
            assert_int_equal(loader_next(l, 4, pixels, indices, &got, &err), INLAY_OK);
        loader_free(l);
    }
    loader_free(NULL);
    dataset_free(set);
}

static void test_nothing_to_read_and_nothing_readable(void **state)
{
    dataset *set = make_set();
    const int bad[] = {4, 7, 9};
    loader_request request = {.data = set, .prep = &prep, .order = bad, .count = 3, .workers = 2, .ahead = 2};

    (void)state;
    read_all(&request, 5);
    request.count = 0;
    read_all(&request, 5);
    dataset_free(set);
}

static void test_refusals(void **state)
{
    dataset *set = make_set();
    const int order[] = {FILES};
    loader_request request = {.data = set, .prep = &prep, .order = order, .count = 1, .workers = 1, .ahead = 1};
    loader *l;
    inlay_error err;

    (void)state;
    assert_int_equal(loader_new(&l, &request, &err), INLAY_ERR_USAGE);
    assert_non_null(strstr(err.message, "sample 10 of a set of 10"));
    assert_null(l);
    request.count = 0;
    request.workers = 0;
    assert_int_equal(loader_new(&l, &request, &err), INLAY_ERR_USAGE);
    dataset_free(set);
}

/* No more files may be opened: no fault of the images, so that none is left out. */
static void test_trouble_of_the_moment(void **state)
{
    dataset *set = make_set();
    const int order[] = {0, 1, 2};
    loader_request request = {.data = set, .prep = &prep, .order = order, .count = 3, .workers = 2, .ahead = 4};
    unsigned char pixels[3 * BYTES];
    struct rlimit usual, none;
    int indices[3], got;
    loader *l;
    inlay_error err;

    (void)state;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &usual), 0);
    none = (struct rlimit){.rlim_cur = 0, .rlim_max = usual.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    assert_int_equal(loader_new(&l, &request, &err), INLAY_OK);
    assert_int_equal(loader_next(l, 3, pixels, indices, &got, &err), INLAY_ERR_SYSTEM);
    assert_int_equal(loader_bad_count(l), 0);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &usual), 0);
    assert_non_null(strstr(err.message, strerror(EMFILE)));
    loader_free(l);
    assert_int_equal(loader_new(&l, &request, &err), INLAY_OK);
    assert_int_equal(loader_next(l, 3, pixels, indices, &got, &err), INLAY_OK);
    assert_int_equal(got, 3);
    loader_free(l);
    dataset_free(set);
}

static void write_text(const char *path, const char *text)
{
    inlay_error err;

    assert_int_equal(file_write(path, text, strlen(text), &err), INLAY_OK);
}

/* What an image was is kept as it is read; another content, a file that went or came, is an error, another time is
 * none. */
static void test_records(void **state)
{
    static const char *const names[] = {"a.ppm", "b.ppm", "c.ppm"};
    char folder[] = "/tmp/inlay-loader-XXXXXX", path[3][64];
    sample samples[3];
    dataset set = {.count = 3, .samples = samples};
    image_records first, then;
    inlay_error err;

    (void)state;
    assert_non_null(mkdtemp(folder));
    for (int i = 0; i < 3; i++) {
        snprintf(path[i], sizeof path[i], "%s/%s", folder, names[i]);
        samples[i] = (sample){.path = path[i]};
    }
    write_text(path[0], "one image");
    write_text(path[1], "another");
    assert_int_equal(image_records_new(&first, &set, &err), INLAY_OK);
    assert_int_equal(image_records_read(&first, 0, "one image", 9, &err), INLAY_OK);
    assert_int_equal(image_records_failed(&first, 2, &err), INLAY_OK);
    assert_int_equal(image_records_read(&first, 0, "one image", 9, &err), INLAY_OK);
    assert_int_equal(image_records_read(&first, 0, "two image", 9, &err), INLAY_ERR_MISMATCH);
    assert_int_equal(image_records_failed(&first, 0, &err), INLAY_ERR_MISMATCH);
    assert_int_equal(image_records_read(NULL, 0, "", 0, &err), INLAY_OK);

    write_text(path[0], "one image");  /* a copy: another time, the same bytes */
    write_text(path[1], "now longer"); /* was not read before */
    assert_int_equal(image_records_new(&then, &set, &err), INLAY_OK);
    assert_int_equal(image_records_resume(&then, first.size, first.modified, first.sum, &err), INLAY_OK);
    assert_true(then.sum[0] == first.sum[0] && then.sum[1] == 0 && then.sum[2] == -1);
    image_records_free(&then);

    write_text(path[0], "two image"); /* of the same size */
    assert_int_equal(image_records_new(&then, &set, &err), INLAY_OK);
    assert_int_equal(image_records_resume(&then, first.size, first.modified, first.sum, &err), INLAY_ERR_MISMATCH);
    assert_non_null(strstr(err.message, "/a.ppm' is another image"));
    image_records_free(&then);

    assert_int_equal(remove(path[0]), 0);
    assert_int_equal(image_records_new(&then, &set, &err), INLAY_OK);
    assert_int_equal(image_records_resume(&then, first.size, first.modified, first.sum, &err), INLAY_ERR_MISMATCH);
    assert_non_null(strstr(err.message, "/a.ppm' was read by this run before and cannot be opened"));
    image_records_free(&then);

    write_text(path[0], "one image");
    write_text(path[2], "found again");
    assert_int_equal(image_records_new(&then, &set, &err), INLAY_OK);
    assert_int_equal(image_records_resume(&then, first.size, first.modified, first.sum, &err), INLAY_ERR_MISMATCH);
    assert_non_null(strstr(err.message, "/c.ppm' could not be opened by this run before"));
    image_records_free(&then);
    image_records_free(&first);
    for (int i = 0; i < 3; i++)
        remove(path[i]);
    remove(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_pixels_whatever_the_workers),
        cmocka_unit_test(test_trouble_of_the_moment),
        cmocka_unit_test(test_records),
        cmocka_unit_test(test_pixels_are_those_of_preprocess_file),
        cmocka_unit_test(test_stopping_early),
        cmocka_unit_test(test_nothing_to_read_and_nothing_readable),
        cmocka_unit_test(test_refusals),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
