/* Parameters: named tensors of a backbone, an adapter or a head.
 *
 * A frozen value is a weight: bytes of a checkpoint or an adapter's file, never changed, and the forms that kernels
 * want of them (packed panels, plain reals). Forms are made when they are first asked for and shared by every graph,
 * device and thread that reads the weight. A parameter that is trained, or whose value was set, has a value of its own
 * on the device, and a gradient; what an optimiser keeps for it is the optimiser's. A parameter of an adapter may stand
 * in place of a backbone's while a graph is built (graph_override): so nothing of a backbone is ever written. */
#ifndef INLAY_GRAPH_PARAM_H
#define INLAY_GRAPH_PARAM_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/arena.h"
#include "kernels/device.h"

#define PARAM_MAX_DIMS 4

/* What kernels read of rows [first, first + count) of a matrix, or of all of it. */
typedef enum form_kind { FORM_PLAIN, FORM_PANELS, FORM_TRANSPOSED } form_kind;

typedef struct param_form {
    const kernels *k; /* whose it is */
    form_kind kind;
    int64_t first, count;
    packed panels;   /* of FORM_PLAIN: data is real [count of the parameter] */
    int64_t version; /* param.version when it was made; a weight's stays 0 */
    struct param_form *next;
} param_form;

/* The forms of a frozen value; made by whoever asks first, while others wait. */
typedef struct frozen_weight {
    pthread_mutex_t making;
    _Atomic(param_form *) forms; /* only ever grows, in front */
} frozen_weight;

/* One of several parameters of the same shape, drawn anew for each step and pass: an expert. Choices with the same
 * `stream` draw the same number. */
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
    bool exact;                 /* adapters and heads: never rounded to bf16 */
    bool quantised;             /* int8 precision is for this matrix, while it is frozen; both its sides are below
                                   INT8_DEPTH */
    const param_choice *choice; /* then nothing below is used: the parameter stands for one of several */
    const void *source;         /* checkpoint bytes, [count] of source_type, kept by the owner of the checkpoint; NULL:
                                   zeros */
    dtype source_type;
    bool mapped;          /* source lies in a mapped file: its pages are given back once they are packed */
    frozen_weight frozen; /* forms of `source`, while there is no `data` */
    void *data, *grad;    /* real [count] on the device: a value of its own; NULL until there is one */
    int64_t version;      /* grows with every change of data */
    bool touched;         /* the last backward pass had a gradient for it */
    param_form *forms;    /* of `data`, renewed when they are older */
} param;

/* A parameter in `memory`, without a value. dims: ndim of them. */
param *param_new(arena *memory, const char *name, int ndim, const int64_t *dims);
/* One that stands for any of `count` parameters of the same shape. */
param *param_choose(arena *memory, param *const *of, int count, uint32_t stream);
/* One in place of `p`, a frozen parameter: with its name, shape and source, and with a value of its own once it is
 * trained. */
param *param_override(arena *memory, const param *p);
/* Frees all that there is of it on devices. */
void param_release(param *p, const device *d);
/* Frees the forms of its frozen value: when nobody reads them any more. */
void param_release_forms(param *p);

/* Gives it a value of its own, p->data: from `source`, else zero. A trainable parameter also gets a gradient. */
inlay_status param_materialise(param *p, const device *d, inlay_error *err);
/* Makes what param_values gives: a frozen one's plain form, else its own value. May be called by several threads. */
inlay_status param_prepare(param *p, const device *d, inlay_error *err);
/* Its reals [count] on the device; NULL: param_prepare was not called. */
void *param_values(const param *p, const device *d);
/* The packed form of rows [first, first + count), or of their transpose; made when it is missing, that of an own value
 * also when it is older than the value. Frozen ones may be asked for by several threads. */
inlay_status param_panels(param *p, device *d, int64_t first, int64_t count, dtype type, bool transposed,
                          const packed **out, inlay_error *err);

/* Copies between host f32 [count] and the parameter, whatever form it has. param_set needs p->data to exist. */
void param_get(const param *p, const device *d, float *out);
void param_set(param *p, const device *d, const float *values);

#endif
