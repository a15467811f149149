#include "cli/train_options.h"

#include <glob.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/monitor.h"
#include "base/stop.h"
#include "base/text.h"
#include "formats/events.h"

typedef struct view {
    progress bar;
    FILE *out;
    int64_t done;  /* steps that this process has seen since the bar began */
    double total;  /* images of the whole run */
    int epochs;
    bool open;
} view;

static void close_bar(view *v)
{
    if (v->open)
        progress_end(&v->bar);
    v->open = false;
}

static void on_phase(void *context, const char *what, int total, const char *unit)
{
    view *v = context;

    close_bar(v);
    if (strcmp(what, "training") == 0)
        v->total = total;
    v->done = 0;
    progress_begin(&v->bar, v->out, what, total, unit);
    v->open = true;
}

static void on_progress(void *context, int done, int total)
{
    (void)total;
    progress_update(&((view *)context)->bar, done, NULL);
}

static void on_step(void *context, int epoch, int64_t step, int64_t steps, int images, double loss)
{
    view *v = context;

    (void)images;
    if (v->done++ == 0 && step > 1) /* resumed, or back from an evaluation: what was done before counts, but not for the rate */
        progress_resume(&v->bar, (double)(step - 1) / (double)steps * v->total);
    progress_update(&v->bar, (double)step / (double)steps * v->total, "epoch %d, loss %.4f", epoch, loss);
}

static void on_epoch(void *context, const train_epoch *e)
{
    view *v = context;

    if (!v->out || (e->epoch % 10 != 0 && e->epoch != 1 && e->epoch != e->epochs && e->epochs > 20))
        return;
    progress_clear(&v->bar);
    fprintf(v->out, "epoch %d/%d: loss %.4f, lr %.2e, %.1f img/s\n", e->epoch, e->epochs, e->loss, e->lr, e->images_per_second);
}

static void on_evaluated(void *context, const char *split, int epoch, const evaluation *e)
{
    view *v = context;

    close_bar(v);
    if (v->out)
        fprintf(v->out, "%s after epoch %d: top-1 %.2f %%, top-5 %.2f %%, loss %.4f (%d images)\n", split, epoch, 100 * e->top1, 100 * e->top5, e->loss, e->count);
    if (epoch < v->epochs)
        on_phase(v, "training", (int)v->total, "img");
}

static void on_plan(void *context, const train_plan *plan)
{
    view *v = context;
    char a[TEXT_SHORT], b[TEXT_SHORT];

    if (!v->out)
        return;
    progress_clear(&v->bar);
    fprintf(v->out, "plan: %s of activations, %s of cached features", text_size(a, plan->activations), text_size(b, plan->cache));
    if (plan->cache_folder)
        fprintf(v->out, " in '%s'", plan->cache_folder);
    if (plan->cache_reused)
        fprintf(v->out, " (of %d of %d images from an earlier run)", plan->cache_reused, plan->images);
    fprintf(v->out, ", %lld steps, %.2f GFLOP an image and step\n", (long long)plan->steps, plan->flops / 1e9);
}

static void on_note(void *context, const char *text)
{
    view *v = context;

    if (v->out) {
        progress_clear(&v->bar);
        fprintf(v->out, "note: %s\n", text);
    }
}

static bool on_stop(void *context)
{
    (void)context;
    return stop_requested();
}

/* Takes away what an earlier run left, so that nobody takes it for this one's. */
static void clear_output(const char *folder)
{
    static const char *const names[] = {"checkpoint.safetensors", "adapter.json", "adapter.safetensors", "metrics.jsonl", "results.json", "events.out.tfevents.*"};

    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char pattern[4096];
        glob_t found;
        snprintf(pattern, sizeof pattern, "%s/%s", folder, names[i]);
        if (glob(pattern, 0, NULL, &found) == 0)
            for (size_t j = 0; j < found.gl_pathc; j++)
                unlink(found.gl_pathv[j]);
        globfree(&found);
    }
}

