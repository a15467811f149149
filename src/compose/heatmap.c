#include "compose/heatmap.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "adapters/token_weight.h"

#define GAP 8       /* pixels between the two pictures */
#define LEAST 256   /* a smaller input is enlarged by a whole factor until its sides have so many pixels */
#define OPACITY 0.6 /* of the colours */

/* Viridis (Smith and van der Walt, CC0) at equal steps: lightness rises evenly, also for the colour-blind. */
static const double viridis[][3] = {{68, 1, 84},    {71, 45, 123}, {59, 82, 139},  {44, 114, 142}, {33, 145, 140},
                                    {40, 174, 128}, {94, 201, 98}, {173, 220, 48}, {253, 231, 37}};
#define LAST_COLOUR ((int)(sizeof viridis / sizeof *viridis) - 1)

typedef struct drawing {
    session *s;
    model m;
    program *p;
    value *marks; /* [count] */
    int count;
    double *weights; /* [rows * columns] of the patches */
    int rows, columns;
} drawing;

static inlay_status find_marks(drawing *d, int layer, inlay_error *err)
{
    const graph *g = d->m.g;
    int found = 0, count;
    const graph_mark_entry *marks = graph_marks(g, &count);

    d->marks = ARENA_ARRAY(graph_arena(g), value, count + 1);
    for (int i = 0; i < count; i++) {
        const graph_mark_entry *mark = &marks[i];
        if (strcmp(mark->name, TOKEN_WEIGHT_MARK) != 0 || graph_cols(g, mark->v) != 1 ||
            graph_rows(g, mark->v) < d->rows * d->columns)
            continue;
        found++;
        if (layer == HEATMAP_ALL_LAYERS || mark->layer == layer)
            d->marks[d->count++] = mark->v;
    }
    if (found == 0)
        FAIL(err, INLAY_ERR_USAGE, "a '%s' adapter has no token weights that could be drawn: adapter_bias has them",
             d->s->a->name);
    if (d->count == 0)
        FAIL(err, INLAY_ERR_USAGE,
             "layer %d has no token weights: the backbone has the layers 0 to %lld, and what is dropped or skipped has "
             "none",
             layer, (long long)d->s->b->shape.depth - 1);
    return INLAY_OK;
}

/* Collects the weights of the patch tokens, which stand at the end of the sequence. */
static void collect(drawing *d)
{
    const graph *g = d->m.g;
    int patches = d->rows * d->columns;

    for (int i = 0; i < d->count; i++) {
        int64_t tokens = graph_rows(g, d->marks[i]);
        float *values = ARENA_ARRAY(graph_arena(g), float, tokens);
        device_get_f32(&d->s->dev, values, program_value(d->p, d->marks[i], 1).data, tokens);
        for (int j = 0; j < patches; j++)
            d->weights[j] += fabs((double)values[tokens - patches + j]) / d->count;
    }
}

/* Computes the weights of every token of every block, those behind the last block that the head does not read
 * as well. */
static inlay_status measure(drawing *d, const dataset *set, int layer, void *pixels, inlay_error *err)
{
    session *s = d->s;
    model_request request = {.dev = &s->dev,
                             .b = s->b,
                             .a = s->a,
                             .prec = s->prec,
                             .pixel_type = preprocess_pixel_type(&s->prep),
                             .skip_layers = s->skip_layers,
                             .skipped = s->skipped,
                             .mean = s->prep.mean,
                             .std = s->prep.std,
                             .keep_blocks = true};
    program_request plan = {.dev = &s->dev, .max_batch = 1};

    TRY(model_build(&d->m, &request, err));
    TRY(find_marks(d, layer, err));
    plan.wanted = d->marks;
    plan.wanted_count = d->count;
    TRY(program_new(&d->p, d->m.g, &plan, err));
    TRY(preprocess_sample(&s->prep, set, 0, NULL, pixels, NULL, err));
    memcpy(program_stage(d->p, d->m.pixels), pixels, preprocess_pixel_bytes(&s->prep));
    program_forward(d->p, 1, &(step_info){0});
    collect(d);
    for (int i = 0; i < d->rows * d->columns; i++)
        if (!isfinite(d->weights[i]))
            FAIL(err, INLAY_ERR_FORMAT, "'%s': the token weights are not finite", set->samples[0].path);
    return INLAY_OK;
}

static uint8_t byte_of(double x)
{
    return (uint8_t)(x < 0 ? 0 : x > 255 ? 255 : x + 0.5);
}

