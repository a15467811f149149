#define _GNU_SOURCE
#include "train/train_impl.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "base/monitor.h"

static bool asked_to_stop(const trainer *t)
{
    return t->q->observer.stop && t->q->observer.stop(t->q->observer.context);
}

/* ---- evaluating ---- */

/* Opens a model of what would be saved now. A merge is made, evaluated and given up; a model that is its own result is
 * kept for the next time. */
static inlay_status open_evaluator(trainer *t, adapter **merged, inlay_error *err)
{
    const train_request *q = t->q;
    model_request request = {.dev = q->dev, .b = q->b, .prec = q->prec, .pixel_type = preprocess_pixel_type(q->prep)};
    inlay_status status;

    status = adapter_conclude(merged, q->a, q->dev, err);
    if (status != INLAY_OK) {
        *merged = NULL;
        return status;
    }
    request.a = *merged;
    status = t->has_evaluator ? INLAY_OK : predictor_open(&t->evaluator, &request, EVALUATION_BATCH, err);
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

inlay_status trainer_try_evaluator(trainer *t, inlay_error *err)
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

/* ---- steps ---- */

/* Draws which model this step trains, where layers are dropped at random. */
static const variant *draw_variant(const trainer *t)
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
            t->indices[i] = index;
        }
        t->state.position += *got;
    } else {
        TRY(loader_next(l, q->batch, program_stage(now->p, now->m.pixels), t->indices, got, err));
        if (*got < q->batch && q->drop_last && t->state.step_in_epoch > 0)
            *got = 0;
        while (*got > 0 && t->order[t->state.position] != t->indices[*got - 1])
            t->state.position++;
        t->state.position++;
    }
    dataset_targets(q->data, t->indices, *got, t->targets);
    q->dev->k->copy_in(program_value(now->p, now->m.targets, q->batch).data, t->targets,
                       (size_t)*got * t->target_bytes);
    return INLAY_OK;
}

static inlay_status one_step(trainer *t, const variant *now, int got, double lr, inlay_error *err)
{
    step_info info = {
        .seed = t->q->seed, .step = (uint32_t)t->state.step, .epoch = t->state.epoch, .epochs = t->q->epochs};
    float loss;

    for (const adapter_param *i = NULL; (i = adapter_each_param(t->q->a, i));)
        param_set_touched(i->p, false);
    program_step(now->p, got, &info);
    device_get_f32(t->q->dev, &loss, program_value(now->p, now->m.loss, got).data, 1);
    t->state.step++;
    t->state.step_in_epoch++;
    if (!isfinite(loss))
        FAIL(err, INLAY_ERR_INTERNAL, "the loss is not finite at step %" PRId64 " (epoch %d): a lower --lr may help",
             t->state.step, t->state.epoch + 1);
    optimizer_step(&t->update, lr);
    t->state.loss_sum += (double)loss;
    NOTIFY(t, step, t->state.epoch + 1, t->state.step, t->steps_per_epoch * t->q->epochs, got, (double)loss);
    return INLAY_OK;
}

static inlay_status interrupted(trainer *t, inlay_error *err)
{
    TRY(trainer_save_state(t, err));
    FAIL(err, INLAY_ERR_INTERRUPTED, "interrupted after step %" PRId64 "; '%s' holds the run, --resume continues it",
         t->state.step, t->checkpoint);
}

/* Checks that the weights are finite: a checkpoint with others could only be resumed into the same end, so the one
 * before it stays. */
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

/* Counts cut images once, although every epoch reads the same ones again, in the cache or not. */
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

/* Runs the steps of what the loader reads; *lr becomes that of the last step. */
static inlay_status run_steps(trainer *t, loader *l, double *lr, int *images, inlay_error *err)
{
    for (;;) {
        const variant *now = draw_variant(t);
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
    TRY(trainer_log(t,
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

/* The error of an evaluation that failed: logits that are not finite (INLAY_ERR_FORMAT) are what a run that diverged
 * answers. */
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
    t->result->eval = e.scores;
    t->result->eval.answers = t->result->eval.targets = NULL;
    t->result->eval.confusion = NULL;
    collect_bad(t, e.bad_count, evaluation_message, &e);
    t->result->eval_cut_count = e.cut_count;
    NOTIFY(t, evaluated, q->eval_split, epoch, &e);
    evaluation_free(&e);
    if (q->strict && t->result->bad_count)
        FAIL(err, INLAY_ERR_IO, "%s", t->result->bad[0]);
    TRY(trainer_log(t,
                    json_joined(json_build("a line of metrics.jsonl", err, "{s:s, s:i, s:s}", "event", "eval", "epoch",
                                           epoch, "split", q->eval_split),
                                scores_object("a line of metrics.jsonl", &t->result->eval, true, err)),
                    err));
    if (t->board) {
        const char *tag = arena_printf(t->memory, "eval/%s", t->result->eval.task->metrics[0].name);
        TRY(events_scalar(t->board, tag, t->state.step, t->result->eval.values[0], 0, err));
        TRY(events_scalar(t->board, "eval/loss", t->state.step, t->result->eval.loss, 0, err));
    }
    return INLAY_OK;
}

#define LOOKED_AT 32 /* images */

/* Looks, where nothing is evaluated, at some training images from all over the set: whether what was trained can answer
 * at all. */
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
    return trainer_save_state(t, err);
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
                            json_joined(json_pack("{s:s}", "split", q->eval_split),
                                        scores_object("the record", &t->result->eval, false, NULL)));
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

/* Runs the epochs. The checkpoint between two of them is from before the evaluation that belongs there: a run that goes
 * on from it begins with that. */
static inlay_status run(trainer *t, inlay_error *err)
{
    TRY(trainer_begin(t, err));
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
    optimizer_close(&t.update);
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
    free(t.targets);
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
