/* How images are brought to a ViT of Hugging Face: preprocessor_config.json, or the image processor in
 * processor_config.json, which comes first where both are there, as in transformers.
 *
 * The pixels are those of the processors that work with Pillow. Their "fast" forms resize with torchvision, which
 * rounds a few pixels otherwise; both read the same file. Whatever the file asks for that would give other pixels is an
 * error. */
#include <math.h>
#include <string.h>

#include "backbones/vit_config.h"
#include "base/json.h"
#include "formats/image.h"

#define HALF          \
    {                 \
        0.5, 0.5, 0.5 \
    }
#define CLIP_MEAN                         \
    {                                     \
        0.48145466, 0.4578275, 0.40821073 \
    }
#define CLIP_STD                           \
    {                                      \
        0.26862954, 0.26130258, 0.27577711 \
    }

/* A processor's own values, for keys that its file does not have; all others resize, rescale and normalise alike. */
typedef struct processor {
    const char *name; /* without ImageProcessor, FeatureExtractor, Fast, Pil */
    int size, crop;
    bool centre_crop, square; /* square: `size` as a number is both sides, not the shorter one */
    resample filter;
    double mean[3], std[3];
} processor;

static const processor processors[] = {
    {"ViT", 224, 224, false, true, RESAMPLE_BILINEAR, HALF, HALF},
    {"DeiT", 256, 224, true, true, RESAMPLE_BICUBIC, HALF, HALF},
    {"Beit", 224, 224, false, true, RESAMPLE_BICUBIC, HALF, HALF},
    {"CLIP", 224, 224, true, false, RESAMPLE_BICUBIC, CLIP_MEAN, CLIP_STD},
    {"Bit", 224, 224, true, false, RESAMPLE_BICUBIC, CLIP_MEAN, CLIP_STD},
    {"Siglip", 224, 224, false, false, RESAMPLE_BICUBIC, HALF, HALF},
};

const config_key vit_hf_input_keys[] = {
    {"image_processor_type", NULL, NULL},
    {"feature_extractor_type", NULL, NULL},
    {"do_resize", NULL, NULL},
    {"size", NULL, NULL},
    {"default_to_square", NULL, NULL},
    {"resample", NULL, "0 1 2 3 4 5"},
    {"do_center_crop", NULL, NULL},
    {"crop_size", NULL, NULL},
    {"do_rescale", NULL, NULL},
    {"rescale_factor", NULL, NULL},
    {"do_normalize", NULL, NULL},
    {"image_mean", NULL, NULL},
    {"image_std", NULL, NULL},
    {"crop_pct", NULL, "null"},
    {"do_flip_channel_order", NULL, "false"},
    {"do_pad", NULL, "false"},
    {"include_top", NULL, "false"},
    {"rescale_offset", NULL, "false"},
    {"do_convert_rgb", "every image is brought to RGB", NULL},
    {"pad_size", "nothing is padded: do_pad must be false", NULL},
    {"do_reduce_labels", "of segmentation maps", NULL},
    {"reduce_labels", "of segmentation maps", NULL},
    {"data_format", "how an array of pixels lies in memory", NULL},
    {"input_data_format", "how an array of pixels lies in memory", NULL},
    {"return_tensors", "which library's arrays are returned", NULL},
    {"device", "where pixels are computed", NULL},
    {"disable_grouping", "how images of a batch are computed together", NULL},
    {"image_seq_length", "tokens that a language model reserves", NULL},
    {"processor_class", "which class reads the file", NULL},
    {"auto_map", "which class reads the file", NULL},
    {"_processor_class", "which class reads the file", NULL},
    {"_valid_processor_keys", "names of arguments", NULL},
    {"_valid_kwargs_names", "names of arguments", NULL},
    {"model_input_names", "names of arguments", NULL},
    {"transformers_version", "which version wrote the file", NULL},
    {0},
};

/* Reads a flag of which null is "no" in transformers, where a missing key is the processor's own value. */
static inlay_status read_flag(const config_reader *r, const char *key, bool *out)
{
    if (json_is_null(json_object_get(r->object, key)))
        *out = false;
    return config_flag(r, key, out);
}

/* Cuts `tail` off the name's end. */
static void cut(char *name, const char *tail)
{
    size_t length = strlen(name), part = strlen(tail);

    if (length > part && strcmp(name + length - part, tail) == 0)
        name[length - part] = '\0';
}

static inlay_status find_processor(const config_reader *r, const char *model_type, const processor **out)
{
    static const char *const type_keys[] = {"image_processor_type", "feature_extractor_type"};
    const char *given = NULL;
    char name[96];

    for (size_t i = 0; i < 2 && !given; i++)
        given = config_text(r, type_keys[i]);
    *out = &processors[model_type && strcmp(model_type, "deit") == 0 ? 1 : 0];
    if (!given)
        return INLAY_OK;
    snprintf(name, sizeof name, "%s", given);
    cut(name, "Fast");
    cut(name, "Pil");
    cut(name, "ImageProcessor");
    cut(name, "FeatureExtractor");
    for (size_t i = 0; i < sizeof processors / sizeof *processors; i++)
        if (strcmp(name, processors[i].name) == 0) {
            *out = &processors[i];
            return INLAY_OK;
        }
    FAIL(r->err, INLAY_ERR_UNSUPPORTED,
         "%s: the image processor '%s' is not supported (expected that of ViT, DeiT, Beit, CLIP, Bit or Siglip)",
         r->path, given);
}

