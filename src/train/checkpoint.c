#include "train/checkpoint.h"
#include "base/json.h"

#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* What is kept of a parameter: its value, then what the optimiser keeps. */
#define KINDS (1 + OPTIMIZER_STATES)

static const char *kind_name(int kind)
{
    return kind ? optimizer_states[kind - 1] : "param";
}

/* The values of one kind that are kept of a parameter; NULL: the optimiser keeps no such thing. */
static void *array_of(const optimizer_slot *s, int kind)
{
    return kind ? s->state[kind - 1] : s->p->data;
}

/* How often the optimiser has moved each parameter, as text. */
static const char *updates_text(arena *memory, const optimizer *o)
{
    char *text = ARENA_ARRAY(memory, char, o->count * 21 + 1), *at = text;

    for (int i = 0; i < o->count; i++)
        at += snprintf(at, 22, "%" PRId64 " ", o->slots[i].updates);
    return text;
}

static inlay_status read_updates(const char *path, const char *text, optimizer *o, inlay_error *err)
{
    for (int i = 0; i < o->count; i++) {
        char *end;
        o->slots[i].updates = text ? strtoll(text, &end, 10) : 0;
        if (!text || end == text || o->slots[i].updates < 0)
            FAIL(err, INLAY_ERR_FORMAT, "%s: not a checkpoint of a training run", path);
        text = end;
    }
    return INLAY_OK;
}

/* The columns of the records of images, each a tensor. */
#define COLUMNS 3
static const char *const columns[COLUMNS] = {"images.size", "images.modified", "images.sum"};

inlay_status checkpoint_save(const char *path, const optimizer *o, const train_state *state, const char *run,
                             const image_records *images, inlay_error *err)
{
    arena *memory = arena_new();
    int made = 0;
    tensor_view *views = ARENA_ARRAY(memory, tensor_view, o->count * KINDS + COLUMNS);
    const int64_t *const records[COLUMNS] = {images->size, images->modified, images->sum};
    float **values = ARENA_ARRAY(memory, float *, o->count *KINDS);
    const char *position = arena_printf(memory,
                                        "{\"epoch\": %d, \"step_in_epoch\": %d, \"position\": %d, \"step\": %" PRId64
                                        ", \"loss_sum\": %.17g, \"log_bytes\": %" PRId64 "}",
                                        state->epoch, state->step_in_epoch, state->position, state->step,
                                        state->loss_sum, state->log_bytes);
    const char *metadata[] = {"inlay.state",           position, "inlay.run", run, "inlay.updates",
                              updates_text(memory, o), NULL};
    inlay_status status = INLAY_OK;

    for (int i = 0; i < o->count * KINDS; i++) {
        const param *p = o->slots[i / KINDS].p;
        const void *array = array_of(&o->slots[i / KINDS], i % KINDS);
        if (!p->trainable || !array)
            continue;
        values[made] = memory_array(p->count, sizeof(float));
        if (!values[made]) {
            status = error_set(err, INLAY_ERR_NOMEM, "out of memory saving '%s'", path);
            break;
        }
        device_get_f32(o->dev, values[made], array, p->count);
        views[made] = (tensor_view){.name = arena_printf(memory, "%s.%s", kind_name(i % KINDS), p->name),
                                    .type = DTYPE_F32,
                                    .ndim = p->ndim,
                                    .count = p->count,
                                    .data = values[made]};
        memcpy(views[made].dims, p->dims, (size_t)p->ndim * sizeof *p->dims);
        made++;
    }
    for (int i = 0; i < COLUMNS; i++)
        views[made + i] = (tensor_view){.name = columns[i],
                                        .type = DTYPE_I64,
                                        .ndim = 1,
                                        .dims = {images->data->count},
                                        .count = images->data->count,
                                        .data = records[i]};
    if (status == INLAY_OK)
        status = safetensors_write(path, views, made + COLUMNS, metadata, err);
    for (int i = 0; i < made; i++)
        free(values[i]);
    arena_free(memory);
    return status;
}

