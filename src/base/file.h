/* Files: read-only maps, whole-file reads, writes that are never seen half done. */
#ifndef INLAY_BASE_FILE_H
#define INLAY_BASE_FILE_H

#include <stdio.h>

#include "base/arena.h"

typedef struct file_map {
    const unsigned char *data; /* NULL when the file is empty */
    size_t size;
} file_map;

/* Maps a regular file read-only. file_map_close undoes it. A file that is cut while it is mapped ends in SIGBUS when
 * its end is read. */
inlay_status file_map_open(file_map *map, const char *path, inlay_error *err);
/* Maps a file that is open; `shared`: what others write is seen. */
inlay_status file_map_descriptor(file_map *map, int fd, bool shared, const char *path, inlay_error *err);
void file_map_close(file_map *map);
/* Tells the system that the pages of the map are not needed for now; they are read again on the next access. */
void file_map_release(const file_map *map);
/* file_map_release for the pages that lie wholly within a part of a map. */
void file_part_release(const void *data, size_t size);

/* The maps that are open now: the name of the file that an address belongs to; NULL: of none. For a handler of SIGBUS.
 * file_map_open and file_map_close keep the list; of more than 1024 maps at once the later ones are not in it. */
const char *file_maps_find(const void *address);
void file_maps_add(const file_map *map, const char *path);
void file_maps_remove(const file_map *map);

/* Reads a whole file, without a map: one that is cut meanwhile is an error. *data ends with an extra NUL byte and is
 * freed with free(). Files over `limit` bytes are refused. */
inlay_status file_read(const char *path, size_t limit, char **data, size_t *size, inlay_error *err);

/* Reads standard input ("-"), a pipe or a device to its end, as file_read does a file. */
inlay_status file_read_stream(const char *path, size_t limit, char **data, size_t *size, inlay_error *err);
bool file_is_stream(const char *path); /* "-", or neither a file nor a folder */

/* Writing: file_begin opens `path`.tmp, file_commit flushes it to the disk and renames it over `path`, file_abandon
 * removes it. A reader never sees half a file; on any error the old file is still there. Symbolic links are replaced,
 * never followed: others may have put them into a folder. The temporary file is locked while it is written: a second
 * writer gets an error, and what a killed process left is taken away by the next one. */
typedef struct file_writer {
    FILE *stream;
    char *path, *temporary; /* temporary NULL: `path` is no regular file and written as it is */
    bool quick; /* set after file_begin: nothing waits for the disk, for many files that can be made again */
} file_writer;
inlay_status file_begin(file_writer *w, const char *path, inlay_error *err);
/* file_begin for a file that the user named: a symbolic link stays one and its target is written; a device, a pipe or
 * what standard output and standard error go to is written into. */
inlay_status file_begin_named(file_writer *w, const char *path, inlay_error *err);
inlay_status file_commit(file_writer *w, inlay_error *err);
void file_abandon(file_writer *w);

/* A file of the program's own in a folder, for writing: begun anew, or kept with its content. A symbolic link in its
 * place is an error. */
inlay_status file_open_own(FILE **out, const char *path, bool keep, inlay_error *err);

/* A lock on `path`, a file that is made for it, until file_lock_release or the end of the process. *held: another
 * process has it, and nothing is taken. file_lock_release takes the file away; what a killed process leaves is no lock.
 * `none`: the file system has no locks, and nothing is kept out. */
typedef struct file_lock {
    int fd;
    char *path; /* NULL: not taken */
    bool none;
} file_lock;
inlay_status file_lock_take(file_lock *lock, const char *path, bool *held, inlay_error *err);
void file_lock_release(file_lock *lock);
bool file_lock_held(const char *path); /* by another process, now */

/* Makes a file for writing that carries a lock, as file_lock_take makes one, until it is closed, in the place of what a
 * killed process left. -1: errno says why; EWOULDBLOCK: another one writes it. */
int file_open_temporary(const char *path);

/* Writes bytes in memory as file_begin and file_commit do. */
inlay_status file_write(const char *path, const void *data, size_t size, inlay_error *err);

/* Makes the folder and those above it, as mkdir -p does. */
inlay_status file_make_folder(const char *path, inlay_error *err);
bool file_exists(const char *path);
bool file_is_folder(const char *path);
bool file_size(const char *path, size_t *size); /* of a regular file; false when there is none */
/* a/b from a and b; b alone when it is absolute. */
char *path_join(arena *a, const char *folder, const char *name);
const char *path_base(const char *path);

/* sha256 of a file, or of bytes, as 64 hex digits and a NUL. */
inlay_status file_sha256(const char *path, char hex[65], inlay_error *err);
void bytes_sha256(const void *data, size_t size, char hex[65]);

/* 64 bits that differ, but for chance, where bytes do; fast, and no defence against forgery. */
uint64_t bytes_sum(const void *data, size_t size);

/* What is different once a file was written or replaced: which file it is and when it last changed. False: there is
 * none. */
typedef struct file_stamp {
    uint64_t device, inode, size;
    int64_t seconds, nanoseconds;
    int64_t modified; /* of its bytes, in ns since 1970; not compared, as it can be set */
} file_stamp;
bool file_stamp_of(const char *path, file_stamp *stamp);
bool file_stamp_same(const file_stamp *a, const file_stamp *b);

/* Prints a clear message from errno: "cannot <verb> '<path>': <reason>". Opening and reading give INLAY_ERR_SYSTEM
 * instead of INLAY_ERR_IO where the reason is trouble of the moment (too many open files, a failing disk) and none of
 * the file. */
inlay_status file_error(inlay_error *err, const char *verb, const char *path);

/* Whether the file that is open is the one of that name. 0: it is; ENOENT: it is not, or there is none; else the cause
 * for which that cannot be told. */
int file_check_name(int fd, const char *path);

#endif
