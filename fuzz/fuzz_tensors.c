/* libFuzzer target: both readers of tensor files on arbitrary bytes. */
#include "formats/tensors_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    inlay_error err;
    tensor_list list = {.memory = arena_new()};

    (void)safetensors_parse(&list, data, size, "fuzz", &err);
    tensor_list_clear(&list);
    (void)npz_parse(&list, data, size, "fuzz", &err);
    tensor_list_clear(&list);
    arena_free(list.memory);
    return 0;
}
