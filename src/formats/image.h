/* Images: decoding to 8-bit RGB and resampling, with the very bits that Pillow-based loaders (timm, torchvision) see.
 */
#ifndef INLAY_FORMATS_IMAGE_H
#define INLAY_FORMATS_IMAGE_H

#include "base/budget.h"
#include "base/file.h"

typedef struct image {
    int width, height;
    uint8_t *rgb;        /* [height, width, 3]; freed by image_free */
    bool cut;            /* grey of more than 8 bits was cut at 255 */
    memory_share *share; /* what `taken` bytes of are given back by image_free; NULL: none */
    uint64_t taken;
} image;

/* What an image may take from when it is decoded until it is freed. */
typedef struct image_memory {
    memory_share *share;
    int side;    /* the longer side of what it is resampled to meanwhile; 0: it is not */
    bool copied; /* a part of it as large as itself may be cut out */
} image_memory;

/* How an image is read; bits of `how`. */
enum {
    IMAGE_UPRIGHT = 1, /* turned upright by its EXIF orientation, which Pillow-based loaders ignore */
    IMAGE_SCALE_GREY =
        2 /* grey of more than 8 bits is scaled to 8: value * 255 / largest, rounded; else cut at 255, as Pillow does */
};

typedef enum resample {
    RESAMPLE_NEAREST,
    RESAMPLE_BILINEAR,
    RESAMPLE_BICUBIC,
    RESAMPLE_LANCZOS,
    RESAMPLE_BOX,
    RESAMPLE_HAMMING,
    RESAMPLE_TF_BILINEAR
} resample;

/* "bilinear", "bicubic", ..., "tf-bilinear"; also "pil-bilinear-aa" and "pil-bicubic-aa". */
bool resample_from_name(const char *name, resample *out);
const char *resample_name(resample r);
/* Pillow's codes of preprocessor_config.json: 0 nearest, 1 lanczos, 2 bilinear, 3 bicubic, 4 box, 5 hamming. */
bool resample_from_pillow_code(int64_t code, resample *out);

/* Decodes JPEG, PNG, WebP and what else image_codecs.def has (told apart by content) as
 * PIL.Image.open(...).convert("RGB") does: grey, CMYK, palette, alpha (dropped), 16-bit; of several frames or pages the
 * first. `name` is for messages. Images of more than IMAGE_MAX_PIXELS are refused. */
inlay_status image_decode(image *out, const void *bytes, size_t size, const char *name, unsigned how, inlay_error *err);
/* image_decode from a share of memory: it waits until there is room. An image that would take more than all of the
 * share is refused (INLAY_ERR_UNSUPPORTED) from what its header says, before anything of that size is allocated. memory
 * NULL: any. */
inlay_status image_decode_from(image *out, const void *bytes, size_t size, const char *name, unsigned how,
                               const image_memory *memory, inlay_error *err);
inlay_status image_load(image *out, const char *path, unsigned how, inlay_error *err);
/* Whether a file's name ends as those of images do, in small or capital letters; and all such endings, separated by
 * spaces. */
bool image_has_ending(const char *name);
const char *image_endings(void);
/* Name of the format that these bytes begin as; NULL: none that is known. */
const char *image_format_of(const void *bytes, size_t size);
/* What this build decodes, separated by ", ". */
const char *image_formats(void);
/* Loads the libraries that are otherwise loaded with the first file of their format: they then count to the code that
 * runs (code_identity). */
void image_load_libraries(void);
void image_free(image *img);
/* Writes an 8-bit RGB PNG; a reader never sees half of it. */
inlay_status image_write_png(const image *img, const char *path, inlay_error *err);

/* Resizes as PIL.Image.resize(size, filter, box) does: 8-bit two-pass resampling with antialiasing, bit for bit. box =
 * {left, top, right, bottom} in pixels of `in`, NULL: all of it. RESAMPLE_TF_BILINEAR is refused here. */
inlay_status image_resize(image *out, const image *in, int width, int height, resample filter, const double box[4],
                          inlay_error *err);
/* Makes the part {left, top, width, height} of what image_resize makes, without computing the rest; part NULL: all of
 * it. */
inlay_status image_resize_window(image *out, const image *in, int width, int height, resample filter,
                                 const double box[4], const int part[4], inlay_error *err);

/* Resizes as tf.image.resize(method="bilinear", antialias=False) with half-pixel centres does: float RGB in 0..255, out
 * [height, width, 3] allocated by the caller. */
void image_resize_tf_bilinear(float *out, const image *in, int width, int height);
/* Row `row` of what image_resize_tf_bilinear makes: `count` columns from `left` on. */
void image_resize_tf_row(float *out, const image *in, int width, int height, int row, int left, int count);

/* Cuts a region out of an image; pixels outside are filled with zeros (torchvision's center_crop pads so). */
inlay_status image_crop(image *out, const image *in, int left, int top, int width, int height, inlay_error *err);

#endif
