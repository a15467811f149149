#include "train/checkpoint.h"

#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define KINDS 3
static const char *const kinds[KINDS] = {"param", "m", "v"};

static void *array_of(const param *p, int kind)
{
    return kind == 0 ? p->data : kind == 1 ? p->m : p->v;
}

/* How often the optimiser has moved each parameter, as text. */
static const char *updates_text(arena *memory, const adapter *a)
{
    char *text = ARENA_ARRAY(memory, char, a->param_count * 21 + 1), *at = text;

    for (int i = 0; i < a->param_count; i++)
        at += snprintf(at, 22, "%" PRId64 " ", a->params[i].p->updates);
    return text;
}

static inlay_status read_updates(const char *path, const char *text, adapter *a, inlay_error *err)
{
    for (int i = 0; i < a->param_count; i++) {
        char *end;
        a->params[i].p->updates = text ? strtoll(text, &end, 10) : 0;
        if (!text || end == text || a->params[i].p->updates < 0)
            FAIL(err, INLAY_ERR_FORMAT, "%s: not a checkpoint of a training run", path);
        text = end;
    }
    return INLAY_OK;
}

inlay_status checkpoint_save(const char *path, const adapter *a, const device *d, const train_state *state, const char *run, inlay_error *err)
{
    arena *memory = arena_new();
    int made = 0;
    tensor_view *views = ARENA_ARRAY(memory, tensor_view, a->param_count * KINDS);
    float **values = ARENA_ARRAY(memory, float *, a->param_count * KINDS);
    const char *position = arena_printf(memory, "{\"epoch\": %d, \"step_in_epoch\": %d, \"position\": %d, \"step\": %" PRId64 ", \"loss_sum\": %.17g, \"log_bytes\": %" PRId64 "}",
                                        state->epoch, state->step_in_epoch, state->position, state->step, state->loss_sum, state->log_bytes);
    const char *metadata[] = {"inlay.state", position, "inlay.run", run, "inlay.updates", updates_text(memory, a), NULL};
    inlay_status status = INLAY_OK;

    for (int i = 0; i < a->param_count * KINDS; i++) {
        const param *p = a->params[i / KINDS].p;
        if (a->params[i / KINDS].fixed)
            continue;
        values[made] = malloc((size_t)p->count * sizeof(float));
        if (!values[made]) {
            status = error_set(err, INLAY_ERR_NOMEM, "out of memory saving '%s'", path);
            break;
        }
        device_get_f32(d, values[made], array_of(p, i % KINDS), p->count);
        views[made] = (tensor_view){.name = arena_printf(memory, "%s.%s", kinds[i % KINDS], p->name), .type = DTYPE_F32, .ndim = p->ndim, .count = p->count,
                                    .data = values[made]};
        memcpy(views[made].dims, p->dims, (size_t)p->ndim * sizeof *p->dims);
        made++;
    }
    if (status == INLAY_OK)
        status = safetensors_write(path, views, made, metadata, err);
    for (int i = 0; i < made; i++)
        free(values[i]);
    arena_free(memory);
    return status;
}

/* Two settings as text, from a little before the place where they differ when they are long. */
static inlay_status differ(const char *path, const char *key, const json_t *was, const json_t *is, inlay_error *err)
{
    const size_t style = JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(9);
    char *a = was ? json_dumps(was, style) : NULL, *b = json_dumps(is, style);
    size_t same = 0, from;

    while (a && b && a[same] && a[same] == b[same])
        same++;
    from = same > 100 ? same - 20 : 0;
    error_set(err, INLAY_ERR_MISMATCH, "%s: the run was begun with other settings: '%s' was %s%.200s, now %s%.200s", path, key, from ? "..." : "", a ? a + from : "absent",
              from ? "..." : "", b ? b + from : "absent");
    free(a);
    free(b);
    return INLAY_ERR_MISMATCH;
}

/* Names the first setting of `now` that is not the same in `saved`; those of an object by their own names, behind `prefix`. */
static inlay_status compare_settings(const char *path, const char *prefix, const json_t *saved, json_t *now, inlay_error *err)
{
    json_t *item;
    const char *key;
    char full[160];

    json_object_foreach(now, key, item)
    {
        const json_t *was = json_object_get(saved, key);
        if (json_equal(item, was))
            continue;
        snprintf(full, sizeof full, "%s%s", prefix, key);
        if (!*prefix && json_is_object(item) && json_is_object(was)) {
            snprintf(full, sizeof full, "%s.", key);
            TRY(compare_settings(path, full, was, item, err));
            snprintf(full, sizeof full, "%s", key); /* a key too many */
        }
        return differ(path, full, was, item, err);
    }
    return INLAY_OK;
}

