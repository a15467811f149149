/* Telling the observer of a job. The observer, and any of its functions, may be NULL: then nobody is told. */
#ifndef INLAY_RUN_WATCH_H
#define INLAY_RUN_WATCH_H

#include "base/json.h"
#include "base/notes.h"

/* Tells that a stretch of work begins; watch_end ends it. */
void watch_phase(const inlay_observer *w, const char *what, int64_t total, const char *unit);
void watch_end(const inlay_observer *w);
/* Tells how far the work is; `format` NULL: without a text. */
void watch_progress(const inlay_observer *w, double done, double resumed, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
void watch_note(const inlay_observer *w, const char *format, ...) __attribute__((format(printf, 2, 3)));
void watch_left_out(const inlay_observer *w, const char *text);
/* Tells a part of the answer and releases `record`; NULL is an error. */
inlay_status watch_event(const inlay_observer *w, const char *kind, json_t *record, inlay_error *err);
bool watch_stop(const inlay_observer *w);
/* watch_progress and watch_stop for work that calls functions with a context: const inlay_observer *const *. */
void watch_on_progress(void *context, int done, int total);
bool watch_on_stop(void *context);

/* Tells all of the list; `strict`: the first fault among them is an error. */
inlay_status watch_notes(const inlay_observer *w, const notes *n, bool strict, inlay_error *err);

#endif
