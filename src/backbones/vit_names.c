/* What timm, Hugging Face, OpenCLIP and Google's JAX code call the tensors of a ViT. */
#include "backbones/vit.h"

#define ONE(canonical, source)           \
    {                                    \
        canonical, {source}, CHANGE_NONE \
    }
/* Rules for the weight and the bias of a layer. */
#define PAIR(canonical, source) ONE(canonical ".weight", source ".weight"), ONE(canonical ".bias", source ".bias")
#define STACK(canonical, q, k, v)                                                \
    {canonical ".weight", {q ".weight", k ".weight", v ".weight"}, CHANGE_NONE}, \
    {                                                                            \
        canonical ".bias", {q ".bias", k ".bias", v ".bias"}, CHANGE_NONE        \
    }
#define SAME(name) ONE(name, name)
#define SAME_PAIR(name) PAIR(name, name)

static const naming_rule timm_rules[] = {
    SAME("cls_token"),
    SAME("dist_token"),
    SAME("reg_token"),
    SAME("pos_embed"),
    SAME_PAIR("patch_embed.proj"),
    SAME_PAIR("norm_pre"),
    SAME_PAIR("blocks.#.norm1"),
    SAME_PAIR("blocks.#.attn.qkv"),
    SAME_PAIR("blocks.#.attn.q_norm"),
    SAME_PAIR("blocks.#.attn.k_norm"),
    SAME_PAIR("blocks.#.attn.proj"),
    SAME("blocks.#.ls1.gamma"),
    SAME_PAIR("blocks.#.norm2"),
    SAME_PAIR("blocks.#.mlp.fc1"),
    SAME_PAIR("blocks.#.mlp.fc2"),
    SAME("blocks.#.ls2.gamma"),
    SAME_PAIR("norm"),
    SAME_PAIR("fc_norm"),
    SAME("attn_pool.latent"),
    SAME_PAIR("attn_pool.q"),
    SAME_PAIR("attn_pool.kv"),
    SAME_PAIR("attn_pool.proj"),
    SAME_PAIR("attn_pool.norm"),
    SAME_PAIR("attn_pool.mlp.fc1"),
    SAME_PAIR("attn_pool.mlp.fc2"),
    SAME_PAIR("head"),
    SAME_PAIR("head_dist"),
    {NULL, {NULL}, CHANGE_NONE},
};

/* ViT, DeiT, MAE, MSN, I-JEPA and DINOv2, as transformers names them in files, and in memory since 5 ("layers.#") */
static const naming_rule hf_rules[] = {
    ONE("cls_token", "embeddings.cls_token"),
    ONE("dist_token", "embeddings.distillation_token"),
    ONE("reg_token", "embeddings.register_tokens"),
    ONE("pos_embed", "embeddings.position_embeddings"),
    PAIR("patch_embed.proj", "embeddings.patch_embeddings.projection"),
    PAIR("blocks.#.norm1", "encoder.layer.#.layernorm_before"),
    STACK("blocks.#.attn.qkv", "encoder.layer.#.attention.attention.query", "encoder.layer.#.attention.attention.key",
          "encoder.layer.#.attention.attention.value"),
    PAIR("blocks.#.attn.proj", "encoder.layer.#.attention.output.dense"),
    PAIR("blocks.#.norm2", "encoder.layer.#.layernorm_after"),
    PAIR("blocks.#.mlp.fc1", "encoder.layer.#.intermediate.dense"),
    PAIR("blocks.#.mlp.fc2", "encoder.layer.#.output.dense"),
    PAIR("blocks.#.norm1", "layers.#.layernorm_before"),
    STACK("blocks.#.attn.qkv", "layers.#.attention.q_proj", "layers.#.attention.k_proj", "layers.#.attention.v_proj"),
    PAIR("blocks.#.attn.proj", "layers.#.attention.o_proj"),
    PAIR("blocks.#.norm2", "layers.#.layernorm_after"),
    PAIR("blocks.#.mlp.fc1", "layers.#.mlp.fc1"),
    PAIR("blocks.#.mlp.fc2", "layers.#.mlp.fc2"),
    PAIR("blocks.#.norm1", "encoder.layer.#.norm1"), /* DINOv2 */
    ONE("blocks.#.ls1.gamma", "encoder.layer.#.layer_scale1.lambda1"),
    PAIR("blocks.#.norm2", "encoder.layer.#.norm2"),
    PAIR("blocks.#.mlp.fc1", "encoder.layer.#.mlp.fc1"),
    PAIR("blocks.#.mlp.fc2", "encoder.layer.#.mlp.fc2"),
    ONE("blocks.#.ls2.gamma", "encoder.layer.#.layer_scale2.lambda1"),
    PAIR("norm", "layernorm"),
    PAIR("head", "classifier"),
    PAIR("head", "cls_classifier"),
    PAIR("head_dist", "distillation_classifier"),
    {NULL, {NULL}, CHANGE_NONE},
};

