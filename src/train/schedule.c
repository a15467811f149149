#include "train/schedule.h"

#include <math.h>

const char *const schedule_names[] = {"cosine", "linear", "constant"};

static double left_cosine(double time, double length)
{
    return 0.5 * (1 + cos(3.14159265358979323846 * time / length));
}

static double left_linear(double time, double length)
{
    return (length - time) / length;
}

static double left_constant(double time, double length)
{
    (void)time;
    (void)length;
    return 1;
}

/* What is left of the way from the peak to the end, at `time` of `length`. */
static double (*const left[])(double time, double length) = {
    [SCHEDULE_COSINE] = left_cosine,
    [SCHEDULE_LINEAR] = left_linear,
    [SCHEDULE_CONSTANT] = left_constant,
};

double schedule_lr(const schedule *s, int64_t time)
{
    int64_t t = s->repeat_first && time > 0 ? time - 1 : time, ramp = s->peak_behind ? s->warmup : s->warmup - 1;
    int64_t begin = s->from_first ? 0 : s->warmup;

    if (t < s->warmup)
        return ramp > 0 ? s->start + (double)t * (s->lr - s->start) / (double)ramp : s->lr;
    if (s->epochs <= s->warmup)
        return s->lr;
    return s->end + (s->lr - s->end) * left[s->kind]((double)(t - begin), (double)(s->epochs - begin));
}

schedule schedule_resolved(const schedule *s, int64_t steps_per_epoch)
{
    schedule r = *s;

    if (s->by_step) {
        r.warmup *= steps_per_epoch;
        r.epochs *= steps_per_epoch;
    }
    if (s->warmup_share > 0)
        r.warmup = (int64_t)ceil(s->warmup_share * (double)r.epochs);
    return r;
}

double schedule_factor(const schedule *s, double lr)
{
    return s->lr > 0 ? lr / s->lr : 0;
}
