#include "backbones/vit_config.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* What a thread's scratch memory holds in the kernels. */
#define WIDEST 16384
#define MOST_TOKENS 4096

bool vit_recognises(const tensor_set *file, const void *config)
{
    const json_t *type = json_object_get(config, "model_type");

    if (json_is_string(type) && strcmp(json_string_value(type), "vit") != 0 && strcmp(json_string_value(type), "deit") != 0)
        return false;
    return naming_find(file, vit_namings) != NULL;
}

/* ---- reading keys of config.json ---- */

typedef struct reader {
    const json_t *object;
    const char *path;
    inlay_error *err;
} reader;

static inlay_status read_int(const reader *r, const char *key, int64_t *out)
{
    const json_t *item = json_object_get(r->object, key);

    if (!item || json_is_null(item))
        return INLAY_OK;
    if (json_is_array(item) && json_array_size(item) > 0) /* image_size and patch_size may be pairs; only squares are plain */
        item = json_array_get(item, 0);
    if (!json_is_integer(item) || json_integer_value(item) < 1 || json_integer_value(item) > 1 << 24)
        FAIL(r->err, INLAY_ERR_FORMAT, "%s: '%s' must be a positive integer", r->path, key);
    *out = json_integer_value(item);
    return INLAY_OK;
}

static inlay_status read_real(const reader *r, const char *key, double low, double high, double *out)
{
    const json_t *item = json_object_get(r->object, key);

    if (!item || json_is_null(item))
        return INLAY_OK;
    if (!json_is_number(item) || json_number_value(item) < low || json_number_value(item) > high)
        FAIL(r->err, INLAY_ERR_FORMAT, "%s: '%s' must be a number between %g and %g", r->path, key, low, high);
    *out = json_number_value(item);
    return INLAY_OK;
}

static const char *read_text(const reader *r, const char *key)
{
    return json_string_value(json_object_get(r->object, key));
}

static inlay_status read_triple(const reader *r, const char *key, float out[3])
{
    const json_t *item = json_object_get(r->object, key);

    if (!item || json_is_null(item))
        return INLAY_OK;
    if (!json_is_array(item) || json_array_size(item) != 3)
        FAIL(r->err, INLAY_ERR_FORMAT, "%s: '%s' must be an array of 3 numbers", r->path, key);
    for (size_t i = 0; i < 3; i++) {
        if (!json_is_number(json_array_get(item, i)))
            FAIL(r->err, INLAY_ERR_FORMAT, "%s: '%s' must be an array of 3 numbers", r->path, key);
        out[i] = (float)json_number_value(json_array_get(item, i));
    }
    if (strstr(key, "std"))
        for (int i = 0; i < 3; i++)
            if (!(out[i] > 0))
                FAIL(r->err, INLAY_ERR_FORMAT, "%s: '%s' must be positive", r->path, key);
    return INLAY_OK;
}

static inlay_status read_activation(const reader *r, const char *key, activation *act)
{
    const char *name = read_text(r, key);

    if (name && !activation_from_name(name, act))
        FAIL(r->err, INLAY_ERR_UNSUPPORTED, "%s: '%s' is '%s', which is not a known activation", r->path, key, name);
    return INLAY_OK;
}

/* ---- heads cannot be read off the tensors: timm's model names stand for them ---- */

static int64_t heads_from_name(const char *architecture)
{
    static const struct {
        const char *part;
        int heads;
    } sizes[] = {{"_tiny", 3}, {"_xsmall", 6}, {"_small", 6}, {"_medium", 8}, {"_base", 12}, {"_large", 16}, {"_huge", 16}, {"_giant", 16}, {"_gigantic", 16}};

    for (size_t i = 0; architecture && i < sizeof sizes / sizeof *sizes; i++)
        if (strstr(architecture, sizes[i].part))
            return sizes[i].heads;
    return 0;
}

