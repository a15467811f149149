/* What a model's answers are worth on images with targets. */
#ifndef INLAY_INFER_EVALUATE_H
#define INLAY_INFER_EVALUATE_H

#include "data/loader.h"
#include "infer/model.h"

typedef struct evaluation {
    arena *memory;
    task_scores scores;
    int bad_count;    /* unreadable images, left out */
    const char **bad; /* their messages */
    int cut_count;    /* images whose grey of more than 8 bits was cut at 255 */
} evaluation;

typedef struct evaluate_request {
    predictor *model;
    const dataset *data; /* its targets are those of every task of the model */
    const preprocess *prep;
    int workers;
    bool confusion;                                       /* as task_scores_begin */
    void (*progress)(void *context, int done, int total); /* may be NULL */
    bool (*stop)(void *context);                          /* asked before every batch; may be NULL */
    void *context;
} evaluate_request;

/* Evaluates: one result for each of the model's tasks, out[task_count], each to be freed. Fails when a target is not
 * one of the model's, when a logit is not finite, and when it is stopped (INLAY_ERR_INTERRUPTED). */
inlay_status evaluate(evaluation *out, const evaluate_request *request, inlay_error *err);
void evaluation_free(evaluation *e);

/* {count, the task's metrics, loss}, as a json_t * that is the caller's, for the record `what`; a metric that is not
 * defined is null. `with_loss` false: without it. NULL: the loss is not finite. */
void *scores_object(const char *what, const task_scores *s, bool with_loss, inlay_error *err);

/* Turns logits into probabilities in place, in double precision, and sorts classes by falling probability (ties: lower
 * index first) into order[k]. */
void softmax_top(float *logits, int64_t classes, int *order, int k);

#endif
