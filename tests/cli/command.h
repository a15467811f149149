/* The command, run as a person would run it: in a folder of its own, with what it printed at hand. */
#ifndef TESTS_CLI_COMMAND_H
#define TESTS_CLI_COMMAND_H

#include "support.h"

#include <jansson.h>
#include <sys/wait.h>

#define VIT TEST_DATA "/oracle/vit"

static char folder[64];

/* A shell line in the folder, between `front` and `end`. Returns its exit status. */
static inline int run_line(const char *front, const char *format, va_list list, const char *end)
{
    char line[2048], command[3072];
    int status;

    vsnprintf(line, sizeof line, format, list);
    snprintf(command, sizeof command, "cd '%s' && INLAY='%s' && %s%s%s", folder, INLAY_BINARY, front, line, end);
    status = system(command);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* Runs `inlay <arguments>` in the test's folder; output in out.txt and err.txt there. Returns the exit status. */
static inline int inlay(const char *format, ...) __attribute__((format(printf, 1, 2)));
static inline int inlay(const char *format, ...)
{
    va_list list;
    int status;

    va_start(list, format);
    status = run_line("\"$INLAY\" ", format, list, " >out.txt 2>err.txt");
    va_end(list);
    return status;
}

/* A shell line in the folder, with $INLAY as the program. Returns its exit status. */
static inline int shell(const char *format, ...) __attribute__((format(printf, 1, 2)));
static inline int shell(const char *format, ...)
{
    va_list list;
    int status;

    va_start(list, format);
    status = run_line("", format, list, "");
    va_end(list);
    return status;
}

static inline char *text_of(const char *name)
{
    static char *kept;
    char path[400];
    size_t size;
    inlay_error err;

    free(kept);
    snprintf(path, sizeof path, "%s/%s", folder, name);
    ASSERT_OK(file_read(path, 1 << 24, &kept, &size, &err));
    return kept;
}

static inline void expect(int status, int wanted)
{
    if (status != wanted)
        fail_msg("exit status %d, expected %d; it said: %s", status, wanted, text_of("err.txt"));
}

/* One clear line on standard error that names `part`. */
static inline void expect_error(int status, int wanted, const char *part)
{
    const char *text;

    expect(status, wanted);
    text = text_of("err.txt");
    if (!strstr(text, part))
        fail_msg("'%s' is not in: %s", part, text);
}

static inline json_t *json_of(const char *name)
{
    json_error_t where;
    json_t *root = json_loads(text_of(name), 0, &where);

    if (!root)
        fail_msg("no JSON: line %d: %s", where.line, where.text);
    return root;
}

/* The member `key` of a run's adapter.json. */
static inline json_t *member_of_run(const char *run, const char *key)
{
    char name[64];
    json_t *root, *member;

    snprintf(name, sizeof name, "%s/adapter.json", run);
    root = json_of(name);
    member = json_incref(json_object_get(root, key));
    json_decref(root);
    return member;
}

static inline void path_in(char out[300], const char *name)
{
    snprintf(out, 300, "%s/%s", folder, name);
}

/* A folder with `data`: three classes in splits. */
static inline int set_up(void **state)
{
    char data[300];

    (void)state;
    snprintf(folder, sizeof folder, "%s", support_folder());
    path_in(data, "data");
    support_images(data, "train", 3, 6, 40);
    support_images(data, "val", 3, 2, 40);
    support_images(data, "test", 3, 3, 40);
    return 0;
}

static inline int tear_down(void **state)
{
    (void)state;
    support_remove(folder);
    return 0;
}

#endif
