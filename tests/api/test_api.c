/* The public API, through its header alone. */
#include "support.h"

#include <math.h>
#include <pthread.h>

#include "base/json.h"
#include "formats/image.h"
#include "formats/tensors.h"
#include "inlay/inlay.h"

#define VIT TEST_DATA "/oracle/vit"
#define CLASSES 5
#define WIDTH 32
#define SIDE 32

static inlay_backbone *open_backbone(const char *path)
{
    inlay_backbone *b;
    inlay_error err;

    ASSERT_OK(inlay_backbone_open(&b, path, NULL, &err));
    return b;
}

static inlay_session *open_session(inlay_backbone *b, int batch)
{
    inlay_session_options how = {.size = sizeof how, .precision = "f32", .threads = 2, .batch = batch};
    inlay_session *s;
    inlay_error err;

    ASSERT_OK(inlay_session_open(&s, b, &how, &err));
    return s;
}

static void make_images(const char *folder)
{
    char data[300];

    snprintf(data, sizeof data, "%s/data", folder);
    support_images(data, "train", 3, 4, 40);
    support_images(data, "val", 3, 2, 40);
}

/* Trains a small adapter in `folder`/<name> on the images there. */
static void train(const char *folder, const char *method, const char *name, const inlay_observer *watch, char **record,
                  inlay_status wanted)
{
    char data[300], output[300];
    const char *settings[][2] = {{"backbone", VIT},   {"data", data},   {"output", output},   {"epochs", "2"},
                                 {"batch_size", "4"}, {"threads", "1"}, {"precision", "f32"}, {"resume", "true"}};
    inlay_options *o;
    inlay_error err;

    snprintf(data, sizeof data, "%s/data", folder);
    snprintf(output, sizeof output, "%s/%s", folder, name);
    ASSERT_OK(inlay_options_new(&o, "train", method, &err));
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++)
        ASSERT_OK(inlay_options_set(o, settings[i][0], settings[i][1], &err));
    if (inlay_run(o, watch, record, &err) != wanted)
        fail_msg("%s", err.message);
    inlay_options_free(o);
}

/* Every kind of input gives the same bits, in any batch; features come beside. */
static void test_inputs(void **state)
{
    inlay_backbone *b = open_backbone(VIT);
    inlay_session *s = open_session(b, 0), *small = open_session(b, 2);
    char *folder = strdup(support_folder()), path[300], *bytes;
    inlay_input in[6];
    float logits[6][CLASSES], again[CLASSES], features[6][WIDTH], alone[WIDTH];
    inlay_prediction top[8];
    inlay_error err;
    image img;
    uint8_t *pixels = calloc(SIDE * SIDE, 3);
    float *reals = calloc(SIDE * SIDE * 3, sizeof *reals);
    size_t size;
    int found;

    (void)state;
    support_images(folder, "some", 1, 1, 48);
    snprintf(path, sizeof path, "%s/some/class0/00.ppm", folder);
    ASSERT_OK(file_read(path, 1 << 20, &bytes, &size, &err));
    ASSERT_OK(image_load(&img, path, 0, &err));
    for (int i = 0; i < SIDE * SIDE * 3; i++)
        reals[i] = pixels[i] = (uint8_t)(i * 7919 >> 5);
    assert_int_equal(inlay_session_classes(s, NULL), CLASSES);
    assert_int_equal(inlay_session_features(s), WIDTH);
    assert_int_equal(inlay_session_height(s), SIDE);
    assert_int_equal(inlay_session_width(s), SIDE);
    assert_null(inlay_session_label(s, NULL, 0));
    assert_null(inlay_session_label(s, NULL, 99));
    for (int i = 0; i < 6; i++)
        in[i] = (inlay_input){.size = sizeof in[i]};
    in[0].kind = INLAY_INPUT_FILE, in[0].name = path;
    in[1].kind = INLAY_INPUT_ENCODED, in[1].data = bytes, in[1].bytes = size;
    in[2].kind = INLAY_INPUT_IMAGE, in[2].data = img.rgb, in[2].width = img.width, in[2].height = img.height;
    in[3].kind = INLAY_INPUT_PIXELS_U8, in[3].data = pixels;
    in[4].kind = INLAY_INPUT_PIXELS_F32, in[4].data = reals;
    in[5] = in[0];
    ASSERT_OK(inlay_session_run(s, NULL, in, 6, logits[0], features[0], &err));
    assert_memory_equal(logits[0], logits[1], sizeof *logits);
    assert_memory_equal(logits[0], logits[2], sizeof *logits);
    assert_memory_equal(logits[0], logits[5], sizeof *logits);
    assert_memory_equal(logits[3], logits[4], sizeof *logits);
    assert_memory_not_equal(logits[0], logits[3], sizeof *logits);
    assert_memory_equal(features[0], features[5], sizeof *features);
    for (int i = 0; i < 6; i++) {
        ASSERT_OK(inlay_session_run(small, NULL, &in[i], 1, again, alone, &err));
        assert_memory_equal(logits[i], again, sizeof again);
        assert_memory_equal(features[i], alone, sizeof alone);
    }
    ASSERT_OK(inlay_session_classify(s, NULL, &in[0], top, 8, &found, &err));
    assert_int_equal(found, CLASSES);
    float sum = 0;
    for (int i = 0; i < found; i++) {
        sum += top[i].probability;
        assert_true(i == 0 || top[i].probability <= top[i - 1].probability);
        assert_true(top[i].logit == logits[0][top[i].index]);
    }
    assert_true(sum > 0.999f && sum < 1.001f);
    in[0].name = "/nowhere.png";
    assert_int_equal(inlay_session_classify(s, NULL, &in[0], top, 1, &found, &err), INLAY_ERR_IO);
    assert_non_null(strstr(err.message, "/nowhere.png"));
    in[1].data = NULL;
    assert_int_equal(inlay_session_run(s, NULL, &in[1], 1, again, NULL, &err), INLAY_ERR_USAGE);
    in[2].width = 0;
    assert_int_equal(inlay_session_run(s, NULL, &in[2], 1, again, NULL, &err), INLAY_ERR_USAGE);
    in[3].kind = (inlay_input_kind)77;
    assert_int_equal(inlay_session_run(s, NULL, &in[3], 1, again, NULL, &err), INLAY_ERR_USAGE);
    inlay_session_close(small);
    inlay_session_close(s);
    inlay_backbone_release(b);
    image_free(&img);
    support_remove(folder);
    free(folder);
    free(bytes);
    free(pixels);
    free(reals);
}

