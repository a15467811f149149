/* Any bytes as a text from outside: what a terminal, a table, a CSV or a JSON file get of it has no control characters
 * and is UTF-8 where it must be. */
#include "fuzz.h"

#include "base/json.h"
#include "base/text.h"

#define ROOM 40

static bool has_controls(const char *text)
{
    for (const unsigned char *s = (const unsigned char *)text; *s; s++)
        if (*s < 0x20 || *s == 0x7f || (*s == 0xc2 && s[1] >= 0x80 && s[1] < 0xa0))
            return true;
    return false;
}

static void write_all(FILE *nowhere, const char *text)
{
    text_put(nowhere, text);
    text_wrap(nowhere, text, 3, 2, 20);
    text_csv_field(nowhere, text);
}

static void put_in_table(FILE *nowhere, const char *text)
{
    text_table *t = text_table_new();

    text_table_column(t, "", TEXT_LEFT);
    text_table_column(t, "n", TEXT_RIGHT);
    text_table_cell(t, "%s", text);
    text_table_cell(t, "%s", text);
    text_table_end_row(t);
    text_table_print(t, 1, nowhere);
    text_table_free(t);
}

static void as_json(const char *text)
{
    json_t *o = json_object(), *whole = json_text(text);
    char *line = NULL;
    inlay_error err;

    FUZZ_MUST(o && whole && text_is_utf8(json_string_value(whole)));
    json_set_path(o, "path", text);
    FUZZ_MUST(json_encode(&line, o, JSON_COMPACT, "fuzz", &err) == INLAY_OK);
    free(line);
    json_decref(whole);
    json_decref(o);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static FILE *nowhere;
    arena *memory = arena_new();
    char *text = calloc(1, size + 1), *escaped, clean[ROOM];

    nowhere = nowhere ? nowhere : fopen("/dev/null", "w");
    FUZZ_MUST(text && nowhere);
    memcpy(text, data, size);
    escaped = text_escaped(memory, text);
    FUZZ_MUST(text_is_utf8(escaped) && !has_controls(escaped));
    text_clean(clean, size ? 1 + data[0] % ROOM : ROOM, text);
    FUZZ_MUST(!has_controls(clean));
    FUZZ_MUST(text_fit(text, 10) <= strlen(text) && text_columns(text) <= (int)strlen(text));
    write_all(nowhere, text);
    put_in_table(nowhere, escaped);
    as_json(text);
    free(text);
    arena_free(memory);
    return 0;
}
