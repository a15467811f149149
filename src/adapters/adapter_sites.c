/* How an adapter takes part in a backbone's graph: it listens at the sites. */
#include <assert.h>

#include "adapters/adapter_impl.h"

typedef struct listener {
    site_hooks hooks;
    const adapter *a;
    bool training;
    int skip_layers;
    const bool *skipped;
    value *seen; /* by layer + 1 and kind */
} listener;

static bool same(site a, site b)
{
    return a.kind == b.kind && a.layer == b.layer;
}

/* The source of an edge, with no more tokens than the target has. */
static value source_of(listener *l, graph *g, const edge *e, site here, value v)
{
    value x = same(e->from, here) ? v : l->seen[(e->from.layer + 1) * SITE_COUNT + e->from.kind];

    assert(x != NO_VALUE);
    return graph_rows(g, x) > graph_rows(g, v) ? graph_select_tokens(g, x, 0, graph_rows(g, v)) : x;
}

static bool left_out(const listener *l, const edge *e)
{
    return e->to.layer < l->skip_layers || (l->skipped && e->to.layer >= 0 && l->skipped[e->to.layer]);
}

static value reach(void *context, graph *g, site s, value v, int64_t offset, int64_t width)
{
    listener *l = context;
    const adapter *a = l->a;
    const struct adapter_declared *d = a->declared;

    for (int i = 0; i < d->transform_count; i++)
        if (same(d->transforms[i].at, s))
            v = d->transforms[i].function(a, g, v, d->transforms[i].context, l->training);
    for (int i = 0; i < d->edge_count; i++) {
        const edge *e = &d->edges[i];
        value y;
        if (!same(e->to, s) || left_out(l, e))
            continue;
        y = e->function(a, g, source_of(l, g, e, s, v), e->context, l->training);
        v = width < graph_cols(g, v) ? graph_add_columns(g, v, y, offset) : graph_add(g, v, y);
    }
    l->seen[(s.layer + 1) * SITE_COUNT + s.kind] = v;
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

bool adapter_can_skip(const adapter *a)
{
    for (const adapter_param *i = NULL; (i = adapter_each_param(a, i));)
        if (i->of_backbone)
            return false;
    return a->declared->transform_count == 0;
}

site_hooks *adapter_hooks(const adapter *a, graph *g, bool training, int skip_layers, const bool *skipped)
{
    listener *l = ARENA_NEW(graph_arena(g), listener);
    int64_t places = (a->shape->depth + 1) * SITE_COUNT;

    l->a = a;
    l->training = training;
    l->skip_layers = skip_layers;
    l->skipped = skipped;
    l->seen = ARENA_ARRAY(graph_arena(g), value, places);
    for (int64_t i = 0; i < places; i++)
        l->seen[i] = NO_VALUE;
    l->hooks = (site_hooks){.context = l, .reach = reach, .listens = listens};
    return &l->hooks;
}
