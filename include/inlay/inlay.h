/* Inlay: tunes, studies, merges and serves adapters on frozen pre-trained transformers.
 *
 * The public C API, with everything that the command does: docs/library.md is a tour, examples/ has programs. Handles
 * are opaque; structures that may grow begin with their size; every call that can fail returns an inlay_status and
 * fills an inlay_error. Usable from C++. Nothing in the library prints, exits or aborts on bad input. */
#ifndef INLAY_INLAY_H
#define INLAY_INLAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define INLAY_VERSION_MAJOR 0
#define INLAY_VERSION_MINOR 1
#define INLAY_VERSION_PATCH 0
#define INLAY_VERSION_STRING "0.1.0"

#if defined(__GNUC__)
#define INLAY_API __attribute__((visibility("default")))
#else
#define INLAY_API
#endif

/* name, pinned value, text */
#define INLAY_STATUS_MAP(XX)                                            \
    XX(OK, 0, "ok")                                                     \
    XX(ERR_NOMEM, 1, "out of memory")                                   \
    XX(ERR_USAGE, 2, "unusable argument")                               \
    XX(ERR_INTERNAL, 3, "internal error")                               \
    XX(ERR_IO, 10, "input/output error")                                \
    XX(ERR_SYSTEM, 11, "trouble of the system at the moment")           \
    XX(ERR_FORMAT, 20, "malformed data")                                \
    XX(ERR_SHAPE, 21, "wrong shape")                                    \
    XX(ERR_UNSUPPORTED, 30, "not supported")                            \
    XX(ERR_MISMATCH, 40, "adapter and backbone do not belong together") \
    XX(ERR_INTERRUPTED, 50, "interrupted")

typedef enum inlay_status {
#define XX(name, value, text) INLAY_##name = (value),
    INLAY_STATUS_MAP(XX)
#undef XX
} inlay_status;

typedef struct inlay_error {
    inlay_status code;
    char message[1024]; /* one line, no full stop */
} inlay_error;

/* A short English name of a status; never NULL. */
INLAY_API const char *inlay_status_name(inlay_status status);
/* "0.1.0" */
INLAY_API const char *inlay_version(void);
/* The kinds of images that this build reads: "JPEG, PNG, ...". */
INLAY_API const char *inlay_image_formats(void);

/* ---- backbones ---- *
 *
 * A backbone is a frozen pre-trained transformer, read from a checkpoint. It is counted, never changed once it is open,
 * and may be used by several threads and sessions, which share its weights and what is made of them. */
typedef struct inlay_backbone inlay_backbone;

typedef struct inlay_backbone_options {
    size_t size;         /* sizeof(inlay_backbone_options) */
    int image_size;      /* side of its input in pixels; 0: `adapter`'s, else the checkpoint's */
    const char *adapter; /* folder of an adapter whose input size is taken; NULL: none */
} inlay_backbone_options;

/* Opens a folder with model.safetensors and config.json, or a file. `how` NULL: as the checkpoint has it. The caller
 * holds it until inlay_backbone_release. */
INLAY_API inlay_status inlay_backbone_open(inlay_backbone **out, const char *path, const inlay_backbone_options *how,
                                           inlay_error *err);
INLAY_API inlay_backbone *inlay_backbone_retain(inlay_backbone *b);
INLAY_API void inlay_backbone_release(inlay_backbone *b); /* NULL is accepted */

/* ---- sessions: adapters that answer ---- *
 *
 *     inlay_session *s;
 *     inlay_input photo = {.size = sizeof photo, .kind = INLAY_INPUT_FILE, .name = "photo.jpg"};
 *     inlay_prediction top[5];
 *     int found;
 *     if (inlay_session_open(&s, backbone, NULL, &err) == INLAY_OK &&
 *         inlay_session_load(s, "pets", "runs/pets", &err) == INLAY_OK &&
 *         inlay_session_classify(s, "pets", &photo, top, 5, &found, &err) == INLAY_OK)
 *         show(inlay_session_label(s, "pets", top[0].index));
 *
 * A session is used by one thread at a time; several may live side by side on one backbone. Adapters are loaded and
 * dropped while it runs. Where an adapter is named, NULL means the checkpoint's own head. */
typedef struct inlay_session inlay_session;

