/* A CSV list of images: columns, rows, and what their labels mean. */
#include "data/dataset_impl.h"

#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "data/csv.h"

#define MAX_LIST_BYTES ((size_t)1 << 30)

/* The columns that are read. */
enum { PATH, LABEL, COLUMNS };
static const char *const column_names[COLUMNS] = {"path", "label"};

typedef struct csv_row {
    const char *path, *label;
    int line;
} csv_row;

typedef struct image_list {
    csv file;
    int width;            /* columns of the header */
    int columns[COLUMNS]; /* where they stand in it */
    const char *folder;   /* that paths are relative to */
    csv_row *rows;
    int count, capacity;
    int odd_paths, odd_line; /* paths that are not UTF-8: how many, line of the first */
} image_list;

/* ---- columns and rows ---- */

static inlay_status check_columns(const builder *b, const image_list *l)
{
    const csv *c = &l->file;
    char columns[300];

    for (int i = 0; i < c->count; i++)
        for (int j = 0; j < i && c->fields[i][0]; j++)
            if (strcmp(c->fields[i], c->fields[j]) == 0)
                FAIL(b->err, INLAY_ERR_FORMAT, "'%s' line %d: the column '%s' is there twice, as number %d and %d",
                     c->name, c->line, c->fields[i], j + 1, i + 1);
    for (int i = 0; i < COLUMNS; i++) {
        if (l->columns[i] >= 0)
            continue;
        dataset_list_text(columns, sizeof columns, (const char *const *)c->fields, c->count, 10);
        FAIL(b->err, INLAY_ERR_FORMAT, "'%s' line %d: no column '%s', found %s", c->name, c->line, column_names[i],
             columns);
    }
    return INLAY_OK;
}

static void note_unread_columns(const builder *b, const image_list *l)
{
    const csv *c = &l->file;
    names unread = {0};
    char text[300];

    for (int i = 0; i < c->count; i++)
        if (i != l->columns[PATH] && i != l->columns[LABEL])
            ARRAY_PUSH(unread.items, unread.count, unread.capacity,
                       c->fields[i][0] ? c->fields[i] : "(without a name)");
    dataset_list_text(text, sizeof text, unread.items, unread.count, 10);
    if (unread.count)
        notes_add(b->request->notes, "'%s': of its columns, path and label are read and these are not: %s", c->name,
                  text);
    free(unread.items);
}

static inlay_status read_header(builder *b, image_list *l)
{
    bool found;

    TRY(csv_next(&l->file, &found, b->err));
    if (!found)
        FAIL(b->err, INLAY_ERR_FORMAT, "'%s' is empty, expected a CSV list with the columns path and label",
             l->file.name);
    l->width = l->file.count;
    for (int i = 0; i < COLUMNS; i++)
        l->columns[i] = csv_column(&l->file, column_names[i]);
    TRY(check_columns(b, l));
    note_unread_columns(b, l);
    return INLAY_OK;
}

static inlay_status read_row(builder *b, image_list *l)
{
    const csv *c = &l->file;
    arena *memory = b->set->memory;
    csv_row row = {.line = c->line};

    if (c->count != l->width)
        FAIL(b->err, INLAY_ERR_FORMAT, "'%s' line %d: %d fields, the header has %d%s", c->name, c->line, c->count,
             l->width, c->count > l->width ? " (a field that holds the separator needs quotes)" : "");
    for (int i = 0; i < COLUMNS; i++)
        if (!c->fields[l->columns[i]][0])
            FAIL(b->err, INLAY_ERR_FORMAT, "'%s' line %d: the %s is empty", c->name, c->line, column_names[i]);
    if (!text_is_utf8(c->fields[l->columns[LABEL]]))
        FAIL(b->err, INLAY_ERR_FORMAT,
             "'%s' line %d: the label '%s' is not UTF-8 (a list in Latin-1 has to be saved as UTF-8)", c->name, c->line,
             text_escaped(memory, c->fields[l->columns[LABEL]]));
    if (!text_is_utf8(c->fields[l->columns[PATH]]) && l->odd_paths++ == 0)
        l->odd_line = c->line;
    row.path = path_join(memory, l->folder, c->fields[l->columns[PATH]]);
    row.label = arena_strdup(memory, c->fields[l->columns[LABEL]]);
    ARRAY_PUSH(l->rows, l->count, l->capacity, row);
    return INLAY_OK;
}

