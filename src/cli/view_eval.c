#include <inttypes.h>

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
    text_table *t = text_table_new();

    text_table_column(t, "adapter", TEXT_LEFT);
    text_table_column(t, "images", TEXT_RIGHT);
    text_table_column(t, "top-1 %", TEXT_RIGHT);
    text_table_column(t, "top-5 %", TEXT_RIGHT);
    text_table_column(t, "loss", TEXT_RIGHT);
    for (size_t i = 0; i < json_array_size(tasks); i++) {
        const json_t *row = json_array_get(tasks, i);
        text_table_cell(t, "%s", options_at(o, "adapter", (int)i));
        text_table_cell(t, "%" PRId64, record_int(row, "count"));
        text_table_cell(t, "%.2f", 100 * record_real(row, "top1"));
        text_table_cell(t, "%.2f", 100 * record_real(row, "top5"));
        text_table_cell(t, "%.4f", record_real(row, "loss"));
        text_table_end_row(t);
    }
    text_table_print(t, 0, stdout);
    text_table_free(t);
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
        printf("%" PRId64 " images: top-1 %.2f %%, top-5 %.2f %%, loss %.4f\n", record_int(record, "count"),
               100 * record_real(record, "top1"), 100 * record_real(record, "top5"), record_real(record, "loss"));
    }
    display_flush(d);
}

static void json_end(display *d, const json_t *record, const char *trouble)
{
    (void)d, (void)record, (void)trouble;
}

const view view_eval = {.job = "eval", .event = event, .json_end = json_end};
