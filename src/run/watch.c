#include "run/watch.h"

#include <stdarg.h>
#include <stdlib.h>

#include "base/arena.h"

void watch_phase(const inlay_observer *w, const char *what, int64_t total, const char *unit)
{
    if (w && w->phase)
        w->phase(w->context, what, total, unit);
}

void watch_end(const inlay_observer *w)
{
    watch_phase(w, NULL, 0, NULL);
}

void watch_progress(const inlay_observer *w, double done, double resumed, const char *format, ...)
{
    char text[128];
    va_list args;

    if (!w || !w->progress)
        return;
    va_start(args, format);
    if (format)
        vsnprintf(text, sizeof text, format, args);
    va_end(args);
    w->progress(w->context, done, resumed, format ? text : NULL);
}

void watch_note(const inlay_observer *w, const char *format, ...)
{
    arena *memory;
    va_list args;

    if (!w || !w->note)
        return;
    memory = arena_new();
    va_start(args, format);
    w->note(w->context, arena_vprintf(memory, format, args));
    va_end(args);
    arena_free(memory);
}

void watch_left_out(const inlay_observer *w, const char *text)
{
    if (w && w->left_out)
        w->left_out(w->context, text);
}

inlay_status watch_event(const inlay_observer *w, const char *kind, json_t *record, inlay_error *err)
{
    char *text = NULL;
    inlay_status status = INLAY_OK;

    if (!record || (w && w->event))
        status = json_encode(&text, record, JSON_ANSWER, kind, err);
    if (status == INLAY_OK && w && w->event)
        w->event(w->context, kind, text);
    free(text);
    json_decref(record);
    return status;
}

bool watch_stop(const inlay_observer *w)
{
    return w && w->stop && w->stop(w->context);
}

void watch_on_progress(void *context, int done, int total)
{
    (void)total;
    watch_progress(*(const inlay_observer *const *)context, done, 0, NULL);
}

bool watch_on_stop(void *context)
{
    return watch_stop(*(const inlay_observer *const *)context);
}

inlay_status watch_notes(const inlay_observer *w, const notes *n, bool strict, inlay_error *err)
{
    if (strict)
        TRY(notes_refuse_faults(n, err));
    for (int i = 0; i < n->count; i++)
        watch_note(w, "%s", n->items[i].text);
    return INLAY_OK;
}
