#include "train/optimizer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define SWEEP 256 /* tensors that are updated together */

const char *const optimizer_names[] = {"adamw", "sgd"};
const char *const adam_rule_names[] = {"torch", "transformers", "bert"};
const char *const decay_reach_names[] = {"matrices", "weights", "all"};
const char *const optimizer_states[OPTIMIZER_STATES] = {"m", "v"};

static double decay_of(const optimizer *o, const param *p)
{
    bool decays =
        o->set.decay_on == DECAY_ALL || (o->set.decay_on == DECAY_MATRICES ? p->ndim >= 2 : !strstr(p->name, "bias"));

    return decays ? o->set.weight_decay : 0;
}

static double rate_of(const optimizer *o, const optimizer_slot *s, double lr)
{
    return s->peak_lr > 0 ? schedule_factor(&o->lr, lr) * s->peak_lr : lr;
}

/* The kernel's eps, which is added behind the bias correction: one that the rule adds in front of it is corrected as
 * well. */
static double adam_eps(const optimizer *o, const optimizer_slot *s)
{
    return o->set.rule == ADAM_TRANSFORMERS ? o->set.eps / sqrt(1 - pow(o->set.beta2, (double)s->updates)) : o->set.eps;
}

static void sweep_adamw(const optimizer *o, optimizer_slot *const *slots, int count, double lr)
{
    adamw_args sweep[SWEEP];

    for (int i = 0; i < count; i++) {
        const optimizer_slot *s = slots[i];
        sweep[i] = (adamw_args){.value = s->p->data,
                                .m = s->state[0],
                                .v = s->state[1],
                                .grad = s->p->grad,
                                .count = s->p->count,
                                .step = s->updates,
                                .lr = rate_of(o, s, lr),
                                .beta1 = o->set.beta1,
                                .beta2 = o->set.beta2,
                                .eps = adam_eps(o, s),
                                .weight_decay = decay_of(o, s->p),
                                .mask = s->mask,
                                .decay_masked = s->decay_masked,
                                .decay_last = o->set.rule == ADAM_TRANSFORMERS,
                                .uncorrected = o->set.rule == ADAM_BERT};
    }
    o->dev->k->adamw(&o->dev->c, sweep, count);
}

static void sweep_sgd(const optimizer *o, optimizer_slot *const *slots, int count, double lr)
{
    sgd_args sweep[SWEEP];

    for (int i = 0; i < count; i++) {
        const optimizer_slot *s = slots[i];
        sweep[i] = (sgd_args){.value = s->p->data,
                              .m = s->state[0],
                              .grad = s->p->grad,
                              .count = s->p->count,
                              .lr = rate_of(o, s, lr),
                              .momentum = o->set.momentum,
                              .weight_decay = decay_of(o, s->p),
                              .mask = s->mask,
                              .decay_masked = s->decay_masked};
    }
    o->dev->k->sgd(&o->dev->c, sweep, count);
}

static const struct {
    int states; /* that it keeps */
    void (*sweep)(const optimizer *o, optimizer_slot *const *slots, int count, double lr);
} kinds[] = {
    [OPTIMIZER_ADAMW] = {2, sweep_adamw},
    [OPTIMIZER_SGD] = {1, sweep_sgd},
};

/* ---- opening ---- */

static inlay_status open_slot(const optimizer *o, optimizer_slot *s, inlay_error *err)
{
    for (int i = 0; s->p->trainable && i < kinds[o->set.kind].states; i++) {
        s->state[i] = o->dev->k->alloc(size_product(s->p->count, dtype_size(o->dev->k->real)));
        if (!s->state[i])
            FAIL(err, INLAY_ERR_NOMEM, "out of memory: what the optimiser keeps for '%s'", s->p->name);
    }
    return INLAY_OK;
}

inlay_status optimizer_open(optimizer *o, const optimizer_settings *set, const schedule *lr, const adapter *a,
                            device *dev, inlay_error *err)
{
    inlay_status status = INLAY_OK;
    size_t count = 0;

    for (const adapter_param *i = NULL; (i = adapter_each_param(a, i));)
        count++;
    *o = (optimizer){.set = *set, .lr = *lr, .dev = dev, .slots = calloc(count + 1, sizeof *o->slots)};
    if (!o->slots)
        FAIL(err, INLAY_ERR_NOMEM, "out of memory for an optimiser");
    for (const adapter_param *item = NULL; status == INLAY_OK && (item = adapter_each_param(a, item));) {
        o->slots[o->count] = (optimizer_slot){
            .p = item->p, .mask = item->drawn, .decay_masked = item->mask.decay_masked, .peak_lr = item->peak_lr};
        status = open_slot(o, &o->slots[o->count++], err);
    }
    if (status != INLAY_OK)
        optimizer_close(o);
    return status;
}

void optimizer_close(optimizer *o)
{
    for (int i = 0; i < o->count; i++)
        for (int j = 0; j < OPTIMIZER_STATES; j++)
            o->dev->k->release(o->slots[i].state[j]);
    free(o->slots);
    *o = (optimizer){0};
}

/* ---- clipping ---- */

/* Gathers the next gradients from slot *from on, at most SWEEP; 0: there are no more. */
static int gather(const optimizer *o, int *from, gradient_args *args, double factor)
{
    int n = 0;

    for (; *from < o->count && n < SWEEP; (*from)++) {
        const optimizer_slot *s = &o->slots[*from];
        if (s->p->trainable && param_touched(s->p))
            args[n++] = (gradient_args){.grad = s->p->grad, .count = s->p->count, .mask = s->mask, .factor = factor};
    }
    return n;
}

static double gradient_norm(const optimizer *o)
{
    gradient_args args[SWEEP];
    double sums[SWEEP], total = 0;
    int n;

    for (int from = 0; (n = gather(o, &from, args, 1)) > 0;) {
        o->dev->k->square_sums(&o->dev->c, sums, args, n);
        for (int i = 0; i < n; i++)
            total += sums[i];
    }
    return sqrt(total);
}

/* Scales all gradients so that together they have the norm that is allowed: torch.nn.utils.clip_grad_norm_. What a step
 * gave no gradient has no part in it. */
static void clip(const optimizer *o)
{
    gradient_args args[SWEEP];
    double factor = o->set.clip_norm / (gradient_norm(o) + 1e-6);
    int n;

    for (int from = 0; factor < 1 && (n = gather(o, &from, args, factor)) > 0;)
        o->dev->k->scale_gradients(&o->dev->c, args, n);
}

/* ---- a step ---- */

void optimizer_step(optimizer *o, double lr)
{
    optimizer_slot *moved[SWEEP];
    int count = 0;

    if (o->set.clip_norm > 0)
        clip(o);
    for (int i = 0; i < o->count; i++) {
        optimizer_slot *s = &o->slots[i];
        param *p = s->p;
        if (!p->trainable || (!param_touched(p) && !(o->set.move_untouched && s->updates > 0)))
            continue;          /* an expert that was not drawn, a layer that was dropped; or neither was ever before */
        if (!param_touched(p)) /* it may still hold the gradient of the last step that had one */
            o->dev->k->zero(p->grad, (size_t)p->count * dtype_size(o->dev->k->real));
        s->updates++;
        param_changed(p);
        moved[count++] = s;
        if (count == SWEEP) {
            kinds[o->set.kind].sweep(o, moved, count, lr);
            count = 0;
        }
    }
    kinds[o->set.kind].sweep(o, moved, count, lr);
}
