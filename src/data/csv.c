#include "data/csv.h"

#include <stdlib.h>
#include <string.h>

void csv_start(csv *c, char *text, size_t size, const char *name)
{
    *c = (csv){.name = name, .next = text, .end = text + size};
    if (size >= 3 && memcmp(text, "\xEF\xBB\xBF", 3) == 0)
        c->next += 3;
}

void csv_stop(csv *c)
{
    free(c->fields);
    *c = (csv){0};
}

/* Reads one field, unquoted in place; *last says that the record ends behind it. */
static inlay_status read_field(csv *c, bool *last, inlay_error *err)
{
    char *field = c->next, *in = c->next, *out;

    if (in < c->end && *in == '"') {
        field = out = ++in;
        for (;; in++) {
            if (in == c->end)
                FAIL(err, INLAY_ERR_FORMAT, "'%s' line %d: a quote is opened and never closed", c->name, c->line);
            if (*in == '"' && (in + 1 == c->end || in[1] != '"'))
                break;
            in += *in == '"';
            c->lines_read += *in == '\n';
            *out++ = *in;
        }
        in++;
        if (in < c->end && *in == '\r' && (in + 1 == c->end || in[1] == '\n'))
            in++;
        if (in < c->end && *in != ',' && *in != '\n')
            FAIL(err, INLAY_ERR_FORMAT, "'%s' line %d: text after a closing quote, expected a comma or the end of the line", c->name,
                 c->line);
    } else {
        while (in < c->end && *in != ',' && *in != '\n')
            in++;
        out = in > field && (in == c->end || *in == '\n') && in[-1] == '\r' ? in - 1 : in;
    }
    *last = in == c->end || *in == '\n';
    c->lines_read += *last;
    c->next = in == c->end ? in : in + 1;
    *out = '\0';
    if (strlen(field) != (size_t)(out - field))
        FAIL(err, INLAY_ERR_FORMAT, "'%s' line %d: the field holds a zero byte: this is not a text file", c->name, c->line);
    ARRAY_PUSH(c->fields, c->count, c->capacity, field);
    return INLAY_OK;
}

inlay_status csv_next(csv *c, bool *found, inlay_error *err)
{
    *found = false;
    while (c->next < c->end && !*found) {
        bool last = false;
        c->count = 0;
        c->line = c->lines_read + 1;
        while (!last)
            TRY(read_field(c, &last, err));
        *found = c->count > 1 || c->fields[0][0] != '\0';
    }
    return INLAY_OK;
}

int csv_column(const csv *c, const char *name)
{
    for (int i = 0; i < c->count; i++) {
        const char *text = c->fields[i] + strspn(c->fields[i], " \t");
        size_t length = strlen(name);
        if (strncmp(text, name, length) == 0 && text[length + strspn(text + length, " \t")] == '\0')
            return i;
    }
    return -1;
}
