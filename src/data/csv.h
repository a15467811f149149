/* Comma-separated values (RFC 4180): quotes, doubled quotes, commas and line ends inside quotes, a UTF-8 byte order
 * mark. Lines end with LF, CRLF or CR. Beyond that: spaces and tabs around a field, or around its quotes, are no part
 * of it; where the first line has no comma, its tabs or semicolons separate. */
#ifndef INLAY_DATA_CSV_H
#define INLAY_DATA_CSV_H

#include "base/file.h"

typedef struct csv {
    const char *name; /* for messages */
    char *next, *end; /* what is left of the text */
    char separator;
    int line; /* where the record that was read last begins, from 1 */
    int lines_read;
    char **fields; /* of that record; they point into the text */
    int count, capacity;
} csv;

/* Reads text[size] with text[size] == '\0'; the text is changed while it is read and has to live as long as its fields
 * are used. */
void csv_start(csv *c, char *text, size_t size, const char *name);
void csv_stop(csv *c);

/* The next record into c->fields; empty lines are skipped. *found = false: the end. */
inlay_status csv_next(csv *c, bool *found, inlay_error *err);

/* Number of the column of this name in the record read last; -1: none. */
int csv_column(const csv *c, const char *name);

#endif
