/* Text for people, tables and quoted fields. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <inttypes.h>
#include <locale.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/text.h"

static void test_sizes(void **state)
{
    static const struct {
        uint64_t bytes;
        const char *text;
    } rows[] = {
        {0, "0 B"},
        {999, "999 B"},
        {1000, "1.0 kB"},
        {1049, "1.0 kB"},
        {1051, "1.1 kB"},
        {99949, "99.9 kB"},
        {99950, "100 kB"},
        {664000, "664 kB"},
        {999499, "999 kB"},
        {999500, "1.0 MB"},
        {22900000, "22.9 MB"},
        {343000000, "343 MB"},
        {999500000, "1.0 GB"},
        {1000000000, "1.0 GB"},
        {UINT64_MAX, "18.4 EB"},
    };
    char out[TEXT_SHORT];

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        assert_string_equal(text_size(out, rows[i].bytes), rows[i].text);
}

static void test_durations(void **state)
{
    static const struct {
        double seconds;
        const char *text;
    } rows[] = {
        {0, "0.0 s"},
        {0.34, "0.3 s"},
        {9.94, "9.9 s"},
        {9.96, "10 s"},
        {59.4, "59 s"},
        {59.5, "1 min 00 s"},
        {185, "3 min 05 s"},
        {3599.4, "59 min 59 s"},
        {3599.5, "1 h 00 min"},
        {7620, "2 h 07 min"},
        {86399.6, "1 d 00 h"},
        {273600, "3 d 04 h"},
        {-1, "-"},
        {1e300, "-"},
    };
    char out[TEXT_SHORT];

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        assert_string_equal(text_duration(out, rows[i].seconds), rows[i].text);
    assert_string_equal(text_duration(out, NAN), "-");
    assert_string_equal(text_duration(out, INFINITY), "-");
}

static void test_counts(void **state)
{
    char out[TEXT_SHORT];

    (void)state;
    assert_string_equal(text_count(out, 0), "0");
    assert_string_equal(text_count(out, 999), "999");
    assert_string_equal(text_count(out, 1000), "1,000");
    assert_string_equal(text_count(out, -999), "-999");
    assert_string_equal(text_count(out, -123456), "-123,456");
    assert_string_equal(text_count(out, 1234567), "1,234,567");
    assert_string_equal(text_count(out, INT64_MIN), "-9,223,372,036,854,775,808");
}

static void test_quantities(void **state)
{
    char out[TEXT_SHORT];

    (void)state;
    assert_string_equal(text_quantity(out, 0), "0.000");
    assert_string_equal(text_quantity(out, 0.01234), "0.0123");
    assert_string_equal(text_quantity(out, 0.5), "0.500");
    assert_string_equal(text_quantity(out, 1.234), "1.23");
    assert_string_equal(text_quantity(out, 9.999), "10.0");
    assert_string_equal(text_quantity(out, 87.34), "87.3");
    assert_string_equal(text_quantity(out, -87.34), "-87.3");
    assert_string_equal(text_quantity(out, 99.96), "100");
    assert_string_equal(text_quantity(out, 1234.4), "1,234");
    assert_string_equal(text_quantity(out, 1e30), "1e+30");
    assert_string_equal(text_quantity(out, -INFINITY), "-");
}

/* The point stays a point where the locale has a comma. */
static void test_fixed(void **state)
{
    static const struct {
        double value;
        int decimals;
        const char *text;
    } rows[] = {
        {0, 0, "0"},
        {0.5, 2, "0.50"},
        {-3, 0, "-3"},
        {-0.04, 1, "0.0"},
        {-0.06, 1, "-0.1"},
        {76.25, 1, "76.3"},
        {1e-9, 9, "0.000000001"},
        {12345678.9, 3, "12345678.900"},
        {1e14, 0, "100000000000000"},
        {1e15, 0, "-"},
        {1e14, 2, "-"},
        {-1e300, 1, "-"},
        {NAN, 1, "-"},
        {INFINITY, 0, "-"},
    };
    char out[TEXT_SHORT];

    (void)state;
    for (int pass = 0; pass < 2; pass++) {
        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
            assert_string_equal(text_fixed(out, rows[i].value, rows[i].decimals), rows[i].text);
        if (!setlocale(LC_NUMERIC, "de_DE.UTF-8"))
            break;
    }
    setlocale(LC_NUMERIC, "C");
}

