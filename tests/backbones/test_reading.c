/* Which checkpoints are read: prefixes, names of other libraries, what configuration and tensors must agree on, and
 * what is refused. */
#include "support.h"

#include <jansson.h>

#include "backbones/backbone.h"
#include "formats/tensors.h"

#define ORACLE TEST_DATA "/oracle/"
#define MOST 160

/* A checkpoint to be written: the tensors of another one, and what a test makes of them. */
typedef struct draft {
    const char *folder;
    tensor_set *source;
    tensor_view views[MOST];
    char names[MOST][160];
    int count;
    json_t *config;
} draft;

static void begin(draft *d, const char *from)
{
    inlay_error err;
    char path[400];

    d->folder = support_folder();
    snprintf(path, sizeof path, "%s/model.safetensors", from);
    ASSERT_OK(tensor_set_open(&d->source, path, &err));
    d->count = tensor_set_count(d->source);
    for (int i = 0; i < d->count; i++)
        d->views[i] = *tensor_set_at(d->source, i);
    snprintf(path, sizeof path, "%s/config.json", from);
    d->config = json_load_file(path, 0, NULL);
    assert_non_null(d->config);
}

static void write_draft(draft *d)
{
    inlay_error err;
    char path[400];

    snprintf(path, sizeof path, "%s/model.safetensors", d->folder);
    ASSERT_OK(safetensors_write(path, d->views, d->count, NULL, &err));
    snprintf(path, sizeof path, "%s/config.json", d->folder);
    assert_int_equal(json_dump_file(d->config, path, 0), 0);
}

static void end(draft *d)
{
    tensor_set_close(d->source);
    json_decref(d->config);
    support_remove(d->folder);
}

static void expect_read(draft *d, const char *what)
{
    inlay_error err = {INLAY_OK, ""};
    backbone *b;

    write_draft(d);
    if (backbone_open(&b, d->folder, 0, &err) != INLAY_OK)
        fail_msg("%s: %s", what, err.message);
    backbone_close(b);
}

static void expect_refused(draft *d, const char *part)
{
    inlay_error err = {INLAY_OK, ""};
    backbone *b;

    write_draft(d);
    assert_int_not_equal(backbone_open(&b, d->folder, 0, &err), INLAY_OK);
    if (!strstr(err.message, part))
        fail_msg("'%s' is not in the message: %s", part, err.message);
}

static void put_in_front(draft *d, const char *prefix)
{
    assert_int_equal(d->count, tensor_set_count(d->source));
    for (int i = 0; i < d->count; i++) {
        snprintf(d->names[i], sizeof d->names[i], "%s%s", prefix, tensor_set_at(d->source, i)->name);
        d->views[i].name = d->names[i];
    }
}

/* One more tensor: the first of the source by another name. */
static void add(draft *d, const char *name)
{
    assert_true(d->count < MOST);
    d->views[d->count] = d->views[0];
    d->views[d->count++].name = name;
}

static tensor_view *find(draft *d, const char *name)
{
    for (int i = 0; i < d->count; i++)
        if (strcmp(d->views[i].name, name) == 0)
            return &d->views[i];
    fail_msg("no tensor '%s'", name);
    return NULL;
}

static void drop(draft *d, const char *name)
{
    *find(d, name) = d->views[d->count - 1];
    d->count--;
}

/* ---- prefixes ---- */

static void test_prefixes(void **state)
{
    static const char *const prefixes[] = {
        "_orig_mod.", "backbone.",         "module.",  "model.", "module.backbone.", "module._orig_mod.",
        "encoder.",   "state_dict.model.", "a.b.c.d.", "vit.",   "timm_model.",      "net_1."};
    static const char *const folders[] = {"vit", "vit_hf", "vit_hf5"};

    (void)state;
    for (size_t f = 0; f < sizeof folders / sizeof *folders; f++)
        for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++) {
            char path[300];
            draft d;
            snprintf(path, sizeof path, ORACLE "%s", folders[f]);
            begin(&d, path);
            put_in_front(&d, prefixes[i]);
            expect_read(&d, prefixes[i]);
            add(&d, "somewhere.else");
            expect_refused(&d, "'somewhere.else'");
            end(&d);
        }
}

