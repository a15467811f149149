/* Labelled images on disk: folders of classes, folders of splits, CSV lists. */
#include "data/dataset.h"

#include "base/rng.h"
#include "data/csv.h"
#include "formats/image.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define MAX_DEPTH 32 /* of folders in a class folder; links may go round in circles */
#define MAX_DIGITS 6 /* of a number in a CSV that is a class */

typedef struct names {
    const char **items;
    int count, capacity;
} names;

/* A dataset in the making. */
typedef struct builder {
    dataset *set;
    const dataset_request *request;
    int capacity; /* of set->samples, on the heap until it is complete */
    inlay_error *err;
} builder;

static int by_bytes(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* timm's natural_key: lower case, runs of digits compared as numbers. */
static int by_nature(const void *a, const void *b)
{
    const char *x = *(const char *const *)a, *y = *(const char *const *)b;

    for (;;) {
        size_t i = 0, j = 0;
        while (*x && !isdigit((unsigned char)*x) && *y && !isdigit((unsigned char)*y) &&
               tolower((unsigned char)*x) == tolower((unsigned char)*y))
            x++, y++;
        if (!isdigit((unsigned char)*x) || !isdigit((unsigned char)*y)) {
            /* where the text before the next number ends, the shorter text comes first */
            int cx = isdigit((unsigned char)*x) ? 0 : tolower((unsigned char)*x),
                cy = isdigit((unsigned char)*y) ? 0 : tolower((unsigned char)*y);
            if (cx == cy && !*x != !*y)
                return *x ? 1 : -1;
            return cx != cy ? cx - cy : by_bytes(a, b);
        }
        while (*x == '0' && isdigit((unsigned char)x[1]))
            x++;
        while (*y == '0' && isdigit((unsigned char)y[1]))
            y++;
        while (isdigit((unsigned char)x[i]))
            i++;
        while (isdigit((unsigned char)y[j]))
            j++;
        if (i != j || strncmp(x, y, i) != 0)
            return i != j ? (i < j ? -1 : 1) : strncmp(x, y, i);
        x += i;
        y += j;
    }
}

static int by_class_and_path(const void *a, const void *b)
{
    const sample *x = a, *y = b;

    return x->label != y->label ? (x->label < y->label ? -1 : 1) : strcmp(x->path, y->path);
}

/* Image files and folders in `path`, by name, sorted; either list may be NULL. Hidden ones (.git, ._photo.jpg) are passed over. */
static inlay_status list_folder(arena *memory, const char *path, names *files, names *folders, inlay_error *err)
{
    DIR *folder = opendir(path);
    struct dirent *entry;

    if (!folder)
        return file_error(err, "read folder", path);
    while ((errno = 0, entry = readdir(folder)) != NULL) {
        const char *name = entry->d_name;
        if (name[0] == '.')
            continue;
        if (image_has_ending(name)) {
            if (files)
                ARRAY_PUSH(files->items, files->count, files->capacity, arena_strdup(memory, name));
        } else if (folders && file_is_folder(path_join(memory, path, name))) {
            ARRAY_PUSH(folders->items, folders->count, folders->capacity, arena_strdup(memory, name));
        }
    }
    if (errno != 0) {
        inlay_status status = file_error(err, "read folder", path);
        closedir(folder);
        return status;
    }
    closedir(folder);
    if (files && files->count)
        qsort(files->items, (size_t)files->count, sizeof *files->items, by_bytes);
    if (folders && folders->count)
        qsort(folders->items, (size_t)folders->count, sizeof *folders->items, by_bytes);
    return INLAY_OK;
}

static void add_sample(builder *b, const char *path, int32_t label)
{
    sample made = {path, label};

    ARRAY_PUSH(b->set->samples, b->set->count, b->capacity, made);
}

static inlay_status add_images_below(builder *b, const char *path, int32_t label, int depth)
{
    names files = {0}, folders = {0};
    inlay_status status;

    if (depth > MAX_DEPTH)
        FAIL(b->err, INLAY_ERR_IO, "'%s': folders are nested more than %d deep (a link that leads back?)", path, MAX_DEPTH);
    status = list_folder(b->set->memory, path, &files, &folders, b->err);
    for (int i = 0; status == INLAY_OK && i < files.count; i++)
        add_sample(b, path_join(b->set->memory, path, files.items[i]), label);
    for (int i = 0; status == INLAY_OK && i < folders.count; i++)
        status = add_images_below(b, path_join(b->set->memory, path, folders.items[i]), label, depth + 1);
    free(files.items);
    free(folders.items);
    return status;
}

static int find_class(const dataset *set, const char *name)
{
    for (int i = 0; i < set->class_count; i++)
        if (strcmp(set->classes[i], name) == 0)
            return i;
    return -1;
}

/* The request's classes, or those found: sorted, each once. */
static void settle_classes(builder *b, names *found)
{
    dataset *set = b->set;
    bool given = b->request->classes != NULL;
    int count = given ? b->request->class_count : found->count;

    set->classes = ARENA_ARRAY(set->memory, const char *, count ? count : 1);
    if (!given && found->count)
        qsort(found->items, (size_t)found->count, sizeof *found->items, b->request->natural_sort ? by_nature : by_bytes);
    for (int i = 0; i < count; i++) {
        const char *name = given ? b->request->classes[i] : found->items[i];
        if (given || i == 0 || strcmp(name, set->classes[set->class_count - 1]) != 0)
            set->classes[set->class_count++] = given ? arena_strdup(set->memory, name) : name;
    }
}

static void list_text(char *out, size_t room, const char *const *items, int count, int most)
{
    size_t used = 0;

    out[0] = '\0';
    for (int i = 0; i < count && i < most && used < room; i++)
        used += (size_t)snprintf(out + used, room - used, "%s%s", i ? ", " : "", items[i]);
    if (count > most && used < room)
        snprintf(out + used, room - used, ", ... (%d)", count);
}

/* All images of the class folders in `path`. */
static inlay_status add_class_folders(builder *b, const char *path)
{
    names folders = {0};
    inlay_status status = list_folder(b->set->memory, path, NULL, &folders, b->err);

    for (int i = 0; status == INLAY_OK && i < folders.count; i++) {
        int label = find_class(b->set, folders.items[i]), before = b->set->count;
        const char *folder = path_join(b->set->memory, path, folders.items[i]);
        if (label < 0) {
            char known[300];
            list_text(known, sizeof known, b->set->classes, b->set->class_count, 8);
            status = error_set(b->err, INLAY_ERR_MISMATCH, "class folder '%s' is none of the expected classes: %s", folder, known);
            break;
        }
        status = add_images_below(b, folder, label, 0);
        if (status == INLAY_OK && b->set->count == before)
            status = error_set(b->err, INLAY_ERR_FORMAT, "class folder '%s' holds no images (%s)", folder, image_endings());
    }
    free(folders.items);
    return status;
}

/* The names under which a split's folder is looked for, the usual one first. */
static const struct {
    const char *name, *aliases[3];
} splits[] = {{"train", {"train", NULL, NULL}}, {"val", {"val", "validation", "valid"}}, {"test", {"test", NULL, NULL}}};
enum { SPLITS = sizeof splits / sizeof splits[0] };

/* Finds the split folders. A class may be called "train" too: a split's folder is one that holds folders. */
static inlay_status find_splits(builder *b, const char *found[SPLITS], int *count)
{
    *count = 0;
    for (int s = 0; s < SPLITS; s++) {
        found[s] = NULL;
        for (int a = 0; a < 3 && splits[s].aliases[a] && !found[s]; a++) {
            const char *folder = path_join(b->set->memory, b->request->path, splits[s].aliases[a]);
            names inside = {0};
            if (!file_is_folder(folder))
                continue;
            TRY(list_folder(b->set->memory, folder, NULL, &inside, b->err));
            if (inside.count > 0)
                found[s] = folder;
            free(inside.items);
        }
        *count += found[s] != NULL;
    }
    return INLAY_OK;
}

/* Sets wanted[] from "train", "val", "train+val", ... */
static inlay_status parse_split(const char *text, bool wanted[SPLITS], inlay_error *err)
{
    for (int s = 0; s < SPLITS; s++)
        wanted[s] = false;
    for (const char *part = text;; part++) {
        size_t length = strcspn(part, "+");
        bool known = false;
        for (int s = 0; s < SPLITS; s++)
            for (int a = 0; a < 3 && splits[s].aliases[a]; a++)
                if (strlen(splits[s].aliases[a]) == length && strncmp(part, splits[s].aliases[a], length) == 0)
                    known = wanted[s] = true;
        if (!known)
            FAIL(err, INLAY_ERR_USAGE, "unknown split '%.*s' in '%s', expected train, val, test or several joined by +", (int)length, part,
                 text);
        part += length;
        if (!*part)
            return INLAY_OK;
    }
}

static inlay_status refuse_split(const builder *b, const bool found[SPLITS], const char *hint)
{
    const char *list[SPLITS];
    char text[60];
    int count = 0;

    for (int s = 0; s < SPLITS; s++)
        if (found[s])
            list[count++] = splits[s].name;
    list_text(text, sizeof text, list, count, SPLITS);
    if (!b->request->split)
        FAIL(b->err, INLAY_ERR_USAGE, "'%s' has the splits %s: say which one to read", b->request->path, text);
    FAIL(b->err, INLAY_ERR_USAGE, "'%s' has no split '%s': found %s%s", b->request->path, b->request->split, count ? text : "none", hint);
}

static inlay_status read_split_folders(builder *b, const char *const folders[SPLITS])
{
    bool wanted[SPLITS], found[SPLITS];
    names classes = {0};
    inlay_status status = INLAY_OK;

    for (int s = 0; s < SPLITS; s++)
        found[s] = folders[s] != NULL;
    if (!b->request->split)
        return refuse_split(b, found, "");
    TRY(parse_split(b->request->split, wanted, b->err));
    for (int s = 0; s < SPLITS; s++)
        if (wanted[s] && !found[s])
            return refuse_split(b, found, "");
    for (int s = 0; s < SPLITS && status == INLAY_OK; s++)
        if (found[s])
            status = list_folder(b->set->memory, folders[s], NULL, &classes, b->err);
    if (status == INLAY_OK)
        settle_classes(b, &classes);
    for (int s = 0; s < SPLITS && status == INLAY_OK; s++)
        if (wanted[s])
            status = add_class_folders(b, folders[s]);
    free(classes.items);
    return status;
}

static inlay_status read_class_folders(builder *b)
{
    names classes = {0}, files = {0};
    inlay_status status = list_folder(b->set->memory, b->request->path, &files, &classes, b->err);

    if (status == INLAY_OK && classes.count == 0)
        status = error_set(
            b->err, INLAY_ERR_FORMAT, "'%s' holds no class folders%s", b->request->path,
            files.count ? ": its images lie side by side, expected one folder for each class, or train, val and test with such folders"
                        : "");
    if (status == INLAY_OK) {
        settle_classes(b, &classes);
        status = add_class_folders(b, b->request->path);
    }
    free(classes.items);
    free(files.items);
    return status;
}

/* Keeps the part of one undivided set that `split` asks for: a share of each class, drawn by the seed, is "val", the rest "train". */
static inlay_status take_split(builder *b, bool is_list)
{
    const dataset_request *r = b->request;
    dataset *set = b->set;
    bool wanted[SPLITS] = {true, true, false}, divided = r->val_split > 0;
    int kept = 0;

    if (r->val_split < 0 || r->val_split >= 1)
        FAIL(b->err, INLAY_ERR_USAGE, "val_split is %g, expected at least 0 and less than 1", r->val_split);
    if (r->split)
        TRY(parse_split(r->split, wanted, b->err));
    if (is_list && !divided)
        return INLAY_OK; /* a list without a share is the split that its owner says it is */
    if (wanted[2] || (wanted[1] && !wanted[0] && !divided))
        return refuse_split(b, (const bool[SPLITS]){true, divided, false},
                            divided ? "" : " (one folder of classes; --val-split sets a share of each aside)");
    if (wanted[0] && (wanted[1] || !divided))
        return INLAY_OK;
    for (int begin = 0, end; begin < set->count; begin = end) {
        int32_t label = set->samples[begin].label;
        int size, validation, *order;
        bool *chosen;
        for (end = begin; end < set->count && set->samples[end].label == label; end++)
            ;
        size = end - begin;
        validation = (int)(r->val_split * size + 0.5);
        validation = validation < 1 && size > 1 ? 1 : validation >= size ? size - 1 : validation;
        order = calloc((size_t)size, sizeof *order);
        chosen = calloc((size_t)size, sizeof *chosen);
        if (!order || !chosen) {
            free(order);
            free(chosen);
            FAIL(b->err, INLAY_ERR_NOMEM, "out of memory splitting '%s'", r->path);
        }
        /* sites of the upper half: the lower ones shuffle the epochs of training */
        rng_permutation(order, size, (rng_stream){.seed = r->seed, .purpose = RNG_SHUFFLE, .site = 0x80000000u | (uint32_t)label});
        for (int i = 0; i < validation; i++)
            chosen[order[i]] = true;
        for (int i = 0; i < size; i++)
            if (chosen[i] == wanted[1])
                set->samples[kept++] = set->samples[begin + i];
        free(order);
        free(chosen);
    }
    set->count = kept;
    return INLAY_OK;
}

/* A label of digits only that can count classes; -1 for anything else. */
static int label_number(const char *text)
{
    size_t length = strlen(text);

    return length == 0 || length > MAX_DIGITS || strspn(text, "0123456789") != length ? -1 : (int)strtol(text, NULL, 10);
}

typedef struct csv_row {
    const char *path, *label;
    int line;
} csv_row;

static inlay_status read_rows(builder *b, csv *list, csv_row **rows, int *count)
{
    arena *memory = b->set->memory;
    char *folder = arena_strdup(memory, b->request->path), *slash = strrchr(folder, '/');
    int path_column, label_column, capacity = 0;
    bool found;

    folder[slash ? slash + 1 - folder : 0] = '\0';
    TRY(csv_next(list, &found, b->err));
    if (!found)
        FAIL(b->err, INLAY_ERR_FORMAT, "'%s' is empty, expected a CSV list with the columns path and label", list->name);
    path_column = csv_column(list, "path");
    label_column = csv_column(list, "label");
    if (path_column < 0 || label_column < 0) {
        char columns[300];
        list_text(columns, sizeof columns, (const char *const *)list->fields, list->count, 10);
        FAIL(b->err, INLAY_ERR_FORMAT, "'%s' line %d: no column '%s', found %s", list->name, list->line, path_column < 0 ? "path" : "label",
             columns);
    }
    for (;;) {
        csv_row row;
        TRY(csv_next(list, &found, b->err));
        if (!found)
            return INLAY_OK;
        if (list->count <= path_column || list->count <= label_column)
            FAIL(b->err, INLAY_ERR_FORMAT, "'%s' line %d: %d fields, the columns path and label are number %d and %d", list->name,
                 list->line, list->count, path_column + 1, label_column + 1);
        row = (csv_row){list->fields[path_column], list->fields[label_column], list->line};
        if (!row.path[0] || !row.label[0])
            FAIL(b->err, INLAY_ERR_FORMAT, "'%s' line %d: the %s is empty", list->name, row.line, row.path[0] ? "label" : "path");
        row.path = path_join(memory, folder, row.path);
        row.label = arena_strdup(memory, row.label);
        ARRAY_PUSH(*rows, *count, capacity, row);
    }
}

typedef struct class_name {
    const char *name;
    int class;
} class_name;

static int by_name(const void *a, const void *b)
{
    return strcmp(((const class_name *)a)->name, ((const class_name *)b)->name);
}

static int look_up(const class_name *index, int count, const char *name)
{
    class_name key = {name, 0};
    const class_name *hit = bsearch(&key, index, (size_t)count, sizeof *index, by_name);

    return hit ? hit->class : -1;
}

/* Classes of a list: those of the request; else "0", "1", ... up to the largest label, when all are numbers; else the names found. */
static void settle_list_classes(builder *b, const csv_row *rows, int count, bool numbers)
{
    dataset *set = b->set;
    names found = {0};

    if (numbers && !b->request->classes) {
        int64_t largest = 0;
        for (int i = 0; i < count; i++)
            largest = label_number(rows[i].label) > largest ? label_number(rows[i].label) : largest;
        set->class_count = (int)largest + 1;
        set->classes = ARENA_ARRAY(set->memory, const char *, set->class_count);
        for (int i = 0; i < set->class_count; i++)
            set->classes[i] = arena_printf(set->memory, "%d", i);
        return;
    }
    for (int i = 0; i < count && !b->request->classes; i++)
        ARRAY_PUSH(found.items, found.count, found.capacity, rows[i].label);
    settle_classes(b, &found);
    free(found.items);
}

/* Numbers are indices of classes, unless the request gives names and all of them are among these. */
static inlay_status label_rows(builder *b, const csv_row *rows, int count)
{
    dataset *set = b->set;
    bool numbers = true, names_only = true;
    class_name *index;

    for (int i = 0; i < count; i++)
        numbers = numbers && label_number(rows[i].label) >= 0;
    settle_list_classes(b, rows, count, numbers);
    index = ARENA_ARRAY(set->memory, class_name, set->class_count ? set->class_count : 1);
    for (int i = 0; i < set->class_count; i++)
        index[i] = (class_name){set->classes[i], i};
    qsort(index, (size_t)set->class_count, sizeof *index, by_name);
    for (int i = 0; i < count; i++)
        names_only = names_only && look_up(index, set->class_count, rows[i].label) >= 0;
    set->numeric_labels = numbers && !(b->request->classes && names_only);
    for (int i = 0; i < count; i++) {
        int label = set->numeric_labels ? label_number(rows[i].label) : look_up(index, set->class_count, rows[i].label);
        if (label < 0 || label >= set->class_count)
            FAIL(b->err, INLAY_ERR_MISMATCH, "'%s' line %d: the label '%s' is none of the %d classes", b->request->path, rows[i].line,
                 rows[i].label, set->class_count);
        add_sample(b, rows[i].path, label);
    }
    return INLAY_OK;
}

static inlay_status read_list(builder *b)
{
    char *text;
    size_t size;
    csv list;
    csv_row *rows = NULL;
    int count = 0;
    inlay_status status;

    TRY(file_read(b->request->path, (size_t)1 << 30, &text, &size, b->err));
    csv_start(&list, text, size, b->request->path);
    status = read_rows(b, &list, &rows, &count);
    if (status == INLAY_OK && count == 0)
        status = error_set(b->err, INLAY_ERR_FORMAT, "'%s' lists no images: there is nothing below its first line", b->request->path);
    if (status == INLAY_OK)
        status = label_rows(b, rows, count);
    free(rows);
    csv_stop(&list);
    free(text);
    return status;
}

static inlay_status read_request(builder *b)
{
    const char *found[SPLITS];
    int splits_found;
    bool is_list = false, divided = false;

    if (!file_exists(b->request->path))
        return file_error(b->err, "read", b->request->path);
    if (!file_is_folder(b->request->path)) {
        is_list = true;
        TRY(read_list(b));
    } else {
        TRY(find_splits(b, found, &splits_found));
        divided = splits_found > 0;
        TRY(divided ? read_split_folders(b, found) : read_class_folders(b));
    }
    qsort(b->set->samples, (size_t)b->set->count, sizeof *b->set->samples, by_class_and_path);
    return divided ? INLAY_OK : take_split(b, is_list);
}

/* Hands the samples over to the arena, or throws everything away. */
static inlay_status finish(builder *b, dataset **out, inlay_status status)
{
    dataset *set = b->set;
    sample *grown = set->samples;

    set->samples = NULL;
    if (status == INLAY_OK && set->count > 0) {
        set->samples = ARENA_ARRAY(set->memory, sample, set->count);
        memcpy(set->samples, grown, (size_t)set->count * sizeof *grown);
    }
    free(grown);
    if (status != INLAY_OK) {
        dataset_free(set);
        set = NULL;
    }
    *out = set;
    return status;
}

static dataset *dataset_new(void)
{
    arena *memory = arena_new();
    dataset *set = ARENA_NEW(memory, dataset);

    set->memory = memory;
    return set;
}

inlay_status dataset_open(dataset **out, const dataset_request *request, inlay_error *err)
{
    builder b = {.set = dataset_new(), .request = request, .err = err};

    return finish(&b, out, read_request(&b));
}

void dataset_free(dataset *d)
{
    if (d)
        arena_free(d->memory);
}

inlay_status dataset_from_paths(dataset **out, const char *const *paths, int count, inlay_error *err)
{
    builder b = {.set = dataset_new(), .err = err};
    inlay_status status = INLAY_OK;

    for (int i = 0; i < count && status == INLAY_OK; i++) {
        if (!file_exists(paths[i]))
            status = file_error(err, "read", paths[i]);
        else if (file_is_folder(paths[i]))
            status = add_images_below(&b, paths[i], -1, 0);
        else
            add_sample(&b, arena_strdup(b.set->memory, paths[i]), -1);
    }
    if (status == INLAY_OK && b.set->count == 0)
        status = error_set(err, INLAY_ERR_FORMAT, "no images (%s) in '%s'%s", image_endings(), count ? paths[0] : "",
                           count > 1 ? " and the others" : "");
    if (status == INLAY_OK)
        qsort(b.set->samples, (size_t)b.set->count, sizeof *b.set->samples, by_class_and_path);
    return finish(&b, out, status);
}
