/* From an image to the pixels of a model: the geometry of timm's evaluation transforms, of transformers' image
 * processors where theirs is another, and torchvision's random crop. */
#include "data/preprocess.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_CROP_PCT 0.875 /* timm's, for checkpoints that do not say */

/* The image is resized to width x height, of which the part at (left, top) becomes the pixels; what lies outside is
 * filled. */
typedef struct placement {
    int width, height, left, top;
} placement;

static const char *const mode_names[] = {
    [PREPROCESS_CROP] = "center", [PREPROCESS_SQUASH] = "squash", [PREPROCESS_BORDER] = "border"};

const char *preprocess_mode_name(preprocess_mode mode)
{
    return mode_names[mode];
}

bool preprocess_mode_from_name(const char *name, preprocess_mode *out)
{
    for (size_t i = 0; i < sizeof mode_names / sizeof *mode_names; i++)
        if (strcmp(name, mode_names[i]) == 0) {
            *out = (preprocess_mode)i;
            return true;
        }
    return false;
}

dtype preprocess_pixel_type(const preprocess *p)
{
    return p->interpolation == RESAMPLE_TF_BILINEAR ? DTYPE_F32 : DTYPE_U8;
}

size_t preprocess_pixel_bytes(const preprocess *p)
{
    return size_product(p->height, size_product(p->width, 3 * dtype_size(preprocess_pixel_type(p))));
}

/* Rounds as Python does: half to even. */
static int rounded(double x)
{
    x = rint(x);
    return x < 1 ? 1 : x > INT32_MAX ? INT32_MAX : (int)x;
}

/* Where a crop of `wanted` begins in `size`; a smaller image is first padded to `wanted`. Where they differ by an odd
 * number, torchvision rounds to even and pads behind the image, transformers always takes the lower number. */
static int centre_offset(const preprocess *p, int size, int wanted)
{
    if (p->crop_down)
        return (int)floor((size - wanted) / 2.0);
    if (wanted > size)
        return -((wanted - size) / 2);
    return (int)rint((size - wanted) / 2.0);
}

/* The longer side by torchvision's Resize(int): the shorter side becomes `size`, the longer one is cut to whole
 * pixels. */
static int longer_side(int size, int longer, int shorter)
{
    double length = (double)((int64_t)size * longer) / shorter;

    return length > INT32_MAX ? INT32_MAX : (int)length;
}

static placement place(const preprocess *p, const image *in)
{
    double crop_pct = p->crop_pct > 0 ? p->crop_pct : DEFAULT_CROP_PCT;
    int target_height = rounded(floor(p->height / crop_pct)), target_width = rounded(floor(p->width / crop_pct));
    double ratio_height = (double)in->height / target_height, ratio_width = (double)in->width / target_width;
    placement made = {target_width, target_height, 0, 0};

    if (p->mode == PREPROCESS_SQUASH) {
        ; /* both sides are the target's */
    } else if (p->mode == PREPROCESS_BORDER || target_height != target_width) {
        /* timm's ResizeKeepRatio: by the longest side for a border, by the shortest to fill an oblong target */
        double ratio = p->mode == PREPROCESS_BORDER ? fmax(ratio_height, ratio_width) : fmin(ratio_height, ratio_width);
        made.height = rounded(in->height / ratio);
        made.width = rounded(in->width / ratio);
    } else if (in->width <= in->height) {
        made.width = target_width;
        made.height = longer_side(target_width, in->height, in->width);
    } else {
        made.height = target_height;
        made.width = longer_side(target_height, in->width, in->height);
    }
    made.left = centre_offset(p, made.width, p->width);
    made.top = centre_offset(p, made.height, p->height);
    return made;
}

/* Elements of the stream: the real draws of attempt k are 8k and 8k + 1, its whole ones come from the block behind
 * them; the flip is far off. */
enum { ATTEMPTS = 10, DRAWS_PER_ATTEMPT = 8, FLIP_DRAW = 1024 };

