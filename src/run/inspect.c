/* inspect: what a checkpoint or an adapter holds. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/json.h"
#include "run/common.h"
#include "train/checkpoint.h"

static const option_spec option_table[] = {
    OPTION_JSON,
    OPTION_PRECISION,
    OPTION_THREADS,
    OPT_FLAG("sites", "also list the sites that adapters can use"),
    OPT_FLAG("tensors", "also list every tensor"),
    {0},
};

/* Settings of a run that its checkpoint records and inspect shows. */
static const char *const recorded[] = {"method", "epochs",    "batch_size", "images",
                                       "seed",   "precision", "kernels",    "backbone"};

/* Bytes that inference takes for a batch, as planned. */
static size_t planned(backbone *b, device *d, precision prec, int64_t batch)
{
    model_request request = {.dev = d, .b = b, .prec = prec, .pixel_type = DTYPE_U8};
    predictor p;
    inlay_error ignored;
    size_t bytes;

    if (b->shape.classes == 0 || predictor_open(&p, &request, batch, &ignored) != INLAY_OK)
        return 0;
    bytes = program_memory(p.p);
    predictor_close(&p);
    return bytes;
}

static value note_site(void *context, graph *g, site at, value v, int64_t offset, int64_t width)
{
    (void)g;
    (void)offset;
    (void)width;
    ((bool *)context)[at.kind] = true;
    return v;
}

static bool everywhere(void *context, site at)
{
    (void)context;
    (void)at;
    return true;
}

/* The sites that this backbone announces while its graph is built. */
static json_t *sites_of(backbone *b, const device *d)
{
    const backbone_shape *s = &b->shape;
    json_t *sites = json_array();
    bool reached[SITE_COUNT] = {false};
    const site_hooks hooks = {.context = reached, .reach = note_site, .listens = everywhere};
    graph *g = graph_new(d->k, d->k->real);
    build_request request = {.pixels = graph_input(g, "pixels", DTYPE_U8, 1, s->height * s->image_width * s->channels),
                             .hooks = &hooks};

    b->desc->build(b, g, &request);
    for (int k = 0; k < SITE_COUNT; k++)
        if (reached[k])
            json_array_append_new(sites, json_string(site_name((site_kind)k)));
    graph_free(g);
    return sites;
}

static json_t *tensors_of(const tensor_set *file)
{
    json_t *list = json_array();

    for (int i = 0; i < tensor_set_count(file); i++) {
        const tensor_view *t = tensor_set_at(file, i);
        json_t *shape = json_array();
        for (int d = 0; d < t->ndim; d++)
            json_array_append_new(shape, json_integer(t->dims[d]));
        json_array_append_new(
            list, json_pack("{s:o, s:s, s:o}", "name", json_text(t->name), "dtype", t->type_name, "shape", shape));
    }
    return list;
}

/* Describes where the configuration comes from that tensors do not tell, and which of them are left out. */
static void describe_reading(json_t *out, const backbone *b)
{
    json_t *passed = json_array();

    if (b->shape.image_width != b->shape.height)
        json_object_set_new(out, "image_size",
                            json_pack("[I, I]", (json_int_t)b->shape.height, (json_int_t)b->shape.image_width));
    json_object_set_new(out, "described_by", json_string(b->described_by));
    for (int i = 0; i < b->passed_count; i++)
        json_array_append_new(passed, json_pack("{s:s, s:i, s:s}", "tensors", b->passed[i].pattern, "count",
                                                b->passed[i].count, "left_out", b->passed[i].reason));
    if (b->passed_count)
        json_object_set_new(out, "passed_over", passed);
    else
        json_decref(passed);
}

