/* Low-rank changes of weights, for LoRA and for methods with experts of that kind. */
#ifndef INLAY_ADAPTERS_LOW_RANK_H
#define INLAY_ADAPTERS_LOW_RANK_H

#include "adapters/method.h"

typedef struct low_rank_plan {
    int experts_a, experts_b; /* 1: one for all */
    bool equal;               /* experts begin alike */
    bool apart;               /* queries, keys and values of a layer draw apart, not together */
    const mask_rule *mask;    /* what each expert trains of its matrix; NULL: all of it */
    bool inner_dropout;       /* dropout lies behind A, not on the input */
    double scale;             /* of the change; 0: alpha / rank */
    activation act;           /* between A and B */
    double drop_path;
} low_rank_plan;

/* Edges of x A^T B^T for every product that the option `targets` names, with the options rank, ranks and dropout, and
 * alpha where the plan has no scale. */
inlay_status low_rank_add(adapter *a, const low_rank_plan *plan, inlay_error *err);

#define OPTION_TARGETS OPT_TEXT("targets", "q,v", "LIST", "products that are changed: any of q,k,v,proj,fc1,fc2")

#endif
