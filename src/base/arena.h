/* Arena: many small allocations, one owner, one free. For names, tables and descriptions; large buffers (tensors,
 * images) go through memory_alloc, which reports failure. */
#ifndef INLAY_BASE_ARENA_H
#define INLAY_BASE_ARENA_H

#include <stdarg.h>
#include <stdint.h>

#include "base/status.h"

typedef struct arena arena;

arena *arena_new(void);
void arena_free(arena *a); /* NULL is accepted */

/* Zeroed memory, aligned to 16 bytes, valid until the arena is freed. Never NULL: the process ends when not even a
 * small block is left. */
void *arena_alloc(arena *a, size_t size);
char *arena_strdup(arena *a, const char *text);
char *arena_printf(arena *a, const char *format, ...) __attribute__((format(printf, 2, 3)));
char *arena_vprintf(arena *a, const char *format, va_list args);
/* count * size and a + b bytes. What does not fit, or is negative, is SIZE_MAX, which no allocation here grants:
 * sizes that come from files and options are computed with these. */
static inline size_t size_product(int64_t count, size_t size)
{
    size_t product;

    return count < 0 || __builtin_mul_overflow((size_t)count, size, &product) ? SIZE_MAX : product;
}

static inline size_t size_sum(size_t a, size_t b)
{
    return a > SIZE_MAX - b ? SIZE_MAX : a + b;
}

#define ARENA_NEW(a, type) ((type *)arena_alloc((a), sizeof(type)))
#define ARENA_ARRAY(a, type, count) ((type *)arena_alloc((a), size_product((int64_t)(count), sizeof(type))))

/* A large zeroed buffer aligned to 64 bytes; free with memory_free. Fails with INLAY_ERR_NOMEM, naming `what`. */
inlay_status memory_alloc(void **out, size_t size, const char *what, inlay_error *err);
void memory_free(void *block);
/* malloc of count * size bytes; NULL also when there are no so many. free() frees it. */
void *memory_array(int64_t count, size_t size);

/* A growing array: ARRAY_PUSH(items, count, capacity, item). `items` is malloc'd; the caller frees it with free(). */
void *array_grow(void *items, int *capacity, int needed, size_t size);
#define ARRAY_PUSH(items, count, capacity, item)                                  \
    do {                                                                          \
        (items) = array_grow((items), &(capacity), (count) + 1, sizeof *(items)); \
        (items)[(count)++] = (item);                                              \
    } while (0)

#endif
