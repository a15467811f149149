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

#include "graph/param.h"

typedef int value; /* index of a value in its graph */
#define NO_VALUE (-1)

typedef struct graph graph;

/* A value that somebody may want to look at: what, and of which layer. */
typedef struct graph_mark_entry {
    const char *name;
    int layer;
    value v;
} graph_mark_entry;

/* What stands in place of a parameter, or the parameter itself. */
typedef param *(*graph_override)(const void *context, param *p);

/* For the kernels of a set, which lives longer. weight_type: what frozen matrices are: k->real, DTYPE_BF16, or
 * DTYPE_I8: those that are `quantised`, the others bf16. */
graph *graph_new(const kernels *k, dtype weight_type);
void graph_free(graph *g); /* parameters are not the graph's own */

/* Memory that lives as long as the graph. */
arena *graph_arena(const graph *g);
/* Rows of a value for each sample (of the whole, when it has no batch), and its columns. */
int64_t graph_rows(const graph *g, value v);
int64_t graph_cols(const graph *g, value v);
/* What frozen matrices are: the weight_type of graph_new. */
dtype graph_frozen_type(const graph *g);
/* For what is built from here on: what stands in place of a parameter (NULL: it does itself), and the number of the
 * forward pass; choices draw anew in each. */
void graph_set_override(graph *g, graph_override override, const void *context);
void graph_set_pass(graph *g, uint32_t pass);
/* The stream of random numbers that the next operation which draws is going to have. Set back, what is built again
 * draws the same numbers, and is the same operation where it reads the same. */
uint32_t graph_stream(const graph *g);
void graph_set_stream(graph *g, uint32_t stream);

/* ---- building: every function returns the new value ---- */
value graph_input(graph *g, const char *name, dtype type, int64_t rows, int64_t cols);
/* An input that only losses read, and that is given with every batch whatever else is kept from an earlier pass. */
value graph_target(graph *g, const char *name, dtype type, int64_t rows, int64_t cols);
value graph_param(graph *g, param *p); /* the same value for the same parameter */
/* Whether that very parameter is in the graph; of a choice, in the pass that is being built. */
bool graph_has_param(const graph *g, const param *p);

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
value graph_multiply(graph *g, value a, value b);                    /* a * b, element by element */
value graph_affine(graph *g, value x, param *gamma, param *beta,
                   double factor); /* x * gamma * factor + beta; NULL: 1 and 0. gamma may be one number */
value graph_dropout(graph *g, value x, double rate);   /* rate 0: x itself */
value graph_drop_path(graph *g, value x, double rate); /* whole samples; rate 0: x itself */
value graph_broadcast(graph *g, param *rows);          /* a parameter [rows, cols] for every sample */
value graph_insert_tokens(graph *g, value x, value rows,
                          int64_t at); /* rows of each sample are inserted in front of x's row `at` */
value graph_replace_tokens(graph *g, value x, value rows,
                           int64_t at); /* rows of each sample take the place of x's from `at` on */
value graph_select_tokens(graph *g, value x, int64_t first, int64_t count);
value graph_mean_tokens(graph *g, value x, int64_t first, int64_t count);
/* Values of as many rows side by side: the columns of the first, then those of the next; at least one. */
value graph_concat(graph *g, const value *parts, int count);
/* Row t: rows [t * stride - padding, ... + width) of x side by side, zeros where x has none; (rows + 2 padding - width)
 * / stride + 1 rows. graph_linear of it, with a weight [n, width * cols], is torch.nn.functional.conv1d over the rows,
 * whose weight is [n, cols, width]. */
value graph_windows(graph *g, value x, int64_t width, int64_t stride, int64_t padding);
/* Rows of a table [n, cols] by their numbers, a DTYPE_I32 input with one for each row (torch.nn.functional.embedding).
 * Where there is no row of that number the result is zero, and nothing gets its gradient. */
value graph_gather(graph *g, param *table, value ids);
/* Rows that are the height * width points of a grid, line by line, become out_height * out_width of them: bilinear,
 * with align_corners=False (torch.nn.functional.interpolate); also to fewer, without a filter in front. */
value graph_upsample(graph *g, value x, int64_t height, int64_t width, int64_t out_height, int64_t out_width);
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
/* Mean over all samples and outputs of the binary cross-entropy of sigmoid(logits) and targets in 0..1, of the same
 * shape (torch.nn.BCEWithLogitsLoss). */
value graph_binary_cross_entropy(graph *g, value logits, value targets);
value graph_cross_entropy(graph *g, value logits, value labels,
                          double smoothing); /* mean over the batch: not batched, [1, 1] */
/* The sum over all rows of the batch of weight * cross-entropy(row), of rows as tokens are. labels: DTYPE_I32 input,
 * one a row; weights: DTYPE_F32 input, one a row. A row of weight 0 does not count, whatever its label: nothing is read
 * of it. With weight 1 / N at the N rows that count it is their mean (torch.nn.CrossEntropyLoss with ignore_index). */
value graph_row_cross_entropy(graph *g, value logits, value labels, value weights, double smoothing);
void graph_keep(graph *g, value v);
/* Whether anything in it draws random numbers, the choice among parameters included. */
bool graph_draws(const graph *g);
/* Lists a value among the graph's marks under a name (a literal). */
void graph_mark(graph *g, value v, const char *name, int layer);
/* All of them in the order in which they were made; [*count], until the next one is. */
const graph_mark_entry *graph_marks(const graph *g, int *count);

/* Call once after building: fuses, chooses types, marks what needs gradients and what is fixed. */
void graph_finish(graph *g);

/* The values at which everything fixed ends: fixed results that operations needed for `wanted` read together with
 * something that is not fixed. Returns their number (at most `room` are written); 0 when an input is read by something
 * not fixed (nothing can be cached) or when nothing is. */
int graph_fixed_frontier(const graph *g, value wanted, value *out, int room);

/* Writes down the computation of `wanted`: operations, attributes, shapes, types, names of parameters, each of which is
 * also visited, in a fixed order. Two graphs that write the same compute the same from the same inputs and parameters,
 * whatever else is in them. False: out of memory, or `out` failed. */
typedef void (*graph_visit_param)(void *context, const param *p);
bool graph_describe(const graph *g, const value *wanted, int count, FILE *out, graph_visit_param visit, void *context);

/* Rows and bytes of a value for `batch` samples. */
int64_t value_rows(const graph *g, value v, int64_t batch);
size_t value_bytes(const graph *g, value v, int64_t batch);

#endif
