#include "base/text.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

/* ---- short texts ---- */

const char *text_size(char out[TEXT_SHORT], uint64_t bytes)
{
    static const char *const units[] = {"kB", "MB", "GB", "TB", "PB", "EB"};
    double value = (double)bytes / 1000;
    int unit = 0;

    if (bytes < 1000) {
        snprintf(out, TEXT_SHORT, "%d B", (int)bytes);
        return out;
    }
    while (value >= 999.5 && unit < 5) { /* what would be printed as 1000 belongs to the next unit */
        value /= 1000;
        unit++;
    }
    snprintf(out, TEXT_SHORT, value < 99.95 ? "%.1f %s" : "%.0f %s", value, units[unit]);
    return out;
}

const char *text_duration(char out[TEXT_SHORT], double seconds)
{
    double whole = floor(seconds + 0.5);

    if (!isfinite(seconds) || seconds < 0 || seconds > 1e9)
        snprintf(out, TEXT_SHORT, "-");
    else if (seconds < 9.95)
        snprintf(out, TEXT_SHORT, "%.1f s", seconds);
    else if (whole < 60)
        snprintf(out, TEXT_SHORT, "%.0f s", whole);
    else if (whole < 3600)
        snprintf(out, TEXT_SHORT, "%d min %02d s", (int)whole / 60, (int)whole % 60);
    else if (whole < 86400)
        snprintf(out, TEXT_SHORT, "%d h %02d min", (int)whole / 3600, (int)whole % 3600 / 60);
    else
        snprintf(out, TEXT_SHORT, "%d d %02d h", (int)whole / 86400, (int)whole % 86400 / 3600);
    return out;
}

const char *text_count(char out[TEXT_SHORT], int64_t count)
{
    char digits[24];
    int length = snprintf(digits, sizeof digits, "%" PRId64, count), used = 0;

    for (int i = 0; i < length; i++) {
        if (i > 0 && digits[i - 1] != '-' && (length - i) % 3 == 0)
            out[used++] = ',';
        out[used++] = digits[i];
    }
    out[used] = '\0';
    return out;
}

const char *text_quantity(char out[TEXT_SHORT], double quantity)
{
    double size = fabs(quantity);

    if (!isfinite(quantity))
        snprintf(out, TEXT_SHORT, "-");
    else if (size >= 1e15)
        snprintf(out, TEXT_SHORT, "%.3g", quantity);
    else if (size >= 99.95)
        text_count(out, llround(quantity));
    else
        snprintf(out, TEXT_SHORT, "%.*f",
                 size >= 9.995                  ? 1
                 : size >= 0.9995               ? 2
                 : size >= 0.09995 || size == 0 ? 3
                                                : 4,
                 quantity);
    return out;
}

const char *text_fixed(char out[TEXT_SHORT], double value, int decimals)
{
    int64_t unit = 1, scaled, size;

    for (int i = 0; i < decimals; i++)
        unit *= 10;
    if (!(fabs(value) * (double)unit < 1e15)) {
        snprintf(out, TEXT_SHORT, "-");
        return out;
    }
    scaled = llround(value * (double)unit);
    size = scaled < 0 ? -scaled : scaled;
    if (decimals == 0)
        snprintf(out, TEXT_SHORT, "%" PRId64, scaled);
    else
        snprintf(out, TEXT_SHORT, "%s%" PRId64 ".%0*" PRId64, scaled < 0 ? "-" : "", size / unit, decimals,
                 size % unit);
    return out;
}

/* ---- columns ---- */

static bool takes_column(char c)
{
    return (c & 0xc0) != 0x80 && (unsigned char)c >= 0x20 && c != 0x7f;
}

int text_columns(const char *text)
{
    int columns = 0;

    for (; *text; text++)
        columns += takes_column(*text);
    return columns;
}

size_t text_fit(const char *text, int columns)
{
    size_t length = 0;

    while (text[length]) {
        if (takes_column(text[length]) && columns-- <= 0)
            break;
        length++;
    }
    return length;
}

/* ---- text from outside ---- */

