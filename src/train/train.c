#define _GNU_SOURCE
#include "train/train.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "base/monitor.h"
#include "formats/events.h"
#include "train/cache.h"
#include "train/checkpoint.h"

/* A model and the program that runs it. There are several when layers are dropped at random: one for each number of
 * layers, in the same memory, so that a dropped layer costs nothing and the backward pass ends above it. */
typedef struct variant {
    model m;
    program *p;
} variant;

typedef struct trainer {
    const train_request *q;
    train_result *result;
    arena *memory;
    variant *variants;
    int variant_count;
    feature_cache cache;
    bool cached;
    predictor evaluator;
    bool has_evaluator;
    int *order;       /* sample indices of this epoch */
    int usable_count; /* how many: with a cache, those that could be read */
    int32_t *labels;
    int *indices;
    train_state state;
    image_records images;
    FILE *log;
    events *board;
    const char *checkpoint;
    int64_t steps_per_epoch;
    schedule rates;      /* the request's, in its own unit */
    int64_t images_done; /* of this process's training */
} trainer;

enum { EVALUATION_BATCH = 16, CACHE_BATCH = 16 }; /* images at a time, at most */

#define NOTIFY(t, event, ...)                                              \
    do {                                                                   \
        if ((t)->q->observer.event)                                        \
            (t)->q->observer.event((t)->q->observer.context, __VA_ARGS__); \
    } while (0)

static bool asked_to_stop(const trainer *t)
{
    return t->q->observer.stop && t->q->observer.stop(t->q->observer.context);
}

/* ---- evaluating ---- */

/* Of what would be saved now. A merge is made, evaluated and given up; a model that is its own result is kept for the
 * next time. */
static inlay_status open_evaluator(trainer *t, adapter **merged, inlay_error *err)
{
    const train_request *q = t->q;
    model_request model_ = {.dev = q->dev, .b = q->b, .prec = q->prec, .pixel_type = preprocess_pixel_type(q->prep)};
    inlay_status status;

    status = adapter_conclude(merged, q->a, q->dev, err);
    if (status != INLAY_OK) {
        *merged = NULL;
        return status;
    }
    model_.a = *merged;
    status = t->has_evaluator ? INLAY_OK : predictor_open(&t->evaluator, &model_, EVALUATION_BATCH, err);
    t->has_evaluator = true;
    return status;
}

static void close_evaluator(trainer *t, adapter *merged)
{
    if (merged == t->q->a)
        return;
    predictor_close(&t->evaluator);
    t->has_evaluator = false;
    adapter_free(merged, t->q->dev);
}

/* The memory that evaluating takes is asked for before the first step, not behind the last one. */
static inlay_status try_evaluator(trainer *t, inlay_error *err)
{
    adapter *merged = NULL;
    inlay_status status = open_evaluator(t, &merged, err);

    if (merged)
        close_evaluator(t, merged);
    return status;
}

static inlay_status evaluate_trained(trainer *t, const dataset *data, evaluation *e, inlay_error *err)
{
    const train_request *q = t->q;
    evaluate_request request = {
        .model = &t->evaluator, .data = data, .prep = q->prep, .workers = q->workers, .context = q->observer.context};
    adapter *merged = NULL;
    inlay_status status = open_evaluator(t, &merged, err);

    if (data == q->eval_data) {
        request.progress = q->observer.progress;
        request.stop = q->observer.stop;
    }
    if (status == INLAY_OK)
        status = evaluate(e, &request, err);
    if (merged)
        close_evaluator(t, merged);
    return status;
}

/* ---- before the first step ---- */

/* Of the programs that are going to be made, the largest in each phase: those of a step share their memory, and
 * that which fills the cache is gone before. */
