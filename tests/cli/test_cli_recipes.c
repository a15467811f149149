/* Recipes on the command line: what a run takes from its method's, from a named one and from single options, and what
 * the record of the run says of it. */
#include "cli/command.h"

#include <math.h>

#include "formats/tensors.h"
#include "train/recipe.h"

#define TRAIN "train --backbone " VIT " --data data --quiet --threads 1 "

static void expect_text(const json_t *record, const char *key, const char *wanted)
{
    const char *found = json_string_value(json_object_get(record, key));

    if (!found || strcmp(found, wanted) != 0)
        fail_msg("'%s' is '%s', expected '%s'", key, found ? found : "absent", wanted);
}

static void expect_number(const json_t *record, const char *key, double wanted)
{
    const json_t *found = json_object_get(record, key);

    if (!json_is_number(found) || fabs(json_number_value(found) - wanted) > 1e-9 * fabs(wanted))
        fail_msg("'%s' is %.12g, expected %.12g", key, json_number_value(found), wanted);
}

static void test_record(void **state)
{
    json_t *r;

    (void)state;
    expect(inlay(TRAIN "--method mosa --rank 4 --epochs 20 --batch-size 9 --output mosa"), 0);
    r = member_of_run("mosa", "training");
    expect_text(r, "recipe", "mosa");
    expect_text(r, "adam_rule", "transformers");
    expect_text(r, "decay_on", "weights");
    expect_number(r, "weight_decay", 0.01);
    expect_number(r, "adam_eps", 1e-6);
    expect_number(r, "warmup_lr", 0);
    expect_number(r, "batch_size", 9);
    expect_number(r, "warmup_epochs", 10);
    expect_number(r, "backbone_drop_path", 0);
    json_decref(r);
    expect(inlay(TRAIN "--method mosa --rank 4 --epochs 2 --recipe adapter_plus --adam-eps 1e-7 --output other"), 0);
    r = member_of_run("other", "training");
    expect_text(r, "recipe", "adapter_plus");
    expect_text(r, "adam_rule", "torch");
    expect_number(r, "adam_eps", 1e-7);
    expect_number(r, "weight_decay", 1e-4);
    expect_number(r, "warmup_epochs", 0); /* a tenth of a short run */
    json_decref(r);
}

/* Adapter+'s own code has peak / 100 and peak / 1000. */
static void test_side_rates(void **state)
{
    json_t *r;

    (void)state;
    expect(inlay(TRAIN "--epochs 2 --output plain"), 0);
    r = member_of_run("plain", "training");
    expect_text(r, "recipe", "adapter_plus");
    expect_number(r, "lr", 1e-3);
    expect_number(r, "warmup_lr", 1e-5);
    expect_number(r, "min_lr", 1e-6);
    json_decref(r);
    expect(inlay(TRAIN "--epochs 2 --lr 0.02 --min-lr 1e-9 --output fast"), 0);
    r = member_of_run("fast", "training");
    expect_number(r, "warmup_lr", 2e-4);
    expect_number(r, "min_lr", 1e-9);
    json_decref(r);
    expect(inlay(TRAIN "--epochs 2 --method full --output full"), 0);
    r = member_of_run("full", "training");
    expect_number(r, "lr", 1e-4);
    expect_number(r, "warmup_lr", 1e-6);
    json_decref(r);
}

/* Every recipe with a method of its own and with a foreign one. */
static void test_all_recipes(void **state)
{
    static const char *const methods[] = {"adapter_plus", "mosa", "adaptable"};

    (void)state;
    for (const recipe *x = recipe_table; x->name; x++)
        for (size_t i = 0; i < sizeof methods / sizeof *methods; i++) {
            json_t *r;
            expect(inlay(TRAIN "--method %s --recipe %s --epochs 3 --batch-size 6 --output run --overwrite", methods[i],
                         x->name),
                   0);
            r = member_of_run("run", "training");
            expect_text(r, "recipe", x->name);
            expect_number(r, "lr", recipe_real(x, "lr"));
            json_decref(r);
        }
}

static void refuses(const char *given, const char *message)
{
    expect_error(inlay(TRAIN "--output no %s", given), 2, message);
}

static void test_refusals(void **state)
{
    (void)state;
    refuses("--recipe adapter_minus", "unknown recipe 'adapter_minus' (known: adapter_plus,");
    refuses("--momentum 0.9", "--momentum: of --optimizer sgd only; this run has adamw");
    refuses("--optimizer sgd --adam-eps 1e-6", "--adam-eps: of --optimizer adamw only; this run has sgd");
    refuses("--optimizer sgd --beta1 0.5", "--beta1: of --optimizer adamw only");
    refuses("--recipe vpt --beta2 0.5", "--beta2: of --optimizer adamw only");
    refuses("--recipe vpt --adam-rule bert", "--adam-rule: of --optimizer adamw only");
    refuses("--schedule constant --min-lr 0", "--min-lr: of --schedule cosine or linear only; this run has constant");
    refuses("--recipe bitfit --decay-from-start", "--decay-from-start: of --schedule cosine or linear only");
    refuses("--warmup-epochs 1 --warmup-share 0.1", "give one of them");
    refuses("--optimizer lion", "'lion' is not one of adamw, sgd");
    /* in place of the recipe's share */
    expect(inlay(TRAIN "--output yes --recipe adamix --warmup-epochs 1 --epochs 2"), 0);
    expect(inlay(TRAIN "--output changed --epochs 2 --optimizer sgd --momentum 0.5"), 0);
}

