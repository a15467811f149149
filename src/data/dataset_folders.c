/* What a folder holds, and what a data set says of that which it does not read. */
#define _GNU_SOURCE /* d_type */
#include "data/dataset_impl.h"

#include "formats/image.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* What systems and archives leave in folders: no images, and nobody means them to be. Hidden files belong here too. */
static const char *const litter[] = {"Thumbs.db",  "ehthumbs.db",  "desktop.ini",
                                     "Icon\r",     "__MACOSX",     "@eaDir",
                                     "lost+found", "$RECYCLE.BIN", "System Volume Information"};

static int by_bytes(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static bool is_litter(const char *name)
{
    for (size_t i = 0; i < sizeof litter / sizeof *litter; i++)
        if (strcasecmp(litter[i], name) == 0)
            return true;
    return name[0] == '.';
}

void dataset_listing_free(listing *l)
{
    free(l->files.items);
    free(l->folders.items);
    free(l->others.items);
    *l = (listing){0};
}

static void sort_names(names *n)
{
    if (n->count)
        qsort(n->items, (size_t)n->count, sizeof *n->items, by_bytes);
}

static void list_entry(arena *memory, listing *out, const char *path, const struct dirent *entry)
{
    const char *name = arena_strdup(memory, entry->d_name);
    bool known = entry->d_type != DT_UNKNOWN && entry->d_type != DT_LNK;
    names *to = image_has_ending(name) ? &out->files : &out->others;

    if (known ? entry->d_type == DT_DIR : file_is_folder(path_join(memory, path, name)))
        to = &out->folders;
    ARRAY_PUSH(to->items, to->count, to->capacity, name);
}

inlay_status dataset_list_folder(arena *memory, const char *path, listing *out, inlay_error *err)
{
    DIR *folder = opendir(path);
    struct dirent *entry;

    *out = (listing){0};
    if (!folder)
        return file_error(err, "read folder", path);
    while ((errno = 0, entry = readdir(folder)) != NULL)
        if (!is_litter(entry->d_name))
            list_entry(memory, out, path, entry);
    if (errno != 0) {
        inlay_status status = file_error(err, "read folder", path);
        closedir(folder);
        dataset_listing_free(out);
        return status;
    }
    closedir(folder);
    sort_names(&out->files);
    sort_names(&out->folders);
    sort_names(&out->others);
    return INLAY_OK;
}

/* ---- what was passed over ---- */

static const char *ending_of(const char *path)
{
    const char *name = path_base(path), *dot = strrchr(name, '.');

    if (!file_exists(path))
        return "links to nothing";
    return dot && dot > name && dot[1] ? dot : "without an ending";
}

static int by_ending(const void *a, const void *b)
{
    return strcasecmp(*(const char *const *)a, *(const char *const *)b);
}

/* Lists the endings of files, a few, and how often each occurs: ".txt (3), .mp4 (1)". */
static void endings_text(char *out, size_t room, const names *paths)
{
    enum { MOST = 6 };
    const char **endings = calloc((size_t)paths->count, sizeof *endings);
    size_t used = 0;
    int kinds = 0;

    out[0] = '\0';
    for (int i = 0; endings && i < paths->count; i++)
        endings[i] = ending_of(paths->items[i]);
    if (endings)
        qsort(endings, (size_t)paths->count, sizeof *endings, by_ending);
    for (int i = 0, end; endings && i < paths->count && used < room; i = end) {
        for (end = i; end < paths->count && strcasecmp(endings[i], endings[end]) == 0; end++)
            ;
        if (kinds++ < MOST)
            used += (size_t)snprintf(out + used, room - used, "%s%.20s (%d)", i ? ", " : "", endings[i], end - i);
    }
    if (kinds > MOST && used < room)
        snprintf(out + used, room - used, ", ...");
    free(endings);
}

void dataset_note_passed(builder *b, const char *where, notes *n)
{
    char endings[300];

    if (b->passed.count) {
        sort_names(&b->passed);
        endings_text(endings, sizeof endings, &b->passed);
        notes_fault(n, "'%s': %d files that are no known images were passed over: %s; the first: '%s'", where,
                    b->passed.count, endings, b->passed.items[0]);
    }
    free(b->passed.items);
    b->passed = (names){0};
}
