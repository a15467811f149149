/* The public API, through its header alone. */
#include "support.h"

#include <math.h>

#include "formats/tensors.h"
#include "inlay/inlay.h"

#define VIT TEST_DATA "/oracle/vit"

static void test_classify(void **state)
{
    inlay_model_options options = {.backbone = VIT, .threads = 2, .precision = "f32"};
    inlay_prediction top[8];
    inlay_error err;
    inlay_model *model;
    char *folder = strdup(support_folder()), path[300];
    float one[5], many[20 * 5];
    uint8_t *pixels = calloc(20, 32 * 32 * 3);
    int found;

    (void)state;
    ASSERT_OK(inlay_model_open(&model, &options, &err));
    assert_int_equal(inlay_model_classes(model), 5);
    assert_int_equal(inlay_model_image_size(model), 32);
    assert_null(inlay_model_label(model, 0));
    assert_null(inlay_model_label(model, 99));
    support_images(folder, "some", 1, 1, 48);
    snprintf(path, sizeof path, "%s/some/class0/00.ppm", folder);
    ASSERT_OK(inlay_model_classify_file(model, path, top, 8, &found, &err));
    assert_int_equal(found, 5);
    float sum = 0;
    for (int i = 0; i < 5; i++) {
        sum += top[i].probability;
        assert_true(i == 0 || top[i].probability <= top[i - 1].probability);
    }
    assert_true(sum > 0.999f && sum < 1.001f);
    for (int i = 0; i < 20 * 32 * 32 * 3; i++)
        pixels[i] = (uint8_t)(i * 7919 >> 5);
    ASSERT_OK(inlay_model_logits(model, pixels, 20, many, &err));
    ASSERT_OK(inlay_model_logits(model, pixels + 17 * 32 * 32 * 3, 1, one, &err));
    assert_memory_equal(one, many + 17 * 5, sizeof one);
    assert_int_equal(inlay_model_classify_file(model, "/nowhere.png", top, 1, &found, &err), INLAY_ERR_IO);
    assert_non_null(strstr(err.message, "/nowhere.png"));
    inlay_model_close(model);
    support_remove(folder);
    free(folder);
    free(pixels);
}

/* One value of the checkpoint is not a number: no answer, and no probabilities, are made of that. */
static void test_not_finite(void **state)
{
    char *folder = strdup(support_folder()), path[300], command[700];
    uint8_t *pixels = calloc(1, 32 * 32 * 3);
    inlay_prediction top[5];
    inlay_error err;
    inlay_model *model;
    tensor_set *set;
    tensor_view views[256];
    float logits[5], *values = NULL;
    int found, count;

    (void)state;
    snprintf(command, sizeof command, "cp " VIT "/config.json '%s/'", folder);
    assert_int_equal(system(command), 0);
    ASSERT_OK(tensor_set_open(&set, VIT "/model.safetensors", &err));
    count = tensor_set_count(set);
    assert_true(count <= 256);
    for (int i = 0; i < count; i++) {
        views[i] = *tensor_set_at(set, i);
        if (strcmp(views[i].name, "norm.bias") != 0)
            continue;
        values = malloc((size_t)views[i].count * sizeof *values);
        memcpy(values, views[i].data, (size_t)views[i].count * sizeof *values);
        values[3] = (float)INFINITY;
        views[i].data = values;
    }
    assert_non_null(values);
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    ASSERT_OK(safetensors_write(path, views, count, NULL, &err));
    tensor_set_close(set);
    free(values);
    ASSERT_OK(inlay_model_open(&model, &(inlay_model_options){.backbone = folder, .precision = "f32"}, &err));
    assert_int_equal(inlay_model_logits(model, pixels, 1, logits, &err), INLAY_ERR_FORMAT);
    assert_non_null(strstr(err.message, "'image 0': the logits are not finite; tensor 'norm.bias'"));
    support_images(folder, "some", 1, 1, 48);
    snprintf(path, sizeof path, "%s/some/class0/00.ppm", folder);
    assert_int_equal(inlay_model_classify_file(model, path, top, 5, &found, &err), INLAY_ERR_FORMAT);
    assert_int_equal(found, 0);
    assert_non_null(strstr(err.message, "00.ppm': the logits are not finite"));
    inlay_model_close(model);
    support_remove(folder);
    free(folder);
    free(pixels);
}

static void test_refused(void **state)
{
    inlay_error err;
    inlay_model *model;

    (void)state;
    assert_int_equal(inlay_model_open(&model, &(inlay_model_options){0}, &err), INLAY_ERR_USAGE);
    assert_int_equal(inlay_model_open(&model, &(inlay_model_options){.backbone = VIT, .precision = "f16"}, &err),
                     INLAY_ERR_USAGE);
    assert_int_equal(inlay_model_open(&model, &(inlay_model_options){.backbone = "/nowhere"}, &err), INLAY_ERR_IO);
    assert_null(model);
    assert_string_equal(inlay_version(), INLAY_VERSION_STRING);
    assert_string_equal(inlay_status_name(INLAY_ERR_NOMEM), "out of memory");
    inlay_model_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_classify), cmocka_unit_test(test_refused),
                                       cmocka_unit_test(test_not_finite)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
