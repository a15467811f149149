/* Training and inference speed of a checkpoint with Adapter+ r = 8, on pixels of noise: one line for bench/run.sh to set beside its peers.
 * usage: bench_model CHECKPOINT THREADS f32|bf16 BATCH */
#include <stdio.h>
#include <stdlib.h>

#include "train/measure.h"

#define RUNS 5
#define CLASSES 100

int main(int argc, char **argv)
{
    inlay_error err;
    backbone *b;
    adapter *a;
    options *settings;
    device d;
    measured found;
    measure_request request = {.dev = &d, .runs = RUNS};

    if (argc != 5 || !precision_from_name(argv[3], &request.prec)) {
        fprintf(stderr, "usage: bench_model CHECKPOINT THREADS f32|bf16 BATCH\n");
        return 2;
    }
    request.batch = strtol(argv[4], NULL, 10);
    if (device_open(&d, NULL, (int)strtol(argv[2], NULL, 10), &err) != INLAY_OK || backbone_open(&b, argv[1], 0, &err) != INLAY_OK ||
        adapter_settings(&settings, "adapter_plus", &err) != INLAY_OK || adapter_new(&a, "adapter_plus", settings, b, CLASSES, NULL, &err) != INLAY_OK) {
        fprintf(stderr, "bench_model: %s\n", err.message);
        return 1;
    }
    request.b = b;
    request.a = a;
    if (measure(&found, &request, &err) != INLAY_OK) {
        fprintf(stderr, "bench_model: %s\n", err.message);
        return 1;
    }
    printf("inlay %s %s thr %s B %s: train %.1f infer %.1f img/s (%.0f and %.0f GFLOP/s) peakRSS %.2f GB\n", d.k->name, argv[3], argv[2], argv[4],
           found.training.images_per_second, found.inference.images_per_second, found.training.gflops, found.inference.gflops,
           (double)found.training.peak_memory / 1e9);
    for (int i = 0; i < b->param_count; i++)
        param_release(b->params[i], &d);
    adapter_free(a, &d);
    backbone_close(b);
    device_close(&d);
    return 0;
}
