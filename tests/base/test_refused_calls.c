/* Every error that the system may give for a file that is read: about the file, or trouble of the moment. The calls are
 * refused by a filter of the kernel's (seccomp), in a process of their own. */
#define _GNU_SOURCE
#include "support.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/file.h"

#define MOST_ERRNO 133

/* From here on `call` fails with `cause`. False: the kernel has no such filters. */
static bool refuse(long call, int cause)
{
    struct sock_filter rules[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)call, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (uint32_t)cause),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof rules / sizeof *rules, rules};

    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

enum { UNKNOWN = 200 }; /* exit status: nothing can be said here */

/* What `read` gives where `call` fails with `cause`. */
static int outcome(inlay_status (*read_it)(const char *), const char *path, long call, int cause)
{
    int status;
    pid_t child = fork();

    assert_true(child >= 0);
    if (child == 0)
        _exit(refuse(call, cause) ? (int)read_it(path) : UNKNOWN);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == UNKNOWN)
        skip();
    return WEXITSTATUS(status);
}

static inlay_status map_it(const char *path)
{
    file_map map;
    inlay_error err;

    return file_map_open(&map, path, &err);
}

static inlay_status lock_it(const char *path)
{
    file_lock lock;
    inlay_error err;
    bool held;

    return file_lock_take(&lock, path, &held, &err);
}

static inlay_status exists(const char *path)
{
    return file_exists(path) ? INLAY_OK : INLAY_ERR_IO;
}

static bool is_lasting(int cause)
{
    return cause == ENOENT || cause == ENOTDIR || cause == EACCES || cause == EPERM || cause == ELOOP ||
           cause == ENAMETOOLONG || cause == EISDIR || cause == ENXIO || cause == EINVAL || cause == EOVERFLOW ||
           cause == EFBIG;
}

static void test_every_error(void **state)
{
    char path[300], lock[300];
    char *folder = support_folder();
    inlay_error err;

    (void)state;
    skip_under_sanitizers("they make calls of their own");
    snprintf(path, sizeof path, "%s/file", folder);
    snprintf(lock, sizeof lock, "%s/lock", folder);
    ASSERT_OK(file_write(path, "bytes", 5, &err));
    for (int cause = 1; cause <= MOST_ERRNO; cause++) {
        inlay_status wanted = is_lasting(cause) ? INLAY_ERR_IO : cause == ENOMEM ? INLAY_ERR_NOMEM : INLAY_ERR_SYSTEM;
        if (cause == EINTR || cause == EAGAIN)
            continue; /* may be tried again */
        int opened = outcome(map_it, path, SYS_openat, cause), examined = outcome(map_it, path, SYS_newfstatat, cause);
        if (opened != (int)wanted)
            fail_msg("opening: errno %d gives %d", cause, opened);
        if (examined != (int)wanted && examined != INLAY_OK) /* the C library may have another call for it */
            fail_msg("examining: errno %d gives %d", cause, examined);
        /* a file that may be there is not written over, and no lock is waited for for ever */
        if (cause != EACCES && !is_lasting(cause))
            assert_int_equal(outcome(exists, path, SYS_newfstatat, cause), INLAY_OK);
        if (cause != ENOENT)
            assert_int_not_equal(outcome(lock_it, lock, SYS_openat, cause), INLAY_OK);
        if (cause != ENOENT)
            outcome(lock_it, lock, SYS_newfstatat, cause); /* ends */
    }
    support_remove(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_every_error)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
