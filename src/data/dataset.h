/* Images with targets: class folders or a CSV list. */
#ifndef INLAY_DATA_DATASET_H
#define INLAY_DATA_DATASET_H

#include "base/file.h"
#include "base/notes.h"
#include "tasks/task.h"

typedef struct sample {
    const char *path;
    int32_t label;       /* of a task of one class: its index in classes; -1: unknown class; else 0 */
    const float *target; /* of other tasks: [outputs]; NULL: unknown */
} sample;

/* What a file holds, where it was read already because it can be read once only (a pipe); bytes NULL: the path is read.
 */
typedef struct file_content {
    const void *bytes;
    size_t size;
} file_content;

typedef struct dataset {
    arena *memory;
    int count;
    sample *samples;
    const file_content *contents; /* [count]; NULL: all are read from their paths */
    const task_desc *task;        /* what the targets are for */
    int outputs;                  /* numbers that answer a sample: the classes, or those in a target */
    int class_count;              /* 0: the task has no classes */
    const char **classes; /* names in label order; a CSV of numbers that count classes has "0", "1", ... up to the
                             largest label */
    bool numeric_labels;  /* the labels are class indices of the model, not names */
} dataset;

typedef struct dataset_request {
    const char *path; /* folder with train/val/test, folder of class folders, or a CSV list */
    const task_desc
        *task;         /* what the targets are for; NULL: the columns of a list say so, class folders are classified */
    const char *split; /* "train", "val", "test", "train+val"; folders of other usual names ("Testing", "validation")
                          are found as well */
    double val_split;  /* one folder of classes only: this share of each class, drawn with `seed`, is "val" */
    uint64_t seed;
    bool natural_sort; /* timm's order of class folders (class2 before class10); default: plain byte order as
                          torchvision */
    const char *const
        *classes;    /* when not NULL: labels follow these names (an adapter's); unknown class folders are an error */
    int class_count; /* of `classes`; without them: numbers in a list are indices of so many classes, whichever of them
                        occur. Without classes: numbers in a target. 0: as found */
    notes *notes;    /* what was met and not read, and what it was taken for; may be NULL */
} dataset_request;

/* Opens a set. Samples are ordered by class, then by path, whatever order the file system lists them in. Images are the
 * files whose names end as image_has_ending says. Errors: nothing there, no classes, an empty class folder, CSV without
 * a `path` or `label` column (naming line and column). A class that is missing from one of the splits train/val/test
 * while others have it keeps its index: class names are the union over the splits. Numbers in a list are indices when
 * at least half of 0 ... largest occur, else they are names (without `classes` and `class_count`). */
inlay_status dataset_open(dataset **out, const dataset_request *request, inlay_error *err);
void dataset_free(dataset *d);
/* The targets of `count` samples, each task_target_bytes long, one after the other. */
void dataset_targets(const dataset *d, const int *indices, int count, void *out);

/* Whether the folder `path` has a folder of this split; NULL: of any. True as well when it has several: opening it then
 * says so. */
bool dataset_has_split(const char *path, const char *split);

/* Notes which classes have no image to train on (a fault), and which none in `evaluated` (may be NULL), the split of
 * that name. */
void dataset_compare(const dataset *train, const dataset *evaluated, const char *split, notes *n);

/* Every image file below the given files and folders, in sorted order, without labels (label -1, no classes). */
inlay_status dataset_from_paths(dataset **out, const char *const *paths, int count, notes *n, inlay_error *err);

#endif
