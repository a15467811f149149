/* Tensor files: safetensors (single or sharded) and NumPy .npz, read through one interface; safetensors written. */
#ifndef INLAY_FORMATS_TENSORS_H
#define INLAY_FORMATS_TENSORS_H

#include "base/dtype.h"
#include "base/file.h"

#define TENSOR_MAX_DIMS 8

typedef struct tensor_view {
    const char *name;
    dtype type;            /* DTYPE_OTHER: a type that we do not compute with; size still known */
    const char *type_name; /* as the file has it */
    int ndim;
    int64_t dims[TENSOR_MAX_DIMS];
    int64_t count;    /* product of dims */
    const void *data; /* C order, little endian; points into the file's map (or the unpacked .npz); may be unaligned */
    const char *file; /* path of the file that holds it */
} tensor_view;

typedef struct tensor_set tensor_set;

/* Opens *.safetensors, *.safetensors.index.json (sharded) or *.npz, told apart by content. The file stays mapped until
 * tensor_set_close. Errors name the file and the tensor or key. */
inlay_status tensor_set_open(tensor_set **out, const char *path, inlay_error *err);
void tensor_set_close(tensor_set *set); /* NULL accepted */
int tensor_set_count(const tensor_set *set);
const tensor_view *tensor_set_at(const tensor_set *set, int index);          /* in file order */
const tensor_view *tensor_set_find(const tensor_set *set, const char *name); /* NULL when absent */
const char *tensor_set_metadata(const tensor_set *set,
                                const char *key); /* safetensors __metadata__; NULL when absent */
/* Drops the mapped pages from memory (they come back on access). */
void tensor_set_release(const tensor_set *set);
/* Whether an address lies in a mapped file (not in an unpacked tensor). */
bool tensor_set_maps(const tensor_set *set, const void *data);
/* sha256 (64 hex digits) that identifies the weights: of the file; of a sharded checkpoint, of its shards' digests in
 * name order. */
inlay_status tensor_set_sha256(const tensor_set *set, char hex[65], inlay_error *err);
/* Total bytes of the files on disk. */
size_t tensor_set_bytes(const tensor_set *set);

/* Writes a safetensors file atomically: tensors sorted as the reference implementation does (dtype size descending,
 * then name), header padded to 8 bytes. metadata: pairs key, value, ..., NULL; "format":"pt" is always added. Only
 * name, type, ndim, dims and data of each view are read. */
inlay_status safetensors_write(const char *path, const tensor_view *tensors, int count, const char *const *metadata,
                               inlay_error *err);

#endif
