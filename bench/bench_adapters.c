/* What many adapters on one backbone cost before they answer: one JSON line for each number of them, with the time of
 * each step in milliseconds for each adapter, which should not depend on how many there are. usage: bench_adapters
 * CHECKPOINT FOLDER METHOD COUNT...; in FOLDER an adapter is written, which is then loaded over and over. */
#include <stdio.h>
#include <stdlib.h>

#include "base/monitor.h"
#include "infer/model.h"

#define CLASSES 10

static void check(inlay_status status, const inlay_error *err)
{
    if (status == INLAY_OK)
        return;
    fprintf(stderr, "bench_adapters: %s\n", err->message);
    exit(1);
}

static void write_adapter(backbone *b, device *d, const char *folder, const char *name)
{
    options *settings;
    adapter *a;
    inlay_error err;

    check(adapter_settings(&settings, name, &err), &err);
    check(adapter_new(&a, name, settings, b, CLASSES, NULL, &err), &err);
    check(adapter_initialise(a, d, 1, &err), &err);
    check(adapter_save(a, d, folder, NULL, NULL, &err), &err);
    adapter_free(a, d);
}

/* Milliseconds for each of `count` since *begun, which becomes now. */
static double lap(double *begun, int count)
{
    double now = monitor_seconds(), taken = (now - *begun) * 1e3 / count;

    *begun = now;
    return taken;
}

static void measure(backbone *b, device *d, const char *folder, int count)
{
    adapter **tasks = calloc((size_t)count + 1, sizeof *tasks);
    model_request request = {
        .dev = d, .b = b, .tasks = (const adapter *const *)tasks, .task_count = count, .pixel_type = DTYPE_U8};
    program_request plan = {.dev = d, .max_batch = 1, .wanted_count = count};
    program_needs needs = {0};
    double begun = monitor_seconds(), load, build, size, prepare;
    model m;
    program *p;
    inlay_error err;

    for (int i = 0; tasks && i < count; i++)
        check(adapter_load(&tasks[i], folder, b, false, NULL, &err), &err);
    load = lap(&begun, count);
    check(model_build(&m, &request, &err), &err);
    build = lap(&begun, count);
    plan.wanted = m.task_logits;
    program_measure(&needs, m.g, &plan);
    size = lap(&begun, count);
    check(program_new(&p, m.g, &plan, &err), &err);
    prepare = lap(&begun, count);
    printf("{\"adapters\": %d, \"load\": %.3f, \"build\": %.3f, \"measure\": %.3f, \"prepare\": %.3f}\n", count, load,
           build, size, prepare);
    program_needs_free(&needs);
    program_free(p);
    model_free(&m);
    for (int i = 0; i < count; i++)
        adapter_free(tasks[i], d);
    free(tasks);
}

int main(int argc, char **argv)
{
    backbone *b;
    device d;
    inlay_error err;

    if (argc < 5) {
        fprintf(stderr, "usage: bench_adapters CHECKPOINT FOLDER METHOD COUNT...\n");
        return 2;
    }
    check(backbone_open(&b, argv[1], 0, &err), &err);
    check(device_open(&d, NULL, 1, &err), &err);
    write_adapter(b, &d, argv[2], argv[3]);
    for (int i = 4; i < argc; i++)
        measure(b, &d, argv[2], atoi(argv[i]));
    device_close(&d);
    backbone_close(b);
    return 0;
}