static size_t training_activations(const trainer *t, program_needs *needs, bool cached)
{
    const train_request *q = t->q;
    value frontier[CACHE_VALUES];
    int count = cached ? graph_fixed_frontier(t->variants[0].m.g, t->variants[0].m.loss, frontier, CACHE_VALUES) : 0;
    program_request filling = {.dev = q->dev,
                               .max_batch = q->batch < CACHE_BATCH ? q->batch : CACHE_BATCH,
                               .wanted = frontier,
                               .wanted_count = count};
    program_request step = {.dev = q->dev,
                            .max_batch = q->batch < q->data->count ? q->batch : q->data->count,
                            .backward = true,
                            .wanted_count = 1,
                            .given = frontier,
                            .given_count = count};
    size_t most = count ? program_measure(needs, t->variants[0].m.g, &filling) : 0;

    for (int i = 0; i < t->variant_count; i++) {
        size_t size;
        step.wanted = &t->variants[i].m.loss;
        size = program_measure(needs, t->variants[i].m.g, &step);
        most = size > most ? size : most;
    }
    return most;
}

/* What is evaluated is a merge, where there is one. */
static inlay_status evaluation_activations(const trainer *t, program_needs *needs, size_t *out, inlay_error *err)
{
    const train_request *q = t->q;
    model_request request = {.dev = q->dev, .b = q->b, .prec = q->prec, .pixel_type = preprocess_pixel_type(q->prep)};
    program_request answers = {.dev = q->dev, .max_batch = EVALUATION_BATCH, .wanted_count = 1};
    adapter *merged;
    model m;
    inlay_status status;

    TRY(adapter_conclude(&merged, q->a, q->dev, err));
    request.a = merged;
    status = model_build(&m, &request, err);
    if (status == INLAY_OK) {
        answers.wanted = m.task_logits;
        *out = program_measure(needs, m.g, &answers);
        model_free(&m);
    }
    if (merged != q->a)
        adapter_free(merged, q->dev);
    return status;
}

/* Sets the parts of the run in its budget and checks it, before anything of it is taken. */
static inlay_status plan_memory(trainer *t, bool cached, inlay_error *err)
{
    const train_request *q = t->q;
    program_needs needs = {0};
    size_t training, evaluating = 0;
    int64_t trained = cached ? CACHE_BATCH : q->batch,
            ahead = 2 * (trained > EVALUATION_BATCH ? trained : EVALUATION_BATCH),
            evaluated = q->eval_data ? q->eval_data->count : 1;
    inlay_status status;

    if (!q->room)
        return INLAY_OK;
    training = training_activations(t, &needs, cached);
    status = evaluation_activations(t, &needs, &evaluating, err);
    device_plan(q->dev, q->room);
    budget_set(q->room, "weights", needs.weights, NULL);
    budget_set(q->room, "gradients and optimiser", needs.training, NULL);
    budget_set(q->room, "a checkpoint being saved", needs.training, NULL); /* values and moments, copied */
    budget_set(q->room, "activations of training", training, "a smaller --batch-size");
    budget_set(q->room, "activations of evaluation", evaluating, NULL);
    loader_plan(q->room, q->prep, ahead, evaluated > q->data->count ? evaluated : q->data->count);
    program_needs_free(&needs);
    return status == INLAY_OK ? budget_check(q->room, err) : status;
}

static inlay_status fill_cache_at(trainer *t, cache_place place, inlay_error *err)
{
    const train_request *q = t->q;
    const model *m = &t->variants[0].m;
    cache_request request = {.g = m->g,
                             .wanted = m->loss,
                             .pixels = m->pixels,
                             .dev = q->dev,
                             .b = q->b,
                             .data = q->data,
                             .prep = q->prep,
                             .records = &t->images,
                             .workers = q->workers,
                             .batch = q->batch < CACHE_BATCH ? q->batch : CACHE_BATCH,
                             .place = place,
                             .progress = q->observer.progress,
                             .note = q->observer.note,
                             .stop = q->observer.stop,
                             .context = q->observer.context};

    request.path = place == CACHE_IN_FOLDER ? q->cache_dir : path_join(t->memory, q->output, "features.tmp");
    NOTIFY(t, phase, "caching features", q->data->count, "img");
    TRY(feature_cache_fill(&t->cache, &request, err));
    t->cached = true;
    return INLAY_OK;
}

