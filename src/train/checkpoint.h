/* Checkpoints of a training run: parameters, optimiser state, and where the run stands. (Comments and messages
 * elsewhere call the files of a backbone so as well; functions and types of that name are a run's.) */
#ifndef INLAY_TRAIN_CHECKPOINT_H
#define INLAY_TRAIN_CHECKPOINT_H

#include "data/image_records.h"
#include "train/optimizer.h"

/* Where a run stands: between two steps. */
typedef struct train_state {
    int epoch;         /* epochs completed */
    int step_in_epoch; /* steps of the next epoch already done */
    int position;      /* place in that epoch's order behind the last sample used */
    int64_t step;      /* steps in all */
    double loss_sum;   /* of the steps of the epoch that has begun */
    int64_t log_bytes; /* length of metrics.jsonl that belongs to it */
} train_state;

/* How far a run goes: a state outside of it belongs to no such run. */
typedef struct train_extent {
    int epochs, images, batch;
} train_extent;

/* Writes one file, atomically, with the values and states of what `o` trains. `run` is a text that identifies the
 * run's settings (JSON); loading refuses a checkpoint of other settings and names the first key that differs, a state
 * in which no run of that extent can be, and images that are others now. */
inlay_status checkpoint_save(const char *path, const optimizer *o, const train_state *state, const char *run,
                             const image_records *images, inlay_error *err);
/* Whether it says what the run's images were is in images->compared. */
inlay_status checkpoint_load(const char *path, optimizer *o, train_state *state, const train_extent *extent,
                             const char *run, image_records *images, inlay_error *err);
/* Where a run stands and what its settings are (*run: a json_t * object, owned by the caller), without its values. */
inlay_status checkpoint_describe(const char *path, train_state *state, void **run, inlay_error *err);
/* Whether a finished run's record (a json_t *, from the file `path`) has the settings of `run`; the error names the
 * first that differs. */
inlay_status checkpoint_compare(const char *path, const void *saved, const char *run, inlay_error *err);

#endif
