/* Any bytes as an IDX file of images, plain or gzipped. */
#include "fuzz.h"

#include "formats/idx.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[FUZZ_PATH];
    unsigned char *item = NULL;
    inlay_error err = {0};
    inlay_status status;
    size_t area = 0;
    idx_file f;

    fuzz_write(path, "images", data, size);
    status = idx_open(&f, path, 3, &err);
    if (status == INLAY_OK && f.sizes[1] <= 4096 && f.sizes[2] <= 4096)
        area = (size_t)f.sizes[1] * f.sizes[2];
    item = malloc(area + 1);
    FUZZ_MUST(item);
    for (uint32_t i = 0; area && status == INLAY_OK && i < f.sizes[0]; i++)
        status = idx_read(&f, i, item, area, &err);
    if (area && status == INLAY_OK)
        status = idx_finish(&f, &err);
    fuzz_check_error(status, &err);
    idx_close(&f);
    free(item);
    return 0;
}
