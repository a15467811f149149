/* pretrain: a small ViT from scratch. Random weights are written as a checkpoint, everything in it is trained,
 * and the result is folded into a plain checkpoint. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "compose/fold.h"
#include "run/training.h"

static const option_spec option_table[] = {
    OPT_INT("epochs", "20", 1, 1000000, "N", "passes over the training images"),
    OPT_INT("width", "128", 8, 4096, "N", "width of the model"),
    OPT_INT("depth", "6", 1, 128, "N", "number of blocks"),
    OPT_INT("heads", "4", 1, 128, "N", "attention heads"),
    OPT_INT("patch", "4", 1, 64, "N", "side of a patch in pixels"),
    OPT_INT("mlp_ratio", "4", 1, 16, "N", "width of the feed-forward part in units of the model's"),
    OPT_CHOICE("dtype", "bf16", "f32|bf16", "type of the written weights"),
    OPTIONS_TRAINING,
    {0},
};

typedef struct fresh {
    backbone *b;
    uint64_t seed;
    uint32_t added; /* parameters so far */
} fresh;

/* Adds a parameter of random values with this standard deviation (truncated normal), or with std 0 of a constant. */
static inlay_status add(fresh *f, const char *name, int ndim, const int64_t *dims, double std, float constant,
                        inlay_error *err)
{
    int64_t count = 1;
    float *block;

    for (int i = 0; i < ndim; i++)
        count *= dims[i];
    block = backbone_buffer(f->b, size_product(count, sizeof *block));
    if (!block)
        FAIL(err, INLAY_ERR_NOMEM, "out of memory: %.1f MB wanted for %s", (double)count * sizeof *block / 1e6, name);
    if (std > 0)
        rng_fill_trunc_normal(block, (uint64_t)count, 0, std, -2 * std, 2 * std,
                              (rng_stream){.seed = f->seed, .purpose = RNG_INIT, .stream = 0x10000u + f->added});
    for (int64_t i = 0; std == 0 && i < count; i++)
        block[i] = constant;
    backbone_add_param(f->b, name, ndim, dims, block, DTYPE_F32);
    f->added++;
    return INLAY_OK;
}

