#include "infer/model.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "backbones/config.h"
#include "base/json.h"

static const char *const precisions[] = {[PRECISION_F32] = "f32", [PRECISION_BF16] = "bf16", [PRECISION_INT8] = "int8"};

const char *precision_name(precision prec)
{
    return precisions[prec];
}

bool precision_from_name(const char *name, precision *out)
{
    for (size_t i = 0; i < sizeof precisions / sizeof *precisions; i++)
        if (strcmp(name, precisions[i]) == 0) {
            *out = (precision)i;
            return true;
        }
    return false;
}

static dtype weight_type(const model_request *q)
{
    if (q->prec == PRECISION_F32)
        return q->dev->k->real;
    return q->prec == PRECISION_BF16 ? DTYPE_BF16 : DTYPE_I8;
}

/* A forward pass, from the inputs to the head's answer. */
static pass_result build_one(model *m, const model_request *q, const adapter *a)
{
    build_request request = {.pixels = m->pixels,
                             .mean = q->mean,
                             .std = q->std,
                             .training = q->training,
                             .drop_path = q->drop_path,
                             .dropout = q->backbone_dropout,
                             .own_head = !a,
                             .keep_blocks = q->keep_blocks};
    pass_result pass;

    graph_set_override(m->g, a ? adapter_stand_in : NULL, a);
    if (a)
        request.hooks = adapter_hooks(a, m->g, q->training, q->skip_layers, q->skipped, NULL);
    if (a && adapter_feeds_back(a)) {
        uint32_t stream = graph_stream(m->g);
        request.keep_blocks = false;
        q->b->desc->build(q->b, m->g, &request);
        graph_set_stream(m->g, stream);
        request.keep_blocks = q->keep_blocks;
        request.hooks = adapter_hooks(a, m->g, q->training, q->skip_layers, q->skipped, request.hooks);
    }
    pass.of = q->b->desc->build(q->b, m->g, &request);
    pass.outputs = a ? graph_linear(m->g, pass.of.features, a->head_weight, a->head_bias, 0, 0) : pass.of.logits;
    return pass;
}

static value training_loss(model *m, const model_request *q)
{
    const method *by = q->a ? q->a->method : NULL;
    training_target target = {.task = q->a ? q->a->task : task_table[0], .smoothing = q->label_smoothing};
    pass_result *results;

    m->passes = q->training && q->a ? q->a->passes : 1;
    m->pass_logits = ARENA_ARRAY(graph_arena(m->g), value, m->passes);
    results = ARENA_ARRAY(graph_arena(m->g), pass_result, m->passes);
    for (int i = 0; i < m->passes; i++) {
        graph_set_pass(m->g, (uint32_t)i);
        results[i] = build_one(m, q, q->a);
        m->pass_logits[i] = results[i].outputs;
        graph_keep(m->g, results[i].outputs);
    }
    m->features = results[0].of.features;
    m->logits = results[0].outputs;
    m->blocks = results[0].of.blocks;
    m->targets = graph_target(m->g, "targets", task_target_type(target.task), 1,
                              task_target_count(target.task, graph_cols(m->g, m->logits)));
    target.targets = m->targets;
    if (q->training && by && by->loss)
        return by->loss(q->a, m->g, results, &target);
    return target.task->loss(m->g, m->logits, target.targets, target.smoothing);
}

inlay_status model_build(model *m, const model_request *q, inlay_error *err)
{
    const backbone_shape *s = &q->b->shape;

    if (!q->a && !q->tasks && s->classes == 0)
        FAIL(err, INLAY_ERR_USAGE, "backbone '%s' has no head of its own: an adapter is needed", q->b->path);
    *m = (model){.g = graph_new(q->dev->k, weight_type(q))};
    m->pixels = graph_input(m->g, "pixels", q->pixel_type, 1, s->height * s->image_width * s->channels);
    m->task_count = q->tasks ? q->task_count : 1;
    m->task_logits = ARENA_ARRAY(graph_arena(m->g), value, m->task_count);
    m->loss = m->targets = NO_VALUE;
    for (int t = 0; q->tasks && t < q->task_count; t++) {
        pass_result result = build_one(m, q, q->tasks[t]);
        m->task_logits[t] = result.outputs;
        graph_keep(m->g, result.outputs);
        if (t == 0) {
            m->features = result.of.features;
            m->logits = result.outputs;
            m->blocks = result.of.blocks;
        }
    }
    if (!q->tasks) {
        m->loss = training_loss(m, q);
        m->task_logits[0] = m->logits;
    }
    if (q->features)
        graph_keep(m->g, m->features);
    m->outputs = graph_cols(m->g, m->logits);
    graph_finish(m->g);
    return INLAY_OK;
}

void model_free(model *m)
{
    graph_free(m->g);
    *m = (model){0};
}

/* ---- preprocessing ---- */

/* Version of the records of preprocessing. Since 2, crop_pct counts with "squash" too; records without a version are
 * from when a squashed image was always the whole. */
#define RECORD_VERSION 2

#define NOT_A_RECORD(key, expected) FAIL(err, INLAY_ERR_FORMAT, "'preprocessing.%s' must be %s", key, expected)

