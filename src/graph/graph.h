/* A static graph of operations. A model, its adapters and its loss are built once; passes then fuse chains into the
 * epilogues of matrix products, choose the types of stored activations, and find what never changes. programs
 * (program.h) run it.
 *
 * Equal operations on equal inputs are one operation: a model that is built several times into one graph - for several
 * passes, or for several tasks on the same images - computes what its copies have in common once.
 *
 * A value is a matrix with `rows` rows for each sample of the batch and `cols` columns; samples lie one after the
 * other. Parameters and the loss have no batch. */
#ifndef INLAY_GRAPH_GRAPH_H
#define INLAY_GRAPH_GRAPH_H

#include <stdio.h>

#include "base/hash_index.h"
#include "graph/param.h"

typedef int value; /* index of a value in its graph */
#define NO_VALUE (-1)

#define OP_INPUTS 7
#define OP_AUX 2

typedef enum value_kind { VALUE_INPUT, VALUE_PARAM, VALUE_RESULT, VALUE_AUX } value_kind;

typedef struct value_info {
    const char *name;
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

/* Attributes of all operations; each uses the few that its builder below sets. */
typedef struct op_attributes {
    activation act;
    double eps, scale, rate;
    bool rounded; /* attention: bf16 arithmetic */
    int64_t groups, width, offset, first, count, heads, head_dim, q_offset, k_offset, v_offset;
    uint32_t stream; /* random stream */
    int64_t height, image_width, channels, patch;
    const float *mean, *std;
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

/* A value that somebody may want to look at: what, and of which layer. */
typedef struct graph_mark_entry {
    const char *name;
    int layer;
    value v;
} graph_mark_entry;

typedef struct graph {
    arena *memory;
    const kernels *k;  /* what it will run on */
    dtype real;        /* k->real */
    dtype weight_type; /* frozen matrices: real, DTYPE_BF16, or DTYPE_I8: those that are `quantised`, the others bf16 */
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
    /* What stands in place of a parameter, while what asks for it is built; NULL: the parameter itself does. */
    param *(*override)(const void *context, param *p);
    const void *override_context;
    uint32_t pass; /* number of the pass that is being built: choices draw anew in each */
} graph;

/* For the kernels of a set, which lives longer. */
graph *graph_new(const kernels *k, dtype weight_type);
void graph_free(graph *g); /* parameters are not the graph's own */

/* ---- building: every function returns the new value ---- */
value graph_input(graph *g, const char *name, dtype type, int64_t rows, int64_t cols);
value graph_param(graph *g, param *p); /* the same value for the same parameter */

/* x W^T + b; W [n, k]. Only rows [first, first + count) of W and b are used when count > 0. b may be NULL. */
value graph_linear(graph *g, value x, param *w, param *b, int64_t first, int64_t count);
value graph_activation(graph *g, value x, activation act);
value graph_layernorm(graph *g, value x, param *w, param *b, double eps);
/* Normalises `groups` slices of `width` columns that start at column `offset`; the result has groups * width columns.
 */
value graph_layernorm_groups(graph *g, value x, param *w, param *b, double eps, int64_t offset, int64_t groups,
                             int64_t width);
/* Heads of head_dim columns each, which start at the given column of q, k and v, often columns of the same value that
 * do not overlap. Result: q's rows, heads * head_dim columns. */
value graph_attention(graph *g, value q, int64_t q_offset, value k, int64_t k_offset, value v, int64_t v_offset,
                      int64_t heads, int64_t head_dim, double scale);
value graph_add(graph *g, value a, value b);
value graph_add_scaled(graph *g, value a, value b, double factor);   /* a + factor * b; also of losses */
value graph_add_columns(graph *g, value a, value b, int64_t offset); /* b is added at a's columns from offset */
value graph_add_table(graph *g, value x, param *table);              /* table [rows, cols], the same for every sample */
value graph_affine(graph *g, value x, param *gamma, param *beta,
                   double factor); /* x * gamma * factor + beta; NULL: 1 and 0. gamma may be one number */
value graph_dropout(graph *g, value x, double rate);   /* rate 0: x itself */
value graph_drop_path(graph *g, value x, double rate); /* whole samples; rate 0: x itself */
value graph_broadcast(graph *g, param *rows);          /* a parameter [rows, cols] for every sample */
value graph_insert_tokens(graph *g, value x, value rows,
                          int64_t at); /* rows of each sample are inserted in front of x's row `at` */
value graph_replace_tokens(graph *g, value x, value rows, int64_t at); /* ... take the place of x's rows from `at` */
value graph_select_tokens(graph *g, value x, int64_t first, int64_t count);
value graph_mean_tokens(graph *g, value x, int64_t first, int64_t count);
value graph_patchify(graph *g, value pixels, int64_t height, int64_t width, int64_t channels, int64_t patch,
                     const float *mean, const float *std);
/* act(x) = P(x) / Q(x): numerator [6], denominator [4]; safe: Q = 1 + |sum b_j x^j|, else Q = 1 + sum |b_j x^j| (arXiv
 * 2205.01549). */
value graph_rational(graph *g, value x, param *numerator, param *denominator, bool safe);
/* x times the second of softmax((logits + Gumbel noise of the sample) / temperature); logits [2]. The temperature falls
 * from `high` exponentially by epoch and is `low` from half of the run on. */
value graph_gate(graph *g, value x, param *logits, double high, double low);
/* x as part n of `parts`: row r becomes row r * parts + n of a value with `parts` times the rows. `others`: the value
 * with the parts before it, NO_VALUE for n = 0. */
value graph_stack(graph *g, value others, value x, int64_t n, int64_t parts);
/* Row r: sum over n of softmax_n(q[r] . k[r * parts + n]) v[r * parts + n]. The softmax itself is graph_mix_weights(g,
 * mix): [rows, parts]. */
value graph_mix(graph *g, value q, value k, value v, int64_t parts);
value graph_mix_weights(const graph *g, value mix);
/* Losses, as graph_cross_entropy. Half the sum of the Kullback-Leibler divergences between two passes' predictions in
 * both directions, mean over the batch, each with its target held constant in the gradient; the mean of the squared
 * differences of two values; the sum of the squared differences of a matrix and the identity. */
value graph_consistency(graph *g, value logits_a, value logits_b);
value graph_distance(graph *g, value a, value b);
value graph_identity_distance(graph *g, param *matrix);
value graph_cross_entropy(graph *g, value logits, value labels,
                          double smoothing); /* mean over the batch: not batched, [1, 1] */
void graph_keep(graph *g, value v);
/* Whether anything in it draws random numbers, the choice among parameters included. */
bool graph_draws(const graph *g);
/* Lists a value among g->marks under a name (a literal). */
void graph_mark(graph *g, value v, const char *name, int layer);

/* Call once after building: fuses, chooses types, marks what needs gradients and what is fixed. */
void graph_finish(graph *g);

/* The values at which everything fixed ends: fixed results that operations needed for `wanted` read together with
 * something that is not fixed. Returns their number (at most `room` are written); 0 when an input is read by something
 * not fixed (nothing can be cached) or when nothing is. */
int graph_fixed_frontier(const graph *g, value wanted, value *out, int room);

/* Sets needed[v] for every value that is computed or read on the way to `wanted`; needed: [value_count]. */
void graph_mark_needed(const graph *g, value wanted, bool *needed);

/* Writes down the computation of `wanted`: operations, attributes, shapes, types, names of parameters, each of which is
 * also visited, in a fixed order. Two graphs that write the same compute the same from the same inputs and parameters,
 * whatever else is in them. False: out of memory, or `out` failed. */
typedef void (*graph_visit_param)(void *context, const param *p);
bool graph_describe(const graph *g, const value *wanted, int count, FILE *out, graph_visit_param visit, void *context);

/* The type in which a matrix parameter is packed: frozen backbone weights follow the graph's weight_type, all others
 * are real. */
dtype graph_weight_type(const graph *g, const param *p);
/* Whether data gradients pass through it by panels of its transpose: int8 weights have one scale for each column of a
 * product, and each direction its own. */
bool graph_transposes(const graph *g, const param *p);

/* Rows and bytes of a value for `batch` samples. */
int64_t value_rows(const graph *g, value v, int64_t batch);
/* Elements from row to row of a value, or of its gradient, stored as that type: its columns, or the device's
 * quantised_stride of them. */
int64_t value_stride(const graph *g, value v, dtype stored);
size_t value_bytes(const graph *g, value v, int64_t batch);

#endif