static void refuses_to_resume(const char *given, const char *message)
{
    expect_error(inlay(TRAIN "--epochs 1000000 --output begun --resume %s", given), 1, message);
}

/* Another optimiser, or another recipe, is another run. */
static void test_resume_compares(void **state)
{
    char command[1024];

    (void)state;
    snprintf(command, sizeof command,
             "cd '%s' && timeout -s INT 1 '%s' " TRAIN "--epochs 1000000 --output begun >out.txt 2>err.txt", folder,
             INLAY_BINARY);
    assert_int_not_equal(system(command), 0);
    refuses_to_resume("--optimizer sgd", "'optimizer' was \"adamw\"");
    refuses_to_resume("--recipe mosa", "'recipe' was \"adapter_plus\"");
    refuses_to_resume("--clip-grad-norm 1", "'clip_grad_norm' was 0.0");
    refuses_to_resume("--schedule linear", "'schedule' was \"cosine\"");
}

/* The trained tensors of a run, one after the other; they are finite. */
static double sums_of(const char *run, double *squares)
{
    char name[64], path[300];
    inlay_error err;
    tensor_set *file;
    double sum = 0;

    snprintf(name, sizeof name, "%s/adapter.safetensors", run);
    path_in(path, name);
    ASSERT_OK(tensor_set_open(&file, path, &err));
    *squares = 0;
    for (int i = 0; i < tensor_set_count(file); i++) {
        const tensor_view *t = tensor_set_at(file, i);
        for (int64_t k = 0; k < t->count; k++) {
            float x;
            memcpy(&x, (const char *)t->data + (size_t)k * sizeof x, sizeof x);
            if (!isfinite(x))
                fail_msg("%s: '%s' is not finite", run, t->name);
            sum += (double)x * (double)(k % 97 + 1);
            *squares += (double)x * (double)x;
        }
    }
    tensor_set_close(file);
    return sum;
}

#define STILL TRAIN "--lr 0 --batch-size 6 --overwrite "

/* At learning rate 0 nothing moves, whatever has a rate of its own or decays: more epochs leave the same values. */
static void test_rate_zero(void **state)
{
    static const char *const names[] = {"linear",      "bottleneck",  "lora",         "vpt",      "ssf",
                                        "bitfit",      "layernorm",   "full",         "adamix",   "mosa",
                                        "adaptable",   "houlsby",     "adapter_plus", "parallel", "pfeiffer",
                                        "adaptformer", "adapter_bias"};
    static const char *const optimizers[] = {"", "--recipe adapter_plus --weight-decay 0.1",
                                             "--optimizer sgd --weight-decay 0.1 --clip-grad-norm 0.1"};

    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        for (size_t k = 0; k < sizeof optimizers / sizeof *optimizers; k++) {
            double once, once_squares, more, more_squares;
            const char *rest = optimizers[k];
            expect(inlay(STILL "--method %s --epochs 1 %s --output once", names[i], rest), 0);
            expect(inlay(STILL "--method %s --epochs 4 %s --output more", names[i], rest), 0);
            once = sums_of("once", &once_squares);
            more = sums_of("more", &more_squares);
            if (once != more || once_squares != more_squares)
                fail_msg("%s %s moves at learning rate 0", names[i], rest);
        }
}

static void test_methods(void **state)
{
    json_t *root, *values;

    (void)state;
    expect(inlay("methods ssf"), 0);
    assert_non_null(strstr(text_of("out.txt"), "recipe ssf"));
    assert_non_null(strstr(text_of("out.txt"), "authors"));
    expect(inlay("methods fusion --json"), 0);
    root = json_of("out.txt");
    values = json_object_get(json_object_get(root, "recipe"), "values");
    expect_text(json_object_get(values, "lr"), "value", "1e-4");
    expect_text(json_object_get(values, "lr"), "from", "this project");
    expect_text(json_object_get(values, "clip_grad_norm"), "from", "authors");
    expect_text(json_object_get(values, "beta1"), "from", "adapter_plus");
    json_decref(root);
    expect(inlay("methods --recipes --json"), 0);
    root = json_of("out.txt");
    assert_true(json_array_size(root) >= 15);
    json_decref(root);
    expect(inlay("methods --recipes lora"), 0);
    expect_error(inlay("methods --recipes nothing"), 2, "unknown recipe 'nothing'");
    expect(inlay("train --method ssf --help"), 0);
    assert_non_null(strstr(text_of("out.txt"), "default 5e-3"));
    expect(inlay("pretrain --help"), 0);
    assert_non_null(strstr(text_of("out.txt"), "default 1e-4"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_record),   cmocka_unit_test(test_side_rates),      cmocka_unit_test(test_all_recipes),
        cmocka_unit_test(test_refusals), cmocka_unit_test(test_resume_compares), cmocka_unit_test(test_rate_zero),
        cmocka_unit_test(test_methods),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
