/* What methods with experts have in common (AdaMix, MoSA): parameters of which each pass draws one, a loss over two
 * passes, and the merge at the end. */
#ifndef INLAY_ADAPTERS_EXPERTS_H
#define INLAY_ADAPTERS_EXPERTS_H

#include "adapters/bottleneck.h"

/* One side of an adapter, a down- or an up-projection. */
typedef struct expert_side {
    const char *stem; /* what its parameters' names begin with */
    int experts;
    bool equal;    /* all experts begin alike */
    uint32_t draw; /* parameters with the same number are drawn together */
} expert_side;

/* A parameter "<stem>.<i>.<part>" for each expert that begins as `init` says, or one, "<stem>.<part>", for a single
 * expert; *of, which may be NULL, gets them. Returns what stands for the one that is drawn. */
param *experts_add(adapter *a, const expert_side *side, const char *part, int ndim, const int64_t *dims, init_rule init,
                   param ***of);

/* Each expert trains its own part of a random partition of its entries, which `rule` draws. One expert alone trains all
 * of them. */
void experts_mask(adapter *a, param *const *of, int experts, mask_rule rule);

/* L(z1) + second * L(z2) + consistency * D(z1, z2), with the task's loss L and difference D: of classification
 * (KL(p2 || p1) + KL(p1 || p2)) / 2, each divergence's target held constant. */
value experts_loss(graph *g, const pass_result *passes, const training_target *t, double second, double consistency);

/* Fills the plain adapter's parameters from the experts of the same stem and part. MERGE_MEAN: their mean. MERGE_UNION:
 * where they are masked, each entry from the expert that trained it. MERGE_JOINT: each entry from the last expert whose
 * mask has it, divided by the number of experts. */
typedef enum expert_merge { MERGE_MEAN, MERGE_UNION, MERGE_JOINT } expert_merge;
inlay_status experts_merge(adapter *plain, const adapter *a, expert_merge how, device *d, inlay_error *err);

/* method.unfinished: always, since what is saved in the end is a plain adapter of another method. */
bool experts_unfinished(const adapter *a);

#endif
