/* Everything that decides the result of a run, as JSON: kept with checkpoints and adapters, compared by --resume. */
#include "run/training_impl.h"

#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "formats/events.h"

typedef struct text_check {
    inlay_status status;
    inlay_error *err;
} text_check;

/* Checks that a setting is UTF-8: it is recorded in JSON and read back. */
static void check_text(void *context, const option_spec *spec, const char *text)
{
    text_check *c = context;
    char name[80];

    if (c->status == INLAY_OK && !text_is_utf8(text)) {
        snprintf(name, sizeof name, "%s", spec->name);
        for (char *p = name; *p; p++)
            *p = *p == '_' ? '-' : *p;
        c->status = error_set(c->err, INLAY_ERR_USAGE,
                              "--%s: '%s' is not UTF-8 and cannot be recorded with the adapter", name, text);
    }
}

static void copy_setting(void *context, const option_spec *spec, const char *text)
{
    json_t *root = context;

    if (spec->type == OPTION_REAL || spec->type == OPTION_INT)
        json_object_set_new(root, spec->name,
                            spec->type == OPTION_INT ? json_integer(strtoll(text, NULL, 10))
                                                     : json_real(strtod(text, NULL)));
    else
        json_object_set_new(root, spec->name,
                            spec->type == OPTION_FLAG ? json_boolean(strcmp(text, "true") == 0) : json_string(text));
}

/* The end of a path, "class/file": the same however the folder above was spelled. */
static const char *path_tail(const char *path)
{
    const char *at = path + strlen(path);

    for (int slashes = 0; at > path; at--)
        if (at[-1] == '/' && ++slashes == 2)
            break;
    return at;
}

static void describe_optimizer(json_t *root, const train_request *q)
{
    bool sgd = q->update.kind == OPTIMIZER_SGD;

    json_object_set_new(root, "optimizer", json_string(optimizer_names[q->update.kind]));
    if (sgd)
        json_object_set_new(root, "momentum", json_real(q->update.momentum));
    else
        json_object_update_new(root,
                               json_pack("{s:f, s:f, s:f, s:s}", "beta1", q->update.beta1, "beta2", q->update.beta2,
                                         "adam_eps", q->update.eps, "adam_rule", adam_rule_names[q->update.rule]));
    json_object_update_new(root,
                           json_pack("{s:f, s:s, s:f}", "weight_decay", q->update.weight_decay, "decay_on",
                                     decay_reach_names[q->update.decay_on], "clip_grad_norm", q->update.clip_norm));
}

static void describe_schedule(json_t *root, const schedule *s)
{
    json_object_update_new(root, json_pack("{s:s, s:s, s:f, s:f, s:f}", "schedule", schedule_names[s->kind],
                                           "schedule_unit", s->by_step ? "step" : "epoch", "lr", s->lr, "warmup_lr",
                                           s->start, "min_lr", s->end));
    json_object_update_new(root, json_pack("{s:I, s:f, s:b, s:b, s:b}", "warmup_epochs", (json_int_t)s->warmup,
                                           "warmup_share", s->warmup_share, "peak_in_warmup", !s->peak_behind,
                                           "decay_from_start", s->from_first, "repeat_first", s->repeat_first));
}

inlay_status training_check_texts(const options *settings, inlay_error *err)
{
    text_check texts = {.err = err};

    options_each(settings, NULL, check_text, &texts);
    return texts.status;
}

inlay_status training_describe(char **out, const train_request *q, const adapter *a, const dataset *d, const recipe *r,
                               inlay_error *err)
{
    json_t *settings = json_object(), *root, *rest;
    uint32_t fingerprint = 0;
    inlay_status status;

    options_each(a->settings, NULL, copy_setting, settings);
    for (int i = 0; i < d->count; i++) {
        const sample *s = &d->samples[i];
        fingerprint = fingerprint * 31 + crc32c(path_tail(s->path), strlen(path_tail(s->path))) + (uint32_t)s->label;
        if (s->target)
            fingerprint += crc32c(s->target, task_target_bytes(d->task, d->outputs));
    }
    root = json_pack("{s:s, s:o, s:s, s:s, s:i, s:I, s:i, s:i, s:b}", "method", a->name, "options", settings, "recipe",
                     r->name, "backbone", q->b->sha256, "images", d->count, "data", (json_int_t)fingerprint, "epochs",
                     q->epochs, "batch_size", q->batch, "drop_last", q->drop_last);
    if (d->task != task_table[0])
        json_object_set_new(root, "task", json_string(d->task->name));
    describe_optimizer(root, q);
    describe_schedule(root, &q->lr);
    json_object_update_new(root,
                           json_pack("{s:f, s:f, s:f}", "label_smoothing", q->label_smoothing, "backbone_drop_path",
                                     q->drop_path, "backbone_dropout", q->backbone_dropout));
    json_object_set_new(root, "move_untouched", json_boolean(q->update.move_untouched));
    rest = json_build("the settings of the run", err, "{s:I, s:s, s:s, s:b, s:o}", "seed", (json_int_t)q->seed,
                      "precision", precision_name(q->prec), "kernels", q->dev->k->name, "augment", q->augment,
                      "preprocessing", preprocess_record(q->prep));
    status = rest ? INLAY_OK : INLAY_ERR_FORMAT;
    json_object_update_new(root, rest);
    json_object_set_new(root, "model", backbone_facts(q->b));
    if (status == INLAY_OK)
        status = json_encode(out, root, JSON_COMPACT | JSON_REAL_PRECISION(9), "the settings of the run", err);
    json_decref(root);
    return status;
}

json_t *training_add_accuracy(json_t *record, const char *what, const train_result *r, inlay_error *err)
{
    json_t *scores;

    if (!record || !r->evaluated)
        return record;
    scores = scores_object(what, &r->eval, true, err);
    return json_joined(record, scores ? json_pack("{s:o}", "eval", scores) : NULL);
}
