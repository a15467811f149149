#include "cli/view_training.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"

static void introduce(display *d, const json_t *r)
{
    char own[TEXT_SHORT], all[TEXT_SHORT];

    display_line(d,
                 "%s: %s trained parameters (%s with the head), %" PRId64 " images, %" PRId64 " %s, %" PRId64
                 " threads, %s, %s",
                 record_text(r, "method"), text_count(own, record_int(r, "parameters")),
                 text_count(all, record_int(r, "parameters_with_head")), record_int(r, "images"),
                 record_int(r, "outputs"), strcmp(record_text(r, "task"), "regress") == 0 ? "numbers" : "classes",
                 record_int(r, "threads"), record_text(r, "kernels"), record_text(r, "precision"));
}

static void show_plan(display *d, const json_t *r)
{
    arena *memory = arena_new();
    char size[TEXT_SHORT];
    const char *line =
        arena_printf(memory, "plan: %s of activations", text_size(size, (uint64_t)record_int(r, "activation_bytes")));

    line = arena_printf(memory, "%s, %s of cached features", line,
                        text_size(size, (uint64_t)record_int(r, "feature_cache_bytes")));
    if (json_object_get(r, "feature_cache_folder")) {
        char *path = record_path(r, "feature_cache_folder");
        line = arena_printf(memory, "%s in '%s'", line, path ? path : "");
        free(path);
    }
    if (record_int(r, "feature_cache_reused_images"))
        line = arena_printf(memory, "%s (of %" PRId64 " of %" PRId64 " images from an earlier run)", line,
                            record_int(r, "feature_cache_reused_images"), record_int(r, "images"));
    display_line(d, "%s, %" PRId64 " steps, %.2f GFLOP an image and step", line, record_int(r, "steps"),
                 record_real(r, "operations_for_each_image") / 1e9);
    if (json_object_get(r, "memory"))
        display_line(d, "memory: %s; %s in all", record_text(r, "memory"),
                     text_size(size, (uint64_t)record_int(r, "memory_bytes")));
    arena_free(memory);
}

/* Shows an epoch; of many only every tenth. */
static void show_epoch(display *d, const json_t *r)
{
    int64_t epoch = record_int(r, "epoch"), epochs = record_int(r, "epochs");

    if (epoch % 10 != 0 && epoch != 1 && epoch != epochs && epochs > 20)
        return;
    display_line(d, "epoch %" PRId64 "/%" PRId64 ": loss %.4f, lr %.2e, %.1f img/s", epoch, epochs,
                 record_real(r, "loss"), record_real(r, "lr"), record_real(r, "images_per_second"));
}

static void show_evaluation(display *d, const json_t *r)
{
    arena *memory = arena_new();

    display_line(d, "%s after epoch %" PRId64 ": %s, loss %.4f (%" PRId64 " images)", record_text(r, "split"),
                 record_int(r, "epoch"), metrics_text(memory, r), record_real(r, "loss"), record_int(r, "count"));
    arena_free(memory);
}

void view_training_event(display *d, const char *kind, const json_t *record)
{
    static const struct {
        const char *kind;
        void (*show)(display *d, const json_t *record);
    } kinds[] = {
        {"introduction", introduce}, {"plan", show_plan}, {"epoch", show_epoch}, {"evaluation", show_evaluation}};

    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (strcmp(kind, kinds[i].kind) == 0)
            kinds[i].show(d, record);
}

void view_training_print_accuracy(const json_t *record)
{
    const json_t *eval = json_object_get(record, "eval");
    arena *memory = arena_new();

    if (eval)
        printf("%s on %" PRId64 " images\n", metrics_text(memory, eval), record_int(eval, "count"));
    arena_free(memory);
}

void view_training_print_curves(const json_t *record)
{
    char *path = json_object_get(record, "curves") ? record_path(record, "curves") : NULL;

    if (path)
        text_line(stdout, "curves of loss and accuracy in '%s'", path);
    free(path);
}
