/* How images are brought to a ViT of timm, and what its classes are called: pretrained_cfg in config.json, or the same
 * keys in config.json itself, as older files have them. Missing keys are what timm takes then. */
#include <string.h>

#include "backbones/labels.h"
#include "backbones/vit_config.h"

static const char elsewhere[] = "where the weights were found", cited[] = "whose work it is",
                  at_test_size[] = "timm uses it where the test size is asked for",
                  in_tensors[] = "read off the tensors";

#define CFG_KEYS                                                                                                    \
    {"input_size", NULL, NULL}, {"interpolation", NULL, NULL}, {"crop_pct", NULL, NULL}, {"crop_mode", NULL, NULL}, \
        {"mean", NULL, NULL}, {"std", NULL, NULL}, {"label_names", NULL, NULL}, {"label_offset", NULL, "0"},        \
        {"tag", NULL, NULL}, {"label_descriptions", "longer texts for the same classes", NULL},                     \
        {"url", elsewhere, NULL}, {"file", elsewhere, NULL}, {"state_dict", elsewhere, NULL},                       \
        {"hf_hub_id", elsewhere, NULL}, {"hf_hub_filename", elsewhere, NULL}, {"source", elsewhere, NULL},          \
        {"custom_load", "how timm reads a file of another format", NULL}, {"test_input_size", at_test_size, NULL},  \
        {"test_crop_pct", at_test_size, NULL}, {"test_pool_size", at_test_size, NULL},                              \
        {"min_input_size", "a limit for other sizes", NULL},                                                        \
        {"fixed_input_size", "whether timm takes other sizes", NULL}, {"num_classes", in_tensors, NULL},            \
        {"pool_size", in_tensors, NULL}, {"first_conv", in_tensors, NULL}, {"classifier", in_tensors, NULL},        \
        {"license", cited, NULL}, {"description", cited, NULL}, {"origin_url", cited, NULL},                        \
        {"paper_name", cited, NULL}, {"paper_ids", cited, NULL},                                                    \
    {                                                                                                               \
        "notes", cited, NULL                                                                                        \
    }

#define ROOT_KEYS                                                                                                     \
    {"architecture", NULL, NULL}, {"num_classes", in_tensors, NULL}, {"num_features", in_tensors, NULL},              \
        {"model_args", NULL, NULL}, {"global_pool", NULL, NULL}, {"label_names", NULL, NULL},                         \
        {"label_descriptions", "longer texts for the same classes", NULL}, {"inlay", NULL, NULL},                     \
        {"pretrained_cfg", NULL, NULL}, {"model_type", NULL, NULL},                                                   \
        {"architectures", "which class of transformers reads it", NULL},                                              \
        {"transformers_version", "which version wrote the file", NULL},                                               \
        {"problem_type", "the loss of a training", NULL}, {"torch_dtype", in_tensors, NULL},                          \
        {"dtype", in_tensors, NULL}, {"id2label", NULL, NULL}, {"label2id", "the other direction of id2label", NULL}, \
        {"initializer_range", "how new weights begin", NULL},                                                         \
    {                                                                                                                 \
        "do_pooling", "a model without a head", NULL                                                                  \
    }

const config_key vit_timm_cfg_keys[] = {CFG_KEYS, {"architecture", "the name of the variant", NULL}, {0}};
const config_key vit_timm_root_keys[] = {ROOT_KEYS, {0}};
const config_key vit_timm_own_keys[] = {{"norm_eps", NULL, NULL}, {"crop_down", NULL, NULL}, {0}};
static const config_key flat_keys[] = {ROOT_KEYS, CFG_KEYS, {"labels", NULL, NULL}, {0}};

static inlay_status read_text(backbone *b, const config_reader *r, const char *key, const char **out)
{
    const json_t *item = json_object_get(r->object, key);
    char room[64];

    if (!item || json_is_null(item))
        return INLAY_OK;
    if (!json_is_string(item))
        FAIL(r->err, INLAY_ERR_FORMAT, "%s: '%s' is %s, expected text", r->path, key, config_value_text(room, item));
    if (json_string_length(item))
        *out = arena_strdup(b->memory, json_string_value(item));
    return INLAY_OK;
}