/* The vision towers of CLIP and SigLIP */
static const naming_rule hf_clip_rules[] = {
    ONE("cls_token", "embeddings.class_embedding"),
    ONE("pos_embed", "embeddings.position_embedding.weight"),
    PAIR("patch_embed.proj", "embeddings.patch_embedding"),
    PAIR("norm_pre", "pre_layrnorm"),
    PAIR("blocks.#.norm1", "encoder.layers.#.layer_norm1"),
    STACK("blocks.#.attn.qkv", "encoder.layers.#.self_attn.q_proj", "encoder.layers.#.self_attn.k_proj",
          "encoder.layers.#.self_attn.v_proj"),
    PAIR("blocks.#.attn.proj", "encoder.layers.#.self_attn.out_proj"),
    PAIR("blocks.#.norm2", "encoder.layers.#.layer_norm2"),
    PAIR("blocks.#.mlp.fc1", "encoder.layers.#.mlp.fc1"),
    PAIR("blocks.#.mlp.fc2", "encoder.layers.#.mlp.fc2"),
    PAIR("norm", "post_layernorm"),
    ONE("attn_pool.latent", "head.probe"),
    {"attn_pool.q.weight", {"head.attention.in_proj_weight"}, CHANGE_QUERY},
    {"attn_pool.kv.weight", {"head.attention.in_proj_weight"}, CHANGE_KEY_VALUE},
    {"attn_pool.q.bias", {"head.attention.in_proj_bias"}, CHANGE_QUERY},
    {"attn_pool.kv.bias", {"head.attention.in_proj_bias"}, CHANGE_KEY_VALUE},
    PAIR("attn_pool.proj", "head.attention.out_proj"),
    PAIR("attn_pool.norm", "head.layernorm"),
    PAIR("attn_pool.mlp.fc1", "head.mlp.fc1"),
    PAIR("attn_pool.mlp.fc2", "head.mlp.fc2"),
    PAIR("head", "classifier"),
    {NULL, {NULL}, CHANGE_NONE},
};

/* OpenCLIP's and OpenAI's own image tower */
static const naming_rule open_clip_rules[] = {
    ONE("cls_token", "class_embedding"),
    ONE("pos_embed", "positional_embedding"),
    PAIR("patch_embed.proj", "conv1"),
    PAIR("norm_pre", "ln_pre"),
    PAIR("blocks.#.norm1", "transformer.resblocks.#.ln_1"),
    ONE("blocks.#.attn.qkv.weight", "transformer.resblocks.#.attn.in_proj_weight"),
    ONE("blocks.#.attn.qkv.bias", "transformer.resblocks.#.attn.in_proj_bias"),
    PAIR("blocks.#.attn.proj", "transformer.resblocks.#.attn.out_proj"),
    ONE("blocks.#.ls1.gamma", "transformer.resblocks.#.ls_1.gamma"),
    PAIR("blocks.#.norm2", "transformer.resblocks.#.ln_2"),
    PAIR("blocks.#.mlp.fc1", "transformer.resblocks.#.mlp.c_fc"),
    PAIR("blocks.#.mlp.fc2", "transformer.resblocks.#.mlp.c_proj"),
    ONE("blocks.#.ls2.gamma", "transformer.resblocks.#.ls_2.gamma"),
    PAIR("norm", "ln_post"),
    {NULL, {NULL}, CHANGE_NONE},
};

#define JAX_BLOCK "Transformer/encoderblock_#/"
#define JAX_RULES(attention, norm2, mlp)                                                                            \
    {"blocks.#.attn.qkv.weight",                                                                                    \
     {JAX_BLOCK attention "/query/kernel", JAX_BLOCK attention "/key/kernel", JAX_BLOCK attention "/value/kernel"}, \
     CHANGE_TRANSPOSE},                                                                                             \
        {"blocks.#.attn.qkv.bias",                                                                                  \
         {JAX_BLOCK attention "/query/bias", JAX_BLOCK attention "/key/bias", JAX_BLOCK attention "/value/bias"},   \
         CHANGE_FLATTEN},                                                                                           \
        {"blocks.#.attn.proj.weight", {JAX_BLOCK attention "/out/kernel"}, CHANGE_OUT_PROJECTION},                  \
        {"blocks.#.attn.proj.bias", {JAX_BLOCK attention "/out/bias"}, CHANGE_NONE},                                \
        {"blocks.#.norm2.weight", {JAX_BLOCK norm2 "/scale"}, CHANGE_NONE},                                         \
        {"blocks.#.norm2.bias", {JAX_BLOCK norm2 "/bias"}, CHANGE_NONE},                                            \
        {"blocks.#.mlp.fc1.weight", {JAX_BLOCK mlp "/Dense_0/kernel"}, CHANGE_TRANSPOSE},                           \
        {"blocks.#.mlp.fc1.bias", {JAX_BLOCK mlp "/Dense_0/bias"}, CHANGE_NONE},                                    \
        {"blocks.#.mlp.fc2.weight", {JAX_BLOCK mlp "/Dense_1/kernel"}, CHANGE_TRANSPOSE},                           \
    {                                                                                                               \
        "blocks.#.mlp.fc2.bias", {JAX_BLOCK mlp "/Dense_1/bias"}, CHANGE_NONE                                       \
    }

