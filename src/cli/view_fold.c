#include "base/text.h"
#include "cli/display.h"

static void print(display *d, const json_t *record)
{
    text_line(stdout, "folded '%s' into '%s': largest difference of the logits %.2e (largest logit %.2f)",
              options_string(d->o, "adapter"), options_string(d->o, "output"),
              record_real(record, "largest_difference"), record_real(record, "largest_logit"));
}

const view view_fold = {.job = "fold", .print = print};
