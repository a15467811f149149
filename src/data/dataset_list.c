/* A CSV list of images: columns, rows, and what their targets mean. */
#include "data/dataset_impl.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "data/csv.h"

#define MAX_LIST_BYTES ((size_t)1 << 30)

/* The columns that are read; that of the target has the name that a task gives it. */
enum { PATH, TARGET, COLUMNS };

typedef struct csv_row {
    const char *path, *target;
    int line;
} csv_row;

typedef struct image_list {
    csv file;
    int width;            /* columns of the header */
    int columns[COLUMNS]; /* where they stand in it */
    const char *names[COLUMNS];
    const char *folder; /* that paths are relative to */
    csv_row *rows;
    int count, capacity;
    int odd_paths, odd_line; /* paths that are not UTF-8: how many, line of the first */
} image_list;

/* ---- columns and rows ---- */

/* " (or 'target', 'labels')": the columns by which the other tasks are known. */
static const char *other_columns(const builder *b)
{
    const char *text = " (or";

    for (int i = 1; task_table[i]; i++)
        text = arena_printf(b->set->memory, "%s%s '%s'", text, i > 1 ? "," : "", task_table[i]->column);
    return arena_printf(b->set->memory, "%s)", text);
}

/* Which task the list is for, and the column of its targets: that of the task that is asked for, or else of another
 * one, whose texts it reads in its own way. */
static void find_target(builder *b, image_list *l)
{
    const task_desc *asked = b->request->task;

    b->set->task = asked ? asked : task_table[0];
    l->names[TARGET] = b->set->task->column;
    l->columns[TARGET] = csv_column(&l->file, l->names[TARGET]);
    for (int i = 0; task_table[i] && l->columns[TARGET] < 0; i++) {
        l->columns[TARGET] = csv_column(&l->file, task_table[i]->column);
        if (l->columns[TARGET] < 0)
            continue;
        l->names[TARGET] = task_table[i]->column;
        b->set->task = asked ? asked : task_table[i];
    }
}

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
        FAIL(b->err, INLAY_ERR_FORMAT, "'%s' line %d: no column '%s'%s, found %s", c->name, c->line, l->names[i],
             i == PATH || b->request->task ? "" : other_columns(b), columns);
    }
    return INLAY_OK;
}