/* In the folder that is given; else in memory while it fits; else in a file of the run's own. */
static inlay_status fill_cache(trainer *t, inlay_error *err)
{
    const train_request *q = t->q;
    size_t size = q->augment ? 0 : feature_cache_size(t->variants[0].m.g, t->variants[0].m.loss, q->data->count);
    bool wanted = size > 0 && q->cache != CACHE_OFF, fits;
    inlay_status status;

    TRY(plan_memory(t, wanted, err));
    fits = size <= q->cache_limit && (!q->room || size <= budget_left(q->room));

    if (size == 0 && (q->cache == CACHE_ON || (q->cache == CACHE_AUTO && q->cache_dir)))
        NOTIFY(t, note,
               q->augment ? "no feature cache: the images are augmented"
                          : "no feature cache: something trainable reads the pixels");
    if (!wanted)
        return INLAY_OK;
    status = fill_cache_at(t, q->cache_dir ? CACHE_IN_FOLDER : fits ? CACHE_IN_MEMORY : CACHE_IN_FILE, err);
    if (status == INLAY_ERR_IO && q->cache == CACHE_AUTO) { /* a full disk, a folder that is not to be written */
        NOTIFY(t, note, arena_printf(t->memory, "no feature cache in a file: %s", err ? err->message : "?"));
        status = q->cache_dir && fits ? fill_cache_at(t, CACHE_IN_MEMORY, err) : INLAY_OK;
    }
    if (q->room && t->cached && t->cache.block)
        budget_set(q->room, "feature cache", size, "--feature-cache off");
    if (!t->cached && status == INLAY_OK)
        TRY(plan_memory(t, false, err));
    t->result->cache_bytes = t->cached ? size : 0;
    t->result->cache_reused = t->cache.reused;
    if (status == INLAY_OK && q->strict && t->cache.bad_count)
        FAIL(err, INLAY_ERR_IO, "%s", t->cache.bad[0]);
    return status;
}

static const char *cache_folder(const trainer *t)
{
    if (!t->cached || t->cache.block)
        return NULL;
    return t->cache.images ? t->q->cache_dir : t->q->output;
}

static inlay_status make_programs(trainer *t, inlay_error *err)
{
    const train_request *q = t->q;
    program_request request = {.dev = q->dev,
                               .max_batch = q->batch < q->data->count ? q->batch : q->data->count,
                               .backward = true,
                               .wanted_count = 1};

    t->usable_count = q->data->count - t->cache.bad_count;
    if (t->cached) {
        request.given = t->cache.values;
        request.given_count = t->cache.count;
    }
    if (t->usable_count == 0)
        FAIL(err, INLAY_ERR_IO, "none of the %d training images could be read; the first: %s", q->data->count,
             t->cache.bad_count ? t->cache.bad[0] : "?");
    t->steps_per_epoch = t->usable_count / q->batch;
    if (t->usable_count % q->batch && (!q->drop_last || t->steps_per_epoch == 0))
        t->steps_per_epoch++;
    t->rates = schedule_resolved(&q->lr, t->steps_per_epoch);
    for (int i = 0; i < t->variant_count; i++) {
        request.wanted = &t->variants[i].m.loss;
        request.share = i ? t->variants[0].p : NULL;
        TRY(program_new(&t->variants[i].p, t->variants[i].m.g, &request, err));
    }
    t->result->activation_bytes = program_memory(t->variants[0].p);
    NOTIFY(t, plan,
           &(train_estimate){.activations = t->result->activation_bytes,
                             .cache = t->result->cache_bytes,
                             .cache_folder = cache_folder(t),
                             .cache_reused = t->cache.reused,
                             .images = q->data->count,
                             .steps = t->steps_per_epoch * q->epochs,
                             .flops = program_flops(t->variants[0].p, true),
                             .room = q->room});
    return INLAY_OK;
}

/* The length of the log's lines from its beginning that are whole, of those that the checkpoint tells of. A file that
 * lost its end, or whose end is zeros since the power failed, has fewer. */
static int64_t whole_lines(FILE *log, int64_t most)
{
    char *line = NULL;
    size_t room = 0;
    int64_t whole = 0;

    for (ssize_t got; whole < most && (got = getline(&line, &room, log)) > 0; whole += got)
        if (whole + got > most || got < 3 || line[0] != '{' || memchr(line, '\0', (size_t)got) ||
            line[got - 2] != '}' || line[got - 1] != '\n')
            break;
    free(line);
    return whole;
}

