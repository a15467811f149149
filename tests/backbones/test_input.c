/* How images are brought to a checkpoint, against what transformers and timm make of the same configuration
 * (tests/data/preprocessing.jsonl, or the file that INLAY_DRAWS names: tools/draw_preprocessing.py); and what a
 * checkpoint calls its classes. */
#include "support.h"

#include <jansson.h>
#include <math.h>

#include "backbones/labels.h"
#include "patterns.h"
#include "train/model.h"

#define ORACLE TEST_DATA "/oracle/"

static char folder[64];

static int set_up(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "%s", support_folder());
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    support_remove(folder);
    return 0;
}

static void write_json(const char *name, const json_t *root)
{
    char path[300], *text = json_dumps(root, JSON_INDENT(1));
    inlay_error err;

    snprintf(path, sizeof path, "%s/%s", folder, name);
    assert_non_null(text);
    ASSERT_OK(file_write(path, text, strlen(text), &err));
    free(text);
}

/* The tiny checkpoint of that name, with its config.json changed by `changes`; other files of an earlier one are removed. */
static void begin(const char *name, json_t *changes)
{
    static const char *const others[] = {"preprocessor_config.json", "processor_config.json"};
    char command[500], path[300];
    json_t *config;

    snprintf(command, sizeof command, "cp '" ORACLE "%s/model.safetensors' '" ORACLE "%s/config.json' '%s/'", name, name, folder);
    assert_int_equal(system(command), 0);
    for (size_t i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, others[i]);
        remove(path);
    }
    snprintf(path, sizeof path, "%s/config.json", folder);
    config = json_load_file(path, 0, NULL);
    assert_non_null(config);
    if (changes)
        json_object_update_new(config, changes);
    write_json("config.json", config);
    json_decref(config);
}

static inlay_status open_input(backbone **b, preprocess *p, inlay_error *err)
{
    inlay_status status = backbone_open(b, folder, 0, err);

    return status == INLAY_OK ? preprocess_for(p, *b, NULL, err) : status;
}

static void lay_out(const json_t *line)
{
    json_t *config = json_object_get(line, "config");

    if (strcmp(json_string_value(json_object_get(line, "library")), "hf") == 0) {
        begin("vit_hf", json_pack("{s:O}", "image_size", json_object_get(line, "size")));
        write_json("preprocessor_config.json", config);
    } else {
        begin("vit", json_pack("{s:O, s:{s:i, s:i}}", "pretrained_cfg", config, "model_args", "num_heads", 2, "img_size",
                               (int)json_integer_value(json_object_get(line, "size"))));
    }
}

static void compare_pixels(const json_t *line, const preprocess *p, const char *text)
{
    const json_t *source = json_object_get(line, "source"), *values = json_object_get(line, "values");
    image in = pattern((int)json_integer_value(json_array_get(source, 0)), (int)json_integer_value(json_array_get(source, 1)));
    uint8_t *pixels = malloc(preprocess_pixel_bytes(p));
    char found[20];
    inlay_error err;

    ASSERT_OK(preprocess_image(p, &in, false, (rng_stream){0}, pixels, &err));
    snprintf(found, sizeof found, "%016llx", (unsigned long long)fnv(pixels, preprocess_pixel_bytes(p)));
    if (strcmp(found, json_string_value(json_object_get(line, "hash"))) != 0)
        fail_msg("other pixels: %s", text);
    for (int i = 0; i < 3; i++) {
        int y = i == 0 ? 0 : i == 1 ? p->height / 2 : p->height - 1, x = i == 0 ? 0 : i == 1 ? p->width / 2 : p->width - 1;
        for (int c = 0; c < 3; c++) {
            double wanted = json_number_value(json_array_get(values, (size_t)(3 * i + c)));
            double made = ((double)pixels[(y * p->width + x) * 3 + c] / 255 - (double)p->mean[c]) / (double)p->std[c];
            if (!(fabs(made - wanted) <= 4e-6 * fmax(1, fabs(wanted)) * fmax(1, 1 / (double)p->std[c])))
                fail_msg("a pixel is %.9g, expected %.9g: %s", made, wanted, text);
        }
    }
    free(pixels);
    image_free(&in);
}

/* 1: compared, 0: refused where that is right. */
static int check_line(const json_t *line)
{
    char *text = json_dumps(line, JSON_COMPACT);
    bool refusal = !*json_string_value(json_object_get(line, "hash"));
    backbone *b = NULL;
    preprocess p;
    inlay_error err;
    inlay_status status;

    lay_out(line);
    status = open_input(&b, &p, &err);
    if (status == INLAY_OK && refusal)
        fail_msg("was taken: %s", text);
    if (status != INLAY_OK && !refusal && !(json_is_true(json_object_get(line, "may_refuse")) && status == INLAY_ERR_UNSUPPORTED))
        fail_msg("%s: %s", err.message, text);
    if (status == INLAY_OK)
        compare_pixels(line, &p, text);
    else if (getenv("INLAY_DRAWS") && !refusal)
        print_message("%s\n", err.message);
    backbone_close(b);
    free(text);
    return status == INLAY_OK;
}

static void test_same_pixels_as_the_libraries(void **state)
{
    const char *drawn = getenv("INLAY_DRAWS");
    FILE *list = fopen(drawn ? drawn : TEST_DATA "/preprocessing.jsonl", "r");
    static char text[1 << 14];
    int compared = 0, refused = 0;

    (void)state;
    assert_non_null(list);
    while (fgets(text, sizeof text, list)) {
        json_t *line = json_loads(text, 0, NULL);
        assert_non_null(line);
        if (check_line(line))
            compared++;
        else
            refused++;
        json_decref(line);
    }
    fclose(list);
    if (drawn)
        print_message("%d compared, %d refused\n", compared, refused);
    else
        assert_true(compared >= 180 && refused >= 40);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_pixels_as_the_libraries),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
