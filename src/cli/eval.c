/* inlay eval: accuracy, per-class table, confusion matrix. */
#include <jansson.h>
#include <string.h>

#include "base/monitor.h"
#include "base/text.h"
#include "cli/common.h"
#include "train/evaluate.h"

static const option_spec option_table[] = {
    OPTION_BACKBONE,
    OPTION_ADAPTER,
    {"data", OPTION_STRING, NULL, NULL, 0, 0, "DIR|CSV", "folder with train/val/test, folder of class folders, or a list with columns path and label", false},
    {"split", OPTION_STRING, NULL, NULL, 0, 0, "NAME", "train, val or test; default: test where there are splits", false},
    {"batch_size", OPTION_INT, "16", NULL, 1, 4096, "N", "images at a time; the results do not depend on it", false},
    {"confusion", OPTION_STRING, NULL, NULL, 0, 0, "FILE.csv", "write the confusion matrix (rows: true class)", false},
    {"per_class", OPTION_FLAG, NULL, NULL, 0, 0, NULL, "print the table by class even when there are many", false},
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

static void show_progress(void *context, int done, int total)
{
    (void)total;
    progress_update(context, done, NULL);
}

static const char *label_of(const session *s, const dataset *d, int64_t c, char room[TEXT_SHORT])
{
    const char *label = session_label(s, c);

    if (label)
        return label;
    if (!d->numeric_labels && c < d->class_count)
        return d->classes[c];
    return text_count(room, c);
}

static void print_table(const session *s, const dataset *d, const evaluation *e)
{
    text_table *t = text_table_new();

    text_table_column(t, "class", TEXT_LEFT);
    text_table_column(t, "images", TEXT_RIGHT);
    text_table_column(t, "recall %", TEXT_RIGHT);
    text_table_column(t, "precision %", TEXT_RIGHT);
    for (int64_t c = 0; c < e->classes; c++) {
        int images = 0, called = 0, hits = e->confusion[c * e->classes + c];
        char room[TEXT_SHORT];
        for (int64_t k = 0; k < e->classes; k++) {
            images += e->confusion[c * e->classes + k];
            called += e->confusion[k * e->classes + c];
        }
        if (images == 0 && called == 0)
            continue;
        text_table_cell(t, "%s", label_of(s, d, c, room));
        text_table_cell(t, "%d", images);
        if (images)
            text_table_cell(t, "%.1f", 100.0 * hits / images);
        else
            text_table_cell(t, "-");
        if (called)
            text_table_cell(t, "%.1f", 100.0 * hits / called);
        else
            text_table_cell(t, "-");
        text_table_end_row(t);
    }
    text_table_print(t, 0, stdout);
    text_table_free(t);
}

static inlay_status write_confusion(const session *s, const dataset *d, const evaluation *e, const char *path, inlay_error *err)
{
    arena *memory = arena_new();
    const char **labels = ARENA_ARRAY(memory, const char *, e->classes);
    file_writer w;
    inlay_status status = file_begin(&w, path, err);

    for (int64_t c = 0; c < e->classes; c++) {
        char room[TEXT_SHORT];
        labels[c] = arena_strdup(memory, label_of(s, d, c, room));
    }
    if (status == INLAY_OK) {
        text_csv_matrix(w.stream, "true\\predicted", labels, e->confusion, e->classes);
        status = file_commit(&w, err);
    }
    arena_free(memory);
    return status;
}

static void report(const session *s, const dataset *d, const evaluation *e, const options *o, double seconds)
{
    if (options_flag(o, "json")) {
        json_t *root = json_pack("{s:i, s:f, s:f, s:f, s:i, s:i, s:f, s:s, s:s, s:s}", "count", e->count, "top1", e->top1, "top5", e->top5, "loss", e->loss, "classes",
                                 (int)e->classes, "unreadable", e->bad_count, "images_per_second", seconds > 0 ? e->count / seconds : 0, "precision",
                                 s->prec == PRECISION_BF16 ? "bf16" : "f32", "kernels", s->dev.k->name, "backbone", s->b->path);
        json_dumpf(root, stdout, JSON_INDENT(2) | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(9));
        putchar('\n');
        json_decref(root);
        return;
    }
    if (e->classes <= 30 || options_flag(o, "per_class"))
        print_table(s, d, e);
    printf("%d images: top-1 %.2f %%, top-5 %.2f %%, loss %.4f\n", e->count, 100 * e->top1, 100 * e->top5, e->loss);
}

static inlay_status judge(session *s, const dataset *d, const options *o, inlay_error *err)
{
    progress bar = {0};
    predictor answers;
    evaluation e;
    double begun = monitor_seconds();
    evaluate_request request = {.model = &answers, .data = d, .prep = &s->prep, .workers = choose_workers(o), .progress = show_progress, .context = &bar};
    inlay_status status;

    TRY(session_predictor(s, options_int(o, "batch_size"), &answers, err));
    progress_begin(&bar, progress_stream(o), "evaluating", d->count, "img");
    status = evaluate(&e, &request, err);
    progress_end(&bar);
    predictor_close(&answers);
    TRY(status);
    for (int i = 0; i < e.bad_count; i++)
        fprintf(stderr, "left out: %s\n", e.bad[i]);
    if (e.count == 0)
        status = error_set(err, INLAY_ERR_IO, "none of the %d images could be read", d->count);
    else if (e.bad_count && options_flag(o, "strict"))
        status = error_set(err, INLAY_ERR_IO, "%d images could not be read", e.bad_count);
    if (status == INLAY_OK)
        report(s, d, &e, o, monitor_seconds() - begun);
    if (status == INLAY_OK && options_string(o, "confusion"))
        status = write_confusion(s, d, &e, options_string(o, "confusion"), err);
    evaluation_free(&e);
    return status;
}

static inlay_status run(options *o, inlay_error *err)
{
    const char *path = options_string(o, "data"), *split = options_string(o, "split");
    arena *memory = arena_new();
    session s;
    dataset *d = NULL;
    inlay_status status = require(o, "data", err);

    if (status == INLAY_OK)
        status = open_session(&s, o, err);
    if (status != INLAY_OK) {
        arena_free(memory);
        return status;
    }
    if (!split && file_is_folder(path_join(memory, path, "test")))
        split = "test";
    status = session_dataset(&s, &d, path, split, err);
    if (status == INLAY_OK)
        status = judge(&s, d, o, err);
    dataset_free(d);
    session_close(&s);
    arena_free(memory);
    return status;
}

const command command_eval = {
    .name = "eval",
    .usage = "--backbone DIR [--adapter DIR] --data DIR|labels.csv [--split test] [--json]",
    .summary = "measure accuracy on labelled images",
    .details = "Prints top-1 and top-5 accuracy, the mean cross-entropy and a table by class. Without --adapter the checkpoint's own head answers.",
    .options = option_table,
    .run = run,
};
