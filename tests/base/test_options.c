/* Options: every way to spell them, every way to get them wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/options.h"

static const option_spec adapter_table[] = {
    OPT_INT("rank", "8", 1, 65536, "N", "width of the bottleneck"),
    OPT_REAL("scale", "1", -1e6, 1e6, "X", "factor on the adapter's output"),
    OPT_CHOICE("activation", "gelu", "none|relu|gelu|gelu_tanh", "between the two projections"),
    OPT_FLAG_ON("bias", "biases in both projections"),
    OPT_FLAG("layernorm", "a trained LayerNorm in front"),
    OPT_REAL("drop_path", "0", 0, 0.95, "P", "stochastic depth on the adapter"),
    {0},
};

static const option_spec training_table[] = {
    OPT_TEXT("data", NULL, "DIR", "folder of images"),
    OPT_LIST("label", NULL, NULL, "a class to use"),
    OPT_INT("offset", NULL, 0, 0, NULL, "any whole number"),
    OPT_TEXT("method", "adapter_plus", "METHOD", "how to tune"),
    OPT_FLAG("help", "shows this text"),
    OPT_FLAG("version", "shows the version"),
    {0},
};

static options *both_tables(void)
{
    options *o = options_new();

    options_add_table(o, "Adapter", adapter_table);
    options_add_table(o, "Training", training_table);
    return o;
}

/* Parses a command line given as words that end with NULL; argv[0] and argv[1] are the program and the subcommand. */
static inlay_status parse(options *o, inlay_error *err, const char *const *words)
{
    char *argv[32] = {"inlay", "train"};
    int argc = 2;

    while (words[argc - 2] && argc < 31) {
        argv[argc] = (char *)(uintptr_t)words[argc - 2];
        argc++;
    }
    *err = (inlay_error){0};
    return options_parse(o, argc, argv, 2, err);
}
#define WORDS(...) ((const char *const[]){__VA_ARGS__, NULL})

/* Expects that a command line is refused with exactly this message. */
static void refuses(const char *const *words, const char *message)
{
    options *o = both_tables();
    inlay_error err;

    assert_int_equal(parse(o, &err, words), INLAY_ERR_USAGE);
    assert_string_equal(err.message, message);
    options_free(o);
}

static void test_defaults(void **state)
{
    options *o = both_tables();
    inlay_error err;

    (void)state;
    assert_int_equal(parse(o, &err, (const char *const[]){NULL}), INLAY_OK);
    assert_int_equal(options_int(o, "rank"), 8);
    assert_true(options_real(o, "scale") == 1);
    assert_string_equal(options_string(o, "activation"), "gelu");
    assert_true(options_flag(o, "bias"));
    assert_false(options_flag(o, "layernorm"));
    assert_true(options_has(o, "rank"));
    assert_true(options_has(o, "layernorm"));
    assert_false(options_given(o, "rank"));
    assert_false(options_has(o, "data"));
    assert_null(options_string(o, "data"));
    assert_int_equal(options_count(o, "label"), 0);
    assert_null(options_at(o, "label", 0));
    assert_int_equal(options_positionals(o), 0);
    options_free(o);
    options_free(NULL);
}

static void test_spellings(void **state)
{
    options *o = both_tables();
    inlay_error err;

    (void)state;
    assert_int_equal(parse(o, &err,
                           WORDS("--rank", "16", "--scale=-0.5", "--drop-path", ".25", "--no-bias", "--layernorm",
                                 "--activation=gelu_tanh", "--data", "pets", "-h")),
                     INLAY_OK);
    assert_int_equal(options_int(o, "rank"), 16);
    assert_true(options_real(o, "rank") == 16);
    assert_string_equal(options_string(o, "rank"), "16");
    assert_true(options_real(o, "scale") == -0.5);
    assert_true(options_real(o, "drop_path") == 0.25);
    assert_true(options_real(o, "drop-path") == 0.25);
    assert_false(options_flag(o, "bias"));
    assert_true(options_flag(o, "layernorm"));
    assert_string_equal(options_string(o, "activation"), "gelu_tanh");
    assert_string_equal(options_string(o, "data"), "pets");
    assert_true(options_flag(o, "help"));
    assert_true(options_given(o, "bias"));
    options_free(o);

    o = both_tables();
    assert_int_equal(
        parse(o, &err, WORDS("--drop_path", "0.5", "--bias=off", "--layernorm=yes", "--no_bias", "--data=--odd=x")),
        INLAY_OK);
    assert_true(options_real(o, "drop_path") == 0.5);
    assert_false(options_flag(o, "bias"));
    assert_true(options_flag(o, "layernorm"));
    assert_string_equal(options_string(o, "data"), "--odd=x");
    options_free(o);
}