static inlay_status describe_backbone(json_t **out, const char *path, const options *o, const inlay_observer *w,
                                      inlay_error *err)
{
    backbone *b;
    device d;
    inlay_status status;

    TRY(backbone_open(&b, path, 0, err));
    watch_notes(w, &b->notes, false, NULL);
    status = backbone_identify(b, err);
    if (status == INLAY_OK)
        status = device_open(&d, NULL, (int)options_int(o, "threads"), err);
    if (status == INLAY_OK) {
        const backbone_shape *s = &b->shape;
        *out =
            json_build("the description", err, "{s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:s, s:f, s:s}",
                       "kind", "backbone", "architecture", s->architecture, "layout", s->layout, "width",
                       (json_int_t)s->width, "depth", (json_int_t)s->depth, "heads", (json_int_t)s->heads, "hidden",
                       (json_int_t)s->hidden, "patch", (json_int_t)s->patch, "image_size", (json_int_t)s->height,
                       "tokens", (json_int_t)s->tokens, "classes", (json_int_t)s->classes, "pool",
                       pooling_name(s->pool), "layernorm_eps", s->eps, "activation", activation_name(s->act));
        json_t *more = json_build(
            "the description", err, "{s:I, s:I, s:I, s:s, s:[f,f,f], s:[f,f,f], s:s, s:s, s:f}", "parameters",
            (json_int_t)backbone_param_total(b, false), "parameters_with_head",
            (json_int_t)backbone_param_total(b, true), "file_bytes", (json_int_t)tensor_set_bytes(b->file), "sha256",
            b->sha256, "mean", (double)b->input.mean[0], (double)b->input.mean[1], (double)b->input.mean[2], "std",
            (double)b->input.std[0], (double)b->input.std[1], (double)b->input.std[2], "interpolation",
            b->input.interpolation, "crop_mode", b->input.crop_mode, "crop_pct", b->input.crop_pct);
        status = *out && more ? INLAY_OK : INLAY_ERR_FORMAT;
        json_object_update_new(*out, more);
        if (b->labels)
            json_object_set_new(
                *out, "labels",
                json_pack("{s:I, s:o}", "named", (json_int_t)b->named, "source", json_text(b->label_source)));
        json_object_set_new(
            *out, "inference_bytes_batch_1",
            json_integer((json_int_t)planned(b, &d, precision_choose(options_string(o, "precision"), &d), 1)));
        json_object_set_new(
            *out, "inference_bytes_batch_32",
            json_integer((json_int_t)planned(b, &d, precision_choose(options_string(o, "precision"), &d), 32)));
        describe_reading(*out, b);
        if (options_flag(o, "sites"))
            json_object_set_new(*out, "sites", sites_of(b, &d));
        if (options_flag(o, "tensors"))
            json_object_set_new(*out, "tensors", tensors_of(b->file));
        device_close(&d);
    }
    backbone_close(b);
    return status;
}

#define CHECKPOINT "checkpoint.safetensors"

/* Whether a process holds the folder of a checkpoint. */
static bool is_running(const char *checkpoint)
{
    arena *memory = arena_new();
    const char *folder = arena_printf(memory, "%.*s", (int)(path_base(checkpoint) - checkpoint), checkpoint);
    bool held = file_lock_held(path_join(memory, folder, FOLDER_LOCK));

    arena_free(memory);
    return held;
}

/* Describes a run that is not complete: it goes on, or was interrupted. `checkpoint` may not be there yet. */
static inlay_status describe_run(json_t **out, const char *checkpoint, inlay_error *err)
{
    bool running = is_running(checkpoint);
    train_state state;
    file_stamp stamp;
    void *run = NULL;
    char written[32];
    time_t seconds;
    size_t bytes = 0;

    *out = json_pack("{s:s, s:b, s:b}", "kind", "run", "complete", 0, "running", running);
    if (!file_exists(checkpoint)) {
        json_object_set_new(
            *out, "state",
            json_string(running ? "has begun; no checkpoint is written yet"
                                : "no checkpoint is written yet: there is nothing that --resume could go on from"));
        return INLAY_OK;
    }
    TRY(checkpoint_describe(checkpoint, &state, &run, err));
    seconds = file_stamp_of(checkpoint, &stamp) ? (time_t)stamp.seconds : 0;
    strftime(written, sizeof written, "%Y-%m-%dT%H:%M:%SZ", gmtime(&seconds));
    file_size(checkpoint, &bytes);
    json_object_set_new(
        *out, "state",
        json_string(running ? "goes on" : "was interrupted: the same command with --resume continues it"));
    for (size_t i = 0; i < sizeof recorded / sizeof *recorded; i++)
        if (json_object_get(run, recorded[i]))
            json_object_set(*out, recorded[i], json_object_get(run, recorded[i]));
    json_object_update_new(*out, json_pack("{s:i, s:i, s:I, s:o, s:s, s:I}", "epochs_done", state.epoch,
                                           "steps_of_the_next", state.step_in_epoch, "steps", (json_int_t)state.step,
                                           "checkpoint", json_text(checkpoint), "checkpoint_written", written,
                                           "checkpoint_bytes", (json_int_t)bytes));
    json_decref(run);
    return INLAY_OK;
}