static inlay_status read_text(const char **out, const json_t *record, const char *key, inlay_error *err)
{
    const json_t *item = json_object_get(record, key);

    if (item && !json_is_string(item))
        NOT_A_RECORD(key, "text");
    if (item)
        *out = json_string_value(item);
    return INLAY_OK;
}

static inlay_status read_flag(bool *out, const json_t *record, const char *key, inlay_error *err)
{
    const json_t *item = json_object_get(record, key);

    if (item && !json_is_boolean(item))
        NOT_A_RECORD(key, "true or false");
    if (item)
        *out = json_is_true(item);
    return INLAY_OK;
}

static inlay_status read_three(float out[3], const json_t *record, const char *key, inlay_error *err)
{
    const json_t *item = json_object_get(record, key);

    if (item && json_array_size(item) != 3)
        NOT_A_RECORD(key, "an array of 3 numbers");
    for (size_t i = 0; item && i < 3; i++) {
        if (!json_is_number(json_array_get(item, i)))
            NOT_A_RECORD(key, "an array of 3 numbers");
        out[i] = (float)json_number_value(json_array_get(item, i));
    }
    return INLAY_OK;
}

static inlay_status read_geometry(preprocess *p, const json_t *record, inlay_error *err)
{
    const json_t *version = json_object_get(record, "version"), *pct = json_object_get(record, "crop_pct"),
                 *size = json_object_get(record, "size");

    if (version && json_integer_value(version) != RECORD_VERSION)
        NOT_A_RECORD("version", "2 where it is given");
    if (size && (!json_is_integer(json_array_get(size, 0)) || !json_is_integer(json_array_get(size, 1)) ||
                 json_array_size(size) != 2))
        NOT_A_RECORD("size", "an array of 2 whole numbers, height and width");
    if (pct && (!json_is_number(pct) || !(json_number_value(pct) >= 0.05 && json_number_value(pct) <= 2)))
        NOT_A_RECORD("crop_pct", "a number from 0.05 to 2");
    if (pct)
        p->crop_pct = json_number_value(pct);
    if (!version && json_object_get(record, "crop_mode") && p->mode == PREPROCESS_SQUASH)
        p->crop_pct = 1;
    TRY(read_flag(&p->apply_orientation, record, "exif_orientation", err));
    TRY(read_flag(&p->scale_16bit, record, "scale_16bit", err));
    return read_flag(&p->crop_down, record, "crop_down", err);
}

static inlay_status read_record(preprocess *p, const json_t *record, inlay_error *err)
{
    double mean[3], std[3];

    if (json_object_get(record, "crop_mode"))
        p->crop_down = false;
    TRY(read_geometry(p, record, err));
    TRY(read_three(p->mean, record, "mean", err));
    TRY(read_three(p->std, record, "std", err));
    for (int c = 0; c < 3; c++) {
        mean[c] = (double)p->mean[c];
        std[c] = (double)p->std[c];
    }
    return config_check_normalisation("preprocessing", "mean", mean, "std", std, err);
}

static inlay_status read_names(preprocess *p, const char *interpolation, const char *mode, const char *source,
                               inlay_error *err)
{
    if (!resample_from_name(interpolation, &p->interpolation))
        FAIL(err, INLAY_ERR_UNSUPPORTED, "%s: interpolation '%s' is not known", source, interpolation);
    if (!preprocess_mode_from_name(mode, &p->mode))
        FAIL(err, INLAY_ERR_UNSUPPORTED, "%s: crop_mode '%s' is not known (expected center, squash or border)", source,
             mode);
    return INLAY_OK;
}

inlay_status preprocess_for(preprocess *p, const backbone *b, const void *recorded, inlay_error *err)
{
    const char *interpolation = b->input.interpolation, *mode = b->input.crop_mode;

    *p = (preprocess){.height = (int)b->shape.height,
                      .width = (int)b->shape.image_width,
                      .crop_pct = b->input.crop_pct,
                      .crop_down = b->input.crop_down};
    memcpy(p->mean, b->input.mean, sizeof p->mean);
    memcpy(p->std, b->input.std, sizeof p->std);
    if (!recorded)
        return read_names(p, interpolation, mode, b->path, err);
    if (!json_is_object((const json_t *)recorded))
        FAIL(err, INLAY_ERR_FORMAT, "'preprocessing' must be an object");
    TRY(read_text(&interpolation, recorded, "interpolation", err));
    TRY(read_text(&mode, recorded, "crop_mode", err));
    TRY(read_names(p, interpolation, mode, "preprocessing", err));
    return read_record(p, recorded, err);
}

void *preprocess_record(const preprocess *p)
{
    json_t *record =
        json_pack("{s:i, s:[i,i], s:s, s:f, s:s, s:[f,f,f], s:[f,f,f], s:b, s:b}", "version", RECORD_VERSION, "size",
                  p->height, p->width, "crop_mode", preprocess_mode_name(p->mode), "crop_pct", p->crop_pct,
                  "interpolation", resample_name(p->interpolation), "mean", (double)p->mean[0], (double)p->mean[1],
                  (double)p->mean[2], "std", (double)p->std[0], (double)p->std[1], (double)p->std[2],
                  "exif_orientation", p->apply_orientation, "scale_16bit", p->scale_16bit);

    if (p->crop_down)
        json_object_set_new(record, "crop_down", json_true());
    return record;
}

