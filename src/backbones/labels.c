/* Names of a checkpoint's classes: from its configuration, from a file that the user names, or ImageNet-1k's where the
 * configuration says that the head was trained on it. Names may be fewer than classes: whoever reads them finds NULL
 * for the others. */
#include "backbones/labels.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"

#define MOST_CLASSES (1 << 24)

/* Names in the order of the file. They are as many as the file has, whatever number a class has there: the list by
 * number is made once it is known that the head has as many. */
typedef struct names {
    class_name *items;
    int64_t count, capacity;
    int64_t end; /* classes up to the last one that is mentioned */
} names;

static void put(backbone *b, names *n, int64_t number, const char *name)
{
    if (number >= n->end)
        n->end = number + 1;
    if (!name)
        return;
    if (n->count == n->capacity) {
        int64_t room = 2 * (n->count + 8);
        class_name *grown = ARENA_ARRAY(b->memory, class_name, room);
        if (n->count)
            memcpy(grown, n->items, (size_t)n->count * sizeof *grown);
        n->items = grown;
        n->capacity = room;
    }
    n->items[n->count++] = (class_name){number, name};
}

static int by_number(const void *left, const void *right)
{
    const class_name *a = left, *b = right;

    return (a->number > b->number) - (a->number < b->number);
}

/* Reads a name as text: numbers are taken as they are written; NULL: none. */
static inlay_status name_of(const char **out, backbone *b, const config_reader *r, const char *key, const char *at,
                            const json_t *item)
{
    char room[64];

    *out = NULL;
    if (json_is_null(item))
        return INLAY_OK;
    if (json_is_string(item))
        *out = arena_strdup(b->memory, json_string_value(item));
    else if (json_is_number(item))
        *out = arena_strdup(b->memory, config_value_text(room, item));
    else
        FAIL(r->err, INLAY_ERR_FORMAT, "%s: the name of class %s in '%s' is %s, expected text", r->path, at, key,
             config_value_text(room, item));
    if (*out && !**out)
        *out = NULL;
    return INLAY_OK;
}

static inlay_status read_list(backbone *b, const config_reader *r, const char *key, const json_t *list, names *n)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *name, *at = arena_printf(b->memory, "%zu", i);
        TRY(name_of(&name, b, r, key, at, json_array_get(list, i)));
        put(b, n, (int64_t)i, name);
    }
    return INLAY_OK;
}

static inlay_status read_object(backbone *b, const config_reader *r, const char *key, const json_t *object, names *n)
{
    const char *at, *name;
    json_t *item;

    json_object_foreach((json_t *)(uintptr_t)object, at, item)
    {
        char *end;
        long long number = strtoll(at, &end, 10);
        if (end == at || *end || at[0] == ' ' || number < 0 || number >= MOST_CLASSES)
            FAIL(r->err, INLAY_ERR_FORMAT, "%s: '%s' has the key '%s', expected the number of a class", r->path, key,
                 at);
        TRY(name_of(&name, b, r, key, at, item));
        if (name)
            put(b, n, number, name);
    }
    if (n->count)
        qsort(n->items, (size_t)n->count, sizeof *n->items, by_number);
    for (int64_t i = 1; i < n->count; i++)
        if (n->items[i].number == n->items[i - 1].number)
            FAIL(r->err, INLAY_ERR_FORMAT, "%s: '%s' names class %lld twice", r->path, key,
                 (long long)n->items[i].number);
    return INLAY_OK;
}

static inlay_status read_names(backbone *b, const config_reader *r, const char *key, const json_t *item, names *n)
{
    char room[64];

    if (json_is_array(item))
        return read_list(b, r, key, item, n);
    if (json_is_object(item))
        return read_object(b, r, key, item, n);
    FAIL(r->err, INLAY_ERR_FORMAT, "%s: '%s' is %s, expected a list of names, or an object from class number to name",
         r->path, key, config_value_text(room, item));
}

static void take(backbone *b, const names *n, const char *source)
{
    b->labels = NULL;
    b->names = n->items;
    b->named = n->count;
    b->label_count = n->end;
    b->label_source = source;
}

/* Makes the list by number, of as many names as the head has classes. */
static void spread(backbone *b)
{
    const char **list = ARENA_ARRAY(b->memory, const char *, b->shape.classes);

    for (int64_t i = 0; i < b->named; i++)
        if (b->names[i].number < b->shape.classes)
            list[b->names[i].number] = b->names[i].name;
    b->labels = list;
    b->label_count = b->shape.classes;
}

inlay_status labels_read(backbone *b, const config_reader *r, const char *key)
{
    const json_t *item = json_object_get(r->object, key);
    names n = {0};

    if (!item || json_is_null(item))
        return INLAY_OK;
    TRY(read_names(b, r, key, item, &n));
    take(b, &n, arena_printf(b->memory, "%s: '%s'", r->path, key));
    return INLAY_OK;
}

