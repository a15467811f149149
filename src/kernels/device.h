/* A device that runs: a row of the table of kernels, bound to a thread pool and to scratch memory for each thread. */
#ifndef INLAY_KERNELS_DEVICE_H
#define INLAY_KERNELS_DEVICE_H

#include "base/budget.h"
#include "kernels/kernels.h"

typedef struct device {
    const kernels *k;
    compute c;
} device;

/* threads 0: all processors. `k` NULL: kernels_choose. */
inlay_status device_open(device *d, const kernels *k, int threads, inlay_error *err);
void device_close(device *d);
/* Sets the part of its threads in a budget. */
void device_plan(const device *d, budget *room);

/* Copies between host f32 [count] and a device array of reals. */
void device_get_f32(const device *d, float *out, const void *array, int64_t count);
void device_set_f32(const device *d, void *array, const float *values, int64_t count);

#endif
