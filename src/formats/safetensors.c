/* safetensors: u64 length, JSON header, data (github.com/huggingface/safetensors, format description). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "formats/tensors_impl.h"
#include "base/json.h"

#define HEADER_LIMIT 100000000u

static const struct {
    const char *name;
    dtype type;
    int bits;
} types[] = {
    {"F32", DTYPE_F32, 32},          {"BF16", DTYPE_BF16, 16},    {"F16", DTYPE_F16, 16},
    {"F64", DTYPE_F64, 64},          {"U8", DTYPE_U8, 8},         {"I32", DTYPE_I32, 32},
    {"I64", DTYPE_I64, 64},          {"BOOL", DTYPE_OTHER, 8},    {"I8", DTYPE_OTHER, 8},
    {"I16", DTYPE_OTHER, 16},        {"U16", DTYPE_OTHER, 16},    {"U32", DTYPE_OTHER, 32},
    {"U64", DTYPE_OTHER, 64},        {"C64", DTYPE_OTHER, 64},    {"F8_E5M2", DTYPE_OTHER, 8},
    {"F8_E4M3", DTYPE_OTHER, 8},     {"F8_E8M0", DTYPE_OTHER, 8}, {"F8_E4M3FNUZ", DTYPE_OTHER, 8},
    {"F8_E5M2FNUZ", DTYPE_OTHER, 8}, {"F4", DTYPE_OTHER, 4},      {"F6_E2M3", DTYPE_OTHER, 6},
    {"F6_E3M2", DTYPE_OTHER, 6},
};

int64_t tensor_count(int ndim, const int64_t *dims)
{
    int64_t count = 1;

    for (int i = 0; i < ndim; i++) {
        if (dims[i] < 0 || dims[i] > TENSOR_MOST_VALUES || (dims[i] > 0 && count > TENSOR_MOST_VALUES / dims[i]))
            return -1;
        count *= dims[i];
    }
    return count;
}

void tensor_list_clear(tensor_list *list)
{
    for (int i = 0; i < list->block_count; i++)
        memory_free(list->blocks[i]);
    free(list->blocks);
    free(list->metadata);
    free(list->views);
    *list = (tensor_list){.memory = list->memory};
}

/* Reads one entry of the header; *begin and *end are its offsets. */
static inlay_status parse_entry(tensor_list *list, const char *name, const json_t *entry, const char *path,
                                size_t *begin, size_t *end, inlay_error *err)
{
    const char *type = json_string_value(json_object_get(entry, "dtype"));
    const json_t *shape = json_object_get(entry, "shape"), *offsets = json_object_get(entry, "data_offsets");
    tensor_view view = {.name = arena_strdup(list->memory, name), .file = path};
    int64_t count;
    int bits = 0;

    if (!type || !json_is_array(shape) || !json_is_array(offsets) || json_array_size(offsets) != 2 ||
        !json_is_integer(json_array_get(offsets, 0)) || !json_is_integer(json_array_get(offsets, 1)))
        FAIL(err, INLAY_ERR_FORMAT, "%s: tensor '%s': expected dtype, shape and data_offsets", path, name);
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (strcmp(types[i].name, type) == 0) {
            view.type = types[i].type;
            view.type_name = types[i].name;
            bits = types[i].bits;
        }
    if (!bits)
        FAIL(err, INLAY_ERR_FORMAT, "%s: tensor '%s': unknown dtype '%s'", path, name, type);
    if (json_array_size(shape) > TENSOR_MAX_DIMS)
        FAIL(err, INLAY_ERR_UNSUPPORTED, "%s: tensor '%s' has %zu dimensions, at most %d are supported", path, name,
             json_array_size(shape), TENSOR_MAX_DIMS);
    view.ndim = (int)json_array_size(shape);
    for (int i = 0; i < view.ndim; i++) {
        const json_t *item = json_array_get(shape, (size_t)i);
        if (!json_is_integer(item) || json_integer_value(item) < 0)
            FAIL(err, INLAY_ERR_FORMAT, "%s: tensor '%s': shape must hold non-negative integers", path, name);
        view.dims[i] = json_integer_value(item);
    }
    count = tensor_count(view.ndim, view.dims);
    if (count < 0)
        FAIL(err, INLAY_ERR_FORMAT, "%s: tensor '%s': the product of its shape overflows", path, name);
    if (json_integer_value(json_array_get(offsets, 0)) < 0 ||
        json_integer_value(json_array_get(offsets, 1)) < json_integer_value(json_array_get(offsets, 0)))
        FAIL(err, INLAY_ERR_FORMAT, "%s: tensor '%s': data_offsets must rise", path, name);
    *begin = (size_t)json_integer_value(json_array_get(offsets, 0));
    *end = (size_t)json_integer_value(json_array_get(offsets, 1));
    view.count = count;
    if ((count * bits) % 8 != 0 || (size_t)(count * bits / 8) != *end - *begin)
        FAIL(err, INLAY_ERR_FORMAT, "%s: tensor '%s': shape and dtype take %lld bytes, data_offsets %zu", path, name,
             (long long)(count * bits / 8), *end - *begin);
    ARRAY_PUSH(list->views, list->count, list->capacity, view);
    return INLAY_OK;
}

