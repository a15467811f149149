/* Any bytes as a safetensors file. An even first byte: the rest is the file; an odd one: the rest is its header, which
 * gets a right length and 256 bytes of data. */
#include "fuzz.h"

#include "formats/tensors_impl.h"

#define DATA 256

static void parse(const unsigned char *data, size_t size)
{
    inlay_error err = {0};
    tensor_list list = {.memory = arena_new()};
    inlay_status status = safetensors_parse(&list, data, size, "fuzz", &err);

    fuzz_check_error(status, &err);
    for (int i = 0; status == INLAY_OK && i < list.count; i++) {
        const tensor_view *t = &list.views[i];
        FUZZ_MUST(t->count >= 0 && (const unsigned char *)t->data >= data &&
                  (size_t)((const unsigned char *)t->data - data) <= size);
        FUZZ_MUST((size_t)t->count * dtype_size(t->type) <= size || t->type == DTYPE_OTHER);
    }
    tensor_list_clear(&list);
    arena_free(list.memory);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    unsigned char *file;
    size_t length = size ? size - 1 : 0;

    if (size == 0)
        return 0;
    if (data[0] % 2 == 0) {
        parse(data + 1, length);
        return 0;
    }
    file = calloc(1, 8 + length + DATA);
    FUZZ_MUST(file);
    for (int i = 0; i < 8; i++)
        file[i] = (unsigned char)((uint64_t)length >> (8 * i));
    memcpy(file + 8, data + 1, length);
    parse(file, 8 + length + DATA);
    free(file);
    return 0;
}
