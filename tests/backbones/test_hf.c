/* Every model_type of Hugging Face that is read, against what transformers computes (tools/make_hf_oracles.py). */
#include "support.h"

#include <dirent.h>
#include <math.h>

#include "backbones/backbone.h"
#include "graph/program.h"

#define MODELS TEST_DATA "/oracle/hf/"

extern const kernels kernels_reference;

typedef struct opened {
    device d;
    backbone *b;
    graph *g;
    value pixels;
    program *p;
} opened;

/* The model, with what is to be compared as the program's result. */
static value open_model(opened *o, const char *folder, const kernels *k, bool logits, int64_t batch)
{
    inlay_error err;
    value wanted;

    ASSERT_OK(device_open(&o->d, k, 2, &err));
    ASSERT_OK(backbone_open(&o->b, folder, 0, &err));
    o->g = graph_new(o->d.k, o->d.k->real);
    o->pixels = graph_input(o->g, "pixels", DTYPE_U8, 1, o->b->shape.height * o->b->shape.image_width * 3);
    build_request request = {.pixels = o->pixels, .own_head = true};
    build_result result = o->b->desc->build(o->b, o->g, &request);
    assert_int_equal(result.logits != NO_VALUE, logits);
    wanted = logits ? result.logits : result.features;
    graph_keep(o->g, wanted);
    graph_finish(o->g);
    program_request plan = {.dev = &o->d, .max_batch = batch, .wanted = &wanted, .wanted_count = 1};
    ASSERT_OK(program_new(&o->p, o->g, &plan, &err));
    return wanted;
}

static void close_model(opened *o)
{
    program_free(o->p);
    graph_free(o->g);
    backbone_close(o->b);
    device_close(&o->d);
}

static void compare(const char *folder, const kernels *k, double limit)
{
    inlay_error err;
    char path[512];
    tensor_set *oracle;
    const tensor_view *pixels, *expected;
    step_info step = {0};
    double most = 0;
    opened o;
    value wanted;
    float *found;

    snprintf(path, sizeof path, "%s/expected.safetensors", folder);
    ASSERT_OK(tensor_set_open(&oracle, path, &err));
    pixels = tensor_set_find(oracle, "pixels");
    expected = tensor_set_find(oracle, "logits");
    wanted = open_model(&o, folder, k, expected != NULL, pixels->dims[0]);
    expected = expected ? expected : tensor_set_find(oracle, "features");
    assert_int_equal(pixels->count, pixels->dims[0] * o.b->shape.height * o.b->shape.image_width * 3);
    memcpy(program_value(o.p, o.pixels, pixels->dims[0]).data, pixels->data, (size_t)pixels->count);
    program_forward(o.p, pixels->dims[0], &step);
    found = malloc((size_t)expected->count * sizeof *found);
    device_get_f32(&o.d, found, program_value(o.p, wanted, pixels->dims[0]).data, expected->count);
    for (int64_t i = 0; i < expected->count; i++) {
        float e;
        memcpy(&e, (const unsigned char *)expected->data + (size_t)i * sizeof e, sizeof e);
        most = fmax(most, fabs((double)found[i] - (double)e));
    }
    if (!(most <= limit))
        fail_msg("%s on %s: differs by %.3g, allowed %.3g", folder, o.d.k->name, most, limit);
    free(found);
    close_model(&o);
    tensor_set_close(oracle);
}

static void test_types(void **state)
{
    DIR *all = opendir(MODELS);
    const struct dirent *entry;
    int count = 0;

    (void)state;
    assert_non_null(all);
    while ((entry = readdir(all))) {
        char folder[400];
        if (entry->d_name[0] == '.')
            continue;
        snprintf(folder, sizeof folder, MODELS "%s", entry->d_name);
        compare(folder, &kernels_reference, 5e-6);
        compare(folder, NULL, 1e-4);
        count++;
    }
    closedir(all);
    assert_true(count >= 24);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_types),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
