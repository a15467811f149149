/* TensorBoard event files: TFRecord framing around hand-written protobuf messages. */
#ifndef INLAY_FORMATS_EVENTS_H
#define INLAY_FORMATS_EVENTS_H

#include "base/status.h"

#define EVENTS_PREFIX "events.out.tfevents." /* of the names of these files */

typedef struct events events;

/* Creates events.out.tfevents.<time>.<host>.<pid>.0 in `folder`. */
inlay_status events_open(events **out, const char *folder, inlay_error *err);
void events_close(events *e); /* NULL accepted */

/* Writes a scalar, which is on the disk when the call returns. wall_time 0: now. */
inlay_status events_scalar(events *e, const char *tag, int64_t step, double scalar, double wall_time, inlay_error *err);

/* CRC-32C (Castagnoli) and the masked form that TFRecord uses. */
uint32_t crc32c(const void *data, size_t size);
uint32_t crc32c_masked(const void *data, size_t size);

#endif