/* A prefix ends at a dot, and a file holds one encoder. */
static void test_not_prefixes(void **state)
{
    draft d;

    (void)state;
    begin(&d, ORACLE "vit");
    put_in_front(&d, "my_");
    expect_refused(&d, "not a checkpoint of a known architecture");
    put_in_front(&d, "teacher.");
    add(&d, "student.patch_embed.proj.weight");
    expect_refused(&d, "two encoders");
    d.count--;
    put_in_front(&d, "");
    add(&d, "module.norm.weight");
    expect_refused(&d, "'module.norm.weight'");
    end(&d);
}

static void test_open_clip(void **state)
{
    static const char *const beside[] = {"logit_scale",
                                         "logit_bias",
                                         "text.transformer.resblocks.0.ln_1.weight",
                                         "visual.head.proj.weight",
                                         "transformer.resblocks.0.ln_1.weight",
                                         "token_embedding.weight",
                                         "positional_embedding",
                                         "text_projection"};
    inlay_error err;
    backbone *b;
    draft d;

    (void)state;
    begin(&d, ORACLE "vit");
    put_in_front(&d, "visual.trunk.");
    for (size_t i = 0; i < sizeof beside / sizeof *beside; i++)
        add(&d, beside[i]);
    expect_read(&d, "beside visual.trunk.");
    ASSERT_OK(backbone_open(&b, d.folder, 0, &err));
    assert_int_equal(b->passed_count, 8); /* each with its reason */
    for (int i = 0; i < b->passed_count; i++)
        assert_true(strlen(b->passed[i].reason) > 0);
    backbone_close(b);
    add(&d, "visual.else");
    expect_refused(&d, "'visual.else'");
    end(&d);
}

/* OpenCLIP's own names of a ViT that has a normalisation in front of its blocks. */
static void test_open_clip_names(void **state)
{
    static const char *const names[][2] = {{"cls_token", "class_embedding"},
                                           {"pos_embed", "positional_embedding"},
                                           {"patch_embed.proj.weight", "conv1.weight"},
                                           {"norm_pre.", "ln_pre."},
                                           {"norm.", "ln_post."},
                                           {".norm1.", ".ln_1."},
                                           {".norm2.", ".ln_2."},
                                           {".attn.qkv.weight", ".attn.in_proj_weight"},
                                           {".attn.qkv.bias", ".attn.in_proj_bias"},
                                           {".attn.proj.", ".attn.out_proj."},
                                           {".mlp.fc1.", ".mlp.c_fc."},
                                           {".mlp.fc2.", ".mlp.c_proj."}};
    inlay_error err;
    backbone *timm, *b;
    draft d;
    int more = 0;

    (void)state;
    begin(&d, ORACLE "variants/norm_pre");
    drop(&d, "head.weight");
    drop(&d, "head.bias");
    ASSERT_OK(backbone_open(&timm, ORACLE "variants/norm_pre", 0, &err));
    for (int i = 0; i < d.count; i++) {
        const char *name = d.views[i].name, *rest = strncmp(name, "blocks.", 7) == 0 ? name + 7 : name;
        for (size_t n = 0; n < sizeof names / sizeof *names; n++) {
            const char *at = strstr(rest, names[n][0]);
            if (at && (names[n][0][0] == '.' || at == name))
                snprintf(d.names[i], sizeof d.names[i], "visual.%s%.*s%s%s",
                         rest == name ? "" : "transformer.resblocks.", (int)(at - rest), rest, names[n][1],
                         at + strlen(names[n][0]));
        }
        assert_true(strlen(d.names[i]) > 0);
    }
    for (int i = 0; i < d.count; i++)
        d.views[i].name = d.names[i];
    add(&d, "visual.proj");
    expect_read(&d, "names of OpenCLIP");
    ASSERT_OK(backbone_open(&b, d.folder, 0, &err));
    assert_string_equal(b->shape.layout, "open clip");
    for (param *const *i = NULL; (i = backbone_each_param(timm, i));)
        more++;
    for (param *const *i = NULL; (i = backbone_each_param(b, i)); more--) {
        const param *p = *i, *same = backbone_param(timm, p->name);
        assert_non_null(same);
        assert_int_equal(p->count, same->count);
        assert_memory_equal(p->source, same->source, (size_t)p->count * dtype_size(p->source_type));
    }
    assert_int_equal(more, 2);
    backbone_close(b);
    backbone_close(timm);
    end(&d);
}

/* ---- what configuration says ---- */

/* Each key is set in model_args (or, of Hugging Face, in config.json itself), and refused with the message. */
typedef struct config_case {
    const char *key, *setting, *message;
} config_case;