/* Reads [channels, height, width]; the model's own size is asked first. */
static inlay_status read_size(backbone *b, const config_reader *r)
{
    const json_t *item = json_object_get(r->object, "input_size");
    int64_t sides[3];
    char room[64];

    if (!item || json_is_null(item))
        return INLAY_OK;
    for (size_t i = 0; i < 3; i++) {
        sides[i] = json_integer_value(json_array_get(item, i));
        if (json_array_size(item) != 3 || sides[i] < 1 || sides[i] > 1 << 16)
            FAIL(r->err, INLAY_ERR_FORMAT, "%s: 'input_size' is %s, expected [channels, height, width]", r->path,
                 config_value_text(room, item));
    }
    if (!b->shape.height) {
        b->shape.height = sides[1];
        b->shape.image_width = sides[2];
    }
    return INLAY_OK;
}

/* Reads the crop; timm takes its default for 0 as it does for null. */
static inlay_status read_crop(backbone *b, const config_reader *r)
{
    double pct = 0;

    TRY(config_real(r, "crop_pct", 0, 2, &pct));
    if (pct != 0)
        TRY(config_real(r, "crop_pct", 0.05, 2, &b->input.crop_pct));
    TRY(read_text(b, r, "interpolation", &b->input.interpolation));
    return read_text(b, r, "crop_mode", &b->input.crop_mode);
}

static inlay_status read_normalisation(backbone *b, const config_reader *r)
{
    double mean[3] = {0.485, 0.456, 0.406}, std[3] = {0.229, 0.224, 0.225};

    TRY(config_channels(r, "mean", mean));
    TRY(config_channels(r, "std", std));
    for (int c = 0; c < 3; c++) {
        b->input.mean[c] = (float)mean[c];
        b->input.std[c] = (float)std[c];
    }
    return config_check_normalisation(r->path, "mean", mean, "std", std, r->err);
}

/* Notes the keys without which timm's own values are taken, since they are not those of most ViTs. */
static void note_missing(backbone *b, const config_reader *r)
{
    static const char *const wanted[][2] = {{"mean", "0.485, 0.456, 0.406"},
                                            {"std", "0.229, 0.224, 0.225"},
                                            {"crop_pct", "0.875"},
                                            {"interpolation", "bicubic"}};

    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
        const json_t *item = json_object_get(r->object, wanted[i][0]);
        if (!item || json_is_null(item))
            notes_add(&b->notes, "%s: '%s' is missing: timm's %s is taken", r->path, wanted[i][0], wanted[i][1]);
    }
}

/* Reads what Inlay itself adds to a checkpoint that it writes, where timm has no key for it. */
static inlay_status read_own(backbone *b, const config_reader *r)
{
    config_reader own = {json_object_get(r->object, "inlay"), r->path, r->err};
    char room[64];

    if (!own.object)
        return INLAY_OK;
    if (!json_is_object(own.object))
        FAIL(r->err, INLAY_ERR_FORMAT, "%s: 'inlay' is %s, expected an object", r->path,
             config_value_text(room, own.object));
    TRY(config_check(b, &own, vit_timm_own_keys));
    TRY(config_real(&own, "norm_eps", 0, 1, &b->shape.eps));
    return config_flag(&own, "crop_down", &b->input.crop_down);
}

inlay_status vit_timm_input(backbone *b, const config_reader *r)
{
    const json_t *nested = json_object_get(r->object, "pretrained_cfg");
    config_reader cfg = {json_is_object(nested) ? nested : r->object, r->path, r->err};
    char room[64];

    if (nested && !json_is_null(nested) && !json_is_object(nested))
        FAIL(r->err, INLAY_ERR_FORMAT, "%s: 'pretrained_cfg' is %s, expected an object", r->path,
             config_value_text(room, nested));
    TRY(config_check(b, r, json_is_object(nested) ? vit_timm_root_keys : flat_keys));
    if (json_is_object(nested))
        TRY(config_check(b, &cfg, vit_timm_cfg_keys));
    b->input.crop_pct = 0.875;
    TRY(read_size(b, &cfg));
    TRY(read_crop(b, &cfg));
    TRY(read_normalisation(b, &cfg));
    note_missing(b, &cfg);
    TRY(read_own(b, r));
    TRY(read_text(b, &cfg, "tag", &b->pretrained_tag));
    TRY(labels_read(b, &cfg, "labels"));
    TRY(labels_read(b, &cfg, "label_names"));
    TRY(labels_read(b, r, "id2label"));
    return labels_read(b, r, "label_names"); /* what stands outside comes first, in timm as well */
}
