/* Text for people: sizes, durations, counts, wrapped paragraphs, aligned tables; and quoted fields for spreadsheets. */
#ifndef INLAY_BASE_TEXT_H
#define INLAY_BASE_TEXT_H

#include <stdio.h>

#include "base/arena.h"

#define TEXT_SHORT 32 /* room for each of the short texts below; the functions return `out` */

const char *text_size(char out[TEXT_SHORT], uint64_t bytes); /* "512 B", "664 kB", "22.9 MB": powers of 1000 */
const char *text_duration(char out[TEXT_SHORT],
                          double seconds); /* "3.2 s", "42 s", "3 min 05 s", "2 h 07 min", "3 d 04 h" */
const char *text_count(char out[TEXT_SHORT], int64_t count); /* "1,234,567" */
const char *text_quantity(char out[TEXT_SHORT],
                          double quantity); /* three digits: "0.0123", "87.3", "1,234"; "-" when not finite */
/* `value` with `decimals` digits (0 to 9) behind a point, whatever the locale: "0.50", "-3", "0.0" for what rounds to
 * it from below; "-" when it is not finite or has more than 15 digits in all. */
const char *text_fixed(char out[TEXT_SHORT], double value, int decimals);

/* Columns that UTF-8 text takes on a terminal, one for each code point. Control bytes take none. */
int text_columns(const char *text);
/* Bytes of the longest beginning of `text` that fits in `columns`; never splits a character. */
size_t text_fit(const char *text, int columns);

/* Bytes of the UTF-8 character that `text` begins with; 0: it begins with none (the end, a byte that is not UTF-8, a
 * surrogate, an overlong form). */
size_t text_character(const char *text);
bool text_is_utf8(const char *text);
/* A finite decimal number and nothing else: no blanks, hexadecimal, "inf" or "nan", which strtod takes as well. */
bool text_to_real(const char *text, double *out);
/* Text that came from a file or a name of one, for a terminal: bytes that could move the cursor, change colours or
 * forge a line (below 0x20, 0x7f, and U+0080 to U+009F, encoded or as bare bytes) become \xNN; all else stays.
 * text_clean cuts what does not fit in `size` and returns `out`. */
char *text_clean(char *out, size_t size, const char *text);
void text_put(FILE *out, const char *text);
/* Prints a line as printf does, cleaned as text_clean does; the line feed is added. */
void text_line(FILE *out, const char *format, ...) __attribute__((format(printf, 2, 3)));
void text_vline(FILE *out, const char *format, va_list args);
/* `text` cleaned as text_clean does, with bare bytes that are not UTF-8 as \xNN as well: text that JSON can
 * hold, too. */
char *text_escaped(arena *a, const char *text);

/* Writes `text` wrapped at spaces to `width` columns and ends the line. The cursor stands at column `at`;
 * further lines are indented by `indent`. */
void text_wrap(FILE *out, const char *text, int at, int indent, int width);

/* A table for the terminal. Columns are declared first, then cells are added row by row, from left to right. */
typedef enum text_align { TEXT_LEFT, TEXT_RIGHT } text_align;
typedef struct text_table text_table;
text_table *text_table_new(void);
void text_table_free(text_table *t); /* NULL accepted */
void text_table_column(text_table *t, const char *title, text_align align);
void text_table_cell(text_table *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
void text_table_end_row(text_table *t); /* fills the rest of a row that was begun with empty cells */
int text_table_rows(const text_table *t);
/* Titles (unless all are empty), a rule, rows; columns are two spaces apart and every line begins with `indent` spaces.
 */
void text_table_print(const text_table *t, int indent, FILE *out);

/* One field of comma-separated values (RFC 4180), quoted when it has to be; the caller writes commas and line ends. */
void text_csv_field(FILE *out, const char *text);
/* A square matrix with its labels: first line `corner` and the columns' labels, then one line a row. counts[size,
 * size]. */
void text_csv_matrix(FILE *out, const char *corner, const char *const *labels, const int *counts, int64_t size);

#endif
