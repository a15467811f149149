#include "infer/session.h"

#include "base/json.h"
#include "kernels/choice.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The input size that an adapter was trained with is part of the model: it is read before the backbone is opened. 0:
 * the checkpoint's own, of which alone the sides may differ. */
int64_t session_recorded_size(const char *folder)
{
    char path[4096];
    json_t *root;
    const json_t *sides;
    int64_t size;

    snprintf(path, sizeof path, "%s/adapter.json", folder);
    if (json_read(&root, path, NULL) != INLAY_OK)
        return 0; /* loading the adapter says why */
    size = json_integer_value(json_object_get(json_object_get(root, "backbone"), "image_size"));
    sides = json_object_get(json_object_get(root, "preprocessing"), "size");
    if (json_array_size(sides) == 2 && !json_equal(json_array_get(sides, 0), json_array_get(sides, 1)))
        size = 0;
    json_decref(root);
    return size > 0 && size <= 8192 ? size : 0;
}

precision precision_choose(const char *name, const device *d)
{
    precision prec;
    const char *why;

    if (precision_from_name(name, &prec))
        return prec;
    return kernels_prefer_bf16(d->k, &why) ? PRECISION_BF16 : PRECISION_F32;
}

/* Whether two adapters read images in the same way; the message says what differs. */
static inlay_status same_preprocessing(const char *first, const preprocess *a, const char *other, const preprocess *b,
                                       inlay_error *err)
{
    json_t *x = preprocess_record(a), *y = preprocess_record(b), *item;
    const char *key;
    inlay_status status =
        x && y && !json_lost() ? INLAY_OK : error_set(err, INLAY_ERR_NOMEM, "out of memory comparing adapters");

    json_object_foreach(x, key, item)
    {
        const json_t *also = json_object_get(y, key);
        char *was, *is;
        if (status != INLAY_OK || json_equal(item, also))
            continue;
        was = json_dumps(item, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(6));
        is = json_dumps(also, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(6));
        status = error_set(err, INLAY_ERR_USAGE,
                           "adapters '%s' and '%s' were trained with different preprocessing and cannot answer "
                           "together: '%s' is %s and %s",
                           first, other, key, was ? was : "?", is ? is : "?");
        free(was);
        free(is);
    }
    json_decref(x);
    json_decref(y);
    return status;
}

/* Reads how an adapter's images are brought to the backbone; its record says for which size. */
static inlay_status recorded_preprocessing(session *s, const session_request *q, const char *folder,
                                           const void *recorded, preprocess *out, inlay_error *err)
{
    const json_t *size = json_object_get(recorded, "size");
    inlay_status status = preprocess_for(out, s->b, recorded, err);

    if (status == INLAY_OK && size && !q->image_size &&
        (json_integer_value(json_array_get(size, 0)) != out->height ||
         json_integer_value(json_array_get(size, 1)) != out->width))
        status =
            error_set(err, INLAY_ERR_FORMAT, "'preprocessing.size' is %lld x %lld, but the model is opened for %d x %d",
                      (long long)json_integer_value(json_array_get(size, 0)),
                      (long long)json_integer_value(json_array_get(size, 1)), out->height, out->width);
    if (status != INLAY_OK)
        error_prefix(err, "%s/adapter.json", folder);
    return status;
}

static inlay_status check_skip(const session *s, const adapter *a, const char *folder, inlay_error *err)
{
    if ((s->skip_layers > 0 || s->skipped) && !adapter_can_skip(a))
        FAIL(
            err, INLAY_ERR_USAGE,
            "layers of '%s' cannot be skipped: a '%s' adapter transforms activations or trains weights of the backbone",
            folder, a->name);
    return INLAY_OK;
}

