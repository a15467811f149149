/* Any bytes as an image: an image or a message, never a crash. Run with -max_len=4096 and tests/data/images as the corpus. */
#include <stdint.h>
#include <stdlib.h>

#include "formats/image.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    image img;
    inlay_error err = {0};

    if (image_decode(&img, data, size, "fuzz", size & 1, &err) == INLAY_OK) {
        if (img.width <= 0 || img.height <= 0 || !img.rgb)
            abort();
    } else if (img.rgb || err.message[0] == '\0') {
        abort();
    }
    image_free(&img);
    return 0;
}
