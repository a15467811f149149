/* ViT checkpoints in every naming and variant against timm's numbers; and what is refused. */
#include "support.h"

#include <jansson.h>
#include <math.h>

#include "infer/model.h"

#define ORACLE TEST_DATA "/oracle/"
#define TINY TEST_ASSETS "/backbones/vit_tiny_patch16_224"

extern const kernels kernels_reference;

static double largest(const float *found, const tensor_view *expected)
{
    double most = 0;

    for (int64_t i = 0; i < expected->count; i++) {
        float e;
        memcpy(&e, (const unsigned char *)expected->data + (size_t)i * sizeof e, sizeof e);
        most = fmax(most, fabs((double)found[i] - (double)e));
    }
    return most;
}

static void compare(const device *d, program *p, value v, int64_t batch, const tensor_set *oracle, const char *name,
                    double limit, const char *where)
{
    const tensor_view *t = tensor_set_find(oracle, name);
    float *found;

    assert_non_null(t);
    found = malloc((size_t)t->count * sizeof *found);
    device_get_f32(d, found, program_value(p, v, batch).data, t->count);
    if (!(largest(found, t) <= limit))
        fail_msg("%s on %s: '%s' differs by %.3g, allowed %.3g", where, d->k->name, name, largest(found, t), limit);
    free(found);
}

/* Runs the checkpoint at `path` on the oracle's pixels and compares logits and every block's output. */
static void check(const char *path, const char *oracle_path, int64_t image_size, const kernels *k, double limit,
                  bool blocks)
{
    inlay_error err;
    device d;
    backbone *b;
    model m;
    program *p;
    tensor_set *oracle;
    step_info step = {.seed = 0, .step = 0};
    value wanted[64];
    int count = 0;
    const tensor_view *pixels;

    ASSERT_OK(tensor_set_open(&oracle, oracle_path, &err));
    ASSERT_OK(device_open(&d, k, 2, &err));
    ASSERT_OK(backbone_open(&b, path, image_size, &err));
    model_request request = {.dev = &d, .b = b, .pixel_type = DTYPE_U8, .keep_blocks = blocks};
    ASSERT_OK(model_build(&m, &request, &err));
    wanted[count++] = m.logits;
    for (int64_t l = 0; blocks && l < b->shape.depth; l++)
        wanted[count++] = m.blocks[l];
    pixels = tensor_set_find(oracle, "pixels");
    program_request plan = {.dev = &d, .max_batch = pixels->dims[0], .wanted = wanted, .wanted_count = count};
    ASSERT_OK(program_new(&p, m.g, &plan, &err));
    memcpy(program_value(p, m.pixels, pixels->dims[0]).data, pixels->data, (size_t)pixels->count);
    program_forward(p, pixels->dims[0], &step);
    compare(&d, p, m.logits, pixels->dims[0], oracle, "logits", limit, path);
    for (int64_t l = 0; blocks && l < b->shape.depth; l++) {
        char name[64];
        snprintf(name, sizeof name, "blocks.%d.output", (int)l);
        compare(&d, p, m.blocks[l], pixels->dims[0], oracle, name, limit, path);
    }
    program_free(p);
    model_free(&m);
    backbone_close(b);
    device_close(&d);
    tensor_set_close(oracle);
}

static void test_namings(void **state)
{
    static const char *const paths[] = {"vit",
                                        "vit_hf",
                                        "vit_hf5",
                                        "vit_jax.npz",
                                        "vit_sharded",
                                        "vit_sharded/model.safetensors.index.json",
                                        "vit/model.safetensors"};

    (void)state;
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        char path[256];
        snprintf(path, sizeof path, ORACLE "%s", paths[i]);
        check(path, ORACLE "base.safetensors", 0, &kernels_reference, 2e-6, true);
        check(path, ORACLE "base.safetensors", 0, &kernels_reference, 2e-6,
              false); /* only the class token in the last block */
        for (int k = 0; kernels_set(k); k++)
            if (!kernels_set(k)->refused())
                check(path, ORACLE "base.safetensors", 0, kernels_set(k), 5e-5, true);
    }
}

static void test_variants(void **state)
{
    json_t *variants = json_load_file(ORACLE "variants.json", 0, NULL);
    int checked = 0;

    (void)state;
    for (size_t i = 0; i < json_array_size(variants); i++) {
        const json_t *item = json_array_get(variants, i);
        json_int_t height = json_integer_value(json_object_get(item, "height")),
                   width = json_integer_value(json_object_get(item, "width"));
        char path[256], expected[256];
        if (height != width) /* --image-size gives squares only */
            continue;
        snprintf(path, sizeof path, ORACLE "%s", json_string_value(json_object_get(item, "checkpoint")));
        snprintf(expected, sizeof expected, ORACLE "%s", json_string_value(json_object_get(item, "expected")));
        check(path, expected, height == 32 ? 0 : height, &kernels_reference, 5e-6, false);
        check(path, expected, height == 32 ? 0 : height, NULL, 5e-5, false);
        checked++;
    }
    assert_true(checked >= 9);
    json_decref(variants);
}

