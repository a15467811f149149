#include "cli/train_options.h"

#include <dirent.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "base/monitor.h"
#include "base/stop.h"
#include "base/text.h"
#include "formats/events.h"
#include "train/checkpoint.h"

typedef struct view {
    progress bar;
    FILE *out;
    int64_t done;  /* steps that this process has seen since the bar began */
    double total;  /* images of the whole run */
    int epochs;
    bool open;
    inlay_status (*saved)(const train_result *result, const options *o, inlay_error *err);
    const options *o;
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

    progress_clear(&v->bar);
    print_note(text);
}

static bool on_stop(void *context)
{
    (void)context;
    return stop_requested();
}

static void remove_from(arena *memory, const char *folder, const char *name)
{
    unlink(path_join(memory, folder, name));
    unlink(path_join(memory, folder, arena_printf(memory, "%s.tmp", name)));
}

/* Takes away what an earlier run left, so that nobody takes it for this one's: what a run writes, by its names, and
 * nothing else. */
static void clear_output(const char *folder)
{
    static const char *const names[] = {"checkpoint.safetensors", "adapter.json", "adapter.safetensors",
                                        "metrics.jsonl",          "results.json", "features.tmp"};
    arena *memory = arena_new();
    const char *trained = path_join(memory, folder, "trained");
    DIR *list = opendir(folder);
    const struct dirent *entry;

    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        remove_from(memory, folder, names[i]);
    while (list && (entry = readdir(list)) != NULL)
        if (strncmp(entry->d_name, EVENTS_PREFIX, strlen(EVENTS_PREFIX)) == 0)
            unlink(path_join(memory, folder, entry->d_name));
    if (list)
        closedir(list);
    remove_from(memory, trained, "adapter.json");
    remove_from(memory, trained, "adapter.safetensors");
    rmdir(trained); /* stays when there is something else in it */
    arena_free(memory);
}

inlay_status check_output(const char *folder, const options *o, bool *done, inlay_error *err)
{
    arena *memory = arena_new();
    const char *adapter_ = path_join(memory, folder, "adapter.json"), *checkpoint = path_join(memory, folder, "checkpoint.safetensors");
    bool complete = file_exists(adapter_), begun = file_exists(checkpoint);
    bool resume = options_flag(o, "resume"), overwrite = options_flag(o, "overwrite");
    inlay_status status = INLAY_OK;

    *done = complete && !begun && resume;
    if (resume && overwrite)
        status = error_set(err, INLAY_ERR_USAGE,
                           "--resume goes on with the run in '%s', --overwrite begins anew: one of them", folder);
    else if ((complete || begun) && !resume && !overwrite)
        status = error_set(err, INLAY_ERR_USAGE, "'%s' holds a %s run: --resume goes on with it, --overwrite begins anew", folder, complete && !begun ? "complete" : "begun");
    arena_free(memory);
    return status;
}

/* A run that is complete is left alone, when it is the one that is asked for and all of it is there. */
static inlay_status check_complete(const train_request *q, inlay_error *err)
{
    arena *memory = arena_new();
    const char *path = path_join(memory, q->output, "adapter.json"),
               *weights = path_join(memory, q->output, "adapter.safetensors");
    json_t *root = NULL;
    inlay_status status = json_read(&root, path, err);

    if (status == INLAY_OK)
        status = checkpoint_compare(path, json_object_get(root, "training"), q->run, err);
    if (status == INLAY_OK && !file_exists(weights))
        status = error_set(err, INLAY_ERR_IO, "'%s' is missing though '%s' is there: --overwrite begins anew", weights,
                           path);
    json_decref(root);
    arena_free(memory);
    return status;
}

typedef struct text_check {
    inlay_status status;
    inlay_error *err;
} text_check;

