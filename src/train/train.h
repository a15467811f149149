/* The training loop.
 *
 * A run is a pure function of its settings: the same seed gives the same bits with any number of threads, with or
 * without the feature cache, and when it was interrupted and resumed at any point. */
#ifndef INLAY_TRAIN_TRAIN_H
#define INLAY_TRAIN_TRAIN_H

#include "infer/evaluate.h"
#include "train/optimizer.h"
#include "train/schedule.h"

typedef struct train_epoch {
    int epoch, epochs; /* 1-based */
    int64_t step;
    double loss, lr, seconds, images_per_second;
} train_epoch;

/* What a run is going to take. */
typedef struct train_estimate {
    size_t activations, cache; /* bytes */
    const char *cache_folder;  /* where the cache's file lies; NULL: it is in memory, or there is none */
    int cache_reused, images;  /* of the images, those whose features an earlier run had computed */
    int64_t steps;
    double flops;       /* of an image and step */
    const budget *room; /* with all parts; NULL: nobody asked */
} train_estimate;

struct train_result;

/* Who watches a run. Every function may be NULL. */
typedef struct train_observer {
    void *context;
    void (*phase)(void *context, const char *what, int total, const char *unit); /* a new stretch of work begins */
    void (*progress)(void *context, int done, int total);
    void (*step)(void *context, int epoch, int64_t step, int64_t steps, int images, double loss);
    void (*epoch)(void *context, const train_epoch *report);
    void (*evaluated)(void *context, const char *split, int epoch, const evaluation *result);
    void (*estimate)(void *context, const train_estimate *estimate);
    void (*note)(void *context, const char *text);
    bool (*stop)(void *context); /* true: write a checkpoint and leave */
    /* The adapter is written, the checkpoint still there: what else belongs to a complete run is written now. */
    inlay_status (*saved)(void *context, const struct train_result *result, inlay_error *err);
} train_observer;

/* CACHE_AUTO: a run goes on without a cache when its file cannot be written; CACHE_ON: that is an error. */
typedef enum cache_mode { CACHE_AUTO, CACHE_ON, CACHE_OFF } cache_mode;

typedef struct train_request {
    device *dev;
    backbone *b;
    adapter *a; /* fresh; its parameters are trained */
    const dataset *data;
    const dataset *eval_data; /* may be NULL */
    const char *eval_split;   /* its name */
    int eval_every;           /* epochs; 0: only at the end */
    const preprocess *prep;
    bool augment;
    precision prec;
    int epochs, batch, workers;
    bool drop_last;
    schedule lr;
    optimizer_settings update;
    double label_smoothing, drop_path, backbone_dropout;
    uint64_t seed;
    cache_mode cache;
    size_t cache_limit;    /* bytes that it may take of the memory; a larger one is kept in a file in `output` while the
                              run lasts */
    const char *cache_dir; /* folder in which it is kept for later runs; NULL: none */
    budget *room;          /* what the run may take; NULL: any */
    const char
        *output;     /* folder: checkpoint.safetensors, metrics.jsonl, TensorBoard events, and at the end the adapter */
    const char *run; /* JSON text of all settings that decide the result */
    bool resume;
    bool strict; /* an image that cannot be read ends the run with an error */
    bool tensorboard;
    bool save_trained; /* where a merge is saved, keep what was trained as well, in `output`/trained */
    train_observer observer;
} train_request;

typedef struct train_result {
    int64_t steps;
    double loss; /* mean of the last epoch */
    bool evaluated;
    task_scores eval; /* of the last evaluation, without what the scores were made of */
    double seconds;   /* of this process's training, evaluation apart */
    double images_per_second;
    bool cached;
    size_t cache_bytes, activation_bytes, adapter_bytes;
    int cache_reused;   /* images whose features an earlier run had computed */
    int64_t parameters; /* trained, the head not counted */
    arena *memory;      /* owns the messages */
    int bad_count;
    const char **bad;   /* unreadable images */
    int cut_count;      /* training images whose grey of more than 8 bits was cut at 255 */
    int eval_cut_count; /* images that were evaluated whose grey of more than 8 bits was cut at 255 */
} train_result;

/* Runs to the end and saves the adapter in `output`. INLAY_ERR_INTERRUPTED: observer.stop asked to leave and a
 * checkpoint was written. */
inlay_status train(train_result *out, const train_request *request, inlay_error *err);
void train_result_free(train_result *r);

#endif