/* ---- what is refused, with the name of the tensor or key ---- */

static void copy_folder(const char *from, const char *to, const char *file)
{
    char command[600];

    snprintf(command, sizeof command, "cp '%s/%s' '%s/'", from, file, to);
    assert_int_equal(system(command), 0);
}

static void expect_refused(const char *folder, const char *part)
{
    inlay_error err = {INLAY_OK, ""};
    backbone *b;

    assert_int_not_equal(backbone_open(&b, folder, 0, &err), INLAY_OK);
    assert_null(b);
    if (!strstr(err.message, part))
        fail_msg("'%s' is not in the message: %s", part, err.message);
}

/* Rewrites the checkpoint with one tensor renamed, dropped (renamed to "") or cut to its first row. */
static void rewrite(const char *folder, const char *name, const char *renamed, bool cut)
{
    inlay_error err;
    tensor_set *set;
    tensor_view views[128];
    char path[300];
    int count = 0;

    ASSERT_OK(tensor_set_open(&set, ORACLE "vit/model.safetensors", &err));
    for (int i = 0; i < tensor_set_count(set); i++) {
        tensor_view v = *tensor_set_at(set, i);
        if (strcmp(v.name, name) == 0) {
            if (renamed && !*renamed)
                continue;
            if (renamed)
                v.name = renamed;
            if (cut) {
                v.count /= v.dims[0];
                v.dims[0] = 1;
            }
        }
        views[count++] = v;
    }
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    ASSERT_OK(safetensors_write(path, views, count, NULL, &err));
    tensor_set_close(set);
}

static void test_refused(void **state)
{
    const char *folder = support_folder();
    char path[300];
    inlay_error err;

    (void)state;
    expect_refused("/nowhere/at/all", "does not exist");
    expect_refused(folder, "model.safetensors");
    copy_folder(ORACLE "vit", folder, "model.safetensors");
    expect_refused(folder, "config.json");
    copy_folder(ORACLE "vit", folder, "config.json");
    rewrite(folder, "blocks.1.norm2.bias", "blocks.1.norm3.bias", false);
    expect_refused(folder, "blocks.1.norm3.bias");
    rewrite(folder, "blocks.1.norm2.bias", "", false);
    expect_refused(folder, "blocks.1.norm2.bias");
    rewrite(folder, "blocks.2.mlp.fc1.weight", NULL, true);
    expect_refused(folder, "blocks.2.mlp.fc1.weight");
    rewrite(folder, "-", NULL, false);
    snprintf(path, sizeof path, "%s/config.json", folder);
    static const char heads[] = "{\"architecture\": \"vit\", \"model_args\": {\"num_heads\": 5}}";
    ASSERT_OK(file_write(path, heads, sizeof heads - 1, &err));
    expect_refused(folder, "5 heads");
    ASSERT_OK(file_write(path, "{\"architecture\": ", 17, &err));
    expect_refused(folder, "config.json");
    support_remove(folder);
}

/* ---- the real checkpoint ---- */

static void test_real(void **state)
{
    inlay_error err;
    tensor_set *oracle;
    json_t *about;
    const json_t *images;
    const tensor_view *logits;
    device d;
    backbone *b;
    predictor p;
    preprocess prep;
    float found[8 * 1000];

    (void)state;
    if (!file_exists(TINY "/model.safetensors")) {
        print_message("skipped: %s is not there\n", TINY);
        skip();
    }
    ASSERT_OK(tensor_set_open(&oracle, ORACLE "vit_tiny_logits.safetensors", &err));
    about = json_load_file(ORACLE "vit_tiny_logits.json", 0, NULL);
    images = json_object_get(about, "images");
    logits = tensor_set_find(oracle, "logits");
    ASSERT_OK(device_open(&d, NULL, 2, &err));
    ASSERT_OK(backbone_open(&b, TINY, 0, &err));
    ASSERT_OK(preprocess_for(&prep, b, NULL, &err));
    model_request request = {.dev = &d, .b = b, .pixel_type = DTYPE_U8};
    ASSERT_OK(predictor_open(&p, &request, 8, &err));
    for (size_t i = 0; i < 8; i++) {
        char path[512];
        snprintf(path, sizeof path, TEST_ASSETS "/data/imagenet_sample/%s",
                 json_string_value(json_object_get(json_array_get(images, i), "path")));
        ASSERT_OK(preprocess_file(&prep, path, NULL,
                                  (uint8_t *)predictor_pixels(&p) + i * preprocess_pixel_bytes(&prep), NULL, &err));
    }
    predictor_run(&p, 8, found);
    if (!(largest(found, logits) <= 1e-4))
        fail_msg("logits differ from PyTorch's by %.3g, allowed 1e-4", largest(found, logits));
    predictor_close(&p);
    backbone_close(b);
    device_close(&d);
    tensor_set_close(oracle);
    json_decref(about);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_namings),
        cmocka_unit_test(test_variants),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_real),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