inlay_status check_output(const char *folder, const options *o, bool *done, inlay_error *err)
{
    arena *memory = arena_new();
    const char *adapter_ = path_join(memory, folder, "adapter.json"), *checkpoint = path_join(memory, folder, "checkpoint.safetensors");
    bool complete = file_exists(adapter_), begun = file_exists(checkpoint);
    inlay_status status = INLAY_OK;

    *done = complete && !begun && options_flag(o, "resume");
    if (options_flag(o, "overwrite") && !options_flag(o, "resume")) {
        clear_output(folder);
    } else if ((complete || begun) && !options_flag(o, "resume")) {
        status = error_set(err, INLAY_ERR_USAGE, "'%s' holds a %s run: --resume goes on with it, --overwrite begins anew", folder, complete && !begun ? "complete" : "begun");
    }
    arena_free(memory);
    return status;
}

static void copy_setting(void *context, const option_spec *spec, const char *text)
{
    json_t *root = context;

    if (spec->type == OPTION_REAL || spec->type == OPTION_INT)
        json_object_set_new(root, spec->name, spec->type == OPTION_INT ? json_integer(strtoll(text, NULL, 10)) : json_real(strtod(text, NULL)));
    else
        json_object_set_new(root, spec->name, spec->type == OPTION_FLAG ? json_boolean(strcmp(text, "true") == 0) : json_string(text));
}

/* "class/file": the same however the folder above was spelled. */
static const char *path_tail(const char *path)
{
    const char *at = path + strlen(path);

    for (int slashes = 0; at > path; at--)
        if (at[-1] == '/' && ++slashes == 2)
            break;
    return at;
}

/* Everything that decides the result, as JSON: kept with checkpoints and adapters. */
static char *describe_run(const train_request *q, const adapter *a, const dataset *d)
{
    json_t *settings = json_object(), *root;
    uint32_t fingerprint = 0;
    char *text;

    options_each(a->settings, NULL, copy_setting, settings);
    for (int i = 0; i < d->count; i++)
        fingerprint = fingerprint * 31 + crc32c(path_tail(d->samples[i].path), strlen(path_tail(d->samples[i].path))) + (uint32_t)d->samples[i].label;
    root = json_pack("{s:s, s:o, s:s, s:i, s:I, s:i, s:i, s:b}", "method", a->name, "options", settings, "backbone", q->b->sha256, "images", d->count, "data",
                     (json_int_t)fingerprint, "epochs", q->epochs, "batch_size", q->batch, "drop_last", q->drop_last);
    json_object_update_new(root, json_pack("{s:f, s:f, s:f, s:i, s:b, s:f, s:f, s:f, s:f, s:f, s:f}", "lr", q->lr.lr, "warmup_lr", q->lr.start, "min_lr", q->lr.end,
                                           "warmup_epochs", q->lr.warmup, "repeat_first", q->lr.repeat_first, "weight_decay", q->weight_decay, "beta1", q->beta1,
                                           "beta2", q->beta2, "adam_eps", q->eps, "label_smoothing", q->label_smoothing, "backbone_drop_path", q->drop_path));
    json_object_set_new(root, "backbone_dropout", json_real(q->backbone_dropout));
    json_object_set_new(root, "move_untouched", json_boolean(q->move_untouched));
    json_object_update_new(root, json_pack("{s:I, s:s, s:s, s:b, s:o}", "seed", (json_int_t)q->seed, "precision", precision_name(q->prec), "kernels", q->dev->k->name, "augment",
                                           q->augment, "preprocessing", preprocess_record(q->prep)));
    json_object_set_new(root, "model", backbone_facts(q->b));
    text = json_dumps(root, JSON_COMPACT | JSON_REAL_PRECISION(9));
    json_decref(root);
    return text;
}

