/* A training run from options, which `train` and `pretrain` have in common. */
#ifndef INLAY_RUN_TRAINING_H
#define INLAY_RUN_TRAINING_H

#include "run/common.h"
#include "train/recipe.h"
#include "train/train.h"

/* Rows whose defaults are a recipe's. */
#define OPTIONS_RECIPE                                                                                               \
    OPT_TEXT("recipe", NULL, "NAME",                                                                                 \
             "training defaults by name: a row of 'inlay methods --recipes'; default: the method's"),                \
        OPT_CHOICE("optimizer", NULL, OPTIMIZER_KINDS, "AdamW, or SGD with momentum"),                               \
        OPT_REAL("lr", NULL, 0, 100, "X",                                                                            \
                 "learning rate at its peak; the recipe's other rates keep their ratio to it"),                      \
        OPT_REAL("momentum", NULL, 0, 0.999999, "X", "SGD's"), OPT_REAL("beta1", NULL, 0, 0.999999, "X", "AdamW's"), \
        OPT_REAL("beta2", NULL, 0, 0.999999, "X", "AdamW's"), OPT_REAL("adam_eps", NULL, 0, 1, "X", "AdamW's"),      \
        OPT_CHOICE("adam_rule", NULL, ADAM_RULES,                                                                    \
                   "PyTorch's AdamW; that of transformers (eps in front of the bias correction, decay behind the "   \
                   "step); BERT's (no bias correction)"),                                                            \
        OPT_REAL("weight_decay", NULL, 0, 10, "X", "decoupled with AdamW, part of the gradient with SGD"),           \
        OPT_CHOICE("decay_on", NULL, DECAY_REACHES,                                                                  \
                   "what decays: tensors of two or more dimensions, those without 'bias' in their names, or all"),   \
        OPT_REAL("clip_grad_norm", NULL, 0, 1e9, "X",                                                                \
                 "longest that all gradients together may be, longer ones are scaled down; 0: any length"),          \
        OPT_CHOICE("schedule", NULL, SCHEDULE_KINDS, "how the learning rate falls behind the warm-up"),              \
        OPT_CHOICE("schedule_unit", NULL, "epoch|step", "when it changes"),                                          \
        OPT_INT("warmup_epochs", NULL, 0, 1000000, "N", "epochs of linear warm-up"),                                 \
        OPT_REAL("warmup_share", NULL, 0, 0.99, "X",                                                                 \
                 "the warm-up as a share of the run, in place of --warmup-epochs; 0: not"),                          \
        OPT_REAL("warmup_lr", NULL, 0, 100, "X", "learning rate at which the warm-up begins"),                       \
        OPT_REAL("min_lr", NULL, 0, 100, "X", "learning rate at which the schedule ends"),                           \
        OPT_FLAG("peak_in_warmup", "the warm-up's last epoch or step has the peak already, not the one behind it"),  \
        OPT_FLAG("decay_from_start",                                                                                 \
                 "the decay is counted from the run's beginning, not from the end of the warm-up"),                  \
        OPT_FLAG("repeat_first",                                                                                     \
                 "the first two epochs or steps share the first learning rate, as in Adapter+'s training loop"),     \
        OPT_INT("batch_size", NULL, 1, 65536, "N", "images in a step"),                                              \
        OPT_REAL("label_smoothing", NULL, 0, 0.99, "X", "share of the target spread over all classes"),              \
        OPT_REAL("backbone_drop_path", NULL, 0, 0.95, "P",                                                           \
                 "stochastic depth of the backbone, growing to this at the last block"),                             \
        OPT_REAL("backbone_dropout", NULL, 0, 0.95, "P",                                                             \
                 "dropout of the backbone: behind the embeddings and twice in each feed-forward part")