typedef struct seen {
    int phases, steps, notes, evaluations, epochs, stop_after;
} seen;

static void on_phase(void *context, const char *what, int64_t total, const char *unit)
{
    (void)total, (void)unit;
    ((seen *)context)->phases += what != NULL;
}

static void on_progress(void *context, double done, double resumed, const char *text)
{
    (void)done, (void)resumed, (void)text;
    ((seen *)context)->steps++;
}

static void on_event(void *context, const char *kind, const char *json)
{
    seen *s = context;
    json_error_t where;
    json_t *record = json_loads(json, 0, &where);

    assert_non_null(record);
    s->epochs += strcmp(kind, "epoch") == 0;
    s->evaluations += strcmp(kind, "evaluation") == 0;
    json_decref(record);
}

static bool on_stop(void *context)
{
    const seen *s = context;

    return s->stop_after && s->epochs >= s->stop_after;
}

static inlay_observer observe(seen *s)
{
    return (inlay_observer){.size = sizeof(inlay_observer),
                            .context = s,
                            .phase = on_phase,
                            .progress = on_progress,
                            .event = on_event,
                            .stop = on_stop};
}

/* A run is watched, stopped, resumed, and its adapter loaded beside others that come and go. */
static void test_train_and_load(void **state)
{
    char *folder = strdup(support_folder()), *record = NULL, path[300], other[300], image_path[300];
    seen all = {0}, half = {.stop_after = 1};
    inlay_observer watch = observe(&all), stopped = observe(&half);
    inlay_backbone *b;
    inlay_session *s;
    inlay_input in = {.size = sizeof in, .name = image_path};
    float first[3], again[3], bias[3], own[CLASSES];
    json_t *root;
    inlay_error err;

    (void)state;
    make_images(folder);
    train(folder, "adapter_plus", "whole", &watch, &record, INLAY_OK);
    root = json_loads(record, 0, NULL);
    assert_int_equal(json_integer_value(json_object_get(root, "steps")), 6);
    json_decref(root);
    inlay_text_free(record);
    assert_true(all.phases >= 1);
    assert_true(all.steps >= 6);
    assert_int_equal(all.epochs, 2);
    assert_int_equal(all.evaluations, 1);
    train(folder, "adapter_plus", "halves", &stopped, &record, INLAY_ERR_INTERRUPTED);
    assert_null(record);
    train(folder, "adapter_plus", "halves", NULL, NULL, INLAY_OK);
    snprintf(path, sizeof path, "cmp '%s/whole/adapter.safetensors' '%s/halves/adapter.safetensors'", folder, folder);
    assert_int_equal(system(path), 0);
    train(folder, "bitfit", "bias", NULL, NULL, INLAY_OK);

    b = open_backbone(VIT);
    s = open_session(b, 0);
    snprintf(path, sizeof path, "%s/whole", folder);
    snprintf(other, sizeof other, "%s/bias", folder);
    snprintf(image_path, sizeof image_path, "%s/data/val/class1/00.ppm", folder);
    ASSERT_OK(inlay_session_run(s, NULL, &in, 1, own, NULL, &err));
    ASSERT_OK(inlay_session_load(s, "whole", path, &err));
    ASSERT_OK(inlay_session_run(s, "whole", &in, 1, first, NULL, &err));
    assert_int_equal(inlay_session_load(s, "whole", path, &err), INLAY_ERR_USAGE);
    ASSERT_OK(inlay_session_load(s, "bias", other, &err));
    ASSERT_OK(inlay_session_run(s, "bias", &in, 1, bias, NULL, &err));
    assert_memory_not_equal(first, bias, sizeof first);
    assert_int_equal(inlay_session_count(s), 2);
    assert_string_equal(inlay_session_label(s, "whole", 1), "class1");
    ASSERT_OK(inlay_session_run(s, "whole", &in, 1, again, NULL, &err));
    assert_memory_equal(first, again, sizeof first);
    ASSERT_OK(inlay_session_drop(s, "whole", &err));
    assert_int_equal(inlay_session_drop(s, "whole", &err), INLAY_ERR_USAGE);
    assert_int_equal(inlay_session_run(s, "whole", &in, 1, again, NULL, &err), INLAY_ERR_USAGE);
    ASSERT_OK(inlay_session_run(s, "bias", &in, 1, again, NULL, &err));
    assert_memory_equal(bias, again, sizeof bias);
    ASSERT_OK(inlay_session_load(s, "whole", path, &err));
    ASSERT_OK(inlay_session_run(s, "whole", &in, 1, again, NULL, &err));
    assert_memory_equal(first, again, sizeof first);
    {
        float now[CLASSES];
        ASSERT_OK(inlay_session_run(s, NULL, &in, 1, now, NULL, &err));
        assert_memory_equal(own, now, sizeof own); /* nobody has changed the backbone */
    }
    inlay_session_close(s);
    inlay_backbone_release(b);
    support_remove(folder);
    free(folder);
}

