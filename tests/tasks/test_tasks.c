/* Metrics of tasks against scikit-learn and SciPy (tools/make_metric_oracles.py); what is not defined; targets that fit
 * no class. */
#include "support.h"

#include <math.h>

#include "base/json.h"
#include "tasks/task.h"

static double number(const json_t *list, size_t i)
{
    return json_number_value(json_array_get(list, i));
}

static void add(task_scores *s, const json_t *answer, const json_t *target)
{
    float outputs[16], numbers[16];
    int32_t label = (int32_t)json_integer_value(target);
    inlay_error err;

    for (int64_t i = 0; i < s->outputs; i++) {
        outputs[i] = (float)number(answer, (size_t)i);
        numbers[i] = (float)number(target, (size_t)i);
    }
    ASSERT_OK(task_scores_add(s, outputs, s->task->one_class ? (const void *)&label : numbers, &err));
}

static void test_oracles(void **state)
{
    json_error_t where;
    json_t *cases = json_load_file(TEST_DATA "/oracle/metrics.json", 0, &where);
    bool seen[8] = {false};

    (void)state;
    assert_true(json_array_size(cases) >= 5);
    for (size_t i = 0; i < json_array_size(cases); i++) {
        const json_t *c = json_array_get(cases, i), *answers = json_object_get(c, "answers"),
                     *targets = json_object_get(c, "targets"), *values = json_object_get(c, "values");
        const task_desc *t = task_find(json_string_value(json_object_get(c, "task")));
        inlay_error err;
        task_scores s;
        assert_non_null(t);
        ASSERT_OK(task_scores_begin(&s, t, json_integer_value(json_object_get(c, "outputs")), true, &err));
        for (size_t j = 0; j < json_array_size(answers); j++)
            add(&s, json_array_get(answers, j), json_array_get(targets, j));
        task_scores_end(&s);
        assert_int_equal(s.count, json_array_size(answers));
        assert_true(fabs(s.loss - json_number_value(json_object_get(c, "loss"))) < 1e-9);
        for (size_t k = 0; k < json_array_size(values); k++) {
            assert_non_null(t->metrics[k].name);
            if (!(fabs(s.values[k] - number(values, k)) < 1e-9))
                fail_msg("%s, case %zu, %s: %.12g, expected %.12g", t->name, i, t->metrics[k].name, s.values[k],
                         number(values, k));
        }
        assert_null(t->metrics[json_array_size(values)].name);
        assert_int_equal(s.confusion != NULL, t->one_class);
        for (int k = 0; task_table[k]; k++)
            seen[k] |= task_table[k] == t;
        task_scores_free(&s);
    }
    for (int k = 0; task_table[k]; k++)
        if (!seen[k])
            fail_msg("task '%s' has no case", task_table[k]->name);
    json_decref(cases);
}

/* Correlations and r2 of what does not vary, precision where no class occurs. */
static void test_undefined(void **state)
{
    const float same[1] = {2}, other[1] = {3}, none[2] = {0, 0}, logits[2] = {1, -1};
    task_scores s;
    inlay_error err;

    (void)state;
    ASSERT_OK(task_scores_begin(&s, task_find("regress"), 1, false, &err));
    for (int i = 0; i < 4; i++)
        ASSERT_OK(task_scores_add(&s, i % 2 ? same : other, same, &err));
    task_scores_end(&s);
    assert_true(s.values[0] == 0.5 && isnan(s.values[1]) && isnan(s.values[2]) && isnan(s.values[3]));
    task_scores_free(&s);
    ASSERT_OK(task_scores_begin(&s, task_find("multilabel"), 2, false, &err));
    ASSERT_OK(task_scores_add(&s, logits, none, &err));
    task_scores_end(&s);
    assert_true(s.values[0] == 0 && s.values[1] == 0 && isnan(s.values[2]));
    task_scores_free(&s);
    for (int i = 0; task_table[i]; i++) { /* of nothing */
        ASSERT_OK(task_scores_begin(&s, task_table[i], 2, true, &err));
        task_scores_end(&s);
        assert_int_equal(s.count, 0);
        task_scores_free(&s);
    }
}

static void test_no_class(void **state)
{
    const float logits[2] = {1, 2};
    const int32_t labels[] = {-1, 2};
    task_scores s;
    inlay_error err;

    (void)state;
    ASSERT_OK(task_scores_begin(&s, task_find("classify"), 2, false, &err));
    for (int i = 0; i < 2; i++) {
        assert_int_equal(task_scores_add(&s, logits, &labels[i], &err), INLAY_ERR_USAGE);
        assert_non_null(strstr(err.message, "but the model has 2 classes"));
    }
    assert_int_equal(s.count, 0);
    task_scores_free(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_oracles), cmocka_unit_test(test_undefined),
                                       cmocka_unit_test(test_no_class)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
