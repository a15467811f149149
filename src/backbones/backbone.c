#include "backbones/backbone.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backbones/vit.h"
#include "base/hash_index.h"
#include "base/json.h"

const backbone_desc *const backbone_table[] = {&vit_desc, NULL};

const char *site_name(site_kind kind)
{
    static const char *const names[] = {
#define XX(name, text, help) text,
        SITE_MAP(XX)
#undef XX
    };

    return names[kind];
}

static const char *const pooling_names[POOL_COUNT] = {"token", "avg", "map"};

const char *pooling_name(pooling kind)
{
    return pooling_names[kind];
}

bool pooling_from_name(const char *name, pooling *out)
{
    for (int i = 0; i < POOL_COUNT; i++)
        if (strcmp(name, pooling_names[i]) == 0) {
            *out = (pooling)i;
            return true;
        }
    return false;
}

int64_t site_width(const backbone_shape *shape, site_kind kind)
{
    if (kind == SITE_QKV)
        return 3 * shape->width;
    return kind == SITE_FFN_PRE || kind == SITE_FFN_HIDDEN ? shape->hidden : shape->width;
}

struct backbone_contents {
    param **params;
    int count, capacity;
    hash_index by_name; /* params */
    void **buffers;     /* tensors that had to be rearranged */
    int buffer_count, buffer_capacity;
    pthread_mutex_t identifying;
};

param *backbone_param(const backbone *b, const char *name)
{
    const struct backbone_contents *c = b->contents;
    uint32_t hash = hash_text(0, name);
    int found = c->count;

    for (int e = hash_index_next(&c->by_name, hash, -1); e >= 0; e = hash_index_next(&c->by_name, hash, e)) {
        int id = c->by_name.entries[e].id;
        if (id < found && strcmp(c->params[id]->name, name) == 0)
            found = id;
    }
    return found < c->count ? c->params[found] : NULL;
}

param *const *backbone_each_param(const backbone *b, param *const *last)
{
    const struct backbone_contents *c = b->contents;
    int next = last ? (int)(last - c->params) + 1 : 0;

    return next < c->count ? &c->params[next] : NULL;
}

static void list_param(backbone *b, param *p)
{
    struct backbone_contents *c = b->contents;

    hash_index_add(&c->by_name, b->memory, hash_text(0, p->name), c->count);
    ARRAY_PUSH(c->params, c->count, c->capacity, p);
}

param *backbone_add_param(backbone *b, const char *name, int ndim, const int64_t *dims, const void *data, dtype type)
{
    param *p = param_new(b->memory, name, ndim, dims);

    param_set_source(p, data, type, b->file && tensor_set_maps(b->file, data));
    list_param(b, p);
    return p;
}

void backbone_drop_param(backbone *b, const char *name)
{
    struct backbone_contents *c = b->contents;
    int before = c->count;

    c->count = 0;
    c->by_name = (hash_index){0};
    for (int i = 0; i < before; i++)
        if (strcmp(c->params[i]->name, name) != 0)
            list_param(b, c->params[i]);
}

void backbone_pass_over(backbone *b, const char *pattern, const char *reason)
{
    for (int i = 0; i < b->passed_count; i++)
        if (strcmp(b->passed[i].pattern, pattern) == 0) {
            b->passed[i].count++;
            return;
        }
    ARRAY_PUSH(b->passed, b->passed_count, b->passed_capacity, ((backbone_passed){pattern, reason, 1}));
}

void *backbone_buffer(backbone *b, size_t size)
{
    void *block = NULL;

    if (memory_alloc(&block, size, "weights", NULL) != INLAY_OK)
        return NULL;
    ARRAY_PUSH(b->contents->buffers, b->contents->buffer_count, b->contents->buffer_capacity, block);
    return block;
}

inlay_status backbone_identify(backbone *b, inlay_error *err)
{
    inlay_status status = INLAY_OK;

    pthread_mutex_lock(&b->contents->identifying);
    if (!b->sha256[0]) {
        status = tensor_set_sha256(b->file, b->sha256, err);
        tensor_set_release(b->file); /* the weights are read again one by one */
    }
    pthread_mutex_unlock(&b->contents->identifying);
    return status;
}

void *backbone_facts(const backbone *b)
{
    const backbone_shape *s = &b->shape;

    json_t *facts = json_pack("{s:I, s:f, s:s, s:s, s:I}", "heads", (json_int_t)s->heads, "norm_eps", s->eps,
                              "activation", activation_name(s->act), "pool", pooling_name(s->pool), "prefix_tokens",
                              (json_int_t)s->prefix_tokens);

    b->desc->facts(b, facts);
    return facts;
}

int64_t backbone_param_total(const backbone *b, bool with_head)
{
    int64_t total = 0;

    for (param *const *i = NULL; (i = backbone_each_param(b, i));)
        if (with_head || strncmp((*i)->name, "head", 4) != 0)
            total += (*i)->count;
    return total;
}

