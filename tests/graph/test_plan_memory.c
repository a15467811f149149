/* What programs are going to take, and sizes that are larger than a number holds. */
#include "graph/graph_bench.h"

#include "graph/layout.h"
#include "kernels/choice.h"

static value build(bench *s)
{
    value x = graph_input(s->g, "x", s->dev.k->real, 5, 16);

    x = graph_linear(s->g, x, make_param(s, 40, 16), make_param(s, 0, 40), 0, 0); /* trained */
    x = graph_linear(s->g, x, make_param(s, 16, 40), NULL, 0, 0);
    return to_loss(s, x);
}

static program_request request_of(bench *s, const value *loss, int64_t batch, bool backward)
{
    return (program_request){
        .dev = &s->dev, .max_batch = batch, .backward = backward, .wanted = loss, .wanted_count = 1};
}

static size_t size_of_forms(const kernels *k, const param *q, const param_form *form)
{
    size_t size = 0;

    for (; form; form = form->next)
        size += form->kind == FORM_PLAIN ? (size_t)q->count * sizeof(float)
                                         : k->pack_size(k, form->panels.n, form->panels.k, form->panels.type);
    return size;
}

/* The plan says what the program then has. */
static void test_measured_is_what_is_taken(void **state)
{
    const kernels *k;
    inlay_error err;
    bench s;

    (void)state;
    ASSERT_OK(kernels_choose(&k, &err));
    for (int64_t batch = 1; batch < 40; batch += 13) {
        program_needs needs = {0};
        size_t values = 0, weights;
        open_bench(&s, k, 1, k->real, 1);
        value loss = build(&s);
        graph_finish(s.g);
        program_request request = request_of(&s, &loss, batch, true);
        size_t activations = program_measure(&needs, s.g, &request);
        for (int i = 0; i < s.param_count; i++)
            assert_true(!s.params[i]->data && !s.params[i]->state->forms &&
                        !s.params[i]->state->frozen.forms); /* nothing was taken */
        ASSERT_OK(program_new(&s.p, s.g, &request, &err));
        assert_int_equal(activations, program_memory(s.p));
        weights = 0;
        for (int i = 0; i < s.param_count; i++) {
            const param *q = s.params[i];
            values += q->trainable ? (size_t)q->count * sizeof(float) : 0;
            weights += q->data ? (size_t)q->count * sizeof(float) : 0;
            weights += size_of_forms(k, q, q->state->forms) + size_of_forms(k, q, s.params[i]->state->frozen.forms);
        }
        assert_int_equal(needs.weights, weights);
        assert_int_equal(needs.training, 3 * values);
        weights = needs.weights;
        program_measure(&needs, s.g, &request); /* the same forms again */
        assert_int_equal(needs.weights, weights);
        program_needs_free(&needs);
        close_bench(&s);
    }
}

/* A batch so large that its bytes wrap around must not look like a small one. */
static void test_batches_that_wrap(void **state)
{
    static const int64_t batches[] = {INT64_MAX, INT64_MAX / 2 + 1, (int64_t)1 << 62, (int64_t)1 << 60,
                                      ((int64_t)1 << 62) / 5};
    const kernels *k;
    inlay_error err;

    (void)state;
    ASSERT_OK(kernels_choose(&k, &err));
    for (size_t i = 0; i < sizeof batches / sizeof *batches; i++) {
        program_needs needs = {0};
        bench s;
        open_bench(&s, k, 1, k->real, 1);
        value loss = build(&s);
        graph_finish(s.g);
        program_request request = request_of(&s, &loss, batches[i], true);
        assert_true(program_measure(&needs, s.g, &request) == SIZE_MAX);
        assert_int_equal(program_new(&s.p, s.g, &request, &err), INLAY_ERR_NOMEM);
        assert_null(s.p);
        program_needs_free(&needs);
        close_bench(&s);
    }
}

static void test_buffers_that_wrap(void **state)
{
    layout_buffer one = {.size = SIZE_MAX - 10, .start = 0, .end = 4},
                  all[] = {{.size = SIZE_MAX / 2, .start = 0, .end = 4},
                           {.size = SIZE_MAX / 2, .start = 1, .end = 2},
                           {.size = SIZE_MAX / 2, .start = 2, .end = 3}};

    (void)state;
    assert_true(layout_assign(&one, 1) == SIZE_MAX);
    assert_true(layout_assign(all, 3) == SIZE_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_measured_is_what_is_taken),
        cmocka_unit_test(test_batches_that_wrap),
        cmocka_unit_test(test_buffers_that_wrap),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
