/* Methods on backbones that do not read a class token: gradients through attention pooling and averages, and oblong
 * images. */
#include "support.h"

#include <math.h>

#include "adapters/adapter.h"
#include "infer/model.h"

#define CLASSES 3
#define BATCH 2

extern const kernels kernels_reference;

typedef struct bench {
    device dev;
    backbone *b;
    adapter *a;
    model m;
    program *p;
} bench;

static const step_info step = {.seed = 7, .step = 3};

static void open_bench(bench *s, const char *folder, const char *name)
{
    inlay_error err;
    options *settings;

    ASSERT_OK(device_open(&s->dev, &kernels_reference, 1, &err));
    ASSERT_OK(backbone_open(&s->b, folder, 0, &err));
    ASSERT_OK(adapter_settings(&settings, name, &err));
    ASSERT_OK(adapter_new(&s->a, name, settings, s->b, CLASSES, (const char *const[]){"a", "b", "c"}, &err));
    ASSERT_OK(adapter_initialise(s->a, &s->dev, 11, &err));
    model_request request = {.dev = &s->dev, .b = s->b, .a = s->a, .pixel_type = DTYPE_U8, .training = true};
    ASSERT_OK(model_build(&s->m, &request, &err));
    program_request plan = {.dev = &s->dev,
                            .max_batch = BATCH,
                            .backward = true,
                            .wanted = (value[]){s->m.loss, s->m.logits},
                            .wanted_count = 2};
    ASSERT_OK(program_new(&s->p, s->m.g, &plan, &err));
    uint8_t *pixels = program_value(s->p, s->m.pixels, BATCH).data;
    int32_t *labels = program_value(s->p, s->m.targets, BATCH).data;
    for (int64_t i = 0; i < BATCH * s->b->shape.height * s->b->shape.image_width * 3; i++)
        pixels[i] = (uint8_t)(rng_u32((rng_stream){.seed = 5, .purpose = RNG_TEST}, (uint64_t)i) >> 24);
    for (int32_t i = 0; i < BATCH; i++)
        labels[i] = i % CLASSES;
}

static void close_bench(bench *s)
{
    program_free(s->p);
    model_free(&s->m);
    adapter_free(s->a, &s->dev);
    backbone_close(s->b);
    device_close(&s->dev);
}

static double loss_of(bench *s)
{
    program_forward(s->p, BATCH, &step);
    return *(double *)program_value(s->p, s->m.loss, BATCH).data;
}

static double loss_at(bench *s, param *p, int64_t i, double x)
{
    double kept = ((double *)p->data)[i], loss;

    ((double *)p->data)[i] = x;
    param_changed(p);
    loss = loss_of(s);
    ((double *)p->data)[i] = kept;
    param_changed(p);
    return loss;
}

/* Whether any of the entries looked at has a gradient; each agrees with differences of the loss. */
static bool check_gradient(bench *s, const char *where, param *p)
{
    bool any = false;

    for (int64_t i = 0; i < p->count; i += p->count / 3 + 1) {
        double x = ((double *)p->data)[i], h = 1e-5, found = ((double *)p->grad)[i];
        double numeric = (loss_at(s, p, i, x + h) - loss_at(s, p, i, x - h)) / (2 * h);
        if (fabs(numeric - found) > 1e-6 * (1e-2 + fabs(numeric)))
            fail_msg("%s: gradient of '%s'[%lld] is %.9g, differences give %.9g", where, p->name, (long long)i, found,
                     numeric);
        any = any || found != 0;
    }
    return any;
}

/* The method's trained tensors, and how many of the attention pooling are among them. */
static int check_method(const char *folder, const char *name)
{
    int pooled = 0;
    bench s;

    open_bench(&s, folder, name);
    loss_of(&s);
    program_step(s.p, BATCH, &step);
    for (const adapter_param *i = NULL; (i = adapter_each_param(s.a, i));) {
        param *p = i->p;
        bool any = p->trainable && check_gradient(&s, folder, p);
        pooled += any && strncmp(p->name, "attn_pool.", 10) == 0;
    }
    close_bench(&s);
    return pooled;
}

static void test_pooled(void **state)
{
    static const char *const folders[] = {"SiglipModel", "IJepaModel", "ViTOblong", "Dinov2WithRegistersModel",
                                          "DeiTModel"};
    static const char *const names[] = {"adapter_plus", "lora", "vpt", "ssf", "full"};

    (void)state;
    for (size_t f = 0; f < sizeof folders / sizeof *folders; f++)
        for (size_t n = 0; n < sizeof names / sizeof *names; n++) {
            char folder[400];
            int pooled;
            snprintf(folder, sizeof folder, TEST_DATA "/oracle/hf/%s", folders[f]);
            pooled = check_method(folder, names[n]);
            assert_int_equal(pooled > 0, f == 0 && strcmp(names[n], "full") == 0);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pooled),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
