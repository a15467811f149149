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
        expect_refused(packed, cut, cut < 14 ? "not an IDX file" : "truncated");
    packed[size - 5] ^= 1;
    expect_refused(packed, size, "incorrect data check");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whole),
        cmocka_unit_test(test_broken),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