static inlay_status read_rows(builder *b, image_list *l)
{
    char *folder = arena_strdup(b->set->memory, b->request->path), *slash = strrchr(folder, '/');
    bool found = true;

    folder[slash ? slash + 1 - folder : 0] = '\0';
    l->folder = folder;
    TRY(read_header(b, l));
    for (;;) {
        TRY(csv_next(&l->file, &found, b->err));
        if (!found)
            break;
        TRY(read_row(b, l));
    }
    if (l->count == 0)
        FAIL(b->err, INLAY_ERR_FORMAT, "'%s' lists no images: there is nothing below its first line", l->file.name);
    if (l->odd_paths)
        notes_add(b->request->notes,
                  "'%s': %d paths are not UTF-8, the first in line %d; files are looked for under these very bytes",
                  l->file.name, l->odd_paths, l->odd_line);
    return INLAY_OK;
}

/* ---- images that are listed twice ---- */

static int by_path_and_line(const void *a, const void *b)
{
    const csv_row *x = a, *y = b;
    int order = strcmp(x->path, y->path);

    return order ? order : x->line - y->line;
}

/* Sorts the rows, which nothing reads in order any more. */
static void note_doubles(const builder *b, image_list *l)
{
    const csv_row *first[2] = {NULL, NULL};
    int count[2] = {0, 0};

    qsort(l->rows, (size_t)l->count, sizeof *l->rows, by_path_and_line);
    for (int i = 1; i < l->count; i++) {
        const csv_row *row = &l->rows[i];
        int other = strcmp(row[-1].label, row->label) != 0;
        if (strcmp(row[-1].path, row->path) != 0)
            continue;
        if (count[other]++ == 0)
            first[other] = row;
    }
    if (count[1])
        notes_fault(b->request->notes,
                    "'%s': %d images are listed again with another label, the first in line %d as '%s' and in line %d "
                    "as '%s': '%s'",
                    l->file.name, count[1], first[1][-1].line, first[1][-1].label, first[1]->line, first[1]->label,
                    first[1]->path);
    if (count[0])
        notes_add(b->request->notes,
                  "'%s': %d images are listed again with the same label, the first in lines %d and %d: '%s'",
                  l->file.name, count[0], first[0][-1].line, first[0]->line, first[0]->path);
}

/* ---- labels ---- */

static bool is_number(const char *text)
{
    return *text && text[strspn(text, "0123456789")] == '\0';
}

/* The number that the digits say; one that cannot count classes is INT32_MAX. */
static int number_of(const char *digits)
{
    digits += strspn(digits, "0");
    return strlen(digits) > 9 ? INT32_MAX : (int)strtol(digits, NULL, 10);
}

static int by_number(const void *a, const void *b)
{
    const char *x = *(const char *const *)a, *y = *(const char *const *)b, *p = x + strspn(x, "0"),
               *q = y + strspn(y, "0");
    size_t m = strlen(p), n = strlen(q);
    int order = m != n ? (m < n ? -1 : 1) : strcmp(p, q);

    return order ? order : strcmp(x, y);
}

static bool all_numbers(const char *const *texts, int count)
{
    for (int i = 0; i < count; i++)
        if (!is_number(texts[i]))
            return false;
    return true;
}

/* The labels, sorted as numbers when they are, each once. */
static void distinct_labels(const image_list *l, bool numbers, names *out)
{
    int kept = 0;

    for (int i = 0; i < l->count; i++)
        ARRAY_PUSH(out->items, out->count, out->capacity, l->rows[i].label);
    if (numbers)
        qsort(out->items, (size_t)out->count, sizeof *out->items, by_number);
    for (int i = 0; i < out->count; i++)
        if (kept == 0 || strcmp(out->items[kept - 1], out->items[i]) != 0)
            out->items[kept++] = out->items[i];
    out->count = kept;
}