/* The error for two settings that differ, as text, from a little before the place where they do when they are long. */
static inlay_status differ(const char *path, const char *key, const json_t *was, const json_t *is, inlay_error *err)
{
    const size_t style = JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(9);
    char *a = was ? json_dumps(was, style) : NULL, *b = json_dumps(is, style);
    size_t same = 0, from;

    while (a && b && a[same] && a[same] == b[same])
        same++;
    from = same > 100 ? same - 20 : 0;
    error_set(err, INLAY_ERR_MISMATCH, "%s: the run was begun with other settings: '%s' was %s%.200s, now %s%.200s",
              path, key, from ? "..." : "", a ? a + from : "absent", from ? "..." : "", b ? b + from : "absent");
    free(a);
    free(b);
    return INLAY_ERR_MISMATCH;
}

/* Names the first setting of `now` that is not the same in `saved`; those of an object by their own names, behind
 * `prefix`. */
static inlay_status compare_settings(const char *path, const char *prefix, const json_t *saved, json_t *now,
                                     inlay_error *err)
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

inlay_status checkpoint_compare(const char *path, const void *saved, const char *run, inlay_error *err)
{
    json_t *now = json_loads(run, 0, NULL);
    inlay_status status =
        json_is_object((const json_t *)saved)
            ? compare_settings(path, "", saved, now, err)
            : error_set(err, INLAY_ERR_FORMAT, "%s: there are no settings of a training run in it", path);

    json_decref(now);
    return status;
}

/* Checks that two runs have the same settings. */
static inlay_status compare_runs(const char *path, const char *saved, const char *now, inlay_error *err)
{
    json_t *was = saved ? json_loads(saved, 0, NULL) : NULL;
    inlay_status status = was ? checkpoint_compare(path, was, now, err)
                              : error_set(err, INLAY_ERR_FORMAT, "%s: not a checkpoint of a training run", path);

    json_decref(was);
    return status;
}

/* Whether a run of that extent can stand there. Images that cannot be read make the epochs' steps fewer, so that their
 * number only has bounds. */
static bool can_stand(const train_state *s, json_int_t epoch, json_int_t step_in_epoch, json_int_t position,
                      const train_extent *extent)
{
    int64_t most_steps = ((int64_t)extent->images + extent->batch - 1) / extent->batch;

    return epoch >= 0 && epoch <= extent->epochs && position >= 0 && position <= extent->images && step_in_epoch >= 0 &&
           step_in_epoch <= position && (epoch < extent->epochs || position == 0) && s->step >= epoch + step_in_epoch &&
           s->step <= epoch * most_steps + step_in_epoch && isfinite(s->loss_sum) && s->log_bytes >= 0;
}

static inlay_status read_state(const char *path, const char *text, train_state *state, const train_extent *extent,
                               inlay_error *err)
{
    json_t *root = text ? json_loads(text, 0, NULL) : NULL;
    json_int_t epoch, step_in_epoch, position, step, bytes;
    double loss_sum;
    bool good =
        root && json_unpack(root, "{s:I, s:I, s:I, s:I, s:F, s:I}", "epoch", &epoch, "step_in_epoch", &step_in_epoch,
                            "position", &position, "step", &step, "loss_sum", &loss_sum, "log_bytes", &bytes) == 0;

    json_decref(root);
    if (!good)
        FAIL(err, INLAY_ERR_FORMAT, "%s: not a checkpoint of a training run", path);
    *state = (train_state){.step = step, .loss_sum = loss_sum, .log_bytes = bytes};
    if (!can_stand(state, epoch, step_in_epoch, position, extent))
        FAIL(err, INLAY_ERR_FORMAT, "%s: not a checkpoint of this run: no run of %d epochs over %d images stands at %s",
             path, extent->epochs, extent->images, text);
    state->epoch = (int)epoch;
    state->step_in_epoch = (int)step_in_epoch;
    state->position = (int)position;
    return INLAY_OK;
}

