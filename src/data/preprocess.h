/* From an image file to the pixels that a model reads. */
#ifndef INLAY_DATA_PREPROCESS_H
#define INLAY_DATA_PREPROCESS_H

#include "base/dtype.h"
#include "base/rng.h"
#include "formats/image.h"

typedef enum preprocess_mode {
    PREPROCESS_CROP,   /* timm: shorter side to floor(size / crop_pct), centre crop */
    PREPROCESS_SQUASH, /* whole image to size x size, aspect ratio not kept (Hugging Face, VTAB) */
    PREPROCESS_BORDER  /* timm's crop_mode "border": longer side to floor(size / crop_pct), padded with the mean colour */
} preprocess_mode;

typedef struct preprocess {
    int height, width;
    preprocess_mode mode;
    double crop_pct;
    resample interpolation;
    float mean[3], std[3]; /* of p / 255; applied by the graph, not here */
    bool apply_orientation;
    /* training augmentation: RandomResizedCrop(scale, ratio) and a horizontal flip; off when scale_low == 0 */
    double scale_low, scale_high, ratio_low, ratio_high, flip;
} preprocess;

/* Type of the pixels made: DTYPE_U8, or DTYPE_F32 (0..255) with tf-bilinear. */
dtype preprocess_pixel_type(const preprocess *p);
size_t preprocess_pixel_bytes(const preprocess *p); /* bytes of one image [height, width, 3] */

/* One image. With augmentation, `stream` (purpose RNG_AUGMENT, step = epoch, site = sample index) decides crop and flip as
 * torchvision.transforms.RandomResizedCrop draws them: ten attempts at area and log-ratio, else a centre crop. */
inlay_status preprocess_image(const preprocess *p, const image *in, bool augment, rng_stream stream, void *pixels, inlay_error *err);
/* An image file that was read already; `name` is for messages. */
inlay_status preprocess_bytes(const preprocess *p, const void *bytes, size_t size, const char *name, bool augment,
                              rng_stream stream, void *pixels, inlay_error *err);
inlay_status preprocess_file(const preprocess *p, const char *path, bool augment, rng_stream stream, void *pixels, inlay_error *err);

#endif
