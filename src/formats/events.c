#define _GNU_SOURCE
#include "formats/events.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"

struct events {
    FILE *stream;
    char path[1024];
};

uint32_t crc32c(const void *data, size_t size)
{
    const unsigned char *p = data;
    uint32_t crc = 0xffffffffu;

    while (size-- > 0) {
        crc ^= *p++;
        for (int i = 0; i < 8; i++)
            crc = crc >> 1 ^ (0x82f63b78u & (0u - (crc & 1u)));
    }
    return ~crc;
}

uint32_t crc32c_masked(const void *data, size_t size)
{
    uint32_t crc = crc32c(data, size);

    return ((crc >> 15) | (crc << 17)) + 0xa282ead8u;
}

/* ---- protobuf: fields of a message in a fixed buffer ---- */

typedef struct message {
    unsigned char bytes[512];
    size_t size;
} message;

static void put_varint(message *m, uint64_t x)
{
    do {
        m->bytes[m->size++] = (unsigned char)((x & 0x7f) | (x > 0x7f ? 0x80 : 0));
        x >>= 7;
    } while (x);
}

static void put_fixed(message *m, const void *p, size_t size)
{
    memcpy(m->bytes + m->size, p, size);
    m->size += size;
}

static void put_bytes(message *m, int field, const void *data, size_t size)
{
    put_varint(m, (uint64_t)field << 3 | 2);
    put_varint(m, size);
    put_fixed(m, data, size);
}

static inlay_status write_record(events *e, const message *m, inlay_error *err)
{
    unsigned char head[12], tail[4];
    uint64_t length = m->size;
    uint32_t crc;

    for (int i = 0; i < 8; i++)
        head[i] = (unsigned char)(length >> (8 * i));
    crc = crc32c_masked(head, 8);
    for (int i = 0; i < 4; i++)
        head[8 + i] = (unsigned char)(crc >> (8 * i));
    crc = crc32c_masked(m->bytes, m->size);
    for (int i = 0; i < 4; i++)
        tail[i] = (unsigned char)(crc >> (8 * i));
    if (fwrite(head, 1, 12, e->stream) != 12 || fwrite(m->bytes, 1, m->size, e->stream) != m->size ||
        fwrite(tail, 1, 4, e->stream) != 4 || fflush(e->stream) != 0)
        return file_error(err, "write", e->path);
    return INLAY_OK;
}

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_REALTIME, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void begin_event(message *m, double wall_time)
{
    put_varint(m, 1 << 3 | 1);
    put_fixed(m, &wall_time, 8);
}

inlay_status events_open(events **out, const char *folder, inlay_error *err)
{
    events *e = calloc(1, sizeof *e);
    char host[256] = "localhost";
    message m = {.size = 0};
    double seconds = now();
    inlay_status status;

    *out = NULL;
    if (!e)
        FAIL(err, INLAY_ERR_NOMEM, "out of memory");
    gethostname(host, sizeof host - 1);
    snprintf(e->path, sizeof e->path, "%s/" EVENTS_PREFIX "%lld.%s.%ld.0", folder, (long long)seconds, host,
             (long)getpid());
    status = file_open_own(&e->stream, e->path, false, err);
    if (status != INLAY_OK) {
        free(e);
        return status;
    }
    begin_event(&m, seconds);
    put_bytes(&m, 3, "brain.Event:2", 13);
    status = write_record(e, &m, err);
    if (status != INLAY_OK) {
        events_close(e);
        e = NULL;
    }
    *out = e;
    return status;
}

void events_close(events *e)
{
    if (!e)
        return;
    fclose(e->stream);
    free(e);
}

inlay_status events_scalar(events *e, const char *tag, int64_t step, double scalar, double wall_time, inlay_error *err)
{
    message m = {.size = 0}, summary = {.size = 0}, item = {.size = 0};
    float simple = (float)scalar;
    size_t length = strlen(tag) > 200 ? 200 : strlen(tag);

    put_bytes(&item, 1, tag, length);
    put_varint(&item, 2 << 3 | 5);
    put_fixed(&item, &simple, 4);
    put_bytes(&summary, 1, item.bytes, item.size);
    begin_event(&m, wall_time > 0 ? wall_time : now());
    put_varint(&m, 2 << 3 | 0);
    put_varint(&m, (uint64_t)step);
    put_bytes(&m, 5, summary.bytes, summary.size);
    return write_record(e, &m, err);
}