static inlay_status open_adapters(session *s, const session_request *q, const char *const *folders, int count,
                                  inlay_error *err)
{
    s->adapters = calloc((size_t)count + 1, sizeof(*s->adapters));
    if (!s->adapters)
        FAIL(err, INLAY_ERR_NOMEM, "out of memory for %d adapters", count);
    for (int i = 0; i < count; i++) {
        void *recorded = NULL;
        preprocess prep;
        inlay_status status;
        if (i > 0 && !q->image_size && session_recorded_size(folders[i]) != session_recorded_size(folders[0]))
            FAIL(err, INLAY_ERR_USAGE,
                 "adapters '%s' and '%s' were trained with different preprocessing and cannot answer together: images "
                 "of %lld and %lld pixels",
                 folders[0], folders[i], (long long)session_recorded_size(folders[0]),
                 (long long)session_recorded_size(folders[i]));
        TRY(adapter_load(&s->adapters[i], folders[i], s->b, q->force_backbone, &recorded, err));
        s->adapter_count = i + 1;
        status = recorded_preprocessing(s, q, folders[i], recorded, &prep, err);
        json_decref(recorded);
        TRY(status);
        TRY(check_skip(s, s->adapters[i], folders[i], err));
        if (s->adapters[i]->method->unfinished && s->adapters[i]->method->unfinished(s->adapters[i]))
            FAIL(err, INLAY_ERR_USAGE,
                 "'%s' is what '%s' trained, before its merge: it answers by chance; the merged adapter is in the "
                 "run's own folder",
                 folders[i], s->adapters[i]->name);
        if (i == 0)
            s->prep = prep;
        else
            TRY(same_preprocessing(folders[0], &s->prep, folders[i], &prep, err));
    }
    s->a = s->adapters[0];
    return INLAY_OK;
}

static inlay_status read_skipped(session *s, const session_request *request, inlay_error *err)
{
    int64_t depth = s->b->shape.depth;

    if (s->skip_layers > depth)
        FAIL(err, INLAY_ERR_USAGE, "skip_layers: '%s' has %lld layers, %d cannot be skipped", request->backbone,
             (long long)depth, s->skip_layers);
    if (!request->skip_list)
        return INLAY_OK;
    s->skipped = calloc((size_t)depth + 1, sizeof *s->skipped);
    if (!s->skipped)
        FAIL(err, INLAY_ERR_NOMEM, "out of memory for %lld layers", (long long)depth);
    return layers_read("skip_layers", request->skip_list, depth, s->skipped, err);
}

static inlay_status open_backbone(session *s, const session_request *request, int64_t size, inlay_error *err)
{
    s->shared = request->shared != NULL;
    if (!s->shared)
        return backbone_open(&s->b, request->backbone, size, err);
    s->b = request->shared;
    if (size && (s->b->shape.height != size || s->b->shape.image_width != size))
        FAIL(err, INLAY_ERR_USAGE,
             "'%s' was trained with images of %lld x %lld pixels and the backbone is open for %lld x %lld",
             request->adapter, (long long)size, (long long)size, (long long)s->b->shape.height,
             (long long)s->b->shape.image_width);
    return INLAY_OK;
}

inlay_status session_open(session *s, const session_request *request, inlay_error *err)
{
    const char *const *folders = request->adapters ? request->adapters : &request->adapter;
    int count = request->adapters ? request->adapter_count : request->adapter != NULL;
    int64_t size = request->image_size;
    inlay_status status;

    *s = (session){.skip_layers = request->skip_layers, .room = request->room};
    if (count && !size)
        size = session_recorded_size(folders[0]);
    status = open_backbone(s, request, size, err);
    if (status == INLAY_OK && (s->skip_layers || request->skip_list) && !count)
        status = error_set(err, INLAY_ERR_USAGE, "skip_layers: there is no adapter of which layers could be skipped");
    if (status == INLAY_OK)
        status = read_skipped(s, request, err);
    if (status == INLAY_OK)
        status = count ? open_adapters(s, request, folders, count, err) : preprocess_for(&s->prep, s->b, NULL, err);
    if (status == INLAY_OK)
        status = device_open(&s->dev, NULL, request->threads, err);
    if (status == INLAY_OK && request->pin_threads)
        status = pool_pin(s->dev.c.threads, err);
    if (status != INLAY_OK) {
        session_close(s);
        return status;
    }
    s->prec = precision_choose(request->precision, &s->dev);
    s->prep.room = request->room;
    return INLAY_OK;
}