static void note_unread_columns(const builder *b, const image_list *l)
{
    const csv *c = &l->file;
    names unread = {0};
    char text[300];

    for (int i = 0; i < c->count; i++)
        if (i != l->columns[PATH] && i != l->columns[TARGET])
            ARRAY_PUSH(unread.items, unread.count, unread.capacity,
                       c->fields[i][0] ? c->fields[i] : "(without a name)");
    dataset_list_text(text, sizeof text, unread.items, unread.count, 10);
    if (unread.count)
        notes_add(b->request->notes, "'%s': of its columns, path and %s are read and these are not: %s", c->name,
                  l->names[TARGET], text);
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
    l->names[PATH] = "path";
    l->columns[PATH] = csv_column(&l->file, l->names[PATH]);
    find_target(b, l);
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
        if (!c->fields[l->columns[i]][0] && (i == PATH || b->set->task->one_class || !b->set->task->classes))
            FAIL(b->err, INLAY_ERR_FORMAT, "'%s' line %d: the field '%s' is empty", c->name, c->line, l->names[i]);
    if (!text_is_utf8(c->fields[l->columns[TARGET]]))
        FAIL(b->err, INLAY_ERR_FORMAT,
             "'%s' line %d: the %s '%s' is not UTF-8 (a list in Latin-1 has to be saved as UTF-8)", c->name, c->line,
             l->names[TARGET], text_escaped(memory, c->fields[l->columns[TARGET]]));
    if (!text_is_utf8(c->fields[l->columns[PATH]]) && l->odd_paths++ == 0)
        l->odd_line = c->line;
    row.path = path_join(memory, l->folder, c->fields[l->columns[PATH]]);
    row.target = arena_strdup(memory, c->fields[l->columns[TARGET]]);
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

/* Notes images that are listed twice; sorts the rows, which nothing reads in order any more. */
static void note_doubles(const builder *b, image_list *l)
{
    const csv_row *first[2] = {NULL, NULL};
    int count[2] = {0, 0};

    qsort(l->rows, (size_t)l->count, sizeof *l->rows, by_path_and_line);
    for (int i = 1; i < l->count; i++) {
        const csv_row *row = &l->rows[i];
        int other = strcmp(row[-1].target, row->target) != 0;
        if (strcmp(row[-1].path, row->path) != 0)
            continue;
        if (count[other]++ == 0)
            first[other] = row;
    }
    if (count[1])
        notes_fault(b->request->notes,
                    "'%s': %d images are listed again with another %s, the first in line %d as '%s' and in line %d "
                    "as '%s': '%s'",
                    l->file.name, count[1], l->names[TARGET], first[1][-1].line, first[1][-1].target, first[1]->line,
                    first[1]->target, first[1]->path);
    if (count[0])
        notes_add(b->request->notes,
                  "'%s': %d images are listed again with the same %s, the first in lines %d and %d: '%s'", l->file.name,
                  count[0], l->names[TARGET], first[0][-1].line, first[0]->line, first[0]->path);
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

/* Finds the labels, sorted as numbers when they are, each once. */
static void distinct_labels(const image_list *l, bool numbers, names *out)
{
    int kept = 0;

    for (int i = 0; i < l->count; i++)
        ARRAY_PUSH(out->items, out->count, out->capacity, l->rows[i].target);
    if (numbers)
        qsort(out->items, (size_t)out->count, sizeof *out->items, by_number);
    for (int i = 0; i < out->count; i++)
        if (kept == 0 || strcmp(out->items[kept - 1], out->items[i]) != 0)
            out->items[kept++] = out->items[i];
    out->count = kept;
}

/* Makes the classes "0", "1", ... : numbers are their indices. */
static void count_classes(dataset *set, int count)
{
    set->numeric_labels = true;
    set->class_count = count;
    set->classes = ARENA_ARRAY(set->memory, const char *, count);
    for (int i = 0; i < count; i++)
        set->classes[i] = arena_printf(set->memory, "%d", i);
}

/* Settles what numbers are: they count classes where at least half of 0 ... largest occur, as 1 ... 10 do. Years or
 * postal codes do not, they are names. */
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

/* Settles the classes of the list. Where the request names them, numbers are indices of classes unless they are, or
 * could be, among the names. */
static void settle_list_classes(builder *b, const image_list *l)
{
    const dataset_request *r = b->request;
    names found = {0};
    bool numbers = l->count > 0;

    for (int i = 0; i < l->count; i++)
        numbers = numbers && is_number(l->rows[i].target);
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
        names_only = names_only && look_up(index, set->class_count, l->rows[i].target) >= 0;
    set->numeric_labels = set->numeric_labels && !(names_only && b->request->classes);
    for (int i = 0; i < l->count; i++) {
        const csv_row *row = &l->rows[i];
        int label = set->numeric_labels ? number_of(row->target) : look_up(index, set->class_count, row->target);
        if (label < 0 || label >= set->class_count)
            FAIL(b->err, INLAY_ERR_MISMATCH, "'%s' line %d: the label '%s' is none of the %d classes", b->request->path,
                 row->line, row->target, set->class_count);
        dataset_add_sample(b, row->path, label, NULL);
    }
    return INLAY_OK;
}

/* ---- several labels, with ';' between ---- */

/* The part of a text up to the next ';', without blanks around it; `*at` goes behind it, NULL at the end. */
static const char *next_part(arena *memory, const char **at)
{
    const char *begin = *at + strspn(*at, " \t"), *end = begin + strcspn(begin, ";");
    char *part;

    *at = *end ? end + 1 : NULL;
    while (end > begin && (end[-1] == ' ' || end[-1] == '\t'))
        end--;
    part = ARENA_ARRAY(memory, char, end - begin + 1);
    memcpy(part, begin, (size_t)(end - begin));
    return part;
}

static inlay_status collect_names(builder *b, const image_list *l, names *found)
{
    for (int i = 0; i < l->count; i++)
        for (const char *at = l->rows[i].target; at && *at;) {
            const char *name = next_part(b->set->memory, &at);
            if (!*name)
                FAIL(b->err, INLAY_ERR_FORMAT, "'%s' line %d: '%s' has a label without a name", b->request->path,
                     l->rows[i].line, l->rows[i].target);
            ARRAY_PUSH(found->items, found->count, found->capacity, name);
        }
    if (found->count == 0)
        FAIL(b->err, INLAY_ERR_FORMAT, "'%s' has no label in any line", b->request->path);
    return INLAY_OK;
}

/* One number for each class: 1 where the image has it. */
static inlay_status name_rows(builder *b, const image_list *l)
{
    dataset *set = b->set;
    const class_name *index;
    names found = {0};
    inlay_status status = collect_names(b, l, &found);

    if (status == INLAY_OK)
        dataset_settle_classes(b, &found);
    free(found.items);
    TRY(status);
    index = index_classes(set);
    for (int i = 0; i < l->count; i++) {
        const csv_row *row = &l->rows[i];
        float *target = ARENA_ARRAY(set->memory, float, set->class_count);
        for (const char *at = row->target; at && *at;) {
            const char *name = next_part(set->memory, &at);
            int class = look_up(index, set->class_count, name);
            if (class < 0)
                FAIL(b->err, INLAY_ERR_MISMATCH, "'%s' line %d: the label '%s' is none of the %d classes",
                     b->request->path, row->line, name, set->class_count);
            target[class] = 1;
        }
        dataset_add_sample(b, row->path, 0, target);
    }
    return INLAY_OK;
}

/* ---- numbers, with ';' between where there are several ---- */

static inlay_status measure_rows(builder *b, const image_list *l)
{
    dataset *set = b->set;
    int wanted = b->request->class_count;

    for (int i = 0; i < l->count; i++) {
        const csv_row *row = &l->rows[i];
        float *target;
        int count = 1, found = 0;
        for (const char *p = row->target; *p; p++)
            count += *p == ';';
        if (wanted && count != wanted)
            FAIL(b->err, INLAY_ERR_MISMATCH, "'%s' line %d: the target '%s' has %d numbers, %d are expected",
                 b->request->path, row->line, row->target, count, wanted);
        wanted = count;
        target = ARENA_ARRAY(set->memory, float, count);
        for (const char *at = row->target; at;) {
            const char *text = next_part(set->memory, &at);
            double x;
            if (!text_to_real(text, &x) || fabs(x) > (double)FLT_MAX)
                FAIL(b->err, INLAY_ERR_FORMAT, "'%s' line %d: the target '%s' is not a finite number", b->request->path,
                     row->line, text);
            target[found++] = (float)x;
        }
        dataset_add_sample(b, row->path, 0, target);
    }
    set->outputs = wanted;
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
        status = b->set->task->one_class ? label_rows(b, &l)
                 : b->set->task->classes ? name_rows(b, &l)
                                         : measure_rows(b, &l);
    if (status == INLAY_OK)
        note_doubles(b, &l);
    free(l.rows);
    csv_stop(&l.file);
    free(text);
    return status;
}
