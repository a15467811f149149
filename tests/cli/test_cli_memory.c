/* --memory: what does not fit is refused before the start; images that would take too much are left out, and what
 * the command takes stays within what it was allowed. */
#define _GNU_SOURCE
#include "command.h"

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

/* What a process takes besides the budget: program, libraries, stacks, what the allocator keeps. */
#define SLACK ((uint64_t)64 << 20)

/* ---- files ---- */

typedef struct bytes {
    unsigned char *data;
    size_t size;
} bytes;

static void put(bytes *b, const void *data, size_t size)
{
    b->data = realloc(b->data, b->size + size);
    assert_non_null(b->data);
    memcpy(b->data + b->size, data, size);
    b->size += size;
}

static void put_marker(bytes *b, int marker, const void *data, size_t size)
{
    const unsigned char head[4] = {0xFF, (unsigned char)marker, (unsigned char)((size + 2) >> 8),
                                   (unsigned char)(size + 2)};

    put(b, head, sizeof head);
    put(b, data, size);
}

/* A progressive JPEG whose header says `side` x `side` pixels of three colours, and which has `filling` bytes of a
 * first scan. */
static void write_progressive(const char *name, unsigned side, size_t filling)
{
    const unsigned char high = (unsigned char)(side >> 8), low = (unsigned char)side;
    unsigned char quantiser[65] = {0}, frame[] = {8, high, low, high, low, 3, 1, 0x11, 0, 2, 0x11, 0, 3, 0x11, 0},
                  codes[18] = {0, 1}, scan[] = {3, 1, 0, 2, 0, 3, 0, 0, 0, 0};
    bytes b = {0};
    char path[300];
    unsigned char *zeros = calloc(filling, 1);
    inlay_error err;

    memset(quantiser + 1, 16, 64);
    put(&b, "\xFF\xD8", 2);
    put_marker(&b, 0xDB, quantiser, sizeof quantiser);
    put_marker(&b, 0xC2, frame, sizeof frame);
    put_marker(&b, 0xC4, codes, sizeof codes);
    put_marker(&b, 0xDA, scan, sizeof scan);
    put(&b, zeros, filling);
    put(&b, "\xFF\xD9", 2);
    path_in(path, name);
    ASSERT_OK(file_write(path, (const char *)b.data, b.size, &err));
    free(zeros);
    free(b.data);
}

/* ---- running ---- */

/* Runs a command line in a child and returns the most memory that it had, in bytes. */
static uint64_t peak_of(const char *arguments, int *status)
{
    char command[3072];
    struct rusage usage;
    pid_t child;

    snprintf(command, sizeof command, "cd '%s' && exec '%s' %s >out.txt 2>err.txt", folder, INLAY_BINARY, arguments);
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        execl("/bin/sh", "sh", "-c", command, (char *)NULL);
        _exit(127);
    }
    assert_int_equal(wait4(child, status, 0, &usage), child);
    *status = WIFEXITED(*status) ? WEXITSTATUS(*status) : 128 + WTERMSIG(*status);
    return (uint64_t)usage.ru_maxrss * 1024;
}

#define TRAIN "train --backbone " VIT " --data data --epochs 1 --batch-size 6 --threads 1 "

static void test_training_is_refused_before_it_starts(void **state)
{
    static const char *const parts[] = {"weights ",
                                        "gradients and optimiser ",
                                        "activations of training ",
                                        "activations of evaluation ",
                                        "images read ahead ",
                                        "decoding ",
                                        "a smaller --batch-size",
                                        "a larger --memory"};
    char path[300];

    (void)state;
    expect_error(inlay(TRAIN "--output run --memory 100K"), 1, "of memory are needed and --memory is 100 kB");
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (!strstr(text_of("err.txt"), parts[i]))
            fail_msg("'%s' is not in: %s", parts[i], text_of("err.txt"));
    path_in(path, "run/metrics.jsonl");
    assert_false(file_exists(path));
    expect(inlay(TRAIN "--output run --memory 60M"), 0);
}

/* The same bits in memory and in a file, and whatever the budget is. */
static void test_a_cache_that_does_not_fit_is_a_file(void **state)
{
    char *first, *second;
    size_t first_size, second_size;
    char path[300];
    inlay_error err;

    (void)state;
    expect(inlay(TRAIN "--output small --memory 60M --cache-limit 1K"), 0);
    assert_non_null(strstr(text_of("err.txt"), "cached features in 'small'"));
    assert_null(strstr(text_of("err.txt"), "feature cache"));
    expect(inlay(TRAIN "--output large --memory 1G"), 0);
    assert_null(strstr(text_of("err.txt"), "cached features in"));
    assert_non_null(strstr(text_of("err.txt"), "feature cache"));
    assert_non_null(strstr(text_of("err.txt"), "1.0 GB in all"));
    path_in(path, "small/adapter.safetensors");
    ASSERT_OK(file_read(path, 1 << 24, &first, &first_size, &err));
    path_in(path, "large/adapter.safetensors");
    ASSERT_OK(file_read(path, 1 << 24, &second, &second_size, &err));
    assert_int_equal(first_size, second_size);
    assert_memory_equal(first, second, first_size);
    free(first);
    free(second);
}

