/* A training run from options: its recipe, data, model and output, opened in that order and closed together. */
#include "run/training_impl.h"

#include <stdlib.h>
#include <string.h>

#include "base/text.h"

/* Checks the names of the classes, which are saved with the adapter: now, not when all is trained. */
static inlay_status check_classes(const dataset *d, inlay_error *err)
{
    for (int i = 0; i < d->class_count; i++)
        if (!text_is_utf8(d->classes[i]))
            FAIL(err, INLAY_ERR_FORMAT, "class %d, '%s', has a name that is not UTF-8: adapter.json cannot hold it", i,
                 d->classes[i]);
    return INLAY_OK;
}

/* The split that is evaluated on where --eval-split is auto: NULL where the data has no such split, which is no
 * mistake. */
static const char *automatic_split(const char *path, bool has_splits, const dataset_request *training)
{
    const char *split = strcmp(training->split, "train+val") == 0 ? "test" : "val";
    bool there = has_splits ? dataset_has_split(path, split) : training->val_split > 0 && strcmp(split, "val") == 0;

    return there ? split : NULL;
}

/* Opens the data to train on and to evaluate on; *evaluated stays NULL, and *split too, where there is none of the
 * latter. */
static inlay_status open_data(const options *o, dataset **data, dataset **evaluated, const char **split, notes *n,
                              inlay_error *err)
{
    const char *path = options_string(o, "data"), *wanted = options_string(o, "eval_split");
    const char *task = options_string(o, "task");
    dataset_request request = {.path = path,
                               .task = strcmp(task, "auto") == 0 ? NULL : task_find(task),
                               .split = options_string(o, "train_on"),
                               .val_split = options_real(o, "val_split"),
                               .seed = (uint64_t)options_int(o, "seed"),
                               .natural_sort = options_flag(o, "natural_sort"),
                               .notes = n};
    bool has_splits = dataset_has_split(path, NULL), divided = has_splits || request.val_split > 0,
         none = strcmp(wanted, "none") == 0;

    *evaluated = NULL;
    if (has_splits && options_given(o, "val_split"))
        FAIL(err, INLAY_ERR_USAGE, "--val-split: '%s' has splits of its own", path);
    if (!divided && options_given(o, "train_on"))
        FAIL(err, INLAY_ERR_USAGE, "--train-on: '%s' has no splits (--val-split holds a share of each class out)",
             path);
    *split = strcmp(wanted, "auto") == 0 ? automatic_split(path, has_splits, &request) : none ? NULL : wanted;
    if (!divided)
        request.split = NULL;
    TRY(dataset_open(data, &request, err));
    if (*split && !divided)
        FAIL(err, INLAY_ERR_USAGE, "--eval-split %s: '%s' has no splits (--val-split holds a share of each class out)",
             wanted, path);
    if (!*split && options_given(o, "eval_every"))
        FAIL(err, INLAY_ERR_USAGE, "--eval-every: '%s' has no split to evaluate on", path);
    if (*split) {
        request.split = *split;
        request.task = (*data)->task;
        request.classes = (*data)->classes;
        request.class_count = (*data)->outputs;
        TRY(dataset_open(evaluated, &request, err));
    }
    dataset_compare(*data, *evaluated, *split, n);
    return INLAY_OK;
}

/* ---- the recipe ---- */

static const option_need needs[] = {
#define NEED(option, of, values) {option, of, values},
#include "run/training_needs.def"
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
    schedule s = {.kind = (schedule_kind)choice(o, "schedule", schedule_names),
                  .lr = options_real(o, "lr"),
                  .start = side_rate(o, "warmup_lr", r),
                  .end = side_rate(o, "min_lr", r),
                  .warmup = options_int(o, "warmup_epochs"),
                  .epochs = epochs,
                  .warmup_share = options_given(o, "warmup_epochs") ? 0 : options_real(o, "warmup_share"),
                  .by_step = strcmp(options_string(o, "schedule_unit"), "step") == 0,
                  .peak_behind = !options_flag(o, "peak_in_warmup"),
                  .from_first = options_flag(o, "decay_from_start"),
                  .repeat_first = options_flag(o, "repeat_first")};

    if (s.warmup > epochs / 2 && !options_given(o, "warmup_epochs"))
        s.warmup = epochs / 10; /* a short run keeps the recipe's share of warm-up */
    return s;
}

static void read_optimizer(train_request *q, const options *o)
{
    q->update.kind = (optimizer_kind)choice(o, "optimizer", optimizer_names);
    q->update.rule = (adam_rule)choice(o, "adam_rule", adam_rule_names);
    q->update.decay_on = (decay_reach)choice(o, "decay_on", decay_reach_names);
    q->update.weight_decay = options_real(o, "weight_decay");
    q->update.beta1 = options_real(o, "beta1");
    q->update.beta2 = options_real(o, "beta2");
    q->update.eps = options_real(o, "adam_eps");
    q->update.momentum = options_real(o, "momentum");
    q->update.clip_norm = options_real(o, "clip_grad_norm");
}