static void check_cases(const char *from, const char *section, const config_case *cases, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        json_t *object;
        draft d;
        begin(&d, from);
        object = section ? json_object_get(d.config, section) : d.config;
        if (cases[i].setting)
            json_object_set_new(object, cases[i].key, json_loads(cases[i].setting, JSON_DECODE_ANY, NULL));
        else
            json_object_del(object, cases[i].key);
        if (cases[i].message)
            expect_refused(&d, cases[i].message);
        else
            expect_read(&d, cases[i].key);
        end(&d);
    }
}

static void test_timm_config(void **state)
{
    static const config_case arguments[] = {
        {"num_heads", NULL, "model_args.num_heads must say"},
        {"num_heads", "5", "5 heads do not divide"},
        {"num_heads", "\"2\"", "'num_heads' must be a positive integer"},
        {"embed_dim", "64", "model_args.embed_dim says that the width is 64, in the tensors it is 32"},
        {"depth", "12", "model_args.depth says that the number of blocks is 12, in the tensors it is 3"},
        {"patch_size", "16", "model_args.patch_size says that the side of a patch is 16, in the tensors it is 8"},
        {"patch_size", "[8, 8]", NULL},
        {"patch_size", "[8, 16]", "'patch_size' is 8 and 16"},
        {"mlp_ratio", "2", "model_args.mlp_ratio says"},
        {"mlp_layer", "\"swiglu\"", "model_args.mlp_layer is not supported"},
        {"block_fn", "\"ParallelScalingBlock\"", "model_args.block_fn is not supported"},
        {"norm_layer", "\"rmsnorm\"", "model_args.norm_layer has a value that is not supported"},
        {"norm_layer", "\"layernorm\"", NULL},
        {"in_chans", "1", "model_args.in_chans"},
        {"pos_embed", "\"none\"", "model_args.pos_embed"},
        {"dynamic_img_pad", "true", "model_args.dynamic_img_pad"},
        {"dynamic_img_pad", "false", NULL},
        {"act_layer", "\"hard_swish\"", "'act_layer' is 'hard_swish'"},
        {"global_pool", "\"avgmax\"", "global_pool 'avgmax' is not supported"},
        {"global_pool", "\"\"", "global_pool '' is not supported"},
        {"global_pool", "\"map\"", "'attn_pool.latent' is missing"},
        {"drop_path_rate", "0.1", NULL},
        {"init_values", "null", NULL},
        {"img_size", "[32, 0]", "'img_size'"},
    };

    (void)state;
    check_cases(ORACLE "vit", "model_args", arguments, sizeof arguments / sizeof *arguments);
}

static void test_architectures(void **state)
{
    static const config_case names[] = {
        {"architecture", "\"vit_giant_patch14_dinov2\"",
         "'vit_giant_patch14_dinov2' is not supported: it has feed-forward part of kind GluMlp"},
        {"architecture", "\"vit_base_r50_s16_224\"", "patch embedding HybridEmbed"},
        {"architecture", "\"vit_dwee_patch16_reg1_gap_256\"", "DiffAttention"},
        {"architecture", "\"test_vit4\"", "RmsNorm"},
        {"architecture", "\"no_such_architecture\"", NULL}, /* model_args.num_heads says what is needed */
        {"model_args", NULL, "architecture 'vit_custom' is not one that is known"},
    };
    draft d;

    (void)state;
    check_cases(ORACLE "vit", NULL, names, sizeof names / sizeof *names);
    begin(&d, ORACLE "vit"); /* heads of a name go with its width */
    json_object_del(d.config, "model_args");
    json_object_set_new(d.config, "architecture", json_string("vit_tiny_patch16_224"));
    expect_refused(&d, "architecture says that the width is 192, in the tensors it is 32");
    json_object_set_new(d.config, "architecture", json_string("vit_base_patch16_reg4_gap_256"));
    json_object_set_new(d.config, "model_args",
                        json_pack("{s:i, s:i, s:i}", "embed_dim", 32, "num_heads", 2, "patch_size", 8));
    expect_refused(&d, "'reg_token' is missing");
    end(&d);
}

