#include <inttypes.h>
#include <string.h>

#include "base/text.h"
#include "cli/display.h"

static void add_share(text_table *t, int64_t part, int64_t of)
{
    if (of)
        text_table_cell(t, "%.1f", 100.0 * (double)part / (double)of);
    else
        text_table_cell(t, "-");
}

static void print_classes(const json_t *rows)
{
    text_table *t = text_table_new();

    text_table_column(t, "class", TEXT_LEFT);
    text_table_column(t, "images", TEXT_RIGHT);
    text_table_column(t, "recall %", TEXT_RIGHT);
    text_table_column(t, "precision %", TEXT_RIGHT);
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_t *row = json_array_get(rows, i);
        text_table_cell(t, "%s", record_text(row, "class"));
        text_table_cell(t, "%" PRId64, record_int(row, "images"));
        add_share(t, record_int(row, "right"), record_int(row, "images"));
        add_share(t, record_int(row, "right"), record_int(row, "answered"));
        text_table_end_row(t);
    }
    text_table_print(t, 0, stdout);
    text_table_free(t);
}

/* Prints a row for each adapter. */
static void print_tasks(const options *o, const json_t *tasks)
{
    arena *memory = arena_new();
    text_table *t = text_table_new();

    text_table_column(t, "adapter", TEXT_LEFT);
    text_table_column(t, "images", TEXT_RIGHT);
    for (const metric_title *m = metric_titles; m->key; m++)
        if (json_object_get(json_array_get(tasks, 0), m->key))
            text_table_column(t, arena_printf(memory, "%s%s", m->title, m->share ? " %" : ""), TEXT_RIGHT);
    text_table_column(t, "loss", TEXT_RIGHT);
    for (size_t i = 0; i < json_array_size(tasks); i++) {
        const json_t *row = json_array_get(tasks, i);
        text_table_cell(t, "%s", options_at(o, "adapter", (int)i));
        text_table_cell(t, "%" PRId64, record_int(row, "count"));
        for (const metric_title *m = metric_titles; m->key; m++) {
            const char *text = metric_text(memory, row, m);
            if (json_object_get(json_array_get(tasks, 0), m->key))
                text_table_cell(t, "%.*s", (int)strcspn(text, " "), text);
        }
        text_table_cell(t, "%.4f", record_real(row, "loss"));
        text_table_end_row(t);
    }
    text_table_print(t, 0, stdout);
    text_table_free(t);
    arena_free(memory);
}

/* Shows the result as it comes: a confusion matrix may follow on the same output. */
static void event(display *d, const char *kind, const json_t *record)
{
    const json_t *tasks = json_object_get(record, "tasks"), *classes = json_object_get(record, "by_class");

    (void)kind;
    if (d->json) {
        json_print(record, stdout, "the result", NULL);
    } else if (tasks) {
        print_tasks(d->o, tasks);
    } else {
        if (classes)
            print_classes(classes);
        arena *memory = arena_new();
        printf("%" PRId64 " images: %s, loss %.4f\n", record_int(record, "count"), metrics_text(memory, record),
               record_real(record, "loss"));
        arena_free(memory);
    }
    display_flush(d);
}

static void json_end(display *d, const json_t *record, const char *trouble)
{
    (void)d, (void)record, (void)trouble;
}

const view view_eval = {.job = "eval", .event = event, .json_end = json_end};
