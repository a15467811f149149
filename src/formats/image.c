/* The front of the image decoders, and what is done to an image without resampling. */
#include "formats/image_codec.h"

#include <stdlib.h>
#include <string.h>

#define MAX_PIXELS ((uint64_t)1 << 28)

static bool is_jpeg(const uint8_t *b, size_t size)
{
    return size >= 3 && b[0] == 0xFF && b[1] == 0xD8 && b[2] == 0xFF;
}

static bool is_png(const uint8_t *b, size_t size)
{
    return size >= 8 && memcmp(b, "\x89PNG\r\n\x1a\n", 8) == 0;
}

static bool is_webp(const uint8_t *b, size_t size)
{
    return size >= 12 && memcmp(b, "RIFF", 4) == 0 && memcmp(b + 8, "WEBP", 4) == 0;
}

static bool is_bmp(const uint8_t *b, size_t size)
{
    return size >= 2 && b[0] == 'B' && b[1] == 'M';
}

static bool is_pnm(const uint8_t *b, size_t size)
{
    return size >= 2 && b[0] == 'P' && (b[1] == '2' || b[1] == '3' || b[1] == '5' || b[1] == '6');
}

static const struct {
    bool (*accepts)(const uint8_t *bytes, size_t size);
    image_decoder decode;
} decoders[] = {
    {is_jpeg, image_decode_jpeg}, {is_png, image_decode_png}, {is_webp, image_decode_webp},
    {is_bmp, image_decode_bmp},   {is_pnm, image_decode_pnm},
};

inlay_status image_new(image *out, uint64_t width, uint64_t height, const char *name, inlay_error *err)
{
    if (width == 0 || height == 0)
        FAIL(err, INLAY_ERR_FORMAT, "'%s': the image is empty (%llu x %llu pixels)", name, (unsigned long long)width,
             (unsigned long long)height);
    if (width > MAX_PIXELS || height > MAX_PIXELS || width * height > MAX_PIXELS)
        FAIL(err, INLAY_ERR_UNSUPPORTED, "'%s': the image has %llu x %llu pixels, at most 2^28 are read", name, (unsigned long long)width,
             (unsigned long long)height);
    out->width = (int)width;
    out->height = (int)height;
    out->rgb = calloc((size_t)(width * height), 3);
    if (!out->rgb)
        FAIL(err, INLAY_ERR_NOMEM, "'%s': out of memory for an image of %d x %d pixels", name, out->width, out->height);
    return INLAY_OK;
}

inlay_status image_decode(image *out, const void *bytes, size_t size, const char *name, bool apply_orientation, inlay_error *err)
{
    size_t kinds = sizeof decoders / sizeof decoders[0], kind = 0;
    int orientation = 1;
    inlay_status status;

    *out = (image){0};
    if (size == 0)
        FAIL(err, INLAY_ERR_FORMAT, "'%s': the file is empty", name);
    while (kind < kinds && !decoders[kind].accepts(bytes, size))
        kind++;
    if (kind == kinds)
        FAIL(err, INLAY_ERR_UNSUPPORTED, "'%s': not an image in a known format (JPEG, PNG, WebP, BMP, PPM, PGM)", name);
    status = decoders[kind].decode(out, bytes, size, name, apply_orientation ? &orientation : NULL, err);
    if (status == INLAY_OK)
        status = image_orient(out, orientation, err);
    if (status != INLAY_OK)
        image_free(out);
    return status;
}

inlay_status image_load(image *out, const char *path, bool apply_orientation, inlay_error *err)
{
    file_map map;
    inlay_status status;

    *out = (image){0};
    TRY(file_map_open(&map, path, err));
    status = image_decode(out, map.data, map.size, path, apply_orientation, err);
    file_map_close(&map);
    return status;
}

void image_free(image *img)
{
    free(img->rgb);
    *img = (image){0};
}

inlay_status image_crop(image *out, const image *in, int left, int top, int width, int height, inlay_error *err)
{
    int64_t skipped = left < 0 ? -(int64_t)left : 0,
            end = (int64_t)left + width; /* columns of zeros before the image's own; end of the region */
    int64_t copied = (end < in->width ? end : in->width) - (left + skipped);

    *out = (image){0};
    if (width <= 0 || height <= 0 || (uint64_t)width * (uint64_t)height > MAX_PIXELS)
        FAIL(err, INLAY_ERR_USAGE, "cannot cut a region of %d x %d pixels out of an image", width, height);
    out->width = width;
    out->height = height;
    out->rgb = calloc((size_t)width * (size_t)height, 3);
    if (!out->rgb)
        FAIL(err, INLAY_ERR_NOMEM, "out of memory for a region of %d x %d pixels", width, height);
    for (int row = 0; row < height && copied > 0; row++) {
        int64_t source = (int64_t)top + row;
        if (source >= 0 && source < in->height)
            memcpy(out->rgb + ((size_t)row * (size_t)width + (size_t)skipped) * 3,
                   in->rgb + ((size_t)source * (size_t)in->width + (size_t)(left + skipped)) * 3, (size_t)copied * 3);
    }
    return INLAY_OK;
}

void image_flip_horizontal(image *img)
{
    for (int row = 0; row < img->height; row++) {
        uint8_t *left = img->rgb + (size_t)row * (size_t)img->width * 3, *right = left + ((size_t)img->width - 1) * 3;
        for (; left < right; left += 3, right -= 3)
            for (int c = 0; c < 3; c++) {
                uint8_t kept = left[c];
                left[c] = right[c];
                right[c] = kept;
            }
    }
}