/* The checkpoint of the run that `path` is: its output folder, or the checkpoint itself. NULL: it is none. */
static const char *checkpoint_of(arena *memory, const char *path)
{
    const char *checkpoint = path_join(memory, path, CHECKPOINT);

    if (strcmp(path_base(path), CHECKPOINT) == 0 && file_exists(path) && !file_is_folder(path))
        return path;
    if (file_exists(path_join(memory, path, "model.safetensors")))
        return NULL;
    return file_exists(checkpoint) || file_exists(path_join(memory, path, "metrics.jsonl")) ? checkpoint : NULL;
}

static inlay_status describe_adapter(json_t **out, const char *folder, const char *json_path, const options *o,
                                     inlay_error *err)
{
    arena *memory = arena_new();
    const char *checkpoint = path_join(memory, folder, CHECKPOINT);
    tensor_set *file = NULL;
    inlay_status status = json_read(out, json_path, err);

    if (status == INLAY_OK)
        status = tensor_set_open(&file, path_join(memory, folder, "adapter.safetensors"), err);
    if (status == INLAY_OK) {
        json_object_set_new(*out, "kind", json_string("adapter"));
        json_object_set_new(*out, "file_bytes", json_integer((json_int_t)tensor_set_bytes(file)));
        if (options_flag(o, "tensors"))
            json_object_set_new(*out, "tensors", tensors_of(file));
        if (file_exists(checkpoint)) { /* its run was stopped between writing it and the end */
            json_t *run = NULL;
            status = describe_run(&run, checkpoint, err);
            json_object_set_new(*out, "run", run);
        }
    }
    tensor_set_close(file);
    arena_free(memory);
    return status;
}

static inlay_status run(options *o, const inlay_observer *w, json_t **record, inlay_error *err)
{
    arena *memory = arena_new();
    const char *path = options_positionals(o) ? options_positional(o, 0) : NULL;
    inlay_status status;

    if (options_positionals(o) != 1) {
        arena_free(memory);
        FAIL(err, INLAY_ERR_USAGE, "one folder or file is expected");
    }
    if (file_exists(path_join(memory, path, "adapter.json")))
        status = describe_adapter(record, path, path_join(memory, path, "adapter.json"), o, err);
    else if (checkpoint_of(memory, path))
        status = describe_run(record, checkpoint_of(memory, path), err);
    else
        status = describe_backbone(record, path, o, w, err);
    if (status != INLAY_OK) {
        json_decref(*record);
        *record = NULL;
    }
    arena_free(memory);
    return status;
}

const job job_inspect = {
    .name = "inspect",
    .usage = "DIR|FILE [--json] [--sites] [--tensors]",
    .summary = "show what a checkpoint, an adapter or an unfinished run holds",
    .details = "For a checkpoint: architecture, naming, sizes, preprocessing, memory that inference takes; for an "
               "adapter: method, options, backbone, labels, training; for a run that is "
               "not complete: its method, how far it is, and when its checkpoint was written.",
    .options = option_table,
    .words = 1,
    .run = run,
};
