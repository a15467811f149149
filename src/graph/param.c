#include "graph/param_impl.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"

param *param_new(arena *memory, const char *name, int ndim, const int64_t *dims)
{
    param *p = ARENA_NEW(memory, param);

    p->state = ARENA_NEW(memory, struct param_state);
    p->name = arena_strdup(memory, name);
    p->ndim = ndim;
    p->count = 1;
    pthread_mutex_init(&p->state->frozen.making, NULL);
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
    p->state->choice = c;
    return p;
}

param *param_override(arena *memory, const param *p)
{
    param *o = param_new(memory, p->name, p->ndim, p->dims);

    o->quantised = p->quantised;
    param_set_source(o, p->source, p->source_type, p->state->mapped);
    return o;
}

bool param_is_choice(const param *p)
{
    return p->state->choice != NULL;
}

void param_set_source(param *p, const void *source, dtype type, bool mapped)
{
    p->source = source;
    p->source_type = type;
    p->state->mapped = mapped;
}

void param_changed(param *p)
{
    p->state->version++;
}

bool param_touched(const param *p)
{
    return p->state->touched;
}

void param_set_touched(param *p, bool touched)
{
    p->state->touched = touched;
}

static void release_forms(param_form *form)
{
    while (form) {
        param_form *next = form->next;
        form->k->release(form->panels.data);
        free(form);
        form = next;
    }
}

void param_release(param *p, const device *d)
{
    d->k->release(p->data);
    d->k->release(p->grad);
    p->data = p->grad = NULL;
    release_forms(p->state->forms);
    p->state->forms = NULL;
    param_release_forms(p);
}

void param_release_forms(param *p)
{
    release_forms(atomic_exchange(&p->state->frozen.forms, NULL));
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

/* array = the source, as reals */
static inlay_status read_source(void *array, const param *p, const device *d, inlay_error *err)
{
    float *values;

    if (!p->source)
        return INLAY_OK; /* allocated as zeros */
    values = memory_array(p->count, sizeof *values);
    if (!values)
        FAIL(err, INLAY_ERR_NOMEM, "out of memory: %lld values of '%s'", (long long)p->count, p->name);
    dtype_to_f32(values, p->source, p->source_type, (size_t)p->count);
    device_set_f32(d, array, values, p->count);
    free(values);
    return INLAY_OK;
}

inlay_status param_materialise(param *p, const device *d, inlay_error *err)
{
    bool fresh = !p->data;

    TRY(device_array(&p->data, p, d, err));
    if (p->trainable)
        TRY(device_array(&p->grad, p, d, err));
    if (fresh && p->source) {
        TRY(read_source(p->data, p, d, err));
        p->state->version++;
    }
    return INLAY_OK;
}

/* ---- forms ---- */

static bool is_form(const param_form *form, const param_form *wanted)
{
    return form->k == wanted->k && form->kind == wanted->kind && form->first == wanted->first &&
           form->count == wanted->count && form->panels.type == wanted->panels.type;
}

static param_form *find_form(param_form *form, const param_form *wanted)
{
    while (form && !is_form(form, wanted))
        form = form->next;
    return form;
}

/* Packs the transpose of w [rows, columns]. */
static inlay_status pack_transposed(const param *p, device *d, packed *panels, const void *w, dtype type,
                                    array_place from, inlay_error *err)
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
        const unsigned char *at = (const unsigned char *)w + (size_t)(r * columns) * dtype_size(type);
        if (from == PLACE_DEVICE)
            device_get_f32(d, strip, at, count * columns);
        else
            dtype_to_f32(strip, at, type, (size_t)(count * columns));
        for (int64_t c = 0; c < columns; c++)
            for (int64_t i = 0; i < count; i++)
                transposed[c * rows + r + i] = strip[i * columns + c];
    }
    d->k->pack(&d->c, panels, transposed, DTYPE_F32, PLACE_HOST);
    free(transposed);
    return INLAY_OK;
}

/* Fills a form's panels from the value: its own, which lies on the device, or straight from the checkpoint. */
static inlay_status pack_form(const param *p, device *d, param_form *form, inlay_error *err)
{
    int64_t columns = p->count / p->dims[0];
    dtype type = p->data ? d->k->real : p->source_type;
    array_place from = p->data ? PLACE_DEVICE : PLACE_HOST;
    const unsigned char *bytes =
        (const unsigned char *)(p->data ? p->data : p->source) + (size_t)(form->first * columns) * dtype_size(type);

    if (form->kind == FORM_TRANSPOSED)
        TRY(pack_transposed(p, d, &form->panels, bytes, type, from, err));
    else
        d->k->pack(&d->c, &form->panels, bytes, type, from);
    if (from == PLACE_HOST && p->state->mapped)
        file_part_release(bytes, (size_t)(form->count * columns) * dtype_size(type));
    return INLAY_OK;
}

