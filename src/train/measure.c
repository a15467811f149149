#include "train/measure.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/monitor.h"
#include "train/recipe.h"
#include "train/train.h"

#define PEAK_ROUNDS 20000000

static double measure_peak(device *d, precision prec, int runs)
{
    dtype type = prec == PRECISION_F32 ? d->k->real : prec == PRECISION_BF16 ? DTYPE_BF16 : DTYPE_I8;
    double best = 0;

    for (int run = 0; run <= runs; run++) {
        double begun = monitor_seconds(), operations = d->k->peak(&d->c, type, PEAK_ROUNDS);
        best = fmax(best, operations / (monitor_seconds() - begun));
    }
    return best / 1e9;
}

static void fill(program *p, const model *m, int64_t batch, int64_t classes, bool training, const backbone_shape *s)
{
    uint8_t *pixels = program_stage(p, m->pixels);
    int32_t *labels = training ? program_stage(p, m->targets) : NULL;

    for (int64_t i = 0; i < batch * s->height * s->image_width * s->channels; i++)
        pixels[i] = (uint8_t)(rng_u32((rng_stream){.purpose = RNG_TEST}, (uint64_t)i) >> 24);
    for (int64_t i = 0; labels && i < batch; i++)
        labels[i] = (int32_t)(i % classes);
}

/* Runs a training step, or with `update` NULL a pass of inference. */
static void run_once(const measure_request *q, program *p, int64_t batch, optimizer *update, int run)
{
    step_info step = {.seed = 1, .step = (uint32_t)run, .epochs = 1};

    for (const adapter_param *i = NULL; update && (i = adapter_each_param(q->a, i));)
        param_set_touched(i->p, false);
    if (update) {
        program_step(p, batch, &step);
        optimizer_step(update, update->lr.lr);
    } else {
        program_forward(p, batch, &step);
    }
}

/* Times the runs: *best gets the seconds of the best one. */
static inlay_status time_runs(const measure_request *q, program *p, int64_t batch, optimizer *update, double *best,
                              inlay_error *err)
{
    *best = HUGE_VAL;
    for (int run = 0; run <= q->runs; run++) {
        double begun = monitor_seconds();
        run_once(q, p, batch, update, run);
        if (run > 0)
            *best = fmin(*best, monitor_seconds() - begun);
        if (q->stop && q->stop(q->context))
            FAIL(err, INLAY_ERR_INTERRUPTED, "interrupted while it was measured");
    }
    return INLAY_OK;
}

/* Takes the times of operations, those alike in name and shape added up. */
static inlay_status take_times(measured_pass *out, const program *p, int64_t images, inlay_error *err)
{
    int count = program_times(p, NULL, 0), distinct = 0;
    program_time *times = calloc((size_t)count + 1, sizeof *times);

    if (!times)
        FAIL(err, INLAY_ERR_NOMEM, "out of memory for the times of %d operations", count);
    program_times(p, times, count);
    for (int i = 0; i < count; i++) {
        program_time t = times[i];
        int same = 0;
        while (same < distinct && (strcmp(times[same].name, t.name) != 0 || times[same].rows != t.rows ||
                                   times[same].cols != t.cols || times[same].depth != t.depth))
            same++;
        if (same == distinct) {
            times[distinct++] = t;
            continue;
        }
        for (int pass = 0; pass < 2; pass++) {
            times[same].seconds[pass] += t.seconds[pass];
            times[same].operations[pass] += t.operations[pass];
        }
    }
    out->times = times;
    out->time_count = distinct;
    out->images = images;
    return INLAY_OK;
}

/* Checks that the result is a number: what is not costs other time than what is, and is no use to anyone. */
static inlay_status check_result(const measure_request *q, program *p, value wanted, int64_t batch, const model *m,
                                 inlay_error *err)
{
    int64_t count = wanted == m->loss ? 1 : batch * m->outputs;
    float *values = memory_array(count, sizeof *values);
    bool finite = true;

    if (!values)
        FAIL(err, INLAY_ERR_NOMEM, "out of memory for %lld logits", (long long)count);
    device_get_f32(q->dev, values, program_value(p, wanted, batch).data, count);
    for (int64_t i = 0; i < count; i++)
        finite = finite && isfinite(values[i]);
    free(values);
    if (!finite)
        FAIL(err, INLAY_ERR_FORMAT, "'%s': the %s of images of noise are not finite", q->b->path,
             wanted == m->loss ? "losses" : "logits");
    return INLAY_OK;
}

static inlay_status plan_pass(const measure_request *q, const model *m, const program_request *plan, inlay_error *err)
{
    program_needs needs = {0};
    size_t activations = program_measure(&needs, m->g, plan);

    device_plan(q->dev, q->room);
    budget_set(q->room, "weights", needs.weights, NULL);
    budget_set(q->room, "gradients and optimiser", needs.training, NULL);
    budget_set(q->room, "activations", activations, "a smaller --batch-size");
    program_needs_free(&needs);
    return budget_check(q->room, err);
}

static inlay_status measure_pass(measured_pass *out, const measure_request *q, int64_t batch, bool training,
                                 inlay_error *err)
{
    model_request request = {.dev = q->dev,
                             .b = q->b,
                             .a = q->a,
                             .prec = q->prec,
                             .pixel_type = DTYPE_U8,
                             .training = training,
                             .drop_path = recipe_real(recipe_of(q->a->name), "backbone_drop_path")};
    program_request plan = {
        .dev = q->dev, .max_batch = batch, .backward = training, .wanted_count = 1, .timed = q->profile};
    program *p = NULL;
    model m;
    const optimizer_settings adamw = {.beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .weight_decay = 1e-4};
    optimizer update = {0};
    double seconds = 0;
    inlay_status status;

    monitor_reset_peak();
    TRY(model_build(&m, &request, err));
    plan.wanted = training ? &m.loss : &m.logits;
    status = q->room ? plan_pass(q, &m, &plan, err) : INLAY_OK;
    if (status == INLAY_OK)
        status = program_new(&p, m.g, &plan, err);
    if (status == INLAY_OK && training)
        status = optimizer_open(&update, &adamw, &(schedule){.lr = 1e-3}, q->a, q->dev, err);
    if (status == INLAY_OK) {
        tensor_set_release(q->b->file); /* the packed weights are what is read from here on */
        fill(p, &m, batch, q->a->outputs, training, &q->b->shape);
        status = time_runs(q, p, batch, training ? &update : NULL, &seconds, err);
    }
    if (status == INLAY_OK)
        status = check_result(q, p, *plan.wanted, batch, &m, err);
    if (status == INLAY_OK) {
        double speed = (double)batch / seconds;
        *out = (measured_pass){.images_per_second = speed,
                               .gflops = program_flops(p, training) * speed / 1e9,
                               .peak_memory = monitor_peak_rss()};
    }
    if (status == INLAY_OK && q->profile)
        status = take_times(out, p, batch * (q->runs + 1), err);
    optimizer_close(&update);
    program_free(p);
    model_free(&m);
    return status;
}

inlay_status measure(measured *out, const measure_request *q, inlay_error *err)
{
    *out = (measured){0};
    TRY(adapter_initialise(q->a, q->dev, 1, err));
    out->peak_gflops = measure_peak(q->dev, q->prec, q->runs);
    TRY(measure_pass(&out->training, q, q->batch, true, err));
    TRY(measure_pass(&out->inference, q, q->batch, false, err));
    TRY(measure_pass(&out->single, q, 1, false, err));
    return INLAY_OK;
}

void measured_free(measured *m)
{
    free(m->training.times);
    free(m->inference.times);
    free(m->single.times);
}
