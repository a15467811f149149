#include "graph/layout.h"

#include <limits.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"

/* A part of the block that is in use. */
typedef struct extent {
    size_t begin, end;
} extent;

/* Extents by their begin, none of which touches the next. */
typedef struct extent_set {
    extent *items;
    int count;
} extent_set;

/* The buffers that have a place, by their lives. The buffers are known from the begin: they are the leaves of a tree,
 * sorted by their first moment, and a node has the last moment of those below it that have a place, -1: none has. */
typedef struct placed {
    layout_buffer **by_start; /* [leaves] */
    int *last;                /* [2 * size], the root at 1, the leaves from `size` on */
    int leaves, size;
} placed;

static int by_size(const void *a, const void *b)
{
    const layout_buffer *x = *(layout_buffer *const *)a, *y = *(layout_buffer *const *)b;

    if (x->size != y->size)
        return x->size < y->size ? 1 : -1;
    return x < y ? -1 : x > y;
}

static int by_start(const void *a, const void *b)
{
    const layout_buffer *x = *(layout_buffer *const *)a, *y = *(layout_buffer *const *)b;

    if (x->start != y->start)
        return x->start < y->start ? -1 : 1;
    return x < y ? -1 : x > y;
}

static int by_begin(const void *a, const void *b)
{
    const extent *x = a, *y = b;

    return x->begin < y->begin ? -1 : x->begin > y->begin;
}

/* A size in whole lines of the cache; one that does not fit stays so. */
static size_t lines(size_t size)
{
    return size > SIZE_MAX - 63 ? SIZE_MAX : (size + 63) & ~(size_t)63;
}

static extent extent_of(const layout_buffer *b)
{
    return (extent){b->offset, size_sum(b->offset, lines(b->size))};
}

/* Adds an extent; those that it touches become one with it. */
static void set_add(extent_set *s, extent e)
{
    int from = 0, high = s->count, to;

    while (from < high) { /* the first that ends at its begin or behind */
        int middle = (from + high) / 2;
        if (s->items[middle].end < e.begin)
            from = middle + 1;
        else
            high = middle;
    }
    for (to = from; to < s->count && s->items[to].begin <= e.end; to++) {
        e.begin = s->items[to].begin < e.begin ? s->items[to].begin : e.begin;
        e.end = s->items[to].end > e.end ? s->items[to].end : e.end;
    }
    memmove(s->items + from + 1, s->items + to, (size_t)(s->count - to) * sizeof *s->items);
    s->items[from] = e;
    s->count += 1 - (to - from);
}

static placed placed_new(arena *memory, layout_buffer *const *order, int count)
{
    placed p = {.by_start = ARENA_ARRAY(memory, layout_buffer *, count), .leaves = count, .size = 1};

    if (count)
        memcpy(p.by_start, order, (size_t)count * sizeof *order);
    qsort(p.by_start, (size_t)count, sizeof *p.by_start, by_start);
    while (p.size < count)
        p.size *= 2;
    p.last = ARENA_ARRAY(memory, int, 2 * p.size);
    memset(p.last, 0xff, 2 * (size_t)p.size * sizeof *p.last);
    return p;
}

