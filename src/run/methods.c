/* methods: the table of methods, and that of recipes. */
#include <stdlib.h>
#include <string.h>

#include "run/common.h"
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

/* ---- methods ---- */

static json_t *describe(const char *name, const char *summary, const char *cite, const method *m, backbone *b)
{
    json_t *root = json_pack("{s:s, s:s, s:s, s:s, s:s}", "name", name, "method", m->name, "summary", summary,
                             "equation", m->equation, "source", cite);
    options *settings;
    inlay_error ignored;
    int64_t count;

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
            json_array_append_new(rows, describe(p->name, p->summary, p->cite, method_find(p->name, NULL), b));
    for (int i = 0; method_table[i]; i++)
        if (!only || strcmp(only, method_table[i]->name) == 0)
            json_array_append_new(rows, describe(method_table[i]->name, method_table[i]->summary, method_table[i]->cite,
                                                 method_table[i], b));
    return rows;
}

static inlay_status run_recipes(const char *only, json_t **record, inlay_error *err)
{
    const recipe *r = recipe_table;

    if (only)
        TRY(recipe_named(&r, only, err));
    *record = only ? describe_recipe(r) : list_recipes();
    return INLAY_OK;
}

static inlay_status run(options *o, const inlay_observer *watch, json_t **record, inlay_error *err)
{
    const char *only = options_positionals(o) ? options_positional(o, 0) : NULL, *path = options_string(o, "backbone");
    backbone *b = NULL;
    options *known;
    json_t *rows;

    if (options_flag(o, "recipes"))
        return run_recipes(only, record, err);
    if (only) { /* names the known ones when it is not */
        TRY(adapter_settings(&known, only, err));
        options_free(known);
    }
    if (path)
        TRY(backbone_open(&b, path, 0, err));
    if (b)
        watch_notes(watch, &b->notes, false, NULL);
    rows = list(b, only);
    *record = only ? json_incref(json_array_get(rows, 0)) : json_incref(rows);
    json_decref(rows);
    backbone_close(b);
    return INLAY_OK;
}

const job job_methods = {
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
