/* What the training loop tells, on its way to the observer of the job. */
#include "run/training_impl.h"

#include <string.h>

static const inlay_observer *watcher(const training_watch *v)
{
    return v->how->watch;
}

static void on_phase(void *context, const char *what, int total, const char *unit)
{
    training_watch *v = context;

    if (strcmp(what, "training") == 0)
        v->total = total;
    v->done = 0;
    v->resumed = 0;
    watch_phase(watcher(v), what, total, unit);
}

static void on_progress(void *context, int done, int total)
{
    (void)total;
    watch_progress(watcher(context), done, 0, NULL);
}

static void on_step(void *context, int epoch, int64_t step, int64_t steps, int images, double loss)
{
    training_watch *v = context;

    (void)images;
    if (v->done++ == 0) /* resumed, or back from an evaluation: what was done before counts, but not for the rate */
        v->resumed = (double)(step - 1) / (double)steps * v->total;
    watch_progress(watcher(v), (double)step / (double)steps * v->total, v->resumed, "epoch %d, loss %.4f", epoch, loss);
}

static void on_epoch(void *context, const train_epoch *e)
{
    watch_event(watcher(context), "epoch",
                json_pack("{s:i, s:i, s:I, s:f, s:f, s:f, s:f}", "epoch", e->epoch, "epochs", e->epochs, "step",
                          (json_int_t)e->step, "loss", e->loss, "lr", e->lr, "seconds", e->seconds, "images_per_second",
                          e->images_per_second),
                NULL);
}

static void on_evaluated(void *context, const char *split, int epoch, const evaluation *e)
{
    training_watch *v = context;

    watch_end(watcher(v));
    watch_event(watcher(v), "evaluation",
                json_joined(json_pack("{s:s, s:i}", "split", split, "epoch", epoch),
                            scores_object("an evaluation", &e->scores, true, NULL)),
                NULL);
    if (epoch < v->epochs)
        on_phase(v, "training", (int)v->total, "img");
}

static void on_estimate(void *context, const train_estimate *estimate)
{
    char parts[BUDGET_TEXT];
    json_t *record = json_pack("{s:I, s:I, s:i, s:i, s:I, s:f}", "activation_bytes", (json_int_t)estimate->activations,
                               "feature_cache_bytes", (json_int_t)estimate->cache, "feature_cache_reused_images",
                               estimate->cache_reused, "images", estimate->images, "steps", (json_int_t)estimate->steps,
                               "operations_for_each_image", estimate->flops);

    if (estimate->cache_folder)
        json_set_path(record, "feature_cache_folder", estimate->cache_folder);
    if (estimate->room && estimate->room->total) {
        json_object_set_new(record, "memory", json_string(budget_text(estimate->room, parts)));
        json_object_set_new(record, "memory_bytes", json_integer((json_int_t)estimate->room->total));
    }
    watch_event(watcher(context), "plan", record, NULL);
}

static void on_note(void *context, const char *text)
{
    watch_note(watcher(context), "%s", text);
}

static bool on_stop(void *context)
{
    return watch_stop(watcher(context));
}

static inlay_status on_saved(void *context, const train_result *result, inlay_error *err)
{
    const training_request *how = ((const training_watch *)context)->how;

    return how->saved ? how->saved(result, how->o, err) : INLAY_OK;
}

train_observer training_observer(training_watch *v)
{
    return (train_observer){v,           on_phase, on_progress, on_step, on_epoch, on_evaluated,
                            on_estimate, on_note,  on_stop,     on_saved};
}

inlay_status training_introduce(const inlay_observer *w, const train_request *q, inlay_error *err)
{
    return watch_event(w, "introduction",
                       json_build("the introduction", err, "{s:s, s:s, s:I, s:I, s:i, s:I, s:i, s:s, s:s}", "task",
                                  q->a->task->name, "method", q->a->name, "parameters",
                                  (json_int_t)adapter_trained_total(q->a, false), "parameters_with_head",
                                  (json_int_t)adapter_trained_total(q->a, true), "images", q->data->count, "outputs",
                                  (json_int_t)q->a->outputs, "threads", pool_threads(q->dev->c.threads), "kernels",
                                  q->dev->k->name, "precision", precision_name(q->prec)),
                       err);
}
