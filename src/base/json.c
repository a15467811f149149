#include "base/json.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/foreign.h"
#include "base/text.h"

#define LARGEST_FILE ((size_t)1 << 28)

json_t *json_build(const char *what, inlay_error *err, const char *format, ...)
{
    json_error_t where;
    va_list args;
    json_t *made;

    va_start(args, format);
    made = json_vpack_ex(&where, 0, format, args);
    va_end(args);
    if (!made)
        error_set(err, INLAY_ERR_FORMAT, "%s cannot be written as JSON: %s", what,
                  strstr(where.text, "floating point") ? "a number in it is not finite"
                  : strstr(where.text, "UTF-8")        ? "a text in it is not UTF-8"
                                                       : where.text);
    return made;
}

json_t *json_text(const char *bytes)
{
    static const char replacement[] = "\xef\xbf\xbd";
    char *text = malloc(3 * strlen(bytes) + 1), *at = text;
    json_t *made;

    if (!text)
        return NULL;
    while (*bytes) {
        size_t length = text_character(bytes);
        memcpy(at, length ? bytes : replacement, length ? length : 3);
        at += length ? length : 3;
        bytes += length ? length : 1;
    }
    *at = '\0';
    made = json_string_nocheck(text);
    free(text);
    return made;
}

void json_set_path(json_t *object, const char *key, const char *path)
{
    char *digits, name[64];

    json_object_set_new(object, key, json_text(path));
    if (text_is_utf8(path) || !(digits = malloc(2 * strlen(path) + 1)))
        return;
    for (size_t i = 0; path[i]; i++)
        snprintf(digits + 2 * i, 3, "%02x", (unsigned char)path[i]);
    snprintf(name, sizeof name, "%s_bytes", key);
    json_object_set_new(object, name, json_string(digits));
    free(digits);
}

inlay_status json_encode(char **out, const json_t *root, size_t flags, const char *what, inlay_error *err)
{
    *out = json_dumps(root, flags);
    if (!*out)
        FAIL(err, INLAY_ERR_FORMAT, "%s cannot be written as JSON", what);
    return INLAY_OK;
}

inlay_status json_print(const json_t *root, FILE *out, const char *what, inlay_error *err)
{
    char *text;

    TRY(json_encode(&text, root, JSON_ANSWER, what, err));
    fprintf(out, "%s\n", text);
    free(text);
    return INLAY_OK;
}

inlay_status json_read(json_t **out, const char *path, inlay_error *err)
{
    json_error_t where = {.line = -1};
    const char *what = NULL;
    size_t size;
    char *text;

    *out = NULL;
    if (file_is_stream(path)) /* a pipe in the place of config.json would be waited for */
        FAIL(err, INLAY_ERR_IO, "'%s' is not a regular file", path);
    TRY(file_read_stream(path, LARGEST_FILE, &text, &size,
                         err)); /* not mapped: a disk that fails is an error then, no signal */
    *out = json_loadb(text, size, JSON_REJECT_DUPLICATES, &where);
    if (!*out)
        what = foreign_bytes(text, size);
    free(text);
    if (*out)
        return INLAY_OK;
    if (what)
        FAIL(err, INLAY_ERR_FORMAT, "%s: this is %s", path, what);
    if (where.line < 0) /* no place is at fault */
        FAIL(err, INLAY_ERR_NOMEM, "out of memory reading '%s'", path);
    FAIL(err, INLAY_ERR_FORMAT, "%s: line %d, column %d: %s", path, where.line, where.column, where.text);
}