inlay_status method_settings(options **out, const char *name, const options *o, inlay_error *err)
{
    const method *m;

    TRY(adapter_settings(out, name, err));
    m = method_find(name, NULL);
    for (const option_spec *spec = m->options; spec->name; spec++)
        if (options_given(o, spec->name)) {
            inlay_status status = options_set(*out, spec->name, options_string(o, spec->name), "the command line", err);
            if (status != INLAY_OK) {
                options_free(*out);
                return status;
            }
        }
    return INLAY_OK;
}

static inlay_status open_data(const options *o, dataset **data, dataset **judged, const char **split, inlay_error *err)
{
    const char *path = options_string(o, "data"), *train_on = options_string(o, "train_on"), *wanted = options_string(o, "eval_split");
    bool both = strcmp(train_on, "train+val") == 0;
    dataset_request request = {.path = path, .split = train_on, .val_split = options_real(o, "val_split"), .seed = (uint64_t)options_int(o, "seed"),
                               .natural_sort = options_flag(o, "natural_sort")};
    inlay_error ignored;
    arena *memory = arena_new();
    bool has_splits = file_is_folder(path_join(memory, path, "train"));

    arena_free(memory);
    if (!has_splits && request.val_split == 0)
        request.split = NULL;
    TRY(dataset_open(data, &request, err));
    *judged = NULL;
    *split = strcmp(wanted, "auto") != 0 ? wanted : both ? "test" : "val";
    if (!has_splits && request.val_split == 0 && strcmp(wanted, "auto") != 0 && strcmp(wanted, "none") != 0)
        FAIL(err, INLAY_ERR_USAGE, "--eval-split %s: '%s' has no splits (--val-split holds a share of each class out)", wanted, path);
    if (strcmp(*split, "none") == 0 || (request.split == NULL && strcmp(wanted, "auto") == 0))
        return INLAY_OK;
    request.split = *split;
    request.classes = (*data)->numeric_labels ? NULL : (*data)->classes;
    request.class_count = request.classes ? (*data)->class_count : 0;
    if (strcmp(wanted, "auto") == 0) { /* nothing to judge on is no error then */
        if (dataset_open(judged, &request, &ignored) != INLAY_OK)
            *judged = NULL;
        return INLAY_OK;
    }
    return dataset_open(judged, &request, err);
}

static void fill_request(train_request *q, const options *o, const method *m, int epochs)
{
    const char *cache = options_string(o, "feature_cache");

    q->epochs = epochs;
    q->batch = (int)options_int(o, "batch_size");
    q->workers = choose_workers(o);
    q->drop_last = options_flag(o, "drop_last");
    q->lr = (schedule){.lr = options_has(o, "lr") ? options_real(o, "lr") : m->lr, .start = options_real(o, "warmup_lr"), .end = options_real(o, "min_lr"),
                       .warmup = (int)options_int(o, "warmup_epochs"), .epochs = epochs, .repeat_first = options_flag(o, "repeat_first")};
    if (q->lr.warmup > epochs / 2 && !options_given(o, "warmup_epochs"))
        q->lr.warmup = epochs / 10; /* a short run keeps the recipe's share of warm-up */
    q->weight_decay = options_real(o, "weight_decay");
    q->beta1 = options_real(o, "beta1");
    q->beta2 = options_real(o, "beta2");
    q->eps = options_real(o, "adam_eps");
    q->label_smoothing = options_real(o, "label_smoothing");
    q->drop_path = options_has(o, "backbone_drop_path") ? options_real(o, "backbone_drop_path") : m->drop_path;
    q->backbone_dropout = options_real(o, "backbone_dropout");
    q->seed = (uint64_t)options_int(o, "seed");
    q->augment = options_flag(o, "augment");
    q->cache = strcmp(cache, "on") == 0 ? CACHE_ON : strcmp(cache, "off") == 0 ? CACHE_OFF : CACHE_AUTO;
    q->cache_limit = (size_t)options_int(o, "cache_limit") * 1000000;
    q->cache_dir = options_string(o, "cache_dir");
    q->output = options_string(o, "output");
    q->resume = options_flag(o, "resume");
    q->strict = options_flag(o, "strict");
    q->tensorboard = options_flag(o, "tensorboard");
    q->move_untouched = options_flag(o, "move_untouched");
    q->save_trained = options_flag(o, "save_trained");
    q->eval_every = (int)options_int(o, "eval_every");
}

