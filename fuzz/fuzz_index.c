/* Any bytes as the index of a sharded checkpoint, beside two shards that are whole. */
#include "fuzz.h"

#include "formats/tensors_impl.h"

static void write_shards(void)
{
    float value = 1;
    tensor_view view = {.type = DTYPE_F32, .ndim = 1, .dims = {1}, .data = &value};
    char path[FUZZ_PATH];
    inlay_error err;

    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/%d.safetensors", fuzz_folder(), i);
        view.name = i ? "b" : "a";
        FUZZ_MUST(safetensors_write(path, &view, 1, NULL, &err) == INLAY_OK);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int made;
    char path[FUZZ_PATH];
    inlay_error err = {0};
    tensor_set *set;

    if (!made++)
        write_shards();
    fuzz_write(path, "model.safetensors.index.json", data, size);
    fuzz_check_error(tensor_set_open(&set, path, &err), &err);
    tensor_set_close(set);
    return 0;
}