static void test_columns(void **state)
{
    (void)state;
    assert_int_equal(text_columns(""), 0);
    assert_int_equal(text_columns("abc"), 3);
    assert_int_equal(text_columns("Bj\xc3\xb6rn"), 5);
    assert_int_equal(text_columns("a\tb\x7f"), 2);
    assert_int_equal(text_fit("abc", 2), 2);
    assert_int_equal(text_fit("abc", 9), 3);
    assert_int_equal(text_fit("Bj\xc3\xb6rn", 3), 4);
    assert_int_equal(text_fit("Bj\xc3\xb6rn", 2), 2);
    assert_int_equal(text_fit("\xc3\xb6", 0), 0);
}

/* text = what the statement writes to `out`, for the caller to free. */
#define WRITTEN(text, statement)                     \
    do {                                             \
        size_t size_;                                \
        FILE *out = open_memstream(&(text), &size_); \
        assert_non_null(out);                        \
        statement;                                   \
        fclose(out);                                 \
    } while (0)

static void test_wrapping(void **state)
{
    char *text = NULL;

    (void)state;
    WRITTEN(text, text_wrap(out, "  one two  three four", 0, 2, 9));
    assert_string_equal(text, "one two\n  three\n  four\n");
    free(text);
    WRITTEN(text, text_wrap(out, "exactly ten", 0, 0, 11));
    assert_string_equal(text, "exactly ten\n");
    free(text);
    WRITTEN(text, text_wrap(out, "a verylongwordthatfitsnowhere b", 0, 1, 10));
    assert_string_equal(text, "a\n verylongwordthatfitsnowhere\n b\n");
    free(text);
    WRITTEN(text, text_wrap(out, "", 5, 5, 10));
    assert_string_equal(text, "\n");
    free(text);
}

static void test_table(void **state)
{
    text_table *t = text_table_new();
    char *text = NULL;

    (void)state;
    text_table_column(t, "class", TEXT_LEFT);
    text_table_column(t, "images", TEXT_RIGHT);
    text_table_column(t, "note", TEXT_LEFT);
    assert_int_equal(text_table_rows(t), 0);
    text_table_cell(t, "%s", "gr\xc3\xbcn");
    text_table_cell(t, "%d", 12345678);
    text_table_cell(t, "%s", "ok");
    text_table_cell(t, "%s", "longer name");
    text_table_cell(t, "%d", 7);
    assert_int_equal(text_table_rows(t), 2);
    text_table_end_row(t);
    text_table_end_row(t);
    assert_int_equal(text_table_rows(t), 2);
    WRITTEN(text, text_table_print(t, 2, out));
    assert_string_equal(text, "  class          images  note\n"
                              "  -----------  --------  ----\n"
                              "  gr\xc3\xbcn         12345678  ok\n"
                              "  longer name         7  \n");
    free(text);
    text_table_free(t);
    text_table_free(NULL);
}

static void test_table_without_titles(void **state)
{
    text_table *t = text_table_new();
    char *text = NULL;

    (void)state;
    text_table_column(t, "", TEXT_LEFT);
    text_table_column(t, "", TEXT_RIGHT);
    for (int i = 0; i < 40; i++) {
        text_table_cell(t, "row %d", i);
        text_table_cell(t, "%d", i * i);
    }
    text_table_cell(t, "unfinished");
    WRITTEN(text, text_table_print(t, 0, out));
    assert_non_null(strstr(text, "row 0          0\nrow 1          1\n"));
    assert_non_null(strstr(text, "row 39      1521\nunfinished"));
    free(text);
    text_table_free(t);
}

