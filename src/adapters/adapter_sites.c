/* How an adapter takes part in a backbone's graph: it listens at the sites. */
#include <assert.h>

#include "adapters/adapter_impl.h"

typedef struct kept {
    const void *key;
    value v;
    struct kept *next;
} kept;

typedef struct listener {
    site_hooks hooks;
    const adapter *a;
    bool training;
    int skip_layers;
    const bool *skipped;
    const struct listener *before; /* what listened in the pass that edges which feed back read; NULL: the first pass */
    value *seen;                   /* by layer + 1 and kind */
    kept *states;
    uint32_t fed_streams; /* streams of random numbers that edges which feed back have taken */
} listener;

static bool same(site a, site b)
{
    return a.kind == b.kind && a.layer == b.layer;
}

static int64_t place_of(site s)
{
    return (int64_t)(s.layer + 1) * SITE_COUNT + s.kind;
}

/* ---- what functions ask ---- */

value build_at(const build_context *b, site s)
{
    return b->through ? b->through->seen[place_of(s)] : NO_VALUE;
}

static kept *find_kept(const build_context *b, const void *key)
{
    kept *k = b->through ? b->through->states : NULL;

    while (k && k->key != key)
        k = k->next;
    return k;
}

value build_kept(const build_context *b, const void *key)
{
    const kept *k = find_kept(b, key);

    return k ? k->v : NO_VALUE;
}

void build_keep(const build_context *b, const void *key, value v)
{
    kept *k = find_kept(b, key);

    if (!k && b->through) {
        k = ARENA_NEW(graph_arena(b->g), kept);
        *k = (kept){.key = key, .next = b->through->states};
        b->through->states = k;
    }
    if (k)
        k->v = v;
}

/* ---- tokens ---- */

int64_t inserted_row(const backbone_shape *shape)
{
    return shape->prefix_tokens > 0 ? 1 : 0;
}

/* Rows of x behind those that an adapter inserted, and in front of them, without these. */
static value without_inserted(const build_context *b, value x)
{
    const backbone_shape *s = b->a->shape;
    int64_t rows = graph_rows(b->g, x), front = inserted_row(s), behind = s->tokens - front;
    value rest;

    if (rows == s->tokens)
        return x;
    rest = graph_select_tokens(b->g, x, rows - behind, behind);
    return front ? graph_insert_tokens(b->g, rest, graph_select_tokens(b->g, x, 0, front), 0) : rest;
}

value build_align(const build_context *b, value v, int64_t rows)
{
    const backbone_shape *s = b->a->shape;
    graph *g = b->g;
    int64_t has = graph_rows(g, v);
    value inserted;

    if (has == rows)
        return v;
    if (rows < s->tokens) /* only tokens in front are left there */
        return graph_select_tokens(g, v, 0, rows);
    assert(has >= s->tokens); /* where they are read later, the last block keeps all of its tokens */
    if (rows == s->tokens)
        return without_inserted(b, v);
    inserted = graph_affine(g, graph_select_tokens(g, v, 0, rows - s->tokens), NULL, NULL, 0);
    return graph_insert_tokens(g, without_inserted(b, v), inserted, inserted_row(s));
}

/* ---- edges ---- */

/* Where a site lies in the order of the forward pass. */
static int64_t order(const adapter *a, site s)
{
    if (s.layer >= 0)
        return place_of(s);
    return s.kind < SITE_BLOCK_INPUT ? s.kind : (a->shape->depth + 1) * SITE_COUNT + s.kind;
}

static bool feeds_back(const adapter *a, const edge *e)
{
    return order(a, e->from) > order(a, e->to);
}

bool adapter_feeds_back(const adapter *a)
{
    for (int i = 0; i < a->declared->edge_count; i++)
        if (feeds_back(a, &a->declared->edges[i]))
            return true;
    return false;
}

