#include "cli/common.h"

#include <jansson.h>
#include <string.h>

inlay_status require(const options *o, const char *name, inlay_error *err)
{
    if (!options_string(o, name) || !*options_string(o, name))
        FAIL(err, INLAY_ERR_USAGE, "--%s is missing", name);
    return INLAY_OK;
}

precision choose_precision(const options *o, const device *d)
{
    const char *name = options_string(o, "precision");
    precision prec;

    if (precision_from_name(name, &prec))
        return prec;
    return strcmp(d->k->name, "avx512bf16") == 0 ? PRECISION_BF16 : PRECISION_F32;
}

int choose_workers(const options *o)
{
    int64_t workers = options_int(o, "workers");

    return workers > 0 ? (int)workers : pool_processors();
}

FILE *progress_stream(const options *o)
{
    return options_flag(o, "quiet") ? NULL : stderr;
}

inlay_status apply_preprocess_options(preprocess *p, const options *o, inlay_error *err)
{
    const char *mode = options_string(o, "crop_mode"), *interpolation = options_string(o, "interpolation");

    if (mode)
        p->mode = strcmp(mode, "center") == 0 ? PREPROCESS_CROP : strcmp(mode, "squash") == 0 ? PREPROCESS_SQUASH : PREPROCESS_BORDER;
    if (options_has(o, "crop_pct"))
        p->crop_pct = options_real(o, "crop_pct");
    if (options_given(o, "exif_orientation"))
        p->apply_orientation = options_flag(o, "exif_orientation");
    if (interpolation && !resample_from_name(interpolation, &p->interpolation))
        FAIL(err, INLAY_ERR_USAGE, "--interpolation: '%s' is not known", interpolation);
    return INLAY_OK;
}

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

inlay_status session_open(session *s, const options *o, inlay_error *err)
{
    const char *folder = options_string(o, "adapter");
    int64_t size = options_int(o, "image_size");
    void *recorded = NULL;
    inlay_status status;

    *s = (session){.workers = choose_workers(o)};
    TRY(require(o, "backbone", err));
    if (folder && !size)
        size = recorded_size(folder);
    status = backbone_open(&s->b, options_string(o, "backbone"), size, err);
    if (status == INLAY_OK && folder)
        status = adapter_load(&s->a, folder, s->b, options_flag(o, "force_backbone"), &recorded, err);
    if (status == INLAY_OK)
        status = preprocess_for(&s->prep, s->b, recorded, err);
    json_decref(recorded);
    if (status == INLAY_OK)
        status = apply_preprocess_options(&s->prep, o, err);
    if (status == INLAY_OK)
        status = device_open(&s->dev, NULL, (int)options_int(o, "threads"), err);
    if (status != INLAY_OK) {
        session_close(s);
        return status;
    }
    s->prec = choose_precision(o, &s->dev);
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
