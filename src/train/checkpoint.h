/* Checkpoints of a training run: parameters, optimiser state, and where the run stands. */
#ifndef INLAY_TRAIN_CHECKPOINT_H
#define INLAY_TRAIN_CHECKPOINT_H

#include "adapters/adapter.h"

/* Where a run stands: between two steps. */
typedef struct train_state {
    int epoch;          /* epochs completed */
    int step_in_epoch;  /* steps of the next epoch already done */
    int position;       /* place in that epoch's order behind the last sample used */
    int64_t step;       /* steps in all */
    double loss_sum;    /* of the steps of the epoch that has begun */
    int64_t log_bytes;  /* length of metrics.jsonl that belongs to it */
} train_state;

/* How far a run goes: a state outside of it belongs to no such run. */
typedef struct train_extent {
    int epochs, images, batch;
} train_extent;

/* One file, written atomically. `run` is a text that identifies the run's settings (JSON); loading refuses a checkpoint of other settings and names the first
 * key that differs, and a state in which no run of that extent can be. */
inlay_status checkpoint_save(const char *path, const adapter *a, const device *d, const train_state *state, const char *run, inlay_error *err);
inlay_status checkpoint_load(const char *path, adapter *a, device *d, train_state *state, const train_extent *extent, const char *run,
                             inlay_error *err);

#endif
