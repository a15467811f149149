/* What a user sees of a job: its progress and notes on standard error, its answer on standard output. */
#ifndef INLAY_CLI_DISPLAY_H
#define INLAY_CLI_DISPLAY_H

#include "base/json.h"
#include "base/options.h"
#include "base/progress.h"

typedef struct display display;

/* How the answer of a job is shown to people; with --json the record is printed as it is. */
typedef struct view {
    const char *job;
    /* A part of the answer as it comes; NULL: parts are not shown. */
    void (*event)(display *d, const char *kind, const json_t *record);
    /* In place of `event` with --json: the part's own text. NULL: `event` has it. */
    void (*raw)(display *d, const char *kind, const char *json);
    /* The answer. NULL: all of it was shown as it came. */
    void (*print)(display *d, const json_t *record);
    /* In place of printing the record with --json: the end of a document that `event` began. `record` NULL: the job
     * failed with the message `trouble`. NULL: the record is printed. */
    void (*json_end)(display *d, const json_t *record, const char *trouble);
} view;

#define VIEW(name) extern const view view_##name;
#include "cli/views.def"
#undef VIEW

extern const view *const view_table[]; /* ended by NULL */

struct display {
    const options *o;
    const view *v;
    FILE *out; /* of progress; NULL: --quiet */
    progress bar;
    bool open;        /* whether the bar is */
    bool json;        /* --json */
    int64_t events;   /* that came */
    int output_errno; /* why standard output takes no more; 0: it does */
};

/* `job`: its name. */
void display_open(display *d, const char *job, const options *o);
void display_close(display *d);
inlay_observer display_observer(display *d);
/* The answer of the job as inlay_run gave it; NULL with what went wrong. */
void display_answer(display *d, const char *record, const char *trouble);
/* Hands on what was printed; where that fails, the job is asked to stop. */
void display_flush(display *d);
/* A line of progress: nothing with --quiet. */
void display_line(display *d, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* For views: members of a record, "" and 0 where there is none. A path's own bytes where JSON could not hold them; the
 * text is the caller's, from malloc. */
const char *record_text(const json_t *record, const char *key);
double record_real(const json_t *record, const char *key);
int64_t record_int(const json_t *record, const char *key);
char *record_path(const json_t *record, const char *key);

/* The metrics of tasks, ended by key NULL. */
typedef struct metric_title {
    const char *key, *title;
    bool share; /* shown in per cent */
} metric_title;
extern const metric_title metric_titles[];

/* "93.10 %", "0.2104", "-" where it is not defined; in `memory`. */
const char *metric_text(arena *memory, const json_t *record, const metric_title *m);
/* "top-1 93.10 %, top-5 100.00 %": what the record has of them. */
const char *metrics_text(arena *memory, const json_t *record);

#endif
