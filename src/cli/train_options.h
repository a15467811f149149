/* Options of training and what is made of them; shared by `train` and `pretrain`. */
#ifndef INLAY_CLI_TRAIN_OPTIONS_H
#define INLAY_CLI_TRAIN_OPTIONS_H

#include "cli/common.h"
#include "train/recipe.h"
#include "train/train.h"

/* Rows whose defaults are a recipe's. */
#define OPTIONS_RECIPE                                                                                                \
    {"recipe", OPTION_STRING, NULL, NULL, 0, 0, "NAME",                                                               \
     "training defaults by name: a row of 'inlay methods --recipes'; default: the method's", false},                  \
        {"optimizer", OPTION_CHOICE, NULL, OPTIMIZER_KINDS, 0, 0, NULL, "AdamW, or SGD with momentum", false},        \
        {"lr", OPTION_REAL, NULL, NULL, 0, 100, "X",                                                                  \
         "learning rate at its peak; the recipe's other rates keep their ratio to it", false},                        \
        {"momentum", OPTION_REAL, NULL, NULL, 0, 0.999999, "X", "SGD's", false},                                      \
        {"beta1", OPTION_REAL, NULL, NULL, 0, 0.999999, "X", "AdamW's", false},                                       \
        {"beta2", OPTION_REAL, NULL, NULL, 0, 0.999999, "X", "AdamW's", false},                                       \
        {"adam_eps", OPTION_REAL, NULL, NULL, 0, 1, "X", "AdamW's", false},                                           \
        {"adam_rule", OPTION_CHOICE, NULL, ADAM_RULES, 0, 0, NULL,                                                    \
         "PyTorch's AdamW; that of transformers (eps in front of the bias correction, decay behind the step); "       \
         "BERT's (no bias correction)", false},                                                                       \
        {"weight_decay", OPTION_REAL, NULL, NULL, 0, 10, "X",                                                         \
         "decoupled with AdamW, part of the gradient with SGD", false},                                               \
        {"decay_on", OPTION_CHOICE, NULL, DECAY_REACHES, 0, 0, NULL,                                                  \
         "what decays: tensors of two or more dimensions, those without 'bias' in their names, or all", false},       \
        {"clip_grad_norm", OPTION_REAL, NULL, NULL, 0, 1e9, "X",                                                      \
         "longest that all gradients together may be, longer ones are scaled down; 0: any length", false},            \
        {"schedule", OPTION_CHOICE, NULL, SCHEDULE_KINDS, 0, 0, NULL,                                                 \
         "how the learning rate falls behind the warm-up", false},                                                    \
        {"schedule_unit", OPTION_CHOICE, NULL, "epoch|step", 0, 0, NULL, "when it changes", false},                   \
        {"warmup_epochs", OPTION_INT, NULL, NULL, 0, 1000000, "N", "epochs of linear warm-up", false},                \
        {"warmup_share", OPTION_REAL, NULL, NULL, 0, 0.99, "X",                                                       \
         "the warm-up as a share of the run, in place of --warmup-epochs; 0: not", false},                            \
        {"warmup_lr", OPTION_REAL, NULL, NULL, 0, 100, "X", "learning rate at which the warm-up begins", false},      \
        {"min_lr", OPTION_REAL, NULL, NULL, 0, 100, "X", "learning rate at which the schedule ends", false},          \
        {"peak_in_warmup", OPTION_FLAG, NULL, NULL, 0, 0, NULL,                                                       \
         "the warm-up's last epoch or step has the peak already, not the one behind it", false},                      \
        {"decay_from_start", OPTION_FLAG, NULL, NULL, 0, 0, NULL,                                                     \
         "the decay is counted from the run's beginning, not from the end of the warm-up", false},                    \
        {"repeat_first", OPTION_FLAG, NULL, NULL, 0, 0, NULL,                                                         \
         "the first two epochs or steps share the first learning rate, as in Adapter+'s training loop", false},       \
        {"batch_size", OPTION_INT, NULL, NULL, 1, 65536, "N", "images in a step", false},                             \
        {"label_smoothing", OPTION_REAL, NULL, NULL, 0, 0.99, "X",                                                    \
         "share of the target spread over all classes", false},                                                       \
        {"backbone_drop_path", OPTION_REAL, NULL, NULL, 0, 0.95, "P",                                                 \
         "stochastic depth of the backbone, growing to this at the last block", false},                               \
        {"backbone_dropout", OPTION_REAL, NULL, NULL, 0, 0.95, "P",                                                   \
         "dropout of the backbone: behind the embeddings and twice in each feed-forward part", false}

