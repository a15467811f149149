/* How trained tensors begin: every rule, in every method that has it, against the distribution that the authors' code
 * draws from, by mean, standard deviation, bounds and the largest distance of the two distribution functions. */
#include "adapters/specs.h"

#include "adapters/bottleneck.h"

#define MANY 64 /* classes: the head then has 2,048 values, at width 32 */

typedef enum shape_kind { ZERO, ONE, NORMAL, CUT_NORMAL, UNIFORM } shape_kind;
typedef struct distribution {
    shape_kind kind;
    double centre, size; /* standard deviation before any cut at 2 of them; bound of a uniform */
} distribution;

static double normal_below(double z)
{
    return 0.5 * (1 + erf(z / sqrt(2)));
}

/* The probability of a value below x. */
static double below(const distribution *d, double x)
{
    double z = (x - d->centre) / d->size;

    if (d->kind == NORMAL)
        return normal_below(z);
    if (d->kind == UNIFORM)
        return fmin(fmax((z + 1) / 2, 0), 1);
    z = fmin(fmax(z, -2), 2);
    return (normal_below(z) - normal_below(-2)) / (normal_below(2) - normal_below(-2));
}

/* Of the distribution itself, in units of `size`. */
static double deviation(const distribution *d)
{
    double cut = 2 * exp(-2) / sqrt(8 * atan(1)); /* 2 times the density at 2 */

    if (d->kind == NORMAL)
        return 1;
    return d->kind == UNIFORM ? sqrt(1.0 / 3) : sqrt(1 - 2 * cut / (normal_below(2) - normal_below(-2)));
}

static int ascending(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;

    return (x > y) - (x < y);
}

static void expect_constant(const float *v, size_t n, float wanted, const char *what)
{
    for (size_t i = 0; i < n; i++)
        if (v[i] != wanted)
            fail_msg("%s: value %zu is %g, expected %g", what, i, (double)v[i], (double)wanted);
}

/* Sorts v. Bounds: five standard errors of mean and deviation; 1.95 / sqrt(n) for the distribution functions, which a
 * right sample passes 999 times in 1,000. */
static void expect_distribution(float *v, size_t n, const distribution *d, const char *what)
{
    double mean = 0, square = 0, most = 0, root = sqrt((double)n), std = deviation(d) * d->size;

    if (d->kind == ZERO || d->kind == ONE) {
        expect_constant(v, n, d->kind == ONE ? 1 : 0, what);
        return;
    }
    qsort(v, n, sizeof *v, ascending);
    for (size_t i = 0; i < n; i++) {
        double at = below(d, (double)v[i]);
        mean += (double)v[i] / (double)n;
        square += ((double)v[i] - d->centre) * ((double)v[i] - d->centre) / (double)n;
        most = fmax(most, fmax(fabs(at - (double)i / (double)n), fabs(at - (double)(i + 1) / (double)n)));
    }
    expect_near(mean, d->centre, 5 * std / root, what);
    expect_near(sqrt(square), std, 5 * std / sqrt(2) / root, what);
    if (most > 1.95 / root)
        fail_msg("%s: the distribution is %.4f away, allowed %.4f (%zu values)", what, most, 1.95 / root, n);
    if (d->kind == CUT_NORMAL && fmax(-(double)v[0], (double)v[n - 1]) > 2 * d->size + 1e-9)
        fail_msg("%s: %g to %g, expected a cut at 2 of %g", what, (double)v[0], (double)v[n - 1], d->size);
    if (d->kind == UNIFORM && fmax(-(double)v[0], (double)v[n - 1]) > d->size + 1e-9)
        fail_msg("%s: %g to %g, expected within %g", what, (double)v[0], (double)v[n - 1], d->size);
    /* the least or the greatest of 2,000 normal values lies within 2.5 once in 100,000 times */
    if (d->kind == NORMAL && n > 2000 && fmin(d->centre - (double)v[0], (double)v[n - 1] - d->centre) < 2.5 * d->size)
        fail_msg("%s: %g to %g seems to be cut", what, (double)v[0], (double)v[n - 1]);
}