typedef struct inlay_session_options {
    size_t size;           /* sizeof(inlay_session_options) */
    const char *precision; /* "f32", "bf16", "int8"; NULL or "auto": what is fastest here of f32 and bf16 */
    int threads;           /* 0: all processors */
    int batch;             /* images that are computed at a time; 0: 16. Answers do not depend on it */
    bool force_backbone;   /* take adapters although they were trained on another backbone */
} inlay_session_options;

/* The session holds the backbone until it is closed. `how` NULL: zeros. */
INLAY_API inlay_status inlay_session_open(inlay_session **out, inlay_backbone *b, const inlay_session_options *how,
                                          inlay_error *err);
INLAY_API void inlay_session_close(inlay_session *s); /* NULL is accepted */

/* Loads an adapter from its folder under a name of the caller's, which no other may have. */
INLAY_API inlay_status inlay_session_load(inlay_session *s, const char *name, const char *folder, inlay_error *err);
INLAY_API inlay_status inlay_session_drop(inlay_session *s, const char *name, inlay_error *err);
INLAY_API int inlay_session_count(const inlay_session *s);                   /* adapters that are loaded */
INLAY_API const char *inlay_session_name(const inlay_session *s, int index); /* NULL: there is none */

/* What an adapter's input and output are; 0 and NULL where there is no such adapter or class. The label is valid until
 * the adapter is dropped. */
INLAY_API int inlay_session_classes(const inlay_session *s, const char *adapter);
INLAY_API const char *inlay_session_label(const inlay_session *s, const char *adapter, int index);
INLAY_API int inlay_session_features(const inlay_session *s); /* length of a feature vector */
INLAY_API int inlay_session_height(const inlay_session *s);   /* of the input, in pixels */
INLAY_API int inlay_session_width(const inlay_session *s);

typedef enum inlay_input_kind {
    INLAY_INPUT_FILE,       /* an image file: `name` is its path */
    INLAY_INPUT_ENCODED,    /* the `bytes` bytes of an image file at `data` */
    INLAY_INPUT_IMAGE,      /* RGB u8 [height, width, 3] at `data`: resized and cropped as a file's would be */
    INLAY_INPUT_PIXELS_U8,  /* RGB u8 of the input's size, [height, width, 3]: taken as it is */
    INLAY_INPUT_PIXELS_F32, /* the same in f32, 0..255 */
} inlay_input_kind;

typedef struct inlay_input {
    size_t size; /* sizeof(inlay_input) */
    inlay_input_kind kind;
    const char *name; /* a path, or what the input is called in messages; NULL: its number */
    const void *data;
    size_t bytes;
    int width, height; /* of INLAY_INPUT_IMAGE */
} inlay_input;

/* logits [count, classes] and features [count, features] of `count` inputs; either may be NULL. An input's answer does
 * not depend on the others. An error names the input; a logit that is not finite is one (INLAY_ERR_FORMAT). */
INLAY_API inlay_status inlay_session_run(inlay_session *s, const char *adapter, const inlay_input *inputs, int count,
                                         float *logits, float *features, inlay_error *err);

typedef struct inlay_prediction {
    int index;                /* class */
    float probability, logit; /* its softmax and what it is made of */
} inlay_prediction;

/* The `room` most probable classes of one input, most probable first; *found: how many were written. INLAY_ERR_USAGE:
 * the adapter was trained for numbers or for several labels at once. */
INLAY_API inlay_status inlay_session_classify(inlay_session *s, const char *adapter, const inlay_input *input,
                                              inlay_prediction *top, int room, int *found, inlay_error *err);

/* ---- jobs: everything that the command `inlay` does ---- *
 *
 * A job (train, eval, predict, inspect, methods, ...) is asked for by options, by name and text as on the command line,
 * and gives a record: a JSON document. inlay_run works in the calling thread and in threads of its own, which end with
 * it; several jobs may run side by side.
 *
 *     inlay_options *o;
 *     char *record = NULL;
 *     if (inlay_options_new(&o, "train", "adapter_plus", &err) == INLAY_OK) {
 *         inlay_options_set(o, "backbone", "vit_tiny_patch16_224", &err);
 *         inlay_options_set(o, "data", "pets", &err);
 *         inlay_options_set(o, "output", "run", &err);
 *         inlay_run(o, NULL, &record, &err);
 *     } */

/* Who watches a job; any function may be NULL. They are called by the thread that called inlay_run. Texts live until
 * the function returns. */
