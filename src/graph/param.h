/* Parameters: named tensors of a backbone, an adapter or a head. A frozen one is a view of checkpoint bytes plus
 * whatever form the kernels want (packed panels, or plain reals); a trainable one has its value, gradient and optimiser
 * state on the device. */
#ifndef INLAY_GRAPH_PARAM_H
#define INLAY_GRAPH_PARAM_H

#include "base/arena.h"
#include "kernels/device.h"

#define PARAM_MAX_DIMS 4

typedef struct param_panel {
    int64_t first, count; /* rows of the matrix that are packed here */
    bool transposed;      /* as columns: for y = x W */
    packed panels;
    int64_t version; /* param.version when they were packed */
    struct param_panel *next;
} param_panel;

/* One of several parameters of the same shape, drawn anew for each step and pass: an expert. Choices with the same
 * `site` draw the same number. */
typedef struct param_choice {
    struct param **of;
    int count;
    uint32_t stream;
} param_choice;

typedef struct param {
    const char *name;
    int ndim;
    int64_t dims[PARAM_MAX_DIMS], count; /* matrices: rows = dims[0], columns = count / dims[0] */
    bool trainable;
    bool exact;     /* adapters and heads: never rounded to bf16 */
    bool quantised; /* int8 precision is for this matrix, while it is frozen; both its sides are below INT8_DEPTH */
    bool decay;     /* weight decay applies */
    double peak_lr; /* a learning rate of its own, on the run's schedule; 0: the run's */
    const unsigned char *mask;  /* [count] on the device, 0: that value is never trained; NULL: all are */
    bool decay_masked;          /* weight decay reaches what the mask leaves out, too */
    bool touched;               /* the last backward pass had a gradient for it */
    int64_t updates;            /* steps of the optimiser */
    const param_choice *choice; /* then nothing below is used: the parameter stands for one of several */
    const void *source; /* checkpoint bytes, [count] of source_type, kept by the owner of the checkpoint; NULL once the
                           value is on the device only */
    dtype source_type;
    bool mapped;               /* source lies in a mapped file: its pages are given back once they are packed */
    void *data, *grad, *m, *v; /* real [count] on the device; NULL until needed. m, v: AdamW's moments */
    int64_t version;           /* grows with every change of data */
    param_panel *panels;
} param;

/* A parameter in `memory`, without a value. dims: ndim of them. */
param *param_new(arena *memory, const char *name, int ndim, const int64_t *dims);
/* One that stands for any of `count` parameters of the same shape. */
param *param_choose(arena *memory, param *const *of, int count, uint32_t stream);
void param_release(param *p, const device *d); /* frees the device memory */

/* Makes p->data exist: from `source`, else zero. A trainable parameter also gets grad, m and v. */
inlay_status param_materialise(param *p, const device *d, inlay_error *err);
/* The packed form of rows [first, first + count), or of their transpose, made or renewed when it is missing or older
 * than the value. */
inlay_status param_panels(param *p, device *d, int64_t first, int64_t count, dtype type, bool transposed,
                          const packed **out, inlay_error *err);

/* Copies between host f32 [count] and the parameter, whatever form it has. param_set needs p->data to exist. */
void param_get(const param *p, const device *d, float *out);
void param_set(param *p, const device *d, const float *values);

#endif
