/* Accuracy of a model on labelled images. */
#ifndef INLAY_INFER_EVALUATE_H
#define INLAY_INFER_EVALUATE_H

#include "data/loader.h"
#include "infer/model.h"

typedef struct evaluation {
    arena *memory;
    int count;               /* images that were evaluated */
    double top1, top5, loss; /* fractions; mean cross-entropy in nats */
    int64_t classes;
    int *confusion;   /* [classes, classes]: row = true class, column = prediction; NULL: was not asked for */
    int bad_count;    /* unreadable images, left out */
    const char **bad; /* their messages */
    int cut_count;    /* images whose grey of more than 8 bits was cut at 255 */
} evaluation;

typedef struct evaluate_request {
    predictor *model;
    const dataset *data; /* labels are indices of the classes, of every task */
    const preprocess *prep;
    int workers;
    bool confusion; /* count each class's predictions as well: memory for classes x classes numbers */
    void (*progress)(void *context, int done, int total); /* may be NULL */
    bool (*stop)(void *context);                          /* asked before every batch; may be NULL */
    void *context;
} evaluate_request;

/* Evaluates: one result for each of the model's tasks, out[task_count], each to be freed. Fails when a label is not a
 * class of the model, when a logit is not finite, and when it is stopped (INLAY_ERR_INTERRUPTED). */
inlay_status evaluate(evaluation *out, const evaluate_request *request, inlay_error *err);
void evaluation_free(evaluation *e);

/* Turns logits into probabilities in place, in double precision, and sorts classes by falling probability (ties: lower
 * index first) into order[k]. */
void softmax_top(float *logits, int64_t classes, int *order, int k);

#endif
