/* What the decoders of single formats share. Callers of the module use image.h. */
#ifndef INLAY_FORMATS_IMAGE_CODEC_H
#define INLAY_FORMATS_IMAGE_CODEC_H

#include "formats/image.h"

/* Each decoder gets a file whose first bytes it accepts, and reports EXIF orientation 1..8 in *orientation (1: none found) when that is not
 * NULL. On failure the caller frees what `out` holds. */
typedef inlay_status (*image_decoder)(image *out, const uint8_t *bytes, size_t size, const char *name, int *orientation, inlay_error *err);

inlay_status image_decode_jpeg(image *out, const uint8_t *bytes, size_t size, const char *name, int *orientation, inlay_error *err);
inlay_status image_decode_png(image *out, const uint8_t *bytes, size_t size, const char *name, int *orientation, inlay_error *err);
inlay_status image_decode_webp(image *out, const uint8_t *bytes, size_t size, const char *name, int *orientation, inlay_error *err);
inlay_status image_decode_bmp(image *out, const uint8_t *bytes, size_t size, const char *name, int *orientation, inlay_error *err);
inlay_status image_decode_pnm(image *out, const uint8_t *bytes, size_t size, const char *name, int *orientation, inlay_error *err);

/* A black image for the pixels of the file `name`; refuses empty and oversized images. */
inlay_status image_new(image *out, uint64_t width, uint64_t height, const char *name, inlay_error *err);

/* Orientation 1..8 in a block of EXIF (with or without its "Exif\0\0" mark) or XMP; 0 when it says nothing usable. */
int exif_orientation(const uint8_t *bytes, size_t size);
int xmp_orientation(const uint8_t *bytes, size_t size);
/* Turns and mirrors the image so that it stands upright. */
inlay_status image_orient(image *img, int orientation, inlay_error *err);

#endif
