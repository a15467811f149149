/* How far a long piece of work is: one line that is redrawn on a terminal, a plain line now and then in a log. Used by
 * one thread. */
#ifndef INLAY_BASE_PROGRESS_H
#define INLAY_BASE_PROGRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

typedef struct progress {
    FILE *out; /* NULL: silent */
    char label[64], unit[24], note[128];
    double done, total;  /* in units; total 0: not known */
    double resumed;      /* done before this process began */
    double begun, drawn; /* monitor_seconds() of the beginning and of the last line */
    int columns;         /* of the terminal; 0: `out` is no terminal */
    bool utf8, shown;    /* may block characters be used; does a line stand on the terminal */
} progress;

/* Begins at 0 of `total` `unit`s ("images"). `out` NULL: nothing is ever written. The first line appears with the first
 * update. */
void progress_begin(progress *p, FILE *out, const char *label, double total, const char *unit);
/* Work that was done before, by a run that is resumed: counts as done, but not for the rate. */
void progress_resume(progress *p, double done);
/* `format` and what follows say more ("loss %.4f"); NULL keeps the last text.
 * Writes at most 10 times a second on a terminal, else every 10 seconds. */
void progress_update(progress *p, double done, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* Takes the line off the terminal, so that something else can be written; the next update draws it again. */
void progress_clear(progress *p);
/* Writes the last line: what was done, in what time, at what rate. */
void progress_end(progress *p);

/* The line for the time `now`, at most `columns` wide (0: as long as it gets, without a bar). What progress_update
 * draws. */
void progress_line(const progress *p, double now, int columns, bool utf8, char *line, size_t size);

#endif