static void test_the_other_commands_are_refused(void **state)
{
    (void)state;
    expect(inlay(TRAIN "--output evaluated"), 0);
    expect_error(inlay("eval --backbone " VIT " --data data --adapter evaluated --memory 50K"), 1, "activations ");
    expect_error(inlay("predict --backbone " VIT " --adapter evaluated data --memory 50K"), 1, "--memory is 50.0 kB");
    expect_error(inlay("bench --backbone " VIT " --threads 1 --precision f32 --memory 50K"), 1,
                 "gradients and optimiser ");
    expect_error(inlay("pretrain --data data --output fresh --epochs 1 --image-size 28 --memory 100K"), 1,
                 "gradients and optimiser ");
    expect_error(inlay("predict --backbone " VIT " data --memory lots"), 2, "expected a size such as 512");
    expect(inlay("eval --backbone " VIT " --threads 1 --data data --adapter evaluated --memory 60M"), 0);
    expect(inlay("bench --backbone " VIT " --threads 1 --precision f32 --runs 1 --memory 100M"), 0);
}

static void test_large_images_are_left_out(void **state)
{
    const uint64_t budget = 100000000; /* --memory 100 */
    uint64_t peak;
    int status;

    (void)state;
    skip_under_sanitizers("they keep freed memory and map terabytes");
    expect(inlay("predict --backbone " VIT " data/test"), 0); /* nine good images; what a machine has is enough */
    assert_null(strstr(text_of("err.txt"), "left out"));
    write_progressive("data/test/hostile.jpg", 16384, 500);
    for (int i = 0; i < 8; i++) { /* with bytes enough for their blocks */
        char name[40];
        snprintf(name, sizeof name, "data/test/large%d.jpg", i);
        write_progressive(name, 5000, 150000);
    }
    peak = peak_of("predict --backbone " VIT " data/test --workers 8 --threads 1 --memory 100 --json", &status);
    expect(status, 0);
    assert_true(peak < budget + SLACK);
    for (int i = 0; i < 8; i++) {
        char message[100];
        snprintf(message, sizeof message, "data/test/large%d.jpg': decoding its 5000 x 5000 pixels takes ", i);
        assert_non_null(strstr(text_of("err.txt"), message));
    }
    assert_non_null(strstr(text_of("err.txt"), "an image may take 18.8 MB"));
    assert_non_null(strstr(text_of("err.txt"), "data/test/hostile.jpg"));
    {
        json_t *root = json_of("out.txt");
        assert_int_equal(json_array_size(json_object_get(root, "results")), 9);
        json_decref(root);
    }
    expect(inlay("predict --backbone " VIT " data/test --workers 8 --memory 100 --strict"), 1);
    /* with room for one of them at a time, eight workers take no more than that */
    peak = peak_of("predict --backbone " VIT " data/test --workers 8 --threads 1 --memory 1300 --json", &status);
    expect(status, 0);
    assert_null(strstr(text_of("err.txt"), "large"));
    if (peak > 244000000 + SLACK)
        fail_msg("%.1f MB were taken of a share of 244", (double)peak / 1e6);
    for (int i = 0; i < 8; i++) {
        char name[40], path[300];
        snprintf(name, sizeof name, "data/test/large%d.jpg", i);
        path_in(path, name);
        unlink(path);
    }
    unlink("data/test/hostile.jpg");
}

/* A run goes on without the image, cached or not, and is evaluated without it. */
static void test_runs_leave_large_images_out(void **state)
{
    static const char *const caches[] = {"auto", "off"};
    char path[300];

    (void)state;
    write_progressive("data/train/class0/large.jpg", 5000, 150000);
    for (int i = 0; i < 2; i++) {
        expect(inlay(TRAIN "--output left --overwrite --memory 100 --feature-cache %s", caches[i]), 0);
        assert_non_null(strstr(text_of("err.txt"), "large.jpg': decoding its 5000 x 5000 pixels takes "));
        expect_error(inlay(TRAIN "--output strict --overwrite --strict --memory 100 --feature-cache %s", caches[i]), 1,
                     "large.jpg': decoding its 5000 x 5000 pixels takes ");
    }
    path_in(path, "data/train/class0/large.jpg");
    unlink(path);
    write_progressive("data/val/class0/large.jpg", 5000, 150000);
    expect(inlay("eval --backbone " VIT " --data data --split val --adapter left --threads 1 --memory 100"), 0);
    assert_non_null(strstr(text_of("err.txt"), "large.jpg': decoding its 5000 x 5000 pixels takes "));
    expect(inlay("eval --backbone " VIT " --data data --split val --adapter left --threads 1 --memory 100 --strict"),
           1);
    path_in(path, "data/val/class0/large.jpg");
    unlink(path);
}

/* What is left of a process's addresses is the budget, where nobody says more. */
static void test_limited_addresses(void **state)
{
    char command[1024];
    int status;

    (void)state;
    skip_under_sanitizers("they map terabytes of addresses");
    write_progressive("data/val/large.jpg", 9000, 700000);
    snprintf(command, sizeof command,
             "cd '%s' && ulimit -v 700000 && '%s' predict --backbone " VIT
             " data/val --threads 1 --workers 1 >out.txt 2>err.txt",
             folder, INLAY_BINARY);
    if (system("ulimit -v 700000 2>/dev/null && true") != 0)
        skip();
    status = system(command);
    expect(WEXITSTATUS(status), 0);
    assert_non_null(strstr(text_of("err.txt"), "data/val/large.jpg': decoding its 9000 x 9000 pixels takes "));
    assert_non_null(strstr(text_of("out.txt"), "data/val/"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_training_is_refused_before_it_starts),
        cmocka_unit_test(test_a_cache_that_does_not_fit_is_a_file),
        cmocka_unit_test(test_the_other_commands_are_refused),
        cmocka_unit_test(test_large_images_are_left_out),
        cmocka_unit_test(test_runs_leave_large_images_out),
        cmocka_unit_test(test_limited_addresses),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
