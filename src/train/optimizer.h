/* The optimisers: what they are called, what a parameter's step is made of, and which values weight decay reaches. */
#ifndef INLAY_TRAIN_OPTIMIZER_H
#define INLAY_TRAIN_OPTIMIZER_H

#include <stdbool.h>

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
/* Their names, in the order of the kinds. */
extern const char *const optimizer_names[], *const adam_rule_names[], *const decay_reach_names[];

struct train_request;
/* One step: moves the parameters of request->a by the gradients of the last backward pass. Of the request it reads what
 * a run's optimiser is. */
void train_update(const struct train_request *request, double lr);

#endif
