/* NumPy .npz: a zip of .npy members, stored or deflated. The central directory tells sizes; each member's local header
 * only where its data begins. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "formats/tensors_impl.h"

#define MEMBER_LIMIT ((uint64_t)1 << 36)

typedef struct bytes {
    const unsigned char *data;
    size_t size;
} bytes;

static uint64_t little(const unsigned char *p, int count)
{
    uint64_t x = 0;

    while (count-- > 0)
        x = x << 8 | p[count];
    return x;
}

/* ---- .npy ---- */

/* The text behind 'key': in the Python dictionary of a header. */
static const char *field(const char *header, const char *key)
{
    char quoted[32];
    const char *at;

    snprintf(quoted, sizeof quoted, "'%s'", key);
    at = strstr(header, quoted);
    if (!at)
        return NULL;
    at += strlen(quoted);
    while (*at == ' ' || *at == ':')
        at++;
    return at;
}

static inlay_status npy_type(const char *descr, tensor_view *view, const char *path, inlay_error *err)
{
    static const struct {
        const char *descr;
        dtype type;
    } known[] = {{"'<f4'", DTYPE_F32}, {"'<f2'", DTYPE_F16}, {"'<f8'", DTYPE_F64},
                 {"'|u1'", DTYPE_U8},  {"'<i4'", DTYPE_I32}, {"'<i8'", DTYPE_I64}};

    for (size_t i = 0; descr && i < sizeof known / sizeof *known; i++)
        if (strncmp(descr, known[i].descr, strlen(known[i].descr)) == 0) {
            view->type = known[i].type;
            view->type_name = dtype_name(known[i].type);
            return INLAY_OK;
        }
    FAIL(err, INLAY_ERR_UNSUPPORTED, "%s: array '%s' has dtype %.16s, expected <f2, <f4, <f8, |u1, <i4 or <i8", path,
         view->name, descr ? descr : "(none)");
}

static inlay_status npy_shape(const char *text, tensor_view *view, const char *path, inlay_error *err)
{
    if (!text || *text++ != '(')
        FAIL(err, INLAY_ERR_FORMAT, "%s: array '%s': its header has no shape", path, view->name);
    while (*text && *text != ')') {
        char *end;
        if (*text == ' ' || *text == ',') {
            text++;
            continue;
        }
        if (view->ndim == TENSOR_MAX_DIMS || *text < '0' || *text > '9')
            FAIL(err, INLAY_ERR_FORMAT, "%s: array '%s': its shape cannot be read", path, view->name);
        view->dims[view->ndim++] = strtoll(text, &end, 10);
        text = end;
    }
    view->count = tensor_count(view->ndim, view->dims);
    if (view->count < 0)
        FAIL(err, INLAY_ERR_FORMAT, "%s: array '%s': the product of its shape overflows", path, view->name);
    return INLAY_OK;
}

static inlay_status parse_npy(tensor_list *list, const char *name, bytes b, const char *path, inlay_error *err)
{
    tensor_view view = {.name = name, .file = path};
    size_t begin, length;
    const char *order;
    char *header;
    inlay_status status;

    if (b.size < 12 || memcmp(b.data, "\x93NUMPY", 6) != 0)
        FAIL(err, INLAY_ERR_FORMAT, "%s: member '%s' is not an .npy array", path, name);
    begin = b.data[6] == 1 ? 10 : 12;
    length = (size_t)little(b.data + 8, b.data[6] == 1 ? 2 : 4);
    if (length > b.size - begin)
        FAIL(err, INLAY_ERR_FORMAT, "%s: array '%s' is truncated in its header", path, name);
    header = malloc(length + 1);
    if (!header)
        FAIL(err, INLAY_ERR_NOMEM, "out of memory reading '%s'", path);
    memcpy(header, b.data + begin, length);
    header[length] = '\0';
    order = field(header, "fortran_order");
    status = npy_type(field(header, "descr"), &view, path, err);
    if (status == INLAY_OK)
        status = npy_shape(field(header, "shape"), &view, path, err);
    if (status == INLAY_OK && view.ndim > 1 && order && strncmp(order, "True", 4) == 0)
        status = error_set(err, INLAY_ERR_UNSUPPORTED, "%s: array '%s' is stored in Fortran order", path, name);
    free(header);
    TRY(status);
    view.data = b.data + begin + length;
    if ((uint64_t)view.count * dtype_size(view.type) != b.size - begin - length)
        FAIL(err, INLAY_ERR_FORMAT, "%s: array '%s': its shape and dtype take %llu bytes, it has %zu", path, name,
             (unsigned long long)((uint64_t)view.count * dtype_size(view.type)), b.size - begin - length);
    ARRAY_PUSH(list->views, list->count, list->capacity, view);
    return INLAY_OK;
}

/* ---- zip ---- */