static inlay_status timm_config(backbone *b, const reader *r)
{
    const char *architecture = read_text(r, "architecture"), *pooling = read_text(r, "global_pool");
    const json_t *cfg = json_object_get(r->object, "pretrained_cfg"), *args = json_object_get(r->object, "model_args"), *size, *names;
    reader pretrained = {json_is_object(cfg) ? cfg : r->object, r->path, r->err}, model = {args, r->path, r->err};
    const char *text;

    b->shape.eps = 1e-6;
    if (architecture && strstr(architecture, "clip"))
        b->shape.eps = 1e-5;
    if (architecture && strstr(architecture, "quickgelu"))
        b->shape.act = ACT_QUICK_GELU;
    if (architecture)
        b->model_name = arena_strdup(b->memory, architecture);
    b->shape.heads = heads_from_name(architecture);
    if (json_is_object(args)) {
        TRY(read_int(&model, "num_heads", &b->shape.heads));
        TRY(read_int(&model, "img_size", &b->shape.height));
        TRY(read_real(&model, "norm_eps", 1e-12, 1, &b->shape.eps));
        TRY(read_activation(&model, "act_layer", &b->shape.act));
        if (read_text(&model, "global_pool"))
            pooling = read_text(&model, "global_pool");
    }
    if (pooling && strcmp(pooling, "avg") != 0 && strcmp(pooling, "token") != 0)
        FAIL(r->err, INLAY_ERR_UNSUPPORTED, "%s: global_pool '%s' is not supported (expected 'token' or 'avg')", r->path, pooling);
    b->shape.average = pooling && strcmp(pooling, "avg") == 0;
    TRY(read_triple(&pretrained, "mean", b->input.mean));
    TRY(read_triple(&pretrained, "std", b->input.std));
    TRY(read_real(&pretrained, "crop_pct", 0.05, 2, &b->input.crop_pct));
    if ((text = read_text(&pretrained, "interpolation")))
        b->input.interpolation = arena_strdup(b->memory, text);
    if ((text = read_text(&pretrained, "crop_mode")))
        b->input.crop_mode = arena_strdup(b->memory, text);
    size = json_object_get(pretrained.object, "input_size");
    if (json_is_array(size) && json_array_size(size) == 3 && !b->shape.height)
        b->shape.height = json_integer_value(json_array_get(size, 1));
    names = json_object_get(r->object, "label_names");
    if (json_is_array(names)) {
        const char **labels = ARENA_ARRAY(b->memory, const char *, json_array_size(names) + 1);
        for (size_t i = 0; i < json_array_size(names); i++) {
            const char *label = json_string_value(json_array_get(names, i));
            labels[i] = arena_strdup(b->memory, label ? label : "?");
        }
        b->labels = labels;
    }
    return INLAY_OK;
}

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
    json_error_t where;
    json_t *config;
    int64_t code = 2;

    b->input.crop_mode = "squash";
    b->input.interpolation = "bilinear";
    if (!file_exists(path))
        return INLAY_OK;
    config = json_load_file(path, JSON_REJECT_DUPLICATES, &where);
    if (!config)
        FAIL(err, INLAY_ERR_FORMAT, "%s: line %d, column %d: %s", path, where.line, where.column, where.text);
    status = read_triple(&(reader){config, path, err}, "image_mean", b->input.mean);
    if (status == INLAY_OK)
        status = read_triple(&(reader){config, path, err}, "image_std", b->input.std);
    if (json_is_integer(json_object_get(config, "resample")))
        code = json_integer_value(json_object_get(config, "resample"));
    if (status == INLAY_OK && (code < 0 || code > 5))
        status = error_set(err, INLAY_ERR_UNSUPPORTED, "%s: 'resample' is %lld, expected one of Pillow's codes 0 to 5", path, (long long)code);
    else
        b->input.interpolation = filters[code < 0 || code > 5 ? 2 : code];
    json_decref(config);
    return status;
}

static inlay_status hf_config(backbone *b, const reader *r)
{
    const json_t *id2label = json_object_get(r->object, "id2label");

    b->shape.eps = 1e-12;
    TRY(read_real(r, "layer_norm_eps", 0, 1, &b->shape.eps));
    TRY(read_int(r, "num_attention_heads", &b->shape.heads));
    TRY(read_int(r, "image_size", &b->shape.height));
    TRY(read_activation(r, "hidden_act", &b->shape.act));
    if (json_is_object(id2label))
        read_hf_labels(b, id2label);
    return hf_preprocessor(b, r->path, r->err);
}

