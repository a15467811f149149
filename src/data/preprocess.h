/* From an image file to the pixels that a model reads. */
#ifndef INLAY_DATA_PREPROCESS_H
#define INLAY_DATA_PREPROCESS_H

#include "base/dtype.h"
#include "base/rng.h"
#include "data/dataset.h"
#include "formats/image.h"

typedef enum preprocess_mode {
    PREPROCESS_CROP,   /* timm: shorter side to floor(size / crop_pct), centre crop */
    PREPROCESS_SQUASH, /* timm's "squash": both sides to floor(size / crop_pct), aspect ratio not kept, centre crop;
                          with 1 the whole image (Hugging Face, VTAB) */
    PREPROCESS_BORDER  /* timm's crop_mode "border": longer side to floor(size / crop_pct), padded with the mean colour
                        */
} preprocess_mode;

const char *preprocess_mode_name(preprocess_mode mode); /* "center", "squash", "border" */
bool preprocess_mode_from_name(const char *name, preprocess_mode *out);

typedef struct preprocess {
    int height, width;
    preprocess_mode mode;
    double crop_pct;
    bool crop_down; /* a centre crop that would begin at half a pixel begins at the lower one (transformers); else at
                       the even one (torchvision) */
    resample interpolation;
    float mean[3], std[3]; /* of p / 255; applied by the graph, not here */
    bool apply_orientation;
    bool scale_16bit; /* grey of more than 8 bits is scaled, not cut at 255 */
    /* training augmentation: RandomResizedCrop(scale, ratio) and a horizontal flip; off when scale_low == 0 */
    double scale_low, scale_high, ratio_low, ratio_high, flip;
    budget *room; /* whose shares files and images are held in; NULL: any. No part of the geometry, and not recorded */
} preprocess;

/* Type of the pixels made: DTYPE_U8, or DTYPE_F32 (0..255) with tf-bilinear. */
dtype preprocess_pixel_type(const preprocess *p);
size_t preprocess_pixel_bytes(const preprocess *p); /* bytes of one image [height, width, 3] */

/* The pixels of one image. `augment` (purpose RNG_AUGMENT, stream = sample index, step = epoch) decides crop and flip
 * as torchvision.transforms.RandomResizedCrop draws them: ten attempts at area and log-ratio, else a centre crop. NULL:
 * no augmentation. */
inlay_status preprocess_image(const preprocess *p, const image *in, const rng_stream *augment, void *pixels,
                              inlay_error *err);
/* The pixels of an image file that was read already; `name` is for messages. *cut, which may be NULL: the image had
 * grey of more than 8 bits that was cut at 255. */
inlay_status preprocess_bytes(const preprocess *p, const void *bytes, size_t size, const char *name,
                              const rng_stream *augment, void *pixels, bool *cut, inlay_error *err);
/* The pixels of image `index` of a set, whose content may have been read already. */
inlay_status preprocess_sample(const preprocess *p, const dataset *set, int index, const rng_stream *augment,
                               void *pixels, bool *cut, inlay_error *err);
inlay_status preprocess_file(const preprocess *p, const char *path, const rng_stream *augment, void *pixels, bool *cut,
                             inlay_error *err);

#endif
