#include "cli/display.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/stop.h"
#include "base/text.h"

const view *const view_table[] = {
#define VIEW(name) &view_##name,
#include "cli/views.def"
#undef VIEW
    NULL,
};

void display_open(display *d, const char *job, const options *o)
{
    *d = (display){.o = o, .json = options_has(o, "json") && options_flag(o, "json")};
    d->out = options_has(o, "quiet") && options_flag(o, "quiet") ? NULL : stderr;
    for (int i = 0; view_table[i]; i++)
        if (strcmp(view_table[i]->job, job) == 0)
            d->v = view_table[i];
}

static void end_phase(display *d)
{
    if (d->open)
        progress_end(&d->bar);
    d->open = false;
}

void display_close(display *d)
{
    end_phase(d);
}

/* ---- the observer ---- */

static void on_phase(void *context, const char *what, int64_t total, const char *unit)
{
    display *d = context;

    end_phase(d);
    if (!what)
        return;
    progress_begin(&d->bar, d->out, what, (double)total, unit);
    d->open = true;
}

static void on_progress(void *context, double done, double resumed, const char *text)
{
    display *d = context;

    if (resumed > d->bar.resumed)
        progress_resume(&d->bar, resumed);
    if (text)
        progress_update(&d->bar, done, "%s", text);
    else
        progress_update(&d->bar, done, NULL);
}

/* Notes are written with --quiet too: that takes away how far the work is, not what is wrong with it. */
static void on_note(void *context, const char *text)
{
    display *d = context;
    arena *memory;

    progress_clear(&d->bar);
    memory = arena_new();
    fprintf(stderr, "note: %s\n", text_escaped(memory, text)); /* names of files may hold anything */
    arena_free(memory);
}

static void on_left_out(void *context, const char *text)
{
    display *d = context;

    progress_clear(&d->bar);
    text_line(stderr, "left out: %s", text);
}

static void on_event(void *context, const char *kind, const char *json)
{
    display *d = context;
    json_t *record = NULL;

    if (d->v && d->json && d->v->raw)
        d->v->raw(d, kind, json);
    else if (d->v && d->v->event)
        record = json_loads(json, JSON_DECODE_ANY, NULL);
    if (record)
        d->v->event(d, kind, record);
    d->events++;
    json_decref(record);
}

static bool on_stop(void *context)
{
    const display *d = context;

    return stop_requested() || d->output_errno;
}

inlay_observer display_observer(display *d)
{
    return (inlay_observer){.size = sizeof(inlay_observer),
                            .context = d,
                            .phase = on_phase,
                            .progress = on_progress,
                            .note = on_note,
                            .left_out = on_left_out,
                            .event = on_event,
                            .stop = on_stop};
}

/* ---- the answer ---- */

void display_answer(display *d, const char *text, const char *trouble)
{
    json_t *record = text ? json_loads(text, JSON_DECODE_ANY, NULL) : NULL;

    end_phase(d);
    if (d->json && d->v && d->v->json_end)
        d->v->json_end(d, record, trouble);
    else if (d->json && text)
        puts(text);
    else if (record && d->v && d->v->print)
        d->v->print(d, record);
    json_decref(record);
}

void display_flush(display *d)
{
    if (fflush(stdout) != 0 && !d->output_errno)
        d->output_errno = errno;
}

void display_line(display *d, const char *format, ...)
{
    va_list args;

    if (!d->out)
        return;
    progress_clear(&d->bar);
    va_start(args, format);
    text_vline(d->out, format, args);
    va_end(args);
}

/* ---- members of a record ---- */

const char *record_text(const json_t *record, const char *key)
{
    const char *text = json_string_value(json_object_get(record, key));

    return text ? text : "";
}

double record_real(const json_t *record, const char *key)
{
    return json_number_value(json_object_get(record, key));
}

int64_t record_int(const json_t *record, const char *key)
{
    return json_integer_value(json_object_get(record, key));
}

char *record_path(const json_t *record, const char *key)
{
    char name[64];
    const char *digits;
    char *path;

    snprintf(name, sizeof name, "%s_bytes", key);
    digits = json_string_value(json_object_get(record, name));
    if (!digits)
        return strdup(record_text(record, key));
    path = calloc(strlen(digits) / 2 + 1, 1);
    for (size_t i = 0; path && digits[2 * i] && digits[2 * i + 1]; i++) {
        const char byte[3] = {digits[2 * i], digits[2 * i + 1], '\0'};
        path[i] = (char)strtoul(byte, NULL, 16);
    }
    return path;
}

const metric_title metric_titles[] = {
    {"top1", "top-1", true},        {"top5", "top-5", true},
    {"mse", "MSE", false},          {"r2", "R2", false},
    {"pearson", "Pearson", false},  {"spearman", "Spearman", false},
    {"f1_macro", "macro F1", true}, {"f1_micro", "micro F1", true},
    {"map", "mAP", true},           {0},
};

const char *metric_text(arena *memory, const json_t *record, const metric_title *m)
{
    if (!json_is_number(json_object_get(record, m->key)))
        return "-";
    return m->share ? arena_printf(memory, "%.2f %%", 100 * record_real(record, m->key))
                    : arena_printf(memory, "%.4f", record_real(record, m->key));
}

const char *metrics_text(arena *memory, const json_t *record)
{
    const char *text = "";

    for (const metric_title *m = metric_titles; m->key; m++)
        if (json_object_get(record, m->key))
            text = arena_printf(memory, "%s%s%s %s", text, *text ? ", " : "", m->title, metric_text(memory, record, m));
    return text;
}