/* Rows that train and pretrain have. */
#define OPTIONS_TRAINING                                                                                             \
    OPT_TEXT("data", NULL, "DIR|CSV",                                                                                \
             "folder with train/val/test, folder of class folders, or a list with the columns path and label, "      \
             "target (a number) or labels (names with ; between)"),                                                  \
        OPT_CHOICE("task", "auto", "auto|classify|regress|multilabel",                                               \
                   "what is learned; auto: what the list's column says, classify where there are class folders"),    \
        OPT_TEXT("output", NULL, "DIR", "folder for the result, metrics.jsonl, TensorBoard events and checkpoints"), \
        OPT_FLAG("resume", "go on from the output folder's checkpoint when there is one"),                           \
        OPT_FLAG("overwrite", "begin anew in an output folder that holds a run"), OPTIONS_RECIPE,                    \
        OPT_FLAG_ON("drop_last", "leave out an epoch's last partial batch"),                                         \
        OPT_INT("seed", "18", 0, 9e15, "N", "of initialisation, order, dropout and augmentation"),                   \
        OPT_CHOICE("train_on", "train", "train|train+val", "splits to train on"),                                    \
        OPT_REAL("val_split", "0", 0, 0.9, "X",                                                                      \
                 "share of each class held out for validation where the data has no splits"),                        \
        OPT_CHOICE("eval_split", "auto", "auto|none|val|test",                                                       \
                   "evaluated at the end; auto: val, or test when trained on train+val"),                            \
        OPT_INT("eval_every", "0", 0, 1000000, "N", "also evaluate every N epochs"),                                 \
        OPT_FLAG("augment", "random resized crop and horizontal flip"),                                              \
        OPT_REAL("augment_scale", "0.08", 0.01, 1, "X", "smallest share of the image that a random crop takes"),     \
        OPT_REAL("flip", "0.5", 0, 1, "P", "probability of a flip with --augment"),                                  \
        OPT_CHOICE("feature_cache", "auto", "auto|on|off",                                                           \
                   "keep what lies below the lowest trained parameter, computed once for each image"),               \
        OPT_SIZE(                                                                                                    \
            "cache_limit", NULL, "SIZE",                                                                             \
            "part of --memory that the feature cache may take, in MB or with a unit; default: half of it; one that " \
            "is larger, or than what the other parts leave, is kept in a file in --output until the run ends"),      \
        OPT_TEXT("cache_dir", NULL, "DIR",                                                                           \
                 "keep the feature cache in files there, for later runs on the same images"),                        \
        OPT_FLAG("natural_sort", "class folders in timm's order (class2 before class10)"),                           \
        OPT_FLAG("move_untouched", "momentum and decay also move what a step had no gradient for, once it has had "  \
                                   "one: experts not drawn, layers dropped"),                                        \
        OPT_FLAG("save_trained",                                                                                     \
                 "where a merge is saved, keep what was trained (experts, switches) too, in OUTPUT/trained"),        \
        OPT_FLAG_ON("tensorboard", "write TensorBoard events"),                                                      \
        OPT_FLAG("strict", "fail when an image cannot be read, a file is passed over or a class has no image"),      \
        OPTIONS_PREPROCESS, OPTION_PRECISION, OPTION_THREADS, OPTION_PIN, OPTION_WORKERS, OPTION_MEMORY, OPTION_QUIET

/* A run of the training loop as the options describe it, on `b`, with the method `name` and its options from `o`. */
typedef struct training_request {
    options *o; /* the recipe's values become its defaults */
    const inlay_observer *watch;
    file_lock *lock; /* on the output folder; taken here when it is not yet */
    bool complete;   /* --resume of a run that is complete: nothing is trained, its settings are compared */
    inlay_status (*saved)(const train_result *result, const options *o,
                          inlay_error *err); /* before the run counts as complete; may be NULL */
} training_request;
inlay_status run_training(backbone *b, const char *name, const training_request *how, train_result *result,
                          inlay_error *err);
/* Adds "eval" to `record`, which is called `what`, where the run evaluated; takes it over, NULL: failed. */
json_t *training_add_accuracy(json_t *record, const char *what, const train_result *r, inlay_error *err);
/* The picture of a run, a file in its output folder, drawn by what `saved` calls; a resumed run ends with the bytes of
 * an undisturbed one. training_name_curves puts "curves", its path, into the run's answer, where it is there. */
#define TRAINING_CURVES "curves.svg"
inlay_status training_draw_curves(const char *title, const train_result *r, const options *o, inlay_error *err);
void training_name_curves(json_t *record, const options *o);
/* The last part of a path, for a title; the arena's. */
char *training_name_of(arena *memory, const char *path);
/* Checks what can be found wrong with a run before there is a backbone: settings, recipe, data. */
inlay_status check_training(const char *name, const training_request *how, inlay_error *err);
/* Checks whether --output holds a run already: an error that says what to do, unless --resume or --overwrite
 * (run_training takes it away then, when all that the new run needs is open). *done: it is complete and
 * --resume was given. A folder that is there is locked first, so that nobody changes it afterwards; released by
 * file_lock_release. */
inlay_status check_output(file_lock *lock, const options *o, bool *done, const inlay_observer *w, inlay_error *err);
/* check_output, which also makes the folder where there is none; nothing is done when it is locked already. */
inlay_status hold_output(file_lock *lock, const options *o, bool *done, const inlay_observer *w, inlay_error *err);

#endif
