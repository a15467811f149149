#include "data/csv.h"

#include <stdlib.h>
#include <string.h>

/* What separates the fields of the first line: the first of these that it has outside of quotes. */
static char find_separator(const char *text, const char *end)
{
    static const char known[] = ",\t;";
    bool seen[sizeof known] = {false}, quoted = false;

    for (; text < end && (quoted || (*text != '\n' && *text != '\r')); text++) {
        const char *hit = *text && !quoted ? strchr(known, *text) : NULL;
        quoted ^= *text == '"';
        if (hit)
            seen[hit - known] = true;
    }
    for (size_t i = 0; known[i]; i++)
        if (seen[i])
            return known[i];
    return known[0];
}

void csv_start(csv *c, char *text, size_t size, const char *name)
{
    *c = (csv){.name = name, .next = text, .end = text + size};
    if (size >= 3 && memcmp(text, "\xEF\xBB\xBF", 3) == 0)
        c->next += 3;
    c->separator = find_separator(c->next + strspn(c->next, "\r\n"), c->end);
}

void csv_stop(csv *c)
{
    free(c->fields);
    *c = (csv){0};
}

static bool is_blank(const csv *c, char byte)
{
    return (byte == ' ' || byte == '\t') && byte != c->separator;
}

static bool ends_line(char byte)
{
    return byte == '\n' || byte == '\r';
}

static bool ends_field(const csv *c, const char *at)
{
    return at == c->end || *at == c->separator || ends_line(*at);
}

/* Reads a quoted field. *input, its opening quote, becomes what follows the closing one; its text without quotes goes
 * from behind the opening one to *output. */
static inlay_status read_quoted(csv *c, char **input, char **output, inlay_error *err)
{
    char *in = *input + 1, *out = in;

    for (;; in++) {
        if (in == c->end)
            FAIL(err, INLAY_ERR_FORMAT, "'%s' line %d: a quote is opened and never closed", c->name, c->line);
        if (*in == '"' && (in + 1 == c->end || in[1] != '"'))
            break;
        in += *in == '"';
        c->lines_read += *in == '\n' || (*in == '\r' && (in + 1 == c->end || in[1] != '\n'));
        *out++ = *in;
    }
    for (in++; in < c->end && is_blank(c, *in); in++)
        ;
    if (!ends_field(c, in))
        FAIL(err, INLAY_ERR_FORMAT, "'%s' line %d: text after a closing quote, expected %s or the end of the line",
             c->name, c->line,
             c->separator == ','   ? "a comma"
             : c->separator == ';' ? "a semicolon"
                                   : "a tab");
    *input = in;
    *output = out;
    return INLAY_OK;
}

/* Reads one field, unquoted in place; *last says that the record ends behind it. */
static inlay_status read_field(csv *c, bool *last, inlay_error *err)
{
    char *in = c->next, *field, *out;

    while (in < c->end && is_blank(c, *in))
        in++;
    field = in;
    if (in < c->end && *in == '"') {
        field++;
        TRY(read_quoted(c, &in, &out, err));
    } else {
        while (!ends_field(c, in))
            in++;
        for (out = in; out > field && is_blank(c, out[-1]); out--)
            ;
    }
    *last = in == c->end || ends_line(*in);
    c->lines_read += *last;
    c->next = in == c->end ? in : in + 1 + (*in == '\r' && in + 1 < c->end && in[1] == '\n');
    *out = '\0';
    if (strlen(field) != (size_t)(out - field))
        FAIL(err, INLAY_ERR_FORMAT, "'%s' line %d: the field holds a zero byte: this is not a text file%s", c->name,
             c->line, c->line == 1 ? " in UTF-8 (UTF-16, perhaps)" : "");
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
    for (int i = 0; i < c->count; i++)
        if (strcmp(c->fields[i], name) == 0)
            return i;
    return -1;
}