static inlay_status open_log(trainer *t, inlay_error *err)
{
    const char *path = path_join(t->memory, t->q->output, "metrics.jsonl");
    int64_t told = t->state.log_bytes;

    TRY(file_open_own(&t->log, path, told > 0 && file_exists(path), err));
    t->state.log_bytes = whole_lines(t->log, told);
    if (ferror(t->log))
        return file_error(err, "read", path);
    if (t->state.log_bytes < told)
        NOTIFY(t, note,
               arena_printf(t->memory,
                            "'%s' has %" PRId64 " bytes of whole lines, the checkpoint tells of %" PRId64
                            ": lines of earlier epochs are lost, and the run goes on behind what is there",
                            path, t->state.log_bytes, told));
    /* lines behind the checkpoint belong to work that is done again */
    if (ftruncate(fileno(t->log), t->state.log_bytes) != 0 || fseek(t->log, 0, SEEK_END) != 0)
        return file_error(err, "write", path);
    return t->q->tensorboard ? events_open(&t->board, t->q->output, err) : INLAY_OK;
}

/* What a checkpoint tells of is on the disk before it. */
static inlay_status save_state(trainer *t, inlay_error *err)
{
    if (fdatasync(fileno(t->log)) != 0)
        return file_error(err, "write", path_join(t->memory, t->q->output, "metrics.jsonl"));
    return checkpoint_save(t->checkpoint, t->q->a, t->q->dev, &t->state, t->q->run, &t->images, err);
}

static inlay_status log_line(trainer *t, json_t *line, inlay_error *err)
{
    const char *path = path_join(t->memory, t->q->output, "metrics.jsonl");
    char *text;
    inlay_status status =
        line ? json_encode(&text, line, JSON_COMPACT | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(9), path, err)
             : INLAY_ERR_FORMAT;
    bool good;

    json_decref(line);
    TRY(status);
    good = fprintf(t->log, "%s\n", text) > 0 && fflush(t->log) == 0;
    free(text);
    if (!good)
        return file_error(err, "write", path);
    t->state.log_bytes = ftell(t->log);
    return INLAY_OK;
}

static inlay_status resume(trainer *t, inlay_error *err)
{
    bool compared;

    TRY(checkpoint_load(t->checkpoint, t->q->a, t->q->dev, &t->state,
                        &(train_extent){t->q->epochs, t->q->data->count, t->q->batch}, t->q->run, &t->images, &compared,
                        err));
    if (!compared)
        NOTIFY(t, note, "the checkpoint does not say what the images were: one that has changed since is not noticed");
    return INLAY_OK;
}

static inlay_status begin(trainer *t, inlay_error *err)
{
    const train_request *q = t->q;
    model_request request = {.dev = q->dev,
                             .b = q->b,
                             .a = q->a,
                             .prec = q->prec,
                             .pixel_type = preprocess_pixel_type(q->prep),
                             .training = true,
                             .drop_path = q->drop_path,
                             .backbone_dropout = q->backbone_dropout,
                             .label_smoothing = q->label_smoothing};

    t->checkpoint = path_join(t->memory, q->output, "checkpoint.safetensors");
    t->order = calloc((size_t)q->data->count + 1, sizeof *t->order);
    t->labels = calloc((size_t)q->batch, sizeof *t->labels);
    t->indices = calloc((size_t)q->batch, sizeof *t->indices);
    t->variant_count = q->a->drop_random ? q->a->drop_high - q->a->drop_low + 1 : 1;
    t->variants = calloc((size_t)t->variant_count, sizeof *t->variants);
    if (!t->order || !t->labels || !t->indices || !t->variants)
        FAIL(err, INLAY_ERR_NOMEM, "out of memory for the training run");
    TRY(file_make_folder(q->output, err));
    TRY(adapter_initialise(q->a, q->dev, q->seed, err));
    TRY(image_records_new(&t->images, q->data, err));
    if (q->resume && file_exists(t->checkpoint))
        TRY(resume(t, err));
    for (int i = 0; i < t->variant_count; i++) {
        request.skip_layers = q->a->drop_random ? q->a->drop_low + i : 0;
        TRY(model_build(&t->variants[i].m, &request, err));
    }
    TRY(fill_cache(t, err));
    TRY(make_programs(t, err));
    if (q->eval_data)
        TRY(try_evaluator(t, err));
    return open_log(t, err);
}

