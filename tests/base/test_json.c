/* JSON that is written: nothing is left out without a word. */
#include "support.h"

#include <math.h>

#include "base/json.h"

static void test_build_says_why(void **state)
{
    inlay_error err;
    json_t *made;

    (void)state;
    made = json_build("a line", &err, "{s:f, s:s, s:i}", "loss", 0.5, "split", "val", "count", 3);
    assert_int_equal(json_object_size(made), 3);
    json_decref(made);
    assert_null(json_build("a line", &err, "{s:f}", "loss", (double)NAN));
    assert_string_equal(err.message, "a line cannot be written as JSON: a number in it is not finite");
    assert_null(json_build("a line", &err, "{s:i, s:[f,f]}", "count", 1, "pair", 1.0, (double)INFINITY));
    assert_string_equal(err.message, "a line cannot be written as JSON: a number in it is not finite");
    assert_null(json_build("a line", &err, "{s:s}", "path", "n\xe9"));
    assert_string_equal(err.message, "a line cannot be written as JSON: a text in it is not UTF-8");
    assert_null(json_build("a line", &err, "{s:o}", "inner", NULL));
    assert_null(json_build("a line", NULL, "{s:f}", "loss", (double)NAN));
}

static void test_texts(void **state)
{
    static const char *const rows[][2] = {{"plain", "plain"},
                                          {"", ""},
                                          {"caf\xc3\xa9", "caf\xc3\xa9"},
                                          {"caf\xe9", "caf\xef\xbf\xbd"},
                                          {"\xff\xfe", "\xef\xbf\xbd\xef\xbf\xbd"},
                                          {"a\xed\xa0\x80z", "a\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbdz"},
                                          {"cut\xe2\x82", "cut\xef\xbf\xbd\xef\xbf\xbd"}};
    json_t *object = json_object();

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        json_t *made = json_text(rows[i][0]);
        assert_string_equal(json_string_value(made), rows[i][1]);
        json_decref(made);
    }
    json_set_path(object, "path", "a/b.png");
    assert_null(json_object_get(object, "path_bytes"));
    json_set_path(object, "path", "\xe9\n");
    assert_string_equal(json_string_value(json_object_get(object, "path")), "\xef\xbf\xbd\n");
    assert_string_equal(json_string_value(json_object_get(object, "path_bytes")), "e90a");
    json_decref(object);
}

static void test_encode_and_read(void **state)
{
    char *folder = support_folder(), path[128], *text;
    json_t *object = json_object();
    inlay_error err;

    (void)state;
    assert_int_equal(json_encode(&text, NULL, 0, "the answer", &err), INLAY_ERR_FORMAT);
    assert_string_equal(err.message, "the answer cannot be written as JSON: it could not be made, for lack of memory "
                                     "or since a number is not finite");
    json_object_set_new(object, "a", json_integer(1));
    ASSERT_OK(json_encode(&text, object, JSON_COMPACT, "the answer", &err));
    assert_string_equal(text, "{\"a\":1}");
    snprintf(path, sizeof path, "%s/a.json", folder);
    ASSERT_OK(file_write(path, text, strlen(text), &err));
    free(text);
    json_decref(object);
    ASSERT_OK(json_read(&object, path, &err));
    assert_int_equal(json_integer_value(json_object_get(object, "a")), 1);
    json_decref(object);
    ASSERT_OK(file_write(path, "{\"a\":1,", 7, &err));
    assert_int_equal(json_read(&object, path, &err), INLAY_ERR_FORMAT);
    assert_non_null(strstr(err.message, "a.json: line 1, column 7"));
    snprintf(path, sizeof path, "%s/absent.json", folder);
    assert_int_equal(json_read(&object, path, &err), INLAY_ERR_IO); /* why it cannot be read, not that it is no JSON */
    assert_non_null(strstr(err.message, "No such file"));
    assert_int_equal(json_read(&object, folder, &err), INLAY_ERR_IO);
    support_remove(folder);
}

static int allowed; /* allocations, until one is refused */

static void *refuse_one(size_t size)
{
    return allowed-- == 0 ? NULL : malloc(size);
}

static char *build(inlay_error *err)
{
    json_t *root = json_object(), *list = json_array(), *copy;
    char *text = NULL;

    json_object_set_new(root, "name", json_string("a text"));
    json_object_update_new(root, json_pack("{s:i, s:f}", "count", 3, "rate", 0.5));
    json_array_append_new(list, json_integer(7));
    json_object_set(root, "list", list);
    json_set_path(root, "path", "n\xe9");
    copy = json_deep_copy(root);
    json_object_set_new(root, "copy", copy);
    if (json_encode(&text, root, JSON_COMPACT, "a record", err) != INLAY_OK)
        assert_non_null(strstr(err->message, "a record"));
    json_decref(list);
    json_decref(root);
    return text;
}

/* Whichever allocation is refused: the text is whole or there is none, and the next one is whole again. */
static void test_memory_that_is_refused(void **state)
{
    inlay_error err;
    int refusals = 0;
    char *whole = build(&err);

    (void)state;
    assert_non_null(whole);
    for (bool refused = true; refused; refusals++) {
        char *text, *after;
        allowed = refusals;
        json_set_alloc_funcs(refuse_one, free);
        text = build(&err);
        refused = allowed < 0;
        json_set_alloc_funcs(malloc, free);
        if (text)
            assert_string_equal(text, whole);
        assert_true(refused || text);
        after = build(&err);
        assert_string_equal(after, whole);
        free(after);
        free(text);
    }
    assert_true(refusals > 20);
    assert_false(json_lost());
    free(whole);
}

/* What is read is whole or not there as well. */
static void test_reading_without_memory(void **state)
{
    static const char text[] = "{\"a\": [1, 2.5, \"x\", {\"b\": null}], \"c\": {\"d\": true, \"e\": \"f\"}}";
    json_t *whole = json_loads(text, JSON_REJECT_DUPLICATES, NULL);

    (void)state;
    for (int at = 0; at < 200; at++) {
        json_t *read;
        allowed = at;
        json_set_alloc_funcs(refuse_one, free);
        read = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
        json_set_alloc_funcs(malloc, free);
        assert_true(!read || json_equal(read, whole));
        assert_true(read || allowed < 0);
        json_decref(read);
    }
    json_decref(whole);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_build_says_why), cmocka_unit_test(test_texts),
                                       cmocka_unit_test(test_memory_that_is_refused),
                                       cmocka_unit_test(test_reading_without_memory),
                                       cmocka_unit_test(test_encode_and_read)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