typedef struct inlay_observer {
    size_t size;   /* sizeof(inlay_observer) */
    void *context; /* the first argument of each function */
    /* A stretch of work begins, `total` units long ("training", 5000, "img"). what NULL: the last one has ended. */
    void (*phase)(void *context, const char *what, int64_t total, const char *unit);
    /* `done` units of it are done, `resumed` of these by an earlier process. `text` ("epoch 3, loss 0.2") may be NULL.
     */
    void (*progress)(void *context, double done, double resumed, const char *text);
    void (*note)(void *context, const char *text);     /* what the user should know of; the job goes on */
    void (*left_out)(void *context, const char *text); /* an image that is not used, and why */
    /* A part of the answer as it comes: `kind` ("epoch", "evaluation", "prediction") and a JSON object. Each job's are
     * listed in docs/library.md. */
    void (*event)(void *context, const char *kind, const char *json);
    bool (*stop)(void *context); /* true: leave in good order, with INLAY_ERR_INTERRUPTED */
} inlay_observer;

/* What a job is. */
typedef struct inlay_job_info {
    size_t size;         /* sizeof(inlay_job_info), set by the caller */
    const char *name;    /* "train" */
    const char *summary; /* one line */
    const char *usage;   /* what follows the name on the command line */
    const char *details; /* a paragraph */
    int words;           /* at most so many words beside options: images, a folder */
    bool takes_method;   /* it also has the options of a method */
    bool stops;          /* it asks its observer now and then whether to stop */
} inlay_job_info;

/* Job number `index`, from 0; false: there is none. */
INLAY_API bool inlay_job_at(int index, inlay_job_info *out);

typedef struct inlay_options inlay_options;

typedef struct inlay_option_info {
    size_t size;               /* sizeof(inlay_option_info), set by the caller */
    const char *name;          /* "weight_decay" */
    const char *section;       /* "Options", "Method" */
    const char *kind;          /* "flag", "integer", "real", "text", "choice", "size" */
    const char *default_value; /* NULL: none */
    const char *choices;       /* of a choice: "none|fixed|learned"; else NULL */
    const char *metavar;       /* "DIR"; NULL: none */
    const char *help;          /* one sentence */
    double low, high;          /* of a number, inclusive; both 0: any */
    bool repeatable;           /* may be set several times */
} inlay_option_info;

/* The options of a job, with their defaults; a job that takes a method also gets that method's or preset's. `method`
 * NULL: adapter_plus. The method is chosen here, not by the option of that name. Released with inlay_options_free. */
INLAY_API inlay_status inlay_options_new(inlay_options **out, const char *job, const char *method, inlay_error *err);
INLAY_API void inlay_options_free(inlay_options *o); /* NULL is accepted */
/* Sets an option from text, checked as on the command line ("true" and "false" for a flag). A repeatable one gets one
 * more value each time. */
INLAY_API inlay_status inlay_options_set(inlay_options *o, const char *name, const char *text, inlay_error *err);
/* Adds a word: an image of predict, the folder of inspect. */
INLAY_API inlay_status inlay_options_add_word(inlay_options *o, const char *word, inlay_error *err);
/* An option's text; NULL: it has no value, or there is none of that name. Valid until it is set again. */
INLAY_API const char *inlay_options_get(const inlay_options *o, const char *name);
/* Option number `index`, from 0; false: there is none. */
INLAY_API bool inlay_options_at(const inlay_options *o, int index, inlay_option_info *out);

/* All options of all jobs and methods, by name only: to tell whether a name is one. */
INLAY_API inlay_options *inlay_options_all(void);
/* A job's options as they are explained: with the defaults of the method's recipe, and in *method_options (NULL where
 * the job takes no method) those of the method or preset. Both are released with inlay_options_free. */
INLAY_API inlay_status inlay_options_explain(inlay_options **out, inlay_options **method_options, const char *job,
                                             const char *method, inlay_error *err);

/* Runs a job to its end. *record: its answer as JSON, released with inlay_text_free; when it failed, what it had until
 * then, or NULL. `record` may be NULL. INLAY_ERR_INTERRUPTED: the observer asked to stop; a training run goes on from
 * there with the option "resume". */
INLAY_API inlay_status inlay_run(inlay_options *o, const inlay_observer *watch, char **record, inlay_error *err);
INLAY_API void inlay_text_free(char *text); /* NULL is accepted */

#ifdef __cplusplus
}
#endif
#endif
