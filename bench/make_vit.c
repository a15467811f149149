/* Writes a ViT with random weights as timm would publish it. usage: make_vit ti|b FOLDER */
#include <stdio.h>
#include <string.h>

#include "base/rng.h"
#include "formats/tensors.h"

#define DEPTH 12
#define CLASSES 100
#define TENSORS (8 + 12 * DEPTH)

typedef struct model {
    arena *memory;
    tensor_view tensors[TENSORS];
    int count;
} model;

/* Matrices are normal with the deviation that timm uses, biases 0; norms have weight 1. */
static inlay_status add(model *m, const char *name, int ndim, const int64_t *dims, inlay_error *err)
{
    tensor_view *t = &m->tensors[m->count];
    float *values;

    *t = (tensor_view){.name = arena_printf(m->memory, "%s", name), .type = DTYPE_F32, .ndim = ndim, .count = 1};
    for (int i = 0; i < ndim; i++) {
        t->dims[i] = dims[i];
        t->count *= dims[i];
    }
    TRY(memory_alloc((void **)&values, (size_t)t->count * sizeof *values, name, err));
    if (ndim > 1)
        rng_fill_normal(values, (uint64_t)t->count, 0, 0.02,
                        (rng_stream){.purpose = RNG_INIT, .stream = (uint32_t)m->count});
    else
        for (int64_t i = 0; i < t->count; i++)
            values[i] = strstr(name, "norm") && strstr(name, "weight") ? 1 : 0;
    t->data = values;
    m->count++;
    return INLAY_OK;
}

static inlay_status linear(model *m, const char *name, int64_t rows, int64_t cols, inlay_error *err)
{
    TRY(add(m, arena_printf(m->memory, "%s.weight", name), 2, (int64_t[]){rows, cols}, err));
    return add(m, arena_printf(m->memory, "%s.bias", name), 1, &rows, err);
}

static inlay_status norm(model *m, const char *name, int64_t width, inlay_error *err)
{
    TRY(add(m, arena_printf(m->memory, "%s.weight", name), 1, &width, err));
    return add(m, arena_printf(m->memory, "%s.bias", name), 1, &width, err);
}

static inlay_status fill(model *m, int64_t width, inlay_error *err)
{
    TRY(add(m, "cls_token", 3, (int64_t[]){1, 1, width}, err));
    TRY(add(m, "pos_embed", 3, (int64_t[]){1, 197, width}, err));
    TRY(add(m, "patch_embed.proj.weight", 4, (int64_t[]){width, 3, 16, 16}, err));
    TRY(add(m, "patch_embed.proj.bias", 1, &width, err));
    for (int i = 0; i < DEPTH; i++) {
        const char *block = arena_printf(m->memory, "blocks.%d", i);
        TRY(norm(m, arena_printf(m->memory, "%s.norm1", block), width, err));
        TRY(linear(m, arena_printf(m->memory, "%s.attn.qkv", block), 3 * width, width, err));
        TRY(linear(m, arena_printf(m->memory, "%s.attn.proj", block), width, width, err));
        TRY(norm(m, arena_printf(m->memory, "%s.norm2", block), width, err));
        TRY(linear(m, arena_printf(m->memory, "%s.mlp.fc1", block), 4 * width, width, err));
        TRY(linear(m, arena_printf(m->memory, "%s.mlp.fc2", block), width, 4 * width, err));
    }
    TRY(norm(m, "norm", width, err));
    return linear(m, "head", CLASSES, width, err);
}

static inlay_status write(model *m, const char *name, int64_t width, const char *folder, inlay_error *err)
{
    const char *config = arena_printf(m->memory,
                                      "{\"architecture\": \"%s\", \"num_classes\": %d, \"num_features\": %d, "
                                      "\"global_pool\": \"token\", \"pretrained_cfg\": {\"input_size\": "
                                      "[3, 224, 224], \"interpolation\": \"bicubic\", \"crop_pct\": 0.9, \"mean\": "
                                      "[0.5, 0.5, 0.5], \"std\": [0.5, 0.5, 0.5]}}\n",
                                      name, CLASSES, (int)width);

    TRY(fill(m, width, err));
    TRY(file_make_folder(folder, err));
    TRY(safetensors_write(path_join(m->memory, folder, "model.safetensors"), m->tensors, m->count, NULL, err));
    return file_write(path_join(m->memory, folder, "config.json"), config, strlen(config), err);
}

int main(int argc, char **argv)
{
    bool base = argc == 3 && strcmp(argv[1], "b") == 0;
    model m = {.memory = arena_new()};
    inlay_status status;
    inlay_error err;

    if (argc != 3 || (!base && strcmp(argv[1], "ti") != 0)) {
        fprintf(stderr, "usage: make_vit ti|b FOLDER\n");
        return 2;
    }
    status = write(&m, base ? "vit_base_patch16_224" : "vit_tiny_patch16_224", base ? 768 : 192, argv[2], &err);
    if (status != INLAY_OK)
        fprintf(stderr, "make_vit: %s\n", err.message);
    for (int i = 0; i < m.count; i++)
        memory_free((void *)(uintptr_t)m.tensors[i].data);
    arena_free(m.memory);
    return status == INLAY_OK ? 0 : 1;
}
