/* An adapter on the weights that it was trained on, with another word in the checkpoint's configuration: every key of
 * every file, by the tables that read them. Either the answers stay as they are to the last bit, or the command
 * refuses, in one line that names the key, its file or tensor, or what of the model is another. And a feature cache
 * that was filled before the change is of no use after it. A key that is new in a table is covered by itself; one that
 * is read also needs values in `tried` below. */
#include "cli/command.h"

#include "backbones/vit_config.h"

#define MOST_VALUES 8

/* Values that are tried for keys that are read. */
static const struct tried {
    const char *key;
    bool decides; /* at least one of them makes another model or other pixels in at least one of the checkpoints */
    const char *values[MOST_VALUES];
} tried[] = {
    /* timm */
    {"architecture", false, {"\"vit_other\"", "\"vit_tiny_patch16_224\"", "\"deit_tiny_distilled_patch16_224\""}},
    {"model_args", false, {"{}", "null"}},
    {"global_pool", true, {"\"token\"", "\"avg\"", "\"map\""}},
    {"label_names", false, {"[\"a\", \"b\", \"c\", \"d\", \"e\"]"}},
    {"inlay", true, {"{\"norm_eps\": 0.01}", "{\"crop_down\": true}"}},
    {"pretrained_cfg", true, {"{}", "null"}},
    {"model_type", true, {"\"timm_wrapper\"", "\"deit\"", "\"vit_msn\"", "\"dinov2_with_registers\"", "\"dinov2\""}},
    {"id2label", false, {"{}", "{\"0\": \"a\"}"}},
    {"input_size", true, {"[3, 64, 64]", "[3, 16, 64]"}},
    {"interpolation", true, {"\"bilinear\"", "\"nearest\"", "\"lanczos\""}},
    {"crop_pct", true, {"0.5", "0.875", "0"}},
    {"crop_mode", true, {"\"squash\"", "\"border\""}},
    {"mean", true, {"[0.4, 0.5, 0.6]", "0.25"}},
    {"std", true, {"[0.4, 0.5, 0.6]", "0.25"}},
    {"tag", false, {"\"other\""}},
    {"num_heads", true, {"1", "4"}},
    {"img_size", true, {"64", "16", "[16, 64]", "[64, 16]"}},
    {"norm_eps", true, {"0.01", "1e-5"}},
    {"act_layer", true, {"\"quick_gelu\"", "\"relu\""}},
    {"embed_dim", true, {"64"}},
    {"depth", true, {"2"}},
    {"patch_size", true, {"4", "16"}},
    {"mlp_ratio", true, {"2"}},
    {"pool_include_prefix", true, {"true", "false"}},
    {"crop_down", true, {"true", "false"}},
    /* Hugging Face */
    {"hidden_size", true, {"64"}},
    {"num_hidden_layers", true, {"2"}},
    {"num_attention_heads", true, {"1", "4"}},
    {"intermediate_size", true, {"64"}},
    {"image_size", true, {"64", "16", "[16, 64]", "[64, 16]", "[8, 392]"}},
    {"layer_norm_eps", true, {"0.01", "1e-5"}},
    {"hidden_act", true, {"\"quick_gelu\"", "\"relu\"", "\"gelu_new\""}},
    {"vision_config", false, {"{}", "{\"num_attention_heads\": 4}"}},
    {"image_processor_type", true, {"\"CLIPImageProcessor\"", "\"DeiTImageProcessor\"", "\"BeitImageProcessor\""}},
    {"feature_extractor_type", true, {"\"CLIPFeatureExtractor\"", "\"DeiTFeatureExtractor\""}},
    {"do_resize", true, {"false"}},
    {"size", true, {"{\"shortest_edge\": 40}", "64", "{\"height\": 16, \"width\": 64}"}},
    {"default_to_square", true, {"false", "true"}},
    {"do_center_crop", true, {"true", "false"}},
    {"crop_size", true, {"16", "36"}},
    {"do_rescale", true, {"false"}},
    {"rescale_factor", true, {"0.01"}},
    {"do_normalize", true, {"false"}},
    {"image_mean", true, {"[0.4, 0.5, 0.6]", "0.25"}},
    {"image_std", true, {"[0.4, 0.5, 0.6]", "0.25"}},
};
#define TRIED (sizeof tried / sizeof *tried)

