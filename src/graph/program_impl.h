/* What the planner (plan.c) leaves to whoever runs a program (program.c). */
#ifndef INLAY_GRAPH_PROGRAM_IMPL_H
#define INLAY_GRAPH_PROGRAM_IMPL_H

#include "graph/layout.h"
#include "graph/op_impl.h"

/* One operation of the program. */
typedef struct step_plan {
    int op;
    bool once;                  /* neither reads nor gives anything of the samples: runs once, not in every slice */
    bool backward;              /* has a gradient to pass on */
    bool accumulate[OP_INPUTS]; /* the input's gradient already holds something */
    bool clear[OP_INPUTS];      /* the input's gradient is cleared first, and then added to */
} step_plan;

/* Memory that several programs may share. */
typedef struct program_room {
    unsigned char *block, *workspace;
    size_t block_size, workspace_size;
    int users;
} program_room;

struct program {
    graph *g;
    device *dev;
    arena *memory;
    int64_t max_batch, slice;
    step_plan *steps;
    int count;
    layout_buffer *buffers;
    int buffer_count;
    bool *whole; /* for each branch of the graph: some of it is given, so all samples go through it */
    int32_t
        *active; /* for each branch: the samples of this slice that are not dropped, counted from its first, [slice] */
    int32_t *active_there; /* `active` on the device: the same array where the host can reach its memory */
    int *active_count;
    bool *compact;         /* for each value: it holds its branch's active samples only */
    int *home, *grad_home; /* for each value: its buffer, -1: none */
    dtype *grad_type;      /* of each value's gradient */
    bool *wanted, *given;
    bool *full, *full_grad; /* values and gradients that are there for all samples, not for those of a slice */
    value loss;
    program_time *times; /* for each step; NULL: nobody asked */
    program_room *room;
    size_t block_size, workspace_size; /* what this program needs of it */
    void **stages;                     /* for each value: where the host writes an input; NULL: into its memory */
    bool *staged;                      /* for each value: the host has written since the program ran last */
    unsigned char *host_room;          /* where a workspace is filled that the host cannot write into */
    param **params;                    /* trainable ones that get a gradient */
    int param_count;
};

#endif
