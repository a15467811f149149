/* A run before its first step: memory, the feature cache, the programs, the checkpoint that it goes on from. */
#include "train/train_impl.h"

#include <stdlib.h>

/* The memory of the programs that are going to be made, the largest in each phase: those of a step share theirs, and
 * that which fills the cache is gone before. */
static size_t training_activations(const trainer *t, program_needs *needs, bool cached)
{
    const train_request *q = t->q;
    value frontier[CACHE_VALUES];
    int count = cached ? graph_fixed_frontier(t->variants[0].m.g, t->variants[0].m.loss, frontier, CACHE_VALUES) : 0;
    program_request filling = {.dev = q->dev,
                               .max_batch = q->batch < CACHE_BATCH ? q->batch : CACHE_BATCH,
                               .wanted = frontier,
                               .wanted_count = count};
    program_request step = {.dev = q->dev,
                            .max_batch = q->batch < q->data->count ? q->batch : q->data->count,
                            .backward = true,
                            .wanted_count = 1,
                            .given = frontier,
                            .given_count = count};
    size_t most = count ? program_measure(needs, t->variants[0].m.g, &filling) : 0;

    for (int i = 0; i < t->variant_count; i++) {
        size_t size;
        step.wanted = &t->variants[i].m.loss;
        size = program_measure(needs, t->variants[i].m.g, &step);
        most = size > most ? size : most;
    }
    return most;
}

/* The memory of evaluating: of a merge, where there is one. */
static inlay_status evaluation_activations(const trainer *t, program_needs *needs, size_t *out, inlay_error *err)
{
    const train_request *q = t->q;
    model_request request = {.dev = q->dev, .b = q->b, .prec = q->prec, .pixel_type = preprocess_pixel_type(q->prep)};
    program_request answers = {.dev = q->dev, .max_batch = EVALUATION_BATCH, .wanted_count = 1};
    adapter *merged;
    model m;
    inlay_status status;

    TRY(adapter_conclude(&merged, q->a, q->dev, err));
    request.a = merged;
    status = model_build(&m, &request, err);
    if (status == INLAY_OK) {
        answers.wanted = m.task_logits;
        *out = program_measure(needs, m.g, &answers);
        model_free(&m);
    }
    if (merged != q->a)
        adapter_free(merged, q->dev);
    return status;
}

/* Sets the parts of the run in its budget and checks it, before anything of it is taken. */
static inlay_status plan_memory(trainer *t, bool cached, inlay_error *err)
{
    const train_request *q = t->q;
    program_needs needs = {0};
    size_t training, evaluating = 0;
    int64_t trained = cached ? CACHE_BATCH : q->batch,
            ahead = 2 * (trained > EVALUATION_BATCH ? trained : EVALUATION_BATCH),
            evaluated = q->eval_data ? q->eval_data->count : 1;
    inlay_status status;

    if (!q->room)
        return INLAY_OK;
    training = training_activations(t, &needs, cached);
    status = evaluation_activations(t, &needs, &evaluating, err);
    device_plan(q->dev, q->room);
    budget_set(q->room, "weights", needs.weights, NULL);
    budget_set(q->room, "gradients and optimiser", needs.training, NULL);
    budget_set(q->room, "a checkpoint being saved", needs.training, NULL); /* values and moments, copied */
    budget_set(q->room, "activations of training", training, "a smaller --batch-size");
    budget_set(q->room, "activations of evaluation", evaluating, NULL);
    loader_plan(q->room, q->prep, ahead, evaluated > q->data->count ? evaluated : q->data->count);
    program_needs_free(&needs);
    return status == INLAY_OK ? budget_check(q->room, err) : status;
}

static inlay_status fill_cache_at(trainer *t, cache_place place, inlay_error *err)
{
    const train_request *q = t->q;
    const model *m = &t->variants[0].m;
    cache_request request = {.g = m->g,
                             .wanted = m->loss,
                             .pixels = m->pixels,
                             .dev = q->dev,
                             .b = q->b,
                             .data = q->data,
                             .prep = q->prep,
                             .records = &t->images,
                             .workers = q->workers,
                             .batch = q->batch < CACHE_BATCH ? q->batch : CACHE_BATCH,
                             .place = place,
                             .progress = q->observer.progress,
                             .note = q->observer.note,
                             .stop = q->observer.stop,
                             .context = q->observer.context};

    request.path = place == CACHE_IN_FOLDER ? q->cache_dir : path_join(t->memory, q->output, "features.tmp");
    NOTIFY(t, phase, "caching features", q->data->count, "img");
    TRY(feature_cache_fill(&t->cache, &request, err));
    t->cached = true;
    return INLAY_OK;
}

/* Fills the feature cache in the folder that is given; else in memory while it fits; else in a file of the
 * run's own. */