static const char *const imagenet_names[] = {
#include "backbones/imagenet_names.def"
};

/* Whether a tag of timm's names ImageNet-1k: tags end with the data of the last training, "augreg_in21k_ft_in1k". */
static bool says_imagenet(const char *tag)
{
    const char *last = NULL;

    for (const char *at = tag; at && (at = strstr(at, "in")); at += 2)
        if ((at == tag || at[-1] == '_') && at[2] >= '0' && at[2] <= '9')
            last = at;
    return last && strncmp(last, "in1k", 4) == 0;
}

void labels_fit(backbone *b)
{
    int64_t classes = b->shape.classes;

    if (!b->names && classes == sizeof imagenet_names / sizeof *imagenet_names && says_imagenet(b->pretrained_tag)) {
        b->labels = imagenet_names;
        b->label_count = b->named = classes;
        b->label_source = "ImageNet-1k, by 'tag'";
        b->labels_usual = true;
        return;
    }
    if (!b->names || !classes)
        return;
    if (b->named != classes || b->label_count != classes)
        notes_add(&b->notes, "%s has names for %lld classes, the head has %lld: %s", b->label_source,
                  (long long)b->named, (long long)classes,
                  b->label_count > classes ? "names above are not used, a class without a name is given by its number"
                                           : "a class without a name is given by its number");
    spread(b);
}

/* ---- a file of names ---- */

/* A line without its end and without the blanks around it. */
static const char *line_text(backbone *b, const char *begin, const char *end)
{
    while (begin < end && (*begin == ' ' || *begin == '\t'))
        begin++;
    while (end > begin && (end[-1] == '\r' || end[-1] == ' ' || end[-1] == '\t'))
        end--;
    return arena_printf(b->memory, "%.*s", (int)(end - begin), begin);
}

static inlay_status read_lines(backbone *b, const char *path, const char *text, size_t size, names *n, inlay_error *err)
{
    const char *at = text, *end = text + size;

    if (size >= 3 && memcmp(at, "\xEF\xBB\xBF", 3) == 0)
        at += 3;
    for (int line = 1; at < end; line++) {
        const char *stop = memchr(at, '\n', (size_t)(end - at)), *name;
        json_t *checked;
        stop = stop ? stop : end;
        name = line_text(b, at, stop);
        checked = json_string(name); /* NULL where it is not UTF-8 */
        if (!checked || !*name || memchr(at, '\0', (size_t)(stop - at))) {
            json_decref(checked);
            FAIL(err, INLAY_ERR_FORMAT, "%s: line %d is %s: one name a line is expected, in UTF-8", path, line,
                 *name ? "not text" : "empty");
        }
        json_decref(checked);
        put(b, n, n->end, name);
        at = stop + 1;
    }
    return INLAY_OK;
}

static inlay_status read_json(backbone *b, const char *path, const char *text, size_t size, names *n, inlay_error *err)
{
    static const char *const under[] = {"id2label", "label_names"};
    json_error_t where = {.line = -1};
    json_t *root = json_loadb(text, size, JSON_REJECT_DUPLICATES, &where);
    const json_t *item = root;
    const char *key = "the file";
    inlay_status status;

    if (!root && where.line < 0)
        FAIL(err, INLAY_ERR_NOMEM, "out of memory reading '%s'", path);
    if (!root)
        FAIL(err, INLAY_ERR_FORMAT, "%s: line %d, column %d: %s", path, where.line, where.column, where.text);
    for (size_t i = 0; i < 2; i++)
        if (json_object_get(root, under[i])) {
            key = under[i];
            item = json_object_get(root, key);
        }
    status = read_names(b, &(config_reader){root, path, err}, key, item, n);
    json_decref(root);
    return status;
}

inlay_status labels_load(backbone *b, const char *path, inlay_error *err)
{
    char *text;
    size_t size, blank = 0;
    names n = {0};
    inlay_status status;

    TRY(file_read(path, (size_t)1 << 28, &text, &size, err));
    while (blank < size && strchr(" \t\r\n", text[blank]))
        blank++;
    if (blank < size && (text[blank] == '[' || text[blank] == '{'))
        status = read_json(b, path, text, size, &n, err);
    else
        status = read_lines(b, path, text, size, &n, err);
    free(text);
    TRY(status);
    if (n.count != b->shape.classes || n.end != b->shape.classes)
        FAIL(err, INLAY_ERR_USAGE, "%s names %lld classes%s, the head of '%s' has %lld", path, (long long)n.count,
             n.count == b->shape.classes ? arena_printf(b->memory, ", numbered up to %lld", (long long)n.end - 1) : "",
             b->path, (long long)b->shape.classes);
    take(b, &n, arena_strdup(b->memory, path));
    spread(b);
    b->labels_usual = false;
    return INLAY_OK;
}