static void test_negative_numbers_are_values(void **state)
{
    options *o = both_tables();
    inlay_error err;

    (void)state;
    assert_int_equal(parse(o, &err, WORDS("--offset", "-3", "--scale", "-1e-3", "-7.5", "-", "--data", "-")), INLAY_OK);
    assert_int_equal(options_int(o, "offset"), -3);
    assert_true(options_real(o, "scale") == -1e-3);
    assert_int_equal(options_positionals(o), 2);
    assert_string_equal(options_positional(o, 0), "-7.5");
    assert_string_equal(options_positional(o, 1), "-");
    assert_string_equal(options_string(o, "data"), "-");
    assert_null(options_positional(o, 2));
    options_free(o);
}

static void test_double_dash_ends_options(void **state)
{
    options *o = both_tables();
    inlay_error err;

    (void)state;
    assert_int_equal(parse(o, &err, WORDS("a.jpg", "--rank", "4", "b.jpg", "--", "--rank", "-h", "--")), INLAY_OK);
    assert_int_equal(options_int(o, "rank"), 4);
    assert_false(options_flag(o, "help"));
    assert_int_equal(options_positionals(o), 5);
    assert_string_equal(options_positional(o, 1), "b.jpg");
    assert_string_equal(options_positional(o, 2), "--rank");
    assert_string_equal(options_positional(o, 4), "--");
    options_free(o);
}

static void test_options_given_several_times(void **state)
{
    options *o = both_tables();
    inlay_error err;

    (void)state;
    assert_int_equal(parse(o, &err,
                           WORDS("--rank", "4", "--rank=32", "--label", "cat", "--layernorm", "--label=dog",
                                 "--layernorm", "--label", "")),
                     INLAY_OK);
    assert_int_equal(options_int(o, "rank"), 32);
    assert_int_equal(options_count(o, "rank"), 1);
    assert_true(options_flag(o, "layernorm"));
    assert_int_equal(options_count(o, "label"), 3);
    assert_string_equal(options_at(o, "label", 0), "cat");
    assert_string_equal(options_at(o, "label", 1), "dog");
    assert_string_equal(options_at(o, "label", 2), "");
    assert_null(options_at(o, "label", 3));
    assert_int_equal(options_notes(o)->count, 1);
    assert_string_equal(options_notes(o)->items[0].text, "--rank is given twice, 4 and 32: the last counts");
    options_free(o);
    refuses(WORDS("--data", "a", "--data=b"), "--data is given twice: 'a' and 'b'");
    refuses(WORDS("--layernorm", "--no-layernorm"), "--layernorm and --no-layernorm are given: one of them");
    o = both_tables();
    assert_int_equal(parse(o, &err, WORDS("--data", "a", "--data=a", "--rank", "4", "--rank", "4")), INLAY_OK);
    assert_int_equal(options_notes(o)->count, 0);
    options_free(o);
}

static void test_unknown_names(void **state)
{
    (void)state;
    refuses(WORDS("--rnak", "4"), "unknown option '--rnak', did you mean '--rank'?");
    refuses(WORDS("--droppath=0.1"), "unknown option '--droppath', did you mean '--drop-path'?");
    refuses(WORDS("--act", "relu"), "unknown option '--act', did you mean '--activation'?");
    refuses(WORDS("--no-bais"), "unknown option '--no-bais', did you mean '--no-bias'?");
    refuses(WORDS("--emthdo", "x"),
            "unknown option '--emthdo', did you mean '--method'?"); /* an exchange is one slip, not two */
    refuses(WORDS("-rank", "4"), "unknown option '-rank', did you mean '--rank'?");
    refuses(WORDS("--zebra"), "unknown option '--zebra'");
    refuses(WORDS("-x"), "unknown option '-x'");
    refuses(WORDS("--=3"), "unknown option '--'");
    refuses(WORDS("--no-"), "unknown option '--no-'");
}

static void test_endless_names(void **state)
{
    char word[5000] = "--", start[64];
    options *o = both_tables();
    inlay_error err;

    (void)state;
    memset(word + 2, 'r', sizeof word - 3);
    word[sizeof word - 1] = '\0';
    assert_int_equal(parse(o, &err, WORDS(word)), INLAY_ERR_USAGE);
    snprintf(start, sizeof start, "%.30s", err.message);
    assert_string_equal(start, "unknown option '--rrrrrrrrrrrr");
    assert_null(options_peek(word + 2, 0, NULL, 0));
    options_free(o);
}