/* Of the layers that are left out; or it feeds back, and there is nothing to read yet. */
static bool left_out(const listener *l, const edge *e)
{
    return e->to.layer < l->skip_layers || (l->skipped && e->to.layer >= 0 && l->skipped[e->to.layer]) ||
           (!l->before && feeds_back(l->a, e));
}

/* Random numbers of edges that feed back. Everything else draws in the second pass what it drew in the first, so that
 * both are the same up to the first such edge. */
#define FEEDBACK_STREAMS 0x40000000u

/* The edge's part of the value at its target, which is v so far. */
static value run_edge(listener *l, graph *g, const edge *e, value v)
{
    build_context b = {.a = l->a, .g = g, .at = e->to, .training = l->training, .through = l};
    bool back = feeds_back(l->a, e);
    value x = same(e->from, e->to) ? v : back ? l->before->seen[place_of(e->from)] : l->seen[place_of(e->from)], y;
    uint32_t stream = graph_stream(g);

    assert(x != NO_VALUE);
    if (back)
        graph_set_stream(g, FEEDBACK_STREAMS + stream + l->fed_streams);
    y = e->function(&b, build_align(&b, x, graph_rows(g, v)), e->context);
    if (back) {
        l->fed_streams = graph_stream(g) - FEEDBACK_STREAMS - stream;
        graph_set_stream(g, stream);
    }
    return y;
}

static value reach(void *context, graph *g, site s, value v, int64_t offset, int64_t width)
{
    listener *l = context;
    const struct adapter_declared *d = l->a->declared;
    build_context b = {.a = l->a, .g = g, .at = s, .training = l->training, .through = l};

    for (int i = 0; i < d->transform_count; i++)
        if (same(d->transforms[i].at, s))
            v = d->transforms[i].function(&b, v, d->transforms[i].context);
    for (int i = 0; i < d->edge_count; i++) {
        const edge *e = &d->edges[i];
        value y;
        if (!same(e->to, s) || left_out(l, e))
            continue;
        y = run_edge(l, g, e, v);
        v = width < graph_cols(g, v) ? graph_add_columns(g, v, y, offset) : graph_add(g, v, y);
    }
    l->seen[place_of(s)] = v;
    return v;
}

static bool listens(void *context, site s)
{
    const listener *l = context;
    const struct adapter_declared *d = l->a->declared;

    for (int i = 0; i < d->transform_count; i++)
        if (same(d->transforms[i].at, s))
            return true;
    for (int i = 0; i < d->edge_count; i++)
        if (!left_out(l, &d->edges[i]) && (same(d->edges[i].from, s) || same(d->edges[i].to, s)))
            return true;
    return false;
}

/* The first pass of an adapter that feeds back from the last block: the second one reads all of its tokens. */
static bool keeps_tokens(void *context)
{
    const listener *l = context;
    const struct adapter_declared *d = l->a->declared;

    for (int i = 0; i < d->edge_count && !l->before; i++)
        if (feeds_back(l->a, &d->edges[i]) && d->edges[i].from.layer == l->a->shape->depth - 1)
            return true;
    return false;
}

bool adapter_can_skip(const adapter *a)
{
    for (const adapter_param *i = NULL; (i = adapter_each_param(a, i));)
        if (i->of_backbone)
            return false;
    return a->declared->transform_count == 0;
}

site_hooks *adapter_hooks(const adapter *a, graph *g, bool training, int skip_layers, const bool *skipped,
                          const site_hooks *before)
{
    listener *l = ARENA_NEW(graph_arena(g), listener);
    int64_t places = (a->shape->depth + 1) * SITE_COUNT;

    *l = (listener){.a = a,
                    .training = training,
                    .skip_layers = skip_layers,
                    .skipped = skipped,
                    .before = before ? before->context : NULL,
                    .seen = ARENA_ARRAY(graph_arena(g), value, places)};
    for (int64_t i = 0; i < places; i++)
        l->seen[i] = NO_VALUE;
    l->hooks = (site_hooks){.context = l, .reach = reach, .listens = listens, .keeps_tokens = keeps_tokens};
    return &l->hooks;
}