#define ADD(name, std, constant, ...)                                                                             \
    TRY(add(f, (name), (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (const int64_t[]){__VA_ARGS__}, \
            (std), (constant), err))

static inlay_status fill(fresh *f, const options *o, inlay_error *err)
{
    backbone_shape *s = &f->b->shape;
    int64_t size = options_int(o, "image_size") ? options_int(o, "image_size") : 28, grid;

    *s = (backbone_shape){.architecture = "vit",
                          .width = options_int(o, "width"),
                          .depth = options_int(o, "depth"),
                          .heads = options_int(o, "heads"),
                          .patch = options_int(o, "patch"),
                          .height = size,
                          .image_width = size,
                          .channels = 3,
                          .eps = 1e-6,
                          .act = ACT_GELU};
    s->hidden = s->width * options_int(o, "mlp_ratio");
    if (s->width % s->heads || size % s->patch)
        FAIL(err, INLAY_ERR_USAGE, "--heads must divide --width, and --patch --image-size");
    grid = size / s->patch;
    ADD("cls_token", 1e-6, 0, 1, 1, s->width);
    ADD("pos_embed", 0.02, 0, 1, grid * grid + 1, s->width);
    ADD("patch_embed.proj.weight", sqrt(1.0 / (double)(3 * s->patch * s->patch)), 0, s->width, 3, s->patch, s->patch);
    ADD("patch_embed.proj.bias", 0, 0, s->width);
    for (int layer = 0; layer < s->depth; layer++) {
#define NAME(text) arena_printf(f->b->memory, "blocks.%d." text, layer)
        ADD(NAME("norm1.weight"), 0, 1, s->width);
        ADD(NAME("norm1.bias"), 0, 0, s->width);
        ADD(NAME("attn.qkv.weight"), 0.02, 0, 3 * s->width, s->width);
        ADD(NAME("attn.qkv.bias"), 0, 0, 3 * s->width);
        ADD(NAME("attn.proj.weight"), 0.02, 0, s->width, s->width);
        ADD(NAME("attn.proj.bias"), 0, 0, s->width);
        ADD(NAME("norm2.weight"), 0, 1, s->width);
        ADD(NAME("norm2.bias"), 0, 0, s->width);
        ADD(NAME("mlp.fc1.weight"), 0.02, 0, s->hidden, s->width);
        ADD(NAME("mlp.fc1.bias"), 0, 0, s->hidden);
        ADD(NAME("mlp.fc2.weight"), 0.02, 0, s->width, s->hidden);
        ADD(NAME("mlp.fc2.bias"), 0, 0, s->width);
#undef NAME
    }
    ADD("norm.weight", 0, 1, s->width);
    ADD("norm.bias", 0, 0, s->width);
    return INLAY_OK;
}

/* Writes a checkpoint of random weights. */
static inlay_status write_fresh(const char *folder, const options *o, inlay_error *err)
{
    backbone *b = backbone_new();
    fresh f = {.b = b, .seed = (uint64_t)options_int(o, "seed")};
    preprocess prep = {.mode = PREPROCESS_SQUASH,
                       .crop_pct = 1,
                       .interpolation = RESAMPLE_BICUBIC,
                       .mean = {0.5f, 0.5f, 0.5f},
                       .std = {0.5f, 0.5f, 0.5f}};
    backbone_content content = {.b = b, .prep = &prep};
    inlay_status status;

    b->model_name = "vit_custom";
    status = fill(&f, o, err);
    if (status == INLAY_OK)
        status = apply_preprocess_options(&prep, o, err);
    if (status == INLAY_OK)
        status = backbone_write(&content, folder, DTYPE_F32, err);
    backbone_close(b);
    return status;
}

static inlay_status fold_result(const char *initial, const char *folder, const char *output, const options *o,
                                inlay_error *err)
{
    backbone *b;
    adapter *a = NULL;
    preprocess prep;
    inlay_status status;

    TRY(backbone_open(&b, initial, 0, err));
    status = adapter_load(&a, folder, b, false, NULL, err);
    if (status == INLAY_OK)
        status = preprocess_for(&prep, b, NULL, err);
    if (status == INLAY_OK)
        status =
            fold_write(a, &prep, output, strcmp(options_string(o, "dtype"), "bf16") == 0 ? DTYPE_BF16 : DTYPE_F32, err);
    adapter_free(a, NULL);
    backbone_close(b);
    return status;
}

/* Opens the random weights that the run begins with, unless it goes on with those of an earlier one. What is there is
 * replaced when the new run has nothing against it. */
static inlay_status open_initial(backbone **b, const char *initial, const training_request *how, inlay_error *err)
{
    arena *memory = arena_new();
    bool there = file_exists(path_join(memory, initial, "config.json"));

    arena_free(memory);
    if (!how->complete && !(there && options_flag(how->o, "resume"))) {
        TRY(check_training("full", how, err));
        TRY(write_fresh(initial, how->o, err));
    }
    return backbone_open(b, initial, 0, err);
}

static inlay_status save_figures(const train_result *r, const options *o, inlay_error *err)
{
    arena *memory = arena_new();
    const char *title =
        arena_printf(memory, "A ViT from scratch on %s", training_name_of(memory, options_string(o, "data")));
    inlay_status status = training_draw_curves(title, r, o, err);

    arena_free(memory);
    return status;
}

static inlay_status run_in(const char *output, const char *initial, options *o, const inlay_observer *w,
                           train_result *result, inlay_error *err)
{
    file_lock lock = {.fd = -1};
    training_request how = {.o = o, .watch = w, .lock = &lock, .saved = save_figures};
    backbone *b = NULL;
    inlay_status status = hold_output(&lock, o, &how.complete, w, err);

    if (status == INLAY_OK)
        status = open_initial(&b, initial, &how, err);
    if (status == INLAY_OK)
        status = run_training(b, "full", &how, result, err);
    backbone_close(b);
    if (status == INLAY_OK)
        status = fold_result(initial, output, output, o, err);
    file_lock_release(&lock);
    return status;
}

static inlay_status run(options *o, const inlay_observer *w, json_t **record, inlay_error *err)
{
    arena *memory;
    train_result result = {0};
    const char *output;
    inlay_status status;

    TRY(require(o, "data", err));
    TRY(require(o, "output", err));
    output = options_string(o, "output");
    memory = arena_new();
    status = run_in(output, path_join(memory, output, "initial"), o, w, &result, err);
    if (status == INLAY_OK) {
        *record = training_add_accuracy(json_build("the answer", err, "{s:o, s:I, s:f}", "output", json_text(output),
                                                   "steps", (json_int_t)result.steps, "seconds", result.seconds),
                                        "the answer", &result, err);
        status = *record ? INLAY_OK : INLAY_ERR_FORMAT;
        if (*record)
            training_name_curves(*record, o);
    }
    if (result.memory)
        train_result_free(&result);
    arena_free(memory);
    return status;
}

const job job_pretrain = {
    .name = "pretrain",
    .usage =
        "--data DIR --output DIR [--width 128] [--depth 6] [--heads 4] [--patch 4] [--image-size 28] [--epochs 20]",
    .summary = "train a small ViT from scratch",
    .details = "Makes a ViT of random weights, trains all of it on labelled images, and writes a plain checkpoint in "
               "timm's naming.",
    .options = option_table,
    .recipe = true,
    .stops = true,
    .run = run,
};
