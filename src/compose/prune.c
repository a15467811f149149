#include "compose/prune.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "adapters/fusion.h"

typedef struct measuring {
    const prune_request *q;
    model m;
    program *p;
    value *marks; /* [count], a layer each */
    int *layers, count;
    float *room; /* one batch's attention in a layer */
    int *indices, *order;
} measuring;

/* Adds a batch's attention in the layer of one mark. */
static inlay_status add_attention(measuring *t, prune_usage *u, int mark, int images, inlay_error *err)
{
    const int *parts;
    int count = fusion_parts(t->q->s->a, t->layers[mark], &parts);
    int64_t rows = value_rows(t->m.g, t->marks[mark], images);

    device_get_f32(&t->q->s->dev, t->room, program_value(t->p, t->marks[mark], images).data, rows * count);
    for (int64_t r = 0; r < rows; r++)
        for (int n = 0; n < count; n++) {
            if (!isfinite(t->room[r * count + n]))
                FAIL(err, INLAY_ERR_FORMAT, "'%s': the attention over the fusion's parts is not finite in layer %d",
                     t->q->data->samples[t->indices[r / (rows / images)]].path, t->layers[mark]);
            u->mean[t->layers[mark] * u->parts + parts[n]] += (double)t->room[r * count + n];
        }
    return INLAY_OK;
}

static inlay_status run(measuring *t, prune_usage *u, loader *l, inlay_error *err)
{
    const prune_request *q = t->q;
    int got;

    for (;;) {
        TRY(loader_next(l, (int)q->batch, program_stage(t->p, t->m.pixels), t->indices, &got, err));
        if (got == 0)
            break;
        program_forward(t->p, got, &(step_info){0});
        for (int i = 0; i < t->count; i++)
            TRY(add_attention(t, u, i, got, err));
        u->images += got;
        if (q->progress)
            q->progress(q->context, u->images, q->data->count);
    }
    for (int i = 0; i < t->count; i++)
        for (int n = 0; u->images && n < u->parts; n++) {
            double *mean = &u->mean[t->layers[i] * u->parts + n];
            if (*mean >= 0)
                *mean /= (double)value_rows(t->m.g, t->marks[i], u->images);
        }
    u->cut_count = loader_cut_count(l);
    u->bad_count = loader_bad_count(l);
    u->bad = ARENA_ARRAY(u->memory, const char *, u->bad_count + 1);
    for (int i = 0; i < u->bad_count; i++)
        u->bad[i] = arena_strdup(u->memory, loader_bad_message(l, i));
    if (u->images == 0)
        FAIL(err, INLAY_ERR_IO, "none of the %d images could be read%s%s", q->data->count,
             u->bad_count ? "; the first: " : "", u->bad_count ? u->bad[0] : "");
    return INLAY_OK;
}

/* Makes a program that ends at the last layer's attention. */
static inlay_status prepare(measuring *t, inlay_error *err)
{
    const prune_request *q = t->q;
    session *s = q->s;
    model_request request = {.dev = &s->dev,
                             .b = s->b,
                             .a = s->a,
                             .prec = s->prec,
                             .pixel_type = preprocess_pixel_type(&s->prep),
                             .mean = s->prep.mean,
                             .std = s->prep.std};
    program_request plan = {.dev = &s->dev, .max_batch = q->batch};
    const graph_mark_entry *marks;
    size_t most = 0;
    int mark_count;

    TRY(model_build(&t->m, &request, err));
    marks = graph_marks(t->m.g, &mark_count);
    t->marks = ARENA_ARRAY(graph_arena(t->m.g), value, mark_count + 1);
    t->layers = ARENA_ARRAY(graph_arena(t->m.g), int, mark_count + 1);
    for (int i = 0; i < mark_count; i++) {
        const graph_mark_entry *mark = &marks[i];
        size_t size = value_bytes(t->m.g, mark->v, q->batch);
        if (strcmp(mark->name, FUSION_MARK) != 0)
            continue;
        t->marks[t->count] = mark->v;
        t->layers[t->count++] = mark->layer;
        most = size > most ? size : most;
    }
    plan.wanted = t->marks;
    plan.wanted_count = t->count;
    if (s->room) {
        loader_plan(s->room, &s->prep, 2 * q->batch, q->data->count);
        TRY(plan_inference(s->room, t->m.g, &plan, err));
    }
    TRY(program_new(&t->p, t->m.g, &plan, err));
    t->room = malloc(most + 1);
    t->indices = calloc((size_t)q->batch, sizeof *t->indices);
    t->order = calloc((size_t)q->data->count + 1, sizeof *t->order);
    if (!t->room || !t->indices || !t->order)
        FAIL(err, INLAY_ERR_NOMEM, "out of memory measuring the fusion's attention");
    for (int i = 0; i < q->data->count; i++)
        t->order[i] = i;
    return INLAY_OK;
}