/* Finds the tensor file of a folder, or takes the file that `path` is. */
static inlay_status find_file(arena *memory, const char *path, const char **file, const char **folder, inlay_error *err)
{
    static const char *const names[] = {"model.safetensors", "model.safetensors.index.json",
                                        "open_clip_model.safetensors", "model.npz"};
    static const char *const others[] = {"pytorch_model.bin", "pytorch_model.bin.index.json",
                                         "open_clip_pytorch_model.bin", "tf_model.h5", "flax_model.msgpack"};
    const char *slash;

    if (!file_exists(path))
        FAIL(err, INLAY_ERR_IO, "backbone '%s' does not exist", path);
    if (!file_is_folder(path)) {
        slash = strrchr(path, '/');
        *file = path;
        *folder = slash ? arena_printf(memory, "%.*s", (int)(slash - path + (slash == path)), path) : ".";
        return INLAY_OK;
    }
    *folder = path;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        *file = path_join(memory, path, names[i]);
        if (file_exists(*file))
            return INLAY_OK;
    }
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (file_exists(path_join(memory, path, others[i])))
            FAIL(err, INLAY_ERR_UNSUPPORTED,
                 "backbone folder '%s' has '%s', but no model.safetensors: convert it to safetensors", path, others[i]);
    FAIL(err, INLAY_ERR_IO,
         "backbone folder '%s' has none of model.safetensors, model.safetensors.index.json, model.npz", path);
}

static inlay_status read_config(const char *path, json_t **config, inlay_error *err)
{
    *config = NULL;
    if (!file_exists(path))
        return INLAY_OK;
    TRY(json_read(config, path, err));
    if (!json_is_object(*config)) {
        json_decref(*config);
        *config = NULL;
        FAIL(err, INLAY_ERR_FORMAT, "%s: expected a JSON object", path);
    }
    return INLAY_OK;
}

static inlay_status not_known(const json_t *config, const char *file, const char *known, inlay_error *err)
{
    static const char *const keys[] = {"model_type", "architecture"};

    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (json_is_string(json_object_get(config, keys[i])))
            FAIL(err, INLAY_ERR_UNSUPPORTED,
                 "%s: not a checkpoint of a known architecture (known: %s); config.json has %s '%s'", file, known,
                 keys[i], json_string_value(json_object_get(config, keys[i])));
    FAIL(err, INLAY_ERR_UNSUPPORTED, "%s: not a checkpoint of a known architecture (known: %s)", file, known);
}

static inlay_status load(backbone *b, const char *path, int64_t image_size, inlay_error *err)
{
    const char *file, *folder, *config_path, *known = "";
    json_t *config;
    inlay_status status = INLAY_OK;

    TRY(find_file(b->memory, path, &file, &folder, err));
    config_path = path_join(b->memory, folder, "config.json");
    TRY(read_config(config_path, &config, err));
    status = tensor_set_open(&b->file, file, err);
    if (status == INLAY_OK) {
        for (int i = 0; backbone_table[i] && !b->desc; i++) {
            if (backbone_table[i]->recognises(b->file, config))
                b->desc = backbone_table[i];
            known = arena_printf(b->memory, "%s%s%s", known, i ? ", " : "", backbone_table[i]->name);
        }
        if (b->desc)
            status = b->desc->load(b, config, config_path, image_size, err);
        else
            status = not_known(config, file, known, err);
    }
    json_decref(config);
    return status;
}

backbone *backbone_new(void)
{
    arena *memory = arena_new();
    backbone *b = ARENA_NEW(memory, backbone);

    b->memory = memory;
    b->contents = ARENA_NEW(memory, struct backbone_contents);
    pthread_mutex_init(&b->contents->identifying, NULL);
    return b;
}

inlay_status backbone_open(backbone **out, const char *path, int64_t image_size, inlay_error *err)
{
    backbone *b = backbone_new();
    inlay_status status;

    b->path = arena_strdup(b->memory, path);
    status = load(b, b->path, image_size, err);
    if (status != INLAY_OK) {
        backbone_close(b);
        b = NULL;
    }
    *out = b;
    return status;
}

void backbone_release_forms(backbone *b)
{
    for (param *const *i = NULL; (i = backbone_each_param(b, i));)
        param_release_forms(*i);
}

void backbone_close(backbone *b)
{
    if (!b)
        return;
    backbone_release_forms(b);
    for (int i = 0; i < b->contents->buffer_count; i++)
        memory_free(b->contents->buffers[i]);
    free(b->contents->buffers);
    free(b->contents->params);
    notes_free(&b->notes);
    free(b->passed);
    tensor_set_close(b->file);
    arena_free(b->memory);
}
