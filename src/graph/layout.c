#include "graph/layout.h"

#include <stdlib.h>

#include "base/arena.h"

static int by_size(const void *a, const void *b)
{
    const layout_buffer *x = *(layout_buffer *const *)a, *y = *(layout_buffer *const *)b;

    if (x->size != y->size)
        return x->size < y->size ? 1 : -1;
    return x < y ? -1 : x > y;
}

static int by_offset(const void *a, const void *b)
{
    const layout_buffer *x = *(layout_buffer *const *)a, *y = *(layout_buffer *const *)b;

    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

/* A size in whole lines of the cache; one that does not fit stays so. */
static size_t lines(size_t size)
{
    return size > SIZE_MAX - 63 ? SIZE_MAX : (size + 63) & ~(size_t)63;
}

size_t layout_assign(layout_buffer *buffers, int count)
{
    arena *memory = arena_new();
    layout_buffer **order = ARENA_ARRAY(memory, layout_buffer *, count),
                  **busy = ARENA_ARRAY(memory, layout_buffer *, count);
    size_t total = 0;
    int used = 0;

    for (int i = 0; i < count; i++)
        if (buffers[i].end >= buffers[i].start && buffers[i].size > 0)
            order[used++] = &buffers[i];
    qsort(order, (size_t)used, sizeof *order, by_size);
    for (int i = 0; i < used; i++) {
        layout_buffer *b = order[i];
        size_t size = lines(b->size), offset = 0;
        int neighbours = 0;
        for (int j = 0; j < i; j++)
            if (order[j]->start <= b->end && b->start <= order[j]->end)
                busy[neighbours++] = order[j];
        qsort(busy, (size_t)neighbours, sizeof *busy, by_offset);
        for (int j = 0; j < neighbours && busy[j]->offset < size_sum(offset, size); j++) {
            size_t end = size_sum(busy[j]->offset, lines(busy[j]->size));
            if (end > offset)
                offset = end;
        }
        b->offset = offset;
        if (size_sum(offset, size) > total)
            total = size_sum(offset, size);
    }
    arena_free(memory);
    return total;
}
