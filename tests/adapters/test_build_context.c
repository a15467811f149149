/* What functions of edges see while a graph is built: other sites, earlier layers, a state that goes from layer to
 * layer, the pass before. Toy nets with numbers that can be followed by hand; then edges between any two places of a
 * ViT. */
#include "support.h"

#include <math.h>

#include "adapters/adapter.h"
#include "graph/program.h"
#include "infer/model.h"
#include "kernels/kernel_sets.h"

#define VIT TEST_DATA "/oracle/vit"
#define CLASSES 2

static const float one = 1;

/* A weight of the toy with these values, made when it is first asked for; rows 0: a vector. */
static param *weight(backbone *b, const char *name, int64_t rows, int64_t cols, const float *values)
{
    param *p = backbone_param(b, name);

    return p ? p
             : backbone_add_param(b, name, rows ? 2 : 1, rows ? (const int64_t[]){rows, cols} : &cols, values,
                                  DTYPE_F32);
}

static value reach(graph *g, const build_request *q, site_kind kind, int layer, value v)
{
    return q->hooks->reach(q->hooks->context, g, (site){kind, layer}, v, 0, graph_cols(g, v));
}

/* An adapter for the toy: a head, and edges that the test adds. */
static adapter *toy_adapter(backbone *b)
{
    inlay_error err;
    options *o;
    adapter *a;

    ASSERT_OK(adapter_settings(&o, "linear", &err));
    ASSERT_OK(adapter_new(&a, "linear", o, b, CLASSES, NULL, &err));
    return a;
}

static backbone *toy_backbone(const backbone_desc *desc, int64_t width, int64_t depth)
{
    backbone *b = backbone_new();

    b->desc = desc;
    b->path = "toy";
    b->shape = (backbone_shape){.architecture = "toy",
                                .width = width,
                                .depth = depth,
                                .heads = 1,
                                .hidden = width,
                                .tokens = 1,
                                .prefix_tokens = 1,
                                .height = 1,
                                .image_width = 1,
                                .channels = 1,
                                .patch = 1};
    return b;
}

/* out = the features of the model. */
static void run_toy(const kernels *k, backbone *b, adapter *a, float *out)
{
    device d;
    model m;
    program *p;
    model_request request = {.dev = &d, .b = b, .a = a, .pixel_type = DTYPE_U8, .features = true};
    program_request plan = {.dev = &d, .max_batch = 1, .wanted_count = 1};
    inlay_error err;

    ASSERT_OK(device_open(&d, k, 1, &err));
    ASSERT_OK(adapter_initialise(a, &d, 1, &err));
    ASSERT_OK(model_build(&m, &request, &err));
    plan.wanted = &m.features;
    ASSERT_OK(program_new(&p, m.g, &plan, &err));
    program_forward(p, 1, &(step_info){0});
    program_read(p, m.features, 1, out);
    program_free(p);
    model_free(&m);
    adapter_free(a, &d);
    backbone_close(b);
    device_close(&d);
}

/* ---- h0 = 1, h1 = h0 + 0.5 h0, h2 = h1 + 0.25 h1^2, and an adapter 0.1 x on one edge ---- */

static site node_site(int node)
{
    return node == 0 ? (site){SITE_BLOCK_INPUT, 0}
                     : (site){node % 2 ? SITE_ATTN_RESIDUAL : SITE_BLOCK_OUTPUT, (node - 1) / 2};
}

/* 0.25 x^2, as a rational function without a denominator. */
static value quarter_square(backbone *b, graph *g, value x)
{
    static const float numerator[6] = {0, 0, 0.25f, 0, 0, 0}, denominator[4] = {0};

    return graph_rational(g, x, weight(b, "numerator", 0, 6, numerator), weight(b, "denominator", 0, 4, denominator),
                          true);
}

