#include <inttypes.h>

#include "base/text.h"
#include "cli/view_training.h"

static void print(display *d, const json_t *record)
{
    const char *output = options_string(d->o, "output");
    char size[TEXT_SHORT], duration[TEXT_SHORT];

    if (json_is_true(json_object_get(record, "complete_already"))) {
        text_line(stdout, "'%s' is complete already", output);
        return;
    }
    view_training_print_accuracy(record);
    text_line(stdout, "adapter in '%s': %" PRId64 " steps in %s, %.1f img/s, peak memory %s", output,
              record_int(record, "steps"), text_duration(duration, record_real(record, "seconds")),
              record_real(record, "images_per_second"),
              text_size(size, (uint64_t)record_int(record, "peak_memory_bytes")));
    view_training_print_curves(record);
}

const view view_train = {.job = "train", .event = view_training_event, .print = print};
