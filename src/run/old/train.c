/* inlay train: tunes an adapter. */
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/monitor.h"
#include "base/text.h"
#include "cli/train_options.h"

static const option_spec option_table[] = {
    OPTION_BACKBONE,
    OPT_TEXT("method", "adapter_plus", "NAME", "what is trained: a row of 'inlay methods'"),
    OPT_INT("epochs", "100", 1, 1000000, "N", "passes over the training images"),
    OPTIONS_TRAINING,
    {0},
};

/* results.json: the figures of this run, times included, apart from the adapter, whose bytes depend on the settings
 * alone. */
static inlay_status write_results(const train_result *r, const options *o, inlay_error *err)
{
    arena *memory = arena_new();
    const char *output = options_string(o, "output");
    json_t *root = json_build("results.json", err, "{s:s, s:I, s:f, s:f, s:f, s:I, s:I, s:I, s:b}", "method",
                              options_string(o, "method"), "steps", (json_int_t)r->steps, "train_loss", r->loss,
                              "seconds", r->seconds, "images_per_second", r->images_per_second, "peak_memory_bytes",
                              (json_int_t)monitor_peak_rss(), "activation_bytes", (json_int_t)r->activation_bytes,
                              "feature_cache_bytes", (json_int_t)r->cache_bytes, "feature_cache", r->cached);
    json_t *eval = !r->evaluated ? json_null()
                                 : json_build("results.json", err, "{s:i, s:f, s:f, s:f}", "count", r->eval_count,
                                              "top1", r->top1, "top5", r->top5, "loss", r->eval_loss);
    char *text = NULL;
    inlay_status status = root && eval ? INLAY_OK : INLAY_ERR_FORMAT;

    json_object_set_new(root, "feature_cache_reused_images", json_integer(r->cache_reused));
    json_object_set_new(root, "adapter_bytes", json_integer((json_int_t)r->adapter_bytes));
    json_object_set_new(root, "trained_parameters", json_integer((json_int_t)r->parameters));
    if (r->evaluated)
        json_object_set(root, "eval", eval);
    json_decref(eval);
    if (status == INLAY_OK)
        status = json_encode(&text, root, JSON_ANSWER, "results.json", err);
    if (status == INLAY_OK)
        status = file_write(path_join(memory, output, "results.json"), text, strlen(text), err);
    free(text);
    json_decref(root);
    arena_free(memory);
    return status;
}

static void conclude(const train_result *r, const options *o)
{
    char size[TEXT_SHORT], time_[TEXT_SHORT];

    if (r->evaluated)
        printf("top-1 %.2f %%, top-5 %.2f %% on %d images\n", 100 * r->top1, 100 * r->top5, r->eval_count);
    text_line(stdout, "adapter in '%s': %lld steps in %s, %.1f img/s, peak memory %s", options_string(o, "output"),
              (long long)r->steps, text_duration(time_, r->seconds), r->images_per_second,
              text_size(size, monitor_peak_rss()));
}

static inlay_status run(options *o, inlay_error *err)
{
    train_result result = {0};
    backbone *b = NULL;
    file_lock lock = {.fd = -1};
    bool done = false;
    inlay_status status;

    TRY(require(o, "backbone", err));
    TRY(require(o, "data", err));
    TRY(require(o, "output", err));
    status = check_output(&lock, o, &done, err);
    if (status == INLAY_OK)
        status = backbone_open(&b, options_string(o, "backbone"), options_int(o, "image_size"), err);
    if (status == INLAY_OK) {
        print_notes(&b->notes, false, NULL);
        status = run_training(b, options_string(o, "method"),
                              &(training_request){.o = o, .lock = &lock, .complete = done, .saved = write_results},
                              &result, err);
    }
    if (status == INLAY_OK && done)
        text_line(stdout, "'%s' is complete already", options_string(o, "output"));
    else if (status == INLAY_OK)
        conclude(&result, o);
    if (result.memory)
        train_result_free(&result);
    backbone_close(b);
    file_lock_release(&lock);
    return status;
}

const command command_train = {
    .name = "train",
    .usage = "--backbone DIR|FILE --data DIR --output DIR [--method adapter_plus] [--rank 8] [--epochs 100] [--seed "
             "18] [--resume]",
    .summary = "tune an adapter on a folder of labelled images",
    .details = "Trains what --method names on a frozen backbone, with a new head for the classes of the data, and "
               "leaves the adapter, metrics.jsonl and TensorBoard "
               "events in --output. Training defaults are the method's recipe: 'inlay methods NAME' prints it, "
               "--recipe adapter_plus is the same for all. A run that was interrupted at any moment goes on with "
               "--resume and ends with the same bits.",
    .options = option_table,
    .method_options = true,
    .recipe = true,
    .run = run,
};
