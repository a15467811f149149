/* Sizes on the command line. */
#define _GNU_SOURCE
#include "support.h"

#include "base/options.h"

static const option_spec table[] = {
    OPT_SIZE("memory", NULL, NULL, "what may be taken"),
    {0},
};

static inlay_status parse(options **o, const char *text, inlay_error *err)
{
    char *argv[] = {"inlay", "train", "--memory", (char *)(uintptr_t)text};

    *o = options_new();
    options_add_table(*o, "Memory", table);
    return options_parse(*o, 4, argv, 2, err);
}

static void test_units(void **state)
{
    static const struct {
        const char *text;
        int64_t bytes;
    } sizes[] = {
        {"512", 512000000},
        {"0", 0},
        {"0.5", 500000},
        {"800M", 800000000},
        {"2G", 2000000000},
        {"2gb", 2000000000},
        {"1.5GiB", 1610612736},
        {"64Ki", 65536},
        {"64 k", 64000},
        {"1T", 1000000000000},
        {"1000000", 1000000000000},
        {"3.000000", 3000000},
        {"7KB", 7000},
        {"8000T", 8000000000000000},
    };

    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        options *o;
        inlay_error err;
        ASSERT_OK(parse(&o, sizes[i].text, &err));
        if (options_int(o, "memory") != sizes[i].bytes)
            fail_msg("%s: %lld bytes", sizes[i].text, (long long)options_int(o, "memory"));
        assert_string_equal(options_string(o, "memory"), sizes[i].text);
        options_free(o);
    }
}

static void test_what_is_no_size(void **state)
{
    static const char *const texts[] = {"",    "G",   "-5",  "+5",    "5X", "5GG", "5G B",  "0x10", "1e3", "1e30",
                                        "nan", "inf", "5 5", "5MiBs", "5i", "5B",  "1.2.3", " 5",   "5,5", "."};

    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        options *o;
        inlay_error err;
        char expected[200];
        if (parse(&o, texts[i], &err) != INLAY_ERR_USAGE)
            fail_msg("'%s' is taken", texts[i]);
        snprintf(expected, sizeof expected,
                 "--memory: expected a size such as 512 (megabytes), 800M, 2G or 1.5GiB, found '%s'", texts[i]);
        assert_string_equal(err.message, expected);
        options_free(o);
    }
}

static void test_too_large(void **state)
{
    options *o;
    inlay_error err;

    (void)state;
    assert_int_equal(parse(&o, "99999999T", &err), INLAY_ERR_USAGE);
    assert_non_null(strstr(err.message, "out of range"));
    options_free(o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_units),
        cmocka_unit_test(test_what_is_no_size),
        cmocka_unit_test(test_too_large),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
