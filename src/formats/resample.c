/* Resampling with Pillow's bits (two passes over 8-bit pixels, weights in fixed point) and TensorFlow's plain bilinear.
 */
#include "formats/image.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Bits of a weight's fraction: of an int32, 8 bits hold the pixel and 2 the overshoot of filters with negative
 * lobes. */
#define PRECISION_BITS (32 - 8 - 2)
#define MAX_PIXELS ((int64_t)1 << 28)
#define PI 3.14159265358979323846

typedef struct filter_shape {
    double (*weight)(double x);
    double support; /* weight is zero outside [-support, support] */
} filter_shape;

/* The weights of one axis: output position i reads taps[i] input samples from first[i] on, with weights[i * stride
 * ...]. */
typedef struct axis_plan {
    int count, stride;
    int *first, *taps;
    int32_t *weights;
} axis_plan;

static double box_weight(double x)
{
    return x > -0.5 && x <= 0.5 ? 1.0 : 0.0;
}

static double bilinear_weight(double x)
{
    x = fabs(x);
    return x < 1.0 ? 1.0 - x : 0.0;
}

static double hamming_weight(double x)
{
    x = fabs(x);
    if (x == 0.0)
        return 1.0;
    if (x >= 1.0)
        return 0.0;
    x *= PI;
    return sin(x) / x * (0.54f + 0.46f * cos(x)); /* single-precision constants, as in Pillow */
}

static double bicubic_weight(double x)
{
    const double a = -0.5;

    x = fabs(x);
    if (x < 1.0)
        return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
    if (x < 2.0)
        return (((x - 5) * x + 8) * x - 4) * a;
    return 0.0;
}

static double sinc(double x)
{
    if (x == 0.0)
        return 1.0;
    x *= PI;
    return sin(x) / x;
}

static double lanczos_weight(double x)
{
    return x >= -3.0 && x < 3.0 ? sinc(x) * sinc(x / 3) : 0.0;
}

static const struct {
    const char *name;
    filter_shape shape;
} filters[] = {
    [RESAMPLE_NEAREST] = {"nearest", {NULL, 0.0}},
    [RESAMPLE_BILINEAR] = {"bilinear", {bilinear_weight, 1.0}},
    [RESAMPLE_BICUBIC] = {"bicubic", {bicubic_weight, 2.0}},
    [RESAMPLE_LANCZOS] = {"lanczos", {lanczos_weight, 3.0}},
    [RESAMPLE_BOX] = {"box", {box_weight, 0.5}},
    [RESAMPLE_HAMMING] = {"hamming", {hamming_weight, 1.0}},
    [RESAMPLE_TF_BILINEAR] = {"tf-bilinear", {NULL, 0.0}},
};

bool resample_from_name(const char *name, resample *out)
{
    static const struct {
        const char *name;
        resample value;
    } aliases[] = {{"pil-bilinear-aa", RESAMPLE_BILINEAR}, {"pil-bicubic-aa", RESAMPLE_BICUBIC}};

    for (size_t i = 0; i < sizeof filters / sizeof filters[0]; i++)
        if (strcmp(name, filters[i].name) == 0) {
            *out = (resample)i;
            return true;
        }
    for (size_t i = 0; i < sizeof aliases / sizeof aliases[0]; i++)
        if (strcmp(name, aliases[i].name) == 0) {
            *out = aliases[i].value;
            return true;
        }
    return false;
}

const char *resample_name(resample r)
{
    return filters[r].name;
}

bool resample_from_pillow_code(int64_t code, resample *out)
{
    static const resample by_code[] = {RESAMPLE_NEAREST, RESAMPLE_LANCZOS, RESAMPLE_BILINEAR,
                                       RESAMPLE_BICUBIC, RESAMPLE_BOX,     RESAMPLE_HAMMING};

    if (code < 0 || code >= (int64_t)(sizeof by_code / sizeof by_code[0]))
        return false;
    *out = by_code[code];
    return true;
}

/* One axis of a resizing: [low, high) of `in_size` samples becomes `out_size`, of which `count` from `begin` on are
 * wanted. */
typedef struct window {
    float low, high; /* floats, as Pillow keeps its box */
    int in_size, out_size, begin, count;
    bool resampled; /* false: the axis is copied */
} window;

static window window_of(int in_size, int out_size, float low, float high, int begin, int count)
{
    return (window){
        low, high, in_size, out_size, begin, count, out_size != in_size || low != 0 || high != (float)out_size};
}