size_t text_character(const char *text)
{
    const unsigned char *s = (const unsigned char *)text;
    size_t length = s[0] < 0x80                   ? s[0] != 0
                    : s[0] >= 0xc2 && s[0] < 0xe0 ? 2
                    : (s[0] & 0xf0) == 0xe0       ? 3
                    : s[0] >= 0xf0 && s[0] < 0xf5 ? 4
                                                  : 0;

    for (size_t i = 1; i < length; i++)
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] >= 0xa0) || (s[0] == 0xf0 && s[1] < 0x90) ||
        (s[0] == 0xf4 && s[1] >= 0x90))
        return 0;
    return length;
}

bool text_is_utf8(const char *text)
{
    size_t length;

    while ((length = text_character(text)) > 0)
        text += length;
    return *text == '\0';
}

/* The next piece of `text` as a terminal may have it, in at most 8 bytes and a NUL; returns how many bytes of `text` it
 * stands for. */
static size_t clean_piece(char piece[9], const char *text)
{
    const unsigned char *s = (const unsigned char *)text;
    size_t length = text_character(text), taken = length ? length : 1;

    memcpy(piece, text, taken);
    piece[taken] = '\0';
    if (s[0] < 0x20 || s[0] == 0x7f || (length == 0 && s[0] < 0xa0))
        snprintf(piece, 9, "\\x%02x", s[0]);
    else if (length == 2 && s[0] == 0xc2 && s[1] < 0xa0)
        snprintf(piece, 9, "\\x%02x\\x%02x", s[0], s[1]);
    return taken;
}

char *text_clean(char *out, size_t size, const char *text)
{
    size_t used = 0;

    while (*text) {
        char piece[9];
        size_t taken = clean_piece(piece, text), length = strlen(piece);
        if (used + length >= size)
            break;
        memcpy(out + used, piece, length);
        used += length;
        text += taken;
    }
    out[used] = '\0';
    return out;
}

void text_put(FILE *out, const char *text)
{
    while (*text) {
        char piece[9];
        text += clean_piece(piece, text);
        fputs(piece, out);
    }
}

void text_vline(FILE *out, const char *format, va_list args)
{
    arena *memory = arena_new();

    text_put(out, arena_vprintf(memory, format, args));
    fputc('\n', out);
    arena_free(memory);
}

void text_line(FILE *out, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    text_vline(out, format, args);
    va_end(args);
}

char *text_escaped(arena *a, const char *text)
{
    char *made = arena_alloc(a, 8 * strlen(text) + 1), *out = made;

    while (*text) {
        char piece[9];
        size_t taken = clean_piece(piece, text);
        if (text_character(text) == 0)
            snprintf(piece, sizeof piece, "\\x%02x", (unsigned char)*text);
        memcpy(out, piece, strlen(piece));
        out += strlen(piece);
        text += taken;
    }
    *out = '\0';
    return made;
}

void text_wrap(FILE *out, const char *text, int at, int indent, int width)
{
    bool first = true; /* on its line */

    for (text += strspn(text, " "); *text; text += strspn(text, " ")) {
        size_t length = strcspn(text, " ");
        int columns = 0;
        for (size_t i = 0; i < length; i++)
            columns += takes_column(text[i]);
        if (!first && at + 1 + columns > width) {
            fprintf(out, "\n%*s", indent, "");
            at = indent;
            first = true;
        }
        fprintf(out, "%s%.*s", first ? "" : " ", (int)length, text);
        at += columns + !first;
        first = false;
        text += length;
    }
    fputc('\n', out);
}

/* ---- tables ---- */

typedef struct column {
    const char *title;
    text_align align;
    int width;
} column;

struct text_table {
    arena *memory;
    column *columns;
    int column_count, column_capacity;
    const char **cells;
    int cell_count, cell_capacity;
};

text_table *text_table_new(void)
{
    arena *memory = arena_new();
    text_table *t = ARENA_NEW(memory, text_table);

    t->memory = memory;
    return t;
}

void text_table_free(text_table *t)
{
    if (!t)
        return;
    free(t->columns);
    free(t->cells);
    arena_free(t->memory);
}

