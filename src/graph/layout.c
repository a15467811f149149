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

size_t layout_assign(layout_buffer *buffers, int count)
{
    arena *memory = arena_new();
    layout_buffer **order = ARENA_ARRAY(memory, layout_buffer *, count), **busy = ARENA_ARRAY(memory, layout_buffer *, count);
    size_t total = 0;
    int used = 0;

    for (int i = 0; i < count; i++)
        if (buffers[i].end >= buffers[i].start && buffers[i].size > 0)
            order[used++] = &buffers[i];
    qsort(order, (size_t)used, sizeof *order, by_size);
    for (int i = 0; i < used; i++) {
        layout_buffer *b = order[i];
        size_t size = (b->size + 63) & ~(size_t)63, offset = 0;
        int neighbours = 0;
        for (int j = 0; j < i; j++)
            if (order[j]->start <= b->end && b->start <= order[j]->end)
                busy[neighbours++] = order[j];
        qsort(busy, (size_t)neighbours, sizeof *busy, by_offset);
        for (int j = 0; j < neighbours && busy[j]->offset < offset + size; j++) {
            size_t end = busy[j]->offset + ((busy[j]->size + 63) & ~(size_t)63);
            if (end > offset)
                offset = end;
        }
        b->offset = offset;
        if (offset + size > total)
            total = offset + size;
    }
    arena_free(memory);
    return total;
}
