/* Reading the keys of a checkpoint's JSON files, with errors that name file and key. A key that is missing or null
 * leaves *out as it is. */
#ifndef INLAY_BACKBONES_CONFIG_H
#define INLAY_BACKBONES_CONFIG_H

#include "backbones/backbone.h"
#include "base/json.h"

/* An object of a JSON file: the whole of it or a part. */
typedef struct config_reader {
    const json_t *object;
    const char *path;
    inlay_error *err;
} config_reader;

/* What becomes of a key: it is read, its value changes no answer, or only some values can be followed. */
typedef struct config_key {
    const char *name;
    const char *harmless; /* why its value changes no answer; NULL: it is read, or `expected` says all */
    const char *expected; /* the values that are supported, as JSON, separated by spaces; NULL: every value */
} config_key;

/* Goes through every key of the object. Keys that the table (ended by {0}) does not have are noted by name, values that
 * are not expected are an error. null is always taken for a key that is missing. */
inlay_status config_check(backbone *b, const config_reader *r, const config_key *keys);

/* true or false; anything else is an error. */
inlay_status config_flag(const config_reader *r, const char *key, bool *out);
/* The value as JSON text for messages, cut where it is long. */
const char *config_value_text(char room[64], const json_t *item);

/* A positive integer up to 2^24; or two that are equal. */
inlay_status config_int(const config_reader *r, const char *key, int64_t *out);
/* A side in pixels, or height and width. */
inlay_status config_size(const config_reader *r, const char *key, int64_t *height, int64_t *width);
inlay_status config_real(const config_reader *r, const char *key, double low, double high, double *out);
const char *config_text(const config_reader *r, const char *key); /* NULL: missing, or no text */
/* Three finite numbers, one a channel; or one for all of them. */
inlay_status config_channels(const config_reader *r, const char *key, double out[3]);
/* Whether all of (x - mean) / std, x from 0 to 1, can be computed in floats: names the key that is in the way. */
inlay_status config_check_normalisation(const char *path, const char *mean_key, const double mean[3],
                                        const char *std_key, const double std[3], inlay_error *err);
inlay_status config_activation(const config_reader *r, const char *key, activation *act);

#endif
