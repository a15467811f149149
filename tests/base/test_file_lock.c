/* The lock on a name, and the list of maps that names the file of an address. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"

static char folder[64], path[128], other[128];

static int set_up(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/inlay-test-lock-XXXXXX");
    if (!mkdtemp(folder))
        return -1;
    snprintf(path, sizeof path, "%s/lock", folder);
    snprintf(other, sizeof other, "%s/other", folder);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    unlink(path);
    unlink(other);
    return rmdir(folder);
}

/* Status of a process that runs `action`. */
static int elsewhere(int (*action)(void))
{
    pid_t child = fork();
    int status;

    if (child == 0)
        _exit(action());
    assert_int_equal(waitpid(child, &status, 0), child);
    return WEXITSTATUS(status);
}

static int is_refused(void)
{
    file_lock lock;
    bool held;
    inlay_error err;

    return file_lock_take(&lock, path, &held, &err) == INLAY_OK && held && !lock.path ? 0 : 1;
}

static int takes_it_and_dies(void)
{
    file_lock lock;
    bool held;
    inlay_error err;

    return file_lock_take(&lock, path, &held, &err) == INLAY_OK && !held ? 0 : 1;
}

static void test_one_at_a_time(void **state)
{
    file_lock lock;
    bool held;
    inlay_error err;

    (void)state;
    assert_false(file_lock_held(path));
    assert_int_equal(file_lock_take(&lock, path, &held, &err), INLAY_OK);
    assert_false(held);
    assert_true(file_lock_held(path));
    assert_int_equal(elsewhere(is_refused), 0);
    file_lock_release(&lock);
    assert_false(file_exists(path));
    assert_false(file_lock_held(path));
    file_lock_release(&lock); /* nothing is held any more */
}

static void test_ends_with_the_process(void **state)
{
    file_lock lock;
    bool held;
    inlay_error err;

    (void)state;
    assert_int_equal(elsewhere(takes_it_and_dies), 0);
    assert_true(file_exists(path)); /* and means nothing */
    assert_false(file_lock_held(path));
    assert_int_equal(file_lock_take(&lock, path, &held, &err), INLAY_OK);
    assert_false(held);
    file_lock_release(&lock);
}

/* Whoever opened the file before it was taken away holds a file that nobody finds. */
static void test_removed_under_a_lock(void **state)
{
    file_lock first, second;
    bool held;
    inlay_error err;

    (void)state;
    assert_int_equal(file_lock_take(&first, path, &held, &err), INLAY_OK);
    assert_int_equal(rename(path, other), 0);
    assert_int_equal(file_lock_take(&second, path, &held, &err), INLAY_OK);
    assert_false(held);
    assert_true(file_lock_held(path));
    file_lock_release(&second);
    file_lock_release(&first);
}

static void test_link_and_folder(void **state)
{
    file_lock lock;
    bool held;
    inlay_error err;

    (void)state;
    assert_int_equal(symlink("other", path), 0);
    assert_int_equal(file_lock_take(&lock, path, &held, &err), INLAY_ERR_IO);
    assert_non_null(strstr(err.message, "symbolic link"));
    assert_false(file_exists(other));
    unlink(path);
    assert_int_equal(mkdir(path, 0777), 0);
    assert_int_equal(file_lock_take(&lock, path, &held, &err), INLAY_ERR_IO);
    rmdir(path);
}

static void test_addresses_have_names(void **state)
{
    static const char text[] = "some bytes";
    file_map map, again;
    inlay_error err;
    const unsigned char *was;

    (void)state;
    assert_int_equal(file_write(path, text, sizeof text, &err), INLAY_OK);
    assert_int_equal(file_map_open(&map, path, &err), INLAY_OK);
    assert_int_equal(file_map_open(&again, path, &err), INLAY_OK);
    assert_string_equal(file_maps_find(map.data), path);
    assert_string_equal(file_maps_find(map.data + sizeof text - 1), path);
    assert_null(file_maps_find(&map));
    was = map.data;
    file_map_close(&map);
    assert_null(file_maps_find(was));
    assert_string_equal(file_maps_find(again.data), path);
    file_map_close(&again);
}

/* More maps than the list holds: the later ones have no name, and nothing else happens. */
static void test_many_maps(void **state)
{
    file_map maps[1100];
    int named = 0;
    inlay_error err;

    (void)state;
    assert_int_equal(file_write(path, "x", 1, &err), INLAY_OK);
    for (int i = 0; i < 1100; i++) {
        assert_int_equal(file_map_open(&maps[i], path, &err), INLAY_OK);
        named += file_maps_find(maps[i].data) != NULL;
    }
    assert_int_equal(named, 1024);
    for (int i = 0; i < 1100; i++)
        file_map_close(&maps[i]);
    assert_int_equal(file_map_open(&maps[0], path, &err), INLAY_OK);
    assert_string_equal(file_maps_find(maps[0].data), path);
    file_map_close(&maps[0]);
}

/* What a handler prints must not move the cursor, and has room. */
static void test_names_are_printable(void **state)
{
    static const unsigned char page[1];
    file_map map = {.data = page, .size = 1};
    char name[600];
    const char *found;

    (void)state;
    memset(name, 'a', sizeof name - 1);
    memcpy(name + sizeof name - 10, "\033[2J\nend", 9);
    name[sizeof name - 1] = '\0';
    file_maps_add(&map, name);
    found = file_maps_find(page);
    assert_non_null(found);
    assert_true(strlen(found) < 256);
    assert_memory_equal(found, "...", 3);
    assert_non_null(strstr(found, "?[2J?end"));
    file_maps_remove(&map);
    assert_null(file_maps_find(page));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_one_at_a_time, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_ends_with_the_process, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_removed_under_a_lock, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_link_and_folder, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_addresses_have_names, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_many_maps, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_names_are_printable, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
