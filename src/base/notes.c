#include "base/notes.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void add(notes *n, bool fault, const char *format, va_list args)
{
    char text[1024];
    note made = {text, fault};

    vsnprintf(text, sizeof text, format, args);
    for (int i = 0; i < n->count; i++)
        if (strcmp(n->items[i].text, text) == 0)
            return;
    if (!n->memory)
        n->memory = arena_new();
    made.text = arena_strdup(n->memory, text);
    ARRAY_PUSH(n->items, n->count, n->capacity, made);
}

void notes_add(notes *n, const char *format, ...)
{
    va_list args;

    if (!n)
        return;
    va_start(args, format);
    add(n, false, format, args);
    va_end(args);
}

void notes_fault(notes *n, const char *format, ...)
{
    va_list args;

    if (!n)
        return;
    va_start(args, format);
    add(n, true, format, args);
    va_end(args);
}

inlay_status notes_refuse_faults(const notes *n, inlay_error *err)
{
    for (int i = 0; i < n->count; i++)
        if (n->items[i].fault)
            FAIL(err, INLAY_ERR_FORMAT, "%s", n->items[i].text);
    return INLAY_OK;
}

void notes_free(notes *n)
{
    free(n->items);
    arena_free(n->memory);
    *n = (notes){0};
}