static inlay_status open_preprocess(preprocess *p, const backbone *b, const options *o, inlay_error *err)
{
    TRY(preprocess_for(p, b, NULL, err));
    TRY(apply_preprocess_options(p, o, err));
    if (options_flag(o, "augment")) {
        p->scale_low = options_real(o, "augment_scale");
        p->scale_high = 1;
        p->ratio_low = 3.0 / 4;
        p->ratio_high = 4.0 / 3;
        p->flip = options_real(o, "flip");
    }
    return INLAY_OK;
}

static void introduce(const train_request *q, FILE *out)
{
    char a[TEXT_SHORT], b[TEXT_SHORT];

    if (out)
        fprintf(out, "%s: %s trained parameters (%s with the head), %d images, %lld classes, %d threads, %s, %s\n", q->a->name,
                text_count(a, adapter_trained_total(q->a, false)), text_count(b, adapter_trained_total(q->a, true)), q->data->count, (long long)q->a->classes,
                pool_threads(q->dev->c.threads), q->dev->k->name, precision_name(q->prec));
}

inlay_status run_training(backbone *b, const char *name, options *o, int epochs, train_result *result, inlay_error *err)
{
    view v = {.out = progress_stream(o)};
    train_request q = {.b = b};
    device dev = {0};
    dataset *data = NULL, *judged = NULL;
    adapter *a = NULL;
    options *settings = NULL;
    preprocess prep;
    char *run = NULL;
    inlay_status status = method_settings(&settings, name, o, err);

    TRY(status);
    fill_request(&q, o, method_find(name, NULL), epochs);
    status = open_preprocess(&prep, b, o, err);
    if (status == INLAY_OK)
        status = open_data(o, &data, &judged, &q.eval_split, err);
    if (status == INLAY_OK && data->class_count < 2)
        status = error_set(err, INLAY_ERR_USAGE, "'%s' has %d class; at least 2 are needed", options_string(o, "data"), data->class_count);
    if (status == INLAY_OK)
        status = backbone_identify(b, err);
    if (status == INLAY_OK)
        status = device_open(&dev, NULL, (int)options_int(o, "threads"), err);
    if (status == INLAY_OK && options_flag(o, "pin_threads"))
        status = pool_pin(dev.c.threads, err);
    if (status == INLAY_OK) {
        status = adapter_new(&a, name, settings, b, data->class_count, data->classes, err);
        settings = NULL;
    }
    if (status == INLAY_OK) {
        q.dev = &dev;
        q.a = a;
        q.data = data;
        q.eval_data = judged;
        q.prep = &prep;
        q.prec = precision_choose(options_string(o, "precision"), &dev);
        v.epochs = epochs;
        q.observer = (train_observer){&v, on_phase, on_progress, on_step, on_epoch, on_evaluated, on_plan, on_note, on_stop};
        q.run = run = describe_run(&q, a, data);
        introduce(&q, v.out);
        stop_install();
        status = train(result, &q, err);
        close_bar(&v);
        for (int i = 0; i < result->bad_count; i++)
            fprintf(stderr, "left out: %s\n", result->bad[i]);
        note_cut_images(&prep, result->cut_count + result->eval_cut_count);
    }
    free(run);
    if (dev.k)
        for (int i = 0; i < b->param_count; i++)
            param_release(b->params[i], &dev);
    adapter_free(a, dev.k ? &dev : NULL);
    options_free(settings);
    dataset_free(data);
    dataset_free(judged);
    if (dev.k)
        device_close(&dev);
    return status;
}
