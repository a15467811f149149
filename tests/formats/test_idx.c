/* IDX files: sizes and items, plain and gzipped, and every way in which one can be broken. */
#include "support.h"

#include "formats/idx.h"

#include <zlib.h>

static const unsigned char whole[] = {0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 3, 1, 2, 3, 4, 5, 6};

/* The file's bytes, gzipped; *size is the room and becomes the length. */
static void pack(unsigned char *out, size_t *size, const unsigned char *bytes, size_t count)
{
    z_stream z = {.next_in = (unsigned char *)(uintptr_t)bytes,
                  .avail_in = (unsigned)count,
                  .next_out = out,
                  .avail_out = (unsigned)*size};

    assert_int_equal(deflateInit2(&z, 9, Z_DEFLATED, 31, 8, Z_DEFAULT_STRATEGY), Z_OK);
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    *size = z.total_out;
    deflateEnd(&z);
}

/* Reads all items of a file with these bytes; the status of the first thing that fails. */
static inlay_status read_all(const unsigned char *bytes, size_t size, inlay_error *err)
{
    char path[64];
    unsigned char item[3];
    idx_file f;
    inlay_status status;

    snprintf(path, sizeof path, "/tmp/inlay-idx-%d", (int)getpid());
    assert_int_equal(file_write(path, bytes, size, err), INLAY_OK);
    status = idx_open(&f, path, 3, err);
    for (uint32_t i = 0; status == INLAY_OK && i < f.sizes[0]; i++) {
        status = idx_read(&f, i, item, sizeof item, err);
        if (status == INLAY_OK)
            assert_memory_equal(item, whole + 16 + 3 * i, 3);
    }
    if (status == INLAY_OK)
        status = idx_finish(&f, err);
    idx_close(&f);
    unlink(path);
    return status;
}

static void test_whole(void **state)
{
    unsigned char packed[256];
    size_t size = sizeof packed;
    inlay_error err;
    (void)state;

    pack(packed, &size, whole, sizeof whole);
    ASSERT_OK(read_all(whole, sizeof whole, &err));
    ASSERT_OK(read_all(packed, size, &err));
}

static void expect_refused(const unsigned char *bytes, size_t size, const char *part)
{
    inlay_error err = {0};

    assert_int_equal(read_all(bytes, size, &err), INLAY_ERR_FORMAT);
    if (!strstr(err.message, part))
        fail_msg("'%s' is not in: %s", part, err.message);
    assert_non_null(strstr(err.message, "/inlay-idx-"));
    assert_null(strstr(strstr(err.message, "/inlay-idx-") + 1, "/inlay-idx-"));
}

static void test_broken(void **state)
{
    unsigned char bytes[sizeof whole + 1], packed[256];
    size_t size = sizeof packed;
    (void)state;

    for (size_t cut = 0; cut < sizeof whole; cut++)
        expect_refused(whole, cut, "truncated");
    memcpy(bytes, whole, sizeof whole);
    bytes[sizeof whole] = 7;
    expect_refused(bytes, sizeof bytes, "bytes behind the last of 2 items");
    bytes[2] = 9;
    expect_refused(bytes, sizeof whole, "begins with 00 00 09 03, expected 00 00 08 03");
    pack(packed, &size, whole, sizeof whole);
    for (size_t cut = 3; cut < size; cut++)
        expect_refused(packed, cut, "truncated");
    packed[size - 5] ^= 1;
    expect_refused(packed, size,
                   "data is damaged, as was found while reading the head of an IDX file: incorrect data check");
}

/* One byte of the packed file is another one. */
static void expect_damage(size_t at, unsigned char byte, const char *part)
{
    unsigned char packed[256];
    size_t size = sizeof packed;

    pack(packed, &size, whole, sizeof whole);
    packed[at] = byte;
    expect_refused(packed, size, part);
}

/* Every message is a sentence: the file once, what was expected, what was found. */
static void test_sentences(void **state)
{
    static const unsigned char text[] = "hello", image[] = "\x89PNG\r\n\x1a\n0000000000000000";
    unsigned char bytes[300] = {0}, packed[600];
    size_t size = sizeof packed;
    inlay_error err = {0};
    idx_file f;
    (void)state;

    expect_refused(whole, 0, ": truncated: the head of an IDX file has 16 bytes, 0 of them are there");
    expect_refused(whole, 9, ": truncated: the head of an IDX file has 16 bytes, 9 of them are there");
    expect_refused(whole, sizeof whole - 1, ": truncated: item 2 of 2 has 3 bytes, 2 of them are there");
    expect_refused(text, 5, " with 3 dimensions: it begins with 68 65 6c 6c, expected 00 00 08 03");
    expect_refused(text, 1, "it begins with 68, expected 00 00 08 03");
    expect_refused(image, sizeof image, "it begins with 89 50 4e 47, expected");
    expect_damage(2, 7, "damaged, as was found while reading the head of an IDX file: unknown compression method");
    expect_damage(3, 0xe0, "damaged, as was found while reading the head of an IDX file: unknown header flags set");
    expect_damage(10, 0x07, "damaged, as was found while reading the head of an IDX file: invalid block type");
    pack(packed, &size, whole, sizeof whole);
    packed[size - 1] ^= 1;
    expect_refused(packed, size,
                   "data is damaged, as was found while reading the head of an IDX file: incorrect length check");
    expect_refused(packed, size - 1, ": truncated: the gzip data has to end with a checksum, in 8 bytes");
    size = sizeof packed;
    memcpy(bytes, whole, sizeof whole);
    pack(packed, &size, bytes, sizeof bytes);
    expect_refused(packed, size, ": there are bytes behind the last of 2 items");
    assert_int_equal(idx_open(&f, "/tmp", 3, &err), INLAY_ERR_IO);
    assert_string_equal(err.message, "cannot read '/tmp': Is a directory");
    idx_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whole),
        cmocka_unit_test(test_broken),
        cmocka_unit_test(test_sentences),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