/* A JAX checkpoint has no configuration; its query kernel tells the heads. */
static inlay_status jax_config(backbone *b, inlay_error *err)
{
    for (int i = 0; i < tensor_set_count(b->file); i++) {
        const tensor_view *t = tensor_set_at(b->file, i);
        if (strstr(t->name, "/query/kernel") && t->ndim == 3)
            b->shape.heads = t->dims[1];
    }
    b->shape.eps = 1e-6;
    if (!b->shape.heads)
        FAIL(err, INLAY_ERR_SHAPE, "%s: no query kernel of three dimensions, so the number of heads is unknown", b->path);
    return INLAY_OK;
}

/* ---- the shape that the tensors tell, and the check that each has it ---- */

static inlay_status expect(const backbone *b, const char *name, bool optional, int ndim, const int64_t *dims, inlay_error *err)
{
    const param *p = backbone_param(b, name);
    bool good = p && p->ndim == ndim;
    char expected[96] = "", found[96] = "";

    if (!p && optional)
        return INLAY_OK;
    if (!p)
        FAIL(err, INLAY_ERR_FORMAT, "%s: tensor '%s' is missing (%s naming)", b->path, name, b->shape.layout);
    for (int i = 0; i < ndim; i++)
        snprintf(expected + strlen(expected), sizeof expected - strlen(expected), "%s%lld", i ? ", " : "", (long long)dims[i]);
    for (int i = 0; i < p->ndim; i++) {
        good = good && p->dims[i] == dims[i];
        snprintf(found + strlen(found), sizeof found - strlen(found), "%s%lld", i ? ", " : "", (long long)p->dims[i]);
    }
    if (!good)
        FAIL(err, INLAY_ERR_SHAPE, "%s: tensor '%s' has shape [%s], expected [%s]", b->path, name, found, expected);
    return INLAY_OK;
}