/* Settings are recorded and read back: JSON holds UTF-8 only. */
static void check_text(void *context, const option_spec *spec, const char *text)
{
    text_check *c = context;
    char name[80];

    if (c->status == INLAY_OK && !text_is_utf8(text)) {
        snprintf(name, sizeof name, "%s", spec->name);
        for (char *p = name; *p; p++)
            *p = *p == '_' ? '-' : *p;
        c->status = error_set(c->err, INLAY_ERR_USAGE,
                              "--%s: '%s' is not UTF-8 and cannot be recorded with the adapter", name, text);
    }
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

static void describe_optimizer(json_t *root, const train_request *q)
{
    bool sgd = q->optimizer == OPTIMIZER_SGD;

    json_object_set_new(root, "optimizer", json_string(optimizer_names[q->optimizer]));
    if (sgd)
        json_object_set_new(root, "momentum", json_real(q->momentum));
    else
        json_object_update_new(root, json_pack("{s:f, s:f, s:f, s:s}", "beta1", q->beta1, "beta2", q->beta2, "adam_eps",
                                               q->eps, "adam_rule", adam_rule_names[q->adam_rule]));
    json_object_update_new(root, json_pack("{s:f, s:s, s:f}", "weight_decay", q->weight_decay, "decay_on",
                                           decay_reach_names[q->decay_on], "clip_grad_norm", q->clip_norm));
}

static void describe_schedule(json_t *root, const schedule *s)
{
    json_object_update_new(root, json_pack("{s:s, s:s, s:f, s:f, s:f}", "schedule", schedule_names[s->kind],
                                           "schedule_unit", s->by_step ? "step" : "epoch", "lr", s->lr, "warmup_lr",
                                           s->start, "min_lr", s->end));
    json_object_update_new(root, json_pack("{s:I, s:f, s:b, s:b, s:b}", "warmup_epochs", (json_int_t)s->warmup,
                                           "warmup_share", s->warmup_share, "peak_in_warmup", !s->peak_behind,
                                           "decay_from_start", s->from_first, "repeat_first", s->repeat_first));
}

/* The names of the classes are saved with the adapter: found out now, not when all is trained. */
static inlay_status check_classes(const dataset *d, inlay_error *err)
{
    for (int i = 0; i < d->class_count; i++)
        if (!text_is_utf8(d->classes[i]))
            FAIL(err, INLAY_ERR_FORMAT, "class %d, '%s', has a name that is not UTF-8: adapter.json cannot hold it", i,
                 d->classes[i]);
    return INLAY_OK;
}

/* Everything that decides the result, as JSON: kept with checkpoints and adapters. */
static inlay_status describe_run(char **out, const train_request *q, const adapter *a, const dataset *d,
                                 const recipe *r, inlay_error *err)
{
    json_t *settings = json_object(), *root, *rest;
    uint32_t fingerprint = 0;
    inlay_status status;

    options_each(a->settings, NULL, copy_setting, settings);
    for (int i = 0; i < d->count; i++)
        fingerprint = fingerprint * 31 + crc32c(path_tail(d->samples[i].path), strlen(path_tail(d->samples[i].path))) + (uint32_t)d->samples[i].label;
    root = json_pack("{s:s, s:o, s:s, s:s, s:i, s:I, s:i, s:i, s:b}", "method", a->name, "options", settings, "recipe",
                     r->name, "backbone", q->b->sha256, "images", d->count, "data",
                     (json_int_t)fingerprint, "epochs", q->epochs, "batch_size", q->batch, "drop_last", q->drop_last);
    describe_optimizer(root, q);
    describe_schedule(root, &q->lr);
    json_object_update_new(root, json_pack("{s:f, s:f, s:f}", "label_smoothing", q->label_smoothing, "backbone_drop_path",
                                           q->drop_path, "backbone_dropout", q->backbone_dropout));
    json_object_set_new(root, "move_untouched", json_boolean(q->move_untouched));
    rest = json_build("the settings of the run", err, "{s:I, s:s, s:s, s:b, s:o}", "seed", (json_int_t)q->seed,
                      "precision", precision_name(q->prec), "kernels", q->dev->k->name, "augment", q->augment,
                      "preprocessing", preprocess_record(q->prep));
    status = rest ? INLAY_OK : INLAY_ERR_FORMAT;
    json_object_update_new(root, rest);
    json_object_set_new(root, "model", backbone_facts(q->b));
    if (status == INLAY_OK)
        status = json_encode(out, root, JSON_COMPACT | JSON_REAL_PRECISION(9), "the settings of the run", err);
    json_decref(root);
    return status;
}

inlay_status method_settings(options **out, const char *name, const options *o, inlay_error *err)
{
    const method *m;

    TRY(adapter_settings(out, name, err));
    m = method_find(name, NULL);
    for (const option_spec *spec = m->options; spec->name; spec++)
        if (options_has(o, spec->name) && options_given(o, spec->name)) {
            inlay_status status = options_set(*out, spec->name, options_string(o, spec->name), "the command line", err);
            if (status != INLAY_OK) {
                options_free(*out);
                return status;
            }
        }
    return INLAY_OK;
}

/* What is judged on where --eval-split is auto: NULL where the data has no such split, which is no mistake. */
static const char *automatic_split(const char *path, bool has_splits, const dataset_request *training)
{
    const char *split = strcmp(training->split, "train+val") == 0 ? "test" : "val";
    bool there = has_splits ? dataset_has_split(path, split) : training->val_split > 0 && strcmp(split, "val") == 0;

    return there ? split : NULL;
}

/* *judged stays NULL, and *split too, where nothing is judged on. */
static inlay_status open_data(const options *o, dataset **data, dataset **judged, const char **split, notes *n,
                              inlay_error *err)
{
    const char *path = options_string(o, "data"), *wanted = options_string(o, "eval_split");
    dataset_request request = {.path = path,
                               .split = options_string(o, "train_on"),
                               .val_split = options_real(o, "val_split"),
                               .seed = (uint64_t)options_int(o, "seed"),
                               .natural_sort = options_flag(o, "natural_sort"),
                               .notes = n};
    bool has_splits = dataset_has_split(path, NULL), divided = has_splits || request.val_split > 0,
         none = strcmp(wanted, "none") == 0;

    *judged = NULL;
    if (has_splits && options_given(o, "val_split"))
        FAIL(err, INLAY_ERR_USAGE, "--val-split: '%s' has splits of its own", path);
    if (!divided && options_given(o, "train_on"))
        FAIL(err, INLAY_ERR_USAGE, "--train-on: '%s' has no splits (--val-split holds a share of each class out)", path);
    *split = strcmp(wanted, "auto") == 0 ? automatic_split(path, has_splits, &request) : none ? NULL : wanted;
    if (!divided)
        request.split = NULL;
    TRY(dataset_open(data, &request, err));
    if (*split && !divided)
        FAIL(err, INLAY_ERR_USAGE, "--eval-split %s: '%s' has no splits (--val-split holds a share of each class out)", wanted, path);
    if (!*split && options_given(o, "eval_every"))
        FAIL(err, INLAY_ERR_USAGE, "--eval-every: '%s' has no split to judge on", path);
    if (*split) {
        request.split = *split;
        request.classes = (*data)->classes;
        request.class_count = (*data)->class_count;
        TRY(dataset_open(judged, &request, err));
    }
    dataset_compare(*data, *judged, *split, n);
    return INLAY_OK;
}

/* The data, after which its notes have been printed; what is opened is freed by the caller whatever the result. */
static inlay_status open_noted_data(const options *o, dataset **data, dataset **judged, const char **split,
                                    inlay_error *err)
{
    notes n = {0};
    inlay_status status = open_data(o, data, judged, split, &n, err);
    inlay_status noted = print_notes(&n, status == INLAY_OK && options_flag(o, "strict"), err);

    notes_free(&n);
    return status == INLAY_OK ? noted : status;
}

/* ---- the recipe ---- */

static const option_need needs[] = {
#define NEED(option, of, values) {option, of, values},
#include "cli/training_needs.def"
#undef NEED
    {0},
};

static inlay_status check_recipe(const options *o, inlay_error *err)
{
    TRY(options_check_needs(o, needs, err));
    if (options_given(o, "warmup_epochs") && options_given(o, "warmup_share"))
        FAIL(err, INLAY_ERR_USAGE, "--warmup-epochs and --warmup-share say the same thing: give one of them");
    return INLAY_OK;
}

/* Makes the recipe that is asked for, else the method's, the defaults of `o`. */
static inlay_status apply_recipe(const recipe **out, const char *method_name, options *o, inlay_error *err)
{
    *out = recipe_of(method_name);
    if (options_has(o, "recipe"))
        TRY(recipe_named(out, options_string(o, "recipe"), err));
    TRY(recipe_apply(*out, o, err));
    return check_recipe(o, err);
}

/* The position of a choice among the names of an enumeration. */
static int choice(const options *o, const char *option, const char *const *names)
{
    int i = 0;

    while (strcmp(names[i], options_string(o, option)) != 0)
        i++;
    return i;
}

/* A rate beside the peak. One that nobody gave keeps the recipe's ratio to it. */
static double side_rate(const options *o, const char *option, const recipe *r)
{
    double rate = options_real(o, option);

    if (options_given(o, option) || !options_given(o, "lr"))
        return rate;
    return rate * options_real(o, "lr") / recipe_real(r, "lr");
}

static schedule read_schedule(const options *o, const recipe *r, int epochs)
{
    schedule s = {.kind = (schedule_kind)choice(o, "schedule", schedule_names), .lr = options_real(o, "lr"),
                  .start = side_rate(o, "warmup_lr", r), .end = side_rate(o, "min_lr", r),
                  .warmup = options_int(o, "warmup_epochs"), .epochs = epochs,
                  .warmup_share = options_given(o, "warmup_epochs") ? 0 : options_real(o, "warmup_share"),
                  .by_step = strcmp(options_string(o, "schedule_unit"), "step") == 0,
                  .peak_behind = !options_flag(o, "peak_in_warmup"), .from_first = options_flag(o, "decay_from_start"),
                  .repeat_first = options_flag(o, "repeat_first")};

    if (s.warmup > epochs / 2 && !options_given(o, "warmup_epochs"))
        s.warmup = epochs / 10; /* a short run keeps the recipe's share of warm-up */
    return s;
}

static void read_optimizer(train_request *q, const options *o)
{
    q->optimizer = (optimizer_kind)choice(o, "optimizer", optimizer_names);
    q->adam_rule = (adam_rule)choice(o, "adam_rule", adam_rule_names);
    q->decay_on = (decay_reach)choice(o, "decay_on", decay_reach_names);
    q->weight_decay = options_real(o, "weight_decay");
    q->beta1 = options_real(o, "beta1");
    q->beta2 = options_real(o, "beta2");
    q->eps = options_real(o, "adam_eps");
    q->momentum = options_real(o, "momentum");
    q->clip_norm = options_real(o, "clip_grad_norm");
}

static void fill_request(train_request *q, const options *o, const recipe *r, int epochs)
{
    const char *cache = options_string(o, "feature_cache");

    q->epochs = epochs;
    q->batch = (int)options_int(o, "batch_size");
    q->workers = choose_workers(o);
    q->drop_last = options_flag(o, "drop_last");
    q->lr = read_schedule(o, r, epochs);
    read_optimizer(q, o);
    q->label_smoothing = options_real(o, "label_smoothing");
    q->drop_path = options_real(o, "backbone_drop_path");
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

static inlay_status on_saved(void *context, const train_result *result, inlay_error *err)
{
    const view *v = context;

    return v->saved ? v->saved(result, v->o, err) : INLAY_OK;
}

inlay_status run_training(backbone *b, const char *name, const training_request *how, train_result *result,
                          inlay_error *err)
{
    options *o = how->o;
    int epochs = (int)options_int(o, "epochs");
    view v = {.out = progress_stream(o), .saved = how->saved, .o = o};
    text_check texts = {.err = err};
    train_request q = {.b = b};
    device dev = {0};
    dataset *data = NULL, *judged = NULL;
    adapter *a = NULL;
    options *settings = NULL;
    preprocess prep;
    char *run = NULL;
    const recipe *r;
    inlay_status status = method_settings(&settings, name, o, err);

    TRY(status);
    options_each(settings, NULL, check_text, &texts);
    status = texts.status;
    if (status == INLAY_OK)
        status = apply_recipe(&r, name, o, err);
    if (status == INLAY_OK)
        fill_request(&q, o, r, epochs);
    if (status == INLAY_OK)
        status = open_preprocess(&prep, b, o, err);
    if (status == INLAY_OK)
        status = open_noted_data(o, &data, &judged, &q.eval_split, err);
    if (status == INLAY_OK && data->class_count < 2)
        status = error_set(err, INLAY_ERR_USAGE, "'%s' has %d class; at least 2 are needed", options_string(o, "data"), data->class_count);
    if (status == INLAY_OK)
        status = check_classes(data, err);
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
    if (status == INLAY_OK && options_flag(o, "save_trained") && !a->method->merge)
        status = error_set(err, INLAY_ERR_USAGE,
                           "--save-trained: '%s' has no merge, what is saved is what was trained", name);
    if (status == INLAY_OK) {
        q.dev = &dev;
        q.a = a;
        q.data = data;
        q.eval_data = judged;
        q.prep = &prep;
        q.prec = precision_choose(options_string(o, "precision"), &dev);
        v.epochs = epochs;
        q.observer = (train_observer){&v,           on_phase, on_progress, on_step, on_epoch,
                                      on_evaluated, on_plan,  on_note,     on_stop, on_saved};
        status = describe_run(&run, &q, a, data, r, err);
        q.run = run;
    }
    if (status == INLAY_OK && how->complete)
        status = check_complete(&q, err);
    else if (status == INLAY_OK) {
        introduce(&q, v.out);
        stop_install();
        if (options_flag(o, "overwrite"))
            clear_output(q.output);
        status = train(result, &q, err);
        close_bar(&v);
        for (int i = 0; i < result->bad_count; i++)
            leave_out(result->bad[i]);
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
