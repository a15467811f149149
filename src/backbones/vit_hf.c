/* What Hugging Face's config.json says of a ViT, by its model_type. */
#include <stdlib.h>
#include <string.h>

#include "backbones/labels.h"
#include "backbones/vit_config.h"
#include "base/json.h"

/* A model_type. Files of a type may leave out what is the type's default, and those of two towers do. */
struct hf_type {
    const char *name;
    const char *section; /* of config.json that describes the encoder; NULL: all of it */
    double eps;
    activation act;
    int64_t heads, width, depth, patch;
    pooling pool;       /* what Hugging Face's model gives as features */
    pooling head_pool;  /* what its classification head reads */
    bool head_norm;     /* the head reads them after the final normalisation */
    bool any_size;      /* images are of the preprocessor's size, position embeddings are resampled to it */
    bool plain_bicubic; /* position embeddings are resampled without antialiasing */
    bool towers;        /* its tensors have the names of CLIP's and SigLIP's towers */
};

#define BASE 12, 768, 12
static const hf_type types[] = {
    {"vit", NULL, 1e-12, ACT_GELU, BASE, 16, POOL_TOKEN, POOL_TOKEN, true, false, false, false},
    {"deit", NULL, 1e-12, ACT_GELU, BASE, 16, POOL_TOKEN, POOL_TOKEN, true, false, false, false},
    {"vit_mae", NULL, 1e-12, ACT_GELU, BASE, 16, POOL_TOKEN, POOL_TOKEN, true, false, false, false},
    {"vit_msn", NULL, 1e-6, ACT_GELU, BASE, 16, POOL_TOKEN, POOL_TOKEN, true, false, false, false},
    {"ijepa", NULL, 1e-12, ACT_GELU, BASE, 16, POOL_AVERAGE, POOL_AVERAGE, true, false, false, false},
    {"dinov2", NULL, 1e-6, ACT_GELU, BASE, 14, POOL_TOKEN, POOL_TOKEN, true, true, true, false},
    {"dinov2_with_registers", NULL, 1e-6, ACT_GELU, BASE, 16, POOL_TOKEN, POOL_TOKEN, true, true, false, false},
    {"clip_vision_model", NULL, 1e-5, ACT_QUICK_GELU, BASE, 32, POOL_TOKEN, POOL_AVERAGE, false, false, false, true},
    {"clip", "vision_config", 1e-5, ACT_QUICK_GELU, BASE, 32, POOL_TOKEN, POOL_AVERAGE, false, false, false, true},
    {"metaclip_2_vision_model", NULL, 1e-5, ACT_QUICK_GELU, BASE, 32, POOL_TOKEN, POOL_AVERAGE, false, false, false,
     true},
    {"metaclip_2", "vision_config", 1e-5, ACT_QUICK_GELU, BASE, 32, POOL_TOKEN, POOL_AVERAGE, false, false, false,
     true},
    {"siglip_vision_model", NULL, 1e-6, ACT_GELU_TANH, BASE, 16, POOL_MAP, POOL_AVERAGE, true, false, false, true},
    {"siglip", "vision_config", 1e-6, ACT_GELU_TANH, BASE, 16, POOL_MAP, POOL_AVERAGE, true, false, false, true},
};

static const hf_type *find_type(const char *name)
{
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (strcmp(types[i].name, name) == 0)
            return &types[i];
    return NULL;
}

static inlay_status choose_type(backbone *b, const config_reader *r, const hf_type **out)
{
    const char *name = config_text(r, "model_type"), *known = "";

    if (!name)
        name = "vit"; /* as files are that were written by hand */
    *out = find_type(name);
    for (size_t i = 0; !*out && i < sizeof types / sizeof *types; i++)
        known = arena_printf(b->memory, "%s%s, ", known, types[i].name);
    if (!*out)
        FAIL(r->err, INLAY_ERR_UNSUPPORTED, "%s: model_type '%s' is not supported (known: %stimm_wrapper)", r->path,
             name, known);
    if ((*out)->towers != (strcmp(b->shape.layout, "hugging face clip") == 0))
        FAIL(r->err, INLAY_ERR_FORMAT, "%s: %s '%s', but the tensors have names of another (%s naming)", r->path,
             config_text(r, "model_type") ? "model_type is" : "there is no model_type, which means", name,
             b->shape.layout);
    b->described_by = arena_printf(b->memory, "config.json (model_type %s)", name);
    return INLAY_OK;
}

static const char training[] = "for training only", told[] = "read off the tensors",
                  others[] = "of other kinds of heads or outputs", writing[] = "which version and class wrote the file",
                  task[] = "of a training's task", texts[] = "of the generation of texts";

