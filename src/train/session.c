#include "train/session.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

/* The input size that an adapter was trained with is part of the model: read it before the backbone is opened. */
static int64_t recorded_size(const char *folder)
{
    char path[4096];
    json_t *root;
    int64_t size;

    snprintf(path, sizeof path, "%s/adapter.json", folder);
    root = json_load_file(path, 0, NULL);
    size = json_integer_value(json_object_get(json_object_get(root, "backbone"), "image_size"));
    json_decref(root);
    return size > 0 && size <= 8192 ? size : 0;
}

precision precision_choose(const char *name, const device *d)
{
    precision prec;

    if (precision_from_name(name, &prec))
        return prec;
    return strcmp(d->k->name, "avx512bf16") == 0 ? PRECISION_BF16 : PRECISION_F32;
}

inlay_status session_open(session *s, const session_request *request, inlay_error *err)
{
    int64_t size = request->image_size;
    void *recorded = NULL;
    inlay_status status;

    *s = (session){0};
    if (request->adapter && !size)
        size = recorded_size(request->adapter);
    status = backbone_open(&s->b, request->backbone, size, err);
    if (status == INLAY_OK && request->adapter)
        status = adapter_load(&s->a, request->adapter, s->b, request->force_backbone, &recorded, err);
    if (status == INLAY_OK)
        status = preprocess_for(&s->prep, s->b, recorded, err);
    json_decref(recorded);
    if (status == INLAY_OK)
        status = device_open(&s->dev, NULL, request->threads, err);
    if (status != INLAY_OK) {
        session_close(s);
        return status;
    }
    s->prec = precision_choose(request->precision, &s->dev);
    return INLAY_OK;
}

void session_close(session *s)
{
    if (s->b && s->dev.k)
        for (int i = 0; i < s->b->param_count; i++)
            param_release(s->b->params[i], &s->dev);
    adapter_free(s->a, s->dev.k ? &s->dev : NULL);
    backbone_close(s->b);
    if (s->dev.k)
        device_close(&s->dev);
    *s = (session){0};
}

inlay_status session_predictor(session *s, int64_t batch, predictor *out, inlay_error *err)
{
    model_request request = {.dev = &s->dev, .b = s->b, .a = s->a, .prec = s->prec, .pixel_type = preprocess_pixel_type(&s->prep)};
    inlay_status status = predictor_open(out, &request, batch, err);

    if (status != INLAY_OK)
        predictor_close(out);
    else
        tensor_set_release(s->b->file);
    return status;
}

int64_t session_classes(const session *s)
{
    return s->a ? s->a->classes : s->b->shape.classes;
}

const char *session_label(const session *s, int64_t index)
{
    if (s->a)
        return s->a->labels[index] && *s->a->labels[index] ? s->a->labels[index] : NULL;
    return s->b->labels ? s->b->labels[index] : NULL;
}

inlay_status session_dataset(const session *s, dataset **out, const char *path, const char *split, inlay_error *err)
{
    dataset_request request = {.path = path, .split = split};

    if (s->a && session_label(s, 0))
        request.classes = (const char *const *)s->a->labels;
    else if (!s->a && s->b->labels)
        request.classes = s->b->labels;
    request.class_count = request.classes ? (int)session_classes(s) : 0;
    TRY(dataset_open(out, &request, err));
    if (!request.classes && !(*out)->numeric_labels && (*out)->class_count != session_classes(s)) {
        int found = (*out)->class_count;
        dataset_free(*out);
        *out = NULL;
        FAIL(err, INLAY_ERR_USAGE, "'%s' has %d classes by name, the model has %lld without names: a CSV list with class indices is needed", path, found,
             (long long)session_classes(s));
    }
    return INLAY_OK;
}