static bool ends_with(const char *name, const char *end)
{
    size_t n = strlen(name), m = strlen(end);

    return n >= m && strcmp(name + n - m, end) == 0;
}

/* All values of the tensors whose name ends so; with experts, of "<side>.<expert>.<part>" too. */
static float *collect(const adapter *a, const device *d, const char *side, const char *part, size_t *count)
{
    float *all = NULL;

    *count = 0;
    for (const adapter_param *i = NULL; (i = adapter_each_param(a, i));) {
        const param *p = i->p;
        float *values;
        if (i->of_backbone || !strstr(p->name, side) || !ends_with(p->name, part))
            continue;
        values = get(d, p);
        all = realloc(all, (*count + (size_t)p->count) * sizeof *all);
        memcpy(all + *count, values, (size_t)p->count * sizeof *all);
        *count += (size_t)p->count;
        free(values);
    }
    return all;
}

static adapter *fresh(backbone *b, const device *d, const char *name, const char *settings, uint64_t seed)
{
    inlay_error err;
    adapter *a;
    options *o;

    ASSERT_OK(adapter_settings(&o, name, &err));
    support_settings(o, settings);
    ASSERT_OK(adapter_new(&a, name, o, b, MANY, NULL, &err));
    ASSERT_OK(adapter_initialise(a, (device *)d, seed, &err));
    return a;
}

static void expect_side(const adapter *a, const device *d, const char *side, const char *part, distribution wanted)
{
    char what[160];
    size_t count;
    float *values = collect(a, d, side, part, &count);

    snprintf(what, sizeof what, "%s: %s%s", a->name, side, part);
    if (count == 0)
        fail_msg("%s: no such tensor", what);
    expect_distribution(values, count, &wanted, what);
    free(values);
}

typedef struct fixture {
    device d;
    backbone *b;
} fixture;

static void fixture_open(fixture *f)
{
    inlay_error err;

    ASSERT_OK(device_open(&f->d, NULL, 1, &err));
    ASSERT_OK(backbone_open(&f->b, TEST_DATA "/oracle/vit", 0, &err));
}

static void fixture_close(fixture *f)
{
    backbone_close(f->b);
    device_close(&f->d);
}

/* Normal, std 0.02, not cut, whatever is trained beside it. */
static void check_head(fixture *f, const char *name)
{
    for (uint64_t seed = 18; seed < 21; seed++) {
        adapter *a = fresh(f->b, &f->d, name, NULL, seed);
        expect_side(a, &f->d, "head", ".weight", (distribution){NORMAL, 0, 0.02});
        expect_side(a, &f->d, "head", ".bias", (distribution){ZERO, 0, 0});
        adapter_free(a, &f->d);
    }
}

static void test_head(void **state)
{
    fixture f;

    (void)state;
    fixture_open(&f);
    for (int i = 0; method_table[i]; i++)
        if (strcmp(method_table[i]->name, "fusion") != 0) /* it wants given adapters */
            check_head(&f, method_table[i]->name);
    for (const preset *row = preset_table; row->name; row++)
        check_head(&f, row->name);
    fixture_close(&f);
}

#define BOUND 0.17677669529663687 /* 1 / sqrt(32) */