/* Rows that both commands have. */
#define OPTIONS_TRAINING                                                                                                                                     \
    {"data", OPTION_STRING, NULL, NULL, 0, 0, "DIR|CSV", "folder with train/val/test, folder of class folders, or a list with columns path and label", false},  \
        {"output", OPTION_STRING, NULL, NULL, 0, 0, "DIR", "folder for the result, metrics.jsonl, TensorBoard events and checkpoints", false},                 \
        {"resume", OPTION_FLAG, NULL, NULL, 0, 0, NULL, "go on from the output folder's checkpoint when there is one", false},                                \
        {"overwrite", OPTION_FLAG, NULL, NULL, 0, 0, NULL, "begin anew in an output folder that holds a run", false},                                         \
        OPTIONS_RECIPE,                                                                                               \
        {"drop_last", OPTION_FLAG, "true", NULL, 0, 0, NULL, "leave out an epoch's last partial batch", false},                                               \
        {"seed", OPTION_INT, "18", NULL, 0, 9e15, "N", "of initialisation, order, dropout and augmentation", false},                                          \
        {"train_on", OPTION_CHOICE, "train", "train|train+val", 0, 0, NULL, "splits to train on", false},                                                     \
        {"val_split", OPTION_REAL, "0", NULL, 0, 0.9, "X", "share of each class held out for validation where the data has no splits", false},                \
        {"eval_split", OPTION_CHOICE, "auto", "auto|none|val|test", 0, 0, NULL, "judged at the end; auto: val, or test when trained on train+val", false},      \
        {"eval_every", OPTION_INT, "0", NULL, 0, 1000000, "N", "also judge every N epochs", false},                                                           \
        {"augment", OPTION_FLAG, NULL, NULL, 0, 0, NULL, "random resized crop and horizontal flip", false},                                                   \
        {"augment_scale", OPTION_REAL, "0.08", NULL, 0.01, 1, "X", "smallest share of the image that a random crop takes", false},                             \
        {"flip", OPTION_REAL, "0.5", NULL, 0, 1, "P", "probability of a flip with --augment", false},                                                         \
        {"feature_cache", OPTION_CHOICE, "auto", "auto|on|off", 0, 0, NULL, "keep what lies below the lowest trained parameter, computed once for each image", false}, \
        {"cache_limit", OPTION_SIZE, NULL, NULL, 0, 0, "SIZE",                                                        \
         "part of --memory that the feature cache may take, in MB or with a unit; default: half of it; one that is "  \
         "larger, or than what the other parts leave, is kept in a file in --output until the run ends", false},      \
        {"cache_dir", OPTION_STRING, NULL, NULL, 0, 0, "DIR", "keep the feature cache in files there, for later runs on the same images", false},               \
        {"natural_sort", OPTION_FLAG, NULL, NULL, 0, 0, NULL, "class folders in timm's order (class2 before class10)", false},                                \
        {"move_untouched", OPTION_FLAG, NULL, NULL, 0, 0, NULL,                                                        \
         "momentum and decay also move what a step had no gradient for, once it has had one: experts not drawn, "      \
         "layers dropped", false},                                                                                     \
        {"save_trained", OPTION_FLAG, NULL, NULL, 0, 0, NULL, "where a merge is saved, keep what was trained (experts, switches) too, in OUTPUT/trained", false},     \
        {"tensorboard", OPTION_FLAG, "true", NULL, 0, 0, NULL, "write TensorBoard events", false},                                                            \
        {"strict", OPTION_FLAG, NULL, NULL, 0, 0, NULL,                                                              \
         "fail when an image cannot be read, a file is passed over or a class has no image", false},                 \
        OPTIONS_PREPROCESS, OPTION_PRECISION, OPTION_THREADS,                                                        \
        OPTION_PIN, OPTION_WORKERS, OPTION_MEMORY, OPTION_QUIET

/* The method's options: its own or its preset's defaults, then what the user gave. */
inlay_status method_settings(options **out, const char *name, const options *o, inlay_error *err);
/* One run of the training loop as the options describe it, on `b`, with the method `name` and its options from `o`. */
typedef struct training_request {
    options *o; /* the recipe's values become its defaults */
    file_lock *lock; /* on the output folder; taken here when it is not yet */
    bool complete; /* --resume of a run that is complete: nothing is trained, its settings are compared */
    inlay_status (*saved)(const train_result *result, const options *o,
                          inlay_error *err); /* before the run counts as complete; may be NULL */
} training_request;
inlay_status run_training(backbone *b, const char *name, const training_request *how, train_result *result,
                          inlay_error *err);
/* What can be found wrong with it before there is a backbone: settings, recipe, data. */
inlay_status check_training(const char *name, const training_request *how, inlay_error *err);
/* Whether --output holds a run already: an error that says what to do, unless --resume or --overwrite (run_training
 * takes it away then, when all that the new run needs is open). *done: it is complete and --resume was given. A folder
 * that is there is locked first, so that nobody changes it afterwards; released by file_lock_release. */
inlay_status check_output(file_lock *lock, const options *o, bool *done, inlay_error *err);
/* The same, and makes the folder where there is none; nothing is done when it is locked already. */
inlay_status hold_output(file_lock *lock, const options *o, bool *done, inlay_error *err);

#endif
