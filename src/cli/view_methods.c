#include <inttypes.h>

#include "base/text.h"
#include "cli/display.h"

static void print_recipe(const json_t *recipe)
{
    text_table *t = text_table_new();
    const char *option;
    json_t *item;

    printf("recipe %s, of %s%s%s\n\n", record_text(recipe, "name"), record_text(recipe, "source"),
           *record_text(recipe, "note") ? "\n  " : "", record_text(recipe, "note"));
    text_table_column(t, "training default", TEXT_LEFT);
    text_table_column(t, "value", TEXT_LEFT);
    text_table_column(t, "from", TEXT_LEFT);
    json_object_foreach(json_object_get(recipe, "values"), option, item)
    {
        text_table_cell(t, "%s", option);
        text_table_cell(t, "%s", record_text(item, "value"));
        text_table_cell(t, "%s", record_text(item, "from"));
        text_table_end_row(t);
    }
    text_table_print(t, 2, stdout);
    text_table_free(t);
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
        text_table_cell(t, "%s", record_text(row, "name"));
        text_table_cell(t, "%s", record_text(row, "method"));
        if (counted)
            text_table_cell(
                t, "%s", json_object_get(row, "parameters") ? text_count(count, record_int(row, "parameters")) : "-");
        text_table_cell(t, "%s", record_text(row, "summary"));
        text_table_cell(t, "%s", record_text(row, "source"));
        text_table_end_row(t);
    }
    text_table_print(t, 0, stdout);
    text_table_free(t);
}

static void print_one(const json_t *row)
{
    const char *name = record_text(row, "name");
    options *o, *settings;

    printf("%s: %s\n\n  %s\n  source: %s\n", name, record_text(row, "summary"), record_text(row, "equation"),
           record_text(row, "source"));
    if (json_object_get(row, "parameters"))
        printf("  parameters on this backbone, without head: %" PRId64 "\n", record_int(row, "parameters"));
    putchar('\n');
    if (inlay_options_explain(&o, &settings, "train", name, NULL) == INLAY_OK) {
        options_help(settings, stdout);
        options_free(settings);
        options_free(o);
    }
    putchar('\n');
    print_recipe(json_object_get(row, "recipe"));
}

static void print(display *d, const json_t *record)
{
    if (options_flag(d->o, "recipes") && json_is_object(record)) {
        print_recipe(record);
    } else if (options_flag(d->o, "recipes")) {
        for (size_t i = 0; i < json_array_size(record); i++) {
            print_recipe(json_array_get(record, i));
            putchar('\n');
        }
    } else if (json_is_object(record)) {
        print_one(record);
    } else {
        print_rows(record, options_has(d->o, "backbone"));
    }
}

const view view_methods = {.job = "methods", .print = print};