/* Classes "0", "1", ... : numbers are their indices. */
static void count_classes(dataset *set, int count)
{
    set->numeric_labels = true;
    set->class_count = count;
    set->classes = ARENA_ARRAY(set->memory, const char *, count);
    for (int i = 0; i < count; i++)
        set->classes[i] = arena_printf(set->memory, "%d", i);
}

/* Numbers count classes where at least half of 0 ... largest occur: 1 ... 10 do. Years or postal codes do not, they are
 * names. */
static void settle_numbers(builder *b, const image_list *l, const names *found)
{
    dataset *set = b->set;
    int largest = number_of(found->items[found->count - 1]), values = 0;

    for (int i = 0; i < found->count; i++)
        values += i == 0 || number_of(found->items[i]) != number_of(found->items[i - 1]);
    if (b->request->class_count > 0 || largest < 2 * (int64_t)values) {
        count_classes(set, b->request->class_count > 0 ? b->request->class_count : largest + 1);
        return;
    }
    notes_add(
        b->request->notes,
        "'%s': the labels are numbers that leave out most of 0 ... %s; the %d that occur are the names of the classes",
        l->file.name, found->items[found->count - 1], found->count);
    set->class_count = found->count;
    set->classes = ARENA_ARRAY(set->memory, const char *, found->count);
    memcpy(set->classes, found->items, (size_t)found->count * sizeof *set->classes);
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

static const class_name *index_classes(const dataset *set)
{
    class_name *index = ARENA_ARRAY(set->memory, class_name, set->class_count ? set->class_count : 1);

    for (int i = 0; i < set->class_count; i++)
        index[i] = (class_name){set->classes[i], i};
    qsort(index, (size_t)set->class_count, sizeof *index, by_name);
    return index;
}

/* The classes of the list. Where the request names them, numbers are indices of classes unless they are, or could be,
 * among the names. */
static void settle_list_classes(builder *b, const image_list *l)
{
    const dataset_request *r = b->request;
    names found = {0};
    bool numbers = l->count > 0;

    for (int i = 0; i < l->count; i++)
        numbers = numbers && is_number(l->rows[i].label);
    distinct_labels(l, numbers, &found);
    if (numbers && !r->classes)
        settle_numbers(b, l, &found);
    else
        dataset_settle_classes(b, &found);
    if (r->classes)
        b->set->numeric_labels = numbers && !all_numbers(r->classes, r->class_count);
    free(found.items);
}

static inlay_status label_rows(builder *b, const image_list *l)
{
    dataset *set = b->set;
    const class_name *index;
    bool names_only = true;

    settle_list_classes(b, l);
    index = index_classes(set);
    for (int i = 0; i < l->count; i++)
        names_only = names_only && look_up(index, set->class_count, l->rows[i].label) >= 0;
    set->numeric_labels = set->numeric_labels && !(names_only && b->request->classes);
    for (int i = 0; i < l->count; i++) {
        const csv_row *row = &l->rows[i];
        int label = set->numeric_labels ? number_of(row->label) : look_up(index, set->class_count, row->label);
        if (label < 0 || label >= set->class_count)
            FAIL(b->err, INLAY_ERR_MISMATCH, "'%s' line %d: the label '%s' is none of the %d classes", b->request->path,
                 row->line, row->label, set->class_count);
        dataset_add_sample(b, row->path, label);
    }
    return INLAY_OK;
}

inlay_status dataset_read_list(builder *b)
{
    image_list l = {0};
    char *text;
    size_t size;
    inlay_status status;

    TRY(file_read(b->request->path, MAX_LIST_BYTES, &text, &size, b->err));
    csv_start(&l.file, text, size, b->request->path);
    status = read_rows(b, &l);
    if (status == INLAY_OK)
        status = label_rows(b, &l);
    if (status == INLAY_OK)
        note_doubles(b, &l);
    free(l.rows);
    csv_stop(&l.file);
    free(text);
    return status;
}
