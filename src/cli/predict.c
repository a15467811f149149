/* inlay predict: classes of images. */
#include <jansson.h>
#include <stdlib.h>

#include "base/monitor.h"
#include "cli/common.h"
#include "data/loader.h"
#include "train/evaluate.h"

static const option_spec option_table[] = {
    OPTION_BACKBONE,
    OPTION_ADAPTER,
    {"top_k", OPTION_INT, "5", NULL, 1, 1000, "K", "classes to show for each image", false},
    {"logits", OPTION_FLAG, NULL, NULL, 0, 0, NULL, "also give all logits (with --json)", false},
    {"batch_size", OPTION_INT, "16", NULL, 1, 4096, "N", "images at a time; the results do not depend on it", false},
    {"strict", OPTION_FLAG, NULL, NULL, 0, 0, NULL, "fail when an image cannot be read", false},
    OPTIONS_PREPROCESS,
    OPTION_PRECISION,
    OPTION_THREADS,
    OPTION_WORKERS,
    OPTION_FORCE,
    OPTION_JSON,
    OPTION_QUIET,
    {0},
};

static json_t *describe(const session *s, const char *path, const float *logits, const float *probabilities, const int *order, int k, bool all)
{
    json_t *root = json_object(), *top = json_array();

    json_object_set_new(root, "path", json_string(path));
    for (int i = 0; i < k; i++) {
        const char *label = session_label(s, order[i]);
        json_t *item = json_pack("{s:i, s:f, s:f}", "index", order[i], "probability", (double)probabilities[order[i]], "logit", (double)logits[order[i]]);
        if (label)
            json_object_set_new(item, "label", json_string(label));
        json_array_append_new(top, item);
    }
    json_object_set_new(root, "top", top);
    if (all) {
        json_t *values = json_array();
        for (int64_t c = 0; c < session_classes(s); c++)
            json_array_append_new(values, json_real((double)logits[c]));
        json_object_set_new(root, "logits", values);
    }
    return root;
}

static void print_lines(const session *s, const char *path, const float *probabilities, const int *order, int k)
{
    printf("%s\n", path);
    for (int i = 0; i < k; i++) {
        const char *label = session_label(s, order[i]);
        printf("  %6.2f %%  %4d%s%s\n", 100 * (double)probabilities[order[i]], order[i], label ? "  " : "", label ? label : "");
    }
}

typedef struct work {
    session *s;
    const options *o;
    predictor model;
    loader *l;
    float *logits, *probabilities;
    int32_t *labels;
    int *indices, *order, top[1000];
    json_t *results;
} work;

static inlay_status answer(work *w, const dataset *d, inlay_error *err)
{
    int64_t classes = session_classes(w->s);
    int k = (int)(options_int(w->o, "top_k") < classes ? options_int(w->o, "top_k") : classes), got;

    for (;;) {
        TRY(loader_next(w->l, (int)w->model.batch, predictor_pixels(&w->model), w->labels, w->indices, &got, err));
        if (got == 0)
            return INLAY_OK;
        predictor_run(&w->model, got, w->logits);
        for (int i = 0; i < got; i++) {
            const char *path = d->samples[w->indices[i]].path;
            for (int64_t c = 0; c < classes; c++)
                w->probabilities[c] = w->logits[i * classes + c];
            softmax_top(w->probabilities, classes, w->top, k);
            if (w->results)
                json_array_append_new(w->results, describe(w->s, path, w->logits + i * classes, w->probabilities, w->top, k, options_flag(w->o, "logits")));
            else
                print_lines(w->s, path, w->probabilities, w->top, k);
        }
    }
}

static inlay_status prepare(work *w, const dataset *d, inlay_error *err)
{
    int64_t batch = options_int(w->o, "batch_size") < d->count ? options_int(w->o, "batch_size") : d->count, classes = session_classes(w->s);
    loader_request request = {.data = d, .prep = &w->s->prep, .count = d->count, .workers = choose_workers(w->o), .ahead = (int)batch * 2};

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

static inlay_status predict(session *s, const dataset *d, const options *o, inlay_error *err)
{
    work w = {.s = s, .o = o, .results = options_flag(o, "json") ? json_array() : NULL};
    inlay_status status = prepare(&w, d, err);

    if (status == INLAY_OK)
        status = answer(&w, d, err);
    if (status == INLAY_OK && w.results) {
        json_t *root = json_pack("{s:O}", "results", w.results);
        json_dumpf(root, stdout, JSON_INDENT(2) | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(9));
        putchar('\n');
        json_decref(root);
    }
    for (int i = 0; w.l && i < loader_bad_count(w.l); i++)
        fprintf(stderr, "left out: %s\n", loader_bad_message(w.l, i));
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

static inlay_status run(options *o, inlay_error *err)
{
    int count = options_positionals(o);
    const char **paths;
    session s;
    dataset *d = NULL;
    inlay_status status;

    if (count == 0)
        FAIL(err, INLAY_ERR_USAGE, "no image is given");
    TRY(open_session(&s, o, err));
    paths = calloc((size_t)count, sizeof *paths);
    for (int i = 0; paths && i < count; i++)
        paths[i] = options_positional(o, i);
    status = paths ? dataset_from_paths(&d, paths, count, err) : error_set(err, INLAY_ERR_NOMEM, "out of memory");
    free(paths);
    if (status == INLAY_OK)
        status = predict(&s, d, o, err);
    dataset_free(d);
    session_close(&s);
    return status;
}

const command command_predict = {
    .name = "predict",
    .usage = "--backbone DIR [--adapter DIR] IMAGE|DIR... [--top-k 5] [--json] [--logits]",
    .summary = "classify images",
    .details = "Prints the most probable classes of each image. Folders are searched for images. Images that cannot be read are named on standard error.",
    .options = option_table,
    .run = run,
};
