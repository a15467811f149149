/* Any bytes as an image: an image or a message, never a crash. Run with -max_len=4096 and tests/data/images as the
 * corpus; fuzz_image_jpeg and its like, built with a format as FUZZ_FORMAT, turn other formats' files away, so that one
 * codec gets all the time. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "formats/image.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#ifdef FUZZ_FORMAT
static const char *const only = FUZZ_FORMAT;
#else
static const char *const only = NULL;
#endif

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *format = image_format_of(data, size);
    image img;
    inlay_error err = {0};

    if (only && (!format || strcmp(format, only) != 0))
        return -1; /* not kept in the corpus */
    if (image_decode(&img, data, size, "fuzz", size & 3, &err) == INLAY_OK) {
        if (img.width <= 0 || img.height <= 0 || !img.rgb)
            abort();
    } else if (img.rgb || err.message[0] == '\0') {
        abort();
    }
    image_free(&img);
    return 0;
}