/* The two runs' settings must be the same. */
static inlay_status compare_runs(const char *path, const char *saved, const char *now, inlay_error *err)
{
    json_t *a = saved ? json_loads(saved, 0, NULL) : NULL, *b = json_loads(now, 0, NULL);
    inlay_status status = a ? compare_settings(path, "", a, b, err) : error_set(err, INLAY_ERR_FORMAT, "%s: not a checkpoint of a training run", path);

    json_decref(a);
    json_decref(b);
    return status;
}

/* Whether a run of that extent can stand there. Images that cannot be read make the epochs' steps fewer, so that their number only has bounds. */
static bool can_stand(const train_state *s, json_int_t epoch, json_int_t step_in_epoch, json_int_t position, const train_extent *extent)
{
    int64_t most_steps = ((int64_t)extent->images + extent->batch - 1) / extent->batch;

    return epoch >= 0 && epoch <= extent->epochs && position >= 0 && position <= extent->images && step_in_epoch >= 0 && step_in_epoch <= position &&
           (epoch < extent->epochs || position == 0) && s->step >= epoch + step_in_epoch && s->step <= epoch * most_steps + step_in_epoch && isfinite(s->loss_sum) &&
           s->log_bytes >= 0;
}

static inlay_status read_state(const char *path, const char *text, train_state *state, const train_extent *extent, inlay_error *err)
{
    json_t *root = text ? json_loads(text, 0, NULL) : NULL;
    json_int_t epoch, step_in_epoch, position, step, bytes;
    double loss_sum;
    bool good = root && json_unpack(root, "{s:I, s:I, s:I, s:I, s:F, s:I}", "epoch", &epoch, "step_in_epoch", &step_in_epoch, "position", &position, "step", &step,
                                    "loss_sum", &loss_sum, "log_bytes", &bytes) == 0;

    json_decref(root);
    if (!good)
        FAIL(err, INLAY_ERR_FORMAT, "%s: not a checkpoint of a training run", path);
    *state = (train_state){.step = step, .loss_sum = loss_sum, .log_bytes = bytes};
    if (!can_stand(state, epoch, step_in_epoch, position, extent))
        FAIL(err, INLAY_ERR_FORMAT, "%s: not a checkpoint of this run: no run of %d epochs over %d images stands at %s", path, extent->epochs, extent->images, text);
    state->epoch = (int)epoch;
    state->step_in_epoch = (int)step_in_epoch;
    state->position = (int)position;
    return INLAY_OK;
}

static inlay_status read_values(const char *path, const tensor_set *file, adapter *a, device *d, inlay_error *err)
{
    for (int i = 0; i < a->param_count * KINDS; i++) {
        param *p = a->params[i / KINDS].p;
        char name[256];
        const tensor_view *t;
        float *values;
        if (a->params[i / KINDS].fixed)
            continue;
        snprintf(name, sizeof name, "%s.%s", kinds[i % KINDS], p->name);
        t = tensor_set_find(file, name);
        if (!t || t->type != DTYPE_F32 || t->count != p->count)
            FAIL(err, INLAY_ERR_FORMAT, "%s: tensor '%s' with %lld F32 values is expected", path, name, (long long)p->count);
        values = malloc((size_t)p->count * sizeof *values);
        if (!values)
            FAIL(err, INLAY_ERR_NOMEM, "out of memory reading '%s'", path);
        memcpy(values, t->data, (size_t)p->count * sizeof *values);
        if (i % KINDS == 0)
            param_set(p, d, values);
        else
            device_set_f32(d, array_of(p, i % KINDS), values, p->count);
        free(values);
    }
    return INLAY_OK;
}

inlay_status checkpoint_load(const char *path, adapter *a, device *d, train_state *state, const train_extent *extent, const char *run, inlay_error *err)
{
    tensor_set *file;
    inlay_status status;

    TRY(tensor_set_open(&file, path, err));
    status = compare_runs(path, tensor_set_metadata(file, "inlay.run"), run, err);
    if (status == INLAY_OK)
        status = read_state(path, tensor_set_metadata(file, "inlay.state"), state, extent, err);
    if (status == INLAY_OK)
        status = read_updates(path, tensor_set_metadata(file, "inlay.updates"), a, err);
    if (status == INLAY_OK)
        status = read_values(path, file, a, d, err);
    tensor_set_close(file);
    return status;
}
