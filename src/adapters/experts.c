#include "adapters/experts.h"

#include <stdlib.h>
#include <string.h>

#define MOST_EXPERTS 64

param *experts_add(adapter *a, const expert_side *side, const char *part, int ndim, const int64_t *dims, init_rule init,
                   param ***of)
{
    param **added = ARENA_ARRAY(a->memory, param *, side->experts);

    for (int e = 0; e < side->experts; e++) {
        const char *name = side->experts > 1 ? arena_printf(a->memory, "%s.%d.%s", side->stem, e, part)
                                             : arena_printf(a->memory, "%s.%s", side->stem, part);
        added[e] = adapter_add_param(a, name, ndim, dims, init);
        if (side->equal)
            adapter_begin_as(a, added[e], added[0]);
    }
    if (of)
        *of = added;
    return adapter_choose(a, added, side->experts, side->draw);
}

void experts_mask(adapter *a, param *const *of, int experts, mask_rule rule)
{
    rule.parts = experts;
    for (rule.part = 0; experts > 1 && rule.part < experts; rule.part++)
        adapter_mask(a, of[rule.part], rule);
}

value experts_loss(graph *g, const pass_result *passes, const training_target *t, double second, double consistency)
{
    value loss = t->task->loss(g, passes[0].outputs, t->targets, t->smoothing);

    if (second != 0)
        loss = graph_add_scaled(g, loss, t->task->loss(g, passes[1].outputs, t->targets, t->smoothing), second);
    if (consistency != 0)
        loss = graph_add_scaled(g, loss, t->task->difference(g, passes[0].outputs, passes[1].outputs), consistency);
    return loss;
}

/* Finds the experts of the parameter that has this name in a plain adapter; returns how many. */
static int find_experts(const adapter *a, const char *name, param **of)
{
    const char *part = strrchr(name, '.');
    int count = 0;

    of[0] = adapter_find(a, name);
    if (of[0])
        return 1;
    while (count < MOST_EXPERTS) {
        char full[256];
        snprintf(full, sizeof full, "%.*s.%d%s", (int)(part - name), name, count, part);
        of[count] = adapter_find(a, full);
        if (!of[count])
            break;
        count++;
    }
    return count;
}

static inlay_status join_masked(param *to, const adapter *a, param *const *from, int count, double factor, device *d,
                                inlay_error *err)
{
    float *values = memory_array(to->count, sizeof *values), *one = memory_array(to->count, sizeof *one);
    unsigned char *mask = malloc((size_t)to->count);
    bool good = values && one && mask;

    for (int e = 0; good && e < count; e++) {
        param_get(from[e], d, one);
        memset(mask, 1, (size_t)to->count);
        if (adapter_drawn_mask(a, from[e]))
            d->k->copy_out(mask, adapter_drawn_mask(a, from[e]), (size_t)to->count);
        for (int64_t i = 0; i < to->count; i++)
            if (mask[i])
                values[i] = (float)(factor * (double)one[i]);
    }
    if (good)
        param_set(to, d, values);
    free(values);
    free(one);
    free(mask);
    if (!good)
        FAIL(err, INLAY_ERR_NOMEM, "out of memory merging '%s'", to->name);
    return INLAY_OK;
}

inlay_status experts_merge(adapter *plain, const adapter *a, expert_merge how, device *d, inlay_error *err)
{
    for (const adapter_param *i = NULL; (i = adapter_each_param(plain, i));) {
        param *to = i->p, *of[MOST_EXPERTS];
        int count = find_experts(a, to->name, of);
        if (count == 0)
            FAIL(err, INLAY_ERR_INTERNAL, "nothing to merge into '%s'", to->name);
        if (count > 1 && (how == MERGE_JOINT || (how == MERGE_UNION && adapter_drawn_mask(a, of[0]))))
            TRY(join_masked(to, a, of, count, how == MERGE_JOINT ? 1.0 / count : 1, d, err));
        else
            TRY(adapter_average(to, of, count, 1.0 / count, d, err));
    }
    return INLAY_OK;
}

bool experts_unfinished(const adapter *a)
{
    (void)a;
    return true;
}
