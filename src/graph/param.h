/* Parameters: named tensors of a backbone, an adapter or a head.
 *
 * A frozen value is a weight: bytes of a checkpoint or an adapter's file, never changed, and the forms that kernels
 * want of them (packed panels, plain reals). Forms are made when they are first asked for and shared by every graph,
 * device and thread that reads the weight. A parameter that is trained, or whose value was set, has a value of its own
 * on the device, and a gradient; what an optimiser keeps for it is the optimiser's. A parameter of an adapter may stand
 * in place of a backbone's while a graph is built (graph_override): so nothing of a backbone is ever written. */
#ifndef INLAY_GRAPH_PARAM_H
#define INLAY_GRAPH_PARAM_H

#include "base/arena.h"
#include "kernels/device.h"

#define PARAM_MAX_DIMS 4

typedef struct param {
    const char *name;
    int ndim;
    int64_t dims[PARAM_MAX_DIMS], count; /* matrices: rows = dims[0], columns = count / dims[0] */
    bool trainable;
    bool exact;         /* adapters and heads: never rounded to bf16 */
    bool quantised;     /* int8 precision is for this matrix, while it is frozen; both its sides are below INT8_DEPTH */
    const void *source; /* bytes of its frozen value, [count] of source_type; NULL: zeros. Set by param_set_source */
    dtype source_type;
    void *data, *grad;         /* real [count] on the device: a value of its own; NULL until there is one */
    struct param_state *state; /* what belongs to the graph: param_impl.h */
} param;

/* A parameter in `memory`, without a value. dims: ndim of them. */
param *param_new(arena *memory, const char *name, int ndim, const int64_t *dims);
/* One that stands for any of `count` parameters of the same shape. */
param *param_choose(arena *memory, param *const *of, int count, uint32_t stream);
/* One in place of `p`, a frozen parameter: with its name, shape and source, and with a value of its own once it is
 * trained. */
param *param_override(arena *memory, const param *p);
/* Whether it stands for one of several: it has no value then. */
bool param_is_choice(const param *p);
/* Its frozen value: [count] of that type, kept by the caller as long as the parameter. mapped: in a mapped file, whose
 * pages are given back once they are packed. There must be no form of another one. */
void param_set_source(param *p, const void *source, dtype type, bool mapped);
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

/* Says that p->data was written by others than param_set: forms of it are made anew when they are asked for. */
void param_changed(param *p);
/* Whether the last backward pass had a gradient for it: a program sets it for those that it trains, and whoever runs
 * several in turns clears it before each step. */
bool param_touched(const param *p);
void param_set_touched(param *p, bool touched);

/* Copies between host f32 [count] and the parameter, whatever form it has. param_set needs p->data to exist. */
void param_get(const param *p, const device *d, float *out);
void param_set(param *p, const device *d, const float *values);

#endif
