/* predict: classes of images. */
#include <assert.h>
#include <math.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/monitor.h"
#include "compose/heatmap.h"
#include "data/loader.h"
#include "infer/evaluate.h"
#include "run/common.h"

static const option_spec option_table[] = {
    OPTION_BACKBONE,
    OPTION_ADAPTER,
    OPTION_SKIP_LAYERS,
    OPTION_LABELS,
    OPT_INT("top_k", "5", 1, 1000, "K", "classes to show for each image"),
    OPT_FLAG("logits", "also give all logits (with --json)"),
    OPT_TEXT("heatmap", NULL, "FILE.png",
             "draw the token weights of an adapter_bias adapter over the one image that is given"),
    OPT_INT("heatmap_layer", NULL, 0, 1000000, "N", "those of layer N only; without it the mean over the layers"),
    OPT_INT("batch_size", "16", 1, 4096, "N", "images at a time; the results do not depend on it"),
    OPT_FLAG("strict", "fail when an image cannot be read"),
    OPTIONS_PREPROCESS,
    OPTION_PRECISION,
    OPTION_THREADS,
    OPTION_PIN,
    OPTION_WORKERS,
    OPTION_FORCE,
    OPTION_JSON,
    OPTION_MEMORY,
    OPTION_QUIET,
    {0},
};

static const option_need needs[] = {
    {"logits", "json", "true"},
    {"heatmap_layer", "heatmap", NULL},
    {"force_backbone", "adapter", NULL},
    {0},
};

/* ---- what is asked for: images in the order given, those of a folder by name ---- */

#define LARGEST_STREAM ((size_t)1 << 28) /* bytes of an image from a pipe */

typedef struct inputs {
    dataset set;
    file_content *contents;
    int content_count, content_capacity;
    bool *named; /* [set.count]: the user named this file, it was not found in a folder */
    int capacity, named_capacity, named_count;
    dataset **folders;
    int folder_count, folder_capacity;
    char **streams;
    int stream_count, stream_capacity;
    int failed; /* of those that were named */
    notes notes;
} inputs;

static void add_input(inputs *in, sample one, file_content content, bool named)
{
    ARRAY_PUSH(in->set.samples, in->set.count, in->capacity, one);
    ARRAY_PUSH(in->contents, in->content_count, in->content_capacity, content);
    ARRAY_PUSH(in->named, in->named_count, in->named_capacity, named);
}

static inlay_status add_folder(inputs *in, const char *path, inlay_error *err)
{
    dataset *found;

    TRY(dataset_from_paths(&found, &path, 1, &in->notes, err));
    ARRAY_PUSH(in->folders, in->folder_count, in->folder_capacity, found);
    for (int i = 0; i < found->count; i++)
        add_input(in, found->samples[i], (file_content){0}, false);
    return INLAY_OK;
}

static inlay_status add_stream(inputs *in, const char *path, inlay_error *err)
{
    char *bytes;
    size_t size;

    TRY(file_read_stream(path, LARGEST_STREAM, &bytes, &size, err));
    ARRAY_PUSH(in->streams, in->stream_count, in->stream_capacity, bytes);
    add_input(in, (sample){.path = path, .label = -1}, (file_content){bytes, size}, true);
    return INLAY_OK;
}

/* Collects the images. One name that leads nowhere does not keep the others from being answered; it fails the command
 * when they are. */
static inlay_status collect(inputs *in, const options *o, const inlay_observer *w, inlay_error *err)
{
    for (int i = 0; i < options_positionals(o); i++) {
        const char *path = options_positional(o, i);
        inlay_status status = INLAY_OK;
        if (file_is_stream(path))
            status = add_stream(in, path, err);
        else if (file_is_folder(path))
            status = add_folder(in, path, err);
        else
            add_input(in, (sample){.path = path, .label = -1}, (file_content){0}, true);
        if (status == INLAY_ERR_NOMEM)
            return status;
        if (status != INLAY_OK) {
            watch_left_out(w, err->message);
            in->failed++;
        }
    }
    in->set.contents = in->contents;
    if (in->set.count == 0)
        FAIL(err, INLAY_ERR_IO, "none of what is given could be read");
    return INLAY_OK;
}

