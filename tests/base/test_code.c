/* Which code runs: the same for the same program, another one for another program. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <dlfcn.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/code.h"

static const char *program;

static void read_from(const char *path, char hex[65])
{
    char command[1024];
    FILE *in;

    snprintf(command, sizeof command, "'%s' print", path);
    in = popen(command, "r");
    assert_non_null(in);
    assert_non_null(fgets(hex, 65, in));
    assert_int_equal(pclose(in), 0);
}

static void test_identity(void **state)
{
    char mine[65], again[65], copied[65], command[2048];
    char folder[] = "/tmp/inlay-test-code-XXXXXX";
    inlay_error err;

    (void)state;
    assert_int_equal(code_identity(mine, &err), INLAY_OK);
    assert_int_equal(strspn(mine, "0123456789abcdef"), 64);
    read_from(program, again);
    assert_string_equal(mine, again);
    /* the build id tells, not the file */
    assert_non_null(mkdtemp(folder));
    snprintf(command, sizeof command, "cp '%s' '%s/copy'", program, folder);
    assert_int_equal(system(command), 0);
    snprintf(command, sizeof command, "%s/copy", folder);
    read_from(command, copied);
    assert_string_equal(mine, copied);
    snprintf(command, sizeof command, "rm -r '%s'", folder);
    assert_int_equal(system(command), 0);
}

static void load_nothing(void)
{
}

static void load_library(void)
{
    dlopen("libutil.so.1", RTLD_NOW);
    dlopen("libBrokenLocale.so.1", RTLD_NOW);
}

static void end_by_abort(void)
{
    fputs("terminate called\n", stderr);
    abort();
}

static void end_early(void)
{
    _exit(0);
}

static void end_by_a_fault(void)
{
    raise(SIGSEGV);
}

/* Whatever happens while libraries are loaded happens elsewhere. */
static void test_identity_of_what_is_loaded(void **state)
{
    static void (*const ends[])(void) = {end_by_abort, end_early, end_by_a_fault};
    char mine[65], same[65], more[65];
    inlay_error err = {0};

    (void)state;
    assert_int_equal(code_identity(mine, &err), INLAY_OK);
    assert_int_equal(code_identity_loaded(load_nothing, same, &err), INLAY_OK);
    assert_string_equal(mine, same);
    assert_int_equal(code_identity_loaded(load_library, more, &err), INLAY_OK);
    assert_string_not_equal(mine, more);
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        assert_int_equal(code_identity_loaded(ends[i], more, &err), INLAY_ERR_NOMEM);
        assert_non_null(strstr(err.message, "out of memory loading the libraries"));
    }
    assert_int_equal(code_identity(same, &err), INLAY_OK); /* nothing was loaded here */
    assert_string_equal(mine, same);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* and nobody is left */
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_identity),
                                       cmocka_unit_test(test_identity_of_what_is_loaded)};
    char hex[65];
    inlay_error err;

    program = argv[0];
    if (argc > 1)
        return code_identity(hex, &err) == INLAY_OK && printf("%s", hex) == 64 ? 0 : 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
