/* What timm's config.json says of a ViT: model_args, and the architecture's name, which stands for what cannot be read off the tensors. */
#include <string.h>

#include "backbones/vit_config.h"

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

inlay_status vit_timm_config(backbone *b, const config_reader *r)
{
    const char *architecture = config_text(r, "architecture"), *pooling = config_text(r, "global_pool");
    const json_t *args = json_object_get(r->object, "model_args");
    config_reader model = {args, r->path, r->err};

    b->shape.eps = 1e-6;
    if (architecture && strstr(architecture, "clip"))
        b->shape.eps = 1e-5;
    if (architecture && strstr(architecture, "quickgelu"))
        b->shape.act = ACT_QUICK_GELU;
    if (architecture)
        b->model_name = arena_strdup(b->memory, architecture);
    b->shape.heads = heads_from_name(architecture);
    if (json_is_object(args)) {
        TRY(config_int(&model, "num_heads", &b->shape.heads));
        TRY(config_int(&model, "img_size", &b->shape.height));
        TRY(config_real(&model, "norm_eps", 1e-12, 1, &b->shape.eps));
        TRY(config_activation(&model, "act_layer", &b->shape.act));
        if (config_text(&model, "global_pool"))
            pooling = config_text(&model, "global_pool");
    }
    if (pooling && strcmp(pooling, "avg") != 0 && strcmp(pooling, "token") != 0)
        FAIL(r->err, INLAY_ERR_UNSUPPORTED, "%s: global_pool '%s' is not supported (expected 'token' or 'avg')", r->path, pooling);
    b->shape.average = pooling && strcmp(pooling, "avg") == 0;
    return vit_timm_input(b, r);
}