/* Draws the image that the model sees, enlarged. */
static inlay_status plain_picture(const session *s, const void *pixels, image *out, inlay_error *err)
{
    int width = s->prep.width, height = s->prep.height, factor = 1;
    size_t count = (size_t)width * (size_t)height * 3;
    image seen = {.width = width, .height = height, .rgb = malloc(count)};
    inlay_status status;

    if (!seen.rgb)
        FAIL(err, INLAY_ERR_NOMEM, "out of memory for a picture");
    while (factor * width < LEAST || factor * height < LEAST)
        factor++;
    for (size_t i = 0; i < count; i++)
        seen.rgb[i] = preprocess_pixel_type(&s->prep) == DTYPE_U8 ? ((const uint8_t *)pixels)[i]
                                                                  : byte_of((double)((const float *)pixels)[i]);
    status = image_resize(out, &seen, factor * width, factor * height, RESAMPLE_BICUBIC, NULL, err);
    image_free(&seen);
    return status;
}

/* Draws the weights from 0 (lowest) to 255 (highest), one pixel a patch, enlarged smoothly. */
static inlay_status weight_picture(const drawing *d, heatmap *h, int width, int height, image *out, inlay_error *err)
{
    int patches = d->rows * d->columns;
    image grid = {.width = d->columns, .height = d->rows, .rgb = calloc((size_t)patches, 3)};
    inlay_status status;

    if (!grid.rgb)
        FAIL(err, INLAY_ERR_NOMEM, "out of memory for a picture");
    h->low = h->high = d->weights[0];
    for (int i = 0; i < patches; i++) {
        h->low = fmin(h->low, d->weights[i]);
        h->high = fmax(h->high, d->weights[i]);
    }
    for (int i = 0; i < patches; i++)
        memset(grid.rgb + (size_t)i * 3,
               byte_of(h->high > h->low ? 255 * (d->weights[i] - h->low) / (h->high - h->low) : 0), 3);
    status = image_resize(out, &grid, width, height, RESAMPLE_BICUBIC, NULL, err);
    image_free(&grid);
    return status;
}

static void paint(uint8_t *pixel, const uint8_t *plain, int weight)
{
    double grey = 0.299 * plain[0] + 0.587 * plain[1] + 0.114 * plain[2], place = weight / 255.0 * LAST_COLOUR;
    int before = place >= LAST_COLOUR ? LAST_COLOUR - 1 : (int)place;

    for (int c = 0; c < 3; c++) {
        double colour = viridis[before][c] + (place - before) * (viridis[before + 1][c] - viridis[before][c]);
        pixel[c] = byte_of(OPACITY * colour + (1 - OPACITY) * grey);
    }
}

static inlay_status compose(const drawing *d, heatmap *h, const void *pixels, inlay_error *err)
{
    image plain = {0}, weights = {0}, *out = &h->picture;
    inlay_status status = plain_picture(d->s, pixels, &plain, err);

    if (status == INLAY_OK)
        status = weight_picture(d, h, plain.width, plain.height, &weights, err);
    *out = (image){.width = 2 * plain.width + GAP, .height = plain.height};
    if (status == INLAY_OK)
        out->rgb = malloc((size_t)out->width * (size_t)out->height * 3);
    if (status == INLAY_OK && !out->rgb)
        status = error_set(err, INLAY_ERR_NOMEM, "out of memory for a picture");
    for (int y = 0; status == INLAY_OK && y < out->height; y++) {
        uint8_t *row = out->rgb + (size_t)y * (size_t)out->width * 3, *right = row + (size_t)(plain.width + GAP) * 3;
        const uint8_t *from = plain.rgb + (size_t)y * (size_t)plain.width * 3,
                      *weight = weights.rgb + (size_t)y * (size_t)plain.width * 3;
        memcpy(row, from, (size_t)plain.width * 3);
        memset(row + (size_t)plain.width * 3, 255, GAP * 3);
        for (int x = 0; x < plain.width * 3; x += 3)
            paint(right + x, from + x, weight[x]);
    }
    image_free(&plain);
    image_free(&weights);
    return status;
}

inlay_status heatmap_draw(heatmap *out, session *s, const dataset *set, int layer, inlay_error *err)
{
    drawing d = {.s = s,
                 .rows = (int)(s->b->shape.height / s->b->shape.patch),
                 .columns = (int)(s->b->shape.image_width / s->b->shape.patch)};
    void *pixels = malloc(preprocess_pixel_bytes(&s->prep));
    inlay_status status = INLAY_OK;

    *out = (heatmap){0};
    d.weights = calloc((size_t)d.rows * (size_t)d.columns, sizeof *d.weights);
    if (!pixels || !d.weights)
        status = error_set(err, INLAY_ERR_NOMEM, "out of memory for a picture");
    else if (!s->a)
        status =
            error_set(err, INLAY_ERR_USAGE, "a heat map shows an adapter's token weights, and there is no adapter");
    if (status == INLAY_OK)
        status = measure(&d, set, layer, pixels, err);
    if (status == INLAY_OK)
        status = compose(&d, out, pixels, err);
    out->layers = d.count;
    program_free(d.p);
    model_free(&d.m);
    free(d.weights);
    free(pixels);
    if (status != INLAY_OK)
        heatmap_free(out);
    return status;
}

void heatmap_free(heatmap *h)
{
    image_free(&h->picture);
    *h = (heatmap){0};
}
