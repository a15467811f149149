/* Notes: kept in order, each once, faults told apart; a list of nobody. */
#include "support.h"

#include "base/notes.h"

static void test_list(void **state)
{
    notes n = {0};
    inlay_error err = {0};

    (void)state;
    assert_int_equal(notes_refuse_faults(&n, &err), INLAY_OK);
    notes_add(&n, "%d files were passed over", 3);
    notes_add(&n, "the delimiter is a tab");
    notes_add(&n, "%d files were passed over", 3);
    assert_int_equal(n.count, 2);
    assert_string_equal(n.items[0].text, "3 files were passed over");
    assert_string_equal(n.items[1].text, "the delimiter is a tab");
    assert_int_equal(notes_refuse_faults(&n, &err), INLAY_OK);
    notes_fault(&n, "class '%s' has no image", "dog");
    assert_true(n.items[2].fault && !n.items[1].fault);
    assert_int_equal(notes_refuse_faults(&n, &err), INLAY_ERR_FORMAT);
    assert_string_equal(err.message, "class 'dog' has no image");
    notes_free(&n);
    assert_int_equal(n.count, 0);
    notes_free(&n);
}

static void test_nobody(void **state)
{
    (void)state;
    notes_add(NULL, "a text");
    notes_fault(NULL, "a text");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_list), cmocka_unit_test(test_nobody)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