/* Keys of config.json, or of its part for the encoder. */
const config_key vit_hf_keys[] = {
    {"model_type", NULL, NULL},
    {"hidden_size", NULL, NULL},
    {"num_hidden_layers", NULL, NULL},
    {"num_attention_heads", NULL, NULL},
    {"intermediate_size", NULL, NULL},
    {"patch_size", NULL, NULL},
    {"image_size", NULL, NULL},
    {"layer_norm_eps", NULL, NULL},
    {"hidden_act", NULL, NULL},
    {"vision_config", NULL, NULL},
    {"id2label", NULL, NULL},
    {"num_channels", NULL, "3"},
    {"use_swiglu_ffn", NULL, "false"},
    {"vision_use_head", NULL, "true"},
    {"use_absolute_position_embeddings", NULL, "true"},
    {"use_mean_pooling", NULL, "false"},
    {"mlp_ratio", told, NULL},
    {"qkv_bias", told, NULL},
    {"num_register_tokens", told, NULL},
    {"use_mask_token", told, NULL},
    {"layerscale_value", "how new weights begin", NULL},
    {"initializer_range", "how new weights begin", NULL},
    {"initializer_factor", "how new weights begin", NULL},
    {"logit_scale_init_value", "how new weights begin", NULL},
    {"hidden_dropout_prob", training, NULL},
    {"attention_probs_dropout_prob", training, NULL},
    {"attention_dropout", training, NULL},
    {"dropout", training, NULL},
    {"drop_path_rate", training, NULL},
    {"mask_ratio", "of pre-training: all patches are seen afterwards", NULL},
    {"norm_pix_loss", training, NULL},
    {"decoder_hidden_size", training, NULL},
    {"decoder_intermediate_size", training, NULL},
    {"decoder_num_attention_heads", training, NULL},
    {"decoder_num_hidden_layers", training, NULL},
    {"encoder_stride", "of a decoder for masked pixels", NULL},
    {"projection_dim", "width of the projection behind the features", NULL},
    {"text_config", "the text tower", NULL},
    {"text_config_dict", "the text tower", NULL},
    {"vision_config_dict", "an older form of vision_config, which is kept up to date", NULL},
    {"pooler_act", "the pooler is not used", NULL},
    {"pooler_output_size", "the pooler is not used", NULL},
    {"apply_layernorm", others, NULL},
    {"reshape_hidden_states", others, NULL},
    {"out_features", others, NULL},
    {"out_indices", others, NULL},
    {"stage_names", others, NULL},
    {"output_attentions", others, NULL},
    {"output_hidden_states", others, NULL},
    {"return_dict", others, NULL},
    {"label2id", "the other direction of id2label", NULL},
    {"problem_type", task, NULL},
    {"finetuning_task", task, NULL},
    {"num_labels", told, NULL},
    {"architectures", writing, NULL},
    {"transformers_version", writing, NULL},
    {"_name_or_path", writing, NULL},
    {"_commit_hash", writing, NULL},
    {"torch_dtype", told, NULL},
    {"dtype", told, NULL},
    {"torchscript", writing, NULL},
    {"use_bfloat16", writing, NULL},
    {"chunk_size_feed_forward", "how much is computed at a time", NULL},
    {"pruned_heads", NULL, "{}"},
    {"add_cross_attention", texts, NULL},
    {"bad_words_ids", texts, NULL},
    {"begin_suppress_tokens", texts, NULL},
    {"bos_token_id", texts, NULL},
    {"cross_attention_hidden_size", texts, NULL},
    {"decoder_start_token_id", texts, NULL},
    {"diversity_penalty", texts, NULL},
    {"do_sample", texts, NULL},
    {"early_stopping", texts, NULL},
    {"encoder_no_repeat_ngram_size", texts, NULL},
    {"eos_token_id", texts, NULL},
    {"exponential_decay_length_penalty", texts, NULL},
    {"forced_bos_token_id", texts, NULL},
    {"forced_eos_token_id", texts, NULL},
    {"is_decoder", texts, NULL},
    {"is_encoder_decoder", texts, NULL},
    {"length_penalty", texts, NULL},
    {"max_length", texts, NULL},
    {"min_length", texts, NULL},
    {"no_repeat_ngram_size", texts, NULL},
    {"num_beam_groups", texts, NULL},
    {"num_beams", texts, NULL},
    {"num_return_sequences", texts, NULL},
    {"output_scores", texts, NULL},
    {"pad_token_id", texts, NULL},
    {"prefix", texts, NULL},
    {"remove_invalid_values", texts, NULL},
    {"repetition_penalty", texts, NULL},
    {"return_dict_in_generate", texts, NULL},
    {"sep_token_id", texts, NULL},
    {"suppress_tokens", texts, NULL},
    {"task_specific_params", texts, NULL},
    {"temperature", texts, NULL},
    {"tf_legacy_loss", texts, NULL},
    {"tie_encoder_decoder", texts, NULL},
    {"tie_word_embeddings", texts, NULL},
    {"tokenizer_class", texts, NULL},
    {"top_k", texts, NULL},
    {"top_p", texts, NULL},
    {"typical_p", texts, NULL},
    {0},
};

