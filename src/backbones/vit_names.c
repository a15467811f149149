/* What timm, Hugging Face and Google's JAX code call the tensors of a ViT. */
#include "backbones/vit.h"

static const naming_rule timm_rules[] = {
    {"cls_token", {"cls_token"}, CHANGE_NONE},
    {"dist_token", {"dist_token"}, CHANGE_NONE},
    {"reg_token", {"reg_token"}, CHANGE_NONE},
    {"pos_embed", {"pos_embed"}, CHANGE_NONE},
    {"patch_embed.proj.weight", {"patch_embed.proj.weight"}, CHANGE_NONE},
    {"patch_embed.proj.bias", {"patch_embed.proj.bias"}, CHANGE_NONE},
    {"norm_pre.weight", {"norm_pre.weight"}, CHANGE_NONE},
    {"norm_pre.bias", {"norm_pre.bias"}, CHANGE_NONE},
    {"blocks.#.norm1.weight", {"blocks.#.norm1.weight"}, CHANGE_NONE},
    {"blocks.#.norm1.bias", {"blocks.#.norm1.bias"}, CHANGE_NONE},
    {"blocks.#.attn.qkv.weight", {"blocks.#.attn.qkv.weight"}, CHANGE_NONE},
    {"blocks.#.attn.qkv.bias", {"blocks.#.attn.qkv.bias"}, CHANGE_NONE},
    {"blocks.#.attn.q_norm.weight", {"blocks.#.attn.q_norm.weight"}, CHANGE_NONE},
    {"blocks.#.attn.q_norm.bias", {"blocks.#.attn.q_norm.bias"}, CHANGE_NONE},
    {"blocks.#.attn.k_norm.weight", {"blocks.#.attn.k_norm.weight"}, CHANGE_NONE},
    {"blocks.#.attn.k_norm.bias", {"blocks.#.attn.k_norm.bias"}, CHANGE_NONE},
    {"blocks.#.attn.proj.weight", {"blocks.#.attn.proj.weight"}, CHANGE_NONE},
    {"blocks.#.attn.proj.bias", {"blocks.#.attn.proj.bias"}, CHANGE_NONE},
    {"blocks.#.ls1.gamma", {"blocks.#.ls1.gamma"}, CHANGE_NONE},
    {"blocks.#.norm2.weight", {"blocks.#.norm2.weight"}, CHANGE_NONE},
    {"blocks.#.norm2.bias", {"blocks.#.norm2.bias"}, CHANGE_NONE},
    {"blocks.#.mlp.fc1.weight", {"blocks.#.mlp.fc1.weight"}, CHANGE_NONE},
    {"blocks.#.mlp.fc1.bias", {"blocks.#.mlp.fc1.bias"}, CHANGE_NONE},
    {"blocks.#.mlp.fc2.weight", {"blocks.#.mlp.fc2.weight"}, CHANGE_NONE},
    {"blocks.#.mlp.fc2.bias", {"blocks.#.mlp.fc2.bias"}, CHANGE_NONE},
    {"blocks.#.ls2.gamma", {"blocks.#.ls2.gamma"}, CHANGE_NONE},
    {"norm.weight", {"norm.weight"}, CHANGE_NONE},
    {"norm.bias", {"norm.bias"}, CHANGE_NONE},
    {"fc_norm.weight", {"fc_norm.weight"}, CHANGE_NONE},
    {"fc_norm.bias", {"fc_norm.bias"}, CHANGE_NONE},
    {"head.weight", {"head.weight"}, CHANGE_NONE},
    {"head.bias", {"head.bias"}, CHANGE_NONE},
    {"head_dist.weight", {"head_dist.weight"}, CHANGE_NONE},
    {"head_dist.bias", {"head_dist.bias"}, CHANGE_NONE},
    {NULL, {NULL}, CHANGE_NONE},
};

