/* How fast a model trains and answers on this machine: on pixels of noise, so that no file is read meanwhile. */
#ifndef INLAY_TRAIN_MEASURE_H
#define INLAY_TRAIN_MEASURE_H

#include "infer/model.h"

typedef struct measure_request {
    device *dev;
    backbone *b;
    adapter *a; /* fresh; it is trained */
    precision prec;
    int64_t batch;
    int runs;                    /* the best of so many counts; one more warms up */
    budget *room;                /* what it may take; NULL: any */
    bool profile;                /* also what each operation takes */
    bool (*stop)(void *context); /* may be NULL; asked between runs. true: give up with INLAY_ERR_INTERRUPTED */
    void *context;
} measure_request;

typedef struct measured_pass {
    double images_per_second, gflops; /* gflops: 1e9 floating-point operations a second */
    uint64_t peak_memory;             /* of the process meanwhile, in bytes; 0: unknown */
    program_time *times; /* of all runs, those alike in name and shape together; owned, freed by measured_free */
    int time_count;
    int64_t images; /* to which `times` belong */
} measured_pass;

typedef struct measured {
    double peak_gflops;                /* of the processor on registers, in this precision */
    measured_pass training, inference; /* `batch` images at a time; training: forward, backward and optimiser */
    measured_pass single;              /* inference, one image alone */
} measured;

/* Measures training and inference. out: given back with measured_free, also after an error. */
inlay_status measure(measured *out, const measure_request *request, inlay_error *err);
void measured_free(measured *m);

#endif
