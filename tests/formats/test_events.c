/* TensorBoard event files: known checksums, and a reader of its own that takes a whole file apart again. */
#include "support.h"

#include <math.h>
#include <signal.h>
#include <sys/resource.h>
#include <time.h>

#include "formats/events.h"

/* ---- checksums: the vector that every description of CRC-32C gives, and RFC 3720's ---- */

static void test_crc(void **state)
{
    unsigned char bytes[32] = {0}, length[8] = {24};

    (void)state;
    assert_int_equal(crc32c("123456789", 9), 0xe3069283u);
    assert_int_equal(crc32c("", 0), 0);
    assert_int_equal(crc32c(bytes, 32), 0x8a9136aau);
    memset(bytes, 0xff, 32);
    assert_int_equal(crc32c(bytes, 32), 0x62a8ab43u);
    for (int i = 0; i < 32; i++)
        bytes[i] = (unsigned char)i;
    assert_int_equal(crc32c(bytes, 32), 0x46dd794eu);
    assert_int_equal(crc32c_masked(length, 8), 0x224b7fa3u);
}

/* ---- reading ---- */

typedef struct cursor {
    const unsigned char *at, *end;
} cursor;

static uint64_t take_little(cursor *c, int bytes)
{
    uint64_t x = 0;

    assert_true(c->end - c->at >= bytes);
    for (int i = 0; i < bytes; i++)
        x |= (uint64_t)c->at[i] << (8 * i);
    c->at += bytes;
    return x;
}

static uint64_t take_varint(cursor *c)
{
    uint64_t x = 0;

    for (int shift = 0;; shift += 7) {
        unsigned char byte = (unsigned char)take_little(c, 1);
        assert_true(shift < 64);
        x |= (uint64_t)(byte & 0x7f) << shift;
        if (!(byte & 0x80)) {
            assert_true(shift == 0 || byte != 0); /* no longer than it need be */
            return x;
        }
    }
}

static double take_double(cursor *c)
{
    uint64_t bits = take_little(c, 8);
    double x;

    memcpy(&x, &bits, sizeof x);
    return x;
}

static float take_float(cursor *c)
{
    uint32_t bits = (uint32_t)take_little(c, 4);
    float x;

    memcpy(&x, &bits, sizeof x);
    return x;
}

/* What stands behind a length. */
static cursor take_part(cursor *c)
{
    uint64_t size = take_varint(c);
    cursor part = {c->at, c->at + size};

    assert_true((uint64_t)(c->end - c->at) >= size);
    c->at += size;
    return part;
}

static void take_text(cursor *c, char *out, size_t room)
{
    cursor part = take_part(c);
    size_t size = (size_t)(part.end - part.at);

    assert_true(size < room);
    memcpy(out, part.at, size);
    out[size] = '\0';
}

typedef struct event {
    double wall_time;
    int64_t step;
    char version[32], tag[256];
    float scalar;
} event;

/* A key is field number and wire type: 0 varint, 1 eight bytes, 2 a length and so many bytes, 5 four bytes. */
#define KEY(field, wire) ((uint64_t)(field) << 3 | (wire))

static void take_value(cursor c, event *e)
{
    while (c.at < c.end)
        switch (take_varint(&c)) {
        case KEY(1, 2):
            take_text(&c, e->tag, sizeof e->tag);
            break;
        case KEY(2, 5):
            e->scalar = take_float(&c);
            break;
        default:
            fail_msg("a field of Summary.Value that nobody wrote");
        }
}

static event take_event(cursor c)
{
    event e = {.step = -99};

    while (c.at < c.end)
        switch (take_varint(&c)) {
        case KEY(1, 1):
            e.wall_time = take_double(&c);
            break;
        case KEY(2, 0):
            e.step = (int64_t)take_varint(&c);
            break;
        case KEY(3, 2):
            take_text(&c, e.version, sizeof e.version);
            break;
        case KEY(5, 2): {
            cursor summary = take_part(&c);
            assert_int_equal(take_varint(&summary), KEY(1, 2));
            take_value(take_part(&summary), &e);
            assert_ptr_equal(summary.at, summary.end);
            break;
        }
        default:
            fail_msg("a field of Event that nobody wrote");
        }
    return e;
}