typedef struct span {
    size_t begin, end;
    int index;
} span;

static int by_begin(const void *a, const void *b)
{
    const span *x = a, *y = b;

    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    return x->end != y->end ? (x->end < y->end ? -1 : 1) : x->index - y->index;
}

static inlay_status parse_header(tensor_list *list, json_t *root, const unsigned char *data, size_t size,
                                 const char *path, inlay_error *err)
{
    span *spans = calloc(json_object_size(root) + 1, sizeof *spans);
    tensor_view *sorted = calloc(json_object_size(root) + 1, sizeof *sorted);
    inlay_status status =
        spans && sorted ? INLAY_OK : error_set(err, INLAY_ERR_NOMEM, "out of memory reading '%s'", path);
    int base = list->count, count; /* tensors of earlier shards stay as they are */
    size_t at = 0;
    const char *key;
    json_t *item;

    if (status == INLAY_OK) {
        json_object_foreach(root, key, item)
        {
            if (status != INLAY_OK)
                break;
            if (strcmp(key, "__metadata__") == 0) {
                const char *name;
                json_t *text;
                json_object_foreach(item, name, text)
                {
                    if (!json_is_string(text)) {
                        status = error_set(err, INLAY_ERR_FORMAT, "%s: __metadata__ key '%s' is not text", path, name);
                        break;
                    }
                    ARRAY_PUSH(list->metadata, list->metadata_count, list->metadata_capacity,
                               arena_strdup(list->memory, name));
                    ARRAY_PUSH(list->metadata, list->metadata_count, list->metadata_capacity,
                               arena_strdup(list->memory, json_string_value(text)));
                }
                continue;
            }
            count = list->count - base;
            spans[count].index = list->count;
            status = parse_entry(list, key, item, path, &spans[count].begin, &spans[count].end, err);
        }
    }
    count = list->count - base;
    if (status == INLAY_OK && count)
        qsort(spans, (size_t)count, sizeof *spans, by_begin);
    for (int i = 0; status == INLAY_OK && i < count; i++) {
        const char *name = list->views[spans[i].index].name;
        if (spans[i].begin != at)
            status = error_set(
                err, INLAY_ERR_FORMAT,
                "%s: tensor '%s' begins at byte %zu of the data, expected %zu: holes and overlaps are not allowed",
                path, name, spans[i].begin, at);
        else if (spans[i].end > size)
            status =
                error_set(err, INLAY_ERR_FORMAT,
                          "%s: tensor '%s' ends at byte %zu of the data, which has only %zu: the file is truncated",
                          path, name, spans[i].end, size);
        at = spans[i].end;
        sorted[i] = list->views[spans[i].index];
        sorted[i].data = data + spans[i].begin;
    }
    if (status == INLAY_OK && at != size)
        status = error_set(err, INLAY_ERR_FORMAT, "%s: %zu bytes of data, the header describes %zu", path, size, at);
    if (status == INLAY_OK && count)
        memcpy(list->views + base, sorted, (size_t)count * sizeof *sorted);
    free(sorted);
    free(spans);
    return status;
}