static void axis_plan_free(axis_plan *plan)
{
    free(plan->first);
    free(plan->taps);
    free(plan->weights);
    *plan = (axis_plan){0};
}

/* Computes the weights of an axis in Pillow's order of double operations: another one changes last bits. */
static inlay_status axis_plan_make(axis_plan *plan, const window *w, filter_shape shape, inlay_error *err)
{
    int count = w->count;
    double scale = (double)(w->high - w->low) / w->out_size, stretch = scale < 1.0 ? 1.0 : scale,
           support = shape.support * stretch;
    size_t stride = (size_t)ceil(support) * 2 + 1;
    double *exact = malloc(stride * sizeof *exact);

    *plan = (axis_plan){.count = count, .stride = (int)stride};
    plan->first = calloc((size_t)count, sizeof *plan->first);
    plan->taps = calloc((size_t)count, sizeof *plan->taps);
    plan->weights = calloc((size_t)count, stride * sizeof *plan->weights);
    if (!exact || !plan->first || !plan->taps || !plan->weights) {
        free(exact);
        axis_plan_free(plan);
        FAIL(err, INLAY_ERR_NOMEM, "out of memory for the resampling weights of %d x %zu taps", count, stride);
    }
    for (int i = 0; i < count; i++) {
        double centre = w->low + (w->begin + i + 0.5) * scale, total = 0.0, inverse = 1.0 / stretch;
        int first = (int)(centre - support + 0.5), end = (int)(centre + support + 0.5);
        int32_t *weights = plan->weights + (size_t)i * stride;

        first = first < 0 ? 0 : first;
        end = end > w->in_size ? w->in_size : end;
        plan->first[i] = first;
        plan->taps[i] = end - first;
        for (int t = 0; t < end - first; t++) {
            exact[t] = shape.weight((t + first - centre + 0.5) * inverse);
            total += exact[t];
        }
        for (int t = 0; t < end - first; t++) {
            double weight = total != 0.0 ? exact[t] / total : exact[t];
            weights[t] = (int32_t)(weight * (1 << PRECISION_BITS) + (weight < 0 ? -0.5 : 0.5));
        }
    }
    free(exact);
    return INLAY_OK;
}

static inline uint8_t to_pixel(int32_t sum)
{
    sum >>= PRECISION_BITS;
    return (uint8_t)(sum < 0 ? 0 : sum > 255 ? 255 : sum);
}

/* Horizontal pass: out[rows, plan->count, 3] from rows of `in` that are `stride` bytes apart. */
static void pass_across(uint8_t *restrict out, const uint8_t *restrict in, size_t stride, int rows,
                        const axis_plan *plan)
{
    for (int row = 0; row < rows; row++, in += stride)
        for (int i = 0; i < plan->count; i++, out += 3) {
            const uint8_t *pixel = in + (size_t)plan->first[i] * 3;
            const int32_t *weights = plan->weights + (size_t)i * (size_t)plan->stride;
            int32_t r = 1 << (PRECISION_BITS - 1), g = r, b = r;

            for (int t = 0; t < plan->taps[i]; t++, pixel += 3) {
                r += pixel[0] * weights[t];
                g += pixel[1] * weights[t];
                b += pixel[2] * weights[t];
            }
            out[0] = to_pixel(r);
            out[1] = to_pixel(g);
            out[2] = to_pixel(b);
        }
}

/* Vertical pass: out[plan->count, bytes] from rows of `in` that are `stride` bytes apart. */
static void pass_down(uint8_t *restrict out, const uint8_t *restrict in, size_t stride, size_t bytes,
                      const axis_plan *plan)
{
    enum { CHUNK = 256 };
    int32_t sums[CHUNK];

    for (int i = 0; i < plan->count; i++, out += bytes)
        for (size_t at = 0; at < bytes; at += CHUNK) {
            size_t wide = bytes - at < CHUNK ? bytes - at : CHUNK;

            for (size_t j = 0; j < CHUNK; j++)
                sums[j] = 1 << (PRECISION_BITS - 1);
            for (int t = 0; t < plan->taps[i]; t++) {
                const uint8_t *row = in + (size_t)(plan->first[i] + t) * stride + at;
                int32_t weight = plan->weights[(size_t)i * (size_t)plan->stride + (size_t)t];
                for (size_t j = 0; j < wide; j++)
                    sums[j] += row[j] * weight;
            }
            for (size_t j = 0; j < wide; j++)
                out[at + j] = to_pixel(sums[j]);
        }
}

