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
    assert_string_equal(err.message, "the answer cannot be written as JSON");
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

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_build_says_why), cmocka_unit_test(test_texts),
                                       cmocka_unit_test(test_encode_and_read)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