static bool decided[TRIED];

/* For keys that the table calls harmless, or that have few values that are supported. */
static const char *const usual[] = {"true", "3", "\"avg\""};

/* A checkpoint: files of the oracle's with some keys set, as "file section key value" (section "-": the root). */
static const struct checkpoint {
    const char *name, *source;
    bool timm;
    bool all; /* keys that are called harmless are tried as well */
    const char *set[8];
} checkpoints[] = {
    {"timm-token", VIT, true, false, {NULL}},
    {"timm-average",
     VIT,
     true,
     true,
     {"config.json - global_pool \"avg\"", "config.json model_args global_pool \"avg\"",
      "config.json pretrained_cfg crop_pct 0.9"}},
    {"timm-bare",
     VIT,
     true,
     false,
     {"config.json model_args global_pool null", "config.json model_args img_size null"}},
    {"hf", TEST_DATA "/oracle/vit_hf", false, true, {NULL}},
    {"hf-crop",
     TEST_DATA "/oracle/vit_hf",
     false,
     false,
     {"preprocessor_config.json - size 36", "preprocessor_config.json - crop_size 32",
      "preprocessor_config.json - do_center_crop true", "preprocessor_config.json - image_processor_type null",
      "preprocessor_config.json - resample null"}},
    {"hf-resampled", TEST_DATA "/oracle/hf/Dinov2Resampled", false, false, {NULL}},
};

/* ---- files ---- */

static void set_key(const char *folder_name, const char *file, const char *section, const char *key, const char *json)
{
    char path[300], relative[100];
    json_t *root, *object, *item = json_loads(json, JSON_DECODE_ANY, NULL);

    assert_non_null(item);
    snprintf(relative, sizeof relative, "%s/%s", folder_name, file);
    root = json_of(relative);
    object = root;
    if (strcmp(section, "-") != 0) {
        if (!json_is_object(json_object_get(root, section)))
            json_object_set_new(root, section, json_object());
        object = json_object_get(root, section);
    }
    json_object_set_new(object, key, item);
    path_in(path, relative);
    assert_int_equal(json_dump_file(root, path, JSON_INDENT(1)), 0);
    json_decref(root);
}

static void make_checkpoint(const struct checkpoint *c)
{
    expect(shell("rm -rf model base run cache && mkdir model && cp '%s'/*.json '%s'/model.safetensors model/ && "
                 "rm -f model/expected*",
                 c->source, c->source),
           0);
    for (int i = 0; i < 8 && c->set[i]; i++) {
        char file[64], section[64], key[64], json[64];
        assert_int_equal(sscanf(c->set[i], "%63s %63s %63s %63s", file, section, key, json), 4);
        set_key("model", file, section, key, json);
    }
    expect(shell("cp -r model base"), 0);
}

/* Images of which no side is the other: whatever changes the crop changes the pixels. */
static void make_images(const char *split, int classes, int per_class)
{
    uint32_t state = 1;

    for (int i = 0; i < classes * per_class; i++) {
        char path[300], name[80];
        FILE *out;
        expect(shell("mkdir -p oblong/%s/class%d", split, i % classes), 0);
        snprintf(name, sizeof name, "oblong/%s/class%d/%d.ppm", split, i % classes, i);
        path_in(path, name);
        out = fopen(path, "wb");
        assert_non_null(out);
        fprintf(out, "P6 57 41 255\n");
        for (int p = 0; p < 57 * 41 * 3; p++) {
            state = state * 1664525u + 1013904223u;
            fputc((int)(state >> 26) + 40 * (i % classes) + p / 41 % 60, out);
        }
        assert_int_equal(fclose(out), 0);
    }
}

/* ---- one key ---- */

static int predict(void)
{
    return inlay("predict --backbone model --adapter run --threads 1 --json --logits oblong/test");
}

static int train(const char *output, const char *cache)
{
    return inlay("train --backbone model --data oblong --eval-split none --quiet --threads 1 --workers 1 --epochs 2 "
                 "--batch-size 6 --warmup-epochs 0 --drop-layers 2 --backbone-drop-path 0 --overwrite "
                 "--cache-dir %s --output %s",
                 cache, output);
}

