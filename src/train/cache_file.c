#define _GNU_SOURCE
#include "train/cache_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <zlib.h>

#define HEAD_UNIT 4096
#define ID_BYTES (sizeof(image_id) - 1)

typedef struct record_head {
    char image[ID_BYTES]; /* all zero: free */
    uint32_t checksum;    /* of image and row */
} record_head;

static uint32_t checksum_of(const char *image, const unsigned char *row, size_t size)
{
    return (uint32_t)crc32_z(crc32_z(0, (const unsigned char *)image, ID_BYTES), row, size);
}

static inlay_status write_at(const cache_file *f, const void *data, size_t size, size_t at, inlay_error *err)
{
    while (size > 0) {
        ssize_t done = pwrite(f->fd, data, size, (off_t)at);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return file_error(err, "write", f->path);
        data = (const char *)data + done;
        size -= (size_t)done;
        at += (size_t)done;
    }
    return INLAY_OK;
}

/* ---- opening ---- */

static inlay_status lock(const cache_file *f, const cache_file_request *q, inlay_error *err)
{
    char text[512];
    bool told = false;

    while (flock(f->fd, LOCK_EX | LOCK_NB) != 0) {
        if (errno != EWOULDBLOCK && errno != EINTR)
            return file_error(err, "lock", f->path);
        if (!told && q->note) {
            snprintf(text, sizeof text, "another run is filling the feature cache '%s'; waiting for it", f->path);
            q->note(q->context, text);
        }
        told = true;
        if (q->stop && q->stop(q->context))
            FAIL(err, INLAY_ERR_INTERRUPTED, "interrupted while another run filled the feature cache '%s'", f->path);
        nanosleep(&(struct timespec){0, 50000000}, NULL);
    }
    return INLAY_OK;
}

/* Checks whether the file begins with `head`; an empty one is made to. */
static inlay_status check_head(const cache_file *f, const char *head, bool *good, inlay_error *err)
{
    struct stat info;
    char *found;

    *good = true;
    if (fstat(f->fd, &info) != 0)
        return file_error(err, "examine", f->path);
    if (info.st_size == 0)
        return write_at(f, head, f->head, 0, err);
    found = malloc(f->head);
    if (!found)
        FAIL(err, INLAY_ERR_NOMEM, "out of memory reading '%s'", f->path);
    *good = pread(f->fd, found, f->head, 0) == (ssize_t)f->head && memcmp(found, head, f->head) == 0;
    free(found);
    return INLAY_OK;
}

static inlay_status open_once(cache_file *f, const cache_file_request *q, const char *head, bool *good,
                              inlay_error *err)
{
    f->fd = open(f->path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0666);
    if (f->fd < 0)
        return file_error(err, "write", f->path);
    TRY(lock(f, q, err));
    errno = file_check_name(f->fd, f->path); /* another process may have replaced it while this one waited */
    *good = errno == 0;
    if (errno == ENOENT)
        return INLAY_OK;
    if (errno)
        return file_error(err, "examine", f->path);
    TRY(check_head(f, head, good, err));
    if (!*good && unlink(f->path) != 0)
        return file_error(err, "replace", f->path);
    return INLAY_OK;
}

static inlay_status begin(cache_file *f, const char *path, size_t head, size_t row, inlay_error *err)
{
    *f = (cache_file){.path = strdup(path), .fd = -1, .row = row};
    if (!f->path)
        FAIL(err, INLAY_ERR_NOMEM, "out of memory for the feature cache");
    f->head = (head + HEAD_UNIT - 1) / HEAD_UNIT * HEAD_UNIT;
    f->stride = CACHE_RECORD_HEAD + (row + 63) / 64 * 64;
    return INLAY_OK;
}

inlay_status cache_file_open(cache_file *f, const cache_file_request *q, inlay_error *err)
{
    arena *memory = arena_new();
    inlay_status status = begin(f, path_join(memory, q->folder, q->name), strlen(q->head), q->row, err);
    char *head = arena_alloc(memory, f->head + 1);
    bool good = false;

    memcpy(head, q->head, strlen(q->head));
    if (status == INLAY_OK)
        status = file_make_folder(q->folder, err);
    while (status == INLAY_OK && !good) {
        if (f->fd >= 0)
            close(f->fd);
        status = open_once(f, q, head, &good, err);
    }
    arena_free(memory);
    if (status != INLAY_OK)
        cache_file_close(f);
    return status;
}

/* Opens a file without a name, which ends with the process; where the file system has none, one that loses its name at
 * once. */
