#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "cli/display.h"

static void print_path(const json_t *record, const char *key, const char *indent)
{
    char *path = record_path(record, key);

    fputs(indent, stdout);
    text_put(stdout, path ? path : "");
    putchar('\n');
    free(path);
}

static void print_top(const json_t *top, int indent)
{
    for (size_t i = 0; i < json_array_size(top); i++) {
        const json_t *one = json_array_get(top, i);
        const char *label = json_string_value(json_object_get(one, "label"));
        printf("%*s%6.2f %%  %4" PRId64 "%s", indent, "", 100 * record_real(one, "probability"),
               record_int(one, "index"), label ? "  " : "");
        text_put(stdout, label ? label : "");
        putchar('\n');
    }
}

/* The most probable classes, the labels of an image, or numbers. */
static void print_answer(const json_t *entry, int indent)
{
    const json_t *values = json_object_get(entry, "values"), *labels = json_object_get(entry, "labels");

    print_top(labels ? labels : json_object_get(entry, "top"), indent);
    if (labels && json_array_size(labels) == 0)
        printf("%*sno label\n", indent, "");
    for (size_t i = 0; i < json_array_size(values); i++)
        printf("%*s%.6g\n", indent, "", json_number_value(json_array_get(values, i)));
}

/* Writes the next entry of a document that grows: nothing of it is kept. */
static void print_entry(const display *d, const char *text)
{
    fputs(d->events ? ",\n    " : "{\n  \"results\": [\n    ", stdout);
    while (*text) { /* JSON has no line feed inside a text */
        size_t length = strcspn(text, "\n");
        fwrite(text, 1, length, stdout);
        text += length;
        if (*text++ != '\n')
            break;
        fputs("\n    ", stdout);
    }
}

static void raw(display *d, const char *kind, const char *text)
{
    (void)kind;
    print_entry(d, text);
    display_flush(d);
}

static void event(display *d, const char *kind, const json_t *record)
{
    const json_t *tasks = json_object_get(record, "tasks");

    (void)kind;
    print_path(record, "path", "");
    if (!tasks)
        print_answer(record, 2);
    for (size_t i = 0; i < json_array_size(tasks); i++) {
        print_path(json_array_get(tasks, i), "adapter", "  ");
        print_answer(json_array_get(tasks, i), 4);
    }
    display_flush(d);
}

static void print(display *d, const json_t *record)
{
    const json_t *map = json_object_get(record, "heatmap");

    if (map)
        text_line(stdout, "heat map in '%s': |token weight| from %.3g to %.3g%s", options_string(d->o, "heatmap"),
                  record_real(map, "low"), record_real(map, "high"),
                  record_int(map, "layers") > 1 ? ", mean over the layers" : "");
}

static void print_member(const char *name, json_t *item, size_t flags)
{
    char *text = json_dumps(item, flags);

    printf(",\n  \"%s\": %s", name, text ? text : "null");
    free(text);
}

/* Ends the document: with the heat map's facts, or with what went wrong. */
static void json_end(display *d, const json_t *record, const char *trouble)
{
    json_t *map = json_object_get(record, "heatmap"), *text;

    if (trouble && !record && !d->events)
        return;
    fputs(d->events ? "\n  ]" : "{\n  \"results\": []", stdout);
    if (map)
        print_member("heatmap", map, JSON_COMPACT | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(9));
    if (trouble && !record) {
        text = json_text(trouble);
        print_member("error", text, JSON_ENCODE_ANY);
        json_decref(text);
    }
    puts("\n}");
}

const view view_predict = {.job = "predict", .event = event, .raw = raw, .print = print, .json_end = json_end};
