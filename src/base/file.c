#define _GNU_SOURCE
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
/* EVP_Digest is not used but the digest itself, which takes no memory: libcrypto 3 crashes in EVP_Digest where there is
 * none left for its tables. */
#define OPENSSL_API_COMPAT 10101
#include <openssl/sha.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

inlay_status file_error(inlay_error *err, const char *verb, const char *path)
{
    inlay_status code = errno == ENOMEM ? INLAY_ERR_NOMEM : INLAY_ERR_IO; /* writing the message may change errno */

    FAIL(err, code, "cannot %s '%s': %s", verb, path, strerror(errno));
}

/* Whether the cause is not about the file of that name: the same call may work a moment later. */
static bool is_passing(int cause)
{
    static const int lasting[] = {ENOENT, ENOTDIR, EACCES, EPERM,     ELOOP, ENAMETOOLONG,
                                  EISDIR, ENXIO,   EINVAL, EOVERFLOW, EFBIG};

    for (size_t i = 0; i < sizeof lasting / sizeof *lasting; i++)
        if (lasting[i] == cause)
            return false;
    return true;
}

/* file_error for files that are read: a cause that may pass is INLAY_ERR_SYSTEM. */
static inlay_status read_error(inlay_error *err, const char *verb, const char *path)
{
    bool passing = is_passing(errno);
    inlay_status status = file_error(err, verb, path);

    if (!passing || status == INLAY_ERR_NOMEM)
        return status;
    if (err)
        err->code = INLAY_ERR_SYSTEM;
    return INLAY_ERR_SYSTEM;
}

/* Opens a regular file; a named pipe is refused instead of waited for. */
static inlay_status open_regular(int *fd, size_t *size, const char *path, inlay_error *err)
{
    struct stat info;
    inlay_status status = INLAY_OK;

    *fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (*fd < 0)
        return read_error(err, "open", path);
    if (fstat(*fd, &info) != 0)
        status = read_error(err, "examine", path);
    else if (!S_ISREG(info.st_mode))
        status = error_set(err, INLAY_ERR_IO, "'%s' is not a regular file", path);
    if (status != INLAY_OK)
        close(*fd);
    else
        *size = (size_t)info.st_size;
    return status;
}

inlay_status file_map_descriptor(file_map *map, int fd, bool shared, const char *path, inlay_error *err)
{
    struct stat info;
    void *data;

    *map = (file_map){0};
    if (fstat(fd, &info) != 0)
        return read_error(err, "examine", path);
    if (info.st_size == 0)
        return INLAY_OK;
    data = mmap(NULL, (size_t)info.st_size, PROT_READ, shared ? MAP_SHARED : MAP_PRIVATE, fd, 0);
    if (data == MAP_FAILED)
        return read_error(err, "map", path);
    *map = (file_map){.data = data, .size = (size_t)info.st_size};
    file_maps_add(map, path);
    return INLAY_OK;
}

inlay_status file_map_open(file_map *map, const char *path, inlay_error *err)
{
    size_t size;
    int fd;
    inlay_status status;

    *map = (file_map){0};
    TRY(open_regular(&fd, &size, path, err));
    status = file_map_descriptor(map, fd, false, path, err);
    close(fd);
    return status;
}

void file_map_close(file_map *map)
{
    file_maps_remove(map); /* before another map can have these addresses */
    if (map->data)
        munmap((void *)(uintptr_t)map->data, map->size);
    *map = (file_map){0};
}

void file_map_release(const file_map *map)
{
    if (map->data)
        madvise((void *)(uintptr_t)map->data, map->size, MADV_DONTNEED);
}

void file_part_release(const void *data, size_t size)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), begin = ((uintptr_t)data + page - 1) / page * page,
              end = ((uintptr_t)data + size) / page * page;

    if (begin < end)
        madvise((void *)begin, end - begin, MADV_DONTNEED);
}

static inlay_status read_all(int fd, char *data, size_t size, const char *path, inlay_error *err)
{
    for (size_t done = 0; done < size;) {
        ssize_t got = read(fd, data + done, size - done);
        if (got < 0)
            return read_error(err, "read", path);
        if (got == 0)
            FAIL(err, INLAY_ERR_IO, "'%s' was cut while it was read: %zu of %zu bytes are there", path, done, size);
        done += (size_t)got;
    }
    return INLAY_OK;
}