/* Draws a crop as torchvision's RandomResizedCrop.get_params does. */
static void draw_crop(const preprocess *p, const image *in, rng_stream stream, int crop[4])
{
    double area = (double)in->width * in->height, low = log(p->ratio_low), high = log(p->ratio_high),
           shape = (double)in->width / in->height;
    int width = in->width, height = in->height;

    for (uint64_t k = 0; k < ATTEMPTS; k++) {
        uint64_t whole = k * (DRAWS_PER_ATTEMPT / 2) + 2; /* rng_below takes two words for each element */
        double target =
            area * (p->scale_low + (p->scale_high - p->scale_low) * rng_uniform(stream, k * DRAWS_PER_ATTEMPT));
        double aspect = exp(low + (high - low) * rng_uniform(stream, k * DRAWS_PER_ATTEMPT + 1));
        double w = rint(sqrt(target * aspect)), h = rint(sqrt(target / aspect));
        if (w > 0 && w <= in->width && h > 0 && h <= in->height) {
            crop[1] = (int)rng_below(stream, whole, (uint32_t)(in->height - (int)h + 1));
            crop[0] = (int)rng_below(stream, whole + 1, (uint32_t)(in->width - (int)w + 1));
            crop[2] = (int)w;
            crop[3] = (int)h;
            return;
        }
    }
    if (shape < p->ratio_low)
        height = rounded(width / p->ratio_low);
    else if (shape > p->ratio_high)
        width = rounded(height * p->ratio_high);
    crop[2] = width < in->width ? width : in->width;
    crop[3] = height < in->height ? height : in->height;
    crop[0] = (in->width - crop[2]) / 2;
    crop[1] = (in->height - crop[3]) / 2;
}

/* The colour that a border is filled with: the mean, as in timm. Centre crops of an image that is too small are padded
 * with zeros. */
static void fill_colour(const preprocess *p, uint8_t colour[3])
{
    for (int c = 0; c < 3; c++) {
        double mean = rint((double)p->mean[c] * 1e7) /
                      1e7; /* the decimal number that was written: 255 * 0.3 has to be the tie that it is in Python */
        double shade = p->mode == PREPROCESS_BORDER ? rint(255 * mean) : 0;
        colour[c] = (uint8_t)(shade < 0 ? 0 : shade > 255 ? 255 : shade);
    }
}

/* Copies the overlap of the crop and the resized image, fills the rest. `resized` holds the part of the resized image
 * from (part[0], part[1]) on. */
static void copy_bytes(const preprocess *p, placement at, const int part[4], const image *resized, uint8_t *pixels)
{
    uint8_t colour[3];

    fill_colour(p, colour);
    if (part[2] < p->width || part[3] < p->height)
        for (size_t i = 0; i < (size_t)p->width * (size_t)p->height; i++)
            memcpy(pixels + i * 3, colour, 3);
    for (int row = 0; row < part[3]; row++) {
        size_t target = (size_t)(part[1] - at.top + row) * (size_t)p->width + (size_t)(part[0] - at.left);
        memcpy(pixels + target * 3, resized->rgb + (size_t)row * (size_t)part[2] * 3, (size_t)part[2] * 3);
    }
}

static inlay_status to_bytes(const preprocess *p, const image *in, placement at, uint8_t *pixels, inlay_error *err)
{
    int left = at.left > 0 ? at.left : 0, top = at.top > 0 ? at.top : 0;
    int right = at.left + p->width < at.width ? at.left + p->width : at.width,
        bottom = at.top + p->height < at.height ? at.top + p->height : at.height;
    int part[4] = {left, top, right - left, bottom - top};
    image resized;

    TRY(image_resize_window(&resized, in, at.width, at.height, p->interpolation, NULL, part, err));
    copy_bytes(p, at, part, &resized, pixels);
    image_free(&resized);
    return INLAY_OK;
}

