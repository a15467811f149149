/* Files: what is read, what is written and never seen half done, and what the messages say when it fails. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"

/* Every test has an arena and an empty folder of its own. */
typedef struct place {
    arena *memory;
    char folder[64];
} place;

static int set_up(void **state)
{
    place *p = calloc(1, sizeof *p);

    p->memory = arena_new();
    snprintf(p->folder, sizeof p->folder, "/tmp/inlay-test-file-XXXXXX");
    *state = p;
    return mkdtemp(p->folder) ? 0 : -1;
}

static const char *in(const place *p, const char *name)
{
    return path_join(p->memory, p->folder, name);
}

static void remove_tree(arena *memory, const char *path)
{
    DIR *folder = opendir(path);

    for (struct dirent *entry; folder && (entry = readdir(folder)) != NULL;)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            remove_tree(memory, path_join(memory, path, entry->d_name));
    if (folder)
        closedir(folder);
    remove(path);
}

static int tear_down(void **state)
{
    place *p = *state;

    remove_tree(p->memory, p->folder);
    arena_free(p->memory);
    free(p);
    return 0;
}

static int entries(const place *p)
{
    DIR *folder = opendir(p->folder);
    int count = -2; /* . and .. */

    while (readdir(folder))
        count++;
    closedir(folder);
    return count;
}

static void holds(const char *path, const char *text)
{
    inlay_error err;
    char *data;
    size_t size;

    assert_int_equal(file_read(path, 1000, &data, &size, &err), INLAY_OK);
    assert_int_equal(size, strlen(text));
    assert_string_equal(data, text);
    free(data);
}

static void test_write_and_read(void **state)
{
    place *p = *state;
    const char *path = in(p, "a");
    inlay_error err;
    char *data;
    size_t size;

    assert_int_equal(file_write(path, "one", 3, &err), INLAY_OK);
    holds(path, "one");
    assert_int_equal(file_write(path, "two\n", 4, &err), INLAY_OK);
    holds(path, "two\n");
    assert_int_equal(file_write(in(p, "b"), NULL, 0, &err), INLAY_OK);
    holds(in(p, "b"), "");
    assert_int_equal(entries(p), 2); /* no temporary file is left */
    assert_int_equal(file_read(path, 3, &data, &size, &err), INLAY_ERR_FORMAT);
    assert_null(data);
    assert_non_null(strstr(err.message, "has 4 bytes, at most 3 are expected"));
    assert_int_equal(file_read(path, 4, &data, &size, &err), INLAY_OK);
    free(data);
}

static void test_nothing_is_seen_before_the_commit(void **state)
{
    place *p = *state;
    const char *path = in(p, "a");
    file_writer w;
    inlay_error err;

    assert_int_equal(file_write(path, "old", 3, &err), INLAY_OK);
    assert_int_equal(file_begin(&w, path, &err), INLAY_OK);
    fputs("new", w.stream);
    fflush(w.stream);
    holds(path, "old");
    assert_int_equal(entries(p), 2);
    file_abandon(&w);
    file_abandon(&w);
    assert_int_equal(entries(p), 1);
    holds(path, "old");
    assert_int_equal(file_begin(&w, path, &err), INLAY_OK);
    fputs("new", w.stream);
    assert_int_equal(file_commit(&w, &err), INLAY_OK);
    assert_int_equal(entries(p), 1);
    holds(path, "new");
}

/* A limit on the size of files stands in for a full disk. */
static void test_full_disk(void **state)
{
    place *p = *state;
    const char *path = in(p, "a");
    struct rlimit before, small;
    inlay_error err = {0};
    size_t size = 200000;
    char *data = calloc(1, size);
    inlay_status status;

    assert_int_equal(file_write(path, "old", 3, &err), INLAY_OK);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    signal(SIGXFSZ, SIG_IGN);
    small = before;
    small.rlim_cur = 70000;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    status = file_write(path, data, size, &err);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    signal(SIGXFSZ, SIG_DFL);
    assert_int_equal(status, INLAY_ERR_IO);
    assert_string_equal(err.message, arena_printf(p->memory, "cannot write '%s': %s", path, strerror(EFBIG)));
    holds(path, "old");
    assert_int_equal(entries(p), 1);
    free(data);
}