static void begin_sums(prune_usage *u, const adapter *a)
{
    u->layers = (int)a->shape->depth;
    u->parts = a->part_count;
    u->mean = ARENA_ARRAY(u->memory, double, u->layers * u->parts);
    for (int i = 0; i < u->layers * u->parts; i++)
        u->mean[i] = -1;
    for (int layer = 0; layer < u->layers; layer++) {
        const int *parts;
        int count = fusion_parts(a, layer, &parts);
        for (int n = 0; n < count; n++)
            u->mean[layer * u->parts + parts[n]] = 0;
    }
}

inlay_status prune_measure(prune_usage *out, const prune_request *q, inlay_error *err)
{
    measuring t = {.q = q};
    loader *l = NULL;
    inlay_status status;

    *out = (prune_usage){0};
    if (!q->s->a || !adapter_is_fusion(q->s->a))
        FAIL(err, INLAY_ERR_USAGE, "only a fusion of adapters can be pruned, this is a '%s' adapter",
             q->s->a ? q->s->a->name : "missing");
    out->memory = arena_new();
    begin_sums(out, q->s->a);
    status = prepare(&t, err);
    if (status == INLAY_OK) {
        loader_request request = {.data = q->data,
                                  .prep = &q->s->prep,
                                  .order = t.order,
                                  .count = q->data->count,
                                  .workers = q->workers,
                                  .ahead = (int)q->batch * 2};
        status = loader_new(&l, &request, err);
    }
    if (status == INLAY_OK)
        status = run(&t, out, l, err);
    loader_free(l);
    program_free(t.p);
    model_free(&t.m);
    free(t.room);
    free(t.indices);
    free(t.order);
    if (status != INLAY_OK)
        prune_free(out);
    return status;
}

void prune_free(prune_usage *u)
{
    arena_free(u->memory);
    *u = (prune_usage){0};
}

int prune_layer(const prune_usage *u, int layer, int keep, int *parts)
{
    const double *mean = u->mean + (ptrdiff_t)layer * u->parts;
    int count = 0;

    for (int n = 0; n < u->parts; n++) {
        int better = 0;
        for (int other = 0; other < u->parts; other++)
            better += mean[other] > mean[n] || (mean[other] == mean[n] && other < n);
        if (mean[n] >= 0 && better < keep)
            parts[count++] = n;
    }
    return count;
}

const char *prune_text(arena *memory, const prune_usage *u, int keep)
{
    int *parts = ARENA_ARRAY(memory, int, u->parts);
    char *text = arena_strdup(memory, "");

    for (int layer = 0; layer < u->layers; layer++) {
        int count = prune_layer(u, layer, keep, parts);
        for (int i = 0; i < count; i++)
            text = i ? arena_printf(memory, "%s,%d", text, parts[i])
                     : arena_printf(memory, "%s%s%d:%d", text, *text ? ";" : "", layer, parts[i]);
    }
    return text;
}

typedef struct copying {
    options *to;
    inlay_status status;
    inlay_error *err;
} copying;

static void copy_option(void *context, const option_spec *spec, const char *text)
{
    copying *c = context;

    if (c->status == INLAY_OK)
        c->status = options_default(c->to, spec->name, text, "pruning", c->err);
}

inlay_status prune_write(const adapter *a, const device *d, const char *keep, const char *folder,
                         const void *preprocessing, const void *record, inlay_error *err)
{
    copying c = {.err = err};
    adapter *pruned;
    inlay_status status;

    TRY(adapter_settings(&c.to, a->name, err));
    options_each(a->settings, NULL, copy_option, &c);
    status = c.status == INLAY_OK ? options_set(c.to, "keep", keep, "pruning", err) : c.status;
    if (status != INLAY_OK) {
        options_free(c.to);
        return status;
    }
    TRY(adapter_new(&pruned, a->name, c.to, a->backbone, a->outputs, a->labels, err));
    pruned->task = a->task;
    for (const adapter_param *i = NULL; status == INLAY_OK && (i = adapter_each_param(pruned, i));) {
        param *to = i->p;
        const param *from = adapter_find(a, to->name);
        if (!from || !from->source)
            status = error_set(err, INLAY_ERR_INTERNAL, "'%s' has no value to keep", to->name);
        else
            param_set_source(to, from->source, from->source_type, false);
    }
    if (status == INLAY_OK)
        status = adapter_save(pruned, d, folder, preprocessing, record, err);
    adapter_free(pruned, d);
    return status;
}
