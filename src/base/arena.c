#include "base/arena.h"

#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK_SIZE ((size_t)64 * 1024)

typedef struct block {
    struct block *next;
    size_t used, size;
    _Alignas(16) unsigned char bytes[];
} block;

struct arena {
    block *head;
};

/* Ends the process where a small block fails: the machine is out of memory altogether, and there is nothing to unwind
 * to. */
static void *must(void *memory)
{
    if (!memory) {
        fputs("inlay: out of memory\n", stderr);
        abort();
    }
    return memory;
}

arena *arena_new(void)
{
    return must(calloc(1, sizeof(arena)));
}

void arena_free(arena *a)
{
    block *b = a ? a->head : NULL;

    while (b) {
        block *next = b->next;
        free(b);
        b = next;
    }
    free(a);
}

void *arena_alloc(arena *a, size_t size)
{
    block *b = a->head;
    void *result;

    if (size > SIZE_MAX / 2) /* rounding it up could wrap around */
        must(NULL);
    size = (size + 15) & ~(size_t)15;
    if (!b || b->size - b->used < size) {
        size_t room = size > BLOCK_SIZE ? size : BLOCK_SIZE;
        b = must(calloc(1, sizeof(block) + room));
        b->size = room;
        b->next = a->head;
        a->head = b;
    }
    result = b->bytes + b->used;
    b->used += size;
    return result;
}

char *arena_strdup(arena *a, const char *text)
{
    size_t size = strlen(text) + 1;

    return memcpy(arena_alloc(a, size), text, size);
}

char *arena_vprintf(arena *a, const char *format, va_list args)
{
    va_list again;
    char *text;
    int length;

    va_copy(again, args);
    length = vsnprintf(NULL, 0, format, again);
    va_end(again);
    length = length < 0 ? 0 : length;
    text = arena_alloc(a, (size_t)length + 1);
    vsnprintf(text, (size_t)length + 1, format, args);
    return text;
}

char *arena_printf(arena *a, const char *format, ...)
{
    va_list args;
    char *text;

    va_start(args, format);
    text = arena_vprintf(a, format, args);
    va_end(args);
    return text;
}

inlay_status memory_alloc(void **out, size_t size, const char *what, inlay_error *err)
{
    size_t rounded = (size + 63) & ~(size_t)63;

    *out = NULL;
    if (rounded < size || rounded > PTRDIFF_MAX)
        FAIL(err, INLAY_ERR_NOMEM, "%s: size overflows", what);
    *out = aligned_alloc(64, rounded ? rounded : 64);
    if (!*out)
        FAIL(err, INLAY_ERR_NOMEM, "out of memory: %.1f MB wanted for %s", (double)size / 1e6, what);
    memset(*out, 0, rounded ? rounded : 64);
    return INLAY_OK;
}

void *memory_array(int64_t count, size_t size)
{
    size_t bytes = size_product(count, size);

    return bytes <= PTRDIFF_MAX ? malloc(bytes) : NULL;
}

void memory_free(void *block_)
{
    free(block_);
}

void *array_grow(void *items, int *capacity, int needed, size_t size)
{
    if (needed > *capacity) {
        int larger = *capacity > INT_MAX / 2 ? INT_MAX : *capacity ? *capacity * 2 : 16;
        while (larger < needed)
            larger = larger > INT_MAX / 2 ? INT_MAX : larger * 2;
        items = must(realloc(items, size_product(larger, size)));
        *capacity = larger;
    }
    return items;
}