typedef struct runner {
    const char *folder, *method, *name;
    seen what;
} runner;

static void *run_one(void *context)
{
    runner *r = context;
    inlay_observer watch = observe(&r->what);

    train(r->folder, r->method, r->name, &watch, NULL, INLAY_OK);
    return NULL;
}

/* Runs side by side in one process end with the bits that they have alone. */
static void test_runs_beside(void **state)
{
    char *folder = strdup(support_folder()), command[300];
    runner runs[] = {{folder, "adapter_plus", "a", {0}}, {folder, "bitfit", "b", {0}}, {folder, "adamix", "c", {0}}};
    pthread_t threads[3];

    (void)state;
    make_images(folder);
    for (int i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, run_one, &runs[i]), 0);
    for (int i = 0; i < 3; i++) {
        char alone[8];
        pthread_join(threads[i], NULL);
        assert_int_equal(runs[i].what.epochs, 2);
        snprintf(alone, sizeof alone, "%s0", runs[i].name);
        train(folder, runs[i].method, alone, NULL, NULL, INLAY_OK);
        snprintf(command, sizeof command, "cd '%s' && cmp %s/adapter.safetensors %s/adapter.safetensors", folder,
                 runs[i].name, alone);
        assert_int_equal(system(command), 0);
    }
    support_remove(folder);
    free(folder);
}