/* Room for a form that is described but for its data; NULL when there is none. */
static inlay_status new_form(param_form **out, const param *p, const device *d, const param_form *wanted,
                             inlay_error *err)
{
    param_form *form = malloc(sizeof *form);
    size_t size = wanted->kind == FORM_PLAIN
                      ? size_product(p->count, dtype_size(d->k->real))
                      : d->k->pack_size(d->k, wanted->panels.n, wanted->panels.k, wanted->panels.type);

    *out = NULL;
    if (form) {
        *form = *wanted;
        form->panels.data = d->k->alloc(size);
    }
    if (!form || !form->panels.data) {
        free(form);
        FAIL(err, INLAY_ERR_NOMEM, "out of memory: packed weights of '%s'", p->name);
    }
    *out = form;
    return INLAY_OK;
}

static inlay_status fill_form(const param *p, device *d, param_form *form, inlay_error *err)
{
    return form->kind == FORM_PLAIN ? read_source(form->panels.data, p, d, err) : pack_form(p, d, form, err);
}

/* A form of a frozen value. It is complete before it is in the list. */
static inlay_status frozen_form(param *p, device *d, const param_form *wanted, const param_form **out, inlay_error *err)
{
    param_form *form = find_form(atomic_load(&p->state->frozen.forms), wanted);
    inlay_status status = INLAY_OK;

    if (!form) {
        pthread_mutex_lock(&p->state->frozen.making);
        form = find_form(atomic_load(&p->state->frozen.forms), wanted);
        if (!form) {
            status = new_form(&form, p, d, wanted, err);
            if (status == INLAY_OK)
                status = fill_form(p, d, form, err);
            if (status == INLAY_OK) {
                form->next = atomic_load(&p->state->frozen.forms);
                atomic_store(&p->state->frozen.forms, form);
            } else if (form) {
                form->next = NULL;
                release_forms(form);
            }
        }
        pthread_mutex_unlock(&p->state->frozen.making);
    }
    *out = form;
    return status;
}

static inlay_status own_form(param *p, device *d, const param_form *wanted, const param_form **out, inlay_error *err)
{
    param_form *form = find_form(p->state->forms, wanted);

    if (!form) {
        TRY(new_form(&form, p, d, wanted, err));
        form->version = -1;
        form->next = p->state->forms;
        p->state->forms = form;
    }
    if (form->version != p->state->version)
        TRY(pack_form(p, d, form, err));
    form->version = p->state->version;
    *out = form;
    return INLAY_OK;
}

static param_form plain_form(const param *p, const device *d)
{
    return (param_form){.k = d->k, .kind = FORM_PLAIN, .count = p->dims[0], .panels.type = d->k->real};
}

inlay_status param_prepare(param *p, const device *d, inlay_error *err)
{
    param_form wanted = plain_form(p, d);
    const param_form *unused;
    device here = *d;

    if (p->trainable || p->data || !p->source)
        return param_materialise(p, d, err);
    return frozen_form(p, &here, &wanted, &unused, err);
}

void *param_values(const param *p, const device *d)
{
    param_form wanted = plain_form(p, d);
    const param_form *form;

    if (p->data)
        return p->data;
    form = find_form(atomic_load(&p->state->frozen.forms), &wanted);
    return form ? form->panels.data : NULL;
}

inlay_status param_panels(param *p, device *d, int64_t first, int64_t count, dtype type, bool transposed,
                          const packed **out, inlay_error *err)
{
    int64_t columns = p->count / p->dims[0];
    param_form wanted = {
        .k = d->k,
        .kind = transposed ? FORM_TRANSPOSED : FORM_PANELS,
        .first = first,
        .count = count,
        .panels = {.n = transposed ? columns : count, .k = transposed ? count : columns, .type = type}};
    const param_form *form;

    if (!p->source)
        TRY(param_materialise(p, d, err));
    TRY(p->data ? own_form(p, d, &wanted, &form, err) : frozen_form(p, d, &wanted, &form, err));
    *out = &form->panels;
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
    p->state->version++;
}