static inlay_status read_values(const char *path, const tensor_set *file, optimizer *o, inlay_error *err)
{
    for (int i = 0; i < o->count * KINDS; i++) {
        param *p = o->slots[i / KINDS].p;
        char name[256];
        const tensor_view *t;
        float *values;
        void *array = array_of(&o->slots[i / KINDS], i % KINDS);
        if (!p->trainable || !array)
            continue;
        snprintf(name, sizeof name, "%s.%s", kind_name(i % KINDS), p->name);
        t = tensor_set_find(file, name);
        if (!t || t->type != DTYPE_F32 || t->count != p->count)
            FAIL(err, INLAY_ERR_FORMAT, "%s: tensor '%s' with %lld F32 values is expected", path, name,
                 (long long)p->count);
        values = memory_array(p->count, sizeof *values);
        if (!values)
            FAIL(err, INLAY_ERR_NOMEM, "out of memory reading '%s'", path);
        memcpy(values, t->data, (size_t)p->count * sizeof *values);
        if (i % KINDS == 0)
            param_set(p, o->dev, values);
        else
            device_set_f32(o->dev, array, values, p->count);
        free(values);
    }
    return INLAY_OK;
}

/* Compares the records of images with those of the checkpoint. One of a build that kept none has no such tensors:
 * images->compared says so. */
static inlay_status compare_images(const char *path, const tensor_set *file, image_records *images, inlay_error *err)
{
    int64_t count = images->data->count;
    int64_t *saved = memory_array((int64_t)count + 1, COLUMNS * sizeof *saved);
    inlay_status status = saved ? INLAY_OK : error_set(err, INLAY_ERR_NOMEM, "out of memory reading '%s'", path);

    images->compared = tensor_set_find(file, columns[0]) != NULL;
    for (int i = 0; images->compared && i < COLUMNS && status == INLAY_OK; i++) {
        const tensor_view *t = tensor_set_find(file, columns[i]);
        if (t && t->type == DTYPE_I64 && t->count == count)
            memcpy(saved + i * count, t->data, (size_t)count * sizeof *saved);
        else
            status = error_set(err, INLAY_ERR_FORMAT, "%s: tensor '%s' with %lld I64 values is expected", path,
                               columns[i], (long long)count);
    }
    if (images->compared && status == INLAY_OK)
        status = image_records_resume(images, saved, saved + count, saved + 2 * count, err);
    free(saved);
    return status;
}

inlay_status checkpoint_load(const char *path, optimizer *o, train_state *state, const train_extent *extent,
                             const char *run, image_records *images, inlay_error *err)
{
    tensor_set *file;
    inlay_status status;

    TRY(tensor_set_open(&file, path, err));
    status = compare_runs(path, tensor_set_metadata(file, "inlay.run"), run, err);
    if (status == INLAY_OK)
        status = read_state(path, tensor_set_metadata(file, "inlay.state"), state, extent, err);
    if (status == INLAY_OK)
        status = read_updates(path, tensor_set_metadata(file, "inlay.updates"), o, err);
    if (status == INLAY_OK)
        status = read_values(path, file, o, err);
    if (status == INLAY_OK)
        status = compare_images(path, file, images, err);
    tensor_set_close(file);
    return status;
}

/* How far the run goes, as its settings say. */
static bool read_extent(const json_t *run, train_extent *extent)
{
    json_int_t epochs, images, batch;

    if (json_unpack((json_t *)(uintptr_t)run, "{s:I, s:I, s:I}", "epochs", &epochs, "images", &images, "batch_size",
                    &batch) != 0)
        return false;
    *extent = (train_extent){(int)epochs, (int)images, (int)batch};
    return epochs > 0 && epochs <= INT_MAX && images > 0 && images <= INT_MAX && batch > 0 && batch <= INT_MAX;
}

inlay_status checkpoint_describe(const char *path, train_state *state, void **run, inlay_error *err)
{
    tensor_set *file;
    const char *text;
    train_extent extent;
    inlay_status status = INLAY_OK;

    *run = NULL;
    TRY(tensor_set_open(&file, path, err));
    text = tensor_set_metadata(file, "inlay.run");
    *run = text ? json_loads(text, 0, NULL) : NULL;
    if (!*run || !read_extent(*run, &extent))
        status = error_set(err, INLAY_ERR_FORMAT, "%s: not a checkpoint of a training run", path);
    if (status == INLAY_OK)
        status = read_state(path, tensor_set_metadata(file, "inlay.state"), state, &extent, err);
    if (status != INLAY_OK) {
        json_decref(*run);
        *run = NULL;
    }
    tensor_set_close(file);
    return status;
}
