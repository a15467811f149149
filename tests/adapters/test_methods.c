/* What every method must satisfy, for every row of the table of methods and presets: a new method is tested by its row.
 * Options that change what is computed have rows of their own below. */
#include "make_adapter.h"

#include <math.h>

#include "infer/model.h"

#define CLASSES 3
#define BATCH 3

static const char *backbone_path = TEST_DATA "/oracle/vit";

static char given[160]; /* trained adapters, for methods that are made of such */

/* Rows beside those of the tables: a method or preset, and settings. */
static const char *const variants[] = {
    "bottleneck layers=0,2 ranks=2:6",
    "houlsby layers=1-2",
    "lora layers=0-1 ranks=0:2,1:5 targets=k,fc1",
    "vpt layers=1,2",
    "vpt layers=1 deep=false",
    "ssf layers=0,2",
    "full layers=2",
    "bitfit layers=0,1",
    "adamix layers=2,0 ranks=2:3",
    "mosa layers=1-2 ranks=1:5 split=both",
    "adaptable layers=0-1 ranks=1:2",
    "adapter_bias layers=1,2 norms=all",
    "fusion layers=1",
    "fusion value=false",
    "houlsby unfreeze=norm layers=1,2",
    "adapter_plus unfreeze=all",
    "lora unfreeze=bias activation=tanh drop_path=0.3 scale=0.5",
    "vpt unfreeze=norm shared=true",
    "bottleneck output_layernorm=true dropout=0.3 dropout_at=input scaling=fixed scale=0.5",
    "mosl split=both dropout=0.2 targets=q,k,proj",
    "mosa split_biases=true scaling=learned scale=0.3 split=both",
    "mosa split=none style=pfeiffer",
    "mosl split=none mask=row",
    "adaptable start=gelu version=A",
    "adamix share=both dropout=0.2",
};

/* Settings that make a row small enough for a backbone of width 32, where it has such options. `smooth`: such that its
 * loss has the gradient that is passed back; of the divergence between two passes each target counts as constant, which
 * no difference of losses shows. */
static options *small_settings(const char *row, bool smooth)
{
    const char *name = support_method(row);
    const char *const pairs[][2] = {
        {"adapters", given},          {"rank", "4"},       {"prompts", "3"}, {"second_loss", "0.5"},
        {"deep_regulariser", "true"}, {"consistency", "0"}};
    inlay_error err;
    options *o = support_options(row);

    for (size_t i = *given ? 0 : 1; i + !smooth < sizeof pairs / sizeof *pairs; i++)
        for (const option_spec *spec = method_find(name, NULL)->options; spec->name; spec++)
            if (strcmp(spec->name, pairs[i][0]) == 0)
                ASSERT_OK(options_default(o, pairs[i][0], pairs[i][1], "test", &err));
    return o;
}

extern const kernels kernels_reference;

typedef struct bench {
    device dev;
    backbone *b;
    adapter *a;
    model m;
    program *p;
} bench;

static void fill_inputs(bench *s, int64_t batch)
{
    uint8_t *pixels = program_value(s->p, s->m.pixels, batch).data;
    int32_t *labels = program_value(s->p, s->m.targets, batch).data;

    for (int64_t i = 0; i < batch * 32 * 32 * 3; i++)
        pixels[i] = (uint8_t)(rng_u32((rng_stream){.seed = 5, .purpose = RNG_TEST}, (uint64_t)i) >> 24);
    for (int64_t i = 0; i < batch; i++)
        labels[i] = (int32_t)(i % CLASSES);
}

static precision frozen_type = PRECISION_F32; /* of the backbone's weights */
static int64_t slice_size;                    /* samples that run at a time; 0: as the program likes */