static build_result build_net(backbone *b, graph *g, const build_request *q)
{
    value h = graph_broadcast(g, weight(b, "h0", 1, 1, &one));
    build_result result = {.logits = NO_VALUE};

    h = reach(g, q, SITE_BLOCK_INPUT, 0, h);
    h = reach(g, q, SITE_ATTN_RESIDUAL, 0, graph_add(g, h, graph_affine(g, h, NULL, NULL, 0.5)));
    h = reach(g, q, SITE_BLOCK_OUTPUT, 0, graph_add(g, h, quarter_square(b, g, h)));
    result.features = h;
    return result;
}

static const backbone_desc net = {.name = "toy", .build = build_net};

static value tenth(const build_context *b, value x, const void *context)
{
    (void)context;
    return graph_affine(b->g, x, NULL, NULL, 0.1);
}

static void test_edge_kinds(void **state)
{
    static const struct {
        int from, to;
        double h2;
    } rows[] = {
        {-1, -1, 2.0625},                              /* none */
        {0, 1, 2.24},                                  /* parallel */
        {1, 1, 2.330625},                              /* sequential */
        {0, 2, 2.1625},                                /* over a block */
        {2, 0, 1.809375 + 0.25 * 1.809375 * 1.809375}, /* back: 1 + 0.1 * 2.0625 in place of 1 */
    };
    const kernels *sets[MOST_SETS];
    int count = kernel_sets(sets);

    (void)state;
    for (int s = 0; s < count; s++)
        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
            backbone *b = toy_backbone(&net, 1, 1);
            adapter *a = toy_adapter(b);
            float h2;
            if (rows[i].from >= 0)
                adapter_add_edge(a, node_site(rows[i].from), node_site(rows[i].to), tenth, NULL);
            assert_int_equal(adapter_feeds_back(a), rows[i].from > rows[i].to);
            run_toy(sets[s], b, a, &h2);
            assert_true(fabs((double)h2 - rows[i].h2) < 3e-7 * rows[i].h2);
        }
}

/* ---- identical blocks, and a controller over depth: h = relu(W x + u h + b), x += M h (arXiv 2403.19709) ---- */

static build_result build_identity(backbone *b, graph *g, const build_request *q)
{
    static const float begin[2] = {1, 2};
    value x = graph_broadcast(g, weight(b, "x", 1, 2, begin));
    build_result result = {.logits = NO_VALUE};

    for (int layer = 0; layer < b->shape.depth; layer++) {
        x = reach(g, q, SITE_BLOCK_INPUT, layer, x);
        x = reach(g, q, SITE_BLOCK_OUTPUT, layer, x);
    }
    result.features = x;
    return result;
}

static const backbone_desc identity = {.name = "identity", .build = build_identity};

static value control(const build_context *b, value x, const void *context)
{
    static const float w[4] = {1, 0, 0, -1}, u[2] = {0.5f, 2}, bias[2] = {0, 0.5f}, out[4] = {0.1f, 0, 0, 0.2f};
    backbone *toy = b->a->backbone;
    value before = build_kept(b, context), h;

    h = graph_linear(b->g, x, weight(toy, "W", 2, 2, w), weight(toy, "b", 0, 2, bias), 0, 0);
    if (before != NO_VALUE)
        h = graph_add(b->g, h, graph_affine(b->g, before, weight(toy, "u", 0, 2, u), NULL, 1));
    else
        assert_int_equal(b->at.layer, 0);
    h = graph_activation(b->g, h, ACT_RELU);
    build_keep(b, context, h);
    return graph_linear(b->g, h, weight(toy, "M", 2, 2, out), NULL, 0, 0);
}