static inlay_status open_nameless(cache_file *f, inlay_error *err)
{
    char *folder = strndup(f->path, (size_t)(path_base(f->path) - f->path));

    if (!folder)
        FAIL(err, INLAY_ERR_NOMEM, "out of memory for the feature cache");
    f->fd = open(*folder ? folder : ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    free(folder);
    if (f->fd >= 0)
        return INLAY_OK;
    if (unlink(f->path) == 0 || errno == ENOENT)
        f->fd = open(f->path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (f->fd < 0)
        return file_error(err, "write", f->path);
    return unlink(f->path) == 0 ? INLAY_OK : file_error(err, "remove", f->path);
}

inlay_status cache_file_open_temporary(cache_file *f, const char *path, size_t row, inlay_error *err)
{
    inlay_status status = begin(f, path, 0, row, err);

    if (status == INLAY_OK)
        status = open_nameless(f, err);
    if (status != INLAY_OK)
        cache_file_close(f);
    return status;
}

void cache_file_close(cache_file *f)
{
    file_map_close(&f->map);
    if (f->path && f->fd >= 0)
        close(f->fd);
    free(f->path);
    *f = (cache_file){.fd = -1};
}

/* ---- records ---- */

static const unsigned char *record_at(const cache_file *f, int64_t record)
{
    return f->map.data + f->head + (size_t)record * f->stride;
}

/* A record of the file, or an image of the request, to be sorted by the image's name. */
typedef struct entry {
    const char *image;
    int64_t index;
} entry;

static int by_image(const void *a, const void *b)
{
    const entry *x = a, *y = b;
    int order = memcmp(x->image, y->image, ID_BYTES);

    return order ? order : (x->index > y->index) - (x->index < y->index);
}

/* Assigns a record to each image: the one that has its name, else the next free one, else a new one behind the last.
 * Images with the same bytes share one. */
static void assign(cache_file *f, entry *records, entry *wanted, int count, int64_t *record)
{
    int64_t whole = f->records, unused = 0, at;
    char nobody[ID_BYTES] = {0};

    for (int64_t i = 0; i < whole; i++)
        records[i] = (entry){(const char *)record_at(f, i), i};
    qsort(records, (size_t)whole, sizeof *records, by_image);
    qsort(wanted, (size_t)count, sizeof *wanted, by_image);
    while (unused < whole && memcmp(records[unused].image, nobody, ID_BYTES) == 0)
        unused++;
    at = unused;
    for (int i = 0; i < count; i++) {
        int64_t *mine = &record[wanted[i].index];
        int order = -1;
        while (wanted[i].image[0] && at < whole && (order = memcmp(records[at].image, wanted[i].image, ID_BYTES)) < 0)
            at++;
        if (i > 0 && wanted[i].image[0] && memcmp(wanted[i].image, wanted[i - 1].image, ID_BYTES) == 0)
            *mine = record[wanted[i - 1].index];
        else if (wanted[i].image[0] && at < whole && order == 0)
            *mine = records[at].index;
        else
            *mine = unused > 0 ? records[--unused].index : f->records++;
    }
}

typedef struct check_job {
    const cache_file *f;
    const image_id *images;
    const int64_t *record;
    bool *there;
    int64_t whole;
    int count;
} check_job;

static void check_rows(void *argument, int thread, int threads)
{
    const check_job *job = argument;
    int64_t first, end;

    pool_share(job->count, thread, threads, &first, &end);
    for (int64_t i = first; i < end; i++) {
        record_head head;
        job->there[i] = false;
        if (!job->images[i][0] || job->record[i] >= job->whole)
            continue;
        memcpy(&head, record_at(job->f, job->record[i]), sizeof head);
        job->there[i] = memcmp(head.image, job->images[i], ID_BYTES) == 0 &&
                        head.checksum ==
                            checksum_of(head.image, record_at(job->f, job->record[i]) + CACHE_RECORD_HEAD, job->f->row);
    }
}

inlay_status cache_file_find(cache_file *f, pool *threads, const image_id *images, int count, int64_t *record,
                             bool *there, inlay_error *err)
{
    check_job job = {.f = f, .images = images, .record = record, .there = there, .count = count};
    entry *records, *wanted = calloc((size_t)count + 1, sizeof *wanted);
    inlay_status status = file_map_descriptor(&f->map, f->fd, true, f->path, err);

    f->records = f->map.size > f->head ? (int64_t)((f->map.size - f->head) / f->stride) : 0;
    job.whole = f->records;
    records = calloc((size_t)f->records + 1, sizeof *records);
    if (status == INLAY_OK && (!records || !wanted))
        status = error_set(err, INLAY_ERR_NOMEM, "out of memory for the feature cache '%s'", f->path);
    if (status == INLAY_OK) {
        for (int i = 0; i < count; i++)
            wanted[i] = (entry){images[i], i};
        assign(f, records, wanted, count, record);
        pool_run(threads, check_rows, &job);
    }
    free(records);
    free(wanted);
    file_map_close(&f->map);
    return status;
}

inlay_status cache_file_reserve(cache_file *f, inlay_error *err)
{
    size_t size = f->head + (size_t)f->records * f->stride;

    if (fallocate(f->fd, 0, 0, (off_t)size) != 0 && errno != EOPNOTSUPP && errno != ENOSYS &&
        errno != EINTR) /* else writing tells */
        return file_error(err, "take the space for", f->path);
    return INLAY_OK;
}

inlay_status cache_file_write(const cache_file *f, int64_t record, const image_id image, unsigned char *block,
                              inlay_error *err)
{
    record_head head = {0};

    memcpy(head.image, image, ID_BYTES);
    head.checksum = checksum_of(head.image, block + CACHE_RECORD_HEAD, f->row);
    memset(block, 0, CACHE_RECORD_HEAD);
    memcpy(block, &head, sizeof head);
    return write_at(f, block, f->stride, f->head + (size_t)record * f->stride, err);
}

inlay_status cache_file_map(cache_file *f, inlay_error *err)
{
    TRY(file_map_descriptor(&f->map, f->fd, true, f->path, err));
    close(f->fd); /* and with it the lock is given back */
    f->fd = -1;
    return INLAY_OK;
}
