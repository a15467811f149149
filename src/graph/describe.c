#include <stdlib.h>
#include <string.h>

#include "graph/op_impl.h"

typedef struct describer {
    const graph *g;
    FILE *out;
    bool *needed; /* [values] */
    int *number;  /* [values] in the order in which they are met; 0: not yet */
    int met;
    graph_visit_param visit;
    void *context;
} describer;

/* A value is named by the order in which it is met: what lies beside it in the graph, such as an adapter, does not
 * change its name. */
static int number_of(describer *d, value v)
{
    const value_info *info = &d->g->values[v];

    if (d->number[v])
        return d->number[v];
    d->number[v] = ++d->met;
    fprintf(d->out, "%%%d %s %d %lld x %lld%s\n", d->met, dtype_name(info->type), info->kind, (long long)info->rows,
            (long long)info->cols, info->batched ? " a sample" : "");
    if (info->kind == VALUE_INPUT)
        fprintf(d->out, "%%%d input %s\n", d->met, info->name);
    if (info->kind == VALUE_PARAM) {
        fprintf(d->out, "%%%d parameter %s as %s\n", d->met, info->p->name,
                dtype_name(graph_weight_type(d->g, info->p)));
        d->visit(d->context, info->p);
    }
    return d->number[v];
}

static void describe_colours(FILE *out, const char *what, const float *values, int64_t channels)
{
    fprintf(out, " %s", what);
    for (int64_t i = 0; values && i < channels; i++)
        fprintf(out, " %a", (double)values[i]);
}

#define DESCRIBE_ACTIVATION(name) fprintf(out, " %s", activation_name(a->name));
#define DESCRIBE_REAL(name) fprintf(out, " %a", a->name);
#define DESCRIBE_COUNT(name) fprintf(out, " %lld", (long long)a->name);
#define DESCRIBE_NAMED(name) \
    if (a->name)             \
        fprintf(out, " %s %lld", #name, (long long)a->name);
#define DESCRIBE_COLOURS(name) describe_colours(out, #name, a->name, a->channels);
#define DESCRIBE_STREAM(name)
#define DESCRIBE_CHOSEN(name)

static void describe_attributes(FILE *out, const op_attributes *a)
{
#define ATTRIBUTE(kind, name) DESCRIBE_##kind(name)
#include "graph/op_attributes.def"
#undef ATTRIBUTE
}

static void describe_op(describer *d, const op_node *op)
{
    int in[OP_INPUTS];

    for (int i = 0; i < OP_INPUTS; i++)
        in[i] = op->in[i] == NO_VALUE ? 0 : number_of(d, op->in[i]);
    fprintf(d->out, "%%%d = %s", number_of(d, op->out), op_table[op->kind]->name);
    for (int i = 0; i < OP_INPUTS; i++)
        fprintf(d->out, " %%%d", in[i]);
    describe_attributes(d->out, &op->a);
    fputc('\n', d->out);
}

bool graph_describe(const graph *g, const value *wanted, int count, FILE *out, graph_visit_param visit, void *context)
{
    describer d = {.g = g, .out = out, .visit = visit, .context = context};

    d.needed = calloc((size_t)g->value_count, sizeof *d.needed);
    d.number = calloc((size_t)g->value_count, sizeof *d.number);
    for (int i = 0; d.needed && d.number && i < count; i++)
        graph_mark_needed(g, wanted[i], d.needed);
    for (int i = 0; d.needed && d.number && i < g->op_count; i++)
        if (!g->ops[i].dead && d.needed[g->ops[i].out])
            describe_op(&d, &g->ops[i]);
    for (int i = 0; d.needed && d.number && i < count; i++)
        fprintf(out, "wanted %%%d\n", number_of(&d, wanted[i]));
    free(d.needed);
    free(d.number);
    return d.met > 0 && !ferror(out);
}
