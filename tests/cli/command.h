/* Running the command in a folder of the test's own, and looking at what it says. */
#ifndef TESTS_CLI_COMMAND_H
#define TESTS_CLI_COMMAND_H

#include "support.h"

#include <jansson.h>
#include <sys/wait.h>

#define VIT TEST_DATA "/oracle/vit"

static char folder[64];

/* Runs `inlay <arguments>` there; output in out.txt and err.txt. Returns the exit status. */
static int inlay(const char *format, ...) __attribute__((format(printf, 1, 2)));
static int inlay(const char *format, ...)
{
    char arguments[2048], command[3072];
    va_list list;
    int status;

    va_start(list, format);
    vsnprintf(arguments, sizeof arguments, format, list);
    va_end(list);
    snprintf(command, sizeof command, "cd '%s' && '%s' %s >out.txt 2>err.txt", folder, INLAY_BINARY, arguments);
    status = system(command);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static inline void path_in(char out[300], const char *name)
{
    snprintf(out, 300, "%s/%s", folder, name);
}

/* A file of that folder as text, until the next one is read. */
static inline char *text_of(const char *name)
{
    static char *kept;
    char path[300];
    size_t size;
    inlay_error err;

    free(kept);
    path_in(path, name);
    ASSERT_OK(file_read(path, 1 << 24, &kept, &size, &err));
    return kept;
}

static inline void expect(int status, int wanted)
{
    if (status != wanted)
        fail_msg("exit status %d, expected %d; it said: %s", status, wanted, text_of("err.txt"));
}

static inline void expect_error(int status, int wanted, const char *part)
{
    expect(status, wanted);
    if (!strstr(text_of("err.txt"), part))
        fail_msg("'%s' is not in: %s", part, text_of("err.txt"));
}

static inline json_t *json_of(const char *name)
{
    json_error_t where;
    json_t *root = json_loads(text_of(name), 0, &where);

    if (!root)
        fail_msg("no JSON: line %d: %s", where.line, where.text);
    return root;
}

#endif