/* Every job and every option can be found by walking; what is given wrongly is refused with its name. */
static void test_options(void **state)
{
    inlay_job_info job = {.size = sizeof job};
    inlay_option_info row = {.size = sizeof row};
    inlay_options *o;
    inlay_error err;
    int jobs = 0;

    (void)state;
    for (; inlay_job_at(jobs, &job); jobs++) {
        int rows = 0;
        assert_true(*job.summary && *job.usage && *job.details);
        ASSERT_OK(inlay_options_new(&o, job.name, NULL, &err));
        for (; inlay_options_at(o, rows, &row); rows++)
            assert_true(*row.name && *row.help && *row.kind && *row.section);
        assert_true(rows > 1);
        assert_int_equal(inlay_options_set(o, "no_such_option", "1", &err), INLAY_ERR_USAGE);
        assert_non_null(strstr(err.message, "no_such_option"));
        inlay_options_free(o);
    }
    assert_true(jobs >= 10);
    assert_false(inlay_job_at(-1, &job));
    assert_int_equal(inlay_options_new(&o, "nothing", NULL, &err), INLAY_ERR_USAGE);
    assert_null(o);
    assert_int_equal(inlay_options_new(&o, "train", "no_method", &err), INLAY_OK);
    assert_int_equal(inlay_run(o, NULL, NULL, &err), INLAY_ERR_USAGE);
    inlay_options_free(o);
    ASSERT_OK(inlay_options_new(&o, "train", "lora", &err));
    ASSERT_OK(inlay_options_set(o, "rank", "4", &err));
    assert_string_equal(inlay_options_get(o, "rank"), "4");
    assert_int_equal(inlay_options_set(o, "rank", "many", &err), INLAY_ERR_USAGE);
    assert_int_equal(inlay_options_set(o, "epochs", "0", &err), INLAY_ERR_USAGE);
    assert_int_equal(inlay_options_set(o, "method", "ssf", &err), INLAY_ERR_USAGE);
    assert_null(inlay_options_get(o, "no_such_option"));
    assert_int_equal(inlay_options_add_word(o, "word", &err), INLAY_ERR_USAGE);
    inlay_options_free(o);
}

/* One value of the checkpoint is not a number: no answer, and no probabilities, are made of that. */
static void test_not_finite(void **state)
{
    char *folder = strdup(support_folder()), path[300], command[700];
    uint8_t *pixels = calloc(1, 32 * 32 * 3);
    inlay_prediction top[5];
    inlay_error err;
    inlay_backbone *b;
    inlay_session *model;
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
    b = open_backbone(folder);
    model = open_session(b, 0);
    assert_int_equal(
        inlay_session_run(model, NULL,
                          &(inlay_input){.size = sizeof(inlay_input), .kind = INLAY_INPUT_PIXELS_U8, .data = pixels}, 1,
                          logits, NULL, &err),
        INLAY_ERR_FORMAT);
    assert_non_null(strstr(err.message, "'input 0': the logits are not finite; tensor 'norm.bias'"));
    support_images(folder, "some", 1, 1, 48);
    snprintf(path, sizeof path, "%s/some/class0/00.ppm", folder);
    assert_int_equal(inlay_session_classify(model, NULL, &(inlay_input){.size = sizeof(inlay_input), .name = path}, top,
                                            5, &found, &err),
                     INLAY_ERR_FORMAT);
    assert_int_equal(found, 0);
    assert_non_null(strstr(err.message, "00.ppm': the logits are not finite"));
    inlay_session_close(model);
    inlay_backbone_release(b);
    support_remove(folder);
    free(folder);
    free(pixels);
}

static void test_refused(void **state)
{
    inlay_backbone *b;
    inlay_session *s;
    inlay_error err;

    (void)state;
    assert_int_equal(inlay_backbone_open(&b, NULL, NULL, &err), INLAY_ERR_USAGE);
    assert_int_equal(inlay_backbone_open(&b, "/nowhere", NULL, &err), INLAY_ERR_IO);
    assert_null(b);
    b = open_backbone(VIT);
    assert_int_equal(
        inlay_session_open(&s, b, &(inlay_session_options){.size = sizeof(inlay_session_options), .precision = "f16"},
                           &err),
        INLAY_ERR_USAGE);
    assert_null(s);
    s = open_session(b, 0);
    inlay_backbone_release(b); /* the session holds it */
    assert_int_equal(inlay_session_load(s, "one", "/nowhere", &err), INLAY_ERR_IO);
    assert_int_equal(inlay_session_load(s, NULL, "/nowhere", &err), INLAY_ERR_USAGE);
    assert_int_equal(inlay_session_count(s), 0);
    inlay_session_close(s);
    assert_string_equal(inlay_version(), INLAY_VERSION_STRING);
    assert_string_equal(inlay_status_name(INLAY_ERR_NOMEM), "out of memory");
    inlay_session_close(NULL);
    inlay_backbone_release(NULL);
    inlay_options_free(NULL);
    inlay_text_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_inputs),      cmocka_unit_test(test_train_and_load),
                                       cmocka_unit_test(test_runs_beside), cmocka_unit_test(test_options),
                                       cmocka_unit_test(test_refused),     cmocka_unit_test(test_not_finite)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
