/* SSF (Lian et al., arXiv 2210.08823): a scale and a shift for every channel behind every operation; folds into the
 * operation before it. */
#include <stdlib.h>

#include "adapters/adapter_impl.h"
#include "adapters/method.h"

typedef struct scale_shift {
    param *scale, *shift;
    const char *weight, *bias; /* of the operation in front */
} scale_shift;

/* Each place: its site, the operation in front, and its width in units of the model's or the feed-forward part's width.
 */
static const struct place {
    const char *name;
    site_kind at;
    int widths, hiddens;
} embedding = {"patch_embed.proj", SITE_PATCHES, 1, 0}, last = {"norm", SITE_NORM, 1, 0},
  places[] = {
      {"norm1", SITE_ATTN_NORM, 1, 0}, {"attn.qkv", SITE_QKV, 3, 0},    {"attn.proj", SITE_ATTN_PROJ, 1, 0},
      {"norm2", SITE_FFN_NORM, 1, 0},  {"mlp.fc1", SITE_FFN_PRE, 0, 1}, {"mlp.fc2", SITE_FFN_PROJ, 1, 0},
};

static const option_spec option_table[] = {OPTION_LAYERS, {0}};

static value apply(const build_context *b, value x, const void *context)
{
    const scale_shift *s = context;

    return graph_affine(b->g, x, s->scale, s->shift, 1);
}

static void add(adapter *a, const char *prefix, const struct place *p, int layer)
{
    int64_t count = p->widths * a->shape->width + p->hiddens * a->shape->hidden;
    scale_shift *s = ARENA_NEW(a->memory, scale_shift);

    s->weight = arena_printf(a->memory, "%s%s.weight", prefix, p->name);
    s->bias = arena_printf(a->memory, "%s%s.bias", prefix, p->name);
    s->scale = adapter_add_param(a, arena_printf(a->memory, "%s%s.ssf_scale", prefix, p->name), 1, &count,
                                 (init_rule){INIT_NORMAL, 1, 0.02});
    s->shift = adapter_add_param(a, arena_printf(a->memory, "%s%s.ssf_shift", prefix, p->name), 1, &count,
                                 (init_rule){INIT_NORMAL, 0, 0.02});
    adapter_add_transform(a, (site){p->at, layer}, apply, s);
}

static inlay_status plan(adapter *a, inlay_error *err)
{
    (void)err;
    if (a->layers[0])
        add(a, "", &embedding, -1);
    for (int layer = 0; layer < a->shape->depth; layer++)
        for (size_t i = 0; a->layers[layer] && i < sizeof places / sizeof *places; i++)
            add(a, arena_printf(a->memory, "blocks.%d.", layer), &places[i], layer);
    if (a->layers[a->shape->depth - 1] && backbone_param(a->backbone, "norm.weight"))
        add(a, "", &last, -1);
    return INLAY_OK;
}

/* Writes W' = diag(scale) W, b' = scale * b + shift; the same for a LayerNorm's weight and bias. */
static inlay_status fold(const adapter *a, const fold_target *target, inlay_error *err)
{
    for (int t = 0; t < a->declared->transform_count; t++) {
        const scale_shift *s = a->declared->transforms[t].context;
        int64_t rows, columns, count = s->scale->count;
        float *w = target->weight(target->context, s->weight, &rows, &columns, err),
              *b = w ? target->bias(target->context, s->bias, count, err) : NULL;
        float *scale = memory_array(count, sizeof *scale), *shift = memory_array(count, sizeof *shift);
        if (!w || !b || !scale || !shift) {
            free(scale);
            free(shift);
            return err && w && b ? error_set(err, INLAY_ERR_NOMEM, "out of memory folding '%s'", s->weight)
                                 : INLAY_ERR_FORMAT;
        }
        dtype_to_f32(scale, s->scale->source, s->scale->source_type, (size_t)count);
        dtype_to_f32(shift, s->shift->source, s->shift->source_type, (size_t)count);
        columns = rows * columns / count;
        for (int64_t i = 0; i < count; i++) {
            for (int64_t j = 0; j < columns; j++)
                w[i * columns + j] *= scale[i];
            b[i] = b[i] * scale[i] + shift[i];
        }
        free(scale);
        free(shift);
    }
    return INLAY_OK;
}

const method method_ssf = {
    .name = "ssf",
    .summary = "scale and shift of every channel behind every operation; folds into the weights",
    .equation = "y = gamma * x + beta",
    .cite = "arXiv 2210.08823",
    .options = option_table,
    .recipe = "ssf",
    .plan = plan,
    .fold = fold,
};
