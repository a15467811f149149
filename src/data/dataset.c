/* Labelled images on disk: folders of classes and of splits. */
#include "data/dataset_impl.h"

#include "base/rng.h"
#include "base/text.h"
#include "formats/image.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define MAX_DEPTH 32 /* of folders in a class folder; links may go round in circles */
static int by_bytes(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Compares as timm's natural_key does: lower case, runs of digits compared as numbers. */
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

void dataset_add_sample(builder *b, const char *path, int32_t label, const float *target)
{
    sample made = {path, label, target};

    ARRAY_PUSH(b->set->samples, b->set->count, b->capacity, made);
}

static void pass_over(builder *b, const char *path, const names *others)
{
    for (int i = 0; i < others->count; i++)
        ARRAY_PUSH(b->passed.items, b->passed.count, b->passed.capacity,
                   path_join(b->set->memory, path, others->items[i]));
}

static inlay_status add_images_below(builder *b, const char *path, int32_t label, int depth)
{
    listing found;
    inlay_status status = INLAY_OK;

    if (depth > MAX_DEPTH)
        FAIL(b->err, INLAY_ERR_IO, "'%s': folders are nested more than %d deep (a link that leads back?)", path,
             MAX_DEPTH);
    TRY(dataset_list_folder(b->set->memory, path, &found, b->err));
    for (int i = 0; i < found.files.count; i++)
        dataset_add_sample(b, path_join(b->set->memory, path, found.files.items[i]), label, NULL);
    pass_over(b, path, &found.others);
    for (int i = 0; status == INLAY_OK && i < found.folders.count; i++)
        status = add_images_below(b, path_join(b->set->memory, path, found.folders.items[i]), label, depth + 1);
    dataset_listing_free(&found);
    return status;
}

static int find_class(const dataset *set, const char *name)
{
    for (int i = 0; i < set->class_count; i++)
        if (strcmp(set->classes[i], name) == 0)
            return i;
    return -1;
}

void dataset_settle_classes(builder *b, names *found)
{
    dataset *set = b->set;
    bool given = b->request->classes != NULL;
    int count = given ? b->request->class_count : found->count;

    set->classes = ARENA_ARRAY(set->memory, const char *, count ? count : 1);
    if (!given && found->count)
        qsort(found->items, (size_t)found->count, sizeof *found->items,
              b->request->natural_sort ? by_nature : by_bytes);
    for (int i = 0; i < count; i++) {
        const char *name = given ? b->request->classes[i] : found->items[i];
        if (given || i == 0 || strcmp(name, set->classes[set->class_count - 1]) != 0)
            set->classes[set->class_count++] = given ? arena_strdup(set->memory, name) : name;
    }
}

void dataset_list_text(char *out, size_t room, const char *const *items, int count, int most)
{
    size_t used = 0;

    out[0] = '\0';
    for (int i = 0; i < count && i < most && used < room; i++)
        used += (size_t)snprintf(out + used, room - used, "%s%s", i ? ", " : "", items[i]);
    if (count > most && used < room)
        snprintf(out + used, room - used, ", ... (%d)", count);
}

static inlay_status add_class_folder(builder *b, const char *path, const char *name)
{
    int label = find_class(b->set, name), before = b->set->count, passed = b->passed.count;
    const char *folder = path_join(b->set->memory, path, name);
    char known[300], others[60] = "";

    if (label < 0) {
        dataset_list_text(known, sizeof known, b->set->classes, b->set->class_count, 8);
        FAIL(b->err, INLAY_ERR_MISMATCH, "class folder '%s' is none of the expected classes: %s", folder, known);
    }
    TRY(add_images_below(b, folder, label, 0));
    if (b->passed.count > passed)
        snprintf(others, sizeof others, "; %d other files are in it", b->passed.count - passed);
    if (b->set->count == before)
        FAIL(b->err, INLAY_ERR_FORMAT, "class folder '%s' holds no images (%s)%s", folder, image_endings(), others);
    return INLAY_OK;
}

/* Adds all images of the class folders in `path`. */
static inlay_status add_class_folders(builder *b, const char *path)
{
    listing found;
    inlay_status status = dataset_list_folder(b->set->memory, path, &found, b->err);

    if (status == INLAY_OK && found.files.count)
        notes_fault(b->request->notes, "'%s': %d images lie beside the class folders and are not read, the first: '%s'",
                    path, found.files.count, found.files.items[0]);
    if (status == INLAY_OK && found.others.count) {
        char text[200];
        dataset_list_text(text, sizeof text, found.others.items, found.others.count, 5);
        notes_add(b->request->notes, "'%s': beside the class folders are not read: %s", path, text);
    }
    for (int i = 0; status == INLAY_OK && i < found.folders.count; i++)
        status = add_class_folder(b, path, found.folders.items[i]);
    dataset_listing_free(&found);
    return status;
}

/* Checks that names of classes are UTF-8: they go into JSON files. */
static inlay_status check_class_names(const builder *b, const char *path, const names *folders)
{
    for (int i = 0; i < folders->count; i++)
        if (!text_is_utf8(folders->items[i]))
            FAIL(b->err, INLAY_ERR_FORMAT, "the class folder '%s' in '%s' has a name that is not UTF-8: rename it",
                 text_escaped(b->set->memory, folders->items[i]), path);
    return INLAY_OK;
}

static inlay_status refuse_split(const builder *b, const bool found[SPLITS], const char *hint)
{
    const char *list[SPLITS];
    char text[60];
    int count = 0;

    for (int s = 0; s < SPLITS; s++)
        if (found[s])
            list[count++] = dataset_split_name(s);
    dataset_list_text(text, sizeof text, list, count, SPLITS);
    if (!b->request->split)
        FAIL(b->err, INLAY_ERR_USAGE, "'%s' has the splits %s: say which one to read", b->request->path, text);
    FAIL(b->err, INLAY_ERR_USAGE, "'%s' has no split '%s': found %s%s", b->request->path, b->request->split,
         count ? text : "none", hint);
}

static void note_splits(const builder *b, const split_folders *f)
{
    char text[200];

    for (int s = 0; s < SPLITS; s++)
        if (f->path[s] && !f->usual[s])
            notes_add(b->request->notes, "'%s' is read as the split %s", f->path[s], dataset_split_name(s));
    dataset_list_text(text, sizeof text, f->beside.items, f->beside.count, 5);
    if (f->beside.count)
        notes_add(b->request->notes, "'%s': beside its splits are not read: %s", b->request->path, text);
}

/* Takes the union of the splits' classes. */
static inlay_status settle_split_classes(builder *b, const split_folders *f)
{
    names classes = {0};
    inlay_status status = INLAY_OK;

    for (int s = 0; s < SPLITS && status == INLAY_OK; s++) {
        listing found = {0};
        if (f->path[s])
            status = dataset_list_folder(b->set->memory, f->path[s], &found, b->err);
        if (status == INLAY_OK)
            status = check_class_names(b, f->path[s], &found.folders);
        for (int i = 0; i < found.folders.count; i++)
            ARRAY_PUSH(classes.items, classes.count, classes.capacity, found.folders.items[i]);
        dataset_listing_free(&found);
    }
    if (status == INLAY_OK)
        dataset_settle_classes(b, &classes);
    free(classes.items);
    return status;
}

static inlay_status read_split_folders(builder *b, const split_folders *f)
{
    bool wanted[SPLITS], found[SPLITS];

    for (int s = 0; s < SPLITS; s++)
        found[s] = f->path[s] != NULL;
    if (!b->request->split)
        return refuse_split(b, found, "");
    TRY(dataset_parse_split(b->request->split, wanted, b->err));
    for (int s = 0; s < SPLITS; s++)
        if (wanted[s] && !found[s])
            return refuse_split(b, found, "");
    note_splits(b, f);
    TRY(settle_split_classes(b, f));
    for (int s = 0; s < SPLITS; s++)
        if (wanted[s])
            TRY(add_class_folders(b, f->path[s]));
    return INLAY_OK;
}

static bool same_names(const names *a, const names *b)
{
    for (int i = 0; a->count == b->count && i < a->count; i++)
        if (strcmp(a->items[i], b->items[i]) != 0)
            return false;
    return a->count == b->count;
}

/* Refuses folders that hold the same folders, and no image of their own: splits under names that nobody knows; no class
 * looks so. */
static inlay_status refuse_unknown_splits(const builder *b, const names *folders)
{
    names first = {0};
    listing inside = {0};
    bool alike = folders->count > 1;
    inlay_status status = INLAY_OK;

    for (int i = 0; alike && i < folders->count && status == INLAY_OK; i++) {
        status = dataset_list_folder(b->set->memory, path_join(b->set->memory, b->request->path, folders->items[i]),
                                     &inside, b->err);
        alike = inside.files.count == 0 && inside.folders.count > 0 && (i == 0 || same_names(&first, &inside.folders));
        if (i == 0) {
            first = inside.folders;
            inside.folders = (names){0};
        }
        dataset_listing_free(&inside);
    }
    free(first.items);
    TRY(status);
    if (alike)
        FAIL(b->err, INLAY_ERR_FORMAT,
             "'%s': '%s' and '%s' hold the same folders and no images of their own, as splits do; splits are "
             "called " SPLIT_NAMES ", and a CSV list can say anything else",
             b->request->path, folders->items[0], folders->items[1]);
    return INLAY_OK;
}

/* Refuses splits without class folders: each would be taken for a class. */
static inlay_status refuse_bare_splits(const builder *b, const names *folders)
{
    bool usual, all = folders->count > 1;

    for (int i = 0; i < folders->count; i++)
        all = all && dataset_split_of(folders->items[i], strlen(folders->items[i]), &usual) < SPLITS;
    if (all)
        FAIL(
            b->err, INLAY_ERR_FORMAT,
            "'%s': the splits '%s' and '%s' hold their images side by side, expected one folder for each class in them",
            b->request->path, folders->items[0], folders->items[1]);
    return INLAY_OK;
}

static inlay_status read_class_folders(builder *b)
{
    listing found;
    inlay_status status = dataset_list_folder(b->set->memory, b->request->path, &found, b->err);

    if (status == INLAY_OK && found.folders.count == 0)
        status = error_set(b->err, INLAY_ERR_FORMAT, "'%s' holds no class folders%s", b->request->path,
                           found.files.count ? ": its images lie side by side, expected one folder for each class, or "
                                               "train, val and test with such folders"
                                             : "");
    if (status == INLAY_OK)
        status = check_class_names(b, b->request->path, &found.folders);
    if (status == INLAY_OK)
        status = refuse_unknown_splits(b, &found.folders);
    if (status == INLAY_OK)
        status = refuse_bare_splits(b, &found.folders);
    if (status == INLAY_OK) {
        dataset_settle_classes(b, &found.folders);
        status = add_class_folders(b, b->request->path);
    }
    dataset_listing_free(&found);
    return status;
}

/* Keeps the part of one undivided set that `split` asks for: a share of each class, drawn by the seed, is "val", the
 * rest "train". */
static inlay_status take_split(builder *b, bool is_list)
{
    const dataset_request *r = b->request;
    dataset *set = b->set;
    bool wanted[SPLITS] = {true, true, false}, divided = r->val_split > 0;
    int kept = 0;

    if (r->val_split < 0 || r->val_split >= 1)
        FAIL(b->err, INLAY_ERR_USAGE, "val_split is %g, expected at least 0 and less than 1", r->val_split);
    if (r->split)
        TRY(dataset_parse_split(r->split, wanted, b->err));
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
        /* streams of the upper half: the lower ones shuffle the epochs of training */
        rng_permutation(order, size,
                        (rng_stream){.seed = r->seed, .purpose = RNG_SHUFFLE, .stream = 0x80000000u | (uint32_t)label});
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

static inlay_status read_request(builder *b)
{
    split_folders splits_found = {0};
    bool is_list = false, divided = false;
    inlay_status status;

    if (!file_exists(b->request->path))
        return file_error(b->err, "read", b->request->path);
    if (!file_is_folder(b->request->path)) {
        is_list = true;
        status = dataset_read_list(b);
    } else if (b->request->task && b->request->task != b->set->task) {
        FAIL(b->err, INLAY_ERR_USAGE,
             "'%s' is a folder, whose class folders are for '%s': '%s' needs a list with the columns path and %s",
             b->request->path, b->set->task->name, b->request->task->name, b->request->task->column);
    } else {
        status = dataset_find_splits(b->set->memory, b->request->path, &splits_found, b->err);
        divided = splits_found.count > 0;
        if (status == INLAY_OK)
            status = divided ? read_split_folders(b, &splits_found) : read_class_folders(b);
        free(splits_found.beside.items);
    }
    dataset_note_passed(b, b->request->path, b->request->notes);
    TRY(status);
    if (b->set->task->classes)
        b->set->outputs = b->set->class_count;
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
    set->task = task_table[0];
    return set;
}

inlay_status dataset_open(dataset **out, const dataset_request *request, inlay_error *err)
{
    builder b = {.set = dataset_new(), .request = request, .err = err};

    return finish(&b, out, read_request(&b));
}

void dataset_targets(const dataset *d, const int *indices, int count, void *out)
{
    size_t bytes = task_target_bytes(d->task, d->outputs);

    for (int i = 0; i < count; i++) {
        const sample *s = &d->samples[indices[i]];
        memcpy((unsigned char *)out + (size_t)i * bytes, d->task->one_class ? (const void *)&s->label : s->target,
               bytes);
    }
}

void dataset_free(dataset *d)
{
    if (d)
        arena_free(d->memory);
}

inlay_status dataset_from_paths(dataset **out, const char *const *paths, int count, notes *n, inlay_error *err)
{
    builder b = {.set = dataset_new(), .err = err};
    inlay_status status = INLAY_OK;

    for (int i = 0; i < count && status == INLAY_OK; i++) {
        if (!file_exists(paths[i]))
            status = file_error(err, "read", paths[i]);
        else if (file_is_folder(paths[i]))
            status = add_images_below(&b, paths[i], -1, 0);
        else
            dataset_add_sample(&b, arena_strdup(b.set->memory, paths[i]), -1, NULL);
    }
    dataset_note_passed(&b, count == 1 ? paths[0] : "the folders given", n);
    if (status == INLAY_OK && b.set->count == 0)
        status = error_set(err, INLAY_ERR_FORMAT, "no images (%s) in '%s'%s", image_endings(), count ? paths[0] : "",
                           count > 1 ? " and the others" : "");
    if (status == INLAY_OK)
        qsort(b.set->samples, (size_t)b.set->count, sizeof *b.set->samples, by_class_and_path);
    return finish(&b, out, status);
}
