/* prune: keeps the most used parts of a fusion of adapters. */
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "compose/prune.h"
#include "run/common.h"

static const option_spec option_table[] = {
    OPTION_BACKBONE,
    OPT_TEXT("adapter", NULL, "DIR", "fusion to prune"),
    OPT_TEXT("data", NULL, "DIR|CSV", "what the fusion was trained on; where there are splits, train is taken"),
    OPT_INT("keep", "2", 1, 1000000, "K", "parts that stay in every layer: those with most attention"),
    OPT_TEXT("output", NULL, "DIR", "folder for the pruned fusion"),
    OPT_INT("batch_size", "16", 1, 4096, "N", "images at a time; the results do not depend on it"),
    OPTION_PRECISION,
    OPTION_THREADS,
    OPTION_WORKERS,
    OPTION_JSON,
    OPTION_MEMORY,
    OPTION_QUIET,
    {0},
};

static bool contains(const int *list, int count, int item)
{
    for (int i = 0; i < count; i++)
        if (list[i] == item)
            return true;
    return false;
}

static json_t *describe_layers(const prune_usage *u, int keep)
{
    arena *memory = arena_new();
    int *kept = ARENA_ARRAY(memory, int, u->parts);
    json_t *layers = json_array();

    for (int layer = 0; layer < u->layers; layer++) {
        int count = prune_layer(u, layer, keep, kept);
        json_t *weights = json_array(), *list = json_array();
        for (int n = 0; n < u->parts; n++) {
            double mean = u->mean[layer * u->parts + n];
            json_array_append_new(weights, mean >= 0 ? json_real(mean) : json_null());
            if (contains(kept, count, n))
                json_array_append_new(list, json_integer(n));
        }
        json_array_append_new(layers, json_pack("{s:i, s:o, s:o}", "layer", layer, "weights", weights, "kept", list));
    }
    arena_free(memory);
    return layers;
}

static inlay_status report(json_t **record, const prune_usage *u, const adapter *a, const options *o, const char *text,
                           int keep, inlay_error *err)
{
    arena *memory = arena_new();
    const char *output = options_string(o, "output");
    json_t *parts = json_array();
    size_t before = 0, after = 0;

    for (int n = 0; n < u->parts; n++)
        json_array_append_new(parts, json_string(a->parts[n]->name));
    file_size(path_join(memory, options_string(o, "adapter"), "adapter.safetensors"), &before);
    file_size(path_join(memory, output, "adapter.safetensors"), &after);
    *record = json_build("the answer", err, "{s:o, s:s, s:i, s:i, s:o, s:o, s:I, s:I}", "output", json_text(output),
                         "keep", text, "images", u->images, "unreadable", u->bad_count, "parts", parts, "layers",
                         describe_layers(u, keep), "bytes_before", (json_int_t)before, "bytes", (json_int_t)after);
    arena_free(memory);
    return *record ? INLAY_OK : INLAY_ERR_FORMAT;
}

/* Makes the fusion's own record of its training, which goes on with what was done to it. */
static json_t *make_record(arena *memory, const options *o, const prune_usage *u)
{
    json_t *root, *record;

    json_read(&root, path_join(memory, options_string(o, "adapter"), "adapter.json"), NULL); /* opened once already */
    record = json_deep_copy(json_object_get(root, "training"));
    if (!record)
        record = json_object();
    json_object_set_new(record, "pruned",
                        json_pack("{s:i, s:i}", "keep", (int)options_int(o, "keep"), "images", u->images));
    json_decref(root);
    return record;
}

static inlay_status write_pruned(session *s, const options *o, const prune_usage *u, const inlay_observer *w,
                                 json_t **answer, inlay_error *err)
{
    arena *memory = arena_new();
    int keep = (int)options_int(o, "keep");
    const char *output = options_string(o, "output"), *text = prune_text(memory, u, keep);
    json_t *record = make_record(memory, o, u);
    void *preprocessing = preprocess_record(&s->prep);
    file_lock lock = {.fd = -1};
    inlay_status status = hold_folder(&lock, output, w, err);

    if (status == INLAY_OK)
        status = prune_write(s->a, &s->dev, text, output, preprocessing, record, err);
    file_lock_release(&lock);
    if (status == INLAY_OK)
        status = report(answer, u, s->a, o, text, keep, err);
    json_decref(preprocessing);
    json_decref(record);
    arena_free(memory);
    return status;
}

static inlay_status prune(session *s, const options *o, const inlay_observer *w, json_t **record, inlay_error *err)
{
    const char *path = options_string(o, "data");
    bool split = dataset_has_split(path, NULL);
    prune_request request = {.s = s,
                             .batch = options_int(o, "batch_size"),
                             .workers = choose_workers(o),
                             .progress = watch_on_progress,
                             .context = &w};
    prune_usage usage;
    dataset *d;
    notes found = {0};
    inlay_status status;

    if (s->a->part_count && options_int(o, "keep") > s->a->part_count)
        FAIL(err, INLAY_ERR_USAGE, "--keep %lld: '%s' has %d parts", (long long)options_int(o, "keep"),
             options_string(o, "adapter"), s->a->part_count);
    status = session_dataset(s, &d, path, split ? "train" : NULL, &found, err);
    watch_notes(w, &found, false, NULL);
    notes_free(&found);
    TRY(status);
    request.data = d;
    watch_phase(w, "measuring", d->count, "img");
    status = prune_measure(&usage, &request, err);
    watch_end(w);
    if (status == INLAY_OK) {
        for (int i = 0; i < usage.bad_count; i++)
            watch_left_out(w, usage.bad[i]);
        note_cut_images(&s->prep, usage.cut_count, w);
        status = write_pruned(s, o, &usage, w, record, err);
        prune_free(&usage);
    }
    dataset_free(d);
    return status;
}

static inlay_status run(options *o, const inlay_observer *w, json_t **record, inlay_error *err)
{
    static const char *const needed[] = {"backbone", "adapter", "data", "output"};
    session_request request = {.backbone = options_string(o, "backbone"),
                               .adapter = options_string(o, "adapter"),
                               .threads = (int)options_int(o, "threads"),
                               .precision = options_string(o, "precision")};
    budget room;
    session s;
    inlay_status status;

    for (size_t i = 0; i < sizeof needed / sizeof *needed; i++)
        TRY(require(o, needed[i], err));
    open_budget(&room, o);
    request.room = &room;
    status = session_open(&s, &request, err);
    if (status == INLAY_OK) {
        status = prune(&s, o, w, record, err);
        session_close(&s);
    }
    budget_close(&room);
    return status;
}

const job job_prune = {
    .name = "prune",
    .usage = "--backbone DIR --adapter DIR --data DIR|labels.csv --output DIR [--keep 2]",
    .summary = "keep the most used parts of a fusion of adapters",
    .details = "Runs a fusion adapter over its training images, prints how much attention each of its parts gets in "
               "each layer, and writes a fusion in which every layer has "
               "the --keep most used parts only; its softmax runs over these, nothing is trained again. What no layer "
               "uses any more is left out of the file.",
    .options = option_table,
    .run = run,
};
