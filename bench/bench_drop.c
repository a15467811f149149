/* AdapterDrop (arXiv 2010.11918): inference time of T tasks on the same images whose adapters of the lowest n layers
 * are dropped, and time of a training step without them. One JSON line for each n and T: seconds measured, and the
 * operations counted, both for one batch. usage: bench_drop CHECKPOINT THREADS f32|bf16 BATCH TASKS ROUNDS */
#include <stdio.h>
#include <stdlib.h>

#include "base/monitor.h"
#include "infer/model.h"

#define CLASSES 10
#define MOST_TASKS 64
#define MOST_LAYERS 64

static void check(inlay_status status, const inlay_error *err)
{
    if (status == INLAY_OK)
        return;
    fprintf(stderr, "bench_drop: %s\n", err->message);
    exit(1);
}

typedef struct setting {
    device d;
    backbone *b;
    adapter *tasks[MOST_TASKS];
    precision prec;
    int64_t batch;
} setting;

/* One model at one n. */
typedef struct contestant {
    model m;
    program *p;
    bool training;
    double flops, best;
} contestant;

static void open_contestant(contestant *c, setting *s, int skip, int task_count, bool training, program *share)
{
    model_request request = {.dev = &s->d,
                             .b = s->b,
                             .a = s->tasks[0],
                             .skip_layers = skip,
                             .tasks = (const adapter *const *)s->tasks,
                             .task_count = task_count,
                             .prec = s->prec,
                             .pixel_type = DTYPE_U8,
                             .training = training,
                             .drop_path = training ? 0.1 : 0};
    program_request plan = {.dev = &s->d, .max_batch = s->batch, .backward = training, .share = share};
    inlay_error err;

    if (training)
        request.tasks = NULL;
    check(model_build(&c->m, &request, &err), &err);
    plan.wanted = training ? &c->m.loss : c->m.task_logits;
    plan.wanted_count = training ? 1 : task_count;
    check(program_new(&c->p, c->m.g, &plan, &err), &err);
    c->training = training;
    c->flops = program_flops(c->p, training) * (double)s->batch;
    c->best = 1e30;
}

static void close_contestant(contestant *c)
{
    program_free(c->p);
    model_free(&c->m);
}

static void fill(const contestant *c, const setting *s)
{
    const backbone_shape *shape = &s->b->shape;
    uint8_t *pixels = program_value(c->p, c->m.pixels, s->batch).data;

    for (int64_t i = 0; i < s->batch * shape->height * shape->image_width * shape->channels; i++)
        pixels[i] = (uint8_t)(i * 2654435761u >> 24);
    for (int64_t i = 0; c->training && i < s->batch; i++)
        ((int32_t *)program_value(c->p, c->m.targets, s->batch).data)[i] = (int32_t)(i % CLASSES);
}

static void time_once(contestant *c, const setting *s, int round)
{
    step_info step = {.seed = 1, .step = (uint32_t)round};
    double begun, seconds;

    fill(c, s);
    begun = monitor_seconds();
    if (c->training)
        program_step(c->p, s->batch, &step);
    else
        program_forward(c->p, s->batch, &step);
    seconds = monitor_seconds() - begun;
    c->best = seconds < c->best ? seconds : c->best;
}

/* All n in turn, so that what else the machine does meets all of them. */
static void compare(setting *s, int task_count, bool training, int rounds)
{
    int layers = (int)s->b->shape.depth;
    contestant all[MOST_LAYERS];

    for (int n = 0; n < layers; n++)
        open_contestant(&all[n], s, n, task_count, training, n ? all[0].p : NULL);
    for (int round = 0; round < rounds; round++)
        for (int n = 0; n < layers; n++)
            time_once(&all[n], s, round);
    for (int n = 0; n < layers; n++)
        printf("{\"kind\": \"%s\", \"dropped\": %d, \"tasks\": %d, \"seconds\": %.6f, \"flops\": %.0f}\n",
               training ? "train" : "infer", n, task_count, all[n].best, all[n].flops);
    fflush(stdout);
    for (int n = layers; n-- > 0;)
        close_contestant(&all[n]);
}

int main(int argc, char **argv)
{
    int most = argc == 7 ? (int)strtol(argv[5], NULL, 10) : 0, rounds = argc == 7 ? (int)strtol(argv[6], NULL, 10) : 0;
    inlay_error err;
    options *settings;
    setting s = {0};

    if (most < 1 || most > MOST_TASKS || rounds < 1 || !precision_from_name(argv[3], &s.prec)) {
        fprintf(stderr, "usage: bench_drop CHECKPOINT THREADS f32|bf16 BATCH TASKS ROUNDS\n");
        return 2;
    }
    s.batch = strtol(argv[4], NULL, 10);
    check(device_open(&s.d, NULL, (int)strtol(argv[2], NULL, 10), &err), &err);
    check(backbone_open(&s.b, argv[1], 0, &err), &err);
    if (s.b->shape.depth > MOST_LAYERS) {
        fprintf(stderr, "bench_drop: more than %d layers\n", MOST_LAYERS);
        return 1;
    }
    for (int t = 0; t < most; t++) {
        check(adapter_settings(&settings, "adapter_plus", &err), &err);
        check(adapter_new(&s.tasks[t], "adapter_plus", settings, s.b, CLASSES, NULL, &err), &err);
        check(adapter_initialise(s.tasks[t], &s.d, (uint64_t)t, &err), &err);
    }
    compare(&s, 1, true, rounds);
    for (int tasks = 1; tasks <= most; tasks *= 2)
        compare(&s, tasks, false, rounds);
    for (int t = 0; t < most; t++)
        adapter_free(s.tasks[t], &s.d);
    backbone_close(s.b);
    device_close(&s.d);
    return 0;
}
