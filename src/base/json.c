#include "base/json.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/foreign.h"
#include "base/text.h"

#define LARGEST_FILE ((size_t)1 << 28)

static _Thread_local bool lost;

int json_kept(int result)
{
    lost = lost || result != 0;
    return result;
}

bool json_lost(void)
{
    bool was = lost;

    lost = false;
    return was;
}

json_t *json_copied(const json_t *root)
{
    json_t *made = (json_deep_copy)(root);

    if (json_equal(made, root))
        return made;
    json_decref(made);
    json_kept(root ? -1 : 0);
    return NULL;
}

typedef struct text_buffer {
    char *bytes;
    size_t used, room;
    bool failed; /* once and for all: jansson goes on behind a key that it could not put */
} text_buffer;

static int add(const char *bytes, size_t size, void *context)
{
    text_buffer *b = context;

    if (!b->failed && b->used + size + 1 > b->room) {
        size_t room = 2 * (b->used + size + 64);
        char *grown = realloc(b->bytes, room);
        b->failed = !grown;
        b->bytes = grown ? grown : b->bytes;
        b->room = grown ? room : b->room;
    }
    if (b->failed)
        return -1;
    memcpy(b->bytes + b->used, bytes, size);
    b->used += size;
    b->bytes[b->used] = '\0';
    return 0;
}

char *json_whole(const json_t *root, size_t flags)
{
    text_buffer b = {0};

    if (!json_lost() && json_dump_callback(root, add, &b, flags) == 0 && !b.failed)
        return b.bytes;
    free(b.bytes);
    return NULL;
}

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

json_t *json_joined(json_t *object, json_t *more)
{
    if (object && more) {
        json_object_update_new(object, more);
        return object;
    }
    json_decref(object);
    json_decref(more);
    return NULL;
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
    if (text_is_utf8(path))
        return;
    digits = malloc(2 * strlen(path) + 1);
    if (!digits) {
        json_kept(-1);
        return;
    }
    for (size_t i = 0; path[i]; i++)
        snprintf(digits + 2 * i, 3, "%02x", (unsigned char)path[i]);
    snprintf(name, sizeof name, "%s_bytes", key);
    json_object_set_new(object, name, json_string(digits));
    free(digits);
}

inlay_status json_encode(char **out, const json_t *root, size_t flags, const char *what, inlay_error *err)
{
    bool part = json_lost();

    *out = part ? NULL : json_dumps(root, flags);
    if (!*out && root && !part)
        FAIL(err, INLAY_ERR_NOMEM, "out of memory writing %s as JSON", what);
    if (!*out)
        FAIL(err, INLAY_ERR_FORMAT,
             "%s cannot be written as JSON: %s could not be made, for lack of memory or since a number is not finite",
             what, part ? "a part of it" : "it");
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
