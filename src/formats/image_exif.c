/* Orientation: where cameras write it, and how an image is turned upright, as PIL.ImageOps.exif_transpose does it. */
#include "formats/image_codec.h"

#include <stdlib.h>
#include <string.h>

#define TAG_ORIENTATION 0x0112

typedef struct tiff {
    const uint8_t *bytes;
    size_t size;
    bool big_endian;
} tiff;

static uint32_t tiff_number(const tiff *t, size_t at, int width)
{
    uint32_t value = 0;

    for (int i = 0; i < width; i++)
        value |= (uint32_t)t->bytes[at + (size_t)i] << 8 * (t->big_endian ? width - 1 - i : i);
    return value;
}

int exif_orientation(const uint8_t *bytes, size_t size)
{
    enum { ENTRY = 12, TYPE_BYTE = 1, TYPE_SHORT = 3, TYPE_LONG = 4 };
    tiff t;
    uint32_t directory, entries;

    while (size >= 6 && memcmp(bytes, "Exif\0\0", 6) == 0) {
        bytes += 6;
        size -= 6;
    }
    if (size < 8 || (memcmp(bytes, "II", 2) != 0 && memcmp(bytes, "MM", 2) != 0))
        return 0;
    t = (tiff){bytes, size, bytes[0] == 'M'};
    directory = tiff_number(&t, 4, 4);
    if (tiff_number(&t, 2, 2) != 42 || directory > size - 2)
        return 0;
    entries = tiff_number(&t, directory, 2);
    for (uint32_t i = 0; i < entries && (uint64_t)directory + 2 + (uint64_t)(i + 1) * ENTRY <= size; i++) {
        size_t at = (size_t)directory + 2 + (size_t)i * ENTRY;
        uint32_t type = tiff_number(&t, at + 2, 2), count = tiff_number(&t, at + 4, 4);
        int width = type == TYPE_BYTE ? 1 : type == TYPE_SHORT ? 2 : type == TYPE_LONG ? 4 : 0;
        if (tiff_number(&t, at, 2) == TAG_ORIENTATION && count == 1 && width > 0) {
            uint32_t value = tiff_number(&t, at + 8, width);
            return value >= 1 && value <= 8 ? (int)value : 0;
        }
    }
    return 0;
}

int xmp_orientation(const uint8_t *bytes, size_t size)
{
    static const char key[] = "tiff:Orientation";
    const size_t length = sizeof key - 1;

    for (size_t i = 0; i + length + 3 <= size; i++) {
        const uint8_t *after = bytes + i + length;
        if (memcmp(bytes + i, key, length) != 0)
            continue;
        after += after[0] == '>' ? 1 : after[0] == '=' && after[1] == '"' ? 2 : 0;
        if (after > bytes + i + length && after[0] >= '1' && after[0] <= '8')
            return after[0] - '0';
    }
    return 0;
}

inlay_status image_orient(image *img, int orientation, inlay_error *err)
{
    bool transposed = orientation >= 5,
         mirrored = orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
    bool upturned = orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
    image upright = {.width = transposed ? img->height : img->width,
                     .height = transposed ? img->width : img->height,
                     .cut = img->cut,
                     .share = img->share,
                     .taken = img->taken};

    if (orientation <= 1)
        return INLAY_OK;
    upright.rgb = malloc((size_t)img->width * (size_t)img->height * 3);
    if (!upright.rgb)
        FAIL(err, INLAY_ERR_NOMEM, "out of memory turning an image of %d x %d pixels upright", img->width, img->height);
    for (int row = 0; row < upright.height; row++)
        for (int column = 0; column < upright.width; column++) {
            int x = transposed ? row : column,
                y = transposed ? column : row; /* in the stored image, before mirroring */
            if (mirrored)
                x = img->width - 1 - x;
            if (upturned)
                y = img->height - 1 - y;
            memcpy(upright.rgb + ((size_t)row * (size_t)upright.width + (size_t)column) * 3,
                   img->rgb + ((size_t)y * (size_t)img->width + (size_t)x) * 3, 3);
        }
    free(img->rgb);
    *img = upright;
    return INLAY_OK;
}