/* Makes the real-valued pixels of tf-bilinear; only what lies inside the crop is computed. */
static void to_floats(const preprocess *p, const image *in, placement at, float *pixels)
{
    int left = at.left > 0 ? at.left : 0, right = at.left + p->width < at.width ? at.left + p->width : at.width;
    uint8_t colour[3];

    fill_colour(p, colour);
    for (int row = 0; row < p->height; row++, pixels += (size_t)p->width * 3) {
        int y = at.top + row;
        for (int i = 0; i < p->width * 3; i++)
            pixels[i] = colour[i % 3];
        if (y >= 0 && y < at.height)
            image_resize_tf_row(pixels + (size_t)(left - at.left) * 3, in, at.width, at.height, y, left, right - left);
    }
}

static void flip_pixels(const preprocess *p, void *pixels)
{
    size_t pixel = 3 * dtype_size(preprocess_pixel_type(p)), row_bytes = pixel * (size_t)p->width;
    unsigned char kept[3 * sizeof(float)];

    for (int row = 0; row < p->height; row++) {
        unsigned char *left = (unsigned char *)pixels + (size_t)row * row_bytes, *right = left + row_bytes - pixel;
        for (; left < right; left += pixel, right -= pixel) {
            memcpy(kept, left, pixel);
            memcpy(left, right, pixel);
            memcpy(right, kept, pixel);
        }
    }
}

inlay_status preprocess_image(const preprocess *p, const image *in, const rng_stream *augment, void *pixels,
                              inlay_error *err)
{
    bool augmented = augment && p->scale_low > 0;
    image crop = {0};
    const image *source = in;
    placement at;
    inlay_status status = INLAY_OK;

    if (p->width <= 0 || p->height <= 0)
        FAIL(err, INLAY_ERR_USAGE, "cannot preprocess to %d x %d pixels", p->width, p->height);
    at = augmented ? (placement){p->width, p->height, 0, 0} : place(p, in);
    if (augmented) {
        int box[4];
        draw_crop(p, in, *augment, box);
        TRY(image_crop(&crop, in, box[0], box[1], box[2], box[3], err));
        source = &crop;
    }
    if (p->interpolation == RESAMPLE_TF_BILINEAR)
        to_floats(p, source, at, pixels);
    else
        status = to_bytes(p, source, at, pixels, err);
    image_free(&crop);
    if (status == INLAY_OK && augmented && rng_uniform(*augment, FLIP_DRAW) < p->flip)
        flip_pixels(p, pixels);
    return status;
}

inlay_status preprocess_bytes(const preprocess *p, const void *bytes, size_t size, const char *name,
                              const rng_stream *augment, void *pixels, bool *cut, inlay_error *err)
{
    unsigned how = (p->apply_orientation ? IMAGE_UPRIGHT : 0) | (p->scale_16bit ? IMAGE_SCALE_GREY : 0);
    image_memory memory = {.share = p->room ? &p->room->images : NULL,
                           .side = p->width > p->height ? p->width : p->height,
                           .copied = augment && p->scale_low > 0};
    image img = {0};
    inlay_status status;

    TRY(image_decode_from(&img, bytes, size, name, how, &memory, err));
    if (cut)
        *cut = img.cut;
    status = preprocess_image(p, &img, augment, pixels, err);
    image_free(&img);
    if (status != INLAY_OK)
        error_prefix(err, "'%s'", name);
    return status;
}

inlay_status preprocess_file(const preprocess *p, const char *path, const rng_stream *augment, void *pixels, bool *cut,
                             inlay_error *err)
{
    file_map map;
    inlay_status status;

    TRY(file_map_open(&map, path, err));
    status = preprocess_bytes(p, map.data, map.size, path, augment, pixels, cut, err);
    file_map_close(&map);
    return status;
}

inlay_status preprocess_sample(const preprocess *p, const dataset *set, int index, const rng_stream *augment,
                               void *pixels, bool *cut, inlay_error *err)
{
    file_content content = set->contents ? set->contents[index] : (file_content){0};
    const char *path = set->samples[index].path;

    if (content.bytes)
        return preprocess_bytes(p, content.bytes, content.size, path, augment, pixels, cut, err);
    return preprocess_file(p, path, augment, pixels, cut, err);
}
