/* Status codes and messages. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/status.h"

static inlay_status fails(inlay_error *err)
{
    FAIL(err, INLAY_ERR_SHAPE, "tensor '%s': expected %d rows, found %d", "head.weight", 10, 3);
}

static inlay_status passes_on(inlay_error *err)
{
    TRY(fails(err));
    return INLAY_OK;
}

static void test_messages(void **state)
{
    inlay_error err = {0};

    (void)state;
    assert_int_equal(passes_on(&err), INLAY_ERR_SHAPE);
    assert_int_equal(err.code, INLAY_ERR_SHAPE);
    assert_string_equal(err.message, "tensor 'head.weight': expected 10 rows, found 3");
    assert_int_equal(passes_on(NULL), INLAY_ERR_SHAPE);
    assert_int_equal(error_prefix(&err, "%s.safetensors", "model"), INLAY_ERR_SHAPE);
    assert_string_equal(err.message, "model.safetensors: tensor 'head.weight': expected 10 rows, found 3");
    assert_int_equal(error_prefix(NULL, "x"), INLAY_ERR_INTERNAL);
}

static void test_messages_are_one_clean_line(void **state)
{
    inlay_error err;

    (void)state;
    error_set(&err, INLAY_ERR_IO, "cannot open '%s'", "a\033[2J\nb");
    assert_string_equal(err.message, "cannot open 'a\\x1b[2J\\x0ab'");
    error_prefix(&err, "'%s'",
                 "\x9b"
                 "1m");
    assert_string_equal(err.message, "'\\x9b1m': cannot open 'a\\x1b[2J\\x0ab'");
}

static void test_long_messages_are_cut(void **state)
{
    char text[3000];
    inlay_error err = {0};

    (void)state;
    memset(text, 'a', sizeof text);
    text[sizeof text - 1] = '\0';
    error_set(&err, INLAY_ERR_IO, "%s", text);
    assert_int_equal(strlen(err.message), sizeof err.message - 1);
    error_prefix(&err, "where");
    assert_int_equal(strlen(err.message), sizeof err.message - 1);
    assert_memory_equal(err.message, "where: aaa", 10);
    error_prefix(&err, "%s", text); /* a prefix that leaves no room for the message is left out */
    assert_int_equal(strlen(err.message), sizeof err.message - 1);
}

static void test_names(void **state)
{
    (void)state;
    assert_string_equal(inlay_status_name(INLAY_OK), "ok");
    assert_string_equal(inlay_status_name(INLAY_ERR_MISMATCH), "adapter and backbone do not belong together");
    assert_string_equal(inlay_status_name((inlay_status)12345), "unknown status");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_messages),
        cmocka_unit_test(test_messages_are_one_clean_line),
        cmocka_unit_test(test_long_messages_are_cut),
        cmocka_unit_test(test_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