/* ---- steps ---- */

/* The model that this step trains. */
static const variant *draw_plan(const trainer *t)
{
    rng_stream stream = {.seed = t->q->seed, .purpose = RNG_SKIP, .step = (uint32_t)t->state.step};

    return &t->variants[t->variant_count > 1 ? rng_below(stream, 0, (uint32_t)t->variant_count) : 0];
}

/* Brings the next batch into the program's inputs; *got = 0 at the end of the epoch. */
static inlay_status next_batch(trainer *t, const variant *now, loader *l, int *got, inlay_error *err)
{
    const train_request *q = t->q;
    int left = t->usable_count - t->state.position;

    *got = left < q->batch ? left : q->batch;
    if (*got < q->batch && q->drop_last && t->state.step_in_epoch > 0)
        *got = 0;
    if (*got == 0)
        return INLAY_OK;
    if (t->cached) {
        for (int i = 0; i < *got; i++) {
            int index = t->order[t->state.position + i];
            feature_cache_load(&t->cache, now->p, q->dev->k, index, i);
            t->labels[i] = q->data->samples[index].label;
        }
        t->state.position += *got;
    } else {
        TRY(loader_next(l, q->batch, program_value(now->p, now->m.pixels, q->batch).data, t->labels, t->indices, got,
                        err));
        if (*got < q->batch && q->drop_last && t->state.step_in_epoch > 0)
            *got = 0;
        while (*got > 0 && t->order[t->state.position] != t->indices[*got - 1])
            t->state.position++;
        t->state.position++;
    }
    q->dev->k->copy_in(program_value(now->p, now->m.labels, q->batch).data, t->labels,
                       (size_t)*got * sizeof *t->labels);
    return INLAY_OK;
}

static inlay_status one_step(trainer *t, const variant *now, int got, double lr, inlay_error *err)
{
    step_info info = {
        .seed = t->q->seed, .step = (uint32_t)t->state.step, .epoch = t->state.epoch, .epochs = t->q->epochs};
    float loss;

    for (int i = 0; i < t->q->a->param_count; i++)
        t->q->a->params[i].p->touched = false;
    program_step(now->p, got, &info);
    device_get_f32(t->q->dev, &loss, program_value(now->p, now->m.loss, got).data, 1);
    t->state.step++;
    t->state.step_in_epoch++;
    if (!isfinite(loss))
        FAIL(err, INLAY_ERR_INTERNAL, "the loss is not finite at step %" PRId64 " (epoch %d): a lower --lr may help",
             t->state.step, t->state.epoch + 1);
    train_update(t->q, lr);
    t->state.loss_sum += (double)loss;
    NOTIFY(t, step, t->state.epoch + 1, t->state.step, t->steps_per_epoch * t->q->epochs, got, (double)loss);
    return INLAY_OK;
}

static inlay_status interrupted(trainer *t, inlay_error *err)
{
    TRY(save_state(t, err));
    FAIL(err, INLAY_ERR_INTERRUPTED, "interrupted after step %" PRId64 "; '%s' holds the run, --resume continues it",
         t->state.step, t->checkpoint);
}

/* A checkpoint with such weights could only be resumed into the same end: the one before it stays. */
static inlay_status check_weights(const trainer *t, inlay_error *err)
{
    const char *name = adapter_not_finite(t->q->a, t->q->dev);

    if (name)
        FAIL(err, INLAY_ERR_INTERNAL,
             "after epoch %d, tensor '%s' has a value that is not finite: a lower --lr may help", t->state.epoch + 1,
             name);
    return INLAY_OK;
}

