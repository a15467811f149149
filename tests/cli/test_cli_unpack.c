/* inlay unpack: one process in a folder at a time, and whole images only, also when it is killed. */
#include "command.h"

#include <dirent.h>
#include <signal.h>

#define SIDE 40

/* `count` images of SIDE x SIDE pixels in two classes, and their labels. */
static void write_idx(uint32_t count)
{
    const unsigned char images[] = {0, 0,    8, 3, 0, 0,   (unsigned char)(count >> 8), (unsigned char)count, 0, 0,
                                    0, SIDE, 0, 0, 0, SIDE};
    const unsigned char labels[] = {0, 0, 8, 1, 0, 0, (unsigned char)(count >> 8), (unsigned char)count};
    char path[300];
    FILE *a, *b;

    path_in(path, "images");
    a = fopen(path, "wb");
    path_in(path, "labels");
    b = fopen(path, "wb");
    assert_true(a && b);
    fwrite(images, 1, sizeof images, a);
    fwrite(labels, 1, sizeof labels, b);
    for (uint32_t i = 0; i < count; i++) {
        for (int p = 0; p < SIDE * SIDE; p++)
            fputc((int)(i + (uint32_t)p) & 255, a);
        fputc((int)i & 1, b);
    }
    assert_int_equal(fclose(a) | fclose(b), 0);
}

#define UNPACK "unpack --images images --labels labels --output out --names even,odd"

static void test_unpacks(void **state)
{
    (void)state;
    write_idx(6);
    expect(inlay(UNPACK), 0);
    assert_non_null(strstr(text_of("out.txt"), "6 images of 40 x 40 in 'out'"));
    assert_memory_equal(text_of("out/odd/000005.pgm"), "P5\n40 40\n255\n\x05\x06\x07", 16);
    expect(shell("test $(ls out out/even out/odd | wc -l) = 13"), 0); /* no lock and no temporary file is left */
}

static void test_folder_in_use(void **state)
{
    char path[300];
    file_lock lock;
    bool held;
    inlay_error err;

    (void)state;
    write_idx(2);
    path_in(path, "out");
    ASSERT_OK(file_make_folder(path, &err));
    path_in(path, "out/lock");
    ASSERT_OK(file_lock_take(&lock, path, &held, &err));
    expect_error(inlay(UNPACK), 1, "'out' is in use by another run");
    expect(shell("test ! -e out/even"), 0);
    file_lock_release(&lock);
    expect(inlay(UNPACK), 0);
}

/* Every image that has its name is whole; returns how many there are. */
static int count_whole(const char *class)
{
    char path[300], name[700];
    struct dirent *entry;
    int count = 0;
    DIR *in;

    path_in(path, class);
    in = opendir(path);
    while (in && (entry = readdir(in)) != NULL) {
        size_t size = 0;
        snprintf(name, sizeof name, "%s/%s", path, entry->d_name);
        if (!strstr(entry->d_name, ".pgm") || strstr(entry->d_name, ".tmp"))
            continue;
        assert_true(file_size(name, &size));
        assert_int_equal(size, 13 + SIDE * SIDE);
        count++;
    }
    if (in)
        closedir(in);
    return count;
}

static void test_killed(void **state)
{
    (void)state;
    write_idx(3000);
    for (int i = 1; i <= 8; i++) {
        expect(shell("timeout -s KILL 0.0%d $INLAY " UNPACK " >/dev/null 2>&1 || true", i), 0);
        count_whole("out/even");
        count_whole("out/odd");
    }
    expect(inlay(UNPACK), 0); /* what the killed ones left is in nobody's way */
    assert_int_equal(count_whole("out/even") + count_whole("out/odd"), 3000);
    expect(shell("test -z \"$(find out -name '*.tmp' -o -name lock)\""), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_unpacks, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_folder_in_use, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_killed, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
