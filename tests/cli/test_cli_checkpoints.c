/* What a checkpoint says of itself, from end to end: adapters on another configuration of the same weights, records of
 * earlier versions, folded checkpoints, and names of classes. */
#include "command.h"

#include <math.h>

#define TRAIN "train --data data --epochs 1 --batch-size 4 --quiet --no-tensorboard --precision f32 --threads 1 "
#define ASK "predict --json --logits --quiet --precision f32 data/test "

static int make_data(void **state)
{
    char data[300];

    (void)state;
    snprintf(folder, sizeof folder, "%s", support_folder());
    path_in(data, "data");
    support_images(data, "train", 3, 4, 40);
    support_images(data, "test", 3, 2, 50);
    return 0;
}

static void must_run(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void must_run(const char *format, ...)
{
    char line[1500], command[1800];
    va_list list;

    va_start(list, format);
    vsnprintf(line, sizeof line, format, list);
    va_end(list);
    snprintf(command, sizeof command, "cd '%s' || exit 1\n%s", folder, line);
    assert_int_equal(system(command), 0);
}

static json_t *load(const char *name)
{
    char path[300];
    json_t *root;

    path_in(path, name);
    root = json_load_file(path, 0, NULL);
    assert_non_null(root);
    return root;
}

static void save(const char *name, json_t *root)
{
    char path[300];

    path_in(path, name);
    assert_int_equal(json_dump_file(root, path, JSON_INDENT(1) | JSON_REAL_PRECISION(9)), 0);
    json_decref(root);
}

/* Sets a key of an object inside a JSON file, "" being the file's own. */
static void change(const char *name, const char *inside, const char *key, json_t *item)
{
    json_t *root = load(name);

    assert_int_equal(json_object_set_new(*inside ? json_object_get(root, inside) : root, key, item), 0);
    save(name, root);
}

/* The logits of the last answer, in one array. */
static double *logits_said(size_t *count)
{
    json_t *root = json_of("out.txt"), *results = json_object_get(root, "results");
    double *all = calloc(4096, sizeof *all);

    *count = 0;
    for (size_t i = 0; i < json_array_size(results); i++) {
        const json_t *logits = json_object_get(json_array_get(results, i), "logits");
        for (size_t c = 0; c < json_array_size(logits); c++)
            all[(*count)++] = json_number_value(json_array_get(logits, c));
    }
    json_decref(root);
    assert_true(*count > 0);
    return all;
}

static double distance(const double *a, size_t count)
{
    size_t found;
    double *b = logits_said(&found), most = 0;

    assert_int_equal(found, count);
    for (size_t i = 0; i < count; i++)
        most = fmax(most, fabs(a[i] - b[i]));
    free(b);
    return most;
}

static void copy_backbone(const char *to)
{
    must_run("rm -rf %s && mkdir %s && cp '" VIT "'/model.safetensors '" VIT "'/config.json %s/", to, to, to);
}

/* ---- what the model is a function of ---- */

static void test_other_configurations_are_refused(void **state)
{
    static const struct {
        const char *inside, *key, *json, *named;
    } members[] = {{"model_args", "num_heads", "4", "'backbone.heads' is 2"},
                   {"model_args", "norm_eps", "0.5", "'backbone.norm_eps' is 1e-6"},
                   {"model_args", "act_layer", "\"relu\"", "'backbone.activation' is \"gelu\""},
                   {"model_args", "global_pool", "\"avg\"", "'backbone.pool' is \"token\""}};
    size_t count;
    double *before;

    (void)state;
    copy_backbone("base");
    expect(inlay(TRAIN "--backbone base --method lora --output lora"), 0);
    expect(inlay(ASK "--backbone base --adapter lora"), 0);
    before = logits_said(&count);
    for (size_t i = 0; i < sizeof members / sizeof *members; i++) {
        copy_backbone("other");
        change("other/config.json", members[i].inside, members[i].key,
               json_loads(members[i].json, JSON_DECODE_ANY, NULL));
        expect_error(inlay(ASK "--backbone other --adapter lora"), 1, members[i].named);
        expect(inlay(ASK "--backbone other --adapter lora --force-backbone"), 0);
        assert_true(distance(before, count) > 1e-6);
    }
    free(before);
}

/* Mean and deviation are those of the training, whatever the checkpoint says now. */
static void test_recorded_normalisation_is_used(void **state)
{
    size_t count;
    double *before;

    (void)state;
    copy_backbone("base");
    expect(inlay(TRAIN "--backbone base --method linear --output linear"), 0);
    expect(inlay(ASK "--backbone base --adapter linear"), 0);
    before = logits_said(&count);
    change("base/config.json", "pretrained_cfg", "mean", json_pack("[f,f,f]", 0.1, 0.2, 0.3));
    change("base/config.json", "pretrained_cfg", "std", json_pack("[f,f,f]", 0.9, 0.8, 0.7));
    expect(inlay(ASK "--backbone base --adapter linear"), 0);
    assert_true(distance(before, count) == 0);
    change("linear/adapter.json", "preprocessing", "mean", json_pack("[f,f,f]", 0.1, 0.2, 0.3));
    expect(inlay(ASK "--backbone base --adapter linear"), 0);
    assert_true(distance(before, count) > 1e-6);
    free(before);
}

/* Without a version, "squash" is the whole image whatever crop_pct says; facts that are not there are not compared. */
static void test_records_of_earlier_versions(void **state)
{
    size_t count;
    double *before;
    json_t *about;

    (void)state;
    copy_backbone("base");
    expect(inlay(TRAIN "--backbone base --method linear --crop-mode squash --output old"), 0);
    expect(inlay(ASK "--backbone base --adapter old"), 0);
    before = logits_said(&count);
    change("old/adapter.json", "preprocessing", "crop_pct", json_real(0.7));
    expect(inlay(ASK "--backbone base --adapter old"), 0);
    assert_true(distance(before, count) > 1e-6);
    about = load("old/adapter.json");
    json_object_del(json_object_get(about, "preprocessing"), "version");
    json_object_del(json_object_get(about, "backbone"), "heads");
    json_object_del(json_object_get(about, "backbone"), "norm_eps");
    save("old/adapter.json", about);
    expect(inlay(ASK "--backbone base --adapter old"), 0);
    assert_true(distance(before, count) == 0);
    change("old/adapter.json", "preprocessing", "version", json_integer(3));
    expect_error(inlay(ASK "--backbone base --adapter old"), 1, "preprocessing.version");
    free(before);
}

static void test_nonsense_in_a_record(void **state)
{
    static const char *const members[][3] = {{"crop_pct", "-1", "preprocessing.crop_pct"},
                                             {"crop_pct", "\"0.9\"", "preprocessing.crop_pct"},
                                             {"crop_pct", "7", "preprocessing.crop_pct"},
                                             {"std", "[0, 1, 1]", "'std' has 0"},
                                             {"std", "[-1, 1, 1]", "'std' has -1"},
                                             {"std", "[1e-45, 1, 1]", "'std' has"},
                                             {"std", "[1, 1]", "preprocessing.std"},
                                             {"mean", "[1e300, 0, 0]", "'mean' has inf"},
                                             {"mean", "\"x\"", "preprocessing.mean"},
                                             {"size", "[64, 64]", "preprocessing.size"},
                                             {"size", "32", "preprocessing.size"},
                                             {"crop_mode", "\"stretch\"", "crop_mode 'stretch'"},
                                             {"crop_mode", "1", "preprocessing.crop_mode"},
                                             {"interpolation", "\"sinc\"", "interpolation 'sinc'"},
                                             {"exif_orientation", "1", "preprocessing.exif_orientation"},
                                             {"crop_down", "\"no\"", "preprocessing.crop_down"}};

    (void)state;
    copy_backbone("base");
    expect(inlay(TRAIN "--backbone base --method linear --output good"), 0);
    for (size_t i = 0; i < sizeof members / sizeof *members; i++) {
        must_run("rm -rf bad && cp -r good bad");
        change("bad/adapter.json", "preprocessing", members[i][0], json_loads(members[i][1], JSON_DECODE_ANY, NULL));
        expect_error(inlay(ASK "--backbone base --adapter bad"), 1, members[i][2]);
        assert_non_null(strstr(text_of("err.txt"), "bad/adapter.json"));
    }
    change("bad/adapter.json", "", "preprocessing", json_string("squash"));
    expect_error(inlay(ASK "--backbone base --adapter bad"), 1, "'preprocessing' must be an object");
}

#define LONG "--backbone base --method linear --epochs 100000 --output run "

static void test_resume_with_another_configuration(void **state)
{
    (void)state;
    copy_backbone("base");
    must_run("'%s' " TRAIN LONG
             "& p=$!; while [ ! -f run/checkpoint.safetensors ]; do sleep 0.02; done; kill -TERM $p; wait $p || true",
             INLAY_BINARY);
    change("base/config.json", "model_args", "num_heads", json_integer(4));
    expect_error(inlay(TRAIN LONG "--resume"), 1, "'model.heads' was 2, now 4");
}

/* ---- fold ---- */

static void test_fold_replaces_nothing_unasked(void **state)
{
    (void)state;
    copy_backbone("base");
    expect(inlay(TRAIN "--backbone base --method lora --overwrite --output lora"), 0);
    expect_error(inlay("fold --backbone base --adapter lora --output base"), 2, "is the folder of --backbone");
    expect_error(inlay("fold --backbone base/model.safetensors --adapter lora --output ./base/."), 2,
                 "is the folder of --backbone");
    expect_error(inlay("fold --backbone base --adapter lora --output lora --overwrite"), 2,
                 "is the folder of --adapter");
    must_run("ln -sfn base alias");
    expect_error(inlay("fold --backbone alias --adapter lora --output base --overwrite"), 2,
                 "is the folder of --backbone");
    expect(inlay("fold --backbone base --adapter lora --output folded"), 0);
    expect_error(inlay("fold --backbone base --adapter lora --output folded"), 2, "--overwrite");
    expect(inlay("fold --backbone base --adapter lora --output folded --overwrite"), 0);
    expect(inlay(ASK "--backbone base --adapter lora"), 0);
}

/* Every kind of checkpoint, folded, answers as before: what timm has no key for is kept. */
static void test_folded_checkpoints_answer_as_before(void **state)
{
    static const char *const members[] = {"vit",
                                          "vit_hf",
                                          "vit_hf5",
                                          "vit_jax.npz",
                                          "vit_sharded",
                                          "hf/CLIPForImageClassification",
                                          "hf/SiglipModel",
                                          "hf/DeiTForImageClassification",
                                          "hf/Dinov2WithRegistersModel",
                                          "hf/IJepaModel",
                                          "hf/ViTOblong",
                                          "hf/ViTRemainder"};

    (void)state;
    for (size_t i = 0; i < sizeof members / sizeof *members; i++) {
        size_t count;
        double *before, apart;
        json_t *config, *args;
        must_run("rm -rf a f");
        expect(inlay(TRAIN "--backbone " TEST_DATA "/oracle/%s --method linear --output a", members[i]), 0);
        expect(inlay(ASK "--backbone " TEST_DATA "/oracle/%s --adapter a", members[i]), 0);
        before = logits_said(&count);
        expect(inlay("fold --backbone " TEST_DATA "/oracle/%s --adapter a --output f", members[i]), 0);
        expect(inlay(ASK "--backbone f"), 0);
        apart = distance(before, count);
        if (!(apart < 1e-6))
            fail_msg("%s: %g apart", members[i], apart);
        config = load("f/config.json");
        args = json_object_get(config, "model_args");
        assert_null(json_object_get(args, "norm_eps")); /* timm does not know it */
        assert_true(json_is_true(json_object_get(args, "qkv_bias")));
        assert_int_equal(json_array_size(json_object_get(config, "label_names")), 3);
        json_decref(config);
        free(before);
    }
}

static void test_fold_of_a_squash(void **state)
{
    json_t *config;
    const json_t *cfg;

    (void)state;
    copy_backbone("base");
    change("base/config.json", "pretrained_cfg", "crop_pct", json_real(0.9));
    expect(inlay(TRAIN "--backbone base --method linear --crop-mode squash --output whole"), 0);
    expect(inlay("fold --backbone base --adapter whole --output f1"), 0);
    config = load("f1/config.json");
    cfg = json_object_get(config, "pretrained_cfg");
    assert_string_equal(json_string_value(json_object_get(cfg, "crop_mode")), "squash");
    assert_true(json_number_value(json_object_get(cfg, "crop_pct")) == 1);
    json_decref(config);
    expect(inlay(TRAIN "--backbone base --method linear --crop-mode squash --crop-pct 0.8 --output part"), 0);
    expect(inlay("fold --backbone base --adapter part --output f2"), 0);
    config = load("f2/config.json");
    assert_true(json_number_value(json_object_get(json_object_get(config, "pretrained_cfg"), "crop_pct")) == 0.8);
    json_decref(config);
}

/* ---- names of classes ---- */

static void test_names_on_the_command_line(void **state)
{
    (void)state;
    copy_backbone("base");
    change("base/config.json", "", "label_names", json_null());
    expect(inlay("predict --backbone base data/test --quiet"), 0);
    assert_non_null(strstr(text_of("err.txt"), "does not name the 5 classes of its head"));
    must_run("printf 'ant\\nbee\\ncat\\ndog\\neel\\n' >names.txt");
    expect(inlay("predict --backbone base data/test --quiet --labels names.txt"), 0);
    assert_null(strstr(text_of("err.txt"), "does not name"));
    assert_non_null(strstr(text_of("out.txt"), "eel"));
    must_run("printf 'ant\\nbee\\n' >short.txt");
    expect_error(inlay("predict --backbone base data/test --labels short.txt"), 2,
                 "short.txt names 2 classes, the head of 'base' has 5");
    expect(inlay(TRAIN "--backbone base --method linear --output l"), 0);
    expect_error(inlay("predict --backbone base --adapter l data/test --labels names.txt"), 2, "--labels");
    change("base/config.json", "", "label_names", json_pack("[s,s]", "first", "second"));
    expect(inlay("predict --backbone base data/test --quiet"), 0);
    assert_non_null(strstr(text_of("err.txt"), "names for 2 classes, the head has 5"));
    must_run("printf 'path,label\\n' >list.csv; for f in data/test/*/*; do echo \"$f,4\" >>list.csv; done");
    expect(inlay("eval --backbone base --data list.csv --quiet --per-class --confusion c.csv"), 0);
    assert_non_null(strstr(text_of("c.csv"), "first,second,2,3,4"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_other_configurations_are_refused),
        cmocka_unit_test(test_recorded_normalisation_is_used),
        cmocka_unit_test(test_records_of_earlier_versions),
        cmocka_unit_test(test_nonsense_in_a_record),
        cmocka_unit_test(test_resume_with_another_configuration),
        cmocka_unit_test(test_fold_replaces_nothing_unasked),
        cmocka_unit_test(test_folded_checkpoints_answer_as_before),
        cmocka_unit_test(test_fold_of_a_squash),
        cmocka_unit_test(test_names_on_the_command_line),
    };

    return cmocka_run_group_tests(tests, make_data, tear_down);
}