/* The next record of a file: length, its checksum, so many bytes, their checksum. */
static event take_record(cursor *c)
{
    const unsigned char *begin = c->at;
    uint64_t length = take_little(c, 8);
    cursor part;

    assert_int_equal(take_little(c, 4), crc32c_masked(begin, 8));
    assert_true((uint64_t)(c->end - c->at) >= length);
    part = (cursor){c->at, c->at + length};
    c->at += length;
    assert_int_equal(take_little(c, 4), crc32c_masked(part.at, (size_t)length));
    return take_event(part);
}

/* The path of the one file in `folder`. */
static char *only_file(const char *folder)
{
    static char path[512];
    char command[256];
    FILE *list;

    snprintf(command, sizeof command, "ls -d %s/*", folder);
    list = popen(command, "r");
    assert_non_null(list);
    assert_non_null(fgets(path, sizeof path, list));
    assert_null(fgets(command, sizeof command, list));
    pclose(list);
    path[strcspn(path, "\n")] = '\0';
    return path;
}

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_REALTIME, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* ---- the tests ---- */

static void test_file_start(void **state)
{
    static const unsigned char expected[] = {24, 0, 0, 0, 0, 0, 0, 0, 0xa3, 0x7f, 0x4b, 0x22};
    const char *folder = support_folder(), *name;
    double before = now();
    inlay_error err;
    char *bytes, pid[32];
    size_t size;
    events *e;
    cursor c;
    event first;

    (void)state;
    events_close(NULL);
    ASSERT_OK(events_open(&e, folder, &err));
    name = strrchr(only_file(folder), '/') + 1;
    assert_memory_equal(name, "events.out.tfevents.", 20);
    snprintf(pid, sizeof pid, ".%ld.0", (long)getpid());
    assert_string_equal(name + strlen(name) - strlen(pid), pid);
    assert_true(fabs(strtod(name + 20, NULL) - before) < 60);

    ASSERT_OK(file_read(only_file(folder), 1000, &bytes, &size,
                        &err)); /* it is there before anything is written to it, and before it is closed */
    assert_int_equal(size, 8 + 4 + 24 + 4);
    assert_memory_equal(bytes, expected, sizeof expected);
    c = (cursor){(unsigned char *)bytes, (unsigned char *)bytes + size};
    first = take_record(&c);
    assert_ptr_equal(c.at, c.end);
    assert_string_equal(first.version, "brain.Event:2");
    assert_true(first.wall_time >= before && first.wall_time <= now());
    assert_int_equal(first.step, -99);
    assert_string_equal(first.tag, "");
    free(bytes);
    events_close(e);
    support_remove(folder);
}

static void test_scalars(void **state)
{
    static const struct {
        const char *tag;
        int64_t step;
        double scalar, wall_time;
    } rows[] = {
        {"loss", 0, 0.6931471805599453, 1700000000.25},
        {"loss", 1, -1.5, 1700000001},
        {"eval/accuracy", 127, 1, 1e-3},
        {"eval/accuracy", 128, -0.0, 1700000002.125},
        {"lr", 300, 1e-9, 1e12},
        {"lr", 16384, -3.4e38, 1},
        {"not a number", 2147483648, NAN, 1700000003},
        {"infinite", (int64_t)1 << 53, -INFINITY, 1700000004},
        {"the last step", INT64_MAX, 1e-45, 1700000005},
        {"before the first", -1, 3, 1700000006},
        {"", 5, 4, 1700000007},
        {"größe", 6, 5, 0},
    };
    const char *folder = support_folder();
    double before = now();
    inlay_error err;
    size_t size;
    char *bytes;
    events *e;
    cursor c;

    (void)state;
    ASSERT_OK(events_open(&e, folder, &err));
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        ASSERT_OK(events_scalar(e, rows[i].tag, rows[i].step, rows[i].scalar, rows[i].wall_time, &err));
    ASSERT_OK(file_read(only_file(folder), 10000, &bytes, &size, &err)); /* all of it on the disk already */
    c = (cursor){(unsigned char *)bytes, (unsigned char *)bytes + size};
    assert_string_equal(take_record(&c).version, "brain.Event:2");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        event back = take_record(&c);
        float scalar = (float)rows[i].scalar;
        assert_string_equal(back.tag, rows[i].tag);
        assert_string_equal(back.version, "");
        assert_int_equal(back.step, rows[i].step);
        if (isnan(scalar))
            assert_true(isnan(back.scalar));
        else
            assert_memory_equal(&back.scalar, &scalar, sizeof scalar);
        if (rows[i].wall_time > 0)
            assert_true(back.wall_time == rows[i].wall_time);
        else
            assert_true(back.wall_time >= before && back.wall_time <= now());
    }
    assert_ptr_equal(c.at, c.end);
    free(bytes);
    events_close(e);
    support_remove(folder);
}

