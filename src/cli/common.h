/* What several subcommands do alike: opening a model from the options, preprocessing, progress. */
#ifndef INLAY_CLI_COMMON_H
#define INLAY_CLI_COMMON_H

#include "base/file.h"
#include "base/notes.h"
#include "base/progress.h"
#include "cli/command.h"
#include "train/session.h"

/* Rows of an option table. */
#define OPTION_BACKBONE \
    {"backbone", OPTION_STRING, NULL, NULL, 0, 0, "DIR|FILE", "checkpoint: a folder with model.safetensors and config.json, or a safetensors or npz file", false}
#define OPTION_ADAPTER \
    {"adapter", OPTION_STRING, NULL, NULL, 0, 0, "DIR", "adapter folder, or several that answer for the same images; without it the checkpoint's own head answers", true}
#define OPTION_SKIP_LAYERS                                                                                             \
    {                                                                                                                  \
        "skip_layers", OPTION_STRING, "0", NULL, 0, 0, "N|LIST",                                                       \
            "leave the adapters of the lowest N layers out, what several adapters share below is computed once; or "   \
            "those of "                                                                                                \
            "the layers of a list, with a comma or a dash: 0,1,3; 3-3",                                                \
            false                                                                                                      \
    }
#define OPTION_LABELS                                                                                                  \
    {                                                                                                                  \
        "labels", OPTION_STRING, NULL, NULL, 0, 0, "FILE",                                                             \
            "names of the classes of the checkpoint's own head: one a line, a JSON list, or an id2label object", false \
    }
#define OPTION_FORCE {"force_backbone", OPTION_FLAG, NULL, NULL, 0, 0, NULL, "load an adapter although it was trained on another backbone", false}
#define OPTION_THREADS {"threads", OPTION_INT, "0", NULL, 0, 1024, "N", "compute threads; 0: all processors", false}
#define OPTION_PIN \
    {"pin_threads", OPTION_FLAG, NULL, NULL, 0, 0, NULL, "bind each compute thread to a processor of its own; for machines that do nothing else", false}
#define OPTION_WORKERS {"workers", OPTION_INT, "0", NULL, 0, 256, "N", "threads that decode images; 0: as many as processors", false}
#define OPTION_MEMORY                                                                                                  \
    {                                                                                                                  \
        "memory", OPTION_SIZE, NULL, NULL, 0, 0, "SIZE",                                                               \
            "memory for weights, activations, feature cache and decoding together, in MB or with a unit (800M, 2G); "  \
            "a quarter is for decoding; default: what is free, in a container what it leaves",                         \
            false                                                                                                      \
    }
#define OPTION_PRECISION                                                                                                             \
    {"precision", OPTION_CHOICE, "auto", "auto|f32|bf16|int8", 0, 0, NULL, "of the frozen weights; auto: bf16 where the processor has it; int8: fastest, nearly the same answers", false}
#define OPTION_QUIET {"quiet", OPTION_FLAG, NULL, NULL, 0, 0, NULL, "no progress", false}
#define OPTION_JSON {"json", OPTION_FLAG, NULL, NULL, 0, 0, NULL, "one JSON object on standard output", false}
#define OPTIONS_PREPROCESS                                                                                                           \
    {"image_size", OPTION_INT, "0", NULL, 0, 8192, "N", "side of the input in pixels; 0: the checkpoint's; others resample the position embeddings", false}, \
        {"crop_mode", OPTION_CHOICE, NULL, "center|squash|border", 0, 0, NULL, "how an image gets the input's shape; default: the checkpoint's. squash by itself is the whole image", false}, \
        {"crop_pct", OPTION_REAL, NULL, NULL, 0.05, 2, "X", "share of the resized image that the centre crop keeps; with squash as well", false},        \
        {"interpolation", OPTION_STRING, NULL, NULL, 0, 0, "NAME", "bilinear, bicubic, lanczos, box, hamming, nearest (as Pillow) or tf-bilinear", false}, \
        {"exif_orientation", OPTION_FLAG, NULL, NULL, 0, 0, NULL, "turn images upright by their EXIF tag", false}, \
        {"scale_16bit", OPTION_FLAG, NULL, NULL, 0, 0, NULL,                                                       \
         "scale grey of more than 8 bits to 8 (of 16: value / 257, rounded) instead of cutting it at 255", false}

/* Opens what --backbone, --adapter and the options of preprocessing, precision and threads say. */
inlay_status open_session(session *s, budget *room, const options *o, inlay_error *err);

/* --labels FILE; says once that there are no names where there are none. */
inlay_status apply_labels(session *s, const options *o, inlay_error *err);
inlay_status require(const options *o, const char *name, inlay_error *err);
/* Opens the budget that --memory says, or of what is free; budget_close ends it. */
void open_budget(budget *b, const options *o);
int choose_workers(const options *o);
inlay_status apply_preprocess_options(preprocess *p, const options *o, inlay_error *err);
/* Keeps every other run out of a folder that is written into; makes it where there is none. The lock ends with
 * file_lock_release or the process. */
inlay_status hold_folder(file_lock *lock, const char *folder, inlay_error *err);
#define FOLDER_LOCK "lock" /* the file in it that carries the lock */
void leave_out(const char *message); /* an image that is not used: "left out: ..." on standard error */
FILE *progress_stream(const options *o); /* stderr, or NULL with --quiet */
/* Says on standard error that grey of more than 8 bits was cut in `count` images; nothing when there are none. */
void note_cut_images(const preprocess *p, int count);
/* Notes stand on standard error, with --quiet too: that takes away how far the work is, not what is wrong with it. */
void print_note(const char *text);
/* Prints all of the list; `strict`: the first fault among them is an error. */
inlay_status print_notes(const notes *n, bool strict, inlay_error *err);
#endif