static void shuffle(trainer *t)
{
    int kept = 0;

    rng_permutation(t->order, t->q->data->count,
                    (rng_stream){.seed = t->q->seed, .purpose = RNG_SHUFFLE, .step = (uint32_t)t->state.epoch});
    /* unreadable images are left out of the same order that the loader, without a cache, skips them in */
    for (int i = 0; t->cached && i < t->q->data->count; i++)
        if (t->cache.present[t->order[i]])
            t->order[kept++] = t->order[i];
}

static void collect_bad(trainer *t, int count, const char *(*message)(const void *, int), const void *source)
{
    train_result *r = t->result;
    int capacity = r->bad_count;

    for (int i = 0; i < count; i++) {
        const char *text = message(source, i);
        bool known = false;
        for (int j = 0; j < r->bad_count; j++)
            known |= strcmp(r->bad[j], text) == 0;
        if (!known)
            ARRAY_PUSH(r->bad, r->bad_count, capacity, arena_strdup(r->memory, text));
    }
}

/* Every epoch counts the same images again, in the cache or not. */
static void count_cut(train_result *r, int count)
{
    if (count > r->cut_count)
        r->cut_count = count;
}

static const char *loader_message(const void *source, int index)
{
    return loader_bad_message(source, index);
}

static const char *cache_message(const void *source, int index)
{
    return ((const feature_cache *)source)->bad[index];
}

static const char *evaluation_message(const void *source, int index)
{
    return ((const evaluation *)source)->bad[index];
}

/* The learning rate of the step that comes. */
static double lr_now(const trainer *t)
{
    return schedule_lr(&t->rates, t->rates.by_step ? t->state.step : t->state.epoch);
}

/* *lr: of the last step. */
static inlay_status run_steps(trainer *t, loader *l, double *lr, int *images, inlay_error *err)
{
    for (;;) {
        const variant *now = draw_plan(t);
        int got;
        TRY(next_batch(t, now, l, &got, err));
        if (got == 0)
            return INLAY_OK;
        *lr = lr_now(t);
        TRY(one_step(t, now, got, *lr, err));
        *images += got;
        if (asked_to_stop(t))
            return interrupted(t, err);
    }
}

static inlay_status report_epoch(trainer *t, double lr, int images, double seconds, inlay_error *err)
{
    double loss = t->state.step_in_epoch ? t->state.loss_sum / t->state.step_in_epoch : 0;
    train_epoch report = {.epoch = t->state.epoch + 1,
                          .epochs = t->q->epochs,
                          .step = t->state.step,
                          .loss = loss,
                          .lr = lr,
                          .seconds = seconds,
                          .images_per_second = seconds > 0 ? images / seconds : 0};

    t->result->loss = loss;
    TRY(log_line(t,
                 json_build("a line of metrics.jsonl", err, "{s:s, s:i, s:I, s:f, s:f, s:f, s:f}", "event", "epoch",
                            "epoch", report.epoch, "step", (json_int_t)report.step, "loss", loss, "lr", lr,
                            "images_per_second", report.images_per_second, "seconds", seconds),
                 err));
    if (t->board) {
        TRY(events_scalar(t->board, "train/loss", report.step, loss, 0, err));
        TRY(events_scalar(t->board, "train/lr", report.step, lr, 0, err));
        TRY(events_scalar(t->board, "train/images_per_second", report.step, report.images_per_second, 0, err));
    }
    NOTIFY(t, epoch, &report);
    return INLAY_OK;
}

/* An evaluation failed; logits that are not finite (INLAY_ERR_FORMAT) are what a run that diverged answers. */
static inlay_status diverged(inlay_status status, inlay_error *err, const char *when)
{
    char text[sizeof err->message];

    if (!err || status != INLAY_ERR_FORMAT)
        return err ? error_prefix(err, "%s", when) : status;
    memcpy(text, err->message, sizeof text);
    FAIL(err, status, "%s: %s; a lower --lr may help", when, text);
}

