/* What the decoders of single formats share. Callers of the module use image.h. */
#ifndef INLAY_FORMATS_IMAGE_CODEC_H
#define INLAY_FORMATS_IMAGE_CODEC_H

#include "formats/image.h"

/* Where there is no memory for an image as large as this, the file is to blame and not the machine: it is left out, and
 * the others are read. */
#define IMAGE_LARGE_PIXELS ((uint64_t)1 << 24)

typedef struct image_source {
    const uint8_t *bytes;
    size_t size;
    const char *name;           /* for messages */
    bool scale_grey;            /* IMAGE_SCALE_GREY */
    bool upright;               /* IMAGE_UPRIGHT: the orientation is asked for */
    int orientation;            /* found by the decoder: 1..8 as in EXIF; it stays 1 where there is none */
    const image_memory *memory; /* NULL: any */
    bool always_turned; /* the orientation belongs to the picture: it is applied unasked, as Pillow does for TIFF */
} image_source;

/* Each decoder gets a file whose first bytes its row of the table accepts. On failure the caller frees what `out`
 * holds. */
typedef inlay_status (*image_decoder)(image *out, image_source *s, inlay_error *err);

#define CODEC(id, name, endings) inlay_status image_decode_##id(image *out, image_source *s, inlay_error *err);
#include "formats/image_codecs.def"
#undef CODEC

/* IMAGE_LISTED_<id>(text): the text where this build has the decoder. Two libraries may be missing when it is built;
 * the other decoders are always there. */
#define IMAGE_LISTED_jpeg(text) text
#define IMAGE_LISTED_png(text) text
#define IMAGE_LISTED_webp(text) text
#define IMAGE_LISTED_gif(text) text
#define IMAGE_LISTED_tiff(text) text
#define IMAGE_LISTED_bmp(text) text
#define IMAGE_LISTED_pnm(text) text
#ifdef HAVE_LIBAVIF
#define IMAGE_LISTED_avif(text) text
#else
#define IMAGE_LISTED_avif(text)
#endif
#ifdef HAVE_LIBJXL
#define IMAGE_LISTED_jxl(text) text
#else
#define IMAGE_LISTED_jxl(text)
#endif

/* A library that is loaded at its first use. `functions`: room for `count` pointers, in the order of their names. */
typedef struct image_library {
    const char *file;
    const char *const *names;
    size_t count;
    void *functions;
    bool tried, usable;
    char reason[200];
} image_library;
inlay_status image_library_use(image_library *l, const char *name, inlay_error *err);
image_library *image_tiff_library(void);
/* The libraries of AVIF and JPEG XL; NULL where the build is without them. */
image_library *image_avif_library(void);
image_library *image_jxl_library(void);

/* Refuses empty and oversized images. */
inlay_status image_check_size(uint64_t width, uint64_t height, const char *name, inlay_error *err);
/* Makes a black image for the pixels of the file, once its size is checked and its memory is taken from the share.
 * `working`: bytes that the decoder takes besides, in its own buffers and in those of its library, at most. */
inlay_status image_new(image *out, const image_source *s, uint64_t width, uint64_t height, uint64_t working,
                       inlay_error *err);
/* The first half of image_new, size and memory, for decoders that allocate before they need the image. Does nothing the
 * second time. */
inlay_status image_take(image *out, const image_source *s, uint64_t width, uint64_t height, uint64_t working,
                        inlay_error *err);

/* A value of 0..largest, where largest is above 255, as a byte of grey: cut at 255 as Pillow converts its modes I;16
 * and I, which is noted in out->cut, or scaled and rounded. */
static inline uint8_t image_deep_grey(image *out, const image_source *s, uint32_t value, uint32_t largest)
{
    if (s->scale_grey)
        return (uint8_t)(((uint64_t)value * 255 + largest / 2) / largest);
    out->cut = true;
    return (uint8_t)(value < 255 ? value : 255);
}

/* Orientation 1..8 in a block of EXIF (with or without its "Exif\0\0" mark) or XMP; 0 when it says nothing usable. */
int exif_orientation(const uint8_t *bytes, size_t size);
int xmp_orientation(const uint8_t *bytes, size_t size);
/* Turns and mirrors the image so that it stands upright. */
inlay_status image_orient(image *img, int orientation, inlay_error *err);

#endif
