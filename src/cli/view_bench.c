#include <inttypes.h>
#include <stdlib.h>

#include "base/text.h"
#include "cli/display.h"

static text_table *new_table(void)
{
    static const char *const titles[] = {"threads",     "peak GFLOP/s", "train img/s", "GFLOP/s", "% of peak", "memory",
                                         "infer img/s", "GFLOP/s",      "% of peak",   "memory",  "1 image"};
    text_table *t = text_table_new();

    text_table_column(t, "precision", TEXT_LEFT);
    for (size_t i = 0; i < sizeof titles / sizeof *titles; i++)
        text_table_column(t, titles[i], TEXT_RIGHT);
    return t;
}

static void add_pass(text_table *t, const json_t *pass)
{
    char room[TEXT_SHORT];

    text_table_cell(t, "%.1f", record_real(pass, "images_per_second"));
    text_table_cell(t, "%.1f", record_real(pass, "gflops"));
    text_table_cell(t, "%.0f", 100 * record_real(pass, "fraction_of_peak"));
    text_table_cell(t, "%s", text_size(room, (uint64_t)record_int(pass, "peak_memory_bytes")));
}

static void add_row(text_table *t, const json_t *row)
{
    text_table_cell(t, "%s", record_text(row, "precision"));
    text_table_cell(t, "%" PRId64, record_int(row, "threads"));
    text_table_cell(t, "%.1f", record_real(row, "peak_gflops"));
    add_pass(t, json_object_get(row, "training"));
    add_pass(t, json_object_get(row, "inference"));
    text_table_cell(t, "%.2f ms", 1e3 * record_real(row, "latency_seconds"));
    text_table_end_row(t);
}

static double seconds_of(const json_t *operation)
{
    return record_real(operation, "forward_seconds") + record_real(operation, "backward_seconds");
}

static int slower_first(const void *a, const void *b)
{
    double difference = seconds_of(*(const json_t *const *)b) - seconds_of(*(const json_t *const *)a);

    return (difference > 0) - (difference < 0);
}

static void add_direction(text_table *t, double seconds, double operations)
{
    if (seconds > 0)
        text_table_cell(t, "%.3f", 1e3 * seconds);
    else
        text_table_cell(t, "-");
    if (operations > 0)
        text_table_cell(t, "%.1f", operations / seconds / 1e9);
    else
        text_table_cell(t, "-");
}

static void add_operation(text_table *t, const json_t *one, double total)
{
    text_table_cell(t, "%s", record_text(one, "operation"));
    text_table_cell(t, "%" PRId64 " x %" PRId64, record_int(one, "rows"), record_int(one, "cols"));
    text_table_cell(t, "%" PRId64, record_int(one, "depth"));
    add_direction(t, record_real(one, "forward_seconds"), record_real(one, "forward_operations"));
    add_direction(t, record_real(one, "backward_seconds"), record_real(one, "backward_operations"));
    text_table_cell(t, "%.1f", 100 * seconds_of(one) / total);
    text_table_end_row(t);
}

/* Prints where a pass's time goes, the dearest operation first. */
static void print_times(const json_t *row, const char *pass, const char *what)
{
    static const char *const titles[] = {"result",      "depth",   "forward ms", "GFLOP/s",
                                         "backward ms", "GFLOP/s", "% of time"};
    const json_t *list = json_object_get(json_object_get(row, pass), "operations_for_each_image");
    size_t count = json_array_size(list);
    const json_t **order = calloc(count + 1, sizeof *order);
    text_table *t = text_table_new();
    double total = 0;

    text_table_column(t, "operation", TEXT_LEFT);
    for (size_t i = 0; i < sizeof titles / sizeof *titles; i++)
        text_table_column(t, titles[i], TEXT_RIGHT);
    for (size_t i = 0; order && i < count; i++) {
        order[i] = json_array_get(list, i);
        total += seconds_of(order[i]);
    }
    if (order)
        qsort(order, count, sizeof(*order), slower_first);
    for (size_t i = 0; order && i < count; i++)
        add_operation(t, order[i], total);
    printf("\n%s, threads %" PRId64 ", %s, for each image:\n", record_text(row, "precision"),
           record_int(row, "threads"), what);
    text_table_print(t, 0, stdout);
    text_table_free(t);
    free(order);
}

static void print(display *d, const json_t *record)
{
    const json_t *results = json_object_get(record, "results"), *passed_over = json_object_get(record, "passed_over");
    text_table *t = new_table();

    text_line(stdout, "%s, %" PRId64 " processors, kernels %s", record_text(record, "processor"),
              record_int(record, "processors"), record_text(record, "kernels"));
    text_line(stdout, "'%s', %s, batch %" PRId64 ", best of %" PRId64, options_string(d->o, "backbone"),
              record_text(record, "method"), record_int(record, "batch_size"), record_int(record, "runs"));
    for (size_t i = 0; i < json_array_size(passed_over); i++)
        text_line(stdout, "kernels %s are not used: %s", record_text(json_array_get(passed_over, i), "kernels"),
                  record_text(json_array_get(passed_over, i), "reason"));
    text_line(stdout, "--precision auto is %s: %s", record_text(json_object_get(record, "auto"), "precision"),
              record_text(json_object_get(record, "auto"), "reason"));
    for (size_t i = 0; i < json_array_size(results); i++)
        add_row(t, json_array_get(results, i));
    text_table_print(t, 0, stdout);
    for (size_t i = 0; options_flag(d->o, "profile") && i < json_array_size(results); i++) {
        print_times(json_array_get(results, i), "training", "training");
        print_times(json_array_get(results, i), "inference", "inference");
    }
    text_table_free(t);
}

const view view_bench = {.job = "bench", .print = print};
