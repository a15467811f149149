#include "train/evaluate.h"

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

/* Adds one image's result; logits are used up. Returns its loss. */
static double judge(evaluation *e, float *logits, int label, int *hits1, int *hits5)
{
    int better = 0, best = 0;
    double top, sum = 0, loss;

    for (int64_t c = 0; c < e->classes; c++) {
        better += logits[c] > logits[label] || (logits[c] == logits[label] && c < label);
        best = logits[c] > logits[best] ? (int)c : best;
    }
    top = (double)logits[best];
    for (int64_t c = 0; c < e->classes; c++)
        sum += exp((double)logits[c] - top);
    loss = log(sum) + top - (double)logits[label];
    *hits1 += better == 0;
    *hits5 += better < 5;
    e->confusion[label * e->classes + best]++;
    return loss;
}

static inlay_status run(evaluation *e, const evaluate_request *q, loader *l, float *logits, int32_t *labels, int *indices, inlay_error *err)
{
    int hits1 = 0, hits5 = 0, got;
    double loss = 0;

    for (;;) {
        TRY(loader_next(l, (int)q->model->batch, predictor_pixels(q->model), labels, indices, &got, err));
        if (got == 0)
            break;
        predictor_run(q->model, got, logits);
        for (int i = 0; i < got; i++) {
            if (labels[i] < 0 || labels[i] >= e->classes)
                FAIL(err, INLAY_ERR_USAGE, "'%s' has label %d, but the model has %lld classes", q->data->samples[indices[i]].path, labels[i],
                     (long long)e->classes);
            loss += judge(e, logits + i * e->classes, labels[i], &hits1, &hits5);
        }
        e->count += got;
        if (q->progress)
            q->progress(q->context, e->count, q->data->count);
    }
    if (e->count > 0) {
        e->top1 = (double)hits1 / e->count;
        e->top5 = (double)hits5 / e->count;
        e->loss = loss / e->count;
    }
    e->bad_count = loader_bad_count(l);
    e->bad = ARENA_ARRAY(e->memory, const char *, e->bad_count + 1);
    for (int i = 0; i < e->bad_count; i++)
        e->bad[i] = arena_strdup(e->memory, loader_bad_message(l, i));
    return INLAY_OK;
}

inlay_status evaluate(evaluation *out, const evaluate_request *q, inlay_error *err)
{
    int64_t batch = q->model->batch, classes = q->model->m.classes;
    int *order = calloc((size_t)q->data->count + 1, sizeof *order), *indices = calloc((size_t)batch, sizeof *indices);
    int32_t *labels = calloc((size_t)batch, sizeof *labels);
    float *logits = calloc((size_t)(batch * classes), sizeof *logits);
    loader *l = NULL;
    inlay_status status = order && indices && labels && logits ? INLAY_OK : error_set(err, INLAY_ERR_NOMEM, "out of memory for the evaluation");

    *out = (evaluation){.memory = arena_new(), .classes = classes};
    if (status == INLAY_OK)
        status = memory_alloc((void **)&out->confusion, (size_t)(classes * classes) * sizeof *out->confusion, "the confusion matrix", err);
    for (int i = 0; order && i < q->data->count; i++)
        order[i] = i;
    if (status == INLAY_OK) {
        loader_request request = {.data = q->data, .prep = q->prep, .order = order, .count = q->data->count, .workers = q->workers, .ahead = (int)batch * 2};
        status = loader_new(&l, &request, err);
    }
    if (status == INLAY_OK)
        status = run(out, q, l, logits, labels, indices, err);
    loader_free(l);
    free(order);
    free(indices);
    free(labels);
    free(logits);
    if (status != INLAY_OK)
        evaluation_free(out);
    return status;
}

void evaluation_free(evaluation *e)
{
    memory_free(e->confusion);
    arena_free(e->memory);
    *e = (evaluation){0};
}