/* training: what is trained, with all that is random. Else: what would be saved. */
static void open_bench(bench *s, const char *name, const kernels *k, int threads, bool training)
{
    inlay_error err;
    adapter *merged;

    memset(s, 0, sizeof *s);
    ASSERT_OK(device_open(&s->dev, k, threads, &err));
    ASSERT_OK(backbone_open(&s->b, backbone_path, 0, &err));
    ASSERT_OK(adapter_new(&s->a, support_method(name), small_settings(name, k == &kernels_reference), s->b, CLASSES,
                          (const char *const[]){"a", "b", "c"}, &err));
    ASSERT_OK(adapter_initialise(s->a, &s->dev, 11, &err));
    support_shake(s->a, &s->dev, 3);
    if (!training) {
        ASSERT_OK(adapter_conclude(&merged, s->a, &s->dev, &err));
        if (merged != s->a)
            adapter_free(s->a, &s->dev);
        s->a = merged;
    }
    model_request request = {.dev = &s->dev,
                             .b = s->b,
                             .a = s->a,
                             .pixel_type = DTYPE_U8,
                             .prec = frozen_type,
                             .training = training,
                             .drop_path = training ? 0.2 : 0,
                             .backbone_dropout = training ? 0.1 : 0};
    ASSERT_OK(model_build(&s->m, &request, &err));
    program_request plan = {.dev = &s->dev,
                            .max_batch = BATCH,
                            .slice = slice_size,
                            .backward = true,
                            .wanted = (value[]){s->m.loss, s->m.logits},
                            .wanted_count = 2};
    ASSERT_OK(program_new(&s->p, s->m.g, &plan, &err));
    fill_inputs(s, BATCH);
}

static void close_bench(bench *s)
{
    program_free(s->p);
    model_free(&s->m);
    adapter_free(s->a, &s->dev);
    backbone_close(s->b);
    device_close(&s->dev);
}

static const step_info step = {.seed = 7, .step = 3};

static double loss_of(bench *s)
{
    program_forward(s->p, BATCH, &step);
    return *(double *)program_value(s->p, s->m.loss, BATCH).data;
}

/* Calls `check` for each preset and each method of the tables, and for the rows above. */
static void for_each_row(void (*check)(const char *name))
{
    for (const preset *p = preset_table; p->name; p++)
        check(p->name);
    for (int i = 0; method_table[i]; i++)
        check(method_table[i]->name);
    for (size_t i = 0; i < sizeof variants / sizeof *variants; i++)
        check(variants[i]);
}

/* ---- gradients against central differences, in double precision, with dropout and drop path on ---- */

static void check_gradient(bench *s, const char *name, param *p)
{
    double *data = p->data, *grad = p->grad;
    int64_t stride = p->count / 5 + 1;

    for (int64_t i = 0; i < p->count; i += stride) {
        double kept = data[i], h = 1e-5, up, down, numeric;
        data[i] = kept + h;
        param_changed(p);
        up = loss_of(s);
        data[i] = kept - h;
        param_changed(p);
        down = loss_of(s);
        data[i] = kept;
        param_changed(p);
        numeric = (up - down) / (2 * h);
        if (fabs(numeric - grad[i]) > 1e-6 * (1e-2 + fabs(numeric)))
            fail_msg("%s: gradient of '%s'[%lld] is %.9g, differences give %.9g", name, p->name, (long long)i, grad[i],
                     numeric);
    }
}

static void row_gradients(const char *name)
{
    bench s;

    open_bench(&s, name, &kernels_reference, 1, true);
    loss_of(&s);
    program_step(s.p, BATCH, &step);
    for (const adapter_param *i = NULL; (i = adapter_each_param(s.a, i));)
        if (i->p->trainable)
            check_gradient(&s, name, i->p);
    close_bench(&s);
}

static void test_gradients(void **state)
{
    (void)state;
    for_each_row(row_gradients);
}

/* ---- slices of a batch add up to the batch: the same draws, logits, loss and gradients ---- */

static void row_slices(const char *name)
{
    bench whole, sliced;

    for (int64_t size = 1; size < BATCH; size++) {
        slice_size = BATCH;
        open_bench(&whole, name, &kernels_reference, 1, true);
        slice_size = size;
        open_bench(&sliced, name, &kernels_reference, 1, true);
        slice_size = 0;
        assert_int_equal(program_slice(sliced.p), size);
        program_step(whole.p, BATCH, &step);
        program_step(sliced.p, BATCH, &step);
        assert_memory_equal(program_value(whole.p, whole.m.logits, BATCH).data,
                            program_value(sliced.p, sliced.m.logits, BATCH).data, BATCH * CLASSES * sizeof(double));
        assert_true(fabs(*(double *)program_value(whole.p, whole.m.loss, BATCH).data -
                         *(double *)program_value(sliced.p, sliced.m.loss, BATCH).data) < 1e-12);
        for (const adapter_param *i = NULL, *other = NULL; (i = adapter_each_param(whole.a, i));) {
            other = adapter_each_param(sliced.a, other);
            const param *p = i->p, *q = other->p;
            assert_int_equal(param_touched(p), param_touched(q));
            for (int64_t j = 0; p->trainable && param_touched(p) && j < p->count; j++)
                if (fabs(((double *)p->grad)[j] - ((double *)q->grad)[j]) > 1e-12 * (1 + fabs(((double *)p->grad)[j])))
                    fail_msg("%s: gradient of '%s'[%lld] is %.17g, in slices of %lld %.17g", name, p->name,
                             (long long)j, ((double *)p->grad)[j], (long long)size, ((double *)q->grad)[j]);
        }
        close_bench(&whole);
        close_bench(&sliced);
    }
}