inlay_status safetensors_parse(tensor_list *list, const unsigned char *data, size_t size, const char *path,
                               inlay_error *err)
{
    uint64_t length = 0;
    json_error_t where = {.line = -1};
    json_t *root;
    inlay_status status;

    if (size < 8)
        FAIL(err, INLAY_ERR_FORMAT, "%s: not a safetensors file: %zu bytes, at least 8 are expected", path, size);
    for (int i = 7; i >= 0; i--)
        length = length << 8 | data[i];
    if (length > HEADER_LIMIT)
        FAIL(err, INLAY_ERR_FORMAT,
             "%s: not a safetensors file: its header would have %llu bytes, at most %u are allowed", path,
             (unsigned long long)length, HEADER_LIMIT);
    if (length > size - 8)
        FAIL(err, INLAY_ERR_FORMAT, "%s: truncated: the header has %llu bytes, the file only %zu behind its length",
             path, (unsigned long long)length, size - 8);
    if (length == 0 || data[8] != '{')
        FAIL(err, INLAY_ERR_FORMAT, "%s: not a safetensors file: the header does not begin with '{'", path);
    root = json_loadb((const char *)data + 8, (size_t)length, JSON_REJECT_DUPLICATES, &where);
    if (!root && where.line < 0)
        FAIL(err, INLAY_ERR_NOMEM, "out of memory reading '%s'", path);
    if (!root)
        FAIL(err, INLAY_ERR_FORMAT, "%s: header: line %d, column %d: %s", path, where.line, where.column, where.text);
    status = json_is_object(root) ? parse_header(list, root, data + 8 + length, size - 8 - (size_t)length, path, err)
                                  : error_set(err, INLAY_ERR_FORMAT, "%s: the header is not a JSON object", path);
    json_decref(root);
    return status;
}

/* ---- writing ---- */

static int by_size_then_name(const void *a, const void *b)
{
    const tensor_view *x = *(const tensor_view *const *)a, *y = *(const tensor_view *const *)b;
    size_t sx = dtype_size(x->type), sy = dtype_size(y->type);

    return sx != sy ? (sx < sy ? 1 : -1) : strcmp(x->name, y->name);
}

/* The header: {"__metadata__":{...},"name":{"dtype":..,"shape":[..],"data_offsets":[b,e]},...}, filled with spaces to a
 * multiple of 8. */
static char *make_header(const tensor_view *const *order, int count, const char *const *metadata)
{
    json_t *root = json_object(), *meta = json_object();
    int64_t at = 0;
    int missing = 0; /* names and texts that JSON cannot hold */
    char *text, *padded;
    size_t length;

    json_object_set_new(meta, "format", json_string("pt"));
    for (; metadata && metadata[0]; metadata += 2)
        missing += json_object_set_new(meta, metadata[0], json_string(metadata[1])) != 0;
    json_object_set_new(root, "__metadata__", meta);
    for (int i = 0; i < count; i++) {
        json_t *shape = json_array();
        int64_t bytes = tensor_count(order[i]->ndim, order[i]->dims) * (int64_t)dtype_size(order[i]->type);
        for (int d = 0; d < order[i]->ndim; d++)
            json_array_append_new(shape, json_integer(order[i]->dims[d]));
        missing +=
            json_object_set_new(root, order[i]->name,
                                json_pack("{s:s, s:o, s:[I,I]}", "dtype", dtype_name(order[i]->type), "shape", shape,
                                          "data_offsets", (json_int_t)at, (json_int_t)at + (json_int_t)bytes)) != 0;
        at += bytes;
    }
    text = missing ? NULL : json_dumps(root, JSON_COMPACT | JSON_PRESERVE_ORDER);
    json_decref(root);
    length = text ? strlen(text) : 0;
    padded = text ? malloc(length + 9) : NULL;
    if (padded) {
        memcpy(padded, text, length);
        memset(padded + length, ' ', 8);
        padded[(length + 7) / 8 * 8] = '\0';
    }
    free(text);
    return padded;
}

inlay_status safetensors_write(const char *path, const tensor_view *tensors, int count, const char *const *metadata,
                               inlay_error *err)
{
    const tensor_view **order = calloc((size_t)count + 1, sizeof *order);
    unsigned char length_bytes[8];
    uint64_t length;
    file_writer w;
    char *header;
    inlay_status status;

    for (int i = 0; order && i < count; i++)
        order[i] = &tensors[i];
    if (order)
        qsort(order, (size_t)count, sizeof *order, by_size_then_name);
    header = order ? make_header(order, count, metadata) : NULL;
    if (!header) {
        free(order);
        FAIL(err, INLAY_ERR_NOMEM, "'%s' has no header: out of memory, or a name in it is not UTF-8", path);
    }
    status = file_begin(&w, path, err);
    if (status == INLAY_OK) {
        length = strlen(header);
        for (int i = 0; i < 8; i++)
            length_bytes[i] = (unsigned char)(length >> (8 * i));
        /* short writes are seen by ferror in file_commit */
        fwrite(length_bytes, 1, sizeof length_bytes, w.stream);
        fwrite(header, 1, (size_t)length, w.stream);
        for (int i = 0; i < count; i++)
            fwrite(order[i]->data, dtype_size(order[i]->type), (size_t)tensor_count(order[i]->ndim, order[i]->dims),
                   w.stream);
        status = file_commit(&w, err);
    }
    free(header);
    free(order);
    return status;
}