/* Every name of `--init`, in every method that has the option. */
static void test_init_option(void **state)
{
    static const struct {
        const char *init;
        distribution down, down_bias, up;
    } rows[] = {
        {"houlsby", {CUT_NORMAL, 0, 0.01}, {ZERO, 0, 0}, {CUT_NORMAL, 0, 0.01}},
        {"bert", {NORMAL, 0, 0.02}, {ZERO, 0, 0}, {NORMAL, 0, 0.02}},
        {"lora", {UNIFORM, 0, BOUND}, {UNIFORM, 0, BOUND}, {ZERO, 0, 0}},
        {"adaptformer", {UNIFORM, 0, BOUND}, {ZERO, 0, 0}, {ZERO, 0, 0}},
    };
    static const char *const methods[][2] = {
        {"bottleneck", ""},
        {"bottleneck", " position=houlsby"},
        {"adamix", " share=none"},
        {"adaptable", ""},
    };
    fixture f;

    (void)state;
    fixture_open(&f);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        for (size_t m = 0; m < sizeof methods / sizeof *methods; m++) {
            char settings[80];
            adapter *a;
            snprintf(settings, sizeof settings, "rank=64 init=%s%s", rows[i].init, methods[m][1]);
            a = fresh(f.b, &f.d, methods[m][0], settings, 18 + m);
            expect_side(a, &f.d, ".down", ".weight", rows[i].down);
            expect_side(a, &f.d, ".down", ".bias", rows[i].down_bias);
            expect_side(a, &f.d, ".up", ".weight", rows[i].up);
            expect_side(a, &f.d, ".up", ".bias", (distribution){ZERO, 0, 0});
            adapter_free(a, &f.d);
        }
    fixture_close(&f);
}

/* What presets and methods without the option begin with. */
static void test_own_rules(void **state)
{
    static const struct {
        const char *name, *settings, *side, *part;
        distribution wanted;
    } rows[] = {
        {"adapter_plus", "rank=64", ".down", ".weight", {CUT_NORMAL, 0, 0.01}},
        {"adapter_plus", "rank=64", ".down", ".bias", {ZERO, 0, 0}},
        {"adapter_plus", NULL, ".adapter", ".scaling", {ONE, 0, 0}},
        {"parallel", "rank=64", ".down", ".weight", {UNIFORM, 0, BOUND}},
        {"parallel", "rank=64", ".down", ".bias", {ZERO, 0, 0}},
        {"adaptformer", NULL, ".down", ".weight", {UNIFORM, 0, BOUND}},
        {"adaptformer", NULL, ".down", ".bias", {ZERO, 0, 0}},
        {"adaptformer", NULL, ".up", ".weight", {ZERO, 0, 0}},
        {"mosa", "split=both", ".down", ".bias", {ZERO, 0, 0}},
        {"mosa", NULL, ".down", ".weight", {UNIFORM, 0, BOUND}},
        {"mosa", NULL, ".up", ".weight", {ZERO, 0, 0}},
        {"mosa", NULL, ".norm", ".weight", {ONE, 0, 0}},
        {"lora", "rank=64", "attn.", "lora_A.weight", {UNIFORM, 0, BOUND}},
        {"lora", "rank=64", "attn.", "lora_B.weight", {ZERO, 0, 0}},
        {"lora", "rank=64 targets=fc2", "mlp.", "lora_A.weight", {UNIFORM, 0, BOUND / 2}}, /* reads 4 times the width */
        {"adamix", "rank=64 kind=lora share=none", "lora_A", ".weight", {UNIFORM, 0, BOUND}},
        {"adamix", "rank=64 kind=lora share=none", "lora_B", ".weight", {ZERO, 0, 0}},
        /* sqrt(6 / (3 * 8^2 + 32)): patches of 8 x 8 */
        {"vpt", NULL, "prompts", ".weight", {UNIFORM, 0, 0.16366341767699427}},
        {"ssf", NULL, "", "ssf_scale", {NORMAL, 1, 0.02}},
        {"ssf", NULL, "", "ssf_shift", {NORMAL, 0, 0.02}},
        {"adapter_bias", NULL, "alpha", ".weight", {NORMAL, 0, 0.02}},
        {"adapter_bias", NULL, "alpha", ".bias", {ZERO, 0, 0}},
        {"adapter_bias", NULL, "vector", "", {ZERO, 0, 0}},
    };
    fixture f;

    (void)state;
    fixture_open(&f);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        adapter *a = fresh(f.b, &f.d, rows[i].name, rows[i].settings, 18);
        expect_side(a, &f.d, rows[i].side, rows[i].part, rows[i].wanted);
        adapter_free(a, &f.d);
    }
    fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_head),
        cmocka_unit_test(test_init_option),
        cmocka_unit_test(test_own_rules),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
