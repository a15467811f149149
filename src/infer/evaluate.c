#include "infer/evaluate.h"

#include <math.h>
#include <stdlib.h>

#include "base/json.h"

void softmax_top(float *logits, int64_t classes, int *order, int k)
{
    double top = -HUGE_VAL, sum = 0;

    for (int i = 0; i < k; i++) {
        int best = -1;
        for (int64_t c = 0; c < classes; c++) {
            bool taken = false;
            for (int j = 0; j < i; j++)
                taken |= order[j] == c;
            if (!taken && (best < 0 || logits[c] > logits[best]))
                best = (int)c;
        }
        order[i] = best;
    }
    for (int64_t c = 0; c < classes; c++)
        top = (double)logits[c] > top ? (double)logits[c] : top;
    for (int64_t c = 0; c < classes; c++)
        sum += exp((double)logits[c] - top);
    for (int64_t c = 0; c < classes; c++)
        logits[c] = (float)(exp((double)logits[c] - top) / sum);
}

/* What the loop over a set works with. */
typedef struct work {
    const evaluate_request *q;
    loader *l;
    float *logits;
    unsigned char *targets;
    int *indices;
} work;

static inlay_status score_task(evaluation *e, const work *w, int task, int count, inlay_error *err)
{
    const dataset *data = w->q->data;
    int64_t outputs = e->scores.outputs;
    size_t bytes = task_target_bytes(data->task, data->outputs);

    predictor_logits(w->q->model, task, count, w->logits);
    for (int i = 0; i < count; i++) {
        const char *path = data->samples[w->indices[i]].path;
        inlay_status status = predictor_check(w->q->model, task, w->logits + i * outputs, path, err);
        TRY(status);
        status = task_scores_add(&e->scores, w->logits + i * outputs, w->targets + (size_t)i * bytes, err);
        if (status == INLAY_ERR_USAGE)
            return error_prefix(err, "'%s'", path);
        TRY(status);
    }
    return INLAY_OK;
}

static void conclude(evaluation *e, const loader *l)
{
    task_scores_end(&e->scores);
    e->cut_count = loader_cut_count(l);
    e->bad_count = loader_bad_count(l);
    e->bad = ARENA_ARRAY(e->memory, const char *, e->bad_count + 1);
    for (int i = 0; i < e->bad_count; i++)
        e->bad[i] = arena_strdup(e->memory, loader_bad_message(l, i));
}

static inlay_status run(evaluation *out, const work *w, inlay_error *err)
{
    const evaluate_request *q = w->q;
    int got;

    for (;;) {
        TRY(loader_next(w->l, (int)q->model->batch, predictor_pixels(q->model), w->indices, &got, err));
        if (got == 0)
            break;
        if (q->stop && q->stop(q->context))
            FAIL(err, INLAY_ERR_INTERRUPTED, "interrupted after %d of %d images", out->scores.count, q->data->count);
        predictor_forward(q->model, got);
        dataset_targets(q->data, w->indices, got, w->targets);
        for (int t = 0; t < q->model->m.task_count; t++)
            TRY(score_task(&out[t], w, t, got, err));
        if (q->progress)
            q->progress(q->context, out->scores.count, q->data->count);
    }
    for (int t = 0; t < q->model->m.task_count; t++)
        conclude(&out[t], w->l);
    return INLAY_OK;
}

inlay_status evaluate(evaluation *out, const evaluate_request *q, inlay_error *err)
{
    int64_t batch = q->model->batch, most = 0;
    int tasks = q->model->m.task_count;
    int *order = calloc((size_t)q->data->count + 1, sizeof *order);
    work w = {.q = q,
              .indices = calloc((size_t)batch, sizeof *w.indices),
              .targets = calloc((size_t)batch, task_target_bytes(q->data->task, q->data->outputs))};
    inlay_status status = INLAY_OK;

    for (int t = 0; t < tasks; t++) {
        int64_t outputs = predictor_classes(q->model, t);
        out[t] = (evaluation){.memory = arena_new()};
        most = outputs > most ? outputs : most;
        if (status == INLAY_OK)
            status = task_scores_begin(&out[t].scores, q->data->task, outputs, q->confusion, err);
    }
    w.logits = calloc((size_t)batch, size_product(most, sizeof *w.logits));
    if (status == INLAY_OK && (!order || !w.logits || !w.targets || !w.indices))
        status = error_set(err, INLAY_ERR_NOMEM, "out of memory for the evaluation");
    for (int i = 0; order && i < q->data->count; i++)
        order[i] = i;
    if (status == INLAY_OK) {
        loader_request request = {.data = q->data,
                                  .prep = q->prep,
                                  .order = order,
                                  .count = q->data->count,
                                  .workers = q->workers,
                                  .ahead = (int)batch * 2};
        status = loader_new(&w.l, &request, err);
    }
    if (status == INLAY_OK)
        status = run(out, &w, err);
    loader_free(w.l);
    free(order);
    free(w.indices);
    free(w.targets);
    free(w.logits);
    for (int t = 0; status != INLAY_OK && t < tasks; t++)
        evaluation_free(&out[t]);
    return status;
}

void *scores_object(const char *what, const task_scores *s, bool with_loss, inlay_error *err)
{
    json_t *object = json_pack("{s:i}", "count", s->count);

    for (int i = 0; s->task->metrics[i].name; i++)
        json_object_set_new(object, s->task->metrics[i].name,
                            isfinite(s->values[i]) ? json_real(s->values[i]) : json_null());
    return with_loss ? json_joined(object, json_build(what, err, "{s:f}", "loss", s->loss)) : object;
}

void evaluation_free(evaluation *e)
{
    task_scores_free(&e->scores);
    arena_free(e->memory);
    *e = (evaluation){0};
}
