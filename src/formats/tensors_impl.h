/* What the readers of single tensor files share. */
#ifndef INLAY_FORMATS_TENSORS_IMPL_H
#define INLAY_FORMATS_TENSORS_IMPL_H

#include "formats/tensors.h"

/* Tensors as they are read, before they are sorted for look-up. */
typedef struct tensor_list {
    arena *memory;
    tensor_view *views; /* malloc'd */
    int count, capacity;
    const char **metadata; /* pairs key, value; malloc'd */
    int metadata_count, metadata_capacity;
    void **blocks; /* unpacked tensors; each freed with memory_free */
    int block_count, block_capacity;
} tensor_list;

/* Parse a whole file in memory; views point into it (npz: deflated members into blocks). `path` is for messages. */
inlay_status safetensors_parse(tensor_list *list, const unsigned char *data, size_t size, const char *path,
                               inlay_error *err);
inlay_status npz_parse(tensor_list *list, const unsigned char *data, size_t size, const char *path, inlay_error *err);
void tensor_list_clear(tensor_list *list); /* frees all but `memory` */

/* The most values of a tensor: they take fewer than 2^63 bits, whatever their type. */
#define TENSOR_MOST_VALUES ((int64_t)1 << 56)
/* Product of dims, or -1 when it, or one of them, is above TENSOR_MOST_VALUES. */
int64_t tensor_count(int ndim, const int64_t *dims);

#endif