static const naming_rule jax_rules[] = {
    {"cls_token", {"cls"}, CHANGE_NONE},
    {"pos_embed", {"Transformer/posembed_input/pos_embedding"}, CHANGE_NONE},
    {"pos_embed", {"pos_embedding"}, CHANGE_NONE},
    {"patch_embed.proj.weight", {"embedding/kernel"}, CHANGE_CONV},
    {"patch_embed.proj.bias", {"embedding/bias"}, CHANGE_NONE},
    {"blocks.#.norm1.weight", {JAX_BLOCK "LayerNorm_0/scale"}, CHANGE_NONE},
    {"blocks.#.norm1.bias", {JAX_BLOCK "LayerNorm_0/bias"}, CHANGE_NONE},
    JAX_RULES("MultiHeadDotProductAttention_1", "LayerNorm_2", "MlpBlock_3"), /* vision_transformer */
    JAX_RULES("MultiHeadDotProductAttention_0", "LayerNorm_1", "MlpBlock_0"), /* big_vision */
    {"norm.weight", {"Transformer/encoder_norm/scale"}, CHANGE_NONE},
    {"norm.bias", {"Transformer/encoder_norm/bias"}, CHANGE_NONE},
    {"head.weight", {"head/kernel"}, CHANGE_TRANSPOSE},
    {"head.bias", {"head/bias"}, CHANGE_NONE},
    {NULL, {NULL}, CHANGE_NONE},
};

/* ---- where an encoder may lie, and what stands beside it ---- */

#define TEXT_TOWER "the text tower: images do not pass through it"
#define PROJECTION "projection into the space shared with texts: features are what stands before it"
#define TEMPERATURE "scale of similarities between images and texts"

static const naming_pass hf_clip_outside[] = {
    {"text_model.*", TEXT_TOWER}, {"visual_projection.*", PROJECTION}, {"text_projection.*", TEXT_TOWER},
    {"logit_scale", TEMPERATURE}, {"logit_bias", TEMPERATURE},         {NULL, NULL},
};

static const naming_pass open_clip_outside[] = {
    {"text.*", TEXT_TOWER},
    {"transformer.*", TEXT_TOWER},
    {"token_embedding.*", TEXT_TOWER},
    {"positional_embedding", TEXT_TOWER},
    {"ln_final.*", TEXT_TOWER},
    {"text_projection*", TEXT_TOWER},
    {"attn_mask", TEXT_TOWER},
    {"visual.head.*", PROJECTION},
    {"logit_scale", TEMPERATURE},
    {"logit_bias", TEMPERATURE},
    {"input_resolution", "sizes, which the tensors tell"},
    {"context_length", "sizes, which the tensors tell"},
    {"vocab_size", "sizes, which the tensors tell"},
    {NULL, NULL},
};

static const naming_pass hf_outside[] = {
    {"decoder.*", "decoder of the pre-training: it is not used afterwards"},
    {NULL, NULL},
};

static const naming_place timm_places[] = {{"visual.trunk.", open_clip_outside}, {"", NULL}, {NULL, NULL}};
static const naming_place hf_places[] = {{"vit.", hf_outside},
                                         {"deit.", hf_outside},
                                         {"ijepa.", hf_outside},
                                         {"dinov2.", hf_outside},
                                         {"dinov2_with_registers.", hf_outside},
                                         {"", NULL},
                                         {NULL, NULL}};
static const naming_place hf_clip_places[] = {{"vision_model.", hf_clip_outside}, {"", NULL}, {NULL, NULL}};
static const naming_place open_clip_places[] = {{"visual.", open_clip_outside}, {"", NULL}, {NULL, NULL}};
static const naming_place anywhere[] = {{"", NULL}, {NULL, NULL}};

static const naming_pass hf_passed[] = {
    {"pooler.*", "pooler: Hugging Face's classification heads read the token in front of it"},
    {"embeddings.mask_token", "stands for masked patches in pre-training"},
    {NULL, NULL},
};
static const naming_pass hf_clip_passed[] = {{"embeddings.position_ids", "counts 0, 1, 2, ..."}, {NULL, NULL}};
static const naming_pass open_clip_passed[] = {{"proj", PROJECTION}, {NULL, NULL}};
static const naming_pass jax_passed[] = {
    {"pre_logits/*", "layer between features and head in pre-training"},
    {"opt/state/*", "state of the optimiser"},
    {NULL, NULL},
};

static const naming timm = {"timm", "patch_embed.proj.weight", timm_places, timm_rules, NULL};
static const naming hf = {"hugging face", "embeddings.patch_embeddings.projection.weight", hf_places, hf_rules,
                          hf_passed};
static const naming hf_clip = {"hugging face clip", "embeddings.patch_embedding.weight", hf_clip_places, hf_clip_rules,
                               hf_clip_passed};
static const naming open_clip = {"open clip", "ln_pre.weight", open_clip_places, open_clip_rules, open_clip_passed};
static const naming jax = {"jax", "embedding/kernel", anywhere, jax_rules, jax_passed};

const naming *const vit_namings[] = {&timm, &hf, &hf_clip, &open_clip, &jax, NULL};
