/* How images are brought to a checkpoint, against what transformers and timm make of the same configuration
 * (tests/data/preprocessing.jsonl, or the file that INLAY_DRAWS names: tools/draw_preprocessing.py); and what a
 * checkpoint calls its classes. */
#include "support.h"

#include <jansson.h>
#include <math.h>
#include <sys/resource.h>

#include "backbones/labels.h"
#include "patterns.h"
#include "infer/model.h"

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

/* The tiny checkpoint of that name, with its config.json changed by `changes`; other files of an earlier one are
 * removed. */
static void begin(const char *name, json_t *changes)
{
    static const char *const others[] = {"preprocessor_config.json", "processor_config.json"};
    char command[500], path[300];
    json_t *config;

    snprintf(command, sizeof command, "cp '" ORACLE "%s/model.safetensors' '" ORACLE "%s/config.json' '%s/'", name,
             name, folder);
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
        begin("vit", json_pack("{s:O, s:{s:i, s:i}}", "pretrained_cfg", config, "model_args", "num_heads", 2,
                               "img_size", (int)json_integer_value(json_object_get(line, "size"))));
    }
}

static void compare_pixels(const json_t *line, const preprocess *p, const char *text)
{
    const json_t *source = json_object_get(line, "source"), *values = json_object_get(line, "values");
    image in =
        pattern((int)json_integer_value(json_array_get(source, 0)), (int)json_integer_value(json_array_get(source, 1)));
    uint8_t *pixels = malloc(preprocess_pixel_bytes(p));
    char found[20];
    inlay_error err;

    ASSERT_OK(preprocess_image(p, &in, NULL, pixels, &err));
    snprintf(found, sizeof found, "%016llx", (unsigned long long)fnv(pixels, preprocess_pixel_bytes(p)));
    if (strcmp(found, json_string_value(json_object_get(line, "hash"))) != 0)
        fail_msg("other pixels: %s", text);
    for (int i = 0; i < 3; i++) {
        int y = i == 0   ? 0
                : i == 1 ? p->height / 2
                         : p->height - 1,
            x = i == 0   ? 0
                : i == 1 ? p->width / 2
                         : p->width - 1;
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
    if (status != INLAY_OK && !refusal &&
        !(json_is_true(json_object_get(line, "may_refuse")) && status == INLAY_ERR_UNSUPPORTED))
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

/* ---- what is noted, and other files ---- */

static bool noted(const backbone *b, const char *part)
{
    for (int i = 0; i < b->notes.count; i++)
        if (strstr(b->notes.items[i].text, part))
            return true;
    return false;
}

static backbone *opened(void)
{
    backbone *b;
    inlay_error err;

    if (backbone_open(&b, folder, 0, &err) != INLAY_OK)
        fail_msg("%s", err.message);
    return b;
}

static void expect_refused(const char *part)
{
    backbone *b;
    preprocess p;
    inlay_error err;

    if (open_input(&b, &p, &err) == INLAY_OK)
        fail_msg("was taken, expected: %s", part);
    if (!strstr(err.message, part))
        fail_msg("'%s' is not in: %s", part, err.message);
    backbone_close(b);
}

static void write_text(const char *name, const char *text)
{
    char path[300];
    inlay_error err;

    snprintf(path, sizeof path, "%s/%s", folder, name);
    ASSERT_OK(file_write(path, text, strlen(text), &err));
}

static void test_unknown_keys_are_noted(void **state)
{
    backbone *b;

    (void)state;
    begin("vit_hf", NULL);
    write_text("preprocessor_config.json", "{\"size\": 32, \"sharpen\": 2, \"do_convert_rgb\": true}");
    b = opened();
    assert_true(noted(b, "'sharpen' is not known and was not used"));
    assert_int_equal(b->notes.count, 1);
    backbone_close(b);
    begin("vit", json_pack("{s:{s:[i,i,i], s:s, s:s}, s:i}", "pretrained_cfg", "input_size", 3, 32, 32, "tag", "x",
                           "flavour", "y", "colour", 3));
    b = opened();
    assert_true(noted(b, "'flavour'") && noted(b, "'colour'") && noted(b, "'mean' is missing") &&
                noted(b, "'crop_pct' is missing"));
    assert_false(noted(b, "'tag'"));
    backbone_close(b);
}

/* transformers 5 writes processor_config.json for models of several processors; it comes first. */
static void test_processor_config(void **state)
{
    backbone *b;

    (void)state;
    begin("vit_hf", NULL);
    write_text("preprocessor_config.json", "{\"size\": 32, \"image_mean\": 0.25}");
    write_text("processor_config.json",
               "{\"image_processor\": {\"size\": 32, \"image_mean\": 0.75}, \"processor_class\": \"X\"}");
    b = opened();
    assert_float_equal(b->input.mean[0], 0.75f, 0);
    backbone_close(b);
    write_text("processor_config.json", "{\"processor_class\": \"X\"}");
    b = opened();
    assert_float_equal(b->input.mean[0], 0.25f, 0);
    backbone_close(b);
    write_text("processor_config.json", "{\"image_processor\": 3}");
    expect_refused("processor_config.json: expected a JSON object");
    write_text("processor_config.json", "{");
    expect_refused("processor_config.json: line 1");
}

static void test_without_a_processor(void **state)
{
    backbone *b;

    (void)state;
    begin("vit_hf", NULL);
    b = opened();
    assert_true(noted(b, "preprocessor_config.json' does not exist"));
    assert_string_equal(b->input.crop_mode, "squash");
    assert_string_equal(b->input.interpolation, "bilinear");
    backbone_close(b);
    begin("vit_hf", json_pack("{s:s, s:i}", "model_type", "deit", "image_size", 56));
    b = opened();
    assert_string_equal(b->input.interpolation, "bicubic");
    assert_float_equal(b->input.crop_pct, 56.0 / 64, 0);
    backbone_close(b);
}

/* ---- names of classes ---- */

#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
#define UNDER_SANITIZER true /* its shadow is address space, too */
#else
#define UNDER_SANITIZER false
#endif

/* Bytes of it that the process has. */
static rlim_t address_space(void)
{
    unsigned long pages = 0;
    FILE *in = fopen("/proc/self/statm", "r");

    assert_non_null(in);
    assert_int_equal(fscanf(in, "%lu", &pages), 1);
    fclose(in);
    return (rlim_t)pages * (rlim_t)sysconf(_SC_PAGESIZE);
}

static void expect_labels(const backbone *b, const char *const expected[5])
{
    assert_int_equal(b->shape.classes, 5);
    for (int i = 0; i < 5; i++)
        if (!expected[i] != !b->labels[i] || (expected[i] && strcmp(expected[i], b->labels[i]) != 0))
            fail_msg("class %d is '%s', expected '%s'", i, b->labels[i] ? b->labels[i] : "-",
                     expected[i] ? expected[i] : "-");
}

static void test_fewer_and_more_names(void **state)
{
    static const struct {
        const char *checkpoint, *key, *json, *expected[5], *note;
    } members[] = {
        {"vit_hf", "id2label", "{\"0\": \"A\", \"1\": \"B\"}", {"A", "B"}, "names for 2 classes, the head has 5"},
        {"vit_hf",
         "id2label",
         "{\"4\": \"E\", \"1\": \"B\"}",
         {NULL, "B", NULL, NULL, "E"},
         "names for 2 classes, the head has 5"},
        {"vit_hf",
         "id2label",
         "{\"0\": \"A\", \"1\": \"B\", \"2\": \"C\", \"3\": 7, \"4\": \"E\"}",
         {"A", "B", "C", "7", "E"},
         NULL},
        {"vit_hf", "id2label", "{\"7\": \"H\", \"0\": \"A\"}", {"A"}, "names for 2 classes, the head has 5"},
        {"vit_hf", "id2label", "[\"A\", \"B\", \"C\", \"D\", \"E\"]", {"A", "B", "C", "D", "E"}, NULL},
        {"vit_hf",
         "id2label",
         "{\"0\": \"A\", \"1\": null, \"2\": \"\"}",
         {"A"},
         "names for 1 classes, the head has 5"},
        {"vit",
         "label_names",
         "[\"A\", \"B\", \"C\", \"D\"]",
         {"A", "B", "C", "D"},
         "names for 4 classes, the head has 5"},
        {"vit",
         "label_names",
         "[\"A\", \"B\", \"C\", \"D\", \"E\", \"F\"]",
         {"A", "B", "C", "D", "E"},
         "names for 6 classes, the head has 5"},
        {"vit", "label_names", "[\"A\", \"A\", \"A\", \"A\", \"A\"]", {"A", "A", "A", "A", "A"}, NULL},
        {"vit", "label_names", "{\"2\": \"C\"}", {NULL, NULL, "C"}, "names for 1 classes, the head has 5"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof members / sizeof *members; i++) {
        backbone *b;
        begin(members[i].checkpoint, json_pack("{s:o}", members[i].key, json_loads(members[i].json, 0, NULL)));
        if (strcmp(members[i].checkpoint, "vit_hf") == 0)
            write_text("preprocessor_config.json", "{\"size\": 32}");
        b = opened();
        expect_labels(b, members[i].expected);
        assert_int_equal(noted(b, "names for"), members[i].note != NULL);
        if (members[i].note)
            assert_true(noted(b, members[i].note));
        backbone_close(b);
    }
}

static void test_no_names(void **state)
{
    static const char *const empty[] = {"{}", "[]", "null", "[null, null]"};

    (void)state;
    for (size_t i = 0; i < sizeof empty / sizeof *empty; i++) {
        backbone *b;
        begin("vit", json_pack("{s:o}", "label_names", json_loads(empty[i], JSON_DECODE_ANY, NULL)));
        b = opened();
        assert_null(b->labels);
        backbone_close(b);
    }
}

static void test_names_that_are_none(void **state)
{
    static const char *const members[][2] = {{"{\"A\": 0}", "has the key 'A'"},
                                             {"{\"-1\": \"A\"}", "has the key '-1'"},
                                             {"{\"1\": \"A\", \"01\": \"B\"}", "class 1 twice"},
                                             {"{\"99999999999\": \"A\"}", "has the key"},
                                             {"\"A\"", "expected a list of names"},
                                             {"[[\"A\"]]", "the name of class 0"},
                                             {"{\"1.0\": \"A\"}", "has the key"},
                                             {"{\"\": \"A\"}", "has the key"}};

    (void)state;
    for (size_t i = 0; i < sizeof members / sizeof *members; i++) {
        begin("vit", json_pack("{s:o}", "label_names", json_loads(members[i][0], JSON_DECODE_ANY, NULL)));
        expect_refused(members[i][1]);
    }
    begin("vit", NULL);
    write_text("config.json",
               "{\"architecture\": \"x\", \"label_names\": [\"\xff\"], \"model_args\": {\"num_heads\": 2}}");
    expect_refused("config.json: line 1");
    write_text(
        "config.json",
        "{\"architecture\": \"x\", \"label_names\": {\"0\": \"A\", \"0\": \"B\"}, \"model_args\": {\"num_heads\": 2}}");
    expect_refused("config.json: line 1");
}

static void test_names_from_a_file(void **state)
{
    static const char *const good[] = {
        "A\nB\nC\nD\nE\n",
        "A\r\nB\r\nC\r\nD\r\nE",
        "\357\273\277A\n B\nC \nD\nE",
        " [\"A\", \"B\", \"C\", \"D\", \"E\"]",
        "{\"0\": \"A\", \"1\": \"B\", \"2\": \"C\", \"3\": \"D\", \"4\": \"E\"}",
        "{\"id2label\": {\"4\": \"E\", \"0\": \"A\", \"1\": \"B\", \"2\": \"C\", \"3\": \"D\"}}",
        "{\"label_names\": [\"A\", \"B\", \"C\", \"D\", \"E\"]}"};
    static const char *const bad[][2] = {{"A\nB\n", "names 2 classes"},
                                         {"A\nB\nC\nD\nE\nF\n", "names 6 classes"},
                                         {"", "names 0 classes"},
                                         {"A\n\nC\nD\nE\n", "line 2 is empty"},
                                         {"A\nB\nC\nD\nE\xff\n", "line 5 is not text"},
                                         {"[\"A\"", "line 1"},
                                         {"{\"x\": 3}", "has the key 'x'"},
                                         {"[1, 2, 3, 4]", "names 4 classes"}};
    char path[300];
    backbone *b;
    inlay_error err;

    (void)state;
    snprintf(path, sizeof path, "%s/names.txt", folder);
    begin("vit", NULL);
    b = opened();
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        write_text("names.txt", good[i]);
        ASSERT_OK(labels_load(b, path, &err));
        expect_labels(b, (const char *const[5]){"A", "B", "C", "D", "E"});
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        write_text("names.txt", bad[i][0]);
        assert_int_not_equal(labels_load(b, path, &err), INLAY_OK);
        if (!strstr(err.message, bad[i][1]))
            fail_msg("'%s' is not in: %s", bad[i][1], err.message);
    }
    snprintf(path, sizeof path, "%s/no-such-file", folder);
    assert_int_not_equal(labels_load(b, path, &err), INLAY_OK);
    backbone_close(b);
}

/* What a file makes the program allocate is what the file has, whatever numbers are in it. */
static void test_names_far_apart(void **state)
{
    static const char *const members[] = {"{\"16777215\": \"A\"}",
                                          "{\"16777215\": \"A\", \"9000000\": \"B\", \"0\": \"C\"}",
                                          "{\"16777214\": null, \"16777215\": \"A\"}"};
    static const char *const files[] = {"{\"16777215\": \"A\"}", "{\"id2label\": {\"16000000\": 1}}",
                                        "{\"0\":0, \"1\":1, \"2\":2, \"3\":3, \"16777215\":4}"};
    struct rlimit kept, small;
    char path[300];
    inlay_error err;
    backbone *b;

    (void)state;
    snprintf(path, sizeof path, "%s/names.json", folder);
    getrlimit(RLIMIT_AS, &kept);
    for (size_t i = 0; i < sizeof members / sizeof *members; i++) {
        begin("vit", json_pack("{s:o}", "label_names", json_loads(members[i], 0, NULL)));
        small = kept;
        small.rlim_cur = address_space() + (64 << 20);
        if (!UNDER_SANITIZER)
            setrlimit(RLIMIT_AS, &small);
        b = opened();
        assert_true(noted(b, "the head has 5: names above are not used"));
        for (size_t k = 0; k < sizeof files / sizeof *files; k++) {
            write_text("names.json", files[k]);
            assert_int_equal(labels_load(b, path, &err), INLAY_ERR_USAGE);
            assert_non_null(
                strstr(err.message, k < 2 ? "names 1 classes, the head" : "5 classes, numbered up to 16777215"));
        }
        setrlimit(RLIMIT_AS, &kept);
        backbone_close(b);
    }
}

/* A head of 1,000 classes has ImageNet-1k's names only where the last training was on it. */
static void test_imagenet_names(void **state)
{
    static const struct {
        const char *tag;
        bool named;
    } members[] = {{"augreg_in21k_ft_in1k", true},
                   {"in1k", true},
                   {"fb_dist_in1k", true},
                   {"augreg_in21k", false},
                   {"in1k_ft_in12k", false},
                   {"laion2b", false},
                   {"", false},
                   {"min1k", false}};

    (void)state;
    for (size_t i = 0; i < sizeof members / sizeof *members; i++) {
        backbone b = {.memory = arena_new(), .pretrained_tag = members[i].tag, .shape.classes = 1000};
        labels_fit(&b);
        if (members[i].named != (b.labels != NULL))
            fail_msg("tag '%s'", members[i].tag);
        if (b.labels) {
            assert_string_equal(b.labels[0], "tench");
            assert_string_equal(b.labels[134], "crane (n02012849)");
            assert_string_equal(b.labels[999], "toilet tissue");
            assert_true(b.labels_usual);
        }
        b.shape.classes = 999;
        b.labels = NULL;
        labels_fit(&b);
        assert_null(b.labels);
        arena_free(b.memory);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_pixels_as_the_libraries),
        cmocka_unit_test(test_unknown_keys_are_noted),
        cmocka_unit_test(test_processor_config),
        cmocka_unit_test(test_without_a_processor),
        cmocka_unit_test(test_fewer_and_more_names),
        cmocka_unit_test(test_no_names),
        cmocka_unit_test(test_names_that_are_none),
        cmocka_unit_test(test_names_from_a_file),
        cmocka_unit_test(test_imagenet_names),
        cmocka_unit_test(test_names_far_apart),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
