/* Any of several classes: binary cross-entropy of each (torch.nn.BCEWithLogitsLoss). F1 counts an answer from
 * probability 0.5 on, as sklearn's f1_score: a class that neither occurs nor is answered counts as 0 in the macro mean.
 * map is the mean over the classes that occur of sklearn's average_precision_score. */
#include <math.h>
#include <stdlib.h>

#include "tasks/task.h"

enum { F1_MACRO, F1_MICRO, MAP };
static const metric metrics[] = {[F1_MACRO] = {"f1_macro", "macro F1", true},
                                 [F1_MICRO] = {"f1_micro", "micro F1", true},
                                 [MAP] = {"map", "mAP", true},
                                 {0}};

static value loss(graph *g, value outputs, value targets, double smoothing)
{
    (void)smoothing;
    return graph_binary_cross_entropy(g, outputs, targets);
}

static inlay_status add(task_scores *s, const float *outputs, const void *target, inlay_error *err)
{
    const float *right = target;

    for (int64_t c = 0; c < s->outputs; c++) {
        double x = (double)outputs[c];
        s->loss += (fmax(x, 0) - x * (double)right[c] + log1p(exp(-fabs(x)))) / (double)s->outputs;
    }
    return task_scores_keep(s, outputs, right, err);
}

typedef struct answer {
    float logit;
    bool right;
} answer;

static int most_first(const void *a, const void *b)
{
    float x = ((const answer *)a)->logit, y = ((const answer *)b)->logit;

    return x > y ? -1 : x < y;
}

/* Sum over the thresholds of (recall gained) x precision; `sorted` by falling logit, with `positives` > 0 right ones.
 */
static double average_precision(const answer *sorted, int n, int positives)
{
    double total = 0;
    int hits = 0;

    for (int begin = 0, end; begin < n; begin = end) {
        int gained = 0;
        for (end = begin; end < n && sorted[end].logit == sorted[begin].logit; end++)
            gained += sorted[end].right;
        hits += gained;
        total += (double)gained / positives * hits / end;
    }
    return total;
}

static double f1(int64_t hits, int64_t answered, int64_t positives)
{
    return answered + positives > 0 ? 2.0 * (double)hits / (double)(answered + positives) : 0;
}

static void conclude(task_scores *s)
{
    answer *column = memory_array(s->count + 1, sizeof *column);
    int64_t hits = 0, answered = 0, positives = 0;
    int occurring = 0;
    double precision = 0;

    for (int64_t c = 0; c < s->outputs && column; c++) {
        int64_t hit = 0, said = 0, there = 0;
        for (int i = 0; i < s->count; i++) {
            float logit = s->answers[i * s->outputs + c];
            bool right = s->targets[i * s->outputs + c] > 0.5f;
            column[i] = (answer){logit, right};
            hit += right && logit >= 0;
            said += logit >= 0;
            there += right;
        }
        hits += hit;
        answered += said;
        positives += there;
        s->values[F1_MACRO] += f1(hit, said, there) / (double)s->outputs;
        if (there == 0)
            continue;
        qsort(column, (size_t)s->count, sizeof *column, most_first);
        precision += average_precision(column, s->count, (int)there);
        occurring++;
    }
    s->values[F1_MICRO] = f1(hits, answered, positives);
    s->values[MAP] = occurring ? precision / occurring : NAN;
    free(column);
}

const task_desc task_multilabel = {
    .name = "multilabel",
    .summary = "any of several classes",
    .column = "labels",
    .classes = true,
    .metrics = metrics,
    .curve = MAP,
    .loss = loss,
    .difference = graph_distance,
    .add = add,
    .conclude = conclude,
};