static void forget(inputs *in)
{
    notes_free(&in->notes);
    for (int i = 0; i < in->folder_count; i++)
        dataset_free(in->folders[i]);
    for (int i = 0; i < in->stream_count; i++)
        free(in->streams[i]);
    free(in->folders);
    free(in->streams);
    free(in->set.samples);
    free(in->contents);
    free(in->named);
}

/* ---- answers ---- */

typedef struct work {
    const inlay_observer *watch;
    session *s;
    const options *o;
    predictor model;
    loader *l;
    float *logits, *probabilities; /* logits of each task's batch, one task after the other */
    int *indices, *order, top[1000];
    int64_t answered;
} work;

/* The k most probable classes, most probable first. */
static inlay_status add_top(json_t *root, work *w, int task, const float *logits, inlay_error *err)
{
    int64_t classes = session_task_classes(w->s, task);
    int k = (int)(options_int(w->o, "top_k") < classes ? options_int(w->o, "top_k") : classes);
    json_t *top = json_array();

    memcpy(w->probabilities, logits, (size_t)classes * sizeof *logits);
    softmax_top(w->probabilities, classes, w->top, k);
    json_object_set_new(root, "top", top);
    for (int i = 0; i < k; i++) {
        int c = w->top[i];
        const char *label = session_task_label(w->s, task, c);
        json_t *item = json_build("an answer", err, "{s:i, s:f, s:f}", "index", c, "probability",
                                  (double)w->probabilities[c], "logit", (double)logits[c]);
        if (!item)
            return INLAY_ERR_FORMAT;
        if (label)
            json_object_set_new(item, "label", json_text(label));
        json_array_append_new(top, item);
    }
    return INLAY_OK;
}

/* The classes of probability 0.5 and more, each for itself, in their order. */
static inlay_status add_labels(json_t *root, const work *w, int task, const float *logits, inlay_error *err)
{
    json_t *labels = json_array();

    json_object_set_new(root, "labels", labels);
    for (int64_t c = 0; c < session_task_classes(w->s, task); c++) {
        const char *label = session_task_label(w->s, task, c);
        json_t *item;
        if (logits[c] < 0)
            continue;
        item = json_build("an answer", err, "{s:I, s:f, s:f}", "index", (json_int_t)c, "probability",
                          1 / (1 + exp(-(double)logits[c])), "logit", (double)logits[c]);
        if (!item)
            return INLAY_ERR_FORMAT;
        if (label)
            json_object_set_new(item, "label", json_text(label));
        json_array_append_new(labels, item);
    }
    return INLAY_OK;
}

static inlay_status add_values(json_t *root, const work *w, int task, const float *outputs)
{
    json_t *values = json_array();

    for (int64_t i = 0; i < session_task_classes(w->s, task); i++)
        json_array_append_new(values, json_real((double)outputs[i])); /* finite: predictor_check */
    json_object_set_new(root, "values", values);
    return INLAY_OK;
}

static inlay_status add_answer(json_t *root, work *w, int task, const float *logits, inlay_error *err)
{
    const task_desc *of = session_task_of(w->s, task);

    TRY(of->one_class ? add_top(root, w, task, logits, err)
        : of->classes ? add_labels(root, w, task, logits, err)
                      : add_values(root, w, task, logits));
    if (options_flag(w->o, "logits")) {
        json_t *values = json_array();
        for (int64_t c = 0; c < session_task_classes(w->s, task); c++)
            json_array_append_new(values, json_real((double)logits[c])); /* finite: predictor_check */
        json_object_set_new(root, "logits", values);
    }
    return INLAY_OK;
}

/* Puts one task's answer for an image into `entry`. */
static inlay_status answer_task(work *w, json_t *entry, const sample *in, int task, const float *logits,
                                inlay_error *err)
{
    const char *folder = session_tasks(w->s) > 1 ? options_at(w->o, "adapter", task) : NULL;

    TRY(predictor_check(&w->model, task, logits, in->path, err));
    if (folder)
        json_set_path(entry, "adapter", folder);
    return add_answer(entry, w, task, logits, err);
}