/* Hugging Face transformers up to 4.x, and every file that a later version saves in that form */
static const naming_rule hf4_rules[] = {
    {"cls_token", {"embeddings.cls_token"}, CHANGE_NONE},
    {"pos_embed", {"embeddings.position_embeddings"}, CHANGE_NONE},
    {"patch_embed.proj.weight", {"embeddings.patch_embeddings.projection.weight"}, CHANGE_NONE},
    {"patch_embed.proj.bias", {"embeddings.patch_embeddings.projection.bias"}, CHANGE_NONE},
    {"blocks.#.norm1.weight", {"encoder.layer.#.layernorm_before.weight"}, CHANGE_NONE},
    {"blocks.#.norm1.bias", {"encoder.layer.#.layernorm_before.bias"}, CHANGE_NONE},
    {"blocks.#.attn.qkv.weight",
     {"encoder.layer.#.attention.attention.query.weight", "encoder.layer.#.attention.attention.key.weight", "encoder.layer.#.attention.attention.value.weight"},
     CHANGE_NONE},
    {"blocks.#.attn.qkv.bias",
     {"encoder.layer.#.attention.attention.query.bias", "encoder.layer.#.attention.attention.key.bias", "encoder.layer.#.attention.attention.value.bias"},
     CHANGE_NONE},
    {"blocks.#.attn.proj.weight", {"encoder.layer.#.attention.output.dense.weight"}, CHANGE_NONE},
    {"blocks.#.attn.proj.bias", {"encoder.layer.#.attention.output.dense.bias"}, CHANGE_NONE},
    {"blocks.#.norm2.weight", {"encoder.layer.#.layernorm_after.weight"}, CHANGE_NONE},
    {"blocks.#.norm2.bias", {"encoder.layer.#.layernorm_after.bias"}, CHANGE_NONE},
    {"blocks.#.mlp.fc1.weight", {"encoder.layer.#.intermediate.dense.weight"}, CHANGE_NONE},
    {"blocks.#.mlp.fc1.bias", {"encoder.layer.#.intermediate.dense.bias"}, CHANGE_NONE},
    {"blocks.#.mlp.fc2.weight", {"encoder.layer.#.output.dense.weight"}, CHANGE_NONE},
    {"blocks.#.mlp.fc2.bias", {"encoder.layer.#.output.dense.bias"}, CHANGE_NONE},
    {"norm.weight", {"layernorm.weight"}, CHANGE_NONE},
    {"norm.bias", {"layernorm.bias"}, CHANGE_NONE},
    {"head.weight", {"classifier.weight"}, CHANGE_NONE},
    {"head.bias", {"classifier.bias"}, CHANGE_NONE},
    {NULL, {NULL}, CHANGE_NONE},
};

/* The names that transformers 5 uses in memory, found in files written from there */
static const naming_rule hf5_rules[] = {
    {"cls_token", {"embeddings.cls_token"}, CHANGE_NONE},
    {"pos_embed", {"embeddings.position_embeddings"}, CHANGE_NONE},
    {"patch_embed.proj.weight", {"embeddings.patch_embeddings.projection.weight"}, CHANGE_NONE},
    {"patch_embed.proj.bias", {"embeddings.patch_embeddings.projection.bias"}, CHANGE_NONE},
    {"blocks.#.norm1.weight", {"layers.#.layernorm_before.weight"}, CHANGE_NONE},
    {"blocks.#.norm1.bias", {"layers.#.layernorm_before.bias"}, CHANGE_NONE},
    {"blocks.#.attn.qkv.weight",
     {"layers.#.attention.q_proj.weight", "layers.#.attention.k_proj.weight", "layers.#.attention.v_proj.weight"},
     CHANGE_NONE},
    {"blocks.#.attn.qkv.bias", {"layers.#.attention.q_proj.bias", "layers.#.attention.k_proj.bias", "layers.#.attention.v_proj.bias"}, CHANGE_NONE},
    {"blocks.#.attn.proj.weight", {"layers.#.attention.o_proj.weight"}, CHANGE_NONE},
    {"blocks.#.attn.proj.bias", {"layers.#.attention.o_proj.bias"}, CHANGE_NONE},
    {"blocks.#.norm2.weight", {"layers.#.layernorm_after.weight"}, CHANGE_NONE},
    {"blocks.#.norm2.bias", {"layers.#.layernorm_after.bias"}, CHANGE_NONE},
    {"blocks.#.mlp.fc1.weight", {"layers.#.mlp.fc1.weight"}, CHANGE_NONE},
    {"blocks.#.mlp.fc1.bias", {"layers.#.mlp.fc1.bias"}, CHANGE_NONE},
    {"blocks.#.mlp.fc2.weight", {"layers.#.mlp.fc2.weight"}, CHANGE_NONE},
    {"blocks.#.mlp.fc2.bias", {"layers.#.mlp.fc2.bias"}, CHANGE_NONE},
    {"norm.weight", {"layernorm.weight"}, CHANGE_NONE},
    {"norm.bias", {"layernorm.bias"}, CHANGE_NONE},
    {"head.weight", {"classifier.weight"}, CHANGE_NONE},
    {"head.bias", {"classifier.bias"}, CHANGE_NONE},
    {NULL, {NULL}, CHANGE_NONE},
};

