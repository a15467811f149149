/* inlay methods: the table of methods. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/text.h"
#include "cli/common.h"
#include "train/recipe.h"

static const option_spec option_table[] = {
    OPTION_BACKBONE,
    OPT_FLAG("recipes", "list the sets of training defaults in place of the methods"),
    OPTION_JSON,
    {0},
};

static const option_need needs[] = {{"backbone", "recipes", "false"}, {0}};

static inlay_status count_params(const char *name, backbone *b, int64_t *count, inlay_error *err)
{
    options *settings;
    adapter *a;

    TRY(adapter_settings(&settings, name, err));
    TRY(adapter_new(&a, name, settings, b, 2, NULL, err));
    *count = adapter_trained_total(a, false);
    adapter_free(a, NULL);
    return INLAY_OK;
}

static void add_option(void *context, const option_spec *spec, const char *text)
{
    json_object_set_new(context, spec->name, json_string(text));
}

/* ---- recipes ---- */

static void add_value(void *context, const char *option, const char *text, const char *who)
{
    json_object_set_new(context, option, json_pack("{s:s, s:s}", "value", text, "from", who));
}

static json_t *describe_recipe(const recipe *r)
{
    json_t *values = json_object();

    recipe_each(r, add_value, values);
    return json_pack("{s:s, s:s, s:s, s:o}", "name", r->name, "source", r->source, "note", r->note, "values", values);
}

static json_t *list_recipes(void)
{
    json_t *rows = json_array();

    for (const recipe *r = recipe_table; r->name; r++)
        json_array_append_new(rows, describe_recipe(r));
    return rows;
}

static void print_value(void *context, const char *option, const char *text, const char *who)
{
    text_table_cell(context, "%s", option);
    text_table_cell(context, "%s", text);
    text_table_cell(context, "%s", who);
    text_table_end_row(context);
}

static void print_recipe(const recipe *r)
{
    text_table *t = text_table_new();

    printf("recipe %s, of %s%s%s\n\n", r->name, r->source, *r->note ? "\n  " : "", r->note);
    text_table_column(t, "training default", TEXT_LEFT);
    text_table_column(t, "value", TEXT_LEFT);
    text_table_column(t, "from", TEXT_LEFT);
    recipe_each(r, print_value, t);
    text_table_print(t, 2, stdout);
    text_table_free(t);
}

/* ---- methods ---- */

static json_t *describe(const char *name, const char *summary, const char *cite, const method *m, const preset *p,
                        backbone *b)
{
    json_t *root = json_pack("{s:s, s:s, s:s, s:s, s:s}", "name", name, "method", m->name, "summary", summary,
                             "equation", m->equation, "source", cite);
    options *settings;
    inlay_error ignored;
    int64_t count;

    (void)p;
    json_object_set_new(root, "recipe", describe_recipe(recipe_of(name)));
    if (adapter_settings(&settings, name, &ignored) == INLAY_OK) {
        json_t *values = json_object();
        options_each(settings, NULL, add_option, values);
        json_object_set_new(root, "options", values);
        options_free(settings);
    }
    if (b && count_params(name, b, &count, &ignored) == INLAY_OK)
        json_object_set_new(root, "parameters", json_integer(count));
    return root;
}

static json_t *list(backbone *b, const char *only)
{
    json_t *rows = json_array();

    for (const preset *p = preset_table; p->name; p++)
        if (!only || strcmp(only, p->name) == 0)
            json_array_append_new(rows, describe(p->name, p->summary, p->cite, method_find(p->name, NULL), p, b));
    for (int i = 0; method_table[i]; i++)
        if (!only || strcmp(only, method_table[i]->name) == 0)
            json_array_append_new(rows, describe(method_table[i]->name, method_table[i]->summary, method_table[i]->cite,
                                                 method_table[i], NULL, b));
    return rows;
}

static void print_rows(const json_t *rows, bool counted)
{
    text_table *t = text_table_new();

    text_table_column(t, "name", TEXT_LEFT);
    text_table_column(t, "method", TEXT_LEFT);
    if (counted)
        text_table_column(t, "parameters", TEXT_RIGHT);
    text_table_column(t, "what it is", TEXT_LEFT);
    text_table_column(t, "source", TEXT_LEFT);
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_t *row = json_array_get(rows, i);
        char count[TEXT_SHORT];
        text_table_cell(t, "%s", json_string_value(json_object_get(row, "name")));
        text_table_cell(t, "%s", json_string_value(json_object_get(row, "method")));
        if (counted)
            text_table_cell(t, "%s",
                            json_object_get(row, "parameters")
                                ? text_count(count, json_integer_value(json_object_get(row, "parameters")))
                                : "-");
        text_table_cell(t, "%s", json_string_value(json_object_get(row, "summary")));
        text_table_cell(t, "%s", json_string_value(json_object_get(row, "source")));
        text_table_end_row(t);
    }
    text_table_print(t, 0, stdout);
    text_table_free(t);
}

static void print_one(const json_t *row, const char *name)
{
    options *settings;
    inlay_error ignored;

    printf("%s: %s\n\n  %s\n  source: %s\n", name, json_string_value(json_object_get(row, "summary")),
           json_string_value(json_object_get(row, "equation")), json_string_value(json_object_get(row, "source")));
    if (json_object_get(row, "parameters"))
        printf("  parameters on this backbone, without head: %lld\n",
               (long long)json_integer_value(json_object_get(row, "parameters")));
    putchar('\n');
    if (adapter_settings(&settings, name, &ignored) == INLAY_OK) {
        options_help(settings, stdout);
        options_free(settings);
    }
    putchar('\n');
    print_recipe(recipe_of(name));
}

static inlay_status run_recipes(options *o, inlay_error *err)
{
    const char *only = options_positionals(o) ? options_positional(o, 0) : NULL;
    const recipe *r = recipe_table;
    inlay_status status;
    json_t *rows;

    if (only)
        TRY(recipe_named(&r, only, err));
    if (options_flag(o, "json")) {
        rows = only ? describe_recipe(r) : list_recipes();
        status = json_print(rows, stdout, "the table of recipes", err);
        json_decref(rows);
        return status;
    }
    for (; r->name; r++) {
        print_recipe(r);
        if (only)
            return INLAY_OK;
        putchar('\n');
    }
    return INLAY_OK;
}

static inlay_status run(options *o, inlay_error *err)
{
    const char *only = options_positionals(o) ? options_positional(o, 0) : NULL, *path = options_string(o, "backbone");
    backbone *b = NULL;
    options *known;
    json_t *rows;
    inlay_status status = INLAY_OK;

    if (options_flag(o, "recipes"))
        return run_recipes(o, err);
    if (only) { /* names the known ones when it is not */
        TRY(adapter_settings(&known, only, err));
        options_free(known);
    }
    if (path)
        TRY(backbone_open(&b, path, 0, err));
    rows = list(b, only);
    if (options_flag(o, "json")) {
        status = json_print(only ? json_array_get(rows, 0) : rows, stdout, "the table of methods", err);
    } else if (only) {
        print_one(json_array_get(rows, 0), only);
    } else {
        print_rows(rows, b != NULL);
    }
    json_decref(rows);
    backbone_close(b);
    return status;
}

const command command_methods = {
    .name = "methods",
    .usage = "[NAME] [--backbone DIR] [--recipes] [--json]",
    .summary = "list what can be trained",
    .details = "Lists the methods and presets; with a name, its equation, source, options and recipe: what training "
               "takes by default, and from whom; with --backbone, how many parameters each trains there.",
    .options = option_table,
    .words = 1,
    .needs = needs,
    .run = run,
};
