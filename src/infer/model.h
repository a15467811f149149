/* A backbone, perhaps an adapter, and a head, built as one graph. */
#ifndef INLAY_INFER_MODEL_H
#define INLAY_INFER_MODEL_H

#include "adapters/adapter.h"
#include "data/preprocess.h"
#include "graph/program.h"

typedef enum precision { PRECISION_F32, PRECISION_BF16, PRECISION_INT8 } precision; /* of the frozen weights */

const char *precision_name(precision prec); /* "f32", "bf16", "int8" */
bool precision_from_name(const char *name, precision *out);

typedef struct model_request {
    device *dev;
    backbone *b;
    const adapter *a;    /* NULL: the checkpoint's own head */
    int skip_layers;     /* adapters of so many layers from below are left out */
    const bool *skipped; /* [depth] layers whose adapters are left out, too; NULL: none */
    const adapter *const
        *tasks; /* several adapters on the same images: what they share is computed once. NULL: `a` alone */
    int task_count;
    precision prec;
    dtype pixel_type;
    const float *mean, *std; /* of p / 255, a value a channel; NULL: as the checkpoint has it */
    bool features;           /* they are read from a predictor as well */
    bool training;
    double drop_path, backbone_dropout, label_smoothing;
    bool keep_blocks;
    budget *room; /* predictor_open: what it takes must fit there; NULL: anything does */
} model_request;

typedef struct model {
    graph *g;
    value pixels, targets, features, logits, loss; /* targets, loss: NO_VALUE of several tasks */
    value *blocks;
    int64_t outputs;    /* of the first task */
    value *task_logits; /* [task_count], at least one; the first is `logits` */
    int task_count;
    value *pass_logits; /* [passes], of a training step; the first is `logits` */
    int passes;
} model;

/* Sets the parts of a program for inference in a budget, and checks it. */
inlay_status plan_inference(budget *room, graph *g, const program_request *request, inlay_error *err);
inlay_status model_build(model *m, const model_request *request, inlay_error *err);
void model_free(model *m);

/* How images are brought to a backbone: from its checkpoint, or as recorded with an adapter (json_t *, may be NULL). */
inlay_status preprocess_for(preprocess *p, const backbone *b, const void *recorded, inlay_error *err);
/* How images are brought to a backbone, as a json_t * that preprocess_for reads back. */
void *preprocess_record(const preprocess *p);

/* A model planned for inference. */
typedef struct predictor {
    model m;
    program *p;
    int64_t batch;
    device *dev;
    const backbone *b; /* what it was built from, for messages */
    const adapter *a;
    const adapter *const *tasks;
} predictor;

/* Plans a model for inference on batches of up to `batch` images; fails before anything is taken when it does
 * not fit. */
inlay_status predictor_open(predictor *out, const model_request *request, int64_t batch, inlay_error *err);
void predictor_close(predictor *p);
/* Room for the pixels of the next batch. */
void *predictor_pixels(predictor *p);
/* Runs the model; logits [count, classes] of the batch's first `count` images. */
void predictor_run(predictor *p, int64_t count, float *logits);
/* predictor_run in two steps, for models of several tasks: the pass, then the logits of one of them. */
void predictor_forward(predictor *p, int64_t count);
void predictor_logits(const predictor *p, int task, int64_t count, float *logits);
/* Features [count, width] of the first `count` images of the last pass, where the request asked for them. */
void predictor_features(const predictor *p, int64_t count, float *features);
int64_t predictor_classes(const predictor *p, int task);
/* The first parameter of `a` with a value that is not finite; NULL: none. */
const char *adapter_not_finite(const adapter *a, const device *d);
/* A logit that is not finite is no answer: the error names the image `about` which it is, and the first tensor that is
 * not finite either, when there is one. */
inlay_status predictor_check(const predictor *p, int task, const float *logits, const char *about, inlay_error *err);

#endif
