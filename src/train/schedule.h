/* Learning rate by epoch: linear warm-up, then cosine; the recipe of Adapter+ (visinf/adapter_plus, modeling/lr_scheduler.py). */
#ifndef INLAY_TRAIN_SCHEDULE_H
#define INLAY_TRAIN_SCHEDULE_H

#include <stdbool.h>

typedef struct schedule {
    double lr, start, end; /* peak, first and last value */
    int warmup, epochs;
    bool repeat_first; /* epochs 0 and 1 both run at the first value and every later one is a step behind, as the authors' training loop has it */
} schedule;

/* f(e) = start + e (lr - start) / (warmup - 1) for e < warmup, else end + (lr - end) (1 + cos(pi (e - warmup) / (epochs - warmup))) / 2 */
double schedule_lr(const schedule *s, int epoch);

#endif
