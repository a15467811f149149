/* consistency: of its two divergences each has a target that counts as constant, so that differences of the loss would
 * show another gradient: checked against its formula. */
#include "kernels/kernel_sets.h"

#include "graph/op_impl.h"

static const step_info step = {.seed = 13, .step = 3};

static void softmax(double *p, const double *z, int count)
{
    double sum = 0;

    for (int i = 0; i < count; i++)
        sum += exp(z[i]);
    for (int i = 0; i < count; i++)
        p[i] = exp(z[i]) / sum;
}

static void test_consistency(void **state)
{
    enum { SAMPLES = 2, WIDE = 4 };
    static const double a[SAMPLES][WIDE] = {{0.3, -1.2, 2, 0}, {1, 1, -0.5, 0.25}},
                        b[SAMPLES][WIDE] = {{0, 0.7, 1, -2}, {0.5, 3, 0, 0}};
    arena *memory = arena_new();
    graph *g = graph_new(&kernels_reference, DTYPE_F64);
    param *scale[2];
    value in[2], z[2], loss;
    inlay_error err;
    device dev;
    program *p;
    double expected = 0;

    (void)state;
    for (int side = 0; side < 2; side++) { /* a trained factor on each side lets gradients reach the logits */
        scale[side] = param_new(memory, side ? "right" : "left", 1, (int64_t[]){WIDE});
        scale[side]->trainable = true;
        in[side] = graph_input(g, "in", DTYPE_F64, 1, WIDE);
        z[side] = graph_affine(g, in[side], scale[side], NULL, 1);
        graph_keep(g, z[side]);
    }
    loss = graph_add_scaled(g, graph_distance(g, z[0], z[0]), graph_consistency(g, z[0], z[1]), 3);
    graph_finish(g);
    ASSERT_OK(device_open(&dev, &kernels_reference, 1, &err));
    program_request request = {.dev = &dev, .max_batch = SAMPLES, .backward = true, .wanted = &loss, .wanted_count = 1};
    ASSERT_OK(program_new(&p, g, &request, &err));
    for (int side = 0; side < 2; side++) {
        param_set(scale[side], &dev, (float[]){1, 1, 1, 1});
        memcpy(program_value(p, in[side], SAMPLES).data, side ? b : a, sizeof a);
    }
    program_step(p, SAMPLES, &step);
    for (int s = 0; s < SAMPLES; s++) {
        double pa[WIDE], pb[WIDE];
        mat da = program_grad(p, z[0], SAMPLES), db = program_grad(p, z[1], SAMPLES);
        softmax(pa, a[s], WIDE);
        softmax(pb, b[s], WIDE);
        for (int i = 0; i < WIDE; i++) {
            expected += 3 * (pa[i] * log(pa[i] / pb[i]) + pb[i] * log(pb[i] / pa[i])) / (2 * SAMPLES);
            assert_true(fabs(get(&da, s, i) - 3 * (pa[i] - pb[i]) / (2 * SAMPLES)) < 1e-12);
            assert_true(fabs(get(&db, s, i) + 3 * (pa[i] - pb[i]) / (2 * SAMPLES)) < 1e-12);
        }
    }
    assert_true(fabs(*(double *)program_value(p, loss, SAMPLES).data - expected) < 1e-12);
    program_free(p);
    param_release(scale[0], &dev);
    param_release(scale[1], &dev);
    graph_free(g);
    arena_free(memory);
    device_close(&dev);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_consistency)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
