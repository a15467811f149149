#include "base/text.h"
#include "cli/view_training.h"

static void print(display *d, const json_t *record)
{
    text_line(stdout, "pre-trained checkpoint in '%s'", options_string(d->o, "output"));
    view_training_print_accuracy(record);
    view_training_print_curves(record);
}

const view view_pretrain = {.job = "pretrain", .event = view_training_event, .print = print};