/* A message is built in a fixed buffer: a tag that would not fit is cut. */
static void test_long_tag(void **state)
{
    const char *folder = support_folder();
    char tag[1000], *bytes;
    inlay_error err;
    size_t size;
    events *e;
    cursor c;

    (void)state;
    memset(tag, 'x', sizeof tag - 1);
    tag[sizeof tag - 1] = '\0';
    ASSERT_OK(events_open(&e, folder, &err));
    ASSERT_OK(events_scalar(e, tag, INT64_MIN, 1, 1, &err));
    events_close(e);
    ASSERT_OK(file_read(only_file(folder), 10000, &bytes, &size, &err));
    c = (cursor){(unsigned char *)bytes, (unsigned char *)bytes + size};
    take_record(&c);
    event back = take_record(&c);
    assert_int_equal(strlen(back.tag), 200);
    assert_int_equal(back.step, INT64_MIN);
    assert_ptr_equal(c.at, c.end);
    free(bytes);
    support_remove(folder);
}

static void test_no_folder(void **state)
{
    inlay_error err;
    events *e;

    (void)state;
    assert_int_equal(events_open(&e, "/nowhere/at/all", &err), INLAY_ERR_IO);
    assert_null(e);
    assert_non_null(strstr(err.message, "/nowhere/at/all/events.out.tfevents."));
}

/* The names that the file may get in the next seconds lead elsewhere: links that others put there are not followed. */
static void test_links(void **state)
{
    const char *folder = support_folder();
    char host[256] = "localhost", path[1024];
    inlay_error err = {INLAY_OK, ""};
    time_t begin = time(NULL);
    events *e;

    (void)state;
    gethostname(host, sizeof host - 1);
    for (int i = 0; i < 30; i++) {
        snprintf(path, sizeof path, "%s/events.out.tfevents.%lld.%s.%ld.0", folder, (long long)begin + i, host,
                 (long)getpid());
        assert_int_equal(symlink("victim", path), 0);
    }
    assert_int_equal(events_open(&e, folder, &err), INLAY_ERR_IO);
    assert_null(e);
    snprintf(path, sizeof path, "%s/events.out.tfevents.", folder);
    assert_non_null(strstr(err.message, path));
    assert_non_null(strstr(err.message, "it is a symbolic link"));
    snprintf(path, sizeof path, "%s/victim", folder);
    assert_false(file_exists(path));
    support_remove(folder);
}

/* No room for the first record. */
static void test_full_first(void **state)
{
    const char *folder = support_folder();
    struct rlimit old;
    inlay_error err = {INLAY_OK, ""};
    events *e;

    (void)state;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &(struct rlimit){4, old.rlim_max}), 0);
    assert_int_equal(events_open(&e, folder, &err), INLAY_ERR_IO);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    assert_null(e);
    assert_non_null(strstr(err.message, "cannot write"));
    support_remove(folder);
}

/* No room for a later record: the process may not write files beyond a size. */
static void test_full_later(void **state)
{
    const char *folder = support_folder();
    struct rlimit old, small;
    inlay_error err = {INLAY_OK, ""};
    inlay_status status = INLAY_OK;
    events *e;
    int written = 0;

    (void)state;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    small = old;
    small.rlim_cur = 500;
    ASSERT_OK(events_open(&e, folder, &err));
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    while (status == INLAY_OK && written < 100) {
        status = events_scalar(e, "loss", written, 0.5, 0, &err);
        written += status == INLAY_OK;
    }
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    signal(SIGXFSZ, SIG_DFL);
    assert_int_equal(status, INLAY_ERR_IO);
    assert_in_range(written, 5, 15);
    assert_non_null(strstr(err.message, only_file(folder)));
    events_close(e);
    support_remove(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_crc),        cmocka_unit_test(test_file_start), cmocka_unit_test(test_scalars),
        cmocka_unit_test(test_long_tag),   cmocka_unit_test(test_no_folder),  cmocka_unit_test(test_links),
        cmocka_unit_test(test_full_first), cmocka_unit_test(test_full_later),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