void text_table_column(text_table *t, const char *title, text_align align)
{
    column c = {arena_strdup(t->memory, title), align, text_columns(title)};

    assert(t->cell_count == 0 && "columns are declared before cells");
    ARRAY_PUSH(t->columns, t->column_count, t->column_capacity, c);
}

void text_table_cell(text_table *t, const char *format, ...)
{
    char *text, *clean;
    va_list args;
    column *c;
    size_t size;

    assert(t->column_count > 0 && "columns are declared before cells");
    c = &t->columns[t->cell_count % t->column_count];
    va_start(args, format);
    text = arena_vprintf(t->memory, format, args);
    va_end(args);
    size = 4 * strlen(text) + 1; /* four for each byte at most */
    clean = arena_alloc(t->memory, size);
    text_clean(clean, size, text);
    if (text_columns(clean) > c->width)
        c->width = text_columns(clean);
    ARRAY_PUSH(t->cells, t->cell_count, t->cell_capacity, clean);
}

void text_table_end_row(text_table *t)
{
    while (t->column_count && t->cell_count % t->column_count)
        text_table_cell(t, "%s", "");
}

int text_table_rows(const text_table *t)
{
    return t->column_count ? (t->cell_count + t->column_count - 1) / t->column_count : 0;
}

static void print_cell(const text_table *t, int index, const char *text, FILE *out)
{
    const column *c = &t->columns[index];
    int room = c->width - text_columns(text);
    bool last = index + 1 == t->column_count;

    if (c->align == TEXT_RIGHT)
        fprintf(out, "%*s%s", room, "", text);
    else
        fprintf(out, "%s%*s", text, last ? 0 : room, "");
    fputs(last ? "\n" : "  ", out);
}

static void print_titles(const text_table *t, int indent, FILE *out)
{
    fprintf(out, "%*s", indent, "");
    for (int i = 0; i < t->column_count; i++)
        print_cell(t, i, t->columns[i].title, out);
    fprintf(out, "%*s", indent, "");
    for (int i = 0; i < t->column_count; i++) {
        for (int k = 0; k < t->columns[i].width; k++)
            fputc('-', out);
        fputs(i + 1 == t->column_count ? "\n" : "  ", out);
    }
}

void text_table_print(const text_table *t, int indent, FILE *out)
{
    int rows = text_table_rows(t);
    bool titled = false;

    for (int i = 0; i < t->column_count; i++)
        titled = titled || t->columns[i].title[0];
    if (titled)
        print_titles(t, indent, out);
    for (int row = 0; row < rows; row++) {
        fprintf(out, "%*s", indent, "");
        for (int i = 0; i < t->column_count; i++) {
            int index = row * t->column_count + i;
            print_cell(t, i, index < t->cell_count ? t->cells[index] : "", out);
        }
    }
}

/* ---- comma-separated values ---- */

void text_csv_field(FILE *out, const char *text)
{
    size_t length = strlen(text);
    bool edges = length && (text[0] == ' ' || text[length - 1] == ' '); /* some readers strip them */

    if (!edges && !strpbrk(text, ",\"\r\n")) {
        fputs(text, out);
        return;
    }
    fputc('"', out);
    for (; *text; text++) {
        if (*text == '"')
            fputc('"', out);
        fputc(*text, out);
    }
    fputc('"', out);
}

void text_csv_matrix(FILE *out, const char *corner, const char *const *labels, const int *counts, int64_t size)
{
    text_csv_field(out, corner);
    for (int64_t j = 0; j < size; j++) {
        fputc(',', out);
        text_csv_field(out, labels[j]);
    }
    fputc('\n', out);
    for (int64_t i = 0; i < size; i++) {
        text_csv_field(out, labels[i]);
        for (int64_t j = 0; j < size; j++)
            fprintf(out, ",%d", counts[i * size + j]);
        fputc('\n', out);
    }
}

bool text_to_real(const char *text, double *out)
{
    char *end;

    if (!*text || text[strspn(text, "+-.0123456789eE")])
        return false;
    *out = strtod(text, &end);
    return !*end && isfinite(*out);
}
