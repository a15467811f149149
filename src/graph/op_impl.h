/* The table of operations. One row: an operation's name, its forward and backward pass in terms of device kernels, and
 * what the planner has to know about it. Adding an operation is one file op_<name>.c, one row in ops.def, and its
 * builder in graph.h. */
#ifndef INLAY_GRAPH_OP_IMPL_H
#define INLAY_GRAPH_OP_IMPL_H

#include "graph/graph_impl.h"
#include "graph/program.h"

/* What an operation sees while it runs. */
typedef struct op_run {
    program *p;
    const op_node *op;
    const kernels *k;
    compute *c;
    int64_t batch;                        /* samples that the operation works on */
    int64_t all;                          /* samples of the slice */
    int64_t first, total;                 /* which of the batch is the slice's first; samples of the batch */
    const int32_t *active, *active_there; /* in a branch: which samples, for the host and on the device; NULL: all */
    const step_info *step;
    unsigned char *workspace; /* op_desc.workspace bytes */
    const bool *accumulate;   /* backward: for each input, whether its gradient already holds something */
} op_run;

typedef struct op_desc {
    const char *name;
    kernel_set uses, backward_uses; /* kernels that each of its passes may call */
    void (*forward)(const op_run *r);
    void (*backward)(const op_run *r); /* NULL: no gradient passes through it */
    /* Which inputs (bit i) the backward pass reads, given the graph's needs_grad marks. NULL: none. */
    unsigned (*backward_reads)(const graph *g, const op_node *op);
    size_t (*workspace)(const graph *g, const op_node *op, int64_t batch, bool backward); /* NULL: none */
    double (*flops)(const graph *g, const op_node *op); /* of the forward pass, for one sample; NULL: negligible */
    bool (*random)(const op_node *op);                  /* draws random numbers; NULL: never */
    int inplace; /* input whose buffer the result may take over when nobody reads it later; -1: none */
    int passes;  /* input whose gradient is the result's gradient itself (same shape); -1: none */
    bool joint;  /* where input 0 is the input named by `passes`, too, the operation takes both parts of its gradient
                    together, in place on the result's gradient if it can */
    unsigned packed_inputs; /* parameters (bits) that it reads as panels */
    bool reads_packed;      /* its backward pass reads the reals of packed_inputs as well, also where they are frozen */
    bool keeps_for_backward; /* what it keeps beside its result is for the backward pass only */
    /* Whether the backward pass writes only some columns of this input's gradient, which is then cleared first. NULL:
     * never; the gradient of a value that stands at several inputs is cleared all the same, and each adds to it. An
     * operation that has this function writes other columns at each of its inputs. */
    bool (*partial)(const graph *g, const op_node *op, int input);
    /* For the choice of types in bf16 and int8: inputs (bits) that may be stored as bf16 because the operation rounds
     * them to bf16 anyway or reads them through its own f32 arithmetic; and whether the result may be bf16. */
    unsigned bf16_inputs;
    bool bf16_result;
    unsigned bf16_gradients; /* inputs (bits) whose gradient it can write as bf16; it must read its result's gradient in
                                either type */
} op_desc;

#define OP(name) extern const op_desc op_##name;
#include "graph/ops.def"
#undef OP
extern const op_desc *const op_table[];
enum {
#define OP(name) OP_##name,
#include "graph/ops.def"
#undef OP
    OP_COUNT
};

/* Matrices of the running batch. */
mat op_in(const op_run *r, int input);
mat op_out(const op_run *r);
mat op_aux(const op_run *r, int index);
mat op_out_grad(const op_run *r);
/* The gradient of an input: data NULL when it is not wanted. */
mat op_in_grad(const op_run *r, int input);
bool op_wants(const op_run *r, int input);
/* Parameters among the inputs: their reals, their gradient (NULL when frozen or absent). */
void *op_data(const op_run *r, int input);
void *op_param_grad(const op_run *r, int input);
const packed *op_panels(const op_run *r, int input);
/* The panels for the gradient of what is multiplied by them: those of the transpose where they are int8. */
const packed *op_gradient_panels(const op_run *r, int input);
const param *op_param(const op_run *r, int input);
/* Input 0, of pixels, as the matrix of its patches. */
patch_rows op_patches(const op_run *r);
/* Columns of the matrix that input 0 is read as: of its patches, or its own. */
int64_t op_depth(const graph *g, const op_node *op);
/* Adds the result's gradient to an input that op_desc.passes could not alias. */
void op_pass_grad(const op_run *r, int input);
/* In a branch: rows of samples that are not active pass from an input to the result, which is not its own memory. */
void op_copy_inactive(const op_run *r, int input);
/* Where the host writes what belongs at the begin of the workspace; and the workspace, when the first `size` bytes of
 * it are written. */
void *op_host_room(const op_run *r);
void *op_take_room(const op_run *r, size_t size);
/* One factor for each sample, 0 or 1 / (1 - rate), at the begin of the workspace (batch floats). */
const float *op_drop_path_mask(const op_run *r);
/* What the attributes rate, stream and scale ask for: one factor for each sample, at the begin of the workspace (batch
 * floats); NULL: all are 1. */
const float *op_row_factors(const op_run *r);
/* What they take at the begin of a workspace, so that reals may follow. */
size_t op_factor_bytes(int64_t batch);
/* op_desc.random of what draws by the attribute rate. */
bool op_drops(const op_node *op);
/* A column range of a matrix. */
mat mat_columns(mat m, int64_t first, int64_t count);

#endif