static inlay_status inflate_member(tensor_list *list, bytes zipped, uint64_t size, const char *name, const char *path,
                                   bytes *out, inlay_error *err)
{
    z_stream z = {0};
    void *block;
    uint64_t fed = 0, made = 0;
    int result = Z_OK;

    if (size > MEMBER_LIMIT || size / 1032 > zipped.size + 16) /* deflate cannot do better */
        FAIL(err, INLAY_ERR_FORMAT, "%s: member '%s' cannot unpack to %llu bytes", path, name,
             (unsigned long long)size);
    TRY(memory_alloc(&block, (size_t)size, name, err));
    ARRAY_PUSH(list->blocks, list->block_count, list->block_capacity, block);
    if (inflateInit2(&z, -MAX_WBITS) != Z_OK)
        FAIL(err, INLAY_ERR_NOMEM, "out of memory unpacking '%s'", path);
    while (result == Z_OK) {
        z.next_in = (unsigned char *)(uintptr_t)zipped.data + fed;
        z.avail_in = zipped.size - fed > 1u << 30 ? 1u << 30 : (unsigned)(zipped.size - fed);
        z.next_out = (unsigned char *)block + made;
        z.avail_out = size - made > 1u << 30 ? 1u << 30 : (unsigned)(size - made);
        result = inflate(&z, Z_NO_FLUSH);
        fed = (uint64_t)(z.next_in - zipped.data);
        made = (uint64_t)(z.next_out - (unsigned char *)block);
        if (result == Z_OK && (fed == zipped.size || made == size) && z.avail_in == 0 && z.avail_out == 0)
            break;
        if (result == Z_OK && fed == zipped.size)
            break;
    }
    inflateEnd(&z);
    if (result != Z_STREAM_END || made != size)
        FAIL(err, INLAY_ERR_FORMAT, "%s: member '%s' cannot be unpacked: %llu of %llu bytes", path, name,
             (unsigned long long)made, (unsigned long long)size);
    *out = (bytes){block, (size_t)size};
    return INLAY_OK;
}

/* Replaces 32-bit fields that are all ones by those of the zip64 extra field, which follow each other in the order of
 * the header. */
static void zip64_fields(const unsigned char *extra, size_t length, uint64_t *size, uint64_t *packed_size,
                         uint64_t *offset)
{
    while (length >= 4) {
        size_t id = (size_t)little(extra, 2), used = (size_t)little(extra + 2, 2);
        const unsigned char *p = extra + 4;
        uint64_t *wanted[] = {size, packed_size, offset};
        if (used > length - 4)
            return;
        for (int i = 0; id == 1 && i < 3; i++)
            if (*wanted[i] == 0xffffffffu && (size_t)(p - extra) + 8 <= used + 4) {
                *wanted[i] = little(p, 8);
                p += 8;
            }
        extra += 4 + used;
        length -= 4 + used;
    }
}

static inlay_status parse_member(tensor_list *list, bytes file, size_t *at, const char *path, inlay_error *err)
{
    const unsigned char *entry = file.data + *at, *local;
    uint64_t packed_size, size, offset, begin;
    size_t name_length, extra_length, comment_length;
    unsigned method;
    char *name;
    bytes member;

    if (file.size - *at < 46 || little(entry, 4) != 0x02014b50)
        FAIL(err, INLAY_ERR_FORMAT, "%s: the zip directory is damaged", path);
    method = (unsigned)little(entry + 10, 2);
    packed_size = little(entry + 20, 4);
    size = little(entry + 24, 4);
    name_length = (size_t)little(entry + 28, 2);
    extra_length = (size_t)little(entry + 30, 2);
    comment_length = (size_t)little(entry + 32, 2);
    offset = little(entry + 42, 4);
    if (file.size - *at - 46 < name_length + extra_length + comment_length)
        FAIL(err, INLAY_ERR_FORMAT, "%s: the zip directory is truncated", path);
    zip64_fields(entry + 46 + name_length, extra_length, &size, &packed_size, &offset);
    name = arena_printf(list->memory, "%.*s", (int)name_length, (const char *)entry + 46);
    *at += 46 + name_length + extra_length + comment_length;
    if (offset > file.size || file.size - offset < 30 || little(file.data + offset, 4) != 0x04034b50)
        FAIL(err, INLAY_ERR_FORMAT, "%s: member '%s' does not begin where the directory says", path, name);
    local = file.data + offset;
    begin = offset + 30 + little(local + 26, 2) + little(local + 28, 2);
    if (begin > file.size || packed_size > file.size - begin)
        FAIL(err, INLAY_ERR_FORMAT, "%s: member '%s' is truncated", path, name);
    if (strlen(name) < 4 || strcmp(name + strlen(name) - 4, ".npy") != 0)
        return INLAY_OK;
    member = (bytes){file.data + begin, (size_t)packed_size};
    if (method == 8)
        TRY(inflate_member(list, member, size, name, path, &member, err));
    else if (method != 0 || packed_size != size)
        FAIL(err, INLAY_ERR_UNSUPPORTED, "%s: member '%s' is packed by method %u, expected 0 (stored) or 8 (deflated)",
             path, name, method);
    name[strlen(name) - 4] = '\0';
    return parse_npy(list, name, member, path, err);
}

inlay_status npz_parse(tensor_list *list, const unsigned char *data, size_t size, const char *path, inlay_error *err)
{
    bytes file = {data, size};
    size_t end, at;
    uint64_t count, directory;

    if (size < 22)
        FAIL(err, INLAY_ERR_FORMAT, "%s: not a zip file", path);
    for (end = size - 22; little(data + end, 4) != 0x06054b50; end--)
        if (end == 0 || size - end > 66000)
            FAIL(err, INLAY_ERR_FORMAT, "%s: the zip file has no directory: it is truncated", path);
    count = little(data + end + 10, 2);
    directory = little(data + end + 16, 4);
    if ((directory == 0xffffffffu || count == 0xffffu) && end >= 20 && little(data + end - 20, 4) == 0x07064b50) {
        uint64_t record = little(data + end - 12, 8);
        if (record > size || size - record < 56)
            FAIL(err, INLAY_ERR_FORMAT, "%s: the zip64 directory is damaged", path);
        count = little(data + record + 32, 8);
        directory = little(data + record + 48, 8);
    }
    if (directory > size)
        FAIL(err, INLAY_ERR_FORMAT, "%s: the zip directory lies behind the end of the file", path);
    at = (size_t)directory;
    for (uint64_t i = 0; i < count; i++)
        TRY(parse_member(list, file, &at, path, err));
    return INLAY_OK;
}