/* Whether `first` and `second` are an object's only keys, both positive integers. */
static bool only_sides(const json_t *item, const char *first, const char *second, int64_t out[2])
{
    const char *const names[] = {first, second};
    const char *key;
    json_t *side;
    int found = 0;

    json_object_foreach((json_t *)(uintptr_t)item, key, side)
    {
        int which = strcmp(key, first) == 0 ? 0 : second && strcmp(key, second) == 0 ? 1 : -1;
        if (json_is_null(side))
            continue;
        if (which < 0 || !json_is_integer(side) || json_integer_value(side) < 1 || json_integer_value(side) > 1 << 16)
            return false;
        out[which] = json_integer_value(side);
        found++;
    }
    return found == (names[1] ? 2 : 1);
}

/* Reads a size as transformers writes it: a number, [height, width], {height, width} or {shortest_edge}. sides[1] is 0
 * for the latter. */
static inlay_status read_size(const config_reader *r, const char *key, bool square, int64_t sides[2])
{
    const json_t *item = json_object_get(r->object, key), *pair[2] = {json_array_get(item, 0), json_array_get(item, 1)};
    char room[64];

    if (!item || json_is_null(item))
        return INLAY_OK;
    if (json_is_integer(item) && json_integer_value(item) > 0 && json_integer_value(item) <= 1 << 16) {
        sides[0] = json_integer_value(item);
        sides[1] = square ? sides[0] : 0;
        return INLAY_OK;
    }
    if (json_array_size(item) == 2 && json_integer_value(pair[0]) > 0 && json_integer_value(pair[1]) > 0) {
        sides[0] = json_integer_value(pair[0]);
        sides[1] = json_integer_value(pair[1]);
        return INLAY_OK;
    }
    if (json_is_object(item) && only_sides(item, "height", "width", sides))
        return INLAY_OK;
    sides[1] = 0;
    if (json_is_object(item) && only_sides(item, "shortest_edge", NULL, sides))
        return INLAY_OK;
    FAIL(r->err, INLAY_ERR_UNSUPPORTED,
         "%s: '%s' is %s, which is not supported (expected a number, {height, width} or {shortest_edge})", r->path, key,
         config_value_text(room, item));
}

/* The share of `resized` that `wanted` is, such that floor(wanted / share) is `resized` again: rounded down to eight
 * decimals, so that files that keep nine digits keep all of it. */
static double share(int64_t wanted, int64_t resized)
{
    double steps = floor((double)wanted / (double)resized * 1e8);

    return floor((double)wanted / (steps / 1e8)) < (double)resized ? (steps - 1) / 1e8 : steps / 1e8;
}

/* Settles the geometry: images are resized to `size`, then the centre of `crop` is taken, which must be what the model
 * reads. */
static inlay_status place(backbone *b, const config_reader *r, const int64_t size[2], const int64_t crop[2],
                          bool centre_crop)
{
    const int64_t *out = centre_crop ? crop : size;
    int64_t height = b->shape.height ? b->shape.height : out[0],
            wanted[2] = {height, b->shape.image_width ? b->shape.image_width : height};
    double pct = share(out[0], size[0]);

    if (!size[1] && !centre_crop)
        FAIL(r->err, INLAY_ERR_UNSUPPORTED,
             "%s: 'size' is {shortest_edge} and 'do_center_crop' is false: images would have different sizes", r->path);
    if (centre_crop && !crop[1])
        FAIL(r->err, INLAY_ERR_UNSUPPORTED, "%s: 'crop_size' is {shortest_edge}, expected a number or {height, width}",
             r->path);
    if (out[0] != wanted[0] || out[1] != wanted[1])
        FAIL(r->err, INLAY_ERR_FORMAT,
             "%s: '%s' makes images of %lld x %lld pixels, the model reads %lld x %lld ('image_size' in config.json)",
             r->path, centre_crop ? "crop_size" : "size", (long long)out[0], (long long)out[1], (long long)wanted[0],
             (long long)wanted[1]);
    b->shape.height = out[0]; /* of a type that takes any size, this is where it comes from */
    b->shape.image_width = out[1];
    if (size[1] && floor((double)out[1] / pct) != (double)size[1])
        FAIL(r->err, INLAY_ERR_UNSUPPORTED,
             "%s: 'size' is %lld x %lld and 'crop_size' %lld x %lld: they must be in one proportion", r->path,
             (long long)size[0], (long long)size[1], (long long)crop[0], (long long)crop[1]);
    b->input.crop_mode = size[1] ? "squash" : "center";
    b->input.crop_pct = pct;
    b->input.crop_down =
        !size[1] || (size[0] - out[0]) % 2 || (size[1] - out[1]) % 2; /* else every rounding is the same */
    if (pct < 0.05 || pct > 2)
        FAIL(r->err, INLAY_ERR_UNSUPPORTED, "%s: 'crop_size' is %g times 'size': from 0.05 to 2 is supported", r->path,
             pct);
    return INLAY_OK;
}

