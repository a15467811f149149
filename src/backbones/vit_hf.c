/* What Hugging Face's config.json and preprocessor_config.json say of a ViT. */
#include <string.h>

#include "backbones/vit_config.h"
#include "base/json.h"

static void read_hf_labels(backbone *b, const json_t *id2label)
{
    size_t count = json_object_size(id2label);
    const char **labels = ARENA_ARRAY(b->memory, const char *, count + 1);

    for (size_t i = 0; i < count; i++) {
        const char *label = json_string_value(json_object_get(id2label, arena_printf(b->memory, "%zu", i)));
        if (!label)
            return;
        labels[i] = arena_strdup(b->memory, label);
    }
    b->labels = count ? labels : NULL;
}

/* preprocessor_config.json beside config.json */
static inlay_status hf_preprocessor(backbone *b, const char *config_path, inlay_error *err)
{
    static const char *const filters[] = {"nearest", "lanczos", "bilinear", "bicubic", "box", "hamming"};
    const char *path = arena_printf(b->memory, "%.*spreprocessor_config.json", (int)(path_base(config_path) - config_path), config_path);
    inlay_status status = INLAY_OK;
    json_t *config;
    int64_t code = 2;

    b->input.crop_mode = "squash";
    b->input.interpolation = "bilinear";
    if (!file_exists(path))
        return INLAY_OK;
    TRY(json_read(&config, path, JSON_REJECT_DUPLICATES, err));
    status = config_triple(&(config_reader){config, path, err}, "image_mean", b->input.mean);
    if (status == INLAY_OK)
        status = config_triple(&(config_reader){config, path, err}, "image_std", b->input.std);
    if (json_is_integer(json_object_get(config, "resample")))
        code = json_integer_value(json_object_get(config, "resample"));
    if (status == INLAY_OK && (code < 0 || code > 5))
        status = error_set(err, INLAY_ERR_UNSUPPORTED, "%s: 'resample' is %lld, expected one of Pillow's codes 0 to 5", path, (long long)code);
    else
        b->input.interpolation = filters[code < 0 || code > 5 ? 2 : code];
    json_decref(config);
    return status;
}

inlay_status vit_hf_config(backbone *b, const config_reader *r)
{
    const json_t *id2label = json_object_get(r->object, "id2label");

    b->shape.eps = 1e-12;
    TRY(config_real(r, "layer_norm_eps", 0, 1, &b->shape.eps));
    TRY(config_int(r, "num_attention_heads", &b->shape.heads));
    TRY(config_int(r, "image_size", &b->shape.height));
    TRY(config_activation(r, "hidden_act", &b->shape.act));
    if (json_is_object(id2label))
        read_hf_labels(b, id2label);
    return hf_preprocessor(b, r->path, r->err);
}
