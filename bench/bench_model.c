/* Inference and training speed of a checkpoint with Adapter+ r = 8, on pixels of noise: one line of JSON for bench/compare.py to set beside its peers.
 * After one run to warm up, the best of RUNS runs and half a second counts. usage: bench_model CHECKPOINT THREADS f32|bf16 BATCH [RUNS] */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/monitor.h"
#include "train/model.h"

#define RUNS 5
#define SECONDS 0.5
#define CLASSES 100

static void fail(const inlay_error *err)
{
    fprintf(stderr, "bench_model: %s\n", err->message);
    exit(1);
}

static void fill(program *p, const model *m, int64_t batch, const backbone_shape *s)
{
    uint8_t *pixels = program_value(p, m->pixels, batch).data;

    for (int64_t i = 0; i < batch * s->height * s->image_width * s->channels; i++)
        pixels[i] = (uint8_t)(rng_u32((rng_stream){.purpose = RNG_TEST}, (uint64_t)i) >> 24);
}

/* In images a second. */
static double measure(program *p, const model *m, const adapter *a, device *d, int64_t batch, bool training, int runs, const backbone_shape *s)
{
    double best = 1e30, sum = 0;

    fill(p, m, batch, s);
    for (int64_t i = 0; training && i < batch; i++)
        ((int32_t *)program_value(p, m->labels, batch).data)[i] = (int32_t)(i % CLASSES);
    for (int run = 0; run <= runs || sum < SECONDS; run++) {
        step_info step = {.seed = 1, .step = (uint32_t)run};
        double begun = monitor_seconds(), seconds;
        program_forward(p, batch, &step);
        if (training) {
            program_backward(p, batch, &step);
            for (int i = 0; i < a->param_count; i++) {
                param *q = a->params[i].p;
                d->k->adamw(&d->c, &(adamw_args){.value = q->data, .m = q->m, .v = q->v, .grad = q->grad, .count = q->count, .step = run + 1, .lr = 1e-3, .beta1 = 0.9,
                                                 .beta2 = 0.999, .eps = 1e-8, .weight_decay = 1e-4});
                q->version++;
            }
        }
        seconds = monitor_seconds() - begun;
        if (run > 0) {
            best = seconds < best ? seconds : best;
            sum += seconds;
        }
    }
    return (double)batch / best;
}

static double one(backbone *b, const adapter *a, device *d, precision prec, int64_t batch, bool training, int runs, double *gflops)
{
    model_request request = {.dev = d, .b = b, .a = a, .prec = prec, .pixel_type = DTYPE_U8, .training = training, .drop_path = 0.1};
    inlay_error err;
    model m;
    program *p;
    double speed;

    if (model_build(&m, &request, &err) != INLAY_OK)
        fail(&err);
    program_request plan = {.dev = d, .max_batch = batch, .backward = training, .wanted = training ? &m.loss : &m.logits, .wanted_count = 1};
    if (program_new(&p, m.g, &plan, &err) != INLAY_OK)
        fail(&err);
    tensor_set_release(b->file);
    speed = measure(p, &m, a, d, batch, training, runs, &b->shape);
    *gflops = program_flops(p, training) * speed / 1e9;
    program_free(p);
    model_free(&m);
    return speed;
}

int main(int argc, char **argv)
{
    inlay_error err;
    backbone *b;
    adapter *a;
    options *settings;
    device d;
    precision prec;
    double infer, latency, train, infer_flops, latency_flops, train_flops;
    uint64_t infer_memory;
    int64_t batch;
    int runs;

    if (argc < 5 || argc > 6 || !precision_from_name(argv[3], &prec)) {
        fprintf(stderr, "usage: bench_model CHECKPOINT THREADS f32|bf16 BATCH [RUNS]\n");
        return 2;
    }
    batch = strtol(argv[4], NULL, 10);
    runs = argc == 6 ? (int)strtol(argv[5], NULL, 10) : RUNS;
    if (device_open(&d, NULL, (int)strtol(argv[2], NULL, 10), &err) != INLAY_OK || backbone_open(&b, argv[1], 0, &err) != INLAY_OK ||
        adapter_settings(&settings, "adapter_plus", &err) != INLAY_OK || adapter_new(&a, "adapter_plus", settings, b, CLASSES, NULL, &err) != INLAY_OK ||
        adapter_initialise(a, &d, 1, &err) != INLAY_OK)
        fail(&err);
    infer = one(b, a, &d, prec, batch, false, runs, &infer_flops);
    infer_memory = monitor_peak_rss();
    latency = 1e3 / one(b, a, &d, prec, 1, false, runs, &latency_flops);
    train = one(b, a, &d, prec, batch, true, runs, &train_flops);
    printf("{\"contestant\": \"Inlay\", \"version\": \"%s\", \"infer\": %.3f, \"train\": %.3f, \"latency_ms\": %.3f, \"infer_gflops\": %.1f, \"latency_gflops\": %.1f, "
           "\"train_gflops\": %.1f, \"infer_peak\": %llu, \"peak\": %llu}\n",
           d.k->name, infer, train, latency, infer_flops, latency_flops, train_flops, (unsigned long long)infer_memory, (unsigned long long)monitor_peak_rss());
    adapter_free(a, &d);
    backbone_close(b);
    device_close(&d);
    return 0;
}
