/* Any bytes as an .npz file. The first byte modulo 3: 0, the rest is the file; 1, the rest is an .npy array, which is
 * stored as the only member of a good zip; 2, the same, deflated. */
#include "fuzz.h"

#include <zlib.h>

#include "formats/tensors_impl.h"

static void put(unsigned char **at, uint64_t value, int bytes)
{
    for (int i = 0; i < bytes; i++)
        *(*at)++ = i < 8 ? (unsigned char)(value >> (8 * i)) : 0;
}

/* Local header, member, directory, end. */
static size_t wrap(unsigned char *out, const unsigned char *packed_data, size_t packed_size, size_t size, int method)
{
    unsigned char *at = out, *directory;

    put(&at, 0x04034b50, 4);
    put(&at, 20 | (uint64_t)method << 32, 8);
    put(&at, 0, 6);
    put(&at, packed_size | (uint64_t)size << 32, 8);
    put(&at, 5, 4);
    memcpy(at, "a.npy", 5);
    memcpy(at + 5, packed_data, packed_size);
    directory = at += 5 + packed_size;
    put(&at, 0x02014b50, 4);
    put(&at, 20 | 20 << 16, 6);
    put(&at, (uint64_t)method, 4);
    put(&at, 0, 6);
    put(&at, packed_size | (uint64_t)size << 32, 8);
    put(&at, 5, 8);
    put(&at, 0, 10);
    memcpy(at, "a.npy", 5);
    at += 5;
    put(&at, 0x06054b50, 4);
    put(&at, 0, 4);
    put(&at, 1 | 1 << 16, 4);
    put(&at, (uint64_t)(at - directory) | (uint64_t)(directory - out) << 32, 8);
    put(&at, 0, 2);
    return (size_t)(at - out);
}

static void parse(const unsigned char *data, size_t size)
{
    inlay_error err = {0};
    tensor_list list = {.memory = arena_new()};

    fuzz_check_error(npz_parse(&list, data, size, "fuzz", &err), &err);
    tensor_list_clear(&list);
    arena_free(list.memory);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t length = size ? size - 1 : 0, packed_size = length;
    unsigned char *file = malloc(2 * length + 1024), *packed_data = malloc(2 * length + 64);
    z_stream z = {0};

    FUZZ_MUST(file && packed_data);
    if (size && data[0] % 3 == 0) {
        parse(data + 1, length);
    } else if (size) {
        memcpy(packed_data, data + 1, length);
        if (data[0] % 3 == 2) {
            FUZZ_MUST(deflateInit2(&z, 1, Z_DEFLATED, -MAX_WBITS, 8, Z_DEFAULT_STRATEGY) == Z_OK);
            z.next_in = (unsigned char *)(uintptr_t)(data + 1);
            z.avail_in = (unsigned)length;
            z.next_out = packed_data;
            z.avail_out = (unsigned)(2 * length + 64);
            FUZZ_MUST(deflate(&z, Z_FINISH) == Z_STREAM_END);
            packed_size = z.total_out;
            deflateEnd(&z);
        }
        parse(file, wrap(file, packed_data, packed_size, length, data[0] % 3 == 2 ? 8 : 0));
    }
    free(file);
    free(packed_data);
    return 0;
}
