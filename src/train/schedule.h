/* Learning rates: a linear warm-up, then a decay. Time is counted in epochs or in steps, from 0.
 *
 * With zeros in what follows `epochs`, it is the schedule of Adapter+ (visinf/adapter_plus,
 * modeling/lr_scheduler.py). */
#ifndef INLAY_TRAIN_SCHEDULE_H
#define INLAY_TRAIN_SCHEDULE_H

#include <stdbool.h>
#include <stdint.h>

typedef enum schedule_kind { SCHEDULE_COSINE, SCHEDULE_LINEAR, SCHEDULE_CONSTANT } schedule_kind;

typedef struct schedule {
    double lr, start, end; /* peak, first and last value */
    int64_t warmup, epochs;
    /* Times 0 and 1 both have the first value and every later one is one behind, as Adapter+'s training loop has it. */
    bool repeat_first;
    schedule_kind kind;
    bool by_step;        /* time is in steps; schedule_resolved translates */
    double warmup_share; /* of the run, rounded up to whole steps or epochs; 0: `warmup` says how long */
    bool peak_behind;    /* the first time behind the warm-up has the peak, not the warm-up's last */
    bool from_first;     /* the decay is counted from the run's beginning, so that the peak is never reached: timm's */
} schedule;

/* Names of the kinds, in their order: "cosine|linear|constant". */
#define SCHEDULE_KINDS "cosine|linear|constant"
extern const char *const schedule_names[];

/* In the warm-up, linear from `start` to the peak. Behind it end + (lr - end) f(p), p from 0 to 1 over the rest:
 * f = (1 + cos(pi p)) / 2 (cosine), 1 - p (linear), 1 (constant). */
double schedule_lr(const schedule *s, int64_t time);
/* The schedule as it is asked for in a run of so many steps an epoch: time and all lengths in its own unit. */
schedule schedule_resolved(const schedule *s, int64_t steps_per_epoch);
/* lr as a multiple of the peak: what parameters with a rate of their own follow. Nothing moves at a peak of 0. */
double schedule_factor(const schedule *s, double lr);

#endif