/* ---- inference ---- */

inlay_status plan_inference(budget *room, graph *g, const program_request *request, inlay_error *err)
{
    program_needs needs = {0};
    size_t activations = program_measure(&needs, g, request);

    device_plan(request->dev, room);
    budget_set(room, "weights", needs.weights, NULL);
    budget_set(room, "activations", activations, "a smaller --batch-size");
    program_needs_free(&needs);
    return budget_check(room, err);
}

static const value *wanted_values(const model *m, bool features)
{
    value *wanted = ARENA_ARRAY(graph_arena(m->g), value, m->task_count + 1);

    memcpy(wanted, m->task_logits, (size_t)m->task_count * sizeof *wanted);
    if (features)
        wanted[m->task_count] = m->features;
    return wanted;
}

inlay_status predictor_open(predictor *out, const model_request *request, int64_t batch, inlay_error *err)
{
    program_request plan = {.dev = request->dev, .max_batch = batch};

    *out = (predictor){.batch = batch, .dev = request->dev, .b = request->b, .a = request->a, .tasks = request->tasks};
    TRY(model_build(&out->m, request, err));
    plan.wanted = wanted_values(&out->m, request->features);
    plan.wanted_count = out->m.task_count + request->features;
    if (request->room)
        TRY(plan_inference(request->room, out->m.g, &plan, err));
    return program_new(&out->p, out->m.g, &plan, err);
}

void predictor_close(predictor *p)
{
    program_free(p->p);
    model_free(&p->m);
}

void *predictor_pixels(predictor *p)
{
    return program_stage(p->p, p->m.pixels);
}

void predictor_forward(predictor *p, int64_t count)
{
    program_forward(p->p, count, &(step_info){0});
}

int64_t predictor_classes(const predictor *p, int task)
{
    return graph_cols(p->m.g, p->m.task_logits[task]);
}

void predictor_logits(const predictor *p, int task, int64_t count, float *logits)
{
    device_get_f32(p->dev, logits, program_value(p->p, p->m.task_logits[task], count).data,
                   count * predictor_classes(p, task));
}

void predictor_features(const predictor *p, int64_t count, float *features)
{
    program_read(p->p, p->m.features, count, features);
}

void predictor_run(predictor *p, int64_t count, float *logits)
{
    predictor_forward(p, count);
    predictor_logits(p, 0, count, logits);
}

static bool all_finite(const float *values, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        if (!isfinite(values[i]))
            return false;
    return true;
}

static bool is_float(dtype type)
{
    return type == DTYPE_F32 || type == DTYPE_BF16 || type == DTYPE_F16 || type == DTYPE_F64;
}

#define PIECE 4096 /* values that are converted at a time */

static bool tensor_finite(const tensor_view *t)
{
    float values[PIECE];

    for (int64_t done = 0; is_float(t->type) && done < t->count; done += PIECE) {
        int64_t now = t->count - done < PIECE ? t->count - done : PIECE;
        dtype_to_f32(values, (const char *)t->data + (size_t)done * dtype_size(t->type), t->type, (size_t)now);
        if (!all_finite(values, now))
            return false;
    }
    return true;
}

static bool param_finite(const param *p, const device *d)
{
    float *values = p->data || p->source ? memory_array(p->count, sizeof *values) : NULL;
    bool finite = true;

    if (values) {
        param_get(p, d, values);
        finite = all_finite(values, p->count);
    }
    free(values);
    return finite;
}

const char *adapter_not_finite(const adapter *a, const device *d)
{
    for (const adapter_param *i = NULL; (i = adapter_each_param(a, i));)
        if (!param_is_choice(i->p) && !param_finite(i->p, d))
            return i->p->name;
    return NULL;
}

inlay_status predictor_check(const predictor *p, int task, const float *logits, const char *about, inlay_error *err)
{
    const adapter *a = p->tasks ? p->tasks[task] : p->a;
    const char *name;

    if (all_finite(logits, predictor_classes(p, task)))
        return INLAY_OK;
    name = a ? adapter_not_finite(a, p->dev) : NULL;
    if (name)
        FAIL(err, INLAY_ERR_FORMAT,
             "'%s': the logits are not finite; tensor '%s' of the '%s' adapter has a value that is not finite", about,
             name, a->name);
    for (int i = 0; i < tensor_set_count(p->b->file); i++)
        if (!tensor_finite(tensor_set_at(p->b->file, i)))
            FAIL(err, INLAY_ERR_FORMAT,
                 "'%s': the logits are not finite; tensor '%s' of '%s' has a value that is not finite", about,
                 tensor_set_at(p->b->file, i)->name, tensor_set_at(p->b->file, i)->file);
    FAIL(err, INLAY_ERR_FORMAT,
         "'%s': the logits are not finite, though all weights are: what is computed from them overflows", about);
}