inlay_status file_read(const char *path, size_t limit, char **data, size_t *size, inlay_error *err)
{
    size_t found;
    int fd;
    inlay_status status = INLAY_OK;

    *data = NULL;
    *size = 0;
    TRY(open_regular(&fd, &found, path, err));
    if (found > limit)
        status = error_set(err, INLAY_ERR_FORMAT, "'%s' has %zu bytes, at most %zu are expected", path, found, limit);
    if (status == INLAY_OK && (*data = malloc(found + 1)) == NULL)
        status = error_set(err, INLAY_ERR_NOMEM, "out of memory reading '%s'", path);
    if (status == INLAY_OK)
        status = read_all(fd, *data, found, path, err);
    close(fd);
    if (status != INLAY_OK) {
        free(*data);
        *data = NULL;
        return status;
    }
    (*data)[found] = '\0';
    *size = found;
    return INLAY_OK;
}

bool file_is_stream(const char *path)
{
    struct stat info;

    return strcmp(path, "-") == 0 || (stat(path, &info) == 0 && !S_ISREG(info.st_mode) && !S_ISDIR(info.st_mode));
}

/* Reads what is left into memory that grows by doubling; one byte more than the limit tells that there is more than
 * that. */
static inlay_status read_to_end(int fd, const char *path, size_t limit, char **data, size_t *size, inlay_error *err)
{
    size_t room = 0;

    for (;;) {
        ssize_t got;
        if (*size + 1 >= room) {
            char *grown = realloc(*data, room = room ? 2 * room : 1 << 16);
            if (!grown)
                FAIL(err, INLAY_ERR_NOMEM, "out of memory reading '%s'", path);
            *data = grown;
        }
        got = read(fd, *data + *size, room - *size - 1);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return read_error(err, "read", path);
        if (got == 0)
            return INLAY_OK;
        *size += (size_t)got;
        if (*size > limit)
            FAIL(err, INLAY_ERR_FORMAT, "'%s' has more than the %zu bytes that are read", path, limit);
    }
}

inlay_status file_read_stream(const char *path, size_t limit, char **data, size_t *size, inlay_error *err)
{
    int fd =
        strcmp(path, "-") == 0 ? fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3) : open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    inlay_status status;

    *data = NULL;
    *size = 0;
    if (fd < 0)
        return file_error(err, "open", path);
    status = read_to_end(fd, path, limit, data, size, err);
    close(fd);
    if (status == INLAY_OK) {
        (*data)[*size] = '\0';
        return INLAY_OK;
    }
    free(*data);
    *data = NULL;
    return status;
}

static FILE *stream_of(int fd, const char *mode)
{
    FILE *stream = fd >= 0 ? fdopen(fd, mode) : NULL;

    if (fd >= 0 && !stream)
        close(fd);
    return stream;
}

/* Gives the writer up for the reason in errno; what lies at the temporary name is not ours. */
static inlay_status cannot_begin(file_writer *w, const char *path, inlay_error *err)
{
    static const char other[] = "cannot write '%s': it is being written by another process";
    inlay_status status =
        errno == EWOULDBLOCK ? error_set(err, INLAY_ERR_IO, other, path) : file_error(err, "write", path);

    free(w->temporary);
    w->temporary = NULL;
    file_abandon(w);
    return status;
}

inlay_status file_begin(file_writer *w, const char *path, inlay_error *err)
{
    size_t room = strlen(path) + 32;

    *w = (file_writer){.path = strdup(path), .temporary = calloc(1, room)};
    if (!w->path || !w->temporary) {
        file_abandon(w);
        FAIL(err, INLAY_ERR_NOMEM, "out of memory writing '%s'", path);
    }
    if (file_is_folder(path)) {
        errno = EISDIR;
        return cannot_begin(w, path, err);
    }
    /* always the same name: what a killed process left is taken away, not piled up */
    snprintf(w->temporary, room, "%s.tmp", path);
    w->stream = stream_of(file_open_temporary(w->temporary), "wb");
    return w->stream ? INLAY_OK : cannot_begin(w, path, err);
}

#define LINKS 40 /* in a row; what the kernel follows */

