/* Notes: what a user should know although the work goes on. Whoever finds something collects it here; the command
 * prints the list. A fault is a note that --strict makes an error. The library itself prints nothing. */
#ifndef INLAY_BASE_NOTES_H
#define INLAY_BASE_NOTES_H

#include "base/arena.h"

typedef struct note {
    const char *text; /* one line, without a full stop */
    bool fault;
} note;

typedef struct notes {
    note *items;
    int count, capacity;
    arena *memory; /* NULL: nothing was noted yet */
} notes;

/* `n` may be NULL: nobody wants to know. A text that is in the list already is not added again. */
void notes_add(notes *n, const char *format, ...) __attribute__((format(printf, 2, 3)));
void notes_fault(notes *n, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The first fault as an error; INLAY_OK when there is none. */
inlay_status notes_refuse_faults(const notes *n, inlay_error *err);
void notes_free(notes *n);

#endif
