#include "train/optimizer.h"

#include <math.h>
#include <string.h>

#include "train/train.h"

#define SWEEP 256 /* tensors that are updated together */

const char *const optimizer_names[] = {"adamw", "sgd"};
const char *const adam_rule_names[] = {"torch", "transformers", "bert"};
const char *const decay_reach_names[] = {"matrices", "weights", "all"};

static bool decays(const train_request *q, const param *p)
{
    return q->decay_on == DECAY_ALL || (q->decay_on == DECAY_MATRICES ? p->decay : !strstr(p->name, "bias"));
}

static double rate_of(const train_request *q, const param *p, double lr)
{
    return p->peak_lr > 0 ? schedule_factor(&q->lr, lr) * p->peak_lr : lr;
}

/* The eps of the kernel is added behind the bias correction; added in front of it, it is corrected as well. */
static double adam_eps(const train_request *q, const param *p)
{
    return q->adam_rule == ADAM_TRANSFORMERS ? q->eps / sqrt(1 - pow(q->beta2, (double)p->updates)) : q->eps;
}

static void sweep_adamw(const train_request *q, param *const *params, int count, double lr)
{
    adamw_args sweep[SWEEP];

    for (int i = 0; i < count; i++) {
        const param *p = params[i];
        sweep[i] = (adamw_args){.value = p->data,
                                .m = p->m,
                                .v = p->v,
                                .grad = p->grad,
                                .count = p->count,
                                .step = p->updates,
                                .lr = rate_of(q, p, lr),
                                .beta1 = q->beta1,
                                .beta2 = q->beta2,
                                .eps = adam_eps(q, p),
                                .weight_decay = decays(q, p) ? q->weight_decay : 0,
                                .mask = p->mask,
                                .decay_masked = p->decay_masked,
                                .decay_last = q->adam_rule == ADAM_TRANSFORMERS,
                                .uncorrected = q->adam_rule == ADAM_BERT};
    }
    q->dev->k->adamw(&q->dev->c, sweep, count);
}

static void sweep_sgd(const train_request *q, param *const *params, int count, double lr)
{
    sgd_args sweep[SWEEP];

    for (int i = 0; i < count; i++) {
        const param *p = params[i];
        sweep[i] = (sgd_args){.value = p->data,
                              .m = p->m,
                              .grad = p->grad,
                              .count = p->count,
                              .lr = rate_of(q, p, lr),
                              .momentum = q->momentum,
                              .weight_decay = decays(q, p) ? q->weight_decay : 0,
                              .mask = p->mask,
                              .decay_masked = p->decay_masked};
    }
    q->dev->k->sgd(&q->dev->c, sweep, count);
}

static void (*const sweeps[])(const train_request *q, param *const *params, int count, double lr) = {
    [OPTIMIZER_ADAMW] = sweep_adamw,
    [OPTIMIZER_SGD] = sweep_sgd,
};

/* ---- clipping ---- */

/* The next gradients from parameter *from on, at most SWEEP; 0: there are no more. */
static int gather(const train_request *q, int *from, gradient_args *args, double factor)
{
    int n = 0;

    for (; *from < q->a->param_count && n < SWEEP; (*from)++) {
        const param *p = q->a->params[*from].p;
        if (p->trainable && p->touched)
            args[n++] = (gradient_args){.grad = p->grad, .count = p->count, .mask = p->mask, .factor = factor};
    }
    return n;
}

static double gradient_norm(const train_request *q)
{
    gradient_args args[SWEEP];
    double sums[SWEEP], total = 0;
    int n;

    for (int from = 0; (n = gather(q, &from, args, 1)) > 0;) {
        q->dev->k->square_sums(&q->dev->c, sums, args, n);
        for (int i = 0; i < n; i++)
            total += sums[i];
    }
    return sqrt(total);
}

/* Scales all gradients so that together they have the norm that is allowed: torch.nn.utils.clip_grad_norm_. What a step
 * gave no gradient has no part in it. */
static void clip(const train_request *q)
{
    gradient_args args[SWEEP];
    double factor = q->clip_norm / (gradient_norm(q) + 1e-6);
    int n;

    for (int from = 0; factor < 1 && (n = gather(q, &from, args, factor)) > 0;)
        q->dev->k->scale_gradients(&q->dev->c, args, n);
}

/* ---- a step ---- */

void train_update(const train_request *q, double lr)
{
    param *moved[SWEEP];
    int count = 0;

    if (q->clip_norm > 0)
        clip(q);
    for (int i = 0; i < q->a->param_count; i++) {
        param *p = q->a->params[i].p;
        if (!p->trainable || (!p->touched && !(q->move_untouched && p->updates > 0)))
            continue;    /* an expert that was not drawn, a layer that was dropped; or neither was ever before */
        if (!p->touched) /* it may still hold the gradient of the last step that had one */
            q->dev->k->zero(p->grad, (size_t)p->count * dtype_size(q->dev->k->real));
        p->updates++;
        p->version++;
        moved[count++] = p;
        if (count == SWEEP) {
            sweeps[q->optimizer](q, moved, count, lr);
            count = 0;
        }
    }
    sweeps[q->optimizer](q, moved, count, lr);
}