static void test_slices(void **state)
{
    (void)state;
    for_each_row(row_slices);
}

/* ---- the same bits with any number of threads, and in any batch ---- */

static float *run_bits(bench *s, size_t *size)
{
    float *bits;
    size_t at = 0;

    program_step(s->p, BATCH, &step);
    *size = (size_t)(BATCH * CLASSES + adapter_param_total(s->a, true)) * sizeof *bits;
    bits = calloc(*size, 1);
    device_get_f32(&s->dev, bits, program_value(s->p, s->m.logits, BATCH).data, BATCH * CLASSES);
    at = BATCH * CLASSES;
    for (const adapter_param *i = NULL; (i = adapter_each_param(s->a, i));) {
        if (i->p->trainable)
            device_get_f32(&s->dev, bits + at, i->p->grad, i->p->count);
        at += (size_t)i->p->count;
    }
    return bits;
}

static void row_threads(const char *name)
{
    for (int k = 0; kernels_set(k); k++) {
        float *first = NULL;
        size_t size = 0;
        if (kernels_set(k)->refused())
            continue;
        for (int threads = 1; threads <= 3; threads++) {
            bench s;
            float *bits;
            open_bench(&s, name, kernels_set(k), threads, true);
            bits = run_bits(&s, &size);
            if (first && memcmp(first, bits, size) != 0)
                fail_msg("%s: %d threads give other bits than 1 (%s)", name, threads, kernels_set(k)->name);
            if (first)
                free(bits);
            else
                first = bits;
            close_bench(&s);
        }
        free(first);
    }
}

/* Calls `check` for each row with weights in f32, and in int8. */
static void for_each_row_exact_and_int8(void (*check)(const char *name))
{
    for_each_row(check);
    frozen_type = PRECISION_INT8;
    for_each_row(check);
    frozen_type = PRECISION_F32;
}

static void test_threads(void **state)
{
    (void)state;
    for_each_row_exact_and_int8(row_threads);
}

static void row_batch(const char *name)
{
    float together[BATCH * CLASSES], alone[CLASSES];
    bench s;

    open_bench(&s, name, NULL, 2, false);
    program_forward(s.p, BATCH, &step);
    device_get_f32(&s.dev, together, program_value(s.p, s.m.logits, BATCH).data, BATCH * CLASSES);
    program_forward(s.p, 1, &step);
    device_get_f32(&s.dev, alone, program_value(s.p, s.m.logits, 1).data, CLASSES);
    if (memcmp(together, alone, sizeof alone) != 0)
        fail_msg("%s: an image alone gives other logits than in a batch", name);
    close_bench(&s);
}

static void test_batch(void **state)
{
    (void)state;
    for_each_row_exact_and_int8(row_batch);
}

/* ---- frozen means free ---- */

static void row_frozen(const char *name)
{
    param *with_gradient[256];
    bench s;
    int count, trained = 0;

    open_bench(&s, name, NULL, 1, true);
    count = program_params(s.p, with_gradient, 256);
    for (const adapter_param *i = NULL; (i = adapter_each_param(s.a, i));) {
        assert_int_equal(i->p->trainable, !i->fixed);
        trained += !i->fixed;
        if (i->fixed && i->p->grad)
            fail_msg("%s: given '%s' has a gradient", name, i->p->name);
    }
    assert_int_equal(count, trained);
    for (param *const *i = NULL; (i = backbone_each_param(s.b, i));) {
        const param *p = *i;
        bool ours = adapter_find(s.a, p->name) == p;
        assert_int_equal(p->trainable, ours);
        if (!ours && p->grad)
            fail_msg("%s: frozen '%s' has a gradient", name, p->name);
    }
    close_bench(&s);
}