static void test_messages(void **state)
{
    place *p = *state;
    inlay_error err;
    file_map map;
    char hex[65];

    assert_int_equal(file_map_open(&map, in(p, "none"), &err), INLAY_ERR_IO);
    assert_string_equal(err.message,
                        arena_printf(p->memory, "cannot open '%s/none': No such file or directory", p->folder));
    assert_null(map.data);
    assert_int_equal(file_sha256(in(p, "none"), hex, &err), INLAY_ERR_IO);
    assert_int_equal(file_map_open(&map, p->folder, &err), INLAY_ERR_IO);
    assert_string_equal(err.message, arena_printf(p->memory, "'%s' is not a regular file", p->folder));
    assert_int_equal(file_write(in(p, "none/a"), "x", 1, &err), INLAY_ERR_IO);
    assert_string_equal(err.message,
                        arena_printf(p->memory, "cannot write '%s/none/a': No such file or directory", p->folder));
    assert_int_equal(file_write(p->folder, "x", 1, &err), INLAY_ERR_IO); /* a folder is not replaced */
    assert_string_equal(err.message, arena_printf(p->memory, "cannot write '%s': Is a directory", p->folder));
    assert_false(file_exists(arena_printf(p->memory, "%s.tmp", p->folder)));
    assert_int_equal(file_write(in(p, "none/a"), "x", 1, NULL), INLAY_ERR_IO); /* nobody asks for the message */
}

/* Waiting for somebody to write into it would be forever. */
static void test_named_pipes_are_refused(void **state)
{
    place *p = *state;
    inlay_error err;
    file_map map;

    assert_int_equal(mkfifo(in(p, "pipe"), 0600), 0);
    assert_int_equal(file_map_open(&map, in(p, "pipe"), &err), INLAY_ERR_IO);
    assert_non_null(strstr(err.message, "is not a regular file"));
}

static void test_read_only_folder(void **state)
{
    place *p = *state;
    inlay_error err;
    const char *path = in(p, "locked/a");

    if (geteuid() == 0) {
        print_message("root may write into read-only folders\n");
        skip();
    }
    assert_int_equal(file_make_folder(in(p, "locked"), &err), INLAY_OK);
    assert_int_equal(file_write(path, "old", 3, &err), INLAY_OK);
    assert_int_equal(chmod(in(p, "locked"), 0500), 0);
    assert_int_equal(file_write(path, "new", 3, &err), INLAY_ERR_IO);
    assert_string_equal(err.message, arena_printf(p->memory, "cannot write '%s': Permission denied", path));
    holds(path, "old");
    assert_int_equal(file_make_folder(in(p, "locked/b"), &err), INLAY_ERR_IO);
    assert_int_equal(chmod(in(p, "locked"), 0700), 0);
}

static void test_maps(void **state)
{
    place *p = *state;
    inlay_error err;
    file_map map;

    assert_int_equal(file_write(in(p, "a"), "abc", 3, &err), INLAY_OK);
    assert_int_equal(file_map_open(&map, in(p, "a"), &err), INLAY_OK);
    assert_int_equal(map.size, 3);
    file_map_release(&map);
    assert_memory_equal(map.data, "abc", 3);
    file_map_close(&map);
    file_map_close(&map);
    assert_int_equal(file_write(in(p, "empty"), "", 0, &err), INLAY_OK);
    assert_int_equal(file_map_open(&map, in(p, "empty"), &err), INLAY_OK);
    assert_null(map.data);
    assert_int_equal(map.size, 0);
    file_map_release(&map);
    file_map_close(&map);
}

