/* A second device, whose memory nobody can touch but its kernels and copies: all of it is without access rights outside
 * of them. A training step, the feature cache, prediction and saving run on it, with the bits of the plain device. Its
 * kernels need a state of every thread, which nobody else sees. */
#define _GNU_SOURCE
#include "support.h"

#include <stdatomic.h>
#include <sys/mman.h>

#include "infer/model.h"
#include "train/cache.h"
#include "train/checkpoint.h"
#include "train/optimizer.h"

#define VIT TEST_DATA "/oracle/vit"
#define CLASSES 3
#define BATCH 4
#define MOST_BLOCKS 4096

/* ---- the device ---- */

static const kernels *plain;
static struct {
    void *block;
    size_t size;
} blocks[MOST_BLOCKS];
static int block_count, inside;

static void give_rights(int rights)
{
    for (int i = 0; i < block_count; i++)
        if (blocks[i].block)
            assert_int_equal(mprotect(blocks[i].block, blocks[i].size, rights), 0);
}

static void enter(void)
{
    if (inside++ == 0)
        give_rights(PROT_READ | PROT_WRITE);
}

static void leave(void)
{
    if (--inside == 0)
        give_rights(PROT_NONE);
}

static void *guarded_alloc(size_t size)
{
    size_t rounded = (size + 4095 + (size == 0)) / 4096 * 4096;
    void *block = mmap(NULL, rounded, inside ? PROT_READ | PROT_WRITE : PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    assert_true(block != MAP_FAILED);
    for (int i = 0; i < block_count; i++)
        if (!blocks[i].block) {
            blocks[i].block = block;
            blocks[i].size = rounded;
            return block;
        }
    assert_true(block_count < MOST_BLOCKS);
    blocks[block_count].block = block;
    blocks[block_count++].size = rounded;
    return block;
}

static void guarded_release(void *block)
{
    for (int i = 0; block && i < block_count; i++)
        if (blocks[i].block == block) {
            munmap(block, blocks[i].size);
            blocks[i].block = NULL;
        }
}

static void guarded_copy_in(void *there, const void *host, size_t size)
{
    enter();
    plain->copy_in(there, host, size);
    leave();
}

static void guarded_copy_out(void *host, const void *there, size_t size)
{
    enter();
    plain->copy_out(host, there, size);
    leave();
}

static void guarded_zero(void *there, size_t size)
{
    enter();
    plain->zero(there, size);
    leave();
}

static _Thread_local int ready;
static atomic_int begun, ended;

static void begin_thread(void)
{
    ready++;
    begun++;
}

static void end_thread(void)
{
    ready--;
    ended++;
}

#define X(name, parameters, arguments)    \
    static void guarded_##name parameters \
    {                                     \
        enter();                          \
        plain->name arguments;            \
        leave();                          \
    }
#include "kernels/kernels.def"
#undef X

/* What kernels are given points to the device's memory. */
static bool lies_there(const void *p)
{
    for (int i = 0; i < block_count; i++)
        if (blocks[i].block && (const char *)p >= (const char *)blocks[i].block &&
            (const char *)p < (const char *)blocks[i].block + blocks[i].size)
            return true;
    return p == NULL;
}

static void checked_pack(compute *c, packed *out, const void *w, dtype type, array_place from)
{
    assert_true(lies_there(w) == (from == PLACE_DEVICE));
    guarded_pack(c, out, w, type, from);
}

static int masked; /* products of some samples, by a list of them; and by factors */

static void checked_gemm(compute *c, const gemm_args *args)
{
    const void *given[] = {args->y.samples,     args->x.samples,    args->out.residual.samples,
                           args->out.row_scale, args->in.row_scale, args->in.col_scale,
                           args->out.bias,      args->w->data};

    for (size_t i = 0; i < sizeof given / sizeof *given; i++)
        assert_true(lies_there(given[i]));
    masked += args->y.samples != NULL;
    guarded_gemm(c, args);
}

static void checked_gate(compute *c, const gate_args *args)
{
    assert_true(lies_there(args->noise) && lies_there(args->logits));
    guarded_gate(c, args);
}

/* An overlay: the plain row with every function that touches memory replaced. */
static kernels guarded(void)
{
    kernels k;

    for (int i = 0; kernels_set(i); i++)
        if (!kernels_set(i)->on_request)
            plain = kernels_set(i); /* the last one runs everywhere */
    k = *plain;
    k.name = "guarded";
    k.host_memory = false;
    k.alloc = guarded_alloc;
    k.release = guarded_release;
    k.copy_in = guarded_copy_in;
    k.copy_out = guarded_copy_out;
    k.zero = guarded_zero;
    k.unpack = NULL;
    k.begin = begin_thread;
    k.end = end_thread;
#define X(name, parameters, arguments) k.name = guarded_##name;
#include "kernels/kernels.def"
#undef X
    k.pack = checked_pack;
    k.gemm = checked_gemm;
    k.gate = checked_gate;
    return k;
}

/* ---- what runs on it ---- */

typedef struct outcome {
    float loss[3], logits[BATCH * CLASSES], features[BATCH * 32];
    char sum[65]; /* of the adapter that was saved */
} outcome;

static void fill(void *pixels, int seed, size_t size)
{
    for (size_t i = 0; i < size; i++)
        ((uint8_t *)pixels)[i] = (uint8_t)(rng_u32((rng_stream){.seed = (uint64_t)seed, .purpose = RNG_TEST}, i) >> 24);
}

static void train(device *d, backbone *b, adapter *a, precision prec, outcome *out)
{
    const optimizer_settings set = {.beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .weight_decay = 0.01, .clip_norm = 1};
    model_request request = {.dev = d,
                             .b = b,
                             .a = a,
                             .prec = prec,
                             .pixel_type = DTYPE_U8,
                             .training = true,
                             .drop_path = 0.3,
                             .backbone_dropout = 0.1};
    program_request plan = {.dev = d, .max_batch = BATCH, .backward = true, .wanted_count = 1};
    const int32_t labels[BATCH] = {0, 1, 2, 1};
    optimizer update;
    model m;
    program *p;
    inlay_error err;

    ASSERT_OK(model_build(&m, &request, &err));
    plan.wanted = &m.loss;
    ASSERT_OK(program_new(&p, m.g, &plan, &err));
    ASSERT_OK(optimizer_open(&update, &set, &(schedule){.lr = 1e-2}, a, d, &err));
    for (int step = 0; step < 3; step++) {
        fill(program_stage(p, m.pixels), step, BATCH * 32 * 32 * 3);
        memcpy(program_stage(p, m.targets), labels, sizeof labels);
        program_step(p, BATCH, &(step_info){.seed = 5, .step = (uint32_t)step, .epochs = 3});
        program_read(p, m.loss, BATCH, &out->loss[step]);
        optimizer_step(&update, 1e-2);
    }
    optimizer_close(&update);
    program_free(p);
    model_free(&m);
}

static void predict(device *d, backbone *b, const adapter *a, precision prec, outcome *out)
{
    model_request request = {.dev = d, .b = b, .a = a, .prec = prec, .pixel_type = DTYPE_U8, .features = true};
    predictor p;
    inlay_error err;

    ASSERT_OK(predictor_open(&p, &request, BATCH, &err));
    fill(predictor_pixels(&p), 9, BATCH * 32 * 32 * 3);
    predictor_run(&p, BATCH, out->logits);
    predictor_features(&p, BATCH, out->features);
    ASSERT_OK(predictor_check(&p, 0, out->logits, "noise", &err));
    predictor_close(&p);
}

/* The features of images, kept and brought back into a program. */
static void cache(device *d, backbone *b, const adapter *a, precision prec, const char *folder)
{
    preprocess prep;
    dataset *data;
    feature_cache c;
    image_records records;
    model m;
    program *p;
    model_request request = {.dev = d, .b = b, .a = a, .prec = prec, .pixel_type = DTYPE_U8, .training = true};
    program_request plan = {.dev = d, .max_batch = BATCH, .backward = true, .wanted_count = 1};
    inlay_error err;

    ASSERT_OK(preprocess_for(&prep, b, NULL, &err));
    ASSERT_OK(dataset_open(&data, &(dataset_request){.path = folder, .split = "train"}, &err));
    ASSERT_OK(image_records_new(&records, data, &err));
    ASSERT_OK(model_build(&m, &request, &err));
    cache_request how = {.g = m.g,
                         .wanted = m.loss,
                         .pixels = m.pixels,
                         .dev = d,
                         .b = b,
                         .data = data,
                         .prep = &prep,
                         .records = &records,
                         .workers = 1,
                         .batch = BATCH,
                         .place = CACHE_IN_MEMORY};
    ASSERT_OK(feature_cache_fill(&c, &how, &err));
    plan.wanted = &m.loss;
    plan.given = c.values;
    plan.given_count = c.count;
    ASSERT_OK(program_new(&p, m.g, &plan, &err));
    for (int i = 0; i < BATCH; i++)
        feature_cache_load(&c, p, d->k, i, i);
    memset(program_stage(p, m.targets), 0, BATCH * sizeof(int32_t));
    program_step(p, BATCH, &(step_info){.epochs = 1});
    program_free(p);
    feature_cache_free(&c);
    model_free(&m);
    image_records_free(&records);
    dataset_free(data);
}

static void run_on(const kernels *k, const char *name, precision prec, const char *folder, outcome *out)
{
    device d;
    backbone *b;
    adapter *a, *concluded;
    options *o;
    char path[300];
    inlay_error err;

    ASSERT_OK(device_open(&d, k, 2, &err));
    ASSERT_OK(backbone_open(&b, VIT, 0, &err));
    ASSERT_OK(backbone_identify(b, &err));
    ASSERT_OK(adapter_settings(&o, name, &err));
    ASSERT_OK(adapter_new(&a, name, o, b, CLASSES, NULL, &err));
    ASSERT_OK(adapter_initialise(a, &d, 3, &err));
    cache(&d, b, a, prec, folder);
    train(&d, b, a, prec, out);
    ASSERT_OK(adapter_conclude(&concluded, a, &d, &err));
    predict(&d, b, concluded, prec, out);
    snprintf(path, sizeof path, "%s/saved", folder);
    ASSERT_OK(file_make_folder(path, &err));
    ASSERT_OK(adapter_save(concluded, &d, path, NULL, NULL, &err));
    snprintf(path, sizeof path, "%s/saved/adapter.safetensors", folder);
    ASSERT_OK(file_sha256(path, out->sum, &err));
    if (concluded != a)
        adapter_free(concluded, &d);
    adapter_free(a, &d);
    backbone_close(b);
    device_close(&d);
}

static void test_same_bits(void **state)
{
    static const struct {
        const char *method;
        precision prec;
    } rows[] = {{"adapter_plus", PRECISION_F32}, {"adapter_plus", PRECISION_BF16}, {"lora", PRECISION_INT8},
                {"mosa", PRECISION_BF16},        {"adaptable", PRECISION_F32},     {"bitfit", PRECISION_BF16},
                {"vpt", PRECISION_F32}};
    char *folder;
    kernels k;

    (void)state;
    skip_under_sanitizers("they look at memory whose rights are taken away");
    folder = strdup(support_folder());
    k = guarded();
    support_images(folder, "train", CLASSES, 2, 40);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        outcome here = {0}, there = {0};
        run_on(plain, rows[i].method, rows[i].prec, folder, &here);
        run_on(&k, rows[i].method, rows[i].prec, folder, &there);
        assert_memory_equal(here.loss, there.loss, sizeof here.loss);
        assert_memory_equal(here.logits, there.logits, sizeof here.logits);
        assert_memory_equal(here.features, there.features, sizeof here.features);
        assert_string_equal(here.sum, there.sum);
        for (int b = 0; b < block_count; b++)
            assert_null(blocks[b].block); /* all was given back */
        assert_int_equal(ready, 0);       /* the caller's thread took part, and keeps nothing */
        assert_true(begun > 0);
        assert_int_equal(begun, ended);
    }
    assert_true(masked > 0);
    support_remove(folder);
    free(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_same_bits)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