static void test_frozen(void **state)
{
    (void)state;
    for_each_row(row_frozen);
}

/* ---- with weights in bf16 and int8, loss and gradients are nearly those of f32 ---- */

/* All gradients, one behind the other. */
static float *all_gradients(bench *s, int64_t *count)
{
    float *all = NULL;

    *count = 0;
    for (const adapter_param *i = NULL; (i = adapter_each_param(s->a, i));) {
        const param *p = i->p;
        if (!p->trainable || !p->grad)
            continue;
        all = realloc(all, (size_t)(*count + p->count) * sizeof *all);
        assert_non_null(all);
        device_get_f32(&s->dev, all + *count, p->grad, p->count);
        *count += p->count;
    }
    return all;
}

static double cosine(const float *a, const float *b, int64_t count)
{
    double ab = 0, aa = 0, bb = 0;

    for (int64_t i = 0; i < count; i++) {
        ab += (double)a[i] * (double)b[i];
        aa += (double)a[i] * (double)a[i];
        bb += (double)b[i] * (double)b[i];
    }
    return ab / sqrt(aa * bb);
}

static void row_precision(const char *name)
{
    static const double least[] = {1, 0.9995, 0.997};
    float loss[3], grad[3][CLASSES], *all[3];
    int64_t count;

    for (int prec = PRECISION_F32; prec <= PRECISION_INT8; prec++) {
        bench s;
        frozen_type = (precision)prec;
        open_bench(&s, name, NULL, 2, true);
        program_step(s.p, BATCH, &step);
        device_get_f32(&s.dev, &loss[prec], program_value(s.p, s.m.loss, BATCH).data, 1);
        device_get_f32(&s.dev, grad[prec], s.a->head_bias->grad, CLASSES);
        all[prec] = all_gradients(&s, &count);
        close_bench(&s);
    }
    frozen_type = PRECISION_F32;
    for (int prec = PRECISION_BF16; prec <= PRECISION_INT8; prec++) {
        const char *rounded = precision_name((precision)prec);
        if (!(fabsf(loss[prec] - loss[0]) <= 0.03f * (1 + fabsf(loss[0]))))
            fail_msg("%s: the loss is %g with %s, %g with f32", name, (double)loss[prec], rounded, (double)loss[0]);
        for (int c = 0; c < CLASSES; c++)
            if (!(fabsf(grad[prec][c] - grad[0][c]) <= 0.05f))
                fail_msg("%s: gradient %d of the head's bias is %g with %s, %g with f32", name, c,
                         (double)grad[prec][c], rounded, (double)grad[0][c]);
        if (!(cosine(all[prec], all[0], count) >= least[prec]))
            fail_msg("%s: the gradient with %s and that with f32 have a cosine of %g", name, rounded,
                     cosine(all[prec], all[0], count));
    }
    for (int prec = PRECISION_F32; prec <= PRECISION_INT8; prec++)
        free(all[prec]);
}

static void test_precision(void **state)
{
    (void)state;
    for_each_row(row_precision);
}

/* ---- saved and loaded, it answers with the same bits ---- */

static void row_store(const char *name)
{
    const char *folder = support_folder();
    float before[BATCH * CLASSES], after[BATCH * CLASSES];
    inlay_error err;
    adapter *loaded;
    predictor again;
    bench s;

    open_bench(&s, name, NULL, 2, false);
    program_forward(s.p, BATCH, &step);
    device_get_f32(&s.dev, before, program_value(s.p, s.m.logits, BATCH).data, BATCH * CLASSES);
    ASSERT_OK(adapter_save(s.a, &s.dev, folder, NULL, NULL, &err));
    close_bench(&s);

    memset(&s, 0, sizeof s);
    ASSERT_OK(device_open(&s.dev, NULL, 1, &err));
    ASSERT_OK(backbone_open(&s.b, backbone_path, 0, &err));
    ASSERT_OK(adapter_load(&loaded, folder, s.b, false, NULL, &err));
    assert_string_equal(loaded->labels[2], "c");
    model_request request = {.dev = &s.dev, .b = s.b, .a = loaded, .pixel_type = DTYPE_U8};
    ASSERT_OK(predictor_open(&again, &request, BATCH, &err));
    s.m = again.m;
    s.p = again.p;
    for (int64_t i = 0; i < BATCH * 32 * 32 * 3; i++)
        ((uint8_t *)predictor_pixels(&again))[i] =
            (uint8_t)(rng_u32((rng_stream){.seed = 5, .purpose = RNG_TEST}, (uint64_t)i) >> 24);
    predictor_run(&again, BATCH, after);
    if (memcmp(before, after, sizeof before) != 0)
        fail_msg("%s: the loaded adapter gives other logits", name);
    predictor_close(&again);
    adapter_free(loaded, &s.dev);
    backbone_close(s.b);
    device_close(&s.dev);
    support_remove(folder);
}

