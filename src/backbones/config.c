#include "backbones/config.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

const char *config_value_text(char room[64], const json_t *item)
{
    char *text = json_dumps(item, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(9));

    snprintf(room, 64, "%s", text ? text : "?");
    if (text && strlen(text) > 63)
        memcpy(room + 60, "...", 4);
    free(text);
    return room;
}

/* Whether `text` is one of the words of `list`. */
static bool is_among(const char *text, const char *list)
{
    size_t length = strlen(text);

    for (const char *at = list; (at = strstr(at, text)); at++)
        if ((at == list || at[-1] == ' ') && (at[length] == ' ' || !at[length]))
            return true;
    return false;
}

inlay_status config_check(backbone *b, const config_reader *r, const config_key *keys)
{
    const char *key;
    json_t *item;
    char room[64];

    json_object_foreach((json_t *)(uintptr_t)r->object, key, item)
    {
        const config_key *k = keys;
        while (k->name && strcmp(k->name, key) != 0)
            k++;
        if (!k->name)
            notes_add(&b->notes, "%s: '%s' is not known and was not used", r->path, key);
        else if (k->expected && !json_is_null(item) && !is_among(config_value_text(room, item), k->expected))
            FAIL(r->err, INLAY_ERR_UNSUPPORTED, "%s: '%s' is %s, which is not supported (expected %s)", r->path, key,
                 config_value_text(room, item), k->expected);
    }
    return INLAY_OK;
}

inlay_status config_flag(const config_reader *r, const char *key, bool *out)
{
    const json_t *item = json_object_get(r->object, key);
    char room[64];

    if (!item || json_is_null(item))
        return INLAY_OK;
    if (!json_is_boolean(item))
        FAIL(r->err, INLAY_ERR_FORMAT, "%s: '%s' is %s, expected true or false", r->path, key,
             config_value_text(room, item));
    *out = json_is_true(item);
    return INLAY_OK;
}

static bool positive(const json_t *item)
{
    return json_is_integer(item) && json_integer_value(item) >= 1 && json_integer_value(item) <= 1 << 24;
}

inlay_status config_size(const config_reader *r, const char *key, int64_t *height, int64_t *width)
{
    const json_t *item = json_object_get(r->object, key), *first = item, *second = item;

    if (!item || json_is_null(item))
        return INLAY_OK;
    if (json_is_array(item) && json_array_size(item) == 2) {
        first = json_array_get(item, 0);
        second = json_array_get(item, 1);
    }
    if (!positive(first) || !positive(second))
        FAIL(r->err, INLAY_ERR_FORMAT, "%s: '%s' must be a positive integer, or two", r->path, key);
    *height = json_integer_value(first);
    *width = json_integer_value(second);
    return INLAY_OK;
}

inlay_status config_int(const config_reader *r, const char *key, int64_t *out)
{
    int64_t second = *out;

    TRY(config_size(r, key, out, &second));
    if (*out != second)
        FAIL(r->err, INLAY_ERR_UNSUPPORTED, "%s: '%s' is %lld and %lld: two equal numbers, or one, are expected",
             r->path, key, (long long)*out, (long long)second);
    return INLAY_OK;
}

inlay_status config_real(const config_reader *r, const char *key, double low, double high, double *out)
{
    const json_t *item = json_object_get(r->object, key);

    if (!item || json_is_null(item))
        return INLAY_OK;
    if (!json_is_number(item) || json_number_value(item) < low || json_number_value(item) > high)
        FAIL(r->err, INLAY_ERR_FORMAT, "%s: '%s' must be a number between %g and %g", r->path, key, low, high);
    *out = json_number_value(item);
    return INLAY_OK;
}

const char *config_text(const config_reader *r, const char *key)
{
    return json_string_value(json_object_get(r->object, key));
}

static inlay_status not_channels(const config_reader *r, const char *key, const json_t *item)
{
    char room[64];

    FAIL(r->err, INLAY_ERR_FORMAT, "%s: '%s' is %s, expected an array of 3 finite numbers, or one number", r->path, key,
         config_value_text(room, item));
}

inlay_status config_channels(const config_reader *r, const char *key, double out[3])
{
    const json_t *item = json_object_get(r->object, key);
    size_t count = json_is_array(item) ? json_array_size(item) : 1;

    if (!item || json_is_null(item))
        return INLAY_OK;
    if (count != 3 && count != 1)
        return not_channels(r, key, item);
    for (size_t i = 0; i < 3; i++) {
        const json_t *number = json_is_array(item) ? json_array_get(item, count == 1 ? 0 : i) : item;
        if (!json_is_number(number) || !isfinite((float)json_number_value(number)))
            return not_channels(r, key, item);
        out[i] = json_number_value(number);
    }
    return INLAY_OK;
}

inlay_status config_check_normalisation(const char *path, const char *mean_key, const double mean[3],
                                        const char *std_key, const double std[3], inlay_error *err)
{
    for (int i = 0; i < 3; i++) {
        float m = (float)mean[i], s = (float)std[i];
        if (!(s > 0) || !isfinite(1 / s) || !isfinite(s))
            FAIL(err, INLAY_ERR_FORMAT,
                 "%s: '%s' has %g: a positive number is expected of which the inverse can be computed", path, std_key,
                 std[i]);
        if (!isfinite(m) || !isfinite(m / s) || !isfinite((1 - m) / s))
            FAIL(err, INLAY_ERR_FORMAT, "%s: '%s' has %g, with which pixels cannot be normalised ('%s' has %g)", path,
                 mean_key, mean[i], std_key, std[i]);
    }
    return INLAY_OK;
}

inlay_status config_activation(const config_reader *r, const char *key, activation *act)
{
    const char *name = config_text(r, key);

    if (name && !activation_from_name(name, act))
        FAIL(r->err, INLAY_ERR_UNSUPPORTED, "%s: '%s' is '%s', which is not a known activation", r->path, key, name);
    return INLAY_OK;
}