/* The span of input samples that a plan reads; its positions are made relative to the span's begin. */
static void plan_rebase(axis_plan *plan, int *begin, int *count)
{
    *begin = plan->first[0];
    *count = plan->first[plan->count - 1] + plan->taps[plan->count - 1] - *begin;
    for (int i = 0; i < plan->count; i++)
        plan->first[i] -= *begin;
}

/* Whether the rows come first: rounding to 8 bits after the first pass makes the order visible. Pillow 13 begins with
 * the rows when the height shrinks by more than twice what the width shrinks by, boxes not considered; older versions
 * always begin with the columns. */
static bool vertical_first(window x, window y)
{
    return y.out_size < y.in_size && (int64_t)y.in_size - y.out_size > 2 * ((int64_t)x.in_size - x.out_size);
}

static inlay_status resample_both(image *out, const image *in, axis_plan *across, axis_plan *down, bool down_first,
                                  inlay_error *err)
{
    size_t stride = (size_t)in->width * 3, between;
    int begin, count;
    uint8_t *middle;

    plan_rebase(down_first ? across : down, &begin, &count);
    between = (size_t)(down_first ? count : across->count) * 3;
    middle = malloc(between * (size_t)(down_first ? down->count : count));
    if (!middle)
        FAIL(err, INLAY_ERR_NOMEM, "out of memory resizing an image to %d x %d", across->count, down->count);
    if (down_first) {
        pass_down(middle, in->rgb + (size_t)begin * 3, stride, between, down);
        pass_across(out->rgb, middle, between, down->count, across);
    } else {
        pass_across(middle, in->rgb + (size_t)begin * stride, stride, count, across);
        pass_down(out->rgb, middle, between, between, down);
    }
    free(middle);
    return INLAY_OK;
}

static inlay_status resample_filtered(image *out, const image *in, window x, window y, filter_shape shape,
                                      inlay_error *err)
{
    axis_plan across = {0}, down = {0};
    size_t stride = (size_t)in->width * 3, row_bytes = (size_t)x.count * 3;
    inlay_status status = INLAY_OK;

    if (x.resampled)
        status = axis_plan_make(&across, &x, shape, err);
    if (status == INLAY_OK && y.resampled)
        status = axis_plan_make(&down, &y, shape, err);
    if (status == INLAY_OK) {
        if (x.resampled && y.resampled)
            status = resample_both(out, in, &across, &down, vertical_first(x, y), err);
        else if (x.resampled)
            pass_across(out->rgb, in->rgb + (size_t)y.begin * stride, stride, y.count, &across);
        else if (y.resampled)
            pass_down(out->rgb, in->rgb + (size_t)x.begin * 3, stride, row_bytes, &down);
        else
            for (int row = 0; row < y.count; row++)
                memcpy(out->rgb + (size_t)row * row_bytes,
                       in->rgb + (size_t)(y.begin + row) * stride + (size_t)x.begin * 3, row_bytes);
    }
    axis_plan_free(&across);
    axis_plan_free(&down);
    return status;
}

/* Source index of the output positions wanted, -1 outside. Pillow steps by adding, so its rounding errors add up too.
 */
static inlay_status nearest_positions(int **out, window w, inlay_error *err)
{
    double step = (double)(w.high - w.low) / w.out_size, at = w.low + step * 0.5;
    int *positions = calloc((size_t)w.count, sizeof *positions);

    *out = positions;
    if (!positions)
        FAIL(err, INLAY_ERR_NOMEM, "out of memory resizing an image to %d positions", w.out_size);
    for (int i = 0; i < w.begin + w.count; i++) {
        if (i >= w.begin)
            positions[i - w.begin] = at < 0.0 || at >= w.in_size ? -1 : (int)at;
        at += step;
    }
    return INLAY_OK;
}

static inlay_status resample_nearest(image *out, const image *in, window x, window y, inlay_error *err)
{
    int *columns = NULL, *rows = NULL;
    inlay_status status = nearest_positions(&columns, x, err);

    if (status == INLAY_OK)
        status = nearest_positions(&rows, y, err);
    for (int i = 0; status == INLAY_OK && i < y.count; i++) {
        uint8_t *target = out->rgb + (size_t)i * (size_t)x.count * 3;
        for (int j = 0; j < x.count; j++) {
            static const uint8_t outside[3] = {0, 0, 0};
            bool inside = rows[i] >= 0 && columns[j] >= 0;
            memcpy(target + (size_t)j * 3,
                   inside ? in->rgb + ((size_t)rows[i] * (size_t)in->width + (size_t)columns[j]) * 3 : outside, 3);
        }
    }
    free(columns);
    free(rows);
    return status;
}

