/* Training and inference speed of a checkpoint with Adapter+ r = 8, on pixels of noise: one line for bench/run.sh to set beside its peers.
 * usage: bench_model CHECKPOINT THREADS f32|bf16|int8 BATCH */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/monitor.h"
#include "train/model.h"

#define RUNS 5
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

/* Best of RUNS, in images a second. */
static double measure(program *p, const model *m, const adapter *a, device *d, int64_t batch, bool training, const backbone_shape *s)
{
    double best = 1e30;

    fill(p, m, batch, s);
    for (int64_t i = 0; training && i < batch; i++)
        ((int32_t *)program_value(p, m->labels, batch).data)[i] = (int32_t)(i % CLASSES);
    for (int run = 0; run <= RUNS; run++) {
        step_info step = {.seed = 1, .step = (uint32_t)run};
        double begun = monitor_seconds(), seconds;
        if (!training) {
            program_forward(p, batch, &step);
        } else {
            program_step(p, batch, &step);
            for (int i = 0; i < a->param_count; i++) {
                param *q = a->params[i].p;
                d->k->adamw(&d->c, &(adamw_args){.value = q->data, .m = q->m, .v = q->v, .grad = q->grad, .count = q->count, .step = run + 1, .lr = 1e-3, .beta1 = 0.9,
                                                 .beta2 = 0.999, .eps = 1e-8, .weight_decay = 1e-4});
                q->version++;
            }
        }
        seconds = monitor_seconds() - begun;
        if (run > 0 && seconds < best)
            best = seconds;
    }
    return (double)batch / best;
}

static double one(backbone *b, const adapter *a, device *d, precision prec, int64_t batch, bool training, double *gflops)
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
    speed = measure(p, &m, a, d, batch, training, &b->shape);
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
    double infer, train, infer_flops, train_flops;

    if (argc != 5 || !precision_from_name(argv[3], &prec)) {
        fprintf(stderr, "usage: bench_model CHECKPOINT THREADS f32|bf16|int8 BATCH\n");
        return 2;
    }
    if (device_open(&d, NULL, (int)strtol(argv[2], NULL, 10), &err) != INLAY_OK || backbone_open(&b, argv[1], 0, &err) != INLAY_OK ||
        adapter_settings(&settings, "adapter_plus", &err) != INLAY_OK || adapter_new(&a, "adapter_plus", settings, b, CLASSES, NULL, &err) != INLAY_OK ||
        adapter_initialise(a, &d, 1, &err) != INLAY_OK)
        fail(&err);
    train = one(b, a, &d, prec, strtol(argv[4], NULL, 10), true, &train_flops);
    infer = one(b, a, &d, prec, strtol(argv[4], NULL, 10), false, &infer_flops);
    printf("inlay %s %s thr %s B %s: train %.1f infer %.1f img/s (%.0f and %.0f GFLOP/s) peakRSS %.2f GB\n", d.k->name, argv[3], argv[2], argv[4], train, infer, train_flops,
           infer_flops, (double)monitor_peak_rss() / 1e9);
    adapter_free(a, &d);
    backbone_close(b);
    device_close(&d);
    return 0;
}
