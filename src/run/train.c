/* train: tunes an adapter. */
#include <stdlib.h>
#include <string.h>

#include "base/monitor.h"
#include "run/training.h"

static const option_spec option_table[] = {
    OPTION_BACKBONE,
    OPT_TEXT("method", "adapter_plus", "NAME", "what is trained: a row of 'inlay methods'"),
    OPT_INT("epochs", "100", 1, 1000000, "N", "passes over the training images"),
    OPTIONS_TRAINING,
    {0},
};

/* Describes the figures of this run, times included. */
static json_t *describe(const train_result *r, const options *o, inlay_error *err)
{
    return training_add_accuracy(
        json_build("results.json", err, "{s:s, s:I, s:f, s:f, s:f, s:I, s:I, s:I, s:b, s:i, s:I, s:I}", "method",
                   options_string(o, "method"), "steps", (json_int_t)r->steps, "train_loss", r->loss, "seconds",
                   r->seconds, "images_per_second", r->images_per_second, "peak_memory_bytes",
                   (json_int_t)monitor_peak_rss(), "activation_bytes", (json_int_t)r->activation_bytes,
                   "feature_cache_bytes", (json_int_t)r->cache_bytes, "feature_cache", r->cached,
                   "feature_cache_reused_images", r->cache_reused, "adapter_bytes", (json_int_t)r->adapter_bytes,
                   "trained_parameters", (json_int_t)r->parameters),
        "results.json", r, err);
}

/* Writes results.json, which stands apart from the adapter, whose bytes depend on the settings alone. */
static inlay_status write_results(const train_result *r, const options *o, inlay_error *err)
{
    arena *memory = arena_new();
    json_t *root = describe(r, o, err);
    char *text = NULL;
    inlay_status status = root ? json_encode(&text, root, JSON_ANSWER, "results.json", err) : INLAY_ERR_FORMAT;

    if (status == INLAY_OK)
        status = file_write(path_join(memory, options_string(o, "output"), "results.json"), text, strlen(text), err);
    free(text);
    json_decref(root);
    arena_free(memory);
    return status;
}

static inlay_status save_figures(const train_result *r, const options *o, inlay_error *err)
{
    arena *memory = arena_new();
    const char *title = arena_printf(memory, "%s on %s, backbone %s", options_string(o, "method"),
                                     training_name_of(memory, options_string(o, "data")),
                                     training_name_of(memory, options_string(o, "backbone")));
    inlay_status status = write_results(r, o, err);

    if (status == INLAY_OK)
        status = training_draw_curves(title, r, o, err);
    arena_free(memory);
    return status;
}

/* Makes the answer. `done`: the run was complete already, and nothing was trained. */
static inlay_status answer(json_t **record, const train_result *r, bool done, const options *o, inlay_error *err)
{
    *record = done ? json_object() : describe(r, o, err);
    if (!*record)
        return INLAY_ERR_FORMAT;
    json_set_path(*record, "output", options_string(o, "output"));
    json_object_set_new(*record, "complete_already", json_boolean(done));
    training_name_curves(*record, o);
    return INLAY_OK;
}

static inlay_status run(options *o, const inlay_observer *w, json_t **record, inlay_error *err)
{
    train_result result = {0};
    backbone *b = NULL;
    file_lock lock = {.fd = -1};
    training_request how = {.o = o, .watch = w, .lock = &lock, .saved = save_figures};
    inlay_status status;

    TRY(require(o, "backbone", err));
    TRY(require(o, "data", err));
    TRY(require(o, "output", err));
    status = check_output(&lock, o, &how.complete, w, err);
    if (status == INLAY_OK)
        status = backbone_open(&b, options_string(o, "backbone"), options_int(o, "image_size"), err);
    if (status == INLAY_OK) {
        watch_notes(w, &b->notes, false, NULL);
        status = run_training(b, options_string(o, "method"), &how, &result, err);
    }
    if (status == INLAY_OK)
        status = answer(record, &result, how.complete, o, err);
    if (result.memory)
        train_result_free(&result);
    backbone_close(b);
    file_lock_release(&lock);
    return status;
}

const job job_train = {
    .name = "train",
    .usage = "--backbone DIR|FILE --data DIR --output DIR [--method adapter_plus] [--rank 8] [--epochs 100] [--seed "
             "18] [--resume]",
    .summary = "tune an adapter on a folder of labelled images",
    .details = "Trains what --method names on a frozen backbone, with a new head for the classes of the data, and "
               "leaves the adapter, curves.svg, metrics.jsonl and TensorBoard "
               "events in --output. Training defaults are the method's recipe: 'inlay methods NAME' prints it, "
               "--recipe adapter_plus is the same for all. A run that was interrupted at any moment goes on with "
               "--resume and ends with the same bits.",
    .options = option_table,
    .takes_method = true,
    .recipe = true,
    .stops = true,
    .run = run,
};