static void test_bad_values(void **state)
{
    (void)state;
    refuses(WORDS("--rank"), "--rank: a value is missing");
    refuses(WORDS("--rank", "--scale", "1"), "--rank: a value is missing");
    refuses(WORDS("--drop_path", "--"), "--drop-path: a value is missing");
    refuses(WORDS("--rank", "-h"), "--rank: expected a whole number, found '-h'");
    refuses(WORDS("--rank", "8k"), "--rank: expected a whole number, found '8k'");
    refuses(WORDS("--rank", "8.0"), "--rank: expected a whole number, found '8.0'");
    refuses(WORDS("--rank", " 8"), "--rank: expected a whole number, found ' 8'");
    refuses(WORDS("--rank="), "--rank: expected a whole number, found ''");
    refuses(WORDS("--rank", "0x10"), "--rank: expected a whole number, found '0x10'");
    refuses(WORDS("--rank", "0"), "--rank: 0 is out of range, expected 1 to 65536");
    refuses(WORDS("--rank", "-4"), "--rank: -4 is out of range, expected 1 to 65536");
    refuses(WORDS("--offset", "9223372036854775808"), "--offset: 9223372036854775808 is out of range");
    refuses(WORDS("--scale", "1,5"), "--scale: expected a number, found '1,5'");
    refuses(WORDS("--scale", "nan"), "--scale: expected a number, found 'nan'");
    refuses(WORDS("--scale", "inf"), "--scale: expected a number, found 'inf'");
    refuses(WORDS("--scale", "1e"), "--scale: expected a number, found '1e'");
    refuses(WORDS("--scale", ""), "--scale: expected a number, found ''");
    refuses(WORDS("--scale", "1e999"), "--scale: 1e999 is out of range");
    refuses(WORDS("--drop-path", "1"), "--drop-path: 1 is out of range, expected 0 to 0.95");
    refuses(WORDS("--activation", "gel"), "--activation: 'gel' is not one of none, relu, gelu, gelu_tanh");
    refuses(WORDS("--activation", ""), "--activation: '' is not one of none, relu, gelu, gelu_tanh");
    refuses(WORDS("--activation=none|relu"), "--activation: 'none|relu' is not one of none, relu, gelu, gelu_tanh");
    refuses(WORDS("--bias=maybe"), "--bias: expected 'true' or 'false', found 'maybe'");
    refuses(WORDS("--no-bias=true"), "--no-bias takes no value, found 'true'");
    refuses(WORDS("--no-rank"), "--no-rank: '--rank' takes a value and cannot be switched off");
}

static void test_extreme_numbers_are_kept(void **state)
{
    options *o = both_tables();
    inlay_error err;

    (void)state;
    assert_int_equal(parse(o, &err, WORDS("--offset=-9223372036854775808", "--scale", "1e-400")),
                     INLAY_OK); /* underflow to 0 is no error */
    assert_true(options_int(o, "offset") == INT64_MIN);
    assert_true(options_real(o, "scale") == 0);
    assert_int_equal(parse(o, &err, WORDS("--offset", "+9007199254740993")), INLAY_OK);
    assert_true(options_int(o, "offset") == 9007199254740993); /* not through a double */
    assert_string_equal(options_string(o, "offset"), "9007199254740993");
    assert_int_equal(parse(o, &err, WORDS("--rank", "65536", "--drop-path", "0.95")),
                     INLAY_OK); /* ranges are inclusive */
    assert_int_equal(options_int(o, "rank"), 65536);
    assert_int_equal(parse(o, &err, WORDS("--rank", "65537")), INLAY_ERR_USAGE);
    options_free(o);
}

static void test_environment(void **state)
{
    options *o = both_tables();
    inlay_error err;

    (void)state;
    setenv("INLAY_RANK", "24", 1);
    setenv("INLAY_DROP_PATH", "0.1", 1);
    setenv("INLAY_BIAS", "0", 1);
    setenv("INLAY_DATA", "", 1);
    setenv("INLAY_HELP", "1", 1);
    setenv("INLAY_VERSION", "12.2", 1); /* set in many images, as the version of what is installed */
    assert_int_equal(parse(o, &err, WORDS("--drop-path", "0.2")), INLAY_OK);
    assert_int_equal(options_int(o, "rank"), 24);
    assert_true(options_given(o, "rank"));
    assert_true(options_real(o, "drop_path") == 0.2);
    assert_false(options_flag(o, "bias"));
    assert_false(options_has(o, "data"));
    assert_false(options_flag(o, "help"));
    assert_false(options_flag(o, "version"));
    options_free(o);

    o = both_tables();
    assert_int_equal(options_set(o, "rank", "48", "preset 'wide'", &err), INLAY_OK);
    assert_int_equal(parse(o, &err, (const char *const[]){NULL}), INLAY_OK);
    assert_int_equal(options_int(o, "rank"), 48);
    options_free(o);

    setenv("INLAY_RANK", "many", 1);
    refuses((const char *const[]){NULL}, "environment variable INLAY_RANK: expected a whole number, found 'many'");
    unsetenv("INLAY_RANK");
    unsetenv("INLAY_DROP_PATH");
    unsetenv("INLAY_BIAS");
    unsetenv("INLAY_DATA");
    unsetenv("INLAY_HELP");
    unsetenv("INLAY_VERSION");
}

