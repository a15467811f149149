/* What a method declared for an adapter, as its plan() did by the functions of adapter.h. */
#ifndef INLAY_ADAPTERS_ADAPTER_IMPL_H
#define INLAY_ADAPTERS_ADAPTER_IMPL_H

#include "adapters/adapter.h"
#include "base/hash_index.h"

/* target += function(source). Source and target may be the same site. Where the target has fewer tokens (only the class
 * token is needed), only those of the source are read. */
typedef struct edge {
    site from, to;
    adapter_function function;
    const void *context;
} edge;

/* site = function(site): scale and shift, token insertion. */
typedef struct transform {
    site at;
    adapter_function function;
    const void *context;
} transform;

struct adapter_declared {
    adapter_param *params;
    int param_count, param_capacity;
    hash_index by_name;    /* params by their names */
    hash_index by_address; /* params, and what they stand in place of */
    edge *edges;
    int edge_count, edge_capacity;
    transform *transforms;
    int transform_count, transform_capacity;
};

#endif