void session_close(session *s)
{
    for (int i = 0; i < s->adapter_count; i++)
        adapter_free(s->adapters[i], s->dev.k ? &s->dev : NULL);
    free(s->adapters);
    free(s->skipped);
    if (!s->shared)
        backbone_close(s->b);
    if (s->dev.k)
        device_close(&s->dev);
    *s = (session){0};
}

inlay_status session_predictor(session *s, int64_t batch, predictor *out, inlay_error *err)
{
    return session_predictor_of(s, batch, preprocess_pixel_type(&s->prep), false, out, err);
}

inlay_status session_predictor_of(session *s, int64_t batch, dtype pixel_type, bool features, predictor *out,
                                  inlay_error *err)
{
    model_request request = {.dev = &s->dev,
                             .b = s->b,
                             .a = s->a,
                             .prec = s->prec,
                             .pixel_type = pixel_type,
                             .mean = s->prep.mean,
                             .std = s->prep.std,
                             .features = features,
                             .skip_layers = s->skip_layers,
                             .skipped = s->skipped,
                             .room = s->room};
    inlay_status status;

    if (session_tasks(s) > 1) {
        request.tasks = (const adapter *const *)s->adapters;
        request.task_count = s->adapter_count;
    }
    status = predictor_open(out, &request, batch, err);
    if (status != INLAY_OK)
        predictor_close(out);
    else
        tensor_set_release(s->b->file);
    return status;
}

int session_tasks(const session *s)
{
    return s->a ? s->adapter_count : 1;
}

const task_desc *session_task_of(const session *s, int task)
{
    return s->a ? s->adapters[task]->task : task_table[0];
}

int64_t session_task_classes(const session *s, int task)
{
    return s->a ? s->adapters[task]->outputs : s->b->shape.classes;
}

int64_t session_classes(const session *s)
{
    return session_task_classes(s, 0);
}

const char *session_task_label(const session *s, int task, int64_t index)
{
    const char *label;

    if (index < 0 || index >= session_task_classes(s, task))
        return NULL;
    if (!s->a)
        return s->b->labels ? s->b->labels[index] : NULL;
    label = s->adapters[task]->labels[index];
    return label && *label ? label : NULL;
}

const char *session_label(const session *s, int64_t index)
{
    return session_task_label(s, 0, index);
}

/* The names of all classes, or their numbers where they have none; NULL when no class has a name. */
static const char *const *class_names(const session *s, arena *memory)
{
    int64_t classes = session_classes(s), named = 0;
    const char **names;

    if (!s->a && s->b->labels_usual)
        return NULL;
    names = ARENA_ARRAY(memory, const char *, classes + 1);
    for (int64_t c = 0; c < classes; c++) {
        const char *label = session_label(s, c);
        names[c] = label ? label : arena_printf(memory, "%lld", (long long)c);
        named += label != NULL;
    }
    return named ? names : NULL;
}

inlay_status session_dataset(const session *s, dataset **out, const char *path, const char *split, notes *n,
                             inlay_error *err)
{
    const task_desc *of = session_task_of(s, 0);
    dataset_request request = {
        .path = path, .task = of, .split = split, .class_count = (int)session_classes(s), .notes = n};
    arena *memory = arena_new();
    inlay_status status;

    request.classes = of->classes ? class_names(s, memory) : NULL;
    status = dataset_open(out, &request, err);
    arena_free(memory);
    TRY(status);
    if (of->classes && !request.classes && !(*out)->numeric_labels && (*out)->class_count != session_classes(s)) {
        int found = (*out)->class_count;
        dataset_free(*out);
        *out = NULL;
        FAIL(err, INLAY_ERR_USAGE,
             "'%s' has %d classes by name, the model has %lld without names: a CSV list with class indices is needed",
             path, found, (long long)session_classes(s));
    }
    return INLAY_OK;
}
