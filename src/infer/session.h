/* A model opened for inference: backbone, adapter or several, device, preprocessing. */
#ifndef INLAY_INFER_SESSION_H
#define INLAY_INFER_SESSION_H

#include "data/dataset.h"
#include "infer/model.h"

typedef struct session_request {
    const char *backbone;
    backbone *shared;            /* one that is open already: it is used and stays open; NULL: `backbone` is opened */
    const char *adapter;         /* NULL: the checkpoint's own head */
    const char *const *adapters; /* several that answer for the same images, in place of `adapter`; NULL: none */
    int adapter_count;
    int skip_layers;       /* adapters of so many layers from below are left out */
    const char *skip_list; /* layers whose adapters are left out, "0,1,3-5"; NULL: none */
    int64_t image_size;    /* 0: the adapter's, else the checkpoint's */
    bool force_backbone;   /* take an adapter of another backbone */
    int threads;           /* 0: all processors */
    bool pin_threads;      /* bind each to a processor of its own */
    budget *room;          /* what it may take; NULL: any */
    const char *precision; /* "auto" (bf16 where the processor has it), "f32", "bf16", "int8" */
} session_request;

typedef struct session {
    device dev;
    backbone *b;
    bool shared; /* it stays open */
    adapter *a;  /* the first; NULL: the checkpoint's own head */
    adapter **adapters;
    int adapter_count;
    int skip_layers;
    bool *skipped; /* [depth], or NULL */
    precision prec;
    preprocess prep;
    budget *room; /* NULL: any */
} session;

/* Opens backbone and adapters. Several adapters must have been trained with the same preprocessing, and leave the
 * backbone's own weights alone. */
inlay_status session_open(session *s, const session_request *request, inlay_error *err);
void session_close(session *s);
inlay_status session_predictor(session *s, int64_t batch, predictor *out, inlay_error *err);
/* session_predictor for pixels of a type, and with features. */
inlay_status session_predictor_of(session *s, int64_t batch, dtype pixel_type, bool features, predictor *out,
                                  inlay_error *err);
/* The side of the input that an adapter was trained with; 0: the checkpoint's own, or there is no such folder. */
int64_t session_recorded_size(const char *folder);
int session_tasks(const session *s);       /* one for each adapter; the checkpoint's own head is one too */
int64_t session_classes(const session *s); /* of the first task; of one without classes, the numbers that it answers */
const task_desc *session_task_of(const session *s, int task);
int64_t session_task_classes(const session *s, int task);
/* Name of a class, NULL when none is known. */
const char *session_label(const session *s, int64_t index); /* of the first task */
const char *session_task_label(const session *s, int task, int64_t index);
/* A dataset whose labels are the classes of the session's model, of its first task. `n` may be NULL. */
inlay_status session_dataset(const session *s, dataset **out, const char *path, const char *split, notes *n,
                             inlay_error *err);

/* The precision that a name, or "auto", means on a device. */
precision precision_choose(const char *name, const device *d);

#endif
