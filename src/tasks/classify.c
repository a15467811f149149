/* One class of several: cross-entropy with label smoothing, accuracy of the first and of the first five answers. */
#include <math.h>

#include "tasks/task.h"

enum { TOP1, TOP5 };
static const metric metrics[] = {[TOP1] = {"top1", "top-1", true}, [TOP5] = {"top5", "top-5", true}, {0}};

static inlay_status add(task_scores *s, const float *logits, const void *target, inlay_error *err)
{
    int32_t label = *(const int32_t *)target;
    int better = 0, best = 0;
    double top, sum = 0;

    if (label < 0 || label >= s->outputs)
        FAIL(err, INLAY_ERR_USAGE, "has label %d, but the model has %lld classes", label, (long long)s->outputs);
    for (int64_t c = 0; c < s->outputs; c++) {
        better += logits[c] > logits[label] || (logits[c] == logits[label] && c < label);
        best = logits[c] > logits[best] ? (int)c : best;
    }
    top = (double)logits[best];
    for (int64_t c = 0; c < s->outputs; c++)
        sum += exp((double)logits[c] - top);
    s->loss += log(sum) + top - (double)logits[label];
    s->values[TOP1] += better == 0;
    s->values[TOP5] += better < 5;
    if (s->confusion)
        s->confusion[label * s->outputs + best]++;
    return INLAY_OK;
}

const task_desc task_classify = {
    .name = "classify",
    .summary = "one class of several",
    .column = "label",
    .classes = true,
    .one_class = true,
    .metrics = metrics,
    .curve = TOP1,
    .loss = graph_cross_entropy,
    .difference = graph_consistency,
    .add = add,
};