/* The memory that the cache may take: half of it, unless --cache-limit says how much. */
static size_t cache_limit_of(const budget *room, const options *o)
{
    if (options_has(o, "cache_limit"))
        return (size_t)options_int(o, "cache_limit");
    return room->total ? room->total / 2 : SIZE_MAX;
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
    q->cache_limit = cache_limit_of(q->room, o);
    q->cache_dir = options_string(o, "cache_dir");
    q->output = options_string(o, "output");
    q->resume = options_flag(o, "resume");
    q->strict = options_flag(o, "strict");
    q->tensorboard = options_flag(o, "tensorboard");
    q->update.move_untouched = options_flag(o, "move_untouched");
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

/* ---- a run: what it is made of, in the order in which it is opened ---- */

typedef struct training_run {
    const training_request *how;
    const char *name;  /* the method's or preset's */
    options *settings; /* the method's, until the adapter has them */
    const recipe *r;
    dataset *data, *evaluated;
    preprocess prep;
    device dev;
    adapter *a;
    char *described;
    budget room;
    train_request q;
    training_watch v;
} training_run;

static inlay_status read_run(training_run *t, inlay_error *err)
{
    options *o = t->how->o;

    TRY(method_settings(&t->settings, t->name, o, err));
    TRY(training_check_texts(t->settings, err));
    TRY(apply_recipe(&t->r, t->name, o, err));
    open_budget(&t->room, o);
    t->q.room = &t->room;
    fill_request(&t->q, o, t->r, (int)options_int(o, "epochs"));
    return INLAY_OK;
}

static inlay_status open_run_data(training_run *t, notes *n, inlay_error *err)
{
    const options *o = t->how->o;

    TRY(open_data(o, &t->data, &t->evaluated, &t->q.eval_split, n, err));
    if (t->data->task->one_class && t->data->class_count < 2)
        FAIL(err, INLAY_ERR_USAGE, "'%s' has %d class; at least 2 are needed", options_string(o, "data"),
             t->data->class_count);
    if (!t->data->task->one_class && options_given(o, "label_smoothing") && options_real(o, "label_smoothing") > 0)
        FAIL(err, INLAY_ERR_USAGE, "--label-smoothing: the targets of '%s' are %s", options_string(o, "data"),
             t->data->task->summary);
    return check_classes(t->data, err);
}

/* Opens the data and prints its notes, also when something is wrong with it. */
static inlay_status open_noted_data(training_run *t, inlay_error *err)
{
    notes n = {0};
    inlay_status status = open_run_data(t, &n, err);
    inlay_status noted = watch_notes(t->how->watch, &n, status == INLAY_OK && options_flag(t->how->o, "strict"), err);

    notes_free(&n);
    return status == INLAY_OK ? noted : status;
}

static inlay_status open_run_model(training_run *t, inlay_error *err)
{
    const options *o = t->how->o;
    options *settings = t->settings;

    TRY(backbone_identify(t->q.b, err));
    TRY(device_open(&t->dev, NULL, (int)options_int(o, "threads"), err));
    if (options_flag(o, "pin_threads"))
        TRY(pool_pin(t->dev.c.threads, err));
    t->settings = NULL; /* the adapter's from here on */
    TRY(adapter_new(&t->a, t->name, settings, t->q.b, t->data->outputs, t->data->classes, err));
    t->a->task = t->data->task;
    if (options_flag(o, "save_trained") && !t->a->method->conclude)
        FAIL(err, INLAY_ERR_USAGE, "--save-trained: '%s' has no merge, what is saved is what was trained", t->name);
    return INLAY_OK;
}

static inlay_status complete_request(training_run *t, inlay_error *err)
{
    train_request *q = &t->q;

    q->dev = &t->dev;
    q->a = t->a;
    q->data = t->data;
    q->eval_data = t->evaluated;
    q->prep = &t->prep;
    q->prec = precision_choose(options_string(t->how->o, "precision"), &t->dev);
    t->v.epochs = q->epochs;
    q->observer = training_observer(&t->v);
    TRY(training_describe(&t->described, q, t->a, t->data, t->r, err));
    q->run = t->described;
    return INLAY_OK;
}

static inlay_status perform(training_run *t, train_result *result, inlay_error *err)
{
    const inlay_observer *w = t->how->watch;
    inlay_status status;

    TRY(training_introduce(w, &t->q, err));
    if (options_flag(t->how->o, "overwrite"))
        training_clear_output(t->q.output);
    status = train(result, &t->q, err);
    watch_end(w);
    for (int i = 0; i < result->bad_count; i++)
        watch_left_out(w, result->bad[i]);
    note_cut_images(&t->prep, result->cut_count + result->eval_cut_count, w);
    return status;
}

static void close_run(training_run *t)
{
    free(t->described);
    adapter_free(t->a, t->dev.k ? &t->dev : NULL);
    options_free(t->settings);
    dataset_free(t->data);
    dataset_free(t->evaluated);
    if (t->dev.k)
        device_close(&t->dev);
    budget_close(&t->room);
}

inlay_status run_training(backbone *b, const char *name, const training_request *how, train_result *result,
                          inlay_error *err)
{
    training_run t = {.how = how, .name = name, .q = {.b = b}, .v = {.how = how}};
    bool complete = how->complete;
    inlay_status status = read_run(&t, err);

    if (status == INLAY_OK)
        status = open_preprocess(&t.prep, b, how->o, err);
    t.prep.room = &t.room;
    if (status == INLAY_OK)
        status = open_noted_data(&t, err);
    if (status == INLAY_OK)
        status = open_run_model(&t, err);
    if (status == INLAY_OK)
        status = complete_request(&t, err);
    if (status == INLAY_OK && !complete) /* a folder that was not there is made now */
        status = hold_output(how->lock, how->o, &complete, how->watch, err);
    if (status == INLAY_OK)
        status = complete ? training_check_complete(&t.q, err) : perform(&t, result, err);
    close_run(&t);
    return status;
}

inlay_status check_training(const char *name, const training_request *how, inlay_error *err)
{
    training_run t = {.how = how, .name = name};
    notes n = {0}; /* printed by the run itself */
    inlay_status status = read_run(&t, err);

    if (status == INLAY_OK)
        status = open_run_data(&t, &n, err);
    if (status == INLAY_OK && options_flag(how->o, "strict"))
        status = notes_refuse_faults(&n, err);
    notes_free(&n);
    close_run(&t);
    return status;
}