/* One block of zeros of vit_xsmall_patch16_clip_224, with the tensors that it has. */
static void begin_zeros(draft *d)
{
    enum { WIDTH = 256, PATCH = 16, ROWS = 197 };
    static float zeros[4 * WIDTH * WIDTH];
    static const struct {
        const char *name;
        int rows, columns; /* times the width; 0: one dimension */
    } parts[] = {{"norm_pre.weight", 1, 0},
                 {"norm_pre.bias", 1, 0},
                 {"blocks.0.norm1.weight", 1, 0},
                 {"blocks.0.norm1.bias", 1, 0},
                 {"blocks.0.attn.qkv.weight", 3, 1},
                 {"blocks.0.attn.qkv.bias", 3, 0},
                 {"blocks.0.attn.proj.weight", 1, 1},
                 {"blocks.0.attn.proj.bias", 1, 0},
                 {"blocks.0.norm2.weight", 1, 0},
                 {"blocks.0.norm2.bias", 1, 0},
                 {"blocks.0.mlp.fc1.weight", 4, 1},
                 {"blocks.0.mlp.fc1.bias", 4, 0},
                 {"blocks.0.mlp.fc2.weight", 1, 4},
                 {"blocks.0.mlp.fc2.bias", 1, 0},
                 {"norm.weight", 1, 0},
                 {"norm.bias", 1, 0}};

    *d = (draft){.folder = support_folder(),
                 .config = json_pack("{s:s}", "architecture", "vit_xsmall_patch16_clip_224")};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        int64_t rows = parts[i].rows * WIDTH, columns = parts[i].columns * WIDTH;
        d->views[d->count++] = (tensor_view){.name = parts[i].name,
                                             .type = DTYPE_F32,
                                             .ndim = columns ? 2 : 1,
                                             .data = zeros,
                                             .dims = {rows, columns},
                                             .count = columns ? rows * columns : rows};
    }
    d->views[d->count++] = (tensor_view){
        .name = "cls_token", .type = DTYPE_F32, .ndim = 3, .data = zeros, .dims = {1, 1, WIDTH}, .count = WIDTH};
    d->views[d->count++] = (tensor_view){.name = "pos_embed",
                                         .type = DTYPE_F32,
                                         .ndim = 3,
                                         .data = zeros,
                                         .dims = {1, ROWS, WIDTH},
                                         .count = ROWS * WIDTH};
    d->views[d->count++] = (tensor_view){.name = "patch_embed.proj.weight",
                                         .type = DTYPE_F32,
                                         .ndim = 4,
                                         .data = zeros,
                                         .dims = {WIDTH, 3, PATCH, PATCH},
                                         .count = WIDTH * 3 * PATCH * PATCH};
}

static void test_named(void **state)
{
    inlay_error err;
    backbone *b;
    draft d;

    (void)state;
    begin_zeros(&d);
    write_draft(&d);
    ASSERT_OK(backbone_open(&b, d.folder, 0, &err));
    assert_int_equal(b->shape.heads, 4); /* neither width / 64 of a small model, nor 6 of other small ones by luck */
    assert_true(b->shape.eps > 0.99e-5 && b->shape.eps < 1.01e-5);
    assert_int_equal(b->shape.height, 224);
    assert_int_equal(b->shape.pool, POOL_TOKEN);
    assert_non_null(strstr(b->described_by, "vit_xsmall_patch16_clip_224"));
    backbone_close(b);
    json_object_set_new(d.config, "model_args",
                        json_pack("{s:i, s:s, s:f}", "num_heads", 8, "act_layer", "quick_gelu", "norm_eps", 1e-4));
    write_draft(&d);
    ASSERT_OK(backbone_open(&b, d.folder, 0, &err));
    assert_int_equal(b->shape.heads, 8);
    assert_int_equal(b->shape.act, ACT_QUICK_GELU);
    assert_true(b->shape.eps > 0.99e-4 && b->shape.eps < 1.01e-4);
    backbone_close(b);
    drop(&d, "norm_pre.weight");
    drop(&d, "norm_pre.bias");
    expect_refused(&d, "'norm_pre.weight' is missing");
    json_decref(d.config);
    support_remove(d.folder);
}

