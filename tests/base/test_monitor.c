/* What the process uses and runs on. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/monitor.h"

static void test_clock(void **state)
{
    double first = monitor_seconds(), second;

    (void)state;
    nanosleep(&(struct timespec){0, 20000000}, NULL);
    second = monitor_seconds();
    assert_true(second - first >= 0.0199 && second - first < 60);
}

static void test_memory(void **state)
{
    const size_t size = (size_t)64 << 20;
    uint64_t before = monitor_rss(), filled, peak;
    char *block;

    (void)state;
    if (before == 0) {
        print_message("no /proc here: resident memory is not known\n");
        skip();
    }
    block = malloc(size);
    assert_non_null(block);
    memset(block, 1, size);
    filled = monitor_rss();
    assert_true(filled >= before + size / 2);
    free(block);
    peak = monitor_peak_rss();
    assert_true(peak >= filled - filled / 8); /* the system counts in steps */
}

/* The highest is that since the reset. Pages of the system itself: an allocator may keep what is freed. */
static void test_peak_begins_again(void **state)
{
    const size_t size = (size_t)64 << 20;
    uint64_t filled;
    void *pages = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    (void)state;
    if (access("/proc/self/clear_refs", W_OK) != 0) {
        print_message("no /proc/self/clear_refs here: the peak is that of the process\n");
        skip();
    }
    assert_ptr_not_equal(pages, MAP_FAILED);
    memset(pages, 1, size);
    filled = monitor_peak_rss();
    assert_int_equal(munmap(pages, size), 0);
    assert_true(monitor_peak_rss() >= filled - filled / 8);
    monitor_reset_peak();
    assert_true(monitor_peak_rss() <= filled - size / 2);
}

static void test_machine(void **state)
{
    monitor_machine m;

    (void)state;
    monitor_describe(&m);
    assert_true(strlen(m.cpu) > 0);
    assert_null(strchr(m.cpu, '\n'));
    assert_in_range(m.processors, 1, 100000);
    assert_true(m.memory > monitor_peak_rss());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_clock),
        cmocka_unit_test(test_memory),
        cmocka_unit_test(test_peak_begins_again),
        cmocka_unit_test(test_machine),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
