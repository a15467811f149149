/* What the files of the training loop share: the state of a run. */
#ifndef INLAY_TRAIN_TRAIN_IMPL_H
#define INLAY_TRAIN_TRAIN_IMPL_H

#include "base/json.h"

#include "formats/events.h"
#include "train/cache.h"
#include "train/checkpoint.h"
#include "train/train.h"

/* A model and the program that runs it. There are several when layers are dropped at random: one for each number of
 * layers, in the same memory, so that a dropped layer costs nothing and the backward pass ends above it. */
typedef struct variant {
    model m;
    program *p;
} variant;

typedef struct trainer {
    const train_request *q;
    train_result *result;
    arena *memory;
    variant *variants;
    int variant_count;
    feature_cache cache;
    optimizer update;
    bool cached;
    predictor evaluator;
    bool has_evaluator;
    int *order;             /* sample indices of this epoch */
    int usable_count;       /* how many: with a cache, those that could be read */
    unsigned char *targets; /* of a batch */
    size_t target_bytes;    /* of a sample */
    int *indices;
    train_state state;
    image_records images;
    FILE *log;
    events *board;
    const char *checkpoint;
    int64_t steps_per_epoch;
    schedule rates;      /* the request's, in its own unit */
    int64_t images_done; /* of this process's training */
} trainer;

enum { EVALUATION_BATCH = 16, CACHE_BATCH = 16 }; /* images at a time, at most */

#define NOTIFY(t, event, ...)                                              \
    do {                                                                   \
        if ((t)->q->observer.event)                                        \
            (t)->q->observer.event((t)->q->observer.context, __VA_ARGS__); \
    } while (0)

/* ---- train_setup.c ---- */

/* All that a run needs before its first step: initial values or the checkpoint's, the feature cache, programs, the log.
 */
inlay_status trainer_begin(trainer *t, inlay_error *err);

/* ---- train_log.c ---- */

/* Opens metrics.jsonl behind its whole lines and, where wanted, the TensorBoard events. */
inlay_status trainer_open_log(trainer *t, inlay_error *err);
/* Writes a line; `line` is released, NULL an error. */
inlay_status trainer_log(trainer *t, json_t *line, inlay_error *err);
/* Writes the checkpoint; what it tells of is on the disk before it. */
inlay_status trainer_save_state(trainer *t, inlay_error *err);

/* ---- train.c ---- */

/* Takes what evaluating takes, and gives back what only lives while it lasts: memory is asked for before the first
 * step, not behind the last one. */
inlay_status trainer_try_evaluator(trainer *t, inlay_error *err);

#endif
