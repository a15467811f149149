/* What graphs keep of a parameter: the forms of its value, and whether a backward pass reached it. */
#ifndef INLAY_GRAPH_PARAM_IMPL_H
#define INLAY_GRAPH_PARAM_IMPL_H

#include <pthread.h>
#include <stdatomic.h>

#include "graph/param.h"

/* What kernels read of rows [first, first + count) of a matrix, or of all of it. */
typedef enum form_kind { FORM_PLAIN, FORM_PANELS, FORM_TRANSPOSED } form_kind;

typedef struct param_form {
    const kernels *k; /* whose it is */
    form_kind kind;
    int64_t first, count;
    packed panels;   /* of FORM_PLAIN: data is real [count of the parameter] */
    int64_t version; /* param_state.version when it was made; a weight's stays 0 */
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

struct param_state {
    const param_choice *choice; /* then nothing else is used: the parameter stands for one of several */
    bool mapped;                /* param_set_source */
    bool touched;               /* param_touched */
    frozen_weight frozen;       /* forms of the source, while there is no data */
    int64_t version;            /* grows with every change of data */
    param_form *forms;          /* of data, renewed when they are older */
};

#endif