static inlay_status evaluate_now(trainer *t, int epoch, inlay_error *err)
{
    const train_request *q = t->q;
    evaluation e;
    inlay_status status;

    NOTIFY(t, phase, "evaluating", q->eval_data->count, "img");
    status = evaluate_trained(t, q->eval_data, &e, err);
    if (status == INLAY_ERR_INTERRUPTED)
        FAIL(err, status, "interrupted in the evaluation after epoch %d; '%s' holds the run, --resume continues it",
             epoch, t->checkpoint);
    if (status != INLAY_OK)
        return diverged(status, err, arena_printf(t->memory, "evaluating '%s' after epoch %d", q->eval_split, epoch));
    t->result->evaluated = true;
    t->result->top1 = e.top1;
    t->result->top5 = e.top5;
    t->result->eval_loss = e.loss;
    t->result->eval_count = e.count;
    collect_bad(t, e.bad_count, evaluation_message, &e);
    t->result->eval_cut_count = e.cut_count;
    NOTIFY(t, evaluated, q->eval_split, epoch, &e);
    evaluation_free(&e);
    if (q->strict && t->result->bad_count)
        FAIL(err, INLAY_ERR_IO, "%s", t->result->bad[0]);
    TRY(log_line(t,
                 json_build("a line of metrics.jsonl", err, "{s:s, s:i, s:s, s:i, s:f, s:f, s:f}", "event", "eval",
                            "epoch", epoch, "split", q->eval_split, "count", t->result->eval_count, "top1",
                            t->result->top1, "top5", t->result->top5, "loss", t->result->eval_loss),
                 err));
    if (t->board) {
        TRY(events_scalar(t->board, "eval/top1", t->state.step, t->result->top1, 0, err));
        TRY(events_scalar(t->board, "eval/loss", t->state.step, t->result->eval_loss, 0, err));
    }
    return INLAY_OK;
}

#define LOOKED_AT 32 /* images */

/* Where nothing is evaluated, some training images from all over the set say whether what was trained can answer at
 * all. */
static inlay_status look(trainer *t, inlay_error *err)
{
    dataset some = *t->q->data;
    evaluation e;
    inlay_status status;

    some.count = t->usable_count < LOOKED_AT ? t->usable_count : LOOKED_AT;
    some.samples = ARENA_ARRAY(t->memory, sample, some.count);
    for (int i = 0; i < some.count; i++)
        some.samples[i] = t->q->data->samples[t->order[(int64_t)i * t->usable_count / some.count]];
    status = evaluate_trained(t, &some, &e, err);
    if (status != INLAY_OK)
        return diverged(status, err, "after the last step");
    evaluation_free(&e);
    return INLAY_OK;
}

static inlay_status one_epoch(trainer *t, inlay_error *err)
{
    const train_request *q = t->q;
    double lr = lr_now(t), begun = monitor_seconds(), seconds;
    loader *l = NULL;
    int images = 0;
    inlay_status status = INLAY_OK;

    shuffle(t);
    if (!t->cached) {
        loader_request request = {.data = q->data,
                                  .prep = q->prep,
                                  .records = &t->images,
                                  .order = t->order + t->state.position,
                                  .count = t->usable_count - t->state.position,
                                  .workers = q->workers,
                                  .ahead = 2 * q->batch,
                                  .augment = q->augment,
                                  .seed = q->seed,
                                  .epoch = (uint32_t)t->state.epoch};
        status = loader_new(&l, &request, err);
    }
    if (status == INLAY_OK)
        status = run_steps(t, l, &lr, &images, err);
    if (l) {
        collect_bad(t, loader_bad_count(l), loader_message, l);
        count_cut(t->result, loader_cut_count(l));
    }
    loader_free(l);
    TRY(status);
    if (q->strict && t->result->bad_count)
        FAIL(err, INLAY_ERR_IO, "%s", t->result->bad[0]);
    seconds = monitor_seconds() - begun;
    t->result->seconds += seconds;
    t->images_done += images;
    TRY(report_epoch(t, lr, images, seconds, err));
    TRY(check_weights(t, err));
    t->state = (train_state){.epoch = t->state.epoch + 1, .step = t->state.step, .log_bytes = t->state.log_bytes};
    return save_state(t, err);
}

