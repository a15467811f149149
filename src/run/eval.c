/* eval: the task's metrics, per-class table, confusion matrix. */
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/monitor.h"
#include "base/text.h"
#include "infer/evaluate.h"
#include "run/common.h"

static const option_spec option_table[] = {
    OPTION_BACKBONE,
    OPTION_ADAPTER,
    OPTION_SKIP_LAYERS,
    OPTION_LABELS,
    OPT_TEXT("data", NULL, "DIR|CSV",
             "folder with train/val/test, folder of class folders, or a list with the columns path and label, target "
             "or labels"),
    OPT_TEXT("split", NULL, "NAME", "train, val or test; default: test where there are splits"),
    OPT_INT("batch_size", "16", 1, 4096, "N", "images at a time; the results do not depend on it"),
    OPT_TEXT("confusion", NULL, "FILE.csv", "write the confusion matrix (rows: true class)"),
    OPT_FLAG("per_class", "print the table by class even when there are many"),
    OPT_FLAG("strict", "fail when an image cannot be read or a file is passed over"),
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

static const option_need needs[] = {{"force_backbone", "adapter", NULL}, {0}};

static const char *label_of(const session *s, const dataset *d, int64_t c, char room[TEXT_SHORT])
{
    const char *label = session_label(s, c);

    if (label)
        return label;
    if (!d->numeric_labels && c < d->class_count)
        return d->classes[c];
    snprintf(room, TEXT_SHORT, "%lld", (long long)c);
    return room;
}

/* Makes a row for each class that occurs or was answered: how many images it has, how often it was answered, and how
 * often rightly. */
static json_t *by_class(const session *s, const dataset *d, const evaluation *e)
{
    json_t *rows = json_array();

    for (int64_t c = 0; c < e->scores.outputs; c++) {
        int images = 0, called = 0;
        char room[TEXT_SHORT];
        for (int64_t k = 0; k < e->scores.outputs; k++) {
            images += e->scores.confusion[c * e->scores.outputs + k];
            called += e->scores.confusion[k * e->scores.outputs + c];
        }
        if (images == 0 && called == 0)
            continue;
        json_array_append_new(rows, json_pack("{s:I, s:o, s:i, s:i, s:i}", "index", (json_int_t)c, "class",
                                              json_text(label_of(s, d, c, room)), "images", images, "answered", called,
                                              "right", e->scores.confusion[c * e->scores.outputs + c]));
    }
    return rows;
}

static inlay_status write_confusion(const session *s, const dataset *d, const evaluation *e, const char *path,
                                    inlay_error *err)
{
    arena *memory = arena_new();
    const char **labels = ARENA_ARRAY(memory, const char *, e->scores.outputs);
    file_writer w;
    inlay_status status = file_begin_named(&w, path, err);

    for (int64_t c = 0; c < e->scores.outputs; c++) {
        char room[TEXT_SHORT];
        labels[c] = arena_strdup(memory, label_of(s, d, c, room));
    }
    if (status == INLAY_OK) {
        text_csv_matrix(w.stream, "true\\predicted", labels, e->scores.confusion, e->scores.outputs);
        status = file_commit(&w, err);
    }
    arena_free(memory);
    return status;
}

static bool wants_table(const session *s, const options *o)
{
    return session_task_of(s, 0)->one_class && (session_classes(s) <= 30 || options_flag(o, "per_class"));
}

static json_t *figures(const evaluation *e, inlay_error *err)
{
    return json_joined(scores_object("the result", &e->scores, true, err),
                       json_build("the result", err, "{s:I}", e->scores.task->classes ? "classes" : "outputs",
                                  (json_int_t)e->scores.outputs));
}

/* The figures of each adapter, a row for one. */
static json_t *task_figures(const session *s, const evaluation *e, const options *o, inlay_error *err)
{
    json_t *tasks = json_array();

    for (int i = 0; i < session_tasks(s); i++) {
        json_t *row =
            json_joined(json_build("the result", err, "{s:o}", "adapter", json_text(options_at(o, "adapter", i))),
                        figures(&e[i], err));
        if (!row) {
            json_decref(tasks);
            return NULL;
        }
        json_array_append_new(tasks, row);
    }
    return json_build("the result", err, "{s:o}", "tasks", tasks);
}

static json_t *report(const session *s, const dataset *d, const evaluation *e, const options *o, double seconds,
                      inlay_error *err)
{
    bool several = session_tasks(s) > 1;
    json_t *root =
        json_joined(several ? task_figures(s, e, o, err) : figures(e, err),
                    json_build("the result", err, "{s:i, s:f, s:s, s:s, s:o}", "unreadable", e->bad_count,
                               "images_per_second", seconds > 0 ? e->scores.count / seconds : 0, "precision",
                               precision_name(s->prec), "kernels", s->dev.k->name, "backbone", json_text(s->b->path)));

    if (root && !several && wants_table(s, o))
        json_object_set_new(root, "by_class", by_class(s, d, e));
    return root;
}

/* Checks that several adapters, which are evaluated on the same labels, mean the same classes. */
static inlay_status check_labels(const session *s, const options *o, inlay_error *err)
{
    for (int t = 1; t < session_tasks(s); t++) {
        const char *first = options_at(o, "adapter", 0), *other = options_at(o, "adapter", t);
        if (session_task_of(s, t) != session_task_of(s, 0))
            FAIL(err, INLAY_ERR_USAGE, "adapters '%s' and '%s' cannot be evaluated on the same data: %s and %s", first,
                 other, session_task_of(s, 0)->name, session_task_of(s, t)->name);
        if (session_task_classes(s, t) != session_classes(s))
            FAIL(err, INLAY_ERR_USAGE,
                 "adapters '%s' and '%s' cannot be evaluated on the same data: they have %lld and %lld classes", first,
                 other, (long long)session_classes(s), (long long)session_task_classes(s, t));
        for (int64_t c = 0; c < session_classes(s); c++) {
            const char *a = session_label(s, c), *b = session_task_label(s, t, c);
            if (strcmp(a ? a : "", b ? b : "") != 0)
                FAIL(err, INLAY_ERR_USAGE,
                     "adapters '%s' and '%s' cannot be evaluated on the same data: class %lld is '%s' and '%s'", first,
                     other, (long long)c, a ? a : "", b ? b : "");
        }
    }
    if (!session_task_of(s, 0)->one_class && (options_string(o, "confusion") || options_flag(o, "per_class")))
        FAIL(err, INLAY_ERR_USAGE, "--%s: one class of several is answered there, and here %s",
             options_string(o, "confusion") ? "confusion" : "per-class", session_task_of(s, 0)->summary);
    if (session_tasks(s) > 1 && options_string(o, "confusion"))
        FAIL(err, INLAY_ERR_USAGE, "--confusion writes the matrix of one adapter, %d are given", session_tasks(s));
    return INLAY_OK;
}

static inlay_status conclude(const session *s, const dataset *d, const evaluation *e, const options *o, double seconds,
                             const inlay_observer *w, json_t **record, inlay_error *err)
{
    for (int i = 0; i < e->bad_count; i++)
        watch_left_out(w, e->bad[i]);
    note_cut_images(&s->prep, e->cut_count, w);
    if (e->scores.count == 0)
        FAIL(err, INLAY_ERR_IO, "none of the %d images could be read", d->count);
    if (e->bad_count && options_flag(o, "strict"))
        FAIL(err, INLAY_ERR_IO, "%d images could not be read", e->bad_count);
    *record = report(s, d, e, o, seconds, err);
    if (!*record)
        return INLAY_ERR_FORMAT;
    TRY(watch_event(w, "result", json_incref(*record), err)); /* before the matrix, which may go to the same place */
    return options_string(o, "confusion") ? write_confusion(s, d, e, options_string(o, "confusion"), err) : INLAY_OK;
}

static inlay_status evaluate_session(session *s, const dataset *d, const options *o, const inlay_observer *w,
                                     json_t **record, inlay_error *err)
{
    predictor answers;
    evaluation *e;
    double begun = monitor_seconds();
    evaluate_request request = {.model = &answers,
                                .data = d,
                                .prep = &s->prep,
                                .workers = choose_workers(o),
                                .progress = watch_on_progress,
                                .stop = watch_on_stop,
                                .context = &w};
    inlay_status status;

    request.confusion = wants_table(s, o) || options_string(o, "confusion");
    TRY(check_labels(s, o, err));
    loader_plan(s->room, &s->prep, 2 * options_int(o, "batch_size"), d->count);
    TRY(session_predictor(s, options_int(o, "batch_size"), &answers, err));
    e = calloc((size_t)session_tasks(s), sizeof *e);
    status = e ? INLAY_OK : error_set(err, INLAY_ERR_NOMEM, "out of memory for the evaluation");
    watch_phase(w, "evaluating", d->count, "img");
    if (status == INLAY_OK)
        status = evaluate(e, &request, err);
    watch_end(w);
    predictor_close(&answers);
    if (status == INLAY_OK) {
        status = conclude(s, d, e, o, monitor_seconds() - begun, w, record, err);
        for (int t = 0; t < session_tasks(s); t++)
            evaluation_free(&e[t]);
    }
    free(e);
    return status;
}

static inlay_status run(options *o, const inlay_observer *w, json_t **record, inlay_error *err)
{
    const char *path = options_string(o, "data"), *split = options_string(o, "split");
    session s;
    budget room;
    dataset *d = NULL;
    notes found = {0};
    inlay_status status, noted;

    TRY(require(o, "data", err));
    TRY(open_session(&s, &room, o, w, err));
    if (!split && dataset_has_split(path, "test"))
        split = "test";
    status = apply_labels(&s, o, w, err);
    if (status == INLAY_OK)
        status = session_dataset(&s, &d, path, split, &found, err);
    noted = watch_notes(w, &found, status == INLAY_OK && options_flag(o, "strict"), err);
    notes_free(&found);
    status = status == INLAY_OK ? noted : status;
    if (status == INLAY_OK)
        status = evaluate_session(&s, d, o, w, record, err);
    dataset_free(d);
    close_session(&s, &room);
    return status;
}

const job job_eval = {
    .name = "eval",
    .usage = "--backbone DIR [--adapter DIR]... --data DIR|labels.csv [--split test] [--json]",
    .summary = "measure accuracy on labelled images",
    .details =
        "Prints the metrics of the task that the adapter was trained for (top-1 and top-5 accuracy and a table by "
        "class; mse, r2, Pearson's and Spearman's correlation; macro and micro F1 and mean average precision) "
        "and the mean loss. Without --adapter the "
        "checkpoint's own head answers. Several adapters with the "
        "same classes are evaluated at once, a line for each; what they share of the backbone is computed once "
        "for each image.",
    .options = option_table,
    .needs = needs,
    .stops = true,
    .run = run,
};