static void placed_add(placed *p, const layout_buffer *b)
{
    int low = 0, high = p->leaves;

    while (low < high) {
        int middle = (low + high) / 2;
        if (by_start(&p->by_start[middle], &b) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    for (int node = low + p->size; node > 0 && p->last[node] < b->end; node /= 2)
        p->last[node] = b->end;
}

/* Lists what is in use while `b` is, of the buffers below a node, whose first leaf is `leaf`, of `leaves`. */
static void placed_find(const placed *p, int node, int leaf, int leaves, const layout_buffer *b, extent *busy,
                        int *count)
{
    if (p->last[node] < b->start || p->by_start[leaf]->start > b->end)
        return;
    if (leaves == 1) {
        busy[(*count)++] = extent_of(p->by_start[leaf]);
        return;
    }
    placed_find(p, 2 * node, leaf, leaves / 2, b, busy, count);
    placed_find(p, 2 * node + 1, leaf + leaves / 2, leaves / 2, b, busy, count);
}

/* The lowest place for `size` bytes beside extents that are sorted. */
static size_t lowest(const extent *busy, int count, size_t size)
{
    size_t offset = 0;

    for (int i = 0; i < count && busy[i].begin < size_sum(offset, size); i++)
        offset = busy[i].end > offset ? busy[i].end : offset;
    return offset;
}

/* The first end of any buffer, and the last start: what is in use from one to the other, in whatever order they come,
 * is so together with every other one. */
typedef struct core {
    int first_end, last_start;
} core;

static bool is_lasting(const layout_buffer *b, const core *c)
{
    return b->start <= c->first_end && b->end >= c->last_start;
}

/* Places buffers one by one, each beside those in front of it, which are found by their lives. The lasting ones are
 * kept as a set. */
static void assign_by_lives(arena *memory, layout_buffer *const *order, int count, const core *c)
{
    extent *busy = ARENA_ARRAY(memory, extent, count);
    extent_set all = {.items = ARENA_ARRAY(memory, extent, count + 1)},
               always = {.items = ARENA_ARRAY(memory, extent, count + 1)};
    placed others = placed_new(memory, order, count);

    for (int i = 0; i < count; i++) {
        layout_buffer *b = order[i];
        bool lasting = is_lasting(b, c);
        int neighbours = always.count;
        if (!lasting) {
            memcpy(busy, always.items, (size_t)always.count * sizeof *busy);
            placed_find(&others, 1, 0, others.size, b, busy, &neighbours);
            qsort(busy, (size_t)neighbours, sizeof *busy, by_begin);
        }
        b->offset = lasting ? lowest(all.items, all.count, lines(b->size)) : lowest(busy, neighbours, lines(b->size));
        set_add(&all, extent_of(b));
        if (lasting)
            set_add(&always, extent_of(b));
        else
            placed_add(&others, b);
    }
}

/* Places them the same where many are in use together: all in front are gone through in the order of their places. */
static void assign_by_places(arena *memory, layout_buffer *const *order, int count)
{
    layout_buffer **by_place = ARENA_ARRAY(memory, layout_buffer *, count);

    for (int i = 0; i < count; i++) {
        layout_buffer *b = order[i];
        size_t offset = 0, size = lines(b->size);
        int at = 0, to = i;
        for (; at < i && by_place[at]->offset < size_sum(offset, size); at++) {
            const layout_buffer *other = by_place[at];
            if (other->start <= b->end && b->start <= other->end && extent_of(other).end > offset)
                offset = extent_of(other).end;
        }
        b->offset = offset;
        for (; to > 0 && by_place[to - 1]->offset > offset; to--)
            by_place[to] = by_place[to - 1];
        by_place[to] = b;
    }
}

/* Whether a buffer is in use together with few others, the lasting ones aside. */
static bool lives_are_short(layout_buffer *const *order, int count, const core *c)
{
    int64_t moments = 0, last = 0;

    for (int i = 0; i < count; i++) {
        moments += is_lasting(order[i], c) ? 0 : order[i]->end - order[i]->start + 1;
        last = order[i]->end > last ? order[i]->end : last;
    }
    return moments / (last + 1) < count / 8;
}

size_t layout_assign(layout_buffer *buffers, int count)
{
    arena *memory = arena_new();
    layout_buffer **order = ARENA_ARRAY(memory, layout_buffer *, count);
    core c = {.first_end = INT_MAX, .last_start = INT_MIN};
    size_t total = 0;
    int used = 0;

    for (int i = 0; i < count; i++)
        if (buffers[i].end >= buffers[i].start && buffers[i].size > 0) {
            order[used++] = &buffers[i];
            c.first_end = buffers[i].end < c.first_end ? buffers[i].end : c.first_end;
            c.last_start = buffers[i].start > c.last_start ? buffers[i].start : c.last_start;
        }
    qsort(order, (size_t)used, sizeof *order, by_size);
    if (lives_are_short(order, used, &c))
        assign_by_lives(memory, order, used, &c);
    else
        assign_by_places(memory, order, used);
    for (int i = 0; i < used; i++)
        total = extent_of(order[i]).end > total ? extent_of(order[i]).end : total;
    arena_free(memory);
    return total;
}