/* Answers image `i` of the batch, once or once for each adapter. */
static inlay_status answer_image(work *w, const sample *in, int i, inlay_error *err)
{
    int tasks = session_tasks(w->s);
    json_t *entry = json_object(), *list = tasks > 1 ? json_array() : NULL;
    const float *logits = w->logits;
    inlay_status status = INLAY_OK;

    json_set_path(entry, "path", in->path);
    for (int t = 0; t < tasks && status == INLAY_OK; t++) {
        json_t *one = list ? json_object() : entry;
        status = answer_task(w, one, in, t, logits + i * session_task_classes(w->s, t), err);
        logits += w->model.batch * session_task_classes(w->s, t);
        if (list)
            json_array_append_new(list, one);
    }
    if (list)
        json_object_set_new(entry, "tasks", list);
    if (status != INLAY_OK) {
        json_decref(entry);
        return status;
    }
    w->answered++;
    return watch_event(w->watch, "prediction", entry, err);
}

static inlay_status answer(work *w, const dataset *d, inlay_error *err)
{
    int got;

    for (;;) {
        float *logits = w->logits;
        TRY(loader_next(w->l, (int)w->model.batch, predictor_pixels(&w->model), w->indices, &got, err));
        if (got == 0)
            return INLAY_OK;
        predictor_forward(&w->model, got);
        for (int t = 0; t < session_tasks(w->s); t++) {
            predictor_logits(&w->model, t, got, logits);
            logits += w->model.batch * session_task_classes(w->s, t);
        }
        for (int i = 0; i < got; i++)
            TRY(answer_image(w, &d->samples[w->indices[i]], i, err));
        if (watch_stop(w->watch))
            FAIL(err, INLAY_ERR_INTERRUPTED, "interrupted: %lld of %d images are answered", (long long)w->answered,
                 d->count);
    }
}

static inlay_status prepare(work *w, const dataset *d, inlay_error *err)
{
    int64_t batch = options_int(w->o, "batch_size") < d->count ? options_int(w->o, "batch_size") : d->count,
            classes = 0;
    loader_request request = {
        .data = d, .prep = &w->s->prep, .count = d->count, .workers = choose_workers(w->o), .ahead = (int)batch * 2};

    for (int t = 0; t < session_tasks(w->s); t++)
        classes += session_task_classes(w->s, t);
    assert(classes > 0 && "a session has a task, and a task classes");
    w->order = calloc((size_t)d->count, sizeof *w->order);
    w->logits = calloc((size_t)batch, size_product(classes, sizeof *w->logits));
    w->probabilities = calloc((size_t)classes, sizeof *w->probabilities);
    w->indices = calloc((size_t)batch, sizeof *w->indices);
    if (!w->order || !w->logits || !w->probabilities || !w->indices)
        FAIL(err, INLAY_ERR_NOMEM, "out of memory for %d images", d->count);
    for (int i = 0; i < d->count; i++)
        w->order[i] = i;
    request.order = w->order;
    loader_plan(w->s->room, &w->s->prep, 2 * batch, d->count);
    TRY(budget_check(w->s->room, err));
    TRY(loader_new(&w->l, &request, err)); /* decodes while the weights are packed */
    return session_predictor(w->s, batch, &w->model, err);
}

/* Reports images that could not be read: one that was named fails the command; one that was found in a folder is only
 * told. */
static inlay_status report_bad(const work *w, const inputs *in, inlay_error *err)
{
    int bad = w->l ? loader_bad_count(w->l) : 0, named = in->failed;

    for (int i = 0; i < bad; i++) {
        watch_left_out(w->watch, loader_bad_message(w->l, i));
        named += in->named[loader_bad_sample(w->l, i)];
    }
    if (bad + in->failed > 0 && (named > 0 || options_flag(w->o, "strict") || bad == in->set.count))
        FAIL(err, INLAY_ERR_IO, "%d of %d images could not be read", bad + in->failed, in->set.count + in->failed);
    return INLAY_OK;
}

/* Makes the record of what there is beside the answers themselves, which went to the observer. */
static inlay_status make_record(json_t **record, const work *w, const inputs *in, const heatmap *h, inlay_error *err)
{
    json_t *map = NULL;

    if (h->picture.rgb) {
        map =
            json_build("the heat map's record", err, "{s:o, s:i, s:f, s:f}", "file",
                       json_text(options_string(w->o, "heatmap")), "layers", h->layers, "low", h->low, "high", h->high);
        if (!map)
            return INLAY_ERR_FORMAT;
    }
    *record = json_build("the answer", err, "{s:I, s:i}", "answered", (json_int_t)w->answered, "unreadable",
                         (w->l ? loader_bad_count(w->l) : 0) + in->failed);
    if (*record && map)
        json_object_set_new(*record, "heatmap", json_incref(map));
    json_decref(map);
    return *record ? INLAY_OK : INLAY_ERR_FORMAT;
}

