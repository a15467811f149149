/* AVIF through libavif, where it was there when Inlay was built: the first frame, alpha dropped; turns and mirrors of
 * the container count as orientation, as Pillow has them. */
#include "formats/image_codec.h"

#include <stdlib.h>
#include <string.h>

#ifdef HAVE_LIBAVIF
#include <avif/avif.h>

#define FUNCTIONS(F)          \
    F(avifDecoderCreate)      \
    F(avifDecoderSetIOMemory) \
    F(avifDecoderParse)       \
    F(avifDecoderNextImage) F(avifDecoderDestroy) F(avifRGBImageSetDefaults) F(avifImageYUVToRGB) F(avifResultToString)

#define LIBRARY image_avif_library
#define LIBRARY_FILE LIBAVIF_FILE
#include "formats/image_functions.h"

/* The orientation as EXIF has it, from imir and irot: libavif's angle is in quarters against the clock, and turned
 * before mirrored. */
static int find_orientation(const avifImage *picture)
{
    static const uint8_t plain[4] = {1, 8, 3, 6}, top_bottom[4] = {4, 5, 2, 7}, left_right[4] = {2, 7, 4, 5};
    int angle = picture->transformFlags & AVIF_TRANSFORM_IROT ? picture->irot.angle & 3 : 0;

    if (!(picture->transformFlags & AVIF_TRANSFORM_IMIR))
        return plain[angle];
    return picture->imir.mode ? left_right[angle] : top_bottom[angle];
}

/* Bytes that libavif takes: planes of three colours and alpha, in the decoder and in the picture, and of an image with
 * alpha its conversion. */
static uint64_t working_memory(const avifImage *picture)
{
    uint64_t pixels = (uint64_t)picture->width * picture->height;

    return pixels * (picture->depth > 8 ? 2 : 1) * 4 * 2 + pixels * 4;
}

/* Converts to RGB. An image with alpha is converted with it: libavif would multiply it into the colours where the
 * result has none. */
static inlay_status convert(image *out, const avifImage *picture, const image_source *s, inlay_error *err)
{
    const char *name = s->name;
    size_t pixels = (size_t)picture->width * picture->height;
    uint8_t *four = NULL;
    avifRGBImage rgb;
    avifResult result;

    TRY(image_new(out, s, picture->width, picture->height, working_memory(picture), err));
    if (picture->alphaPlane && !(four = malloc(pixels * 4)))
        FAIL(err, INLAY_ERR_NOMEM, "'%s': out of memory for an image of %d x %d pixels", name, out->width, out->height);
    lib.avifRGBImageSetDefaults(&rgb, picture);
    rgb.format = four ? AVIF_RGB_FORMAT_RGBA : AVIF_RGB_FORMAT_RGB;
    rgb.depth = 8;
    rgb.rowBytes = (uint32_t)out->width * (four ? 4 : 3);
    rgb.pixels = four ? four : out->rgb;
    result = lib.avifImageYUVToRGB(picture, &rgb);
    for (size_t i = 0; four && i < pixels; i++)
        memcpy(out->rgb + i * 3, four + i * 4, 3);
    free(four);
    if (result != AVIF_RESULT_OK)
        FAIL(err, INLAY_ERR_UNSUPPORTED, "'%s': AVIF that libavif cannot convert to RGB: %s", name,
             lib.avifResultToString(result));
    return INLAY_OK;
}

inlay_status image_decode_avif(image *out, image_source *s, inlay_error *err)
{
    avifDecoder *decoder;
    avifResult result;
    inlay_status status = INLAY_OK;

    TRY(image_library_use(image_avif_library(), s->name, err));
    decoder = lib.avifDecoderCreate();
    if (!decoder)
        FAIL(err, INLAY_ERR_NOMEM, "'%s': out of memory", s->name);
    decoder->maxThreads = 1; /* images are decoded in parallel already */
    decoder->strictFlags &= ~(avifStrictFlags)(AVIF_STRICT_CLAP_VALID | AVIF_STRICT_PIXI_REQUIRED);
    result = lib.avifDecoderSetIOMemory(decoder, s->bytes, s->size);
    if (result == AVIF_RESULT_OK)
        result = lib.avifDecoderParse(decoder);
    if (result == AVIF_RESULT_OK)
        status = image_take(out, s, decoder->image->width, decoder->image->height, working_memory(decoder->image), err);
    if (status == INLAY_OK && result == AVIF_RESULT_OK)
        result = lib.avifDecoderNextImage(decoder);
    if (status == INLAY_OK && result != AVIF_RESULT_OK)
        status = error_set(err, result == AVIF_RESULT_OUT_OF_MEMORY ? INLAY_ERR_NOMEM : INLAY_ERR_FORMAT,
                           "'%s': broken AVIF: %s", s->name, lib.avifResultToString(result));
    if (status == INLAY_OK)
        status = convert(out, decoder->image, s, err);
    if (status == INLAY_OK)
        s->orientation = find_orientation(decoder->image);
    lib.avifDecoderDestroy(decoder);
    return status;
}

#else

image_library *image_avif_library(void)
{
    return NULL;
}

inlay_status image_decode_avif(image *out, image_source *s, inlay_error *err)
{
    (void)out;
    FAIL(err, INLAY_ERR_UNSUPPORTED,
         "'%s': an AVIF image, which this build cannot read: libavif was missing when it was built", s->name);
}

#endif
