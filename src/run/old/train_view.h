#ifndef INLAY_CLI_TRAIN_VIEW_H
#define INLAY_CLI_TRAIN_VIEW_H

#include "base/options.h"
#include "base/progress.h"
#include "train/train.h"

typedef struct train_view {
    progress bar;
    FILE *out;    /* NULL: nothing is shown but notes */
    int64_t done; /* steps that this process has seen since the bar began */
    double total; /* images of the whole run */
    int epochs;
    bool open;
    inlay_status (*saved)(const train_result *result, const options *o, inlay_error *err); /* may be NULL */
    const options *o;
} train_view;

/* What reports to `v`, which must stay where it is. */
train_observer train_view_observer(train_view *v);
/* One line before a run begins. */
void train_view_introduce(const train_view *v, const train_request *q);
void train_view_close(train_view *v);

#endif