static inlay_status read_geometry(backbone *b, const config_reader *r, const processor *p)
{
    const json_t *code = json_object_get(r->object, "resample");
    resample filter = p->filter;
    int64_t size[2] = {p->size, p->square || !p->centre_crop ? p->size : 0}, crop[2] = {p->crop, p->crop};
    bool centre_crop = p->centre_crop, square = p->square, resize = true;

    if (json_is_integer(code) && !resample_from_pillow_code(json_integer_value(code), &filter))
        FAIL(r->err, INLAY_ERR_UNSUPPORTED, "%s: 'resample' is no filter of Pillow's", r->path);
    b->input.interpolation = resample_name(filter);
    TRY(read_flag(r, "do_resize", &resize));
    if (!resize)
        FAIL(r->err, INLAY_ERR_UNSUPPORTED, "%s: 'do_resize' is false, which is not supported (expected true)",
             r->path);
    TRY(config_flag(r, "default_to_square", &square));
    TRY(read_flag(r, "do_center_crop", &centre_crop));
    TRY(read_size(r, "size", square, size));
    if (centre_crop)
        TRY(read_size(r, "crop_size", true, crop));
    return place(b, r, size, crop, centre_crop);
}

/* Reads (p * factor - mean) / std, and keeps it in terms of p / 255. */
static inlay_status read_normalisation(backbone *b, const config_reader *r, const processor *p)
{
    double mean[3], std[3], factor = 1.0 / 255;
    bool rescale = true, normalise = true;

    memcpy(mean, p->mean, sizeof mean);
    memcpy(std, p->std, sizeof std);
    TRY(read_flag(r, "do_rescale", &rescale));
    TRY(read_flag(r, "do_normalize", &normalise));
    TRY(config_real(r, "rescale_factor", 1e-12, 1e12, &factor));
    TRY(config_channels(r, "image_mean", mean));
    TRY(config_channels(r, "image_std", std));
    for (int c = 0; c < 3; c++) {
        if (!normalise) {
            mean[c] = 0;
            std[c] = 1;
        }
        if (!rescale || factor != 1.0 / 255) {
            mean[c] /= 255 * (rescale ? factor : 1);
            std[c] /= 255 * (rescale ? factor : 1);
        }
        b->input.mean[c] = (float)mean[c];
        b->input.std[c] = (float)std[c];
    }
    return config_check_normalisation(r->path, "image_mean", mean, "image_std", std, r->err);
}

static inlay_status read_processor(backbone *b, const config_reader *r, const char *model_type)
{
    const processor *p;

    if (!json_is_object(r->object))
        FAIL(r->err, INLAY_ERR_FORMAT, "%s: expected a JSON object", r->path);
    TRY(find_processor(r, model_type, &p));
    TRY(config_check(b, r, vit_hf_input_keys));
    TRY(read_geometry(b, r, p));
    return read_normalisation(b, r, p);
}

/* The processor's own values, in the proportions of the model's size. */
static json_t *usual_processor(const backbone *b, const char *model_type)
{
    int side = (int)b->shape.height;

    if (side == 0)
        return json_object();
    if (model_type && strcmp(model_type, "deit") == 0)
        return json_pack("{s:i, s:i}", "size", side * 8 / 7, "crop_size", side);
    return json_pack("{s:i}", "size", side);
}

/* Reads a JSON file beside config.json; *out is NULL when there is none. */
static inlay_status load_beside(backbone *b, const char *config_path, const char *name, const char **path, json_t **out,
                                inlay_error *err)
{
    *path = arena_printf(b->memory, "%.*s%s", (int)(path_base(config_path) - config_path), config_path, name);
    *out = NULL;
    return file_exists(*path) ? json_read(out, *path, err) : INLAY_OK;
}

inlay_status vit_hf_input(backbone *b, const config_reader *config)
{
    const char *path, *model_type = config_text(config, "model_type");
    json_t *nested, *own = NULL;
    const json_t *object;
    inlay_status status;

    TRY(load_beside(b, config->path, "processor_config.json", &path, &nested, config->err));
    object = json_object_get(nested, "image_processor");
    status = INLAY_OK;
    if (!object) {
        status = load_beside(b, config->path, "preprocessor_config.json", &path, &own, config->err);
        object = own;
    }
    if (status == INLAY_OK && object) {
        status = read_processor(b, &(config_reader){object, path, config->err}, model_type);
    } else if (status == INLAY_OK) {
        json_t *usual = usual_processor(b, model_type);
        notes_add(&b->notes, "'%s' does not exist: images are prepared as most models of this kind have it", path);
        status = read_processor(b, &(config_reader){usual, path, config->err}, model_type);
        json_decref(usual);
    }
    json_decref(nested);
    json_decref(own);
    return status;
}
