/* Names of a checkpoint's classes. */
#ifndef INLAY_BACKBONES_LABELS_H
#define INLAY_BACKBONES_LABELS_H

#include "backbones/config.h"

/* Reads the names under `key`: a list in the order of the classes, or an object from class number to name. A missing
 * key and null change nothing. */
inlay_status labels_read(backbone *b, const config_reader *r, const char *key);

/* Brings the names to the number of the head's classes: a class without a name has NULL. Another number of names is
 * noted. */
void labels_fit(backbone *b);

/* Replaces the names by those of a file: one a line, or JSON: a list, an object from class number to name, or an object
 * with one of the two under `id2label` or `label_names`. There must be as many as the head has classes. */
inlay_status labels_load(backbone *b, const char *path, inlay_error *err);

#endif
