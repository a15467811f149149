/* Any bytes as the file of a feature cache. An odd first byte: behind a head that is right, so that the rest is read as
 * records. No record may be taken for an image's unless its checksum is right. */
#include "fuzz.h"

#include "train/cache_file.h"

#define HEAD "what a row is a function of"
#define ROW 64
#define HEAD_BYTES 4096

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static pool *threads;
    const cache_file_request request = {.folder = fuzz_folder(), .name = "features", .head = HEAD, .row = ROW};
    image_id images[2] = {"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", ""};
    int64_t record[2] = {-1, -1};
    bool there[2] = {false, false};
    char path[FUZZ_PATH], *file;
    size_t skip = size && data[0] % 2 ? HEAD_BYTES : 0;
    inlay_error err = {0};
    inlay_status status;
    cache_file f;

    if (size == 0)
        return 0;
    if (!threads)
        FUZZ_MUST(pool_new(&threads, 1, &err) == INLAY_OK);
    file = calloc(1, skip + size);
    FUZZ_MUST(file);
    if (skip)
        memcpy(file, HEAD, strlen(HEAD));
    memcpy(file + skip, data + 1, size - 1);
    fuzz_write(path, "features", file, skip + size - 1);
    free(file);
    status = cache_file_open(&f, &request, &err);
    if (status == INLAY_OK)
        status = cache_file_find(&f, threads, (const image_id *)images, 2, record, there, &err);
    fuzz_check_error(status, &err);
    if (status == INLAY_OK)
        FUZZ_MUST(record[0] >= 0 && record[1] >= 0 && record[0] != record[1] && !there[1]);
    cache_file_close(&f);
    return 0;
}