static const struct tried *find_tried(const char *key)
{
    for (size_t i = 0; i < TRIED; i++)
        if (strcmp(tried[i].key, key) == 0)
            return &tried[i];
    return NULL;
}

/* What an adapter of before says to the changed file. Whether it noticed. */
static bool check_answers(const char *key, const char *what)
{
    int status = predict();

    if (status != 0) {
        const char *text = text_of("err.txt"), *end = strchr(text, '\n');
        if (status > 2 || !end || end[1])
            fail_msg("%s: exit status %d, expected one line of an error: %s", what, status, text);
        if (!strstr(text, key) && !strstr(text, "backbone.") && !strstr(text, "config.json") &&
            !strstr(text, "tensor '"))
            fail_msg("%s: no name in: %s", what, text);
        return true;
    }
    if (shell("cmp -s out.txt answers.txt") != 0)
        fail_msg("%s: other answers, and no refusal", what);
    return false;
}

/* A run with the cache of before is the run with a new one. Whether it is another run than before the change. */
static bool check_cache(const char *what)
{
    expect(shell("rm -rf stale fresh && cp -r cache stale"), 0);
    if (train("one", "fresh") != 0)
        return true;
    expect(train("two", "stale"), 0);
    if (shell("cmp -s one/adapter.safetensors two/adapter.safetensors") != 0)
        fail_msg("%s: features of before the change were used", what);
    return shell("cmp -s one/adapter.safetensors run/adapter.safetensors") != 0;
}

static void try_value(const struct checkpoint *c, const char *file, const char *section, const char *key,
                      const char *json, const struct tried *row)
{
    char what[256];
    bool noticed, another;

    snprintf(what, sizeof what, "%s: %s, %s.%s = %s", c->name, file, section, key, json);
    expect(shell("rm -rf model && cp -r base model"), 0);
    set_key("model", file, section, key, json);
    noticed = check_answers(key, what);
    if (!row)
        return;
    another = check_cache(what);
    if (row->decides && (noticed || another))
        decided[row - tried] = true;
}

static void try_key(const struct checkpoint *c, const char *file, const char *section, const char *key, bool read)
{
    const struct tried *row = read ? find_tried(key) : NULL;

    if (read && !row)
        fail_msg("%s: '%s' is read, but no value is tried", file, key);
    for (int i = 0; row && i < MOST_VALUES && row->values[i]; i++)
        try_value(c, file, section, key, row->values[i], row);
    for (size_t i = 0; c->all && !row && i < sizeof usual / sizeof *usual; i++)
        try_value(c, file, section, key, usual[i], NULL);
}

static void try_table(const struct checkpoint *c, const char *file, const char *section, const config_key *keys)
{
    for (; keys->name; keys++)
        try_key(c, file, section, keys->name, !keys->harmless && !keys->expected);
}

static void try_checkpoint(const struct checkpoint *c)
{
    make_checkpoint(c);
    expect(train("run", "cache"), 0);
    expect(predict(), 0);
    expect(shell("mv out.txt answers.txt"), 0);
    assert_int_equal(shell("ls cache/*.cache >/dev/null"), 0);
    if (!c->timm) {
        try_table(c, "config.json", "-", vit_hf_keys);
        try_table(c, "preprocessor_config.json", "-", vit_hf_input_keys);
        return;
    }
    try_table(c, "config.json", "-", vit_timm_root_keys);
    try_table(c, "config.json", "pretrained_cfg", vit_timm_cfg_keys);
    try_table(c, "config.json", "inlay", vit_timm_own_keys);
    for (const vit_argument *a = vit_timm_arguments; a->name; a++)
        try_key(c, "config.json", "model_args", a->name, !a->harmless && !a->expected);
}

static void test_every_key(void **state)
{
    (void)state;
    make_images("train", 3, 4);
    make_images("test", 3, 1);
    for (size_t i = 0; i < sizeof checkpoints / sizeof *checkpoints; i++)
        try_checkpoint(&checkpoints[i]);
    for (size_t i = 0; i < TRIED; i++)
        if (tried[i].decides && !decided[i])
            fail_msg("'%s' decides nothing with the values that are tried", tried[i].key);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_every_key)};

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
