/* Tasks: what is learned. A task says what the target of a sample is, what a model's answer is worth beside it, and how
 * it is trained. Adding a task is one file and one row in tasks.def. */
#ifndef INLAY_TASKS_TASK_H
#define INLAY_TASKS_TASK_H

#include "graph/graph.h"

enum { TASK_METRICS = 4 };

/* A figure of what answers are worth. */
typedef struct metric {
    const char *name, *title; /* "top1", "top-1" */
    bool share;               /* a share of 1, shown in per cent */
} metric;

typedef struct task_desc task_desc;

/* What the answers to the samples of a set are worth. */
typedef struct task_scores {
    const task_desc *task;
    int64_t outputs;             /* numbers in an answer */
    int count;                   /* samples */
    double loss;                 /* mean over the samples of what is trained, without smoothing */
    double values[TASK_METRICS]; /* of task->metrics; NaN: not defined for these samples */
    int *confusion; /* of a task of one class in `outputs`: [outputs, outputs], row = target, column = answer; NULL: was
                       not asked for, or another task */
    float *answers, *targets; /* [count, outputs] where the metrics need all of them at once */
    int64_t capacity;
} task_scores;

struct task_desc {
    const char *name;      /* "classify" */
    const char *summary;   /* one line */
    const char *column;    /* of a list that holds the targets: "label" */
    bool classes;          /* an output stands for a class and has its name */
    bool one_class;        /* the target is the index of one of them, I32; else a row of `outputs` numbers, F32 */
    const metric *metrics; /* ended by name NULL */
    int curve;             /* which of them shows how a run goes: more is better */
    /* Mean over the batch. `targets`: [1, 1] I32 or [1, outputs] F32 for each sample. */
    value (*loss)(graph *g, value outputs, value targets, double smoothing);
    /* How far two passes' answers lie apart: mean over the batch. */
    value (*difference)(graph *g, value a, value b);
    /* Adds one sample; outputs [outputs] are finite. */
    inlay_status (*add)(task_scores *s, const float *outputs, const void *target, inlay_error *err);
    void (*conclude)(task_scores *s); /* values from what was added; NULL: means of what add() summed up in them */
};

#define TASK(name) extern const task_desc task_##name;
#include "tasks/tasks.def"
#undef TASK
extern const task_desc *const task_table[]; /* ended by NULL; the first is that of class folders */

/* NULL: there is none of that name. */
const task_desc *task_find(const char *name);

/* Type and count of the numbers in a target, and its bytes. */
dtype task_target_type(const task_desc *t);
int64_t task_target_count(const task_desc *t, int64_t outputs);
size_t task_target_bytes(const task_desc *t, int64_t outputs);

/* Scores of nothing yet. `confusion`: answers are counted by class as well, which takes memory for outputs x outputs
 * numbers. End with task_scores_free. */
inlay_status task_scores_begin(task_scores *s, const task_desc *t, int64_t outputs, bool confusion, inlay_error *err);
/* A target that is no class of the model is an error (INLAY_ERR_USAGE). */
inlay_status task_scores_add(task_scores *s, const float *outputs, const void *target, inlay_error *err);
void task_scores_end(task_scores *s);
void task_scores_free(task_scores *s);
/* For tasks: keeps an answer and its target for conclude(). */
inlay_status task_scores_keep(task_scores *s, const float *outputs, const float *target, inlay_error *err);

#endif
