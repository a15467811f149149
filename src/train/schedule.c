#include "train/schedule.h"

#include <math.h>

double schedule_lr(const schedule *s, int epoch)
{
    int e = s->repeat_first && epoch > 0 ? epoch - 1 : epoch;

    if (e < s->warmup)
        return s->warmup > 1 ? s->start + e * (s->lr - s->start) / (s->warmup - 1) : s->lr;
    if (s->epochs <= s->warmup)
        return s->lr;
    return s->end + 0.5 * (s->lr - s->end) * (1 + cos(3.14159265358979323846 * (e - s->warmup) / (s->epochs - s->warmup)));
}
