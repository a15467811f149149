#include <inttypes.h>

#include "base/text.h"
#include "cli/display.h"

static void add_layer(text_table *t, const json_t *layer, arena *memory)
{
    const json_t *weights = json_object_get(layer, "weights"), *kept = json_object_get(layer, "kept");
    const char *list = "";

    text_table_cell(t, "%" PRId64, record_int(layer, "layer"));
    for (size_t n = 0; n < json_array_size(weights); n++) {
        const json_t *mean = json_array_get(weights, n);
        if (json_is_null(mean))
            text_table_cell(t, "-");
        else
            text_table_cell(t, "%.4f", json_number_value(mean));
    }
    for (size_t i = 0; i < json_array_size(kept); i++)
        list = arena_printf(memory, "%s%s%d", list, i ? ", " : "", (int)json_integer_value(json_array_get(kept, i)));
    text_table_cell(t, "%s", list);
    text_table_end_row(t);
}

static void print(display *d, const json_t *record)
{
    const json_t *parts = json_object_get(record, "parts"), *layers = json_object_get(record, "layers");
    arena *memory = arena_new();
    text_table *t = text_table_new();
    char after[TEXT_SHORT], before[TEXT_SHORT];

    for (size_t n = 0; n < json_array_size(parts); n++)
        text_line(stdout, "part %zu: %s", n, json_string_value(json_array_get(parts, n)));
    putchar('\n');
    text_table_column(t, "layer", TEXT_RIGHT);
    for (size_t n = 0; n < json_array_size(parts); n++)
        text_table_column(t, arena_printf(memory, "part %zu", n), TEXT_RIGHT);
    text_table_column(t, "kept", TEXT_LEFT);
    for (size_t i = 0; i < json_array_size(layers); i++)
        add_layer(t, json_array_get(layers, i), memory);
    text_table_print(t, 0, stdout);
    putchar('\n');
    text_line(stdout,
              "mean attention over %" PRId64 " images; %" PRId64 " of %zu parts in each layer in '%s': %s, before %s",
              record_int(record, "images"), options_int(d->o, "keep"), json_array_size(parts),
              options_string(d->o, "output"), text_size(after, (uint64_t)record_int(record, "bytes")),
              text_size(before, (uint64_t)record_int(record, "bytes_before")));
    text_table_free(t);
    arena_free(memory);
}

const view view_prune = {.job = "prune", .print = print};
