/* inlay fold: writes an adapter into the backbone's weights. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/common.h"
#include "compose/fold.h"

static const option_spec option_table[] = {
    OPTION_BACKBONE,
    {"adapter", OPTION_STRING, NULL, NULL, 0, 0, "DIR", "adapter to fold", false},
    {"output", OPTION_STRING, NULL, NULL, 0, 0, "DIR", "folder for model.safetensors and config.json (timm's naming)", false},
    {"dtype", OPTION_CHOICE, "f32", "f32|bf16", 0, 0, NULL, "type of the written weights", false},
    OPTIONS_PREPROCESS,
    OPTION_PRECISION,
    OPTION_THREADS,
    OPTION_PIN,
    OPTION_WORKERS,
    OPTION_FORCE,
    {0},
};

#define PROBES 4

/* Logits of a few images of noise, through any model of that input. */
static inlay_status probe(session *s, float *logits, inlay_error *err)
{
    predictor p;
    int64_t count = PROBES * s->b->shape.height * s->b->shape.image_width * s->b->shape.channels;
    void *pixels;
    inlay_status status = INLAY_OK;

    TRY(session_predictor(s, PROBES, &p, err));
    pixels = predictor_pixels(&p);
    for (int64_t i = 0; i < count; i++) {
        uint32_t x = rng_u32((rng_stream){.purpose = RNG_TEST}, (uint64_t)i) >> 24;
        if (preprocess_pixel_type(&s->prep) == DTYPE_U8)
            ((uint8_t *)pixels)[i] = (uint8_t)x;
        else
            ((float *)pixels)[i] = (float)x;
    }
    predictor_run(&p, PROBES, logits);
    for (int i = 0; status == INLAY_OK && i < PROBES; i++)
        status = predictor_check(&p, 0, logits + i * session_classes(s), "an image of noise", err);
    predictor_close(&p);
    return status;
}

static inlay_status compare(session *s, const options *o, inlay_error *err)
{
    int64_t count = PROBES * s->a->classes;
    float *before = calloc((size_t)count, sizeof *before), *after = calloc((size_t)count, sizeof *after);
    double largest = 0, scale = 0;
    session folded = *s;
    inlay_status status = before && after ? probe(s, before, err) : error_set(err, INLAY_ERR_NOMEM, "out of memory");

    folded.a = NULL;
    if (status == INLAY_OK)
        status = backbone_open(&folded.b, options_string(o, "output"), 0, err);
    if (status == INLAY_OK) {
        status = probe(&folded, after, err);
        for (int i = 0; i < folded.b->param_count; i++)
            param_release(folded.b->params[i], &s->dev);
        backbone_close(folded.b);
    }
    for (int64_t i = 0; status == INLAY_OK && i < count; i++) {
        largest = fmax(largest, fabs((double)before[i] - (double)after[i]));
        scale = fmax(scale, fabs((double)before[i]));
    }
    if (status == INLAY_OK)
        printf("folded '%s' into '%s': largest difference of the logits %.2e (largest logit %.2f)\n", options_string(o, "adapter"), options_string(o, "output"), largest, scale);
    free(before);
    free(after);
    return status;
}

static inlay_status run(options *o, inlay_error *err)
{
    session s;
    inlay_status status;

    TRY(require(o, "adapter", err));
    TRY(require(o, "output", err));
    TRY(open_session(&s, o, err));
    status = fold_write(s.a, &s.prep, options_string(o, "output"), strcmp(options_string(o, "dtype"), "bf16") == 0 ? DTYPE_BF16 : DTYPE_F32, err);
    if (status == INLAY_OK)
        status = compare(&s, o, err);
    session_close(&s);
    return status;
}

const command command_fold = {
    .name = "fold",
    .usage = "--backbone DIR --adapter DIR --output DIR",
    .summary = "write an adapter into the backbone's weights",
    .details = "Writes a plain checkpoint that computes what backbone and adapter compute together, and prints the largest difference of the logits on a few images of "
               "noise. For methods that are linear in the weights (lora, ssf) or train them (bitfit, layernorm, full, linear).",
    .options = option_table,
    .run = run,
};