static inlay_status save(trainer *t, const void *preprocessing, const void *record, inlay_error *err)
{
    const train_request *q = t->q;
    adapter *merged;
    inlay_status status;

    TRY(adapter_conclude(&merged, q->a, q->dev, err));
    status = adapter_save(merged, q->dev, q->output, preprocessing, record, err);
    if (merged == q->a)
        return status;
    adapter_free(merged, q->dev);
    if (status == INLAY_OK && q->save_trained)
        status = adapter_save(q->a, q->dev, path_join(t->memory, q->output, "trained"), preprocessing, record, err);
    return status;
}

/* Brings the result's figures up to date. */
static void sum_up(trainer *t)
{
    train_result *r = t->result;

    r->steps = t->state.step;
    r->cached = t->cached;
    r->images_per_second = r->seconds > 0 ? (double)t->images_done / r->seconds : 0;
}

static inlay_status finish(trainer *t, inlay_error *err)
{
    const train_request *q = t->q;
    void *preprocessing = preprocess_record(q->prep);
    json_t *record = json_loads(q->run, 0, NULL);
    inlay_status status = INLAY_OK;

    status = q->eval_data ? evaluate_now(t, q->epochs, err) : look(t, err);
    if (status == INLAY_OK && q->eval_data && record)
        json_object_set_new(record, "result",
                            json_pack("{s:s, s:i, s:f, s:f}", "split", q->eval_split, "count", t->result->eval_count,
                                      "top1", t->result->top1, "top5", t->result->top5));
    if (status == INLAY_OK)
        status = save(t, preprocessing, record, err);
    if (status == INLAY_OK) {
        file_size(path_join(t->memory, q->output, "adapter.safetensors"), &t->result->adapter_bytes);
        sum_up(t);
        if (q->observer.saved)
            status = q->observer.saved(q->observer.context, t->result, err);
    }
    if (status == INLAY_OK) /* a run is complete when its checkpoint is gone: all else has to be there */
        unlink(t->checkpoint);
    json_decref(preprocessing);
    json_decref(record);
    return status;
}

static bool evaluation_is_due(const trainer *t)
{
    const train_request *q = t->q;
    int done = t->state.epoch;

    return q->eval_data && q->eval_every > 0 && done > 0 && done < q->epochs && t->state.position == 0 &&
           done % q->eval_every == 0;
}

/* The checkpoint between two epochs is from before the evaluation that belongs there: a run that goes on from it begins
 * with that. */
static inlay_status run(trainer *t, inlay_error *err)
{
    TRY(begin(t, err));
    NOTIFY(t, phase, "training", (int)(t->steps_per_epoch * t->q->epochs * t->q->batch), "img");
    while (t->state.epoch < t->q->epochs) {
        if (evaluation_is_due(t))
            TRY(evaluate_now(t, t->state.epoch, err));
        TRY(one_epoch(t, err));
        if (asked_to_stop(t) && t->state.epoch < t->q->epochs)
            return interrupted(t, err);
    }
    return finish(t, err);
}

inlay_status train(train_result *out, const train_request *request, inlay_error *err)
{
    trainer t = {.q = request, .result = out, .memory = arena_new()};
    inlay_status status;

    *out = (train_result){.memory = arena_new(), .parameters = adapter_trained_total(request->a, false)};
    status = run(&t, err);
    collect_bad(&t, t.cache.bad_count, cache_message, &t.cache);
    count_cut(out, t.cache.cut_count);
    sum_up(&t);
    if (t.log && fclose(t.log) != 0 && status == INLAY_OK)
        status = file_error(err, "write", path_join(t.memory, request->output, "metrics.jsonl"));
    events_close(t.board);
    if (t.has_evaluator)
        predictor_close(&t.evaluator);
    for (int i = t.variants ? t.variant_count - 1 : -1; i >= 0; i--) {
        program_free(t.variants[i].p);
        model_free(&t.variants[i].m);
    }
    free(t.variants);
    feature_cache_free(&t.cache);
    image_records_free(&t.images);
    free(t.order);
    free(t.labels);
    free(t.indices);
    arena_free(t.memory);
    return status;
}

void train_result_free(train_result *r)
{
    free(r->bad);
    arena_free(r->memory);
    *r = (train_result){0};
}
