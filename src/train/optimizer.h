/* Optimisers: what they are called, what they keep for each parameter, what a step is made of, and which values weight
 * decay reaches. A kind is a row of a table in optimizer.c. */
#ifndef INLAY_TRAIN_OPTIMIZER_H
#define INLAY_TRAIN_OPTIMIZER_H

#include "adapters/adapter.h"
#include "train/schedule.h"

typedef enum optimizer_kind { OPTIMIZER_ADAMW, OPTIMIZER_SGD } optimizer_kind;

/* Where AdamW adds its epsilon and when it decays. TORCH: to the root of the corrected second moment; decay in front of
 * the step. TRANSFORMERS: to the root of the moment itself, corrected afterwards; decay behind the step. BERT: as
 * TRANSFORMERS, with no bias correction, and with the step and the decay from the same value. */
typedef enum adam_rule { ADAM_TORCH, ADAM_TRANSFORMERS, ADAM_BERT } adam_rule;

/* Whether a parameter decays: those of two or more dimensions; those without "bias" in their names; all. */
typedef enum decay_reach { DECAY_MATRICES, DECAY_WEIGHTS, DECAY_ALL } decay_reach;

#define OPTIMIZER_KINDS "adamw|sgd"
#define ADAM_RULES "torch|transformers|bert"
#define DECAY_REACHES "matrices|weights|all"
/* Names of the optimisers, rules and reaches, in the order of their enumerations. */
extern const char *const optimizer_names[], *const adam_rule_names[], *const decay_reach_names[];

typedef struct optimizer_settings {
    optimizer_kind kind;
    adam_rule rule;
    decay_reach decay_on;
    double weight_decay, beta1, beta2, eps;
    double momentum;  /* SGD's */
    double clip_norm; /* of all gradients together, at most; 0: any */
    /* momentum and decay move parameters that a step gave no gradient, from their first one on, as PyTorch's optimisers
     * do with gradients that are set to zero */
    bool move_untouched;
} optimizer_settings;

/* What is kept for a parameter: AdamW's moments m and v, SGD's momentum m. */
#define OPTIMIZER_STATES 2
extern const char *const optimizer_states[OPTIMIZER_STATES]; /* "m", "v" */

typedef struct optimizer_slot {
    param *p;
    const unsigned char *mask;     /* [count] on the device, kept by the adapter; NULL: all values are trained */
    bool decay_masked;             /* weight decay reaches what the mask leaves out, too */
    double peak_lr;                /* a learning rate of its own, on the run's schedule; 0: the run's */
    int64_t updates;               /* steps that it was moved by */
    void *state[OPTIMIZER_STATES]; /* real [count] on the device; NULL: not kept, or the parameter is not trained */
} optimizer_slot;

typedef struct optimizer {
    optimizer_settings set;
    schedule lr; /* for parameters with a peak of their own */
    device *dev;
    optimizer_slot *slots; /* one for each parameter that the adapter lists, in that order */
    int count;
} optimizer;

/* Opens an optimiser for the parameters of an adapter that is initialised on `dev`; moments begin with zeros. */
inlay_status optimizer_open(optimizer *o, const optimizer_settings *set, const schedule *lr, const adapter *a,
                            device *dev, inlay_error *err);
void optimizer_close(optimizer *o); /* of zeros: nothing happens */
/* Makes one step: moves the parameters by the gradients of the last backward pass. `lr`: the run's, now. */
void optimizer_step(optimizer *o, double lr);

#endif
