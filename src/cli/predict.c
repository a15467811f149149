/* inlay predict: classes of images. */
#include <jansson.h>
#include <stdlib.h>

#include "base/monitor.h"
#include "cli/common.h"
#include "compose/heatmap.h"
#include "data/loader.h"
#include "train/evaluate.h"

static const option_spec option_table[] = {
    OPTION_BACKBONE,
    OPTION_ADAPTER,
    OPTION_SKIP_LAYERS,
    OPTION_LABELS,
    {"top_k", OPTION_INT, "5", NULL, 1, 1000, "K", "classes to show for each image", false},
    {"logits", OPTION_FLAG, NULL, NULL, 0, 0, NULL, "also give all logits (with --json)", false},
    {"heatmap", OPTION_STRING, NULL, NULL, 0, 0, "FILE.png", "draw the token weights of an adapter_bias adapter over the one image that is given", false},
    {"heatmap_layer", OPTION_INT, NULL, NULL, 0, 1000000, "N", "those of layer N only; without it the mean over the layers", false},
    {"batch_size", OPTION_INT, "16", NULL, 1, 4096, "N", "images at a time; the results do not depend on it", false},
    {"strict", OPTION_FLAG, NULL, NULL, 0, 0, NULL, "fail when an image cannot be read", false},
    OPTIONS_PREPROCESS,
    OPTION_PRECISION,
    OPTION_THREADS,
    OPTION_PIN,
    OPTION_WORKERS,
    OPTION_FORCE,
    OPTION_JSON,
    OPTION_QUIET,
    {0},
};

static void add_answer(json_t *root, const session *s, int task, const float *logits, const float *probabilities, const int *order, int k, bool all)
{
    json_t *top = json_array();

    for (int i = 0; i < k; i++) {
        const char *label = session_task_label(s, task, order[i]);
        json_t *item = json_pack("{s:i, s:f, s:f}", "index", order[i], "probability", (double)probabilities[order[i]], "logit", (double)logits[order[i]]);
        if (label)
            json_object_set_new(item, "label", json_string(label));
        json_array_append_new(top, item);
    }
    json_object_set_new(root, "top", top);
    if (all) {
        json_t *values = json_array();
        for (int64_t c = 0; c < session_task_classes(s, task); c++)
            json_array_append_new(values, json_real((double)logits[c]));
        json_object_set_new(root, "logits", values);
    }
}

static void print_lines(const session *s, int task, int indent, const float *probabilities, const int *order, int k)
{
    for (int i = 0; i < k; i++) {
        const char *label = session_task_label(s, task, order[i]);
        printf("%*s%6.2f %%  %4d%s%s\n", indent, "", 100 * (double)probabilities[order[i]], order[i], label ? "  " : "", label ? label : "");
    }
}

typedef struct work {
    session *s;
    const options *o;
    predictor model;
    loader *l;
    float *logits, *probabilities; /* logits of each task's batch, one task after the other */
    int32_t *labels;
    int *indices, *order, top[1000];
    json_t *results;
} work;

/* Image `i` of the batch: one answer, or one for each adapter. */
static void answer_image(work *w, const char *path, int i)
{
    int tasks = session_tasks(w->s);
    json_t *entry = w->results ? json_pack("{s:s}", "path", path) : NULL, *list = json_array();
    const float *logits = w->logits;

    if (!entry)
        printf("%s\n", path);
    for (int t = 0; t < tasks; t++) {
        const char *folder = tasks > 1 ? options_at(w->o, "adapter", t) : NULL;
        int64_t classes = session_task_classes(w->s, t);
        int k = (int)(options_int(w->o, "top_k") < classes ? options_int(w->o, "top_k") : classes);
        const float *mine = logits + i * classes;
        for (int64_t c = 0; c < classes; c++)
            w->probabilities[c] = mine[c];
        softmax_top(w->probabilities, classes, w->top, k);
        if (entry) {
            json_t *one = folder ? json_pack("{s:s}", "adapter", folder) : json_incref(entry);
            add_answer(one, w->s, t, mine, w->probabilities, w->top, k, options_flag(w->o, "logits"));
            json_array_append_new(list, one);
        } else {
            if (folder)
                printf("  %s\n", folder);
            print_lines(w->s, t, folder ? 4 : 2, w->probabilities, w->top, k);
        }
        logits += w->model.batch * classes;
    }
    if (entry && tasks > 1)
        json_object_set(entry, "tasks", list);
    if (entry)
        json_array_append_new(w->results, entry);
    json_decref(list);
}

static inlay_status answer(work *w, const dataset *d, inlay_error *err)
{
    int got;

    for (;;) {
        float *logits = w->logits;
        TRY(loader_next(w->l, (int)w->model.batch, predictor_pixels(&w->model), w->labels, w->indices, &got, err));
        if (got == 0)
            return INLAY_OK;
        predictor_forward(&w->model, got);
        for (int t = 0; t < session_tasks(w->s); t++) {
            predictor_logits(&w->model, t, got, logits);
            logits += w->model.batch * session_task_classes(w->s, t);
        }
        for (int i = 0; i < got; i++)
            answer_image(w, d->samples[w->indices[i]].path, i);
    }
}