#define JAX_BLOCK "Transformer/encoderblock_#/"
#define JAX_RULES(attention, norm2, mlp)                                                                                                   \
    {"blocks.#.norm1.weight", {JAX_BLOCK "LayerNorm_0/scale"}, CHANGE_NONE},                                                        \
    {"blocks.#.norm1.bias", {JAX_BLOCK "LayerNorm_0/bias"}, CHANGE_NONE},                                                           \
    {"blocks.#.attn.qkv.weight",                                                                                                           \
     {JAX_BLOCK attention "/query/kernel", JAX_BLOCK attention "/key/kernel", JAX_BLOCK attention "/value/kernel"}, CHANGE_TRANSPOSE}, \
    {"blocks.#.attn.qkv.bias",                                                                                                             \
     {JAX_BLOCK attention "/query/bias", JAX_BLOCK attention "/key/bias", JAX_BLOCK attention "/value/bias"}, CHANGE_FLATTEN},        \
    {"blocks.#.attn.proj.weight", {JAX_BLOCK attention "/out/kernel"}, CHANGE_OUT_PROJECTION},                                      \
    {"blocks.#.attn.proj.bias", {JAX_BLOCK attention "/out/bias"}, CHANGE_NONE},                                                     \
    {"blocks.#.norm2.weight", {JAX_BLOCK norm2 "/scale"}, CHANGE_NONE},                                                             \
    {"blocks.#.norm2.bias", {JAX_BLOCK norm2 "/bias"}, CHANGE_NONE},                                                                \
    {"blocks.#.mlp.fc1.weight", {JAX_BLOCK mlp "/Dense_0/kernel"}, CHANGE_TRANSPOSE},                                               \
    {"blocks.#.mlp.fc1.bias", {JAX_BLOCK mlp "/Dense_0/bias"}, CHANGE_NONE},                                                         \
    {"blocks.#.mlp.fc2.weight", {JAX_BLOCK mlp "/Dense_1/kernel"}, CHANGE_TRANSPOSE},                                               \
    {"blocks.#.mlp.fc2.bias", {JAX_BLOCK mlp "/Dense_1/bias"}, CHANGE_NONE}

static const naming_rule jax_rules[] = {
    {"cls_token", {"cls"}, CHANGE_NONE},
    {"pos_embed", {"Transformer/posembed_input/pos_embedding"}, CHANGE_NONE},
    {"pos_embed", {"pos_embedding"}, CHANGE_NONE},
    {"patch_embed.proj.weight", {"embedding/kernel"}, CHANGE_CONV},
    {"patch_embed.proj.bias", {"embedding/bias"}, CHANGE_NONE},
    JAX_RULES("MultiHeadDotProductAttention_1", "LayerNorm_2", "MlpBlock_3"), /* vision_transformer */
    JAX_RULES("MultiHeadDotProductAttention_0", "LayerNorm_1", "MlpBlock_0"), /* big_vision */
    {"norm.weight", {"Transformer/encoder_norm/scale"}, CHANGE_NONE},
    {"norm.bias", {"Transformer/encoder_norm/bias"}, CHANGE_NONE},
    {"head.weight", {"head/kernel"}, CHANGE_TRANSPOSE},
    {"head.bias", {"head/bias"}, CHANGE_NONE},
    {NULL, {NULL}, CHANGE_NONE},
};

static const char *const timm_prefixes[] = {"", "module.", "model.", "visual.trunk.", "state_dict.", NULL};
static const char *const hf_prefixes[] = {"vit.", "", NULL};
static const char *const jax_prefixes[] = {"", "opt/target/", "params/", NULL};
static const char *const none[] = {NULL};
static const char *const hf_ignored[] = {"pooler.*", "embeddings.mask_token", "decoder.*", NULL};
static const char *const jax_ignored[] = {"pre_logits/*", "opt/state/*", NULL};

static const naming timm = {"timm", "patch_embed.proj.weight", timm_prefixes, timm_rules, none};
static const naming hf4 = {"hugging face", "encoder.layer.0.layernorm_before.weight", hf_prefixes, hf4_rules, hf_ignored};
static const naming hf5 = {"hugging face 5", "layers.0.layernorm_before.weight", hf_prefixes, hf5_rules, hf_ignored};
static const naming jax = {"jax", "embedding/kernel", jax_prefixes, jax_rules, jax_ignored};

const naming *const vit_namings[] = {&timm, &hf4, &hf5, &jax, NULL};