static inlay_status read_encoder(backbone *b, const config_reader *part, const hf_type *type)
{
    vit_state *state = b->state;

    TRY(config_check(b, part, vit_hf_keys));
    b->shape.eps = type->eps;
    b->shape.act = type->act;
    b->shape.heads = type->heads;
    b->shape.pool = type->pool;
    TRY(config_real(part, "layer_norm_eps", 0, 1, &b->shape.eps));
    TRY(config_int(part, "num_attention_heads", &b->shape.heads));
    state->plain_bicubic = type->plain_bicubic;
    TRY(config_size(part, "image_size", &state->trained[0], &state->trained[1]));
    if (!type->any_size) {
        b->shape.height = state->trained[0];
        b->shape.image_width = state->trained[1];
    }
    TRY(config_activation(part, "hidden_act", &b->shape.act));
    TRY(vit_claim_read(part, "num_hidden_layers", &state->depth));
    TRY(vit_claim_read(part, "hidden_size", &state->width));
    TRY(vit_claim_read(part, "patch_size", &state->patch));
    if (!state->width.key) /* the type's heads go with the type's width */
        state->width = (vit_claim){"model_type", type->width};
    if (!state->depth.key)
        state->depth = (vit_claim){"model_type", type->depth};
    if (!state->patch.key)
        state->patch = (vit_claim){"model_type", type->patch};
    return vit_claim_read(part, "intermediate_size", &state->hidden);
}

inlay_status vit_hf_config(backbone *b, const config_reader *r)
{
    config_reader part = *r;
    vit_state *state = b->state;
    const hf_type *type;

    TRY(choose_type(b, r, &type));
    state->hf = type;
    if (type->section) {
        TRY(config_check(b, r, vit_hf_keys));
        part.object = json_object_get(r->object, type->section);
        if (!json_is_object(part.object))
            FAIL(r->err, INLAY_ERR_FORMAT, "%s: '%s' must be an object that describes the encoder", r->path,
                 type->section);
    }
    TRY(read_encoder(b, &part, type));
    TRY(labels_read(b, r, "id2label"));
    return vit_hf_input(b, r);
}

/* ---- once the tensors are there: what a classification head reads ---- */

/* Parts DINOv2's head, which reads class token and mean of the patch tokens side by side: two products. */
static inlay_status part_head(backbone *b, inlay_error *err)
{
    param *head = backbone_param(b, "head.weight");
    const param *proj = backbone_param(b, "patch_embed.proj.weight");
    int64_t width = proj && proj->ndim == 4 ? proj->dims[0] : 0, rows, dims[2];
    float *wide, *parts;

    if (!head || head->ndim != 2 || width == 0 || head->dims[1] != 2 * width)
        return INLAY_OK;
    rows = head->dims[0];
    wide = memory_array(head->count + 1, sizeof *wide);
    parts = backbone_buffer(b, (size_t)(head->count + 1) * sizeof *parts);
    if (!wide || !parts) {
        free(wide);
        FAIL(err, INLAY_ERR_NOMEM, "out of memory reading '%s'", head->name);
    }
    dtype_to_f32(wide, head->source, head->source_type, (size_t)head->count);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t half = 0; half < 2; half++)
            memcpy(parts + (half * rows + r) * width, wide + (2 * r + half) * width, (size_t)width * sizeof *parts);
    free(wide);
    dims[0] = rows;
    dims[1] = width;
    backbone_drop_param(b, "head.weight");
    backbone_add_param(b, "head.weight", 2, dims, parts, DTYPE_F32);
    backbone_add_param(b, "head_patches.weight", 2, dims, parts + rows * width, DTYPE_F32);
    return INLAY_OK;
}

inlay_status vit_hf_finish(backbone *b, inlay_error *err)
{
    static const char *const pool_tensors[] = {
        "latent",      "q.weight",  "q.bias",         "kv.weight",    "kv.bias",        "proj.weight", "proj.bias",
        "norm.weight", "norm.bias", "mlp.fc1.weight", "mlp.fc1.bias", "mlp.fc2.weight", "mlp.fc2.bias"};
    vit_state *state = b->state;

    if (!state->hf || !backbone_param(b, "head.weight"))
        return INLAY_OK;
    b->shape.pool = state->hf->head_pool;
    if (!state->hf->head_norm) {
        state->parts &= ~(unsigned)PART_FINAL_NORM;
        backbone_drop_param(b, "norm.weight");
        backbone_drop_param(b, "norm.bias");
        backbone_pass_over(b, "post_layernorm.*", "the classification head reads the tokens in front of it");
    }
    if (state->hf->pool == POOL_MAP) {
        for (size_t i = 0; i < sizeof pool_tensors / sizeof *pool_tensors; i++)
            backbone_drop_param(b, arena_printf(b->memory, "attn_pool.%s", pool_tensors[i]));
        backbone_pass_over(b, "head.*", "the classification head reads the mean of the patch tokens instead");
    }
    return part_head(b, err);
}