static void test_csv(void **state)
{
    static const char *const labels[] = {"cat, tabby", "dog \"rex\"", "two\nlines"};
    static const int counts[] = {5, 0, 1, 2, 30, 0, 0, -1, 7};
    char *text = NULL;

    (void)state;
    WRITTEN(text, text_csv_field(out, "plain"));
    assert_string_equal(text, "plain");
    free(text);
    WRITTEN(text, text_csv_field(out, " edge"));
    assert_string_equal(text, "\" edge\"");
    free(text);
    WRITTEN(text, text_csv_matrix(out, "true/predicted", labels, counts, 3));
    assert_string_equal(text, "true/predicted,\"cat, tabby\",\"dog \"\"rex\"\"\",\"two\nlines\"\n"
                              "\"cat, tabby\",5,0,1\n"
                              "\"dog \"\"rex\"\"\",2,30,0\n"
                              "\"two\nlines\",0,-1,7\n");
    free(text);
}

static void test_characters(void **state)
{
    static const struct {
        const char *text;
        size_t length;
    } rows[] = {{"a", 1},
                {"", 0},
                {"\xc3\xa9", 2},
                {"\xe2\x82\xac", 3},
                {"\xf0\x9f\x90\x88", 4},
                {"\xe9t", 0},
                {"\x80", 0},
                {"\xc0\x80", 0},
                {"\xc1\xbf", 0},
                {"\xe0\x9f\xbf", 0},
                {"\xed\xa0\x80", 0},
                {"\xef\xbf\xbf", 3},
                {"\xf0\x8f\xbf\xbf", 0},
                {"\xf4\x90\x80\x80", 0},
                {"\xf5\x80\x80\x80", 0},
                {"\xe2\x82", 0}};

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        assert_int_equal(text_character(rows[i].text), rows[i].length);
    assert_true(text_is_utf8("na\xc3\xafve"));
    assert_true(text_is_utf8(""));
    assert_false(text_is_utf8("na\xefve"));
    assert_false(text_is_utf8("cut \xe2\x82"));
}

static void test_clean(void **state)
{
    static const char *const rows[][2] = {{"plain", "plain"},
                                          {"a\033[2Jb\n\t\x7f", "a\\x1b[2Jb\\x0a\\x09\\x7f"},
                                          {"\xc2\x9b"
                                           "2J",
                                           "\\xc2\\x9b"
                                           "2J"},
                                          {"\x9b"
                                           "2J",
                                           "\\x9b"
                                           "2J"},
                                          {"\xc2\xa0\xc3\xa9 \xe9", "\xc2\xa0\xc3\xa9 \xe9"},
                                          {"\xe2\x80\x9b", "\xe2\x80\x9b"}};
    char out[64], *printed = NULL;
    size_t size;

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        FILE *stream = open_memstream(&printed, &size);
        assert_string_equal(text_clean(out, sizeof out, rows[i][0]), rows[i][1]);
        text_put(stream, rows[i][0]);
        fclose(stream);
        assert_string_equal(printed, rows[i][1]);
        free(printed);
    }
    assert_string_equal(text_clean(out, 6, "ab\033cd"), "ab"); /* a piece that does not fit is left out whole */
    assert_string_equal(text_clean(out, 7, "ab\033cd"), "ab\\x1b");
}

static void test_table_cells_are_clean(void **state)
{
    text_table *t = text_table_new();
    char *printed = NULL;
    size_t size;
    FILE *stream = open_memstream(&printed, &size);

    (void)state;
    text_table_column(t, "class", TEXT_LEFT);
    text_table_column(t, "n", TEXT_RIGHT);
    text_table_cell(t, "%s", "\033[31mred\n");
    text_table_cell(t, "%d", 1);
    text_table_print(t, 0, stream);
    fclose(stream);
    assert_non_null(strstr(printed, "\n\\x1b[31mred\\x0a  1\n"));
    free(printed);
    text_table_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes),   cmocka_unit_test(test_durations),
        cmocka_unit_test(test_counts),  cmocka_unit_test(test_quantities),
        cmocka_unit_test(test_columns), cmocka_unit_test(test_wrapping),
        cmocka_unit_test(test_table),   cmocka_unit_test(test_table_without_titles),
        cmocka_unit_test(test_csv),     cmocka_unit_test(test_characters),
        cmocka_unit_test(test_clean),   cmocka_unit_test(test_table_cells_are_clean),
        cmocka_unit_test(test_fixed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