static inlay_status predict(session *s, const inputs *in, const heatmap *h, const options *o,
                            const inlay_observer *watch, json_t **record, inlay_error *err)
{
    work w = {.watch = watch, .s = s, .o = o};
    inlay_status status = prepare(&w, &in->set, err);

    if (status == INLAY_OK)
        status = answer(&w, &in->set, err);
    if (status == INLAY_OK)
        status = make_record(record, &w, in, h, err);
    if (status == INLAY_OK)
        status = report_bad(&w, in, err);
    else if (w.l)
        report_bad(&w, in, NULL);
    note_cut_images(&s->prep, w.l ? loader_cut_count(w.l) : 0, watch);
    loader_free(w.l);
    if (w.model.p)
        predictor_close(&w.model);
    free(w.order);
    free(w.logits);
    free(w.probabilities);
    free(w.indices);
    return status;
}

/* Draws the heat map before the answers, so that what is wrong with it is said first. */
static inlay_status draw(heatmap *h, session *s, const dataset *d, const options *o, inlay_error *err)
{
    const char *file = options_string(o, "heatmap");

    if (!file)
        return INLAY_OK;
    if (d->count != 1)
        FAIL(err, INLAY_ERR_USAGE, "--heatmap draws one image, %d are given", d->count);
    if (session_tasks(s) > 1)
        FAIL(err, INLAY_ERR_USAGE, "--heatmap draws one adapter's weights, %d are given", session_tasks(s));
    TRY(heatmap_draw(h, s, d,
                     options_has(o, "heatmap_layer") ? (int)options_int(o, "heatmap_layer") : HEATMAP_ALL_LAYERS, err));
    return image_write_png(&h->picture, file, err);
}

static inlay_status run(options *o, const inlay_observer *w, json_t **record, inlay_error *err)
{
    session s;
    inputs in = {0};
    heatmap h = {0};
    budget room;
    inlay_status status;

    if (options_positionals(o) == 0)
        FAIL(err, INLAY_ERR_USAGE, "no image is given");
    TRY(open_session(&s, &room, o, w, err));
    status = apply_labels(&s, o, w, err);
    if (status == INLAY_OK)
        status = collect(&in, o, w, err);
    if (status == INLAY_OK)
        status = watch_notes(w, &in.notes, options_flag(o, "strict"), err);
    if (status == INLAY_OK)
        status = draw(&h, &s, &in.set, o, err);
    if (status == INLAY_OK)
        status = predict(&s, &in, &h, o, w, record, err);
    heatmap_free(&h);
    forget(&in);
    close_session(&s, &room);
    return status;
}

const job job_predict = {
    .name = "predict",
    .usage = "--backbone DIR [--adapter DIR]... IMAGE|DIR... [--top-k 5] [--json] [--logits] [--heatmap FILE.png]",
    .summary = "classify images, or what else an adapter was trained for",
    .details = "Prints the most probable classes of each image (of an adapter for several labels those of probability "
               "0.5 and more, of one for numbers the numbers), in the order in which they are given; folders are "
               "searched for images, which are sorted by path. '-' is standard "
               "input; it and pipes are read to their end, 256 MB at most. Images that cannot be read are named on "
               "standard error, and one that was named on the command line "
               "and not read ends the command with status 1 when the others are answered. In JSON, a path that is not "
               "UTF-8 has U+FFFD for its bytes, and all of them in "
               "path_bytes, in hexadecimal. A logit that is not finite is an error. Several adapters "
               "answer one after the other for each image; what they share of the backbone is computed once. --heatmap "
               "writes the image, and beside it the same with the "
               "adapter's token weights in colours from dark (lowest) to yellow (highest).",
    .options = option_table,
    .words = INT_MAX,
    .needs = needs,
    .stops = true,
    .run = run,
};
