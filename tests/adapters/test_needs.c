/* Options of methods that are read beside certain values of another one only: given elsewhere, each is an error. */
#include "make_adapter.h"

#include "adapters/method.h"

static const option_spec *row(const option_spec *table, const char *name)
{
    for (; table->name; table++)
        if (strcmp(table->name, name) == 0)
            return table;
    fail_msg("'%s' is no option of this method", name);
    return NULL;
}

/* A value that the row takes: its default, or one that is made up. */
static const char *any(const option_spec *spec)
{
    if (spec->default_value && *spec->default_value)
        return spec->default_value;
    return spec->type == OPTION_FLAG ? "true" : spec->type == OPTION_STRING ? "x" : "1";
}

/* The n-th value that `of` could have; NULL: no more. */
static const char *candidate(const option_spec *of, int n)
{
    static const char *const flags[] = {"true", "false", NULL}, *const numbers[] = {"0", "0.5", NULL},
                             *const texts[] = {"", "x", NULL};
    static char choice[64];
    const char *at = of->choices;

    if (of->type != OPTION_CHOICE)
        return (of->type == OPTION_FLAG ? flags : of->type == OPTION_STRING ? texts : numbers)[n];
    for (; n > 0 && *at; n--)
        at += strcspn(at, "|") + (at[strcspn(at, "|")] == '|');
    if (!*at)
        return NULL;
    snprintf(choice, sizeof choice, "%.*s", (int)strcspn(at, "|"), at);
    return choice;
}

static void outer(char out[80], const char *name)
{
    snprintf(out, 80, "--%s", name);
    for (char *p = out; *p; p++)
        *p = *p == '_' ? '-' : *p;
}

/* For each value that `of` could have: given, the option is an error that names both where the row says so; not given,
 * or with the values with which it is read, nothing is said of it. */
static void walk(const method *m, const option_need *need, int *met, int *refused)
{
    const option_spec *option = row(m->options, need->option), *of = row(m->options, need->of);
    const option_need only[] = {*need, {0}};
    const char *text;

    for (int n = 0; (text = candidate(of, n)) != NULL; n++) {
        options *o = options_new();
        char first[80], second[80];
        inlay_error err = {0};
        options_add_table(o, "Method", m->options);
        ASSERT_OK(options_set(o, of->name, text, "test", &err));
        ASSERT_OK(options_check_needs(o, only, &err));
        ASSERT_OK(options_set(o, option->name, any(option), "test", &err));
        if (option_need_met(o, need)) {
            ASSERT_OK(options_check_needs(o, only, &err));
            ++*met;
        } else {
            outer(first, option->name);
            outer(second, of->name);
            assert_int_equal(options_check_needs(o, m->needs, &err), INLAY_ERR_USAGE);
            assert_int_equal(options_check_needs(o, only, &err), INLAY_ERR_USAGE);
            if (!strstr(err.message, first) || !strstr(err.message, second))
                fail_msg("%s: '%s' does not name %s and %s", m->name, err.message, first, second);
            ++*refused;
        }
        options_free(o);
    }
}

static void test_walk(void **state)
{
    int rows = 0;

    (void)state;
    for (int i = 0; method_table[i]; i++)
        for (const option_need *need = method_table[i]->needs; need && need->option; need++, rows++) {
            int met = 0, refused = 0;
            walk(method_table[i], need, &met, &refused);
            if (!met || !refused)
                fail_msg("%s: --%s is read with %d values of --%s, and not with %d", method_table[i]->name,
                         need->option, met, need->of, refused);
        }
    assert_true(rows > 20);
}

/* What a preset sets is not given, and counts as the other's value. */
static void test_presets(void **state)
{
    static const struct {
        const char *name, *settings, *message; /* NULL: nothing is said */
    } rows[] = {
        {"bottleneck", "scale=1", "--scale: of --scaling fixed, learned or channel only; this run has none"},
        {"adapter_plus", "scale=1", NULL}, /* channel */
        {"adapter_plus", "scale=1 scaling=none", "this run has none"},
        {"adaptformer", "", NULL},
        {"adaptformer", "scaling=none", NULL}, /* the preset's scale falls away with it */
        {"adaptformer", "dropout_at=input", NULL},
        {"bottleneck", "dropout_at=activation", "--dropout-at: of no use with --dropout 0"},
        {"mosl", "targets=q", NULL},
        {"lora", "alpha=16 scale=2", "--alpha: of --scale 0 only; this run has 2"},
        {"lora", "alpha=16 scale=0.0", NULL},
        {"adaptable", "layers=0 focus=x", "--layers: of no use with --focus"},
        {"adaptable", "temperature=1 switches=false", "--temperature: with --switches only"},
        {"lora", "ranks=0:1,1:2,2:3 rank=4", "rank: no layer has it"},
        {"lora", "ranks=0:1,1:2,2:3", NULL},
        {"lora", "ranks=0:1,1:2 rank=4", NULL},
    };
    inlay_error err;
    backbone *b;

    (void)state;
    ASSERT_OK(backbone_open(&b, TEST_DATA "/oracle/vit", 0, &err));
    assert_int_equal(b->shape.depth, 3);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        options *o;
        adapter *a;
        inlay_status status;
        ASSERT_OK(adapter_settings(&o, rows[i].name, &err));
        support_settings(o, rows[i].settings);
        status = adapter_new(&a, rows[i].name, o, b, 3, NULL, &err);
        if (!rows[i].message) {
            ASSERT_OK(status);
            adapter_free(a, NULL);
            continue;
        }
        assert_int_equal(status, INLAY_ERR_USAGE);
        if (!strstr(err.message, rows[i].message))
            fail_msg("'%s' is not in '%s'", rows[i].message, err.message);
    }
    backbone_close(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_walk), cmocka_unit_test(test_presets)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
