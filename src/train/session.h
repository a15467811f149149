/* A model opened for inference: backbone, adapter, device, preprocessing. */
#ifndef INLAY_TRAIN_SESSION_H
#define INLAY_TRAIN_SESSION_H

#include "data/dataset.h"
#include "train/model.h"

typedef struct session_request {
    const char *backbone;
    const char *adapter;   /* NULL: the checkpoint's own head */
    int64_t image_size;    /* 0: the adapter's, else the checkpoint's */
    bool force_backbone;   /* take an adapter of another backbone */
    int threads;           /* 0: all processors */
    const char *precision; /* "auto" (bf16 where the processor has it), "f32", "bf16" */
} session_request;

typedef struct session {
    device dev;
    backbone *b;
    adapter *a; /* NULL: the checkpoint's own head */
    precision prec;
    preprocess prep;
} session;

inlay_status session_open(session *s, const session_request *request, inlay_error *err);
void session_close(session *s);
inlay_status session_predictor(session *s, int64_t batch, predictor *out, inlay_error *err);
int64_t session_classes(const session *s);
/* Name of a class, NULL when none is known. */
const char *session_label(const session *s, int64_t index);
/* A dataset whose labels are the classes of the session's model. */
inlay_status session_dataset(const session *s, dataset **out, const char *path, const char *split, inlay_error *err);

/* What "auto", "f32" or "bf16" means on a device. */
precision precision_choose(const char *name, const device *d);

#endif