/* What a chain of symbolic links ends in, whether that exists or not, in `path`; false: too many, too long, or
 * unreadable. */
static bool follow_links(char path[PATH_MAX])
{
    for (int i = 0; i < LINKS; i++) {
        char target[PATH_MAX], *slash = strrchr(path, '/');
        struct stat info;
        size_t folder = slash ? (size_t)(slash - path) + 1 : 0;
        ssize_t length;
        if (lstat(path, &info) != 0 || !S_ISLNK(info.st_mode))
            return true;
        length = readlink(path, target, sizeof target - 1);
        if (length < 0)
            return false;
        target[length] = '\0';
        if (target[0] == '/')
            folder = 0;
        if (folder + (size_t)length >= PATH_MAX)
            break;
        memcpy(path + folder, target, (size_t)length + 1);
    }
    errno = ELOOP;
    return false;
}

/* A descriptor to write into `path` with as it is; -1: it is a regular file, or there is none. What standard output
 * goes to is written behind what is there already: a file put in its place would be another one than the shell opened.
 */
static int open_as_it_is(const char *path)
{
    struct stat info, standard;

    if (stat(path, &info) != 0)
        return -1;
    for (int fd = STDOUT_FILENO; fd <= STDERR_FILENO; fd++)
        if (fstat(fd, &standard) == 0 && standard.st_dev == info.st_dev && standard.st_ino == info.st_ino)
            return fcntl(fd, F_DUPFD_CLOEXEC, 3);
    errno = 0;
    return S_ISREG(info.st_mode) || S_ISDIR(info.st_mode) ? -1 : open(path, O_WRONLY | O_CLOEXEC | O_NOCTTY);
}

inlay_status file_begin_named(file_writer *w, const char *path, inlay_error *err)
{
    char target[PATH_MAX];
    int fd;

    if (strlen(path) >= sizeof target)
        FAIL(err, INLAY_ERR_IO, "cannot write '%.60s...': the name is too long", path);
    errno = 0;
    fd = open_as_it_is(path);
    if (fd < 0 && errno != 0 && errno != ENOENT)
        return file_error(err, "write", path);
    if (fd < 0) {
        memcpy(target, path, strlen(path) + 1);
        return follow_links(target) ? file_begin(w, target, err) : file_error(err, "write", path);
    }
    *w = (file_writer){.stream = stream_of(fd, "wb"), .path = strdup(path)};
    return w->stream && w->path ? INLAY_OK : cannot_begin(w, path, err);
}

inlay_status file_open_own(FILE **out, const char *path, bool keep, inlay_error *err)
{
    *out = stream_of(open(path, O_RDWR | O_NOFOLLOW | O_CLOEXEC | (keep ? 0 : O_CREAT | O_TRUNC), 0666), "r+b");
    if (!*out && errno == ELOOP)
        FAIL(err, INLAY_ERR_IO, "cannot write '%s': it is a symbolic link", path);
    return *out ? INLAY_OK : file_error(err, "write", path);
}

void file_abandon(file_writer *w)
{
    if (w->temporary)
        unlink(w->temporary);
    if (w->stream) /* the lock ends with it: by then nothing of ours has the name */
        fclose(w->stream);
    free(w->temporary);
    free(w->path);
    *w = (file_writer){0};
}

