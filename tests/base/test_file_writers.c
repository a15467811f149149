/* Several writers of one file: one at a time, whole files only, and nothing that a killed one leaves is in the way. */
#include "support.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

static char folder[64], path[128], temporary[140], other[128];

static int set_up(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "%s", support_folder());
    snprintf(path, sizeof path, "%s/file", folder);
    snprintf(temporary, sizeof temporary, "%s.tmp", path);
    snprintf(other, sizeof other, "%s/other", folder);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    support_remove(folder);
    return 0;
}

static void expect_content(const char *name, const char *text)
{
    char *found;
    size_t size;
    inlay_error err;

    ASSERT_OK(file_read(name, 1 << 20, &found, &size, &err));
    assert_string_equal(found, text);
    free(found);
}

/* A process that has begun to write and waits to be killed. */
static pid_t begin_elsewhere(void)
{
    int ends[2];
    char ready;
    pid_t child;

    assert_int_equal(pipe(ends), 0);
    child = fork();
    if (child == 0) {
        file_writer w;
        inlay_error err;
        if (file_begin(&w, path, &err) == INLAY_OK && fputs("half", w.stream) >= 0 && fflush(w.stream) == 0 &&
            write(ends[1], "x", 1) == 1)
            pause();
        _exit(1);
    }
    close(ends[1]);
    assert_int_equal(read(ends[0], &ready, 1), 1);
    close(ends[0]);
    return child;
}

static void test_second_writer(void **state)
{
    pid_t child;
    file_writer w;
    inlay_error err;
    int status;

    (void)state;
    ASSERT_OK(file_write(path, "old", 3, &err));
    child = begin_elsewhere();
    assert_int_equal(file_write(path, "new", 3, &err), INLAY_ERR_IO);
    assert_non_null(strstr(err.message, "/file': it is being written by another process"));
    assert_int_equal(file_begin_named(&w, path, &err), INLAY_ERR_IO);
    assert_null(w.stream);
    expect_content(path, "old");
    expect_content(temporary, "half"); /* what the first one has is not touched */
    kill(child, SIGKILL);
    waitpid(child, &status, 0);
    ASSERT_OK(file_write(path, "new", 3, &err));
    expect_content(path, "new");
    assert_false(file_exists(temporary));
}

static void *write_here(void *argument)
{
    inlay_error err;

    *(inlay_status *)argument = file_write(path, "thread", 6, &err);
    return NULL;
}

static void test_threads(void **state)
{
    file_writer w;
    inlay_error err;
    inlay_status status;
    pthread_t thread;

    (void)state;
    ASSERT_OK(file_begin(&w, path, &err));
    fputs("first", w.stream);
    assert_int_equal(pthread_create(&thread, NULL, write_here, &status), 0);
    pthread_join(thread, NULL);
    assert_int_equal(status, INLAY_ERR_IO);
    ASSERT_OK(file_commit(&w, &err));
    expect_content(path, "first");
    write_here(&status);
    assert_int_equal(status, INLAY_OK);
}

/* What lies at the name of the temporary file is taken away, not written into. */
static void test_leftovers(void **state)
{
    inlay_error err;

    (void)state;
    ASSERT_OK(file_write(other, "kept", 4, &err));
    assert_int_equal(symlink(other, temporary), 0);
    ASSERT_OK(file_write(path, "a", 1, &err));
    assert_int_equal(link(other, temporary), 0);
    ASSERT_OK(file_write(path, "b", 1, &err));
    assert_int_equal(symlink("/no/such/file", temporary), 0);
    ASSERT_OK(file_write(path, "c", 1, &err));
    assert_int_equal(mkfifo(temporary, 0600), 0);
    ASSERT_OK(file_write(path, "d", 1, &err));
    ASSERT_OK(file_write(temporary, "longer than what comes", 22, &err));
    assert_int_equal(chmod(temporary, 0400), 0);
    ASSERT_OK(file_write(path, "e", 1, &err));
    expect_content(path, "e");
    expect_content(other, "kept");
    assert_int_equal(mkdir(temporary, 0700), 0);
    assert_int_equal(file_write(path, "f", 1, &err), INLAY_ERR_IO);
    expect_content(path, "e");
}

#define WRITERS 4
#define ROUNDS 150
#define BYTES 20000

/* Ends with 0 when every file was written, or refused as being written by another. */
static void write_many(char letter)
{
    static char bytes[BYTES];

    memset(bytes, letter, sizeof bytes);
    for (int i = 0; i < ROUNDS; i++) {
        file_writer w;
        inlay_error err;
        if (file_begin(&w, path, &err) != INLAY_OK) {
            if (strstr(err.message, "being written"))
                continue;
            _exit(1);
        }
        w.quick = i % 10 != 0;
        fwrite(bytes, 1, sizeof bytes, w.stream);
        if (i % 7 == 0)
            file_abandon(&w);
        else if (file_commit(&w, &err) != INLAY_OK)
            _exit(2);
    }
    _exit(0);
}

static void expect_whole(void)
{
    char *found;
    size_t size;
    inlay_error err;

    ASSERT_OK(file_read(path, BYTES, &found, &size, &err));
    assert_int_equal(size, BYTES);
    for (size_t i = 1; i < size; i++)
        assert_int_equal(found[i], found[0]);
    free(found);
}

static void test_many_writers(void **state)
{
    int left = WRITERS;

    (void)state;
    for (int i = 0; i < WRITERS; i++)
        if (fork() == 0)
            write_many((char)('a' + i));
    while (left > 0) {
        int status = 0;
        if (file_exists(path))
            expect_whole();
        if (waitpid(-1, &status, WNOHANG) > 0) {
            assert_int_equal(status, 0);
            left--;
        }
    }
    expect_whole();
    assert_false(file_exists(temporary));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_second_writer, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_threads, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_leftovers, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_many_writers, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
