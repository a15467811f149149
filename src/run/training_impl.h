/* What the files of a training run share. */
#ifndef INLAY_RUN_TRAINING_IMPL_H
#define INLAY_RUN_TRAINING_IMPL_H

#include "run/training.h"

/* ---- training_output.c ---- */

/* Takes away what an earlier run left in the folder. */
void training_clear_output(const char *folder);
/* Checks that a run that is complete is the one that is asked for, and that all of it is there. */
inlay_status training_check_complete(const train_request *q, inlay_error *err);

/* ---- training_record.c ---- */

/* Checks that JSON can hold the settings. */
inlay_status training_check_texts(const options *settings, inlay_error *err);
/* Describes everything that decides the result of a run. *out: JSON text, released with free(). */
inlay_status training_describe(char **out, const train_request *q, const adapter *a, const dataset *d, const recipe *r,
                               inlay_error *err);

/* ---- training_watch.c: what the training loop tells, on its way to the observer ---- */

typedef struct training_watch {
    const training_request *how;
    int64_t done;          /* steps that this process has seen since the phase began */
    double resumed, total; /* images of the whole run, and of those that an earlier process did */
    int epochs;
} training_watch;

/* An observer of the training loop that reports to `v`, which must stay where it is. */
train_observer training_observer(training_watch *v);
/* Tells the event "introduction": what is going to be trained, on what. */
inlay_status training_introduce(const inlay_observer *w, const train_request *q, inlay_error *err);

#endif