/* Brings a rename to the disk: it is there only when the folder is. */
static void sync_folder_of(const char *path)
{
    char *copy = strdup(path), *slash = copy ? strrchr(copy, '/') : NULL;
    int fd;

    if (slash)
        *slash = '\0';
    fd = copy ? open(slash ? (copy[0] ? copy : "/") : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (fd >= 0) {
        fsync(fd);
        close(fd);
    }
    free(copy);
}

inlay_status file_commit(file_writer *w, inlay_error *err)
{
    inlay_status status = INLAY_OK;
    bool bad = ferror(w->stream) != 0, lasting = w->temporary && !w->quick;

    if (fflush(w->stream) != 0 || bad || (lasting && fsync(fileno(w->stream)) != 0))
        status = file_error(err, "write", w->path);
    if (status == INLAY_OK && w->temporary && rename(w->temporary, w->path) != 0)
        status = file_error(err, "write", w->path);
    if (status == INLAY_OK && w->temporary) {
        if (lasting)
            sync_folder_of(w->path);
        free(w->temporary);
        w->temporary = NULL;
    }
    if (status == INLAY_OK) {
        status = fclose(w->stream) == 0 ? INLAY_OK : file_error(err, "write", w->path);
        w->stream = NULL;
    }
    file_abandon(w);
    return status;
}

inlay_status file_write(const char *path, const void *data, size_t size, inlay_error *err)
{
    file_writer w;

    TRY(file_begin(&w, path, err));
    if (size)
        fwrite(data, 1, size, w.stream); /* a short write is seen by ferror in file_commit */
    return file_commit(&w, err);
}

inlay_status file_make_folder(const char *path, inlay_error *err)
{
    char *copy;

    if (path[0] == '\0')
        FAIL(err, INLAY_ERR_IO, "cannot create folder '': the name is empty");
    copy = strdup(path);
    if (!copy)
        FAIL(err, INLAY_ERR_NOMEM, "out of memory");
    for (char *p = copy + 1;; p++) {
        char kept = *p;
        if (kept != '/' && kept != '\0')
            continue;
        *p = '\0';
        if (mkdir(copy, 0777) != 0 && !(errno == EEXIST && file_is_folder(copy))) {
            inlay_status status = file_error(err, "create folder", copy);
            free(copy);
            return status;
        }
        if (kept == '\0')
            break;
        *p = kept;
    }
    free(copy);
    return INLAY_OK;
}

bool file_exists(const char *path)
{
    struct stat info;

    return stat(path, &info) == 0 || is_passing(errno); /* nothing is written over that could be there */
}

bool file_is_folder(const char *path)
{
    struct stat info;

    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

bool file_size(const char *path, size_t *size)
{
    struct stat info;

    if (stat(path, &info) != 0 || !S_ISREG(info.st_mode))
        return false;
    *size = (size_t)info.st_size;
    return true;
}

char *path_join(arena *a, const char *folder, const char *name)
{
    size_t length = strlen(folder);

    if (name[0] == '/' || length == 0)
        return arena_strdup(a, name);
    return arena_printf(a, folder[length - 1] == '/' ? "%s%s" : "%s/%s", folder, name);
}

const char *path_base(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash ? slash + 1 : path;
}

void bytes_sha256(const void *data, size_t size, char hex[65])
{
    unsigned char digest[SHA256_DIGEST_LENGTH];
    SHA256_CTX state;

    SHA256_Init(&state);
    SHA256_Update(&state, data ? data : "", size);
    SHA256_Final(digest, &state);
    for (int i = 0; i < SHA256_DIGEST_LENGTH; i++)
        snprintf(hex + 2 * i, 3, "%02x", digest[i]);
}

inlay_status file_sha256(const char *path, char hex[65], inlay_error *err)
{
    file_map map;

    TRY(file_map_open(&map, path, err));
    bytes_sha256(map.data, map.size, hex);
    file_map_close(&map);
    return INLAY_OK;
}

/* Sums words in steps that keep different values different, so a change of one word alone always shows. */
uint64_t bytes_sum(const void *data, size_t size)
{
    const unsigned char *bytes = data;
    uint64_t sum = size;

    for (size_t at = 0; at < size; at += 8) {
        uint64_t word = 0;
        memcpy(&word, bytes + at, size - at < 8 ? size - at : 8);
        sum = (sum ^ word) * 0x9E3779B97F4A7C15u;
        sum ^= sum >> 32;
    }
    return sum;
}

bool file_stamp_of(const char *path, file_stamp *stamp)
{
    struct stat info;

    if (stat(path, &info) != 0)
        return false;
    *stamp = (file_stamp){.device = (uint64_t)info.st_dev,
                          .inode = (uint64_t)info.st_ino,
                          .size = (uint64_t)info.st_size,
                          .seconds = info.st_ctim.tv_sec,
                          .nanoseconds = info.st_ctim.tv_nsec,
                          .modified = (int64_t)info.st_mtim.tv_sec * 1000000000 + info.st_mtim.tv_nsec};
    return true;
}

bool file_stamp_same(const file_stamp *a, const file_stamp *b)
{
    return a->device == b->device && a->inode == b->inode && a->size == b->size && a->seconds == b->seconds &&
           a->nanoseconds == b->nanoseconds;
}