static void test_store(void **state)
{
    (void)state;
    for_each_row(row_store);
}

/* ---- an adapter of another backbone is refused ---- */

static void test_other_backbone(void **state)
{
    const char *folder = support_folder();
    inlay_error err;
    adapter *loaded;
    bench s;
    backbone *other;

    (void)state;
    open_bench(&s, "adapter_plus", NULL, 1, false);
    ASSERT_OK(adapter_save(s.a, &s.dev, folder, NULL, NULL, &err));
    close_bench(&s);
    ASSERT_OK(backbone_open(&other, TEST_DATA "/oracle/variants/layerscale", 0, &err));
    assert_int_equal(adapter_load(&loaded, folder, other, false, NULL, &err), INLAY_ERR_MISMATCH);
    assert_non_null(strstr(err.message, "another backbone"));
    backbone_close(other);
    support_remove(folder);
}

/* ---- counts on ViT-B/16: 12 (2 * 768 r + r + 768 + 768) ---- */

static void test_counts(void **state)
{
    static const struct {
        const char *rank;
        int64_t count;
    } rows[] = {{"1", 36876}, {"2", 55320}, {"4", 92208}, {"8", 165984}, {"16", 313536}, {"32", 608640}};
    backbone *b = backbone_new();
    inlay_error err;

    (void)state;
    b->shape = (backbone_shape){
        .width = 768, .depth = 12, .heads = 12, .hidden = 3072, .patch = 16, .prefix_tokens = 1, .tokens = 197};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        options *o;
        adapter *a;
        ASSERT_OK(adapter_settings(&o, "adapter_plus", &err));
        ASSERT_OK(options_set(o, "rank", rows[i].rank, "test", &err));
        ASSERT_OK(adapter_new(&a, "adapter_plus", o, b, 10, NULL, &err));
        assert_int_equal(adapter_param_total(a, false), rows[i].count);
        adapter_free(a, NULL);
    }
    backbone_close(b);
}

static void test_unknown(void **state)
{
    inlay_error err;
    options *o;

    (void)state;
    assert_int_equal(adapter_settings(&o, "adapter_minus", &err), INLAY_ERR_USAGE);
    assert_non_null(strstr(err.message, "adapter_minus"));
    assert_non_null(strstr(err.message, "adapter_plus"));
}

/* Two small adapters in a folder, for methods that are made of given ones. */
static int set_up(void **state)
{
    char *folder = strdup(support_folder());

    *state = folder;
    for (int n = 0; n < 2; n++) {
        char path[80];
        inlay_error err;
        bench s;
        open_bench(&s, n ? "adapter_plus" : "bottleneck", NULL, 1, false);
        snprintf(path, sizeof path, "%s/%d", folder, n);
        ASSERT_OK(adapter_save(s.a, &s.dev, path, NULL, NULL, &err));
        close_bench(&s);
    }
    snprintf(given, sizeof given, "%s/0,%s/1", folder, folder);
    return 0;
}

static int tear_down(void **state)
{
    support_remove(*state);
    free(*state);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gradients), cmocka_unit_test(test_slices),         cmocka_unit_test(test_threads),
        cmocka_unit_test(test_batch),     cmocka_unit_test(test_frozen),         cmocka_unit_test(test_precision),
        cmocka_unit_test(test_store),     cmocka_unit_test(test_other_backbone), cmocka_unit_test(test_counts),
        cmocka_unit_test(test_unknown),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
