/* Position embeddings for another grid of patches: bicubic with antialiasing, a = -0.5, as torch and Pillow define it,
 * or torch's without, a = -0.75. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "backbones/vit_config.h"

static double cubic(double x)
{
    x = fabs(x);
    if (x < 1)
        return (1.5 * x - 2.5) * x * x + 1;
    return x < 2 ? ((-0.5 * x + 2.5) * x - 4) * x + 2 : 0;
}

/* Taps of output `i` when `old` samples become `new`: weights[0 .. count) for inputs first, first + 1, ... */
static int64_t taps(double *weights, int64_t *first, int64_t i, int64_t old, int64_t new)
{
    double scale = (double)old / (double)new, stretch = scale > 1 ? scale : 1, centre = ((double)i + 0.5) * scale,
           support = 2 * stretch, total = 0;
    int64_t low = (int64_t)(centre - support + 0.5), high = (int64_t)(centre + support + 0.5);

    if (centre - support + 0.5 < 0)
        low = 0;
    if (high > old)
        high = old;
    for (int64_t j = low; j < high; j++)
        total += weights[j - low] = cubic(((double)j - centre + 0.5) / stretch);
    for (int64_t j = 0; j < high - low; j++)
        weights[j] /= total;
    *first = low;
    return high - low;
}

/* Taps as `taps` gives them, without antialiasing: four, those beyond the edge at the edge. */
static int64_t plain_taps(double *weights, int64_t *first, int64_t i, int64_t old, int64_t new)
{
    const double a = -0.75;
    double at = ((double)i + 0.5) * (double)old / (double)new - 0.5, base = floor(at);
    int64_t last = old - 1, low = (int64_t)base - 1, end = (int64_t)base + 2;

    *first = low < 0 ? 0 : low > last ? last : low;
    end = end < 0 ? 0 : end > last ? last : end;
    for (int64_t j = *first; j <= end; j++)
        weights[j - *first] = 0;
    for (int64_t j = low; j < low + 4; j++) {
        double x = fabs(at - (double)j);
        int64_t clamped = j < 0 ? 0 : j > last ? last : j;
        weights[clamped - *first] +=
            x <= 1 ? ((a + 2) * x - (a + 3)) * x * x + 1 : ((a * x - 5 * a) * x + 8 * a) * x - 4 * a;
    }
    return end - *first + 1;
}

inlay_status vit_resample_positions(float *out, const int64_t to[2], const float *in, const int64_t from[2],
                                    int64_t prefix, int64_t width, bool antialias, inlay_error *err)
{
    int64_t (*const weigh)(double *, int64_t *, int64_t, int64_t, int64_t) = antialias ? taps : plain_taps;
    int64_t rows = to[0], columns = to[1], old = from[0], across = from[1];
    double *weights = calloc((size_t)((old > across ? old : across) + 8), sizeof *weights);
    float *wide =
        calloc((size_t)old, size_product(columns, size_product(width, sizeof *wide))); /* [old, columns, width] */
    int64_t first, count;

    if (!weights || !wide) {
        free(weights);
        free(wide);
        FAIL(err, INLAY_ERR_NOMEM, "out of memory resampling position embeddings");
    }
    memcpy(out, in, (size_t)(prefix * width) * sizeof *out);
    in += prefix * width;
    out += prefix * width;
    for (int64_t x = 0; x < columns; x++) {
        count = weigh(weights, &first, x, across, columns);
        for (int64_t y = 0; y < old; y++)
            for (int64_t c = 0; c < width; c++) {
                double sum = 0;
                for (int64_t j = 0; j < count; j++)
                    sum += weights[j] * (double)in[(y * across + first + j) * width + c];
                wide[(y * columns + x) * width + c] = (float)sum;
            }
    }
    for (int64_t y = 0; y < rows; y++) {
        count = weigh(weights, &first, y, old, rows);
        for (int64_t i = 0; i < columns * width; i++) {
            double sum = 0;
            for (int64_t j = 0; j < count; j++)
                sum += weights[j] * (double)wide[(first + j) * columns * width + i];
            out[y * columns * width + i] = (float)sum;
        }
    }
    free(weights);
    free(wide);
    return INLAY_OK;
}

inlay_status vit_change_grid(backbone *b, param *pos, const int64_t grid[2], int64_t prefix, inlay_error *err)
{
    const backbone_shape *s = &b->shape;
    const vit_state *state = b->state;
    int64_t wanted[2] = {s->height / s->patch, s->image_width / s->patch}, rows = prefix + wanted[0] * wanted[1];
    inlay_status status;
    float *in, *out;

    if (wanted[0] == grid[0] && wanted[1] == grid[1])
        return INLAY_OK;
    in = memory_array(pos->count, sizeof *in);
    out = backbone_buffer(b, (size_t)(rows * s->width) * sizeof *out);
    if (!in || !out) {
        free(in);
        FAIL(err, INLAY_ERR_NOMEM, "out of memory resampling position embeddings");
    }
    dtype_to_f32(in, pos->source, pos->source_type, (size_t)pos->count);
    status = vit_resample_positions(out, wanted, in, grid, prefix, s->width, !state->plain_bicubic, err);
    free(in);
    TRY(status);
    param_set_source(pos, out, DTYPE_F32, false);
    pos->dims[1] = rows;
    pos->count = rows * s->width;
    return INLAY_OK;
}

inlay_status vit_move_class_position(backbone *b, param *pos, inlay_error *err)
{
    param *token = backbone_param(b, "cls_token");
    int64_t width = b->shape.width;
    float *wide = backbone_buffer(b, (size_t)pos->count * sizeof *wide),
          *sum = backbone_buffer(b, (size_t)width * sizeof *sum);

    if (!wide || !sum)
        FAIL(err, INLAY_ERR_NOMEM, "out of memory reading position embeddings");
    dtype_to_f32(wide, pos->source, pos->source_type, (size_t)pos->count);
    dtype_to_f32(sum, token->source, token->source_type, (size_t)width);
    for (int64_t i = 0; i < width; i++)
        sum[i] += wide[i];
    param_set_source(token, sum, DTYPE_F32, false);
    param_set_source(pos, wide + width, DTYPE_F32, false);
    pos->dims[1]--;
    pos->count -= width;
    return INLAY_OK;
}
