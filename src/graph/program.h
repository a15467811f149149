/* A program: part of a graph, planned for one device and a largest batch. All memory is laid out when it is made;
 * running allocates nothing.
 *
 * A batch is run in slices, a few samples at a time through the whole program, so that what one operation writes is
 * still in the cache when the next one reads it, and so that activations of a slice only are kept for the backward
 * pass. How many depends on nothing but the graph and whether there is a backward pass. A loss is a sum over samples
 * and goes in slices as well; the gradients of the slices add up. */
#ifndef INLAY_GRAPH_PROGRAM_H
#define INLAY_GRAPH_PROGRAM_H

#include "graph/graph.h"

/* What random operations draw from. */
typedef struct step_info {
    uint64_t seed;
    uint32_t step;
    int epoch, epochs; /* for what changes with the epoch: completed ones, and all of the run */
} step_info;

typedef struct program program;

typedef struct program_request {
    device *dev;
    int64_t max_batch;
    int64_t
        slice; /* samples that run at a time; 0: by the graph's longest value, and with a backward pass its largest */
    bool backward;       /* wanted[0] is a loss: also plan and run its gradient */
    const value *wanted; /* values that must be there after a run */
    int wanted_count;
    const value
        *given; /* values that the caller supplies; nothing below them runs. Inputs of the graph count as given */
    int given_count;
    bool timed;     /* measure what each operation takes: program_times */
    program *share; /* another program, of the same device, that never runs while this one's values are in use: both
                       live in the same memory. NULL: none */
} program_request;

/* What programs are going to take besides their activations, found without taking any of it. Of several programs, a
 * form of a parameter that they share counts once. Zeroed at first. */
typedef struct program_needs {
    size_t weights, training;    /* training: gradients and the optimiser's moments */
    struct counted_forms *forms; /* what was counted */
} program_needs;

/* Adds what such a program needs to `n`, and returns the bytes of its activations (SIZE_MAX: more than there can
 * be). */
size_t program_measure(program_needs *n, graph *g, const program_request *request);
void program_needs_free(program_needs *n);

inlay_status program_new(program **out, graph *g, const program_request *request, inlay_error *err);
void program_free(program *p); /* NULL accepted */

/* Where the host writes the batch of an input: its samples one after the other, in the input's type. What was written
 * is on the device when the program runs next. */
void *program_stage(program *p, value input);
/* out [count samples, rows, cols] = a wanted, given or input value of the first `count` samples, in f32. */
void program_read(const program *p, value v, int64_t count, float *out);
/* Where the bytes of a given, wanted or input value live on the device, for `batch` samples. */
mat program_value(program *p, value v, int64_t batch);
/* The gradient of a value after program_step; data NULL when none was computed. Only values whose gradient was asked to
 * be kept (graph_keep) still hold it. */
mat program_grad(program *p, value v, int64_t batch);

void program_forward(program *p, int64_t batch, const step_info *step);
/* Zeroes the gradients of the parameters, then runs the forward and the backward pass. */
void program_step(program *p, int64_t batch, const step_info *step);

int64_t program_slice(const program *p);               /* samples that it runs at a time */
size_t program_memory(const program *p);               /* bytes of the arena and workspace */
double program_flops(const program *p, bool backward); /* multiply-adds times two, for one sample */

/* What one operation took in all runs so far: forward, and backward with the clearing of gradients. */
typedef struct program_time {
    const char *name;
    int64_t rows, cols,
        depth; /* of its result, for one sample, and columns of its first input, of pixels: of their patches */
    double seconds[2], operations[2]; /* operations: multiply-adds times two */
} program_time;

/* One for each operation that the program runs, in their order; returns their number (at most `room` are written), 0 if
 * the request was not `timed`. */
int program_times(const program *p, program_time *out, int room);

int program_params(const program *p, param **out,
                   int room); /* trainable parameters that get a gradient; those of a choice all count */

#endif
