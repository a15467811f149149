/* A training run as its user sees it: the bar, the lines of epochs and evaluations, notes, and the wish to stop. */
#include "cli/train_view.h"

#include <string.h>

#include "base/stop.h"
#include "base/text.h"
#include "cli/common.h"

void train_view_close(train_view *v)
{
    if (v->open)
        progress_end(&v->bar);
    v->open = false;
}

static void on_phase(void *context, const char *what, int total, const char *unit)
{
    train_view *v = context;

    train_view_close(v);
    if (strcmp(what, "training") == 0)
        v->total = total;
    v->done = 0;
    progress_begin(&v->bar, v->out, what, total, unit);
    v->open = true;
}

static void on_progress(void *context, int done, int total)
{
    (void)total;
    progress_update(&((train_view *)context)->bar, done, NULL);
}

static void on_step(void *context, int epoch, int64_t step, int64_t steps, int images, double loss)
{
    train_view *v = context;

    (void)images;
    if (v->done++ == 0 &&
        step > 1) /* resumed, or back from an evaluation: what was done before counts, but not for the rate */
        progress_resume(&v->bar, (double)(step - 1) / (double)steps * v->total);
    progress_update(&v->bar, (double)step / (double)steps * v->total, "epoch %d, loss %.4f", epoch, loss);
}

static void on_epoch(void *context, const train_epoch *e)
{
    train_view *v = context;

    if (!v->out || (e->epoch % 10 != 0 && e->epoch != 1 && e->epoch != e->epochs && e->epochs > 20))
        return;
    progress_clear(&v->bar);
    fprintf(v->out, "epoch %d/%d: loss %.4f, lr %.2e, %.1f img/s\n", e->epoch, e->epochs, e->loss, e->lr,
            e->images_per_second);
}

static void on_evaluated(void *context, const char *split, int epoch, const evaluation *e)
{
    train_view *v = context;

    train_view_close(v);
    if (v->out)
        text_line(v->out, "%s after epoch %d: top-1 %.2f %%, top-5 %.2f %%, loss %.4f (%d images)", split, epoch,
                  100 * e->top1, 100 * e->top5, e->loss, e->count);
    if (epoch < v->epochs)
        on_phase(v, "training", (int)v->total, "img");
}

static void on_plan(void *context, const train_estimate *plan)
{
    train_view *v = context;
    const char *folder = plan->cache_folder;
    char a[TEXT_SHORT], b[TEXT_SHORT], parts[BUDGET_TEXT], reused[80] = "";

    if (!v->out)
        return;
    progress_clear(&v->bar);
    if (plan->cache_reused)
        snprintf(reused, sizeof reused, " (of %d of %d images from an earlier run)", plan->cache_reused, plan->images);
    text_line(v->out,
              "plan: %s of activations, %s of cached features%s%s%s%s, %lld steps, %.2f GFLOP an image and step",
              text_size(a, plan->activations), text_size(b, plan->cache), folder ? " in '" : "", folder ? folder : "",
              folder ? "'" : "", reused, (long long)plan->steps, plan->flops / 1e9);
    if (plan->room && plan->room->total)
        fprintf(v->out, "memory: %s; %s in all\n", budget_text(plan->room, parts), text_size(a, plan->room->total));
}

static void on_note(void *context, const char *text)
{
    train_view *v = context;

    progress_clear(&v->bar);
    print_note(text);
}

static bool on_stop(void *context)
{
    (void)context;
    return stop_requested();
}

static inlay_status on_saved(void *context, const train_result *result, inlay_error *err)
{
    const train_view *v = context;

    return v->saved ? v->saved(result, v->o, err) : INLAY_OK;
}

train_observer train_view_observer(train_view *v)
{
    return (train_observer){v,       on_phase, on_progress, on_step, on_epoch, on_evaluated,
                            on_plan, on_note,  on_stop,     on_saved};
}

void train_view_introduce(const train_view *v, const train_request *q)
{
    char a[TEXT_SHORT], b[TEXT_SHORT];

    if (v->out)
        text_line(v->out, "%s: %s trained parameters (%s with the head), %d images, %lld classes, %d threads, %s, %s",
                  q->a->name, text_count(a, adapter_trained_total(q->a, false)),
                  text_count(b, adapter_trained_total(q->a, true)), q->data->count, (long long)q->a->classes,
                  pool_threads(q->dev->c.threads), q->dev->k->name, precision_name(q->prec));
}
