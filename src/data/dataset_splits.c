/* Folders of splits: their names, and finding them. */
#include "data/dataset_impl.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define MAX_ALIASES 6
/* The names of a split's folder, in letters of either case; the first `usual` ones need no word when they are spelled
 * so. */
static const struct {
    const char *name, *aliases[MAX_ALIASES];
    int usual;
} splits[SPLITS] = {{"train", {"train", "training", "trn"}, 1},
                    {"val", {"val", "validation", "valid", "dev"}, 3},
                    {"test", {"test", "testing"}, 1}};

int dataset_split_of(const char *name, size_t length, bool *usual)
{
    for (int s = 0; s < SPLITS; s++)
        for (int a = 0; a < MAX_ALIASES && splits[s].aliases[a]; a++)
            if (strlen(splits[s].aliases[a]) == length && strncasecmp(name, splits[s].aliases[a], length) == 0) {
                *usual = a < splits[s].usual && strncmp(name, splits[s].aliases[a], length) == 0;
                return s;
            }
    return SPLITS;
}

static bool same_folder(const char *a, const char *b)
{
    file_stamp x, y;

    return file_stamp_of(a, &x) && file_stamp_of(b, &y) && x.device == y.device && x.inode == y.inode;
}

/* Takes a folder for a split where it holds folders: a class may be called "train" too. */
static inlay_status take_folder(arena *memory, split_folders *out, const char *path, const char *name, inlay_error *err)
{
    const char *folder = path_join(memory, path, name);
    bool usual, holds_folders;
    int s = dataset_split_of(name, strlen(name), &usual);
    listing inside;

    if (s < SPLITS) {
        TRY(dataset_list_folder(memory, folder, &inside, err));
        holds_folders = inside.folders.count > 0;
        dataset_listing_free(&inside);
        s = holds_folders ? s : SPLITS;
    }
    if (s == SPLITS) {
        ARRAY_PUSH(out->beside.items, out->beside.count, out->beside.capacity, name);
        return INLAY_OK;
    }
    if (out->path[s] && !same_folder(out->path[s], folder))
        FAIL(err, INLAY_ERR_FORMAT,
             "'%s' and '%s' are both names of the split %s: one of them has to go, or to be renamed", out->path[s],
             folder, splits[s].name);
    out->count += !out->path[s];
    out->path[s] = folder;
    out->usual[s] = usual;
    return INLAY_OK;
}

inlay_status dataset_find_splits(arena *memory, const char *path, split_folders *out, inlay_error *err)
{
    listing found;
    inlay_status status;

    *out = (split_folders){0};
    TRY(dataset_list_folder(memory, path, &found, err));
    status = INLAY_OK;
    for (int i = 0; status == INLAY_OK && i < found.folders.count; i++)
        status = take_folder(memory, out, path, found.folders.items[i], err);
    for (int i = 0; i < found.files.count; i++)
        ARRAY_PUSH(out->beside.items, out->beside.count, out->beside.capacity, found.files.items[i]);
    for (int i = 0; i < found.others.count; i++)
        ARRAY_PUSH(out->beside.items, out->beside.count, out->beside.capacity, found.others.items[i]);
    dataset_listing_free(&found);
    return status;
}

bool dataset_has_split(const char *path, const char *split)
{
    arena *memory = arena_new();
    split_folders found = {0};
    bool usual, ambiguous = file_is_folder(path) && dataset_find_splits(memory, path, &found, NULL) != INLAY_OK;
    int s = split ? dataset_split_of(split, strlen(split), &usual) : SPLITS;
    bool there = ambiguous || (s < SPLITS ? found.path[s] != NULL : !split && found.count > 0);

    free(found.beside.items);
    arena_free(memory);
    return there;
}

const char *dataset_split_name(int split)
{
    return splits[split].name;
}

inlay_status dataset_parse_split(const char *text, bool wanted[SPLITS], inlay_error *err)
{
    for (int s = 0; s < SPLITS; s++)
        wanted[s] = false;
    for (const char *part = text;; part++) {
        size_t length = strcspn(part, "+");
        bool usual;
        int s = dataset_split_of(part, length, &usual);
        if (s == SPLITS)
            FAIL(err, INLAY_ERR_USAGE, "unknown split '%.*s' in '%s', expected train, val, test or several joined by +",
                 (int)length, part, text);
        wanted[s] = true;
        part += length;
        if (!*part)
            return INLAY_OK;
    }
}