#define EXPECT(optional, name, ...) \
    TRY(expect(b, (name), (optional), (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (const int64_t[]){__VA_ARGS__}, err))

static inlay_status check_block(const backbone *b, int64_t layer, inlay_error *err)
{
    const backbone_shape *s = &b->shape;
    char name[96];
#define BLOCK(text) (snprintf(name, sizeof name, "blocks.%lld." text, (long long)layer), name)
    EXPECT(false, BLOCK("norm1.weight"), s->width);
    EXPECT(false, BLOCK("norm1.bias"), s->width);
    EXPECT(false, BLOCK("attn.qkv.weight"), 3 * s->width, s->width);
    EXPECT(true, BLOCK("attn.qkv.bias"), 3 * s->width);
    EXPECT(true, BLOCK("attn.q_norm.weight"), s->width / s->heads);
    EXPECT(true, BLOCK("attn.q_norm.bias"), s->width / s->heads);
    EXPECT(!backbone_param(b, BLOCK("attn.q_norm.weight")), BLOCK("attn.k_norm.weight"), s->width / s->heads);
    EXPECT(true, BLOCK("attn.k_norm.bias"), s->width / s->heads);
    EXPECT(false, BLOCK("attn.proj.weight"), s->width, s->width);
    EXPECT(true, BLOCK("attn.proj.bias"), s->width);
    EXPECT(true, BLOCK("ls1.gamma"), s->width);
    EXPECT(false, BLOCK("norm2.weight"), s->width);
    EXPECT(false, BLOCK("norm2.bias"), s->width);
    EXPECT(false, BLOCK("mlp.fc1.weight"), s->hidden, s->width);
    EXPECT(true, BLOCK("mlp.fc1.bias"), s->hidden);
    EXPECT(false, BLOCK("mlp.fc2.weight"), s->width, s->hidden);
    EXPECT(true, BLOCK("mlp.fc2.bias"), s->width);
    EXPECT(true, BLOCK("ls2.gamma"), s->width);
#undef BLOCK
    return INLAY_OK;
}

/* JAX and Hugging Face store a few tensors in another rank than timm; canonical is timm's. */
static void give_shape(backbone *b, const char *name, int ndim, const int64_t *dims)
{
    param *p = backbone_param(b, name);
    int64_t count = 1;

    for (int i = 0; i < ndim; i++)
        count *= dims[i];
    if (!p || p->count != count)
        return;
    p->ndim = ndim;
    p->decay = ndim >= 2;
    memcpy(p->dims, dims, (size_t)ndim * sizeof *dims);
}

static inlay_status measure(backbone *b, inlay_error *err)
{
    backbone_shape *s = &b->shape;
    const param *proj = backbone_param(b, "patch_embed.proj.weight"), *fc1, *head = backbone_param(b, "head.weight");
    int64_t last = -1;

    if (!proj || proj->ndim != 4 || proj->dims[2] != proj->dims[3] || proj->dims[1] != 3 || proj->dims[2] < 1)
        FAIL(err, INLAY_ERR_SHAPE, "%s: tensor 'patch_embed.proj.weight' must be [width, 3, patch, patch]", b->path);
    s->width = proj->dims[0];
    s->channels = proj->dims[1];
    s->patch = proj->dims[2];
    for (int i = 0; i < b->param_count; i++) {
        int layer;
        if (naming_match("blocks.#.norm1.weight", b->params[i]->name, &layer) && layer > last)
            last = layer;
    }
    s->depth = last + 1;
    fc1 = backbone_param(b, "blocks.0.mlp.fc1.weight");
    if (!fc1 || fc1->ndim != 2)
        FAIL(err, INLAY_ERR_SHAPE, "%s: tensor 'blocks.0.mlp.fc1.weight' must be [hidden, width]", b->path);
    s->hidden = fc1->dims[0];
    s->classes = head ? head->dims[0] : 0;
    if (!s->heads && s->width % 64 == 0)
        s->heads = s->width / 64;
    if (s->heads < 1)
        FAIL(err, INLAY_ERR_FORMAT, "%s: the number of heads is unknown: config.json should have model_args.num_heads or num_attention_heads", b->path);
    if (s->width % s->heads != 0)
        FAIL(err, INLAY_ERR_FORMAT, "%s: %lld heads do not divide a width of %lld (config.json: model_args.num_heads or num_attention_heads)", b->path,
             (long long)s->heads, (long long)s->width);
    if (s->width / s->heads > 128 || s->hidden > WIDEST || s->channels * s->patch * s->patch > WIDEST)
        FAIL(err, INLAY_ERR_UNSUPPORTED, "%s: heads of %lld channels and products over %lld inputs: at most 128 and %d are supported", b->path,
             (long long)(s->width / s->heads), (long long)(s->hidden > s->channels * s->patch * s->patch ? s->hidden : s->channels * s->patch * s->patch), WIDEST);
    return INLAY_OK;
}

/* The blocks' matrices are nearly all of the multiplications. */
static void mark_quantised(backbone *b)
{
    for (int i = 0; i < b->param_count; i++)
        b->params[i]->quantised = b->params[i]->ndim == 2 && b->params[i]->dims[0] < INT8_DEPTH && b->params[i]->dims[1] < INT8_DEPTH && strncmp(b->params[i]->name, "blocks.", 7) == 0;
}

static inlay_status check_shapes(backbone *b, inlay_error *err)
{
    backbone_shape *s = &b->shape;
    const param *reg = backbone_param(b, "reg_token");
    bool own_norm = !(s->average && backbone_param(b, "fc_norm.weight"));

    EXPECT(true, "cls_token", 1, 1, s->width);
    EXPECT(true, "dist_token", 1, 1, s->width);
    if (reg)
        EXPECT(false, "reg_token", 1, reg->ndim == 3 ? reg->dims[1] : 0, s->width);
    if (!s->average && !backbone_param(b, "cls_token"))
        FAIL(err, INLAY_ERR_FORMAT, "%s: global_pool is 'token' but there is no tensor 'cls_token'", b->path);
    EXPECT(true, "patch_embed.proj.bias", s->width);
    EXPECT(true, "norm_pre.weight", s->width);
    EXPECT(!backbone_param(b, "norm_pre.weight"), "norm_pre.bias", s->width);
    for (int64_t layer = 0; layer < s->depth; layer++)
        TRY(check_block(b, layer, err));
    EXPECT(!own_norm, "norm.weight", s->width);
    EXPECT(!own_norm, "norm.bias", s->width);
    EXPECT(true, "fc_norm.weight", s->width);
    EXPECT(!backbone_param(b, "fc_norm.weight"), "fc_norm.bias", s->width);
    if (backbone_param(b, "fc_norm.weight") && !s->average)
        FAIL(err, INLAY_ERR_FORMAT, "%s: there is a tensor 'fc_norm.weight', so config.json should have global_pool 'avg'", b->path);
    EXPECT(true, "head.weight", s->classes, s->width);
    EXPECT(true, "head.bias", s->classes);
    EXPECT(true, "head_dist.weight", s->classes, s->width);
    EXPECT(!backbone_param(b, "head_dist.weight"), "head_dist.bias", s->classes);
    return INLAY_OK;
}

/* Position embeddings tell the checkpoint's grid; another image size gets resampled ones. */
static inlay_status fit_positions(backbone *b, int64_t image_size, inlay_error *err)
{
    backbone_shape *s = &b->shape;
    param *pos = backbone_param(b, "pos_embed");
    const param *reg = backbone_param(b, "reg_token");
    vit_state *state = b->state = ARENA_NEW(b->memory, vit_state);
    int64_t rows, grid, old, prefix_rows;
    inlay_status status;

    s->prefix_tokens = (backbone_param(b, "cls_token") != NULL) + (backbone_param(b, "dist_token") != NULL) + (reg ? reg->dims[1] : 0);
    if (!pos || pos->ndim != 3 || pos->dims[0] != 1 || pos->dims[2] != s->width)
        FAIL(err, INLAY_ERR_SHAPE, "%s: tensor 'pos_embed' must be [1, tokens, %lld]", b->path, (long long)s->width);
    rows = pos->dims[1];
    old = (int64_t)floor(sqrt((double)(rows - s->prefix_tokens)) + 0.5);
    state->positions_cover_prefix = rows > s->prefix_tokens && old * old == rows - s->prefix_tokens;
    if (!state->positions_cover_prefix) {
        old = (int64_t)floor(sqrt((double)rows) + 0.5);
        if (old * old != rows)
            FAIL(err, INLAY_ERR_SHAPE, "%s: tensor 'pos_embed' has %lld rows, which are no square grid with or without %lld prefix tokens", b->path,
                 (long long)rows, (long long)s->prefix_tokens);
    }
    if (!s->height)
        s->height = old * s->patch;
    if (image_size)
        s->height = image_size;
    if (s->height % s->patch != 0 || s->height < s->patch || s->height > 8192)
        FAIL(err, INLAY_ERR_USAGE, "%s: image size %lld is not a multiple of the patch size %lld", b->path, (long long)s->height, (long long)s->patch);
    s->image_width = s->height;
    grid = s->height / s->patch;
    s->tokens = s->prefix_tokens + grid * grid;
    if (s->tokens > MOST_TOKENS)
        FAIL(err, INLAY_ERR_UNSUPPORTED, "%s: images of %lld pixels a side become %lld tokens, at most %d are supported", b->path, (long long)s->height,
             (long long)s->tokens, MOST_TOKENS);
    prefix_rows = state->positions_cover_prefix ? s->prefix_tokens : 0;
    if (grid != old) {
        float *in = malloc((size_t)pos->count * sizeof *in), *out = backbone_buffer(b, (size_t)((prefix_rows + grid * grid) * s->width) * sizeof *out);
        if (!in || !out) {
            free(in);
            FAIL(err, INLAY_ERR_NOMEM, "out of memory resampling position embeddings");
        }
        dtype_to_f32(in, pos->source, pos->source_type, (size_t)pos->count);
        status = vit_resample_positions(out, grid, grid, in, old, prefix_rows, s->width, err);
        free(in);
        TRY(status);
        pos->source = out;
        pos->source_type = DTYPE_F32;
        pos->dims[1] = prefix_rows + grid * grid;
        pos->count = pos->dims[1] * s->width;
    }
    return INLAY_OK;
}

inlay_status vit_load(backbone *b, const void *config, const char *config_path, int64_t image_size, inlay_error *err)
{
    const naming *names = naming_find(b->file, vit_namings);
    const reader r = {config, config_path, err};
    int64_t width;

    b->shape.architecture = "vit";
    b->shape.act = ACT_GELU;
    b->input = (backbone_input){.mean = {0.5f, 0.5f, 0.5f}, .std = {0.5f, 0.5f, 0.5f}, .crop_pct = 0.9, .interpolation = "bicubic", .crop_mode = "center"};
    if (!config && strcmp(names->name, "jax") != 0)
        FAIL(err, INLAY_ERR_IO, "'%s' does not exist: a checkpoint's config.json gives heads, normalisation and preprocessing", config_path);
    if (strcmp(names->name, "jax") == 0)
        TRY(jax_config(b, err));
    if (config)
        TRY(json_object_get(config, "hidden_size") ? hf_config(b, &r) : timm_config(b, &r));
    TRY(naming_load(b, b->file, names, err));
    TRY(measure(b, err));
    width = b->shape.width;
    give_shape(b, "cls_token", 3, (const int64_t[]){1, 1, width});
    give_shape(b, "head.bias", 1, (const int64_t[]){b->shape.classes});
    TRY(check_shapes(b, err));
    mark_quantised(b);
    return fit_positions(b, image_size, err);
}

/* ---- bicubic with antialiasing, a = -0.5, as torch and Pillow define it ---- */

static double cubic(double x)
{
    x = fabs(x);
    if (x < 1)
        return (1.5 * x - 2.5) * x * x + 1;
    return x < 2 ? ((-0.5 * x + 2.5) * x - 4) * x + 2 : 0;
}

/* Taps of output `i` when `old` samples become `new`: weights[0 .. count) for inputs first, first + 1, ... */
static int64_t taps(double *weights, int64_t *first, int64_t i, int64_t old, int64_t new)
{
    double scale = (double)old / (double)new, stretch = scale > 1 ? scale : 1, centre = ((double)i + 0.5) * scale, support = 2 * stretch, total = 0;
    int64_t low = (int64_t)(centre - support + 0.5), high = (int64_t)(centre + support + 0.5);

    if (centre - support + 0.5 < 0)
        low = 0;
    if (high > old)
        high = old;
    for (int64_t j = low; j < high; j++)
        total += weights[j - low] = cubic(((double)j - centre + 0.5) / stretch);
    for (int64_t j = 0; j < high - low; j++)
        weights[j] /= total;
    *first = low;
    return high - low;
}

inlay_status vit_resample_positions(float *out, int64_t rows, int64_t columns, const float *in, int64_t old, int64_t prefix, int64_t width,
                                    inlay_error *err)
{
    double *weights = calloc((size_t)(old + 8), sizeof *weights);
    float *wide = calloc((size_t)(old * columns * width), sizeof *wide); /* [old, columns, width] */
    int64_t first, count;

    if (!weights || !wide) {
        free(weights);
        free(wide);
        FAIL(err, INLAY_ERR_NOMEM, "out of memory resampling position embeddings");
    }
    memcpy(out, in, (size_t)(prefix * width) * sizeof *out);
    in += prefix * width;
    out += prefix * width;
    for (int64_t x = 0; x < columns; x++) {
        count = taps(weights, &first, x, old, columns);
        for (int64_t y = 0; y < old; y++)
            for (int64_t c = 0; c < width; c++) {
                double sum = 0;
                for (int64_t j = 0; j < count; j++)
                    sum += weights[j] * (double)in[(y * old + first + j) * width + c];
                wide[(y * columns + x) * width + c] = (float)sum;
            }
    }
    for (int64_t y = 0; y < rows; y++) {
        count = taps(weights, &first, y, old, rows);
        for (int64_t i = 0; i < columns * width; i++) {
            double sum = 0;
            for (int64_t j = 0; j < count; j++)
                sum += weights[j] * (double)wide[(first + j) * columns * width + i];
            out[y * columns * width + i] = (float)sum;
        }
    }
    free(weights);
    free(wide);
    return INLAY_OK;
}
