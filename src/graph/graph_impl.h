/* What a graph is made of: for builders, passes, planner and operations. */
#ifndef INLAY_GRAPH_GRAPH_IMPL_H
#define INLAY_GRAPH_GRAPH_IMPL_H

#include "base/hash_index.h"
#include "graph/graph.h"
#include "graph/param_impl.h"

#define OP_INPUTS 7
#define OP_AUX 2

typedef enum value_kind { VALUE_INPUT, VALUE_PARAM, VALUE_RESULT, VALUE_AUX } value_kind;

typedef struct value_info {
    const char *name;
    bool target; /* of an input: it travels with every batch anyway */
    value_kind kind;
    bool batched;
    int64_t rows, cols; /* rows for each sample (of the whole, when not batched) */
    dtype type;
    param *p;        /* VALUE_PARAM */
    uint32_t pass;   /* VALUE_PARAM that stands for a choice: the pass that draws */
    int producer;    /* op index, -1: input or parameter */
    bool needs_grad; /* something trainable lies below */
    bool fixed;      /* a pure function of the inputs and of frozen weights */
    bool kept;       /* read from outside: must exist as it is (no fusion over it) and stays f32 */
} value_info;

/* The types of the kinds of attributes that op_attributes.def lists. */
#define ATTRIBUTE_ACTIVATION activation
#define ATTRIBUTE_REAL double
#define ATTRIBUTE_COUNT int64_t
#define ATTRIBUTE_NAMED int64_t
#define ATTRIBUTE_COLOURS const float *
#define ATTRIBUTE_STREAM uint32_t
#define ATTRIBUTE_CHOSEN bool

typedef struct op_attributes {
#define ATTRIBUTE(kind, name) ATTRIBUTE_##kind name;
#include "graph/op_attributes.def"
#undef ATTRIBUTE
} op_attributes;

typedef struct op_node {
    int kind; /* index in the table of operations */
    value in[OP_INPUTS];
    value out;
    value aux[OP_AUX]; /* kept from forward to backward */
    op_attributes a;
    bool dead;  /* merged into another */
    int branch; /* in graph.branches; -1: none */
} op_node;

struct graph {
    arena *memory;
    const kernels *k;  /* what it will run on */
    dtype real;        /* k->real */
    dtype weight_type; /* of frozen matrices: see graph_new */
    value_info *values;
    int value_count, value_capacity;
    op_node *ops;
    int op_count, op_capacity;
    hash_index known_params, known_ops; /* values by their parameter, operations by what they compute */
    uint32_t streams;                   /* random streams handed out */
    graph_mark_entry *marks;
    int mark_count, mark_capacity;
    int *branches; /* each: the operation at which a branch of dropped samples ends */
    int branch_count, branch_capacity;
    bool mask_samples; /* set before graph_finish: no branches; samples that drop path drops are computed and multiplied
                          by 0 */
    graph_override override; /* NULL: none */
    const void *override_context;
    uint32_t pass; /* number of the pass that is being built */
};

/* Sets needed[v] for every value that is computed or read on the way to `wanted`; needed: [value_count]. */
void graph_mark_needed(const graph *g, value wanted, bool *needed);

/* The type in which a matrix parameter is packed: frozen backbone weights follow the graph's weight_type, all others
 * are real. */
dtype graph_weight_type(const graph *g, const param *p);
/* Whether data gradients pass through it by panels of its transpose: int8 weights have one scale for each column of a
 * product, and each direction its own. */
bool graph_transposes(const graph *g, const param *p);

/* Elements from row to row of a value, or of its gradient, stored as that type: its columns, or the device's
 * quantised_stride of them. */
int64_t value_stride(const graph *g, value v, dtype stored);

#endif
