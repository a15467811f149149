/* What options.c (parsing) and options_help.c (explaining) share. */
#ifndef INLAY_BASE_OPTIONS_IMPL_H
#define INLAY_BASE_OPTIONS_IMPL_H

#include "base/options.h"

/* From the weakest to the strongest; a stronger source replaces what a weaker one gave. */
typedef enum source {
    FROM_NOTHING,
    FROM_DEFAULT,
    FROM_NEW_DEFAULT, /* options_default */
    FROM_ENVIRONMENT,
    FROM_CALLER,
    FROM_COMMAND_LINE
} source;

typedef struct slot {
    const option_spec *spec;
    const char *section;
    source from;
    const char **values; /* malloc'd, each text lives in the arena */
    int count, capacity;
    int64_t integer; /* of the last value of an INT, 0 or 1 of a FLAG */
    double real;
} slot;

struct inlay_options {
    arena *memory;
    const void *owner;
    slot *slots;
    int slot_count, slot_capacity;
    const char **positionals;
    int positional_count, positional_capacity;
    notes found; /* what was given and does not count */
};

#define NAME_SIZE 80 /* longer names are unknown ones */

/* "drop_path" becomes "drop-path" */
const char *options_outer_name(char out[NAME_SIZE], const char *name);

/* "a|b|c" as "a, b, c" */
char *options_list_choices(arena *memory, const char *choices);

#endif
