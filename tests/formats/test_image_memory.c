/* Every format takes its memory from the share before it decodes, gives it back, and reads the same bits as without. */
#define _GNU_SOURCE
#include "support.h"

#include <dirent.h>
#include <pthread.h>

#include "formats/image.h"

#define FOLDER TEST_DATA "/images"
#define PLENTY ((uint64_t)1 << 40)

typedef struct found {
    int images, formats;
    const char *seen[20];
} found;

static void note_format(found *f, const char *format)
{
    for (int i = 0; i < f->formats; i++)
        if (f->seen[i] == format)
            return;
    f->seen[f->formats++] = format;
}

/* One that a decoder reads with all memory there is. */
static void check_image(found *f, const char *name, const char *bytes, size_t size, unsigned how)
{
    memory_share share;
    image plain, taken;
    inlay_error err;
    uint64_t needed;

    if (image_decode(&plain, bytes, size, name, how, &err) != INLAY_OK)
        return;
    memory_share_open(&share, PLENTY);
    ASSERT_OK(image_decode_from(&taken, bytes, size, name, how, &(image_memory){.share = &share, .side = 224}, &err));
    needed = share.used;
    assert_true(needed >= (uint64_t)plain.width * (uint64_t)plain.height * 3);
    assert_int_equal(taken.width, plain.width);
    assert_int_equal(taken.height, plain.height);
    assert_memory_equal(taken.rgb, plain.rgb, (size_t)plain.width * (size_t)plain.height * 3);
    image_free(&taken);
    image_free(&plain);
    assert_int_equal(share.used, 0);
    memory_share_close(&share);

    memory_share_open(&share, needed - 1);
    assert_int_equal(
        image_decode_from(&taken, bytes, size, name, how, &(image_memory){.share = &share, .side = 224}, &err),
        INLAY_ERR_UNSUPPORTED);
    if (!strstr(err.message, name) || !strstr(err.message, " takes ") || !strstr(err.message, "an image may take "))
        fail_msg("%s", err.message);
    assert_null(taken.rgb);
    assert_int_equal(share.used, 0);
    memory_share_close(&share);

    memory_share_open(&share, needed); /* the very size is enough */
    ASSERT_OK(image_decode_from(&taken, bytes, size, name, how, &(image_memory){.share = &share, .side = 224}, &err));
    image_free(&taken);
    memory_share_close(&share);
    f->images++;
    note_format(f, image_format_of(bytes, size));
}

/* What is cut off anywhere leaves nothing taken. */
static void check_pieces(const char *name, const char *bytes, size_t size)
{
    memory_share share;
    inlay_error err;
    image img;

    memory_share_open(&share, PLENTY);
    for (size_t cut = 1; cut < size; cut += 1 + size / 37) {
        if (image_decode_from(&img, bytes, cut, name, 0, &(image_memory){.share = &share}, &err) == INLAY_OK)
            image_free(&img);
        assert_int_equal(share.used, 0);
    }
    memory_share_close(&share);
}

static void test_every_format(void **state)
{
    DIR *list = opendir(FOLDER);
    const struct dirent *entry;
    found f = {0};

    (void)state;
    assert_non_null(list);
    while ((entry = readdir(list)) != NULL) {
        char path[600], *bytes;
        inlay_error err;
        size_t size;
        snprintf(path, sizeof path, FOLDER "/%s", entry->d_name);
        if (entry->d_name[0] == '.' || !image_has_ending(entry->d_name) ||
            file_read(path, 1 << 24, &bytes, &size, &err) != INLAY_OK)
            continue;
        check_image(&f, entry->d_name, bytes, size, 0);
        check_image(&f, entry->d_name, bytes, size, IMAGE_UPRIGHT);
        check_pieces(entry->d_name, bytes, size);
        free(bytes);
    }
    closedir(list);
    print_message("%d images of %d formats\n", f.images, f.formats);
    assert_true(f.formats >= 7 && f.images >= 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_every_format)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
