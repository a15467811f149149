/* Inlay: tunes, studies, merges and serves adapters on frozen pre-trained transformers.
 *
 * The public C API. Handles are opaque; every call that can fail returns an inlay_status and fills an inlay_error.
 * Usable from C++. Nothing in the library prints, exits or aborts on bad input. */
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
#define XX(name, value, text) INLAY_##name = value,
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

/* ---- classifying images ---- *
 *
 *     inlay_error err;
 *     inlay_model *model;
 *     inlay_model_options options = {.backbone = "vit_tiny_patch16_224", .adapter = "run"};
 *     inlay_prediction top[5];
 *     int found;
 *     if (inlay_model_open(&model, &options, &err) != INLAY_OK ||
 *         inlay_model_classify_file(model, "photo.jpg", top, 5, &found, &err) != INLAY_OK)
 *         complain(err.message);
 *     inlay_model_close(model);
 *
 * A model is used by one thread at a time; several models may live side by side. */
typedef struct inlay_model inlay_model;

typedef struct inlay_model_options {
    const char *backbone;  /* folder with model.safetensors and config.json, or a file */
    const char *adapter;   /* adapter folder; NULL: the checkpoint's own head */
    const char *precision; /* "f32", "bf16", "int8"; NULL or "auto": bf16 where the processor has it */
    int threads;           /* 0: all processors */
    int image_size;        /* 0: as the adapter or the checkpoint has it */
    bool force_backbone;   /* take an adapter although it was trained on another backbone */
} inlay_model_options;

typedef struct inlay_prediction {
    int index;         /* class */
    const char *label; /* its name, NULL when none is known; valid until the model is closed */
    float probability, logit;
} inlay_prediction;

/* Opens a model; *out is closed with inlay_model_close. */
INLAY_API inlay_status inlay_model_open(inlay_model **out, const inlay_model_options *options, inlay_error *err);
INLAY_API void inlay_model_close(inlay_model *model); /* NULL is accepted */

INLAY_API int inlay_model_classes(const inlay_model *model);
INLAY_API const char *inlay_model_label(const inlay_model *model, int index); /* NULL when there is none */
/* Height of the input in pixels. */
INLAY_API int inlay_model_image_size(const inlay_model *model);
/* Its width: the same number unless the checkpoint is for oblong images. */
INLAY_API int inlay_model_image_width(const inlay_model *model);

/* The `room` most probable classes of an image file, most probable first; *found = how many were written. Here and
 * below, a logit that is not finite is an error (INLAY_ERR_FORMAT) that names the image and, where there is one, the
 * first tensor that is not finite. */
INLAY_API inlay_status inlay_model_classify_file(inlay_model *model, const char *path, inlay_prediction *top, int room,
                                                 int *found, inlay_error *err);
/* Logits [count, classes] of images that have the input's size already: pixels u8 RGB [count, size, width, 3]; mean and
 * std are applied inside. An image's logits do not depend on the others. */
INLAY_API inlay_status inlay_model_logits(inlay_model *model, const uint8_t *pixels, int count, float *logits,
                                          inlay_error *err);

#ifdef __cplusplus
}
#endif
#endif