static void test_set(void **state)
{
    options *o = both_tables();
    inlay_error err;

    (void)state;
    assert_int_equal(options_set(o, "label", "cat", "task.json", &err), INLAY_OK);
    assert_int_equal(options_set(o, "label", "dog", "task.json", &err), INLAY_OK);
    assert_int_equal(options_set(o, "drop-path", "0.3", "task.json", &err), INLAY_OK);
    assert_true(options_given(o, "drop_path"));
    assert_int_equal(options_count(o, "label"), 2);
    assert_int_equal(options_set(o, "drop_path", "2", "task.json", &err), INLAY_ERR_USAGE);
    assert_string_equal(err.message, "task.json: drop_path: 2 is out of range, expected 0 to 0.95");
    assert_true(options_real(o, "drop_path") == 0.3); /* a refused value changes nothing */
    assert_int_equal(options_set(o, "rnk", "2", "task.json", &err), INLAY_ERR_USAGE);
    assert_string_equal(err.message, "task.json: unknown option 'rnk', did you mean 'rank'?");
    assert_int_equal(parse(o, &err, WORDS("--label", "bird")), INLAY_OK);
    assert_int_equal(options_count(o, "label"), 1);
    assert_string_equal(options_at(o, "label", 0), "bird");
    options_free(o);
}

/* A default in place of the table's: weaker than whatever the user gives, whenever it comes. */
static void test_default(void **state)
{
    options *o = both_tables();
    inlay_error err;

    (void)state;
    assert_int_equal(options_default(o, "drop_path", "0.3", "recipe x", &err), INLAY_OK);
    assert_true(options_real(o, "drop_path") == 0.3);
    assert_false(options_given(o, "drop_path"));
    assert_int_equal(options_default(o, "drop_path", "0.4", "recipe y", &err), INLAY_OK); /* the last one holds */
    assert_int_equal(options_default(o, "rnk", "2", "recipe x", &err), INLAY_ERR_USAGE);
    assert_string_equal(err.message, "recipe x: unknown option 'rnk', did you mean 'rank'?");
    assert_int_equal(options_default(o, "drop_path", "2", "recipe x", &err), INLAY_ERR_USAGE);
    assert_string_equal(err.message, "recipe x: drop_path: 2 is out of range, expected 0 to 0.95");
    assert_int_equal(parse(o, &err, WORDS("--rank", "7")), INLAY_OK);
    assert_true(options_real(o, "drop_path") == 0.4);
    assert_int_equal(options_default(o, "rank", "3", "recipe x", &err), INLAY_OK);
    assert_int_equal(options_int(o, "rank"), 7);
    assert_int_equal(options_set(o, "scale", "2", "task.json", &err), INLAY_OK);
    assert_int_equal(options_default(o, "scale", "3", "recipe x", &err), INLAY_OK);
    assert_true(options_real(o, "scale") == 2);
    options_free(o);
}

static void test_peek(void **state)
{
    char *argv[] = {"inlay",        "train",  "--unknown", "x",  "--method", "lora",
                    "--method=vpt", "--data", "--method",  "--", "--method", "full"};
    int argc = (int)(sizeof argv / sizeof *argv);

    (void)state;
    assert_string_equal(options_peek("method", 6, argv, 2), "lora");
    assert_string_equal(options_peek("method", 7, argv, 2), "vpt");
    assert_null(options_peek("method", argc, argv, 2)); /* the last one has no value: options_parse says so */
    assert_null(options_peek("meth", argc, argv, 2));
    setenv("INLAY_METHOD", "ssf", 1);
    assert_string_equal(options_peek("method", 2, argv, 2), "ssf");
    assert_string_equal(options_peek("method", 6, argv, 2), "lora");
    unsetenv("INLAY_METHOD");
    assert_null(options_peek("method", 2, argv, 2));
}

