/* What several jobs do alike: opening a model from the options, preprocessing, what is said of images. */
#ifndef INLAY_RUN_COMMON_H
#define INLAY_RUN_COMMON_H

#include "base/file.h"
#include "base/notes.h"
#include "infer/session.h"
#include "run/job.h"
#include "run/watch.h"

/* Rows of an option table. */
#define OPTION_BACKBONE                    \
    OPT_TEXT("backbone", NULL, "DIR|FILE", \
             "checkpoint: a folder with model.safetensors and config.json, or a safetensors or npz file")
#define OPTION_ADAPTER          \
    OPT_LIST(                   \
        "adapter", NULL, "DIR", \
        "adapter folder, or several that answer for the same images; without it the checkpoint's own head answers")
#define OPTION_SKIP_LAYERS                                                                                            \
    OPT_TEXT("skip_layers", "0", "N|LIST",                                                                            \
             "leave the adapters of the lowest N layers out, what several adapters share below is computed once; or " \
             "those of the layers of a list, with a comma or a dash: 0,1,3; 3-3")
#define OPTION_LABELS                \
    OPT_TEXT("labels", NULL, "FILE", \
             "names of the classes of the checkpoint's own head: one a line, a JSON list, or an id2label object")
#define OPTION_FORCE OPT_FLAG("force_backbone", "load an adapter although it was trained on another backbone")
#define OPTION_THREADS OPT_INT("threads", "0", 0, 1024, "N", "compute threads; 0: all processors")
#define OPTION_PIN \
    OPT_FLAG("pin_threads", "bind each compute thread to a processor of its own; for machines that do nothing else")
#define OPTION_WORKERS OPT_INT("workers", "0", 0, 256, "N", "threads that decode images; 0: as many as processors")
#define OPTION_MEMORY                                                                                                  \
    OPT_SIZE("memory", NULL, "SIZE",                                                                                   \
             "memory for weights, activations, feature cache and decoding together, in MB or with a unit (800M, 2G); " \
             "a quarter is for decoding; default: what is free, in a container what it leaves")
#define OPTION_PRECISION                                  \
    OPT_CHOICE("precision", "auto", "auto|f32|bf16|int8", \
               "of the frozen weights; auto: bf16 where the processor has it; int8: fastest, nearly the same answers")
#define OPTION_QUIET OPT_FLAG("quiet", "no progress")
#define OPTION_JSON OPT_FLAG("json", "one JSON object on standard output")
#define OPTIONS_PREPROCESS                                                                                          \
    OPT_INT("image_size", "0", 0, 8192, "N",                                                                        \
            "side of the input in pixels; 0: the checkpoint's; others resample the position embeddings"),           \
        OPT_CHOICE(                                                                                                 \
            "crop_mode", NULL, "center|squash|border",                                                              \
            "how an image gets the input's shape; default: the checkpoint's. squash by itself is the whole image"), \
        OPT_REAL("crop_pct", NULL, 0.05, 2, "X",                                                                    \
                 "share of the resized image that the centre crop keeps; with squash as well"),                     \
        OPT_TEXT("interpolation", NULL, "NAME",                                                                     \
                 "bilinear, bicubic, lanczos, box, hamming, nearest (as Pillow) or tf-bilinear"),                   \
        OPT_FLAG("exif_orientation", "turn images upright by their EXIF tag"),                                      \
        OPT_FLAG("scale_16bit",                                                                                     \
                 "scale grey of more than 8 bits to 8 (of 16: value / 257, rounded) instead of cutting it at 255")

/* Opens what --backbone, --adapter and the options of preprocessing, precision and threads say, in the memory that
 * open_budget gives `room`; `room` NULL: of any size. close_session ends both. */
inlay_status open_session(session *s, budget *room, const options *o, const inlay_observer *w, inlay_error *err);
void close_session(session *s, budget *room);

/* Applies --labels FILE; says once that there are no names where there are none. */
inlay_status apply_labels(session *s, const options *o, const inlay_observer *w, inlay_error *err);
inlay_status require(const options *o, const char *name, inlay_error *err);
/* The method's options: its own or its preset's defaults, then what the user gave. */
inlay_status method_settings(options **out, const char *name, const options *o, inlay_error *err);
/* Opens the budget that --memory says, or of what is free; budget_close ends it. */
void open_budget(budget *b, const options *o);
int choose_workers(const options *o);
inlay_status apply_preprocess_options(preprocess *p, const options *o, inlay_error *err);
/* Keeps every other run out of a folder that is written into; makes it where there is none. The lock ends with
 * file_lock_release or the process. */
inlay_status hold_folder(file_lock *lock, const char *folder, const inlay_observer *w, inlay_error *err);
#define FOLDER_LOCK "lock" /* the file in it that carries the lock */
/* Notes that grey of more than 8 bits was cut in `count` images; nothing when there are none. */
void note_cut_images(const preprocess *p, int count, const inlay_observer *w);

#endif
