#include <inttypes.h>

#include "base/text.h"
#include "cli/display.h"

static void print(display *d, const json_t *record)
{
    text_line(stdout, "%" PRId64 " images of %" PRId64 " x %" PRId64 " in '%s'", record_int(record, "images"),
              record_int(record, "width"), record_int(record, "height"), options_string(d->o, "output"));
}

const view view_unpack = {.job = "unpack", .print = print};
