#include "backbones/config.h"

#include <string.h>

inlay_status config_int(const config_reader *r, const char *key, int64_t *out)
{
    const json_t *item = json_object_get(r->object, key);

    if (!item || json_is_null(item))
        return INLAY_OK;
    if (json_is_array(item) && json_array_size(item) > 0) /* image_size and patch_size may be pairs; only squares are plain */
        item = json_array_get(item, 0);
    if (!json_is_integer(item) || json_integer_value(item) < 1 || json_integer_value(item) > 1 << 24)
        FAIL(r->err, INLAY_ERR_FORMAT, "%s: '%s' must be a positive integer", r->path, key);
    *out = json_integer_value(item);
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

inlay_status config_triple(const config_reader *r, const char *key, float out[3])
{
    const json_t *item = json_object_get(r->object, key);

    if (!item || json_is_null(item))
        return INLAY_OK;
    if (!json_is_array(item) || json_array_size(item) != 3)
        FAIL(r->err, INLAY_ERR_FORMAT, "%s: '%s' must be an array of 3 numbers", r->path, key);
    for (size_t i = 0; i < 3; i++) {
        if (!json_is_number(json_array_get(item, i)))
            FAIL(r->err, INLAY_ERR_FORMAT, "%s: '%s' must be an array of 3 numbers", r->path, key);
        out[i] = (float)json_number_value(json_array_get(item, i));
    }
    if (strstr(key, "std"))
        for (int i = 0; i < 3; i++)
            if (!(out[i] > 0))
                FAIL(r->err, INLAY_ERR_FORMAT, "%s: '%s' must be positive", r->path, key);
    return INLAY_OK;
}

inlay_status config_activation(const config_reader *r, const char *key, activation *act)
{
    const char *name = config_text(r, key);

    if (name && !activation_from_name(name, act))
        FAIL(r->err, INLAY_ERR_UNSUPPORTED, "%s: '%s' is '%s', which is not a known activation", r->path, key, name);
    return INLAY_OK;
}
