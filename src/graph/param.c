#include "graph/param.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"

param *param_new(arena *memory, const char *name, int ndim, const int64_t *dims)
{
    param *p = ARENA_NEW(memory, param);

    p->name = arena_strdup(memory, name);
    p->ndim = ndim;
    p->count = 1;
    p->decay = ndim >= 2;
    for (int i = 0; i < ndim; i++) {
        p->dims[i] = dims[i];
        p->count *= dims[i];
    }
    return p;
}

param *param_choose(arena *memory, param *const *of, int count, uint32_t stream)
{
    param *p = param_new(memory, of[0]->name, of[0]->ndim, of[0]->dims);
    param_choice *c = ARENA_NEW(memory, param_choice);

    *c = (param_choice){ARENA_ARRAY(memory, param *, count), count, stream};
    memcpy(c->of, of, (size_t)count * sizeof *of);
    p->trainable = of[0]->trainable;
    p->exact = of[0]->exact;
    p->choice = c;
    return p;
}

void param_release(param *p, const device *d)
{
    void **blocks[] = {&p->data, &p->grad, &p->m, &p->v, (void **)(uintptr_t)&p->mask};

    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) {
        d->k->release(*blocks[i]);
        *blocks[i] = NULL;
    }
    while (p->panels) {
        param_panel *next = p->panels->next;
        d->k->release(p->panels->panels.data);
        free(p->panels);
        p->panels = next;
    }
}

static inlay_status device_array(void **array, const param *p, const device *d, inlay_error *err)
{
    if (*array)
        return INLAY_OK;
    *array = d->k->alloc(size_product(p->count, dtype_size(d->k->real)));
    if (!*array)
        FAIL(err, INLAY_ERR_NOMEM, "out of memory: %lld values of '%s'", (long long)p->count, p->name);
    return INLAY_OK;
}

inlay_status param_materialise(param *p, const device *d, inlay_error *err)
{
    bool fresh = !p->data;

    TRY(device_array(&p->data, p, d, err));
    if (p->trainable) {
        TRY(device_array(&p->grad, p, d, err));
        TRY(device_array(&p->m, p, d, err));
        TRY(device_array(&p->v, p, d, err));
    }
    if (fresh && p->source) {
        float *values = memory_array(p->count, sizeof *values);
        if (!values)
            FAIL(err, INLAY_ERR_NOMEM, "out of memory: %lld values of '%s'", (long long)p->count, p->name);
        dtype_to_f32(values, p->source, p->source_type, (size_t)p->count);
        device_set_f32(d, p->data, values, p->count);
        free(values);
        p->version++;
    }
    return INLAY_OK;
}

static param_panel *find_panel(const param *p, int64_t first, int64_t count, dtype type, bool transposed)
{
    param_panel *panel = p->panels;

    while (panel && !(panel->first == first && panel->count == count && panel->panels.type == type &&
                      panel->transposed == transposed))
        panel = panel->next;
    return panel;
}

static inlay_status new_panel(param_panel **out, param *p, const device *d, int64_t first, int64_t count, dtype type,
                              bool transposed, inlay_error *err)
{
    int64_t columns = p->count / p->dims[0], n = transposed ? columns : count, k = transposed ? count : columns;
    param_panel *panel = *out = calloc(1, sizeof *panel);

    if (panel)
        panel->panels = (packed){n, k, type, d->k->alloc(d->k->pack_size(n, k, type))};
    if (!panel || !panel->panels.data) {
        free(panel);
        FAIL(err, INLAY_ERR_NOMEM, "out of memory: packed weights of '%s'", p->name);
    }
    panel->first = first;
    panel->count = count;
    panel->transposed = transposed;
    panel->version = -1;
    panel->next = p->panels;
    p->panels = panel;
    return INLAY_OK;
}

/* Packs the transpose of w [rows, columns]. */
static inlay_status pack_transposed(const param *p, device *d, packed *panels, const void *w, dtype type,
                                    inlay_error *err)
{
    int64_t rows = panels->k, columns = panels->n;
    enum { STRIP = 16 }; /* rows at a time: whole cache lines of the transpose */
    float *transposed = memory_array(rows + STRIP, size_product(columns, sizeof *transposed)),
          *strip = transposed ? transposed + rows * columns : NULL;

    if (!transposed)
        FAIL(err, INLAY_ERR_NOMEM, "out of memory: %lld values of '%s', transposed", (long long)(rows * columns),
             p->name);
    for (int64_t r = 0; r < rows; r += STRIP) {
        int64_t count = rows - r < STRIP ? rows - r : STRIP;
        dtype_to_f32(strip, (const unsigned char *)w + (size_t)(r * columns) * dtype_size(type), type,
                     (size_t)(count * columns));
        for (int64_t c = 0; c < columns; c++)
            for (int64_t i = 0; i < count; i++)
                transposed[c * rows + r + i] = strip[i * columns + c];
    }
    d->k->pack(&d->c, panels, transposed, DTYPE_F32);
    free(transposed);
    return INLAY_OK;
}

inlay_status param_panels(param *p, device *d, int64_t first, int64_t count, dtype type, bool transposed,
                          const packed **out, inlay_error *err)
{
    int64_t columns = p->count / p->dims[0];
    param_panel *panel = find_panel(p, first, count, type, transposed);

    if (!panel)
        TRY(new_panel(&panel, p, d, first, count, type, transposed, err));
    if (panel->version != p->version) {
        /* what was changed or is trained lives on the device; a frozen weight is packed straight from the checkpoint */
        dtype from = p->data ? d->k->real : p->source_type;
        const unsigned char *bytes =
            (const unsigned char *)(p->data ? p->data : p->source) + (size_t)(first * columns) * dtype_size(from);
        if (transposed)
            TRY(pack_transposed(p, d, &panel->panels, bytes, from, err));
        else
            d->k->pack(&d->c, &panel->panels, bytes, from);
        panel->version = p->version;
        if (!p->data && p->mapped)
            file_part_release(bytes, (size_t)(count * columns) * dtype_size(from));
    }
    *out = &panel->panels;
    return INLAY_OK;
}

void param_get(const param *p, const device *d, float *out)
{
    if (p->data)
        device_get_f32(d, out, p->data, p->count);
    else if (p->source)
        dtype_to_f32(out, p->source, p->source_type, (size_t)p->count);
    else
        memset(out, 0, (size_t)p->count * sizeof *out);
}

void param_set(param *p, const device *d, const float *values)
{
    device_set_f32(d, p->data, values, p->count);
    p->version++;
}