static inlay_status fill_cache(trainer *t, inlay_error *err)
{
    const train_request *q = t->q;
    size_t size = q->augment ? 0 : feature_cache_size(t->variants[0].m.g, t->variants[0].m.loss, q->data->count);
    bool wanted = size > 0 && q->cache != CACHE_OFF, fits;
    inlay_status status;

    TRY(plan_memory(t, wanted, err));
    fits = size <= q->cache_limit && (!q->room || size <= budget_left(q->room));

    if (size == 0 && (q->cache == CACHE_ON || (q->cache == CACHE_AUTO && q->cache_dir)))
        NOTIFY(t, note,
               q->augment ? "no feature cache: the images are augmented"
                          : "no feature cache: something trainable reads the pixels");
    if (!wanted)
        return INLAY_OK;
    status = fill_cache_at(t, q->cache_dir ? CACHE_IN_FOLDER : fits ? CACHE_IN_MEMORY : CACHE_IN_FILE, err);
    if (status == INLAY_ERR_IO && q->cache == CACHE_AUTO) { /* a full disk, a folder that is not to be written */
        NOTIFY(t, note, arena_printf(t->memory, "no feature cache in a file: %s", err ? err->message : "?"));
        status = q->cache_dir && fits ? fill_cache_at(t, CACHE_IN_MEMORY, err) : INLAY_OK;
    }
    if (q->room && t->cached && t->cache.block)
        budget_set(q->room, "feature cache", size, "--feature-cache off");
    if (!t->cached && status == INLAY_OK)
        TRY(plan_memory(t, false, err));
    t->result->cache_bytes = t->cached ? size : 0;
    t->result->cache_reused = t->cache.reused;
    if (status == INLAY_OK && q->strict && t->cache.bad_count)
        FAIL(err, INLAY_ERR_IO, "%s", t->cache.bad[0]);
    return status;
}

static const char *cache_folder(const trainer *t)
{
    if (!t->cached || t->cache.block)
        return NULL;
    return t->cache.images ? t->q->cache_dir : t->q->output;
}

static inlay_status make_programs(trainer *t, inlay_error *err)
{
    const train_request *q = t->q;
    program_request request = {.dev = q->dev,
                               .max_batch = q->batch < q->data->count ? q->batch : q->data->count,
                               .backward = true,
                               .wanted_count = 1};

    t->usable_count = q->data->count - t->cache.bad_count;
    if (t->cached) {
        request.given = t->cache.values;
        request.given_count = t->cache.count;
    }
    if (t->usable_count == 0)
        FAIL(err, INLAY_ERR_IO, "none of the %d training images could be read; the first: %s", q->data->count,
             t->cache.bad_count ? t->cache.bad[0] : "?");
    t->steps_per_epoch = t->usable_count / q->batch;
    if (t->usable_count % q->batch && (!q->drop_last || t->steps_per_epoch == 0))
        t->steps_per_epoch++;
    t->rates = schedule_resolved(&q->lr, t->steps_per_epoch);
    for (int i = 0; i < t->variant_count; i++) {
        request.wanted = &t->variants[i].m.loss;
        request.share = i ? t->variants[0].p : NULL;
        TRY(program_new(&t->variants[i].p, t->variants[i].m.g, &request, err));
    }
    t->result->activation_bytes = program_memory(t->variants[0].p);
    NOTIFY(t, estimate,
           &(train_estimate){.activations = t->result->activation_bytes,
                             .cache = t->result->cache_bytes,
                             .cache_folder = cache_folder(t),
                             .cache_reused = t->cache.reused,
                             .images = q->data->count,
                             .steps = t->steps_per_epoch * q->epochs,
                             .flops = program_flops(t->variants[0].p, true),
                             .room = q->room});
    return INLAY_OK;
}

static inlay_status resume(trainer *t, inlay_error *err)
{
    TRY(checkpoint_load(t->checkpoint, &t->update, &t->state,
                        &(train_extent){t->q->epochs, t->q->data->count, t->q->batch}, t->q->run, &t->images, err));
    if (!t->images.compared)
        NOTIFY(t, note, "the checkpoint does not say what the images were: one that has changed since is not noticed");
    return INLAY_OK;
}

inlay_status trainer_begin(trainer *t, inlay_error *err)
{
    const train_request *q = t->q;
    model_request request = {.dev = q->dev,
                             .b = q->b,
                             .a = q->a,
                             .prec = q->prec,
                             .pixel_type = preprocess_pixel_type(q->prep),
                             .training = true,
                             .drop_path = q->drop_path,
                             .backbone_dropout = q->backbone_dropout,
                             .label_smoothing = q->label_smoothing};

    t->checkpoint = path_join(t->memory, q->output, "checkpoint.safetensors");
    t->order = calloc((size_t)q->data->count + 1, sizeof *t->order);
    t->target_bytes = task_target_bytes(q->data->task, q->data->outputs);
    t->targets = calloc((size_t)q->batch, t->target_bytes);
    t->indices = calloc((size_t)q->batch, sizeof *t->indices);
    t->variant_count = q->a->drop_random ? q->a->drop_high - q->a->drop_low + 1 : 1;
    t->variants = calloc((size_t)t->variant_count, sizeof *t->variants);
    if (!t->order || !t->targets || !t->indices || !t->variants)
        FAIL(err, INLAY_ERR_NOMEM, "out of memory for the training run");
    TRY(file_make_folder(q->output, err));
    TRY(adapter_initialise(q->a, q->dev, q->seed, err));
    TRY(optimizer_open(&t->update, &q->update, &q->lr, q->a, q->dev, err));
    TRY(image_records_new(&t->images, q->data, err));
    if (q->resume && file_exists(t->checkpoint))
        TRY(resume(t, err));
    for (int i = 0; i < t->variant_count; i++) {
        request.skip_layers = q->a->drop_random ? q->a->drop_low + i : 0;
        TRY(model_build(&t->variants[i].m, &request, err));
    }
    TRY(fill_cache(t, err));
    TRY(make_programs(t, err));
    if (q->eval_data)
        TRY(trainer_try_evaluator(t, err));
    return trainer_open_log(t, err);
}
