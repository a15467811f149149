#include "infer/evaluate.h"

#include <math.h>
#include <stdlib.h>

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

/* Adds one image's result, whose logits are finite. Until the end, top1, top5 and loss are sums. */
static void count_answer(evaluation *e, const float *logits, int label)
{
    int better = 0, best = 0;
    double top, sum = 0;

    for (int64_t c = 0; c < e->classes; c++) {
        better += logits[c] > logits[label] || (logits[c] == logits[label] && c < label);
        best = logits[c] > logits[best] ? (int)c : best;
    }
    top = (double)logits[best];
    for (int64_t c = 0; c < e->classes; c++)
        sum += exp((double)logits[c] - top);
    e->count++;
    e->loss += log(sum) + top - (double)logits[label];
    e->top1 += better == 0;
    e->top5 += better < 5;
    if (e->confusion)
        e->confusion[label * e->classes + best]++;
}

static inlay_status count_task(evaluation *e, const evaluate_request *q, int task, float *logits, const int32_t *labels,
                               const int *indices, int count, inlay_error *err)
{
    predictor_logits(q->model, task, count, logits);
    for (int i = 0; i < count; i++) {
        if (labels[i] < 0 || labels[i] >= e->classes)
            FAIL(err, INLAY_ERR_USAGE, "'%s' has label %d, but the model has %lld classes",
                 q->data->samples[indices[i]].path, labels[i], (long long)e->classes);
        TRY(predictor_check(q->model, task, logits + i * e->classes, q->data->samples[indices[i]].path, err));
        count_answer(e, logits + i * e->classes, labels[i]);
    }
    return INLAY_OK;
}

static void conclude(evaluation *e, const loader *l)
{
    if (e->count > 0) {
        e->top1 /= e->count;
        e->top5 /= e->count;
        e->loss /= e->count;
    }
    e->cut_count = loader_cut_count(l);
    e->bad_count = loader_bad_count(l);
    e->bad = ARENA_ARRAY(e->memory, const char *, e->bad_count + 1);
    for (int i = 0; i < e->bad_count; i++)
        e->bad[i] = arena_strdup(e->memory, loader_bad_message(l, i));
}

static inlay_status run(evaluation *out, const evaluate_request *q, loader *l, float *logits, int32_t *labels,
                        int *indices, inlay_error *err)
{
    int got;

    for (;;) {
        TRY(loader_next(l, (int)q->model->batch, predictor_pixels(q->model), labels, indices, &got, err));
        if (got == 0)
            break;
        if (q->stop && q->stop(q->context))
            FAIL(err, INLAY_ERR_INTERRUPTED, "interrupted after %d of %d images", out->count, q->data->count);
        predictor_forward(q->model, got);
        for (int t = 0; t < q->model->m.task_count; t++)
            TRY(count_task(&out[t], q, t, logits, labels, indices, got, err));
        if (q->progress)
            q->progress(q->context, out->count, q->data->count);
    }
    for (int t = 0; t < q->model->m.task_count; t++)
        conclude(&out[t], l);
    return INLAY_OK;
}

inlay_status evaluate(evaluation *out, const evaluate_request *q, inlay_error *err)
{
    int64_t batch = q->model->batch, most = 0;
    int tasks = q->model->m.task_count;
    int *order = calloc((size_t)q->data->count + 1, sizeof *order), *indices = calloc((size_t)batch, sizeof *indices);
    int32_t *labels = calloc((size_t)batch, sizeof *labels);
    float *logits;
    loader *l = NULL;
    inlay_status status = INLAY_OK;

    for (int t = 0; t < tasks; t++) {
        int64_t classes = predictor_classes(q->model, t);
        out[t] = (evaluation){.memory = arena_new(), .classes = classes};
        most = classes > most ? classes : most;
        if (status == INLAY_OK && q->confusion)
            status = memory_alloc((void **)&out[t].confusion,
                                  size_product(classes, size_product(classes, sizeof *out->confusion)),
                                  "the confusion matrix", err);
    }
    logits = calloc((size_t)batch, size_product(most, sizeof *logits));
    if (status == INLAY_OK && (!order || !indices || !labels || !logits))
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
        status = loader_new(&l, &request, err);
    }
    if (status == INLAY_OK)
        status = run(out, q, l, logits, labels, indices, err);
    loader_free(l);
    free(order);
    free(indices);
    free(labels);
    free(logits);
    for (int t = 0; status != INLAY_OK && t < tasks; t++)
        evaluation_free(&out[t]);
    return status;
}

void evaluation_free(evaluation *e)
{
    memory_free(e->confusion);
    arena_free(e->memory);
    *e = (evaluation){0};
}