static void test_hf_config(void **state)
{
    static const config_case keys[] = {
        {"model_type", "\"swin\"", "model_type 'swin' is not supported (known: vit, deit, vit_mae"},
        {"model_type", "\"dinov3_vit\"", "model_type 'dinov3_vit' is not supported"},
        {"model_type", "\"vit_msn\"", NULL},
        {"model_type", NULL, NULL},
        {"model_type", "\"clip_vision_model\"", "the tensors have names of another"},
        {"hidden_size", "64", "hidden_size says that the width is 64, in the tensors it is 32"},
        {"hidden_size", NULL, "model_type says that the width is 768"},
        {"num_hidden_layers", "12", "num_hidden_layers says that the number of blocks is 12, in the tensors it is 3"},
        {"patch_size", "[16, 16]", "patch_size says that the side of a patch is 16, in the tensors it is 8"},
        {"intermediate_size", "64",
         "intermediate_size says that the width of the feed-forward part is 64, in the tensors it is 128"},
        {"num_attention_heads", "3", "3 heads do not divide"},
        {"num_channels", "1", "'num_channels' is 1, which is not supported"},
        {"use_swiglu_ffn", "true", "'use_swiglu_ffn' is true, which is not supported"},
        {"hidden_act", "\"mish\"", "'hidden_act' is 'mish'"},
        {"image_size", "[32, 32]", NULL},
        {"image_size", "[32, 32, 3]", "'image_size' must be a positive integer, or two"},
        {"image_size", "4", "sides from a patch's 8"},
    };
    static const config_case towers[] = {
        {"vision_config", NULL, "'vision_config' must be an object"},
        {"vision_config", "[]", "'vision_config' must be an object"},
        {"model_type", NULL, "there is no model_type"},
        {"model_type", "\"vit\"", "the tensors have names of another"},
    };

    (void)state;
    check_cases(ORACLE "vit_hf", NULL, keys, sizeof keys / sizeof *keys);
    check_cases(ORACLE "hf/SiglipModel", NULL, towers, sizeof towers / sizeof *towers);
}

/* ---- tensors ---- */

static void test_blocks(void **state)
{
    draft d;

    (void)state;
    begin(&d, ORACLE "variants/layerscale");
    drop(&d, "blocks.1.ls1.gamma"); /* without it, that block's branches would not be scaled */
    expect_refused(&d, "'blocks.1.ls1.gamma' is missing");
    end(&d);
    begin(&d, ORACLE "variants/layerscale");
    drop(&d, "blocks.0.ls2.gamma");
    expect_refused(&d, "'blocks.0.ls2.gamma' is missing");
    end(&d);
    begin(&d, ORACLE "vit");
    find(&d, "blocks.1.attn.qkv.bias")->name = "blocks.1.ls1.gamma";
    expect_refused(&d, "'blocks.1.attn.qkv.bias' is missing");
    end(&d);
    begin(&d, ORACLE "vit");
    drop(&d, "blocks.0.attn.proj.bias");
    expect_refused(&d, "there is a tensor 'blocks.1.attn.proj.bias', but no 'blocks.0.attn.proj.bias'");
    end(&d);
    begin(&d, ORACLE "vit");
    drop(&d, "norm.weight");
    expect_refused(&d, "'norm.weight' is missing");
    end(&d);
}

static void test_limits(void **state)
{
    static float zeros[16448 * 3];
    const tensor_view few[] = {
        {.name = "patch_embed.proj.weight",
         .type = DTYPE_F32,
         .ndim = 4,
         .data = zeros,
         .dims = {16448, 3, 1, 1},
         .count = 16448 * 3},
        {.name = "blocks.0.norm1.weight", .type = DTYPE_F32, .ndim = 1, .data = zeros, .dims = {1}, .count = 1},
        {.name = "blocks.0.mlp.fc1.weight", .type = DTYPE_F32, .ndim = 2, .data = zeros, .dims = {1, 1}, .count = 1},
    };
    draft d = {.folder = support_folder(), .config = json_pack("{s:{s:i}}", "model_args", "num_heads", 257)};

    (void)state;
    memcpy(d.views, few, sizeof few);
    d.count = 3;
    expect_refused(&d, "a width of 16448: at most 16384");
    d.count = 1;
    expect_refused(&d, "a model without blocks is not supported");
    json_decref(d.config);
    support_remove(d.folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_prefixes),    cmocka_unit_test(test_not_prefixes),
        cmocka_unit_test(test_open_clip),   cmocka_unit_test(test_open_clip_names),
        cmocka_unit_test(test_timm_config), cmocka_unit_test(test_architectures),
        cmocka_unit_test(test_named),       cmocka_unit_test(test_hf_config),
        cmocka_unit_test(test_blocks),      cmocka_unit_test(test_limits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