static void test_make_folder(void **state)
{
    place *p = *state;
    inlay_error err;

    assert_int_equal(file_make_folder(in(p, "a/b//c/"), &err), INLAY_OK);
    assert_true(file_is_folder(in(p, "a/b/c")));
    assert_int_equal(file_make_folder(in(p, "a/b/c"), &err), INLAY_OK);
    assert_int_equal(file_make_folder("/", &err), INLAY_OK);
    assert_int_equal(file_make_folder("", &err), INLAY_ERR_IO);
    assert_int_equal(file_write(in(p, "file"), "x", 1, &err), INLAY_OK);
    assert_true(file_exists(in(p, "file")));
    assert_false(file_is_folder(in(p, "file")));
    assert_false(file_exists(in(p, "nothing")));
    assert_int_equal(file_make_folder(in(p, "file"), &err), INLAY_ERR_IO);
    assert_string_equal(err.message, arena_printf(p->memory, "cannot create folder '%s/file': File exists", p->folder));
    assert_int_equal(file_make_folder(in(p, "file/below"), &err), INLAY_ERR_IO);
}

static void test_paths(void **state)
{
    place *p = *state;

    assert_string_equal(path_join(p->memory, "a", "b"), "a/b");
    assert_string_equal(path_join(p->memory, "a/", "b"), "a/b");
    assert_string_equal(path_join(p->memory, "a", "/b"), "/b");
    assert_string_equal(path_join(p->memory, "", "b"), "b");
    assert_string_equal(path_join(p->memory, "/", "b"), "/b");
    assert_string_equal(path_base("a/b/c.txt"), "c.txt");
    assert_string_equal(path_base("c.txt"), "c.txt");
    assert_string_equal(path_base("a/"), "");
}

static void test_sha256(void **state)
{
    place *p = *state;
    inlay_error err;
    char hex[65];

    assert_int_equal(file_write(in(p, "abc"), "abc", 3, &err), INLAY_OK);
    assert_int_equal(file_sha256(in(p, "abc"), hex, &err), INLAY_OK);
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert_int_equal(file_write(in(p, "empty"), "", 0, &err), INLAY_OK);
    assert_int_equal(file_sha256(in(p, "empty"), hex, &err), INLAY_OK);
    assert_string_equal(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    bytes_sha256("abc", 3, hex);
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    bytes_sha256(NULL, 0, hex);
    assert_string_equal(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

/* A file that is written or replaced has another stamp, also when its time of modification is put back. */
static void test_stamps(void **state)
{
    place *p = *state;
    const char *path = in(p, "stamped");
    file_stamp first, second;
    inlay_error err;
    FILE *f;

    assert_false(file_stamp_of(path, &first));
    assert_int_equal(file_write(path, "abc", 3, &err), INLAY_OK);
    assert_true(file_stamp_of(path, &first) && file_stamp_of(path, &second));
    assert_true(file_stamp_same(&first, &second));
    usleep(20000); /* longer than the grain of the file system's clock */
    f = fopen(path, "r+b");
    assert_non_null(f);
    fputc('x', f);
    fclose(f);
    assert_true(file_stamp_of(path, &second));
    assert_false(file_stamp_same(&first, &second));
    assert_int_equal(file_write(path, "xbc", 3, &err), INLAY_OK);
    assert_true(file_stamp_of(path, &first));
    assert_false(file_stamp_same(&first, &second));
}

#define AT_PLACE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        AT_PLACE(test_write_and_read),
        AT_PLACE(test_nothing_is_seen_before_the_commit),
        AT_PLACE(test_full_disk),
        AT_PLACE(test_messages),
        AT_PLACE(test_named_pipes_are_refused),
        AT_PLACE(test_read_only_folder),
        AT_PLACE(test_maps),
        AT_PLACE(test_make_folder),
        AT_PLACE(test_paths),
        AT_PLACE(test_sha256),
        AT_PLACE(test_stamps),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