static void test_state_over_layers(void **state)
{
    static const double right[3] = {1.1, 1.26, 1.466};
    const kernels *sets[MOST_SETS];
    int count = kernel_sets(sets), key;

    (void)state;
    for (int s = 0; s < count; s++)
        for (int depth = 1; depth <= 3; depth++) {
            backbone *b = toy_backbone(&identity, 2, depth);
            adapter *a = toy_adapter(b);
            float x[2];
            for (int layer = 0; layer < depth; layer++)
                adapter_add_edge(a, (site){SITE_BLOCK_OUTPUT, layer}, (site){SITE_BLOCK_OUTPUT, layer}, control, &key);
            run_toy(sets[s], b, a, x);
            assert_true(fabs((double)x[0] - right[depth - 1]) < 1e-6);
            assert_true(fabs((double)x[1] - 2) < 1e-6);
        }
}

/* ---- a ViT ---- */

static uint8_t pixels[2 * 32 * 32 * 3];

/* Logits of two images, and what a forward pass of one takes. */
static double run_vit(device *d, backbone *b, const adapter *a, float logits[2 * CLASSES])
{
    model_request request = {.dev = d, .b = b, .a = a, .pixel_type = DTYPE_U8};
    predictor p;
    inlay_error err;
    double flops;

    ASSERT_OK(predictor_open(&p, &request, 2, &err));
    memcpy(predictor_pixels(&p), pixels, sizeof pixels);
    predictor_run(&p, 2, logits);
    flops = program_flops(p.p, false);
    predictor_close(&p);
    return flops;
}

static value times(const build_context *b, value x, const void *context)
{
    return graph_affine(b->g, x, NULL, NULL, *(const double *)context);
}

/* Adapters of zero on any set of edges leave the bits of the frozen model; others do not, wherever they lie. What feeds
 * back runs again only from its target on. */
static void test_any_edges(void **state)
{
    static const double zero = 0, some = 0.01;
    const rng_stream draw = {.seed = 11, .purpose = RNG_TEST};
    float right[2 * CLASSES], logits[2 * CLASSES];
    inlay_error err;
    device d;
    backbone *b;
    adapter *a;
    double whole;
    int nodes;
    uint64_t at = 0;

    (void)state;
    for (size_t i = 0; i < sizeof pixels; i++)
        pixels[i] = (uint8_t)(rng_u32((rng_stream){.seed = 5, .purpose = RNG_TEST}, i) >> 24);
    ASSERT_OK(device_open(&d, NULL, 2, &err));
    ASSERT_OK(backbone_open(&b, VIT, 0, &err));
    nodes = (int)(2 * b->shape.depth + 1);
    a = toy_adapter(b);
    ASSERT_OK(adapter_initialise(a, &d, 3, &err));
    whole = run_vit(&d, b, a, right);
    for (int from = 0; from < nodes; from++)
        for (int to = 0; to < nodes; to++) {
            adapter *c = toy_adapter(b);
            double flops;
            adapter_add_edge(c, node_site(from), node_site(to), times, &some);
            ASSERT_OK(adapter_initialise(c, &d, 3, &err));
            flops = run_vit(&d, b, c, logits);
            assert_memory_not_equal(logits, right, sizeof right);
            if (from <= to)
                assert_true(flops <= whole * 1.0001);
            else
                assert_true(flops > whole * 1.1 && flops < whole * (2.2 - 0.8 * to / nodes));
            adapter_free(c, &d);
        }
    for (int round = 0; round < 30; round++) {
        adapter *c = toy_adapter(b);
        for (uint32_t i = 0, n = 1 + rng_below(draw, at++, 5); i < n; i++) {
            int from = (int)rng_below(draw, at++, (uint32_t)nodes), to = (int)rng_below(draw, at++, (uint32_t)nodes);
            adapter_add_edge(c, node_site(from), node_site(to), times, &zero);
        }
        ASSERT_OK(adapter_initialise(c, &d, 3, &err));
        run_vit(&d, b, c, logits);
        assert_memory_equal(logits, right, sizeof right);
        adapter_free(c, &d);
    }
    adapter_free(a, &d);
    backbone_close(b);
    device_close(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_edge_kinds), cmocka_unit_test(test_state_over_layers),
                                       cmocka_unit_test(test_any_edges)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
