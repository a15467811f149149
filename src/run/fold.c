/* fold: writes an adapter into the backbone's weights. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "run/common.h"
#include "compose/fold.h"

static const option_spec option_table[] = {
    OPTION_BACKBONE,
    OPT_TEXT("adapter", NULL, "DIR", "adapter to fold"),
    OPT_TEXT("output", NULL, "DIR", "folder for model.safetensors and config.json (timm's naming)"),
    OPT_CHOICE("dtype", "f32", "f32|bf16", "type of the written weights"),
    OPT_FLAG("overwrite", "replace a checkpoint that is in the output folder already"),
    OPTIONS_PREPROCESS,
    OPTION_PRECISION,
    OPTION_THREADS,
    OPTION_PIN,
    OPTION_WORKERS,
    OPTION_FORCE,
    OPTION_JSON,
    {0},
};

#define PROBES 4

/* Computes the logits of a few images of noise, through any model of that input. */
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

static double largest_difference(const float *a, const float *b, int64_t count)
{
    double largest = 0;

    for (int64_t i = 0; i < count; i++)
        largest = fmax(largest, fabs((double)a[i] - (double)b[i]));
    return largest;
}

/* Computes the logits of the written checkpoint, as it is, or as timm computes them, with an epsilon of its own. */
static inlay_status probe_written(session *s, const char *output, bool as_timm, float *logits, inlay_error *err)
{
    session folded = *s;
    inlay_status status;

    folded.a = NULL;
    TRY(backbone_open(&folded.b, output, 0, err));
    if (as_timm)
        folded.b->shape.eps = backbone_timm_eps(folded.b);
    status = probe(&folded, logits, err);
    backbone_close(folded.b);
    return status;
}

/* Notes what timm's model and transforms do otherwise, for lack of a key. */
static inlay_status note_differences(session *s, const char *output, const float *before, float *room, int64_t count,
                                     const inlay_observer *w, inlay_error *err)
{
    double eps = backbone_timm_eps(s->b);

    if (fabs(eps / s->b->shape.eps - 1) > 1e-6) {
        TRY(probe_written(s, output, true, room, err));
        watch_note(w,
                   "timm has no model with a LayerNorm epsilon of %g and takes %g: there, logits differ by up to "
                   "%.1e on the same images",
                   s->b->shape.eps, eps, largest_difference(before, room, count));
    }
    if (s->prep.crop_down)
        watch_note(w, "where a centre crop begins at half a pixel, timm may take the other one of the two");
    if (s->prep.interpolation == RESAMPLE_TF_BILINEAR)
        watch_note(w, "timm's transforms have no 'tf-bilinear': images must be prepared in another way there");
    if (s->prep.apply_orientation)
        watch_note(w, "the checkpoint does not say that images are turned upright first: --exif-orientation does");
    return INLAY_OK;
}

static inlay_status compare(session *s, const options *o, const inlay_observer *w, json_t **record, inlay_error *err)
{
    const char *output = options_string(o, "output");
    int64_t count = PROBES * s->a->outputs;
    float *before = calloc((size_t)count, sizeof *before), *after = calloc((size_t)count, sizeof *after);
    double largest = 0, scale = 0;
    inlay_status status = before && after ? probe(s, before, err) : error_set(err, INLAY_ERR_NOMEM, "out of memory");

    if (status == INLAY_OK)
        status = probe_written(s, output, false, after, err);
    for (int64_t i = 0; status == INLAY_OK && i < count; i++)
        scale = fmax(scale, fabs((double)before[i]));
    if (status == INLAY_OK) {
        largest = largest_difference(before, after, count);
        *record =
            json_build("the answer", err, "{s:o, s:o, s:f, s:f}", "adapter", json_text(options_string(o, "adapter")),
                       "output", json_text(output), "largest_difference", largest, "largest_logit", scale);
        status = *record ? note_differences(s, output, before, after, count, w, err) : INLAY_ERR_FORMAT;
    }
    free(before);
    free(after);
    return status;
}

/* Whether a path, or the folder of a file, is `folder`. */
static bool is_folder_of(const char *path, const char *folder)
{
    struct stat a, b;
    char parent[4096];

    snprintf(parent, sizeof parent, "%.*s", (int)(path_base(path) - path), path);
    if (stat(folder, &b) != 0)
        return false;
    if (!file_is_folder(path))
        return stat(*parent ? parent : ".", &a) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
    return stat(path, &a) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

/* Checks the output folder: it must not be what is read, and nothing is replaced unasked. */
static inlay_status check_folder(const options *o, inlay_error *err)
{
    static const char *const inputs[] = {"backbone", "adapter"};
    static const char *const names[] = {"model.safetensors", "config.json", "model.safetensors.index.json",
                                        "adapter.json", "checkpoint.safetensors"};
    const char *output = options_string(o, "output");
    char path[4096];

    for (size_t i = 0; i < 2; i++)
        if (options_string(o, inputs[i]) && is_folder_of(options_string(o, inputs[i]), output))
            FAIL(err, INLAY_ERR_USAGE, "--output '%s' is the folder of --%s: it would be written over", output,
                 inputs[i]);
    for (size_t i = 0; i < sizeof names / sizeof *names && !options_flag(o, "overwrite"); i++) {
        snprintf(path, sizeof path, "%s/%s", output, names[i]);
        if (file_exists(path))
            FAIL(err, INLAY_ERR_USAGE, "'%s' holds '%s' already: --overwrite replaces it", output, names[i]);
    }
    return INLAY_OK;
}

static inlay_status run(options *o, const inlay_observer *w, json_t **record, inlay_error *err)
{
    session s;
    file_lock lock = {.fd = -1};
    inlay_status status;

    TRY(require(o, "adapter", err));
    TRY(require(o, "output", err));
    TRY(check_folder(o, err));
    TRY(open_session(&s, NULL, o, w, err));
    status = hold_folder(&lock, options_string(o, "output"), w, err);
    if (status == INLAY_OK)
        status = check_folder(o, err);
    if (status == INLAY_OK)
        status = fold_write(s.a, &s.prep, options_string(o, "output"),
                            strcmp(options_string(o, "dtype"), "bf16") == 0 ? DTYPE_BF16 : DTYPE_F32, err);
    if (status == INLAY_OK)
        status = compare(&s, o, w, record, err);
    if (status == INLAY_OK && (s.prep.scale_16bit || s.prep.apply_orientation))
        watch_note(w, "a checkpoint does not say how images are read; with this one give%s%s",
                   s.prep.scale_16bit ? " --scale-16bit" : "", s.prep.apply_orientation ? " --exif-orientation" : "");
    file_lock_release(&lock);
    close_session(&s, NULL);
    return status;
}

const job job_fold = {
    .name = "fold",
    .usage = "--backbone DIR --adapter DIR --output DIR [--overwrite]",
    .summary = "write an adapter into the backbone's weights",
    .details = "Writes a plain checkpoint, for Inlay and for timm (local-dir:DIR), that computes what backbone and "
               "adapter compute together, and prints the largest difference of the logits on a few images of "
               "noise. For methods that are linear in the weights (lora, ssf) or train them (bitfit, layernorm, full, "
               "linear).",
    .options = option_table,
    .run = run,
};