static inlay_status prepare(work *w, const dataset *d, inlay_error *err)
{
    int64_t batch = options_int(w->o, "batch_size") < d->count ? options_int(w->o, "batch_size") : d->count, classes = 0;
    loader_request request = {.data = d, .prep = &w->s->prep, .count = d->count, .workers = choose_workers(w->o), .ahead = (int)batch * 2};

    for (int t = 0; t < session_tasks(w->s); t++)
        classes += session_task_classes(w->s, t);
    w->order = calloc((size_t)d->count, sizeof *w->order);
    w->logits = calloc((size_t)(batch * classes), sizeof *w->logits);
    w->probabilities = calloc((size_t)classes, sizeof *w->probabilities);
    w->labels = calloc((size_t)batch, sizeof *w->labels);
    w->indices = calloc((size_t)batch, sizeof *w->indices);
    if (!w->order || !w->logits || !w->probabilities || !w->labels || !w->indices)
        FAIL(err, INLAY_ERR_NOMEM, "out of memory for %d images", d->count);
    for (int i = 0; i < d->count; i++)
        w->order[i] = i;
    request.order = w->order;
    TRY(loader_new(&w->l, &request, err)); /* decodes while the weights are packed */
    return session_predictor(w->s, batch, &w->model, err);
}

static inlay_status predict(session *s, const dataset *d, const heatmap *h, const options *o, inlay_error *err)
{
    work w = {.s = s, .o = o, .results = options_flag(o, "json") ? json_array() : NULL};
    inlay_status status = prepare(&w, d, err);

    if (status == INLAY_OK)
        status = answer(&w, d, err);
    if (status == INLAY_OK && w.results) {
        json_t *root = json_pack("{s:O}", "results", w.results);
        if (h->picture.rgb)
            json_object_set_new(root, "heatmap", json_pack("{s:s, s:i, s:f, s:f}", "file", options_string(o, "heatmap"), "layers", h->layers, "low", h->low, "high", h->high));
        json_dumpf(root, stdout, JSON_INDENT(2) | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(9));
        putchar('\n');
        json_decref(root);
    }
    for (int i = 0; w.l && i < loader_bad_count(w.l); i++)
        fprintf(stderr, "left out: %s\n", loader_bad_message(w.l, i));
    note_cut_images(&s->prep, w.l ? loader_cut_count(w.l) : 0);
    if (status == INLAY_OK && loader_bad_count(w.l) > 0 && (options_flag(o, "strict") || loader_bad_count(w.l) == d->count))
        status = error_set(err, INLAY_ERR_IO, "%d of %d images could not be read", loader_bad_count(w.l), d->count);
    json_decref(w.results);
    loader_free(w.l);
    if (w.model.p)
        predictor_close(&w.model);
    free(w.order);
    free(w.logits);
    free(w.probabilities);
    free(w.labels);
    free(w.indices);
    return status;
}

/* --heatmap: before the answers, so that what is wrong with it is said first. */
static inlay_status draw(heatmap *h, session *s, const dataset *d, const options *o, inlay_error *err)
{
    const char *file = options_string(o, "heatmap");

    if (!file && options_has(o, "heatmap_layer"))
        FAIL(err, INLAY_ERR_USAGE, "--heatmap-layer: --heatmap FILE.png is missing");
    if (!file)
        return INLAY_OK;
    if (d->count != 1)
        FAIL(err, INLAY_ERR_USAGE, "--heatmap draws one image, %d are given", d->count);
    if (session_tasks(s) > 1)
        FAIL(err, INLAY_ERR_USAGE, "--heatmap draws one adapter's weights, %d are given", session_tasks(s));
    TRY(heatmap_draw(h, s, d->samples[0].path, options_has(o, "heatmap_layer") ? (int)options_int(o, "heatmap_layer") : HEATMAP_ALL_LAYERS, err));
    return image_write_png(&h->picture, file, err);
}

static inlay_status run(options *o, inlay_error *err)
{
    int count = options_positionals(o);
    const char **paths;
    session s;
    dataset *d = NULL;
    heatmap h = {0};
    inlay_status status;

    if (count == 0)
        FAIL(err, INLAY_ERR_USAGE, "no image is given");
    TRY(open_session(&s, o, err));
    paths = calloc((size_t)count, sizeof *paths);
    for (int i = 0; paths && i < count; i++)
        paths[i] = options_positional(o, i);
    status = paths ? apply_labels(&s, o, err) : error_set(err, INLAY_ERR_NOMEM, "out of memory");
    if (status == INLAY_OK)
        status = dataset_from_paths(&d, paths, count, err);
    free(paths);
    if (status == INLAY_OK)
        status = draw(&h, &s, d, o, err);
    if (status == INLAY_OK)
        status = predict(&s, d, &h, o, err);
    if (status == INLAY_OK && h.picture.rgb && !options_flag(o, "json"))
        printf("heat map in '%s': |token weight| from %.3g to %.3g%s\n", options_string(o, "heatmap"), h.low, h.high, h.layers > 1 ? ", mean over the layers" : "");
    heatmap_free(&h);
    dataset_free(d);
    session_close(&s);
    return status;
}

const command command_predict = {
    .name = "predict",
    .usage = "--backbone DIR [--adapter DIR]... IMAGE|DIR... [--top-k 5] [--json] [--logits] [--heatmap FILE.png]",
    .summary = "classify images",
    .details = "Prints the most probable classes of each image. Folders are searched for images. Images that cannot be read are named on standard error. Several adapters "
               "answer one after the other for each image; what they share of the backbone is computed once. --heatmap writes the image, and beside it the same with the "
               "adapter's token weights in colours from dark (lowest) to yellow (highest).",
    .options = option_table,
    .run = run,
};