inlay_status image_resize_window(image *out, const image *in, int width, int height, resample filter,
                                 const double box[4], const int part[4], inlay_error *err)
{
    float sides[4] = {0, 0, (float)in->width, (float)in->height};
    int left = part ? part[0] : 0, top = part ? part[1] : 0;
    int wide = part ? part[2] : width, high = part ? part[3] : height;
    window x, y;
    inlay_status status;

    *out = (image){0};
    if (filter == RESAMPLE_TF_BILINEAR)
        FAIL(err, INLAY_ERR_USAGE, "tf-bilinear makes float pixels: it cannot resize 8-bit images");
    if (width <= 0 || height <= 0 || left < 0 || top < 0 || wide <= 0 || high <= 0 || wide > width - left ||
        high > height - top)
        FAIL(err, INLAY_ERR_USAGE, "cannot resize an image to %d x %d (window %d x %d at %d, %d)", width, height, wide,
             high, left, top);
    if ((int64_t)wide * high > MAX_PIXELS)
        FAIL(err, INLAY_ERR_USAGE, "cannot resize an image to %d x %d: more than 2^28 pixels", wide, high);
    for (int i = 0; box && i < 4; i++)
        sides[i] = (float)box[i];
    if (!(sides[0] >= 0 && sides[1] >= 0 && sides[2] <= (float)in->width && sides[3] <= (float)in->height &&
          sides[0] < sides[2] && sides[1] < sides[3]))
        FAIL(err, INLAY_ERR_USAGE, "the box (%g, %g, %g, %g) is empty or not inside the image of %d x %d pixels",
             sides[0], sides[1], sides[2], sides[3], in->width, in->height);
    out->width = wide;
    out->height = high;
    out->rgb = malloc((size_t)wide * (size_t)high * 3);
    if (!out->rgb)
        FAIL(err, INLAY_ERR_NOMEM, "out of memory resizing an image to %d x %d", width, height);
    x = window_of(in->width, width, sides[0], sides[2], left, wide);
    y = window_of(in->height, height, sides[1], sides[3], top, high);
    if (filter == RESAMPLE_NEAREST)
        status = resample_nearest(out, in, x, y, err);
    else
        status = resample_filtered(out, in, x, y, filters[filter].shape, err);
    if (status != INLAY_OK)
        image_free(out);
    return status;
}

inlay_status image_resize(image *out, const image *in, int width, int height, resample filter, const double box[4],
                          inlay_error *err)
{
    return image_resize_window(out, in, width, height, filter, box, NULL, err);
}

/* Neighbours and fraction of output position i; all in float, as TensorFlow computes them. */
static void tf_neighbours(int i, float scale, int in_size, int *lower, int *upper, float *fraction)
{
    float at = ((float)i + 0.5f) * scale - 0.5f, whole = floorf(at);

    *lower = whole < 0 ? 0 : (int)whole;
    *upper = (int)ceilf(at) < in_size - 1 ? (int)ceilf(at) : in_size - 1;
    *lower = *lower < in_size - 1 ? *lower : in_size - 1;
    *fraction = at - whole;
}

void image_resize_tf_row(float *out, const image *in, int width, int height, int row, int left, int count)
{
    float scale_x = (float)in->width / (float)width, scale_y = (float)in->height / (float)height, down;
    const uint8_t *upper, *lower;
    int top, bottom;

    tf_neighbours(row, scale_y, in->height, &top, &bottom, &down);
    upper = in->rgb + (size_t)top * (size_t)in->width * 3;
    lower = in->rgb + (size_t)bottom * (size_t)in->width * 3;
    for (int column = left; column < left + count; column++, out += 3) {
        int west, east;
        float across;
        tf_neighbours(column, scale_x, in->width, &west, &east, &across);
        for (int c = 0; c < 3; c++) {
            float nw = upper[west * 3 + c], ne = upper[east * 3 + c], sw = lower[west * 3 + c],
                  se = lower[east * 3 + c];
            float above = nw + (ne - nw) * across, below = sw + (se - sw) * across;
            out[c] = above + (below - above) * down;
        }
    }
}

void image_resize_tf_bilinear(float *out, const image *in, int width, int height)
{
    for (int row = 0; row < height; row++, out += (size_t)width * 3)
        image_resize_tf_row(out, in, width, height, row, 0, width);
}
