/* Reading the keys of a checkpoint's JSON files, with errors that name file and key. A key that is missing or null leaves *out as it is. */
#ifndef INLAY_BACKBONES_CONFIG_H
#define INLAY_BACKBONES_CONFIG_H

#include <jansson.h>

#include "backbones/backbone.h"

/* An object of a JSON file: the whole of it or a part. */
typedef struct config_reader {
    const json_t *object;
    const char *path;
    inlay_error *err;
} config_reader;

/* A positive integer up to 2^24; of a pair the first. */
inlay_status config_int(const config_reader *r, const char *key, int64_t *out);
inlay_status config_real(const config_reader *r, const char *key, double low, double high, double *out);
const char *config_text(const config_reader *r, const char *key); /* NULL: missing, or no text */
/* Three numbers, one for each channel; of a key with "std" in its name they must be positive. */
inlay_status config_triple(const config_reader *r, const char *key, float out[3]);
inlay_status config_activation(const config_reader *r, const char *key, activation *act);

#endif
