/* What memory is free, read from folders that look like a machine's. */
#define _GNU_SOURCE
#include "support.h"

#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/monitor.h"

static char *root;

static void put(const char *name, const char *text)
{
    char path[512];
    FILE *out;

    snprintf(path, sizeof path, "%s/%s", root, name);
    for (char *slash = strchr(path + strlen(root) + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        mkdir(path, 0777);
        *slash = '/';
    }
    out = fopen(path, "w");
    assert_non_null(out);
    fputs(text, out);
    fclose(out);
}

#define MEMINFO \
    "MemTotal:       16000000 kB\nMemFree:         1000000 kB\nMemAvailable:    8000000 kB\nSwapFree: 99999999 kB\n"
#define AVAILABLE ((uint64_t)8000000 * 1024)
#define GROUP "sys/fs/cgroup/"

static int set_up(void **state)
{
    (void)state;
    root = strdup(support_folder());
    put("proc/meminfo", MEMINFO);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    support_remove(root);
    free(root);
    return 0;
}

static void test_machine_alone(void **state)
{
    (void)state;
    assert_true(monitor_free(root) == AVAILABLE);
    put("proc/self/cgroup", "0::/\n");
    put(GROUP "memory.max", "max\n");
    put(GROUP "memory.current", "5000\n");
    assert_true(monitor_free(root) == AVAILABLE);
}

static void test_version_two(void **state)
{
    (void)state;
    put("proc/self/cgroup", "1:name=systemd:/elsewhere\n0::/a/b\n");
    put(GROUP "a/b/memory.max", "3000000000\n");
    put(GROUP "a/b/memory.current", "1000000000\n");
    put(GROUP "a/b/memory.stat", "anon 1\ninactive_file 300000000\nactive_file 100000000\nfile 500000000\n");
    put(GROUP "a/b/memory.swap.max", "9000000000\n");
    assert_true(monitor_free(root) == 2400000000u); /* what files are cached in is taken back */
    put(GROUP "a/memory.max", "2000000000\n");      /* the group above has less */
    put(GROUP "a/memory.current", "1500000000\n");
    assert_true(monitor_free(root) == 500000000u);
    put(GROUP "a/memory.current", "2500000000\n"); /* its limit was lowered: nothing, which is not unknown */
    assert_true(monitor_free(root) == 1);
    put(GROUP "a/memory.max", "max\n");
    put(GROUP "a/b/memory.max", "99000000000000\n");
    assert_true(monitor_free(root) == AVAILABLE);
}

/* In a container the group's path is that of the host, and its files lie at the top. */
static void test_version_one(void **state)
{
    (void)state;
    put("proc/self/cgroup", "5:cpu,cpuacct:/x\n4:memory:/docker/0123\n0::/\n");
    put(GROUP "memory/memory.limit_in_bytes", "1000000000\n");
    put(GROUP "memory/memory.usage_in_bytes", "400000000\n");
    put(GROUP "memory/memory.stat", "inactive_file 7\ntotal_inactive_file 100000000\ntotal_active_file 0\n");
    assert_true(monitor_free(root) == 700000000u);
    put(GROUP "memory/docker/0123/memory.limit_in_bytes", "600000000\n");
    put(GROUP "memory/docker/0123/memory.usage_in_bytes", "1\n");
    assert_true(monitor_free(root) == 599999999u);
    put(GROUP "memory/docker/0123/memory.limit_in_bytes", "9223372036854771712\n");
    put(GROUP "memory/memory.limit_in_bytes", "9223372036854771712\n");
    assert_true(monitor_free(root) == AVAILABLE);
}

static void test_nothing_is_known(void **state)
{
    (void)state;
    assert_true(monitor_free("/nonexistent") == 0);
    put("proc/meminfo", "MemTotal: 5 kB\n");
    put("proc/self/cgroup", "nonsense\n0::\n:::\n0::relative\n");
    assert_true(monitor_free(root) == 0);
    put("proc/self/cgroup", "0::/\n");
    put(GROUP "memory.max", "1000\n"); /* without memory.current */
    assert_true(monitor_free(root) == 1000);
}

static void test_limit_of_addresses(void **state)
{
    int status;
    pid_t child;

    (void)state;
    skip_under_sanitizers("they map terabytes of addresses");
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct rlimit limit = {(rlim_t)4 << 30, (rlim_t)4 << 30};
        uint64_t left;
        if (setrlimit(RLIMIT_AS, &limit) != 0)
            _exit(2);
        left = monitor_free(root);
        _exit(left > 1 && left < (uint64_t)4 << 30 ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    if (WEXITSTATUS(status) == 2)
        skip();
    assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_machine_alone),    TEST(test_version_two),        TEST(test_version_one),
        TEST(test_nothing_is_known), TEST(test_limit_of_addresses),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
