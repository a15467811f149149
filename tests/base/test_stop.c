/* Signals: the first one asks, a SIGINT after it ends the process. Signals that end a process strike a child. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/stop.h"

static void test_first_signal_sets_the_flag(void **state)
{
    (void)state;
    stop_install();
    assert_false(stop_requested());
    assert_int_equal(stop_signal(), 0);
    raise(SIGINT);
    assert_true(stop_requested());
    assert_int_equal(stop_signal(), SIGINT);
    raise(SIGTERM); /* the first one is remembered, further SIGTERMs do no harm */
    raise(SIGTERM);
    assert_int_equal(stop_signal(), SIGINT);
    stop_uninstall();
    assert_true(stop_requested());
    stop_install();
    assert_false(stop_requested());
    raise(SIGTERM);
    assert_int_equal(stop_signal(), SIGTERM);
    stop_uninstall();
}

static volatile sig_atomic_t heard;

static void hear(int number)
{
    heard = number;
}

static void test_uninstall_puts_back_what_was_there(void **state)
{
    struct sigaction mine = {.sa_handler = hear}, found;

    (void)state;
    assert_int_equal(sigaction(SIGTERM, &mine, NULL), 0);
    stop_install();
    stop_install(); /* twice is as good as once */
    raise(SIGTERM);
    assert_int_equal(heard, 0);
    stop_uninstall();
    stop_uninstall();
    assert_int_equal(sigaction(SIGTERM, NULL, &found), 0);
    assert_true(found.sa_handler == hear);
    raise(SIGTERM);
    assert_int_equal(heard, SIGTERM);
    signal(SIGTERM, SIG_DFL);
    assert_int_equal(sigaction(SIGINT, NULL, &found), 0);
    assert_true(found.sa_handler == SIG_DFL);
}

static void test_ignored_signals_stay_ignored(void **state)
{
    (void)state;
    signal(SIGINT, SIG_IGN);
    stop_install();
    raise(SIGINT);
    raise(SIGINT);
    assert_false(stop_requested());
    raise(SIGTERM);
    assert_true(stop_requested());
    stop_uninstall();
    signal(SIGINT, SIG_DFL);
}

/* Sends `first` and `second` to a child that only looks at the flag, and returns how it ended. */
static int end_of_child(int first, int second)
{
    int status = 0;
    pid_t child = fork();

    assert_true(child >= 0);
    if (child == 0) {
        stop_install();
        raise(first);
        if (!stop_requested())
            _exit(9);
        raise(second);
        _exit(7);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    return status;
}

static void test_second_interrupt_ends_the_process(void **state)
{
    int status = end_of_child(SIGINT, SIGINT);

    (void)state;
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGINT);
    status = end_of_child(SIGTERM, SIGINT);
    assert_true(WIFSIGNALED(status));
    status = end_of_child(SIGINT, SIGTERM);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 7);
}

static void *wait_for_flag(void *unused)
{
    while (!stop_requested())
        nanosleep(&(struct timespec){0, 100000}, NULL);
    return unused;
}

static void test_every_thread_sees_the_flag(void **state)
{
    pthread_t thread;

    (void)state;
    stop_install();
    assert_int_equal(pthread_create(&thread, NULL, wait_for_flag, NULL), 0);
    raise(SIGTERM);
    assert_int_equal(pthread_join(thread, NULL), 0);
    stop_uninstall();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_first_signal_sets_the_flag),   cmocka_unit_test(test_uninstall_puts_back_what_was_there),
        cmocka_unit_test(test_ignored_signals_stay_ignored), cmocka_unit_test(test_second_interrupt_ends_the_process),
        cmocka_unit_test(test_every_thread_sees_the_flag),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
