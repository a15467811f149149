/* JSON that is written: numbers and texts that have no JSON form are an error with its cause, or are replaced; they are
 * never left out. */
#ifndef INLAY_BASE_JSON_H
#define INLAY_BASE_JSON_H

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

#include "base/status.h"

/* json_pack that says why it made nothing: a number that is not finite, a text that is not UTF-8. `what` names the
 * record in the message. NULL: failed. */
json_t *json_build(const char *what, inlay_error *err, const char *format, ...);
/* `object` with the keys of `more`, both taken over; NULL where either could not be made. */
json_t *json_joined(json_t *object, json_t *more);

/* A text from outside (a path, a label): every byte that is not UTF-8 becomes U+FFFD. */
json_t *json_text(const char *bytes);
/* Sets `key` to json_text(path); where bytes were replaced, `key`_bytes holds all of the path's bytes as hexadecimal
 * digits. */
void json_set_path(json_t *object, const char *key, const char *path);

/* `root` as text, released with free(). NULL as root, or a part of it that could not be made, is an error that names
 * `what`. */
inlay_status json_encode(char **out, const json_t *root, size_t flags, const char *what, inlay_error *err);
/* An answer: indented, in the order in which it was built, with a line feed. That it could be written is seen when
 * `out` is closed. */
inlay_status json_print(const json_t *root, FILE *out, const char *what, inlay_error *err);

/* A JSON file that the user named or that belongs to what he named, released with json_decref. Errors name line and
 * column, or what the file is instead; a key that occurs twice is an error. */
inlay_status json_read(json_t **out, const char *path, inlay_error *err);

/* What is built key by key would lack, without a word, the key whose memory was refused. So every call below that puts
 * something into an object or a list is looked at, for each thread; nothing becomes text, by json_dumps or json_encode,
 * after one that failed. */
int json_kept(int result);
/* Whether such a call has failed since it was last asked or text was refused: for what is compared and never
 * written. */
bool json_lost(void);
json_t *json_copied(const json_t *root); /* NULL unless it is equal */
char *json_whole(const json_t *root, size_t flags);

/* jansson's functions of these names; a macro does not call itself */
#define json_object_set_new(object, key, item) json_kept(json_object_set_new(object, key, item))
#define json_object_set(object, key, item) json_kept(json_object_set(object, key, item))
#define json_object_update_new(object, other) json_kept(json_object_update_new(object, other))
#define json_array_append_new(list, item) json_kept(json_array_append_new(list, item))
#define json_deep_copy(root) json_copied(root)
#define json_dumps(root, flags) json_whole(root, flags)

#define JSON_ANSWER (JSON_INDENT(2) | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(9))

#endif