static void write_down(void *context, const option_spec *spec, const char *text)
{
    char *all = context;
    size_t used = strlen(all);

    snprintf(all + used, 400 - used, "%s=%s ", spec->name, text);
}

static void test_each(void **state)
{
    options *o = both_tables();
    char all[400] = "";
    inlay_error err;

    (void)state;
    assert_int_equal(parse(o, &err, WORDS("--label", "a", "--rank=007", "--label", "b", "--scale", "2.50")), INLAY_OK);
    options_each(o, "Adapter", write_down, all);
    assert_string_equal(all, "rank=7 scale=2.50 activation=gelu bias=true layernorm=false drop_path=0 ");
    all[0] = '\0';
    options_each(o, NULL, write_down, all);
    assert_string_equal(
        all,
        "rank=7 scale=2.50 activation=gelu bias=true layernorm=false drop_path=0 label=a label=b method=adapter_plus "
        "help=false version=false ");
    options_free(o);
}

static const option_spec long_table[] = {
    OPT_LIST("a_name_that_does_not_fit", NULL, "SOMEWHERE",
             "this sentence is long enough that it has to be continued on a second line of the help"),
    OPT_INT("seed", "0", 0, 4294967295.0, NULL, ".5 begins like a request and has a \\ inside"),
    {0},
};

static void test_help(void **state)
{
    options *o = both_tables();
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    inlay_error err;

    (void)state;
    assert_int_equal(options_set(o, "rank", "64", "preset 'wide'", &err), INLAY_OK);
    options_add_table(o, "More", long_table);
    options_help(o, out);
    fclose(out);
    assert_string_equal(
        text, "Adapter:\n"
              "  --rank N                  width of the bottleneck (1 to 65536; default 64)\n"
              "  --scale X                 factor on the adapter's output (default 1)\n"
              "  --activation NAME         between the two projections (none, relu, gelu, gelu_tanh; default gelu)\n"
              "  --[no-]bias               biases in both projections (default on)\n"
              "  --layernorm               a trained LayerNorm in front\n"
              "  --drop-path P             stochastic depth on the adapter (0 to 0.95; default 0)\n"
              "\n"
              "Training:\n"
              "  --data DIR                folder of images\n"
              "  --label TEXT              a class to use (repeatable)\n"
              "  --offset N                any whole number\n"
              "  --method METHOD           how to tune (default adapter_plus)\n"
              "  -h, --help                shows this text\n"
              "  --version                 shows the version\n"
              "\n"
              "More:\n"
              "  --a-name-that-does-not-fit SOMEWHERE\n"
              "                            this sentence is long enough that it has to be continued on a second\n"
              "                            line of the help (repeatable)\n"
              "  --seed N                  .5 begins like a request and has a \\ inside (at least 0; default 0)\n");
    free(text);
    options_free(o);
}

static void test_mdoc(void **state)
{
    options *o = options_new();
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);

    (void)state;
    options_add_table(o, "Adapter", adapter_table);
    options_add_table(o, "More", long_table);
    options_mdoc(o, out);
    fclose(out);
    assert_non_null(strstr(text, ".Sh OPTIONS\n.Ss Adapter\n.Bl -tag -width Ds\n.It Fl -rank Ar \\&N\nWidth of the "
                                 "bottleneck.\n1 to 65536.\nThe default is 8.\n"));
    assert_non_null(strstr(text, "One of none, relu, gelu, gelu_tanh.\nThe default is gelu.\n"));
    assert_non_null(strstr(text, ".It Fl -no-bias\nBiases in both projections.\nOn unless switched off.\n"));
    assert_non_null(strstr(text, ".El\n.Ss More\n"));
    assert_non_null(strstr(text, "\n\\&.5 begins like a request and has a \\e inside.\n"));
    assert_string_equal(text + size - 5, "\n.El\n");
    free(text);
    options_free(o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_spellings),
        cmocka_unit_test(test_negative_numbers_are_values),
        cmocka_unit_test(test_double_dash_ends_options),
        cmocka_unit_test(test_options_given_several_times),
        cmocka_unit_test(test_unknown_names),
        cmocka_unit_test(test_endless_names),
        cmocka_unit_test(test_bad_values),
        cmocka_unit_test(test_extreme_numbers_are_kept),
        cmocka_unit_test(test_environment),
        cmocka_unit_test(test_set),
        cmocka_unit_test(test_default),
        cmocka_unit_test(test_peek),
        cmocka_unit_test(test_each),
        cmocka_unit_test(test_help),
        cmocka_unit_test(test_mdoc),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
