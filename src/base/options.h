/* Options as data: one table row buys the flag, its environment variable, --help, the man page and the JSON spelling.
 *
 * A set of options is built from one or more tables (a subcommand's own and, for `train`, the chosen method's). Names
 * are spelled with underscores inside the program and in JSON ("drop_path"); on the command line dashes and underscores
 * are both accepted. */
#ifndef INLAY_BASE_OPTIONS_H
#define INLAY_BASE_OPTIONS_H

#include <stdio.h>

#include "base/notes.h"

/* OPTION_SIZE: bytes; a plain number is megabytes, else a unit follows: K, M, G, T (of 1000) or Ki, Mi, Gi, Ti (of
 * 1024), with a B behind it or not. */
typedef enum option_type {
    OPTION_FLAG,
    OPTION_INT,
    OPTION_REAL,
    OPTION_STRING,
    OPTION_CHOICE,
    OPTION_SIZE
} option_type;

typedef struct option_spec {
    const char *name; /* "weight_decay"; NULL ends a table */
    option_type type;
    const char *default_value; /* NULL: not set. A flag's default is NULL (off) */
    const char *choices;       /* OPTION_CHOICE: "none|fixed|learned|channel" */
    double low, high;          /* inclusive range of INT and REAL; both 0: any */
    const char *metavar;       /* "DIR", "N"; NULL: derived from the type */
    const char *help;          /* one sentence */
    bool repeatable;           /* OPTION_STRING: may be given several times */
} option_spec;

/* Rows of a table: name, then what the kind has of default, limits or choices, metavar and help. OPT_FLAG_ON: on by
 * default. OPT_LIST: a text that may be given several times. */
#define OPT_FLAG(name, help)                                   \
    {                                                          \
        name, OPTION_FLAG, NULL, NULL, 0, 0, NULL, help, false \
    }
#define OPT_FLAG_ON(name, help)                                  \
    {                                                            \
        name, OPTION_FLAG, "true", NULL, 0, 0, NULL, help, false \
    }
#define OPT_INT(name, value, low, high, metavar, help)                 \
    {                                                                  \
        name, OPTION_INT, value, NULL, low, high, metavar, help, false \
    }
#define OPT_REAL(name, value, low, high, metavar, help)                 \
    {                                                                   \
        name, OPTION_REAL, value, NULL, low, high, metavar, help, false \
    }
#define OPT_TEXT(name, value, metavar, help)                         \
    {                                                                \
        name, OPTION_STRING, value, NULL, 0, 0, metavar, help, false \
    }
#define OPT_LIST(name, value, metavar, help)                        \
    {                                                               \
        name, OPTION_STRING, value, NULL, 0, 0, metavar, help, true \
    }
#define OPT_CHOICE(name, value, choices, help)                       \
    {                                                                \
        name, OPTION_CHOICE, value, choices, 0, 0, NULL, help, false \
    }
#define OPT_SIZE(name, value, metavar, help)                       \
    {                                                              \
        name, OPTION_SIZE, value, NULL, 0, 0, metavar, help, false \
    }

typedef struct inlay_options options; /* the public handle */

options *options_new(void);
void options_free(options *o); /* NULL accepted */

/* Adds a table. `section` heads its part of --help ("Adapter", "Training"). */
void options_add_table(options *o, const char *section, const option_spec *specs);
/* options_add_table for a set that only names are looked up in: rows whose name is there already are left out. */
void options_add_names(options *o, const option_spec *specs);

/* Parses argv[first..]. `--name value`, `--name=value`, `--flag`, `--no-flag`; `--` ends options; other words are
 * positional; `-h` is `--help`. Unset options take INLAY_<NAME> from the environment (not `help` and `version`), then
 * the default. Of several numbers or choices the last counts, with a note; several texts of an option that is not
 * repeatable, and a flag with its opposite, are an error unless they are the same; what the command line gives replaces
 * what options_set gave before. Every error names the flag: unknown (with the nearest known name), missing value, not a
 * number, out of range, not one of the choices. Unknown names can be left for a second pass: see options_peek. */
inlay_status options_parse(options *o, int argc, char *const *argv, int first, inlay_error *err);

/* Adds a word as if it stood behind the options. */
void options_add_positional(options *o, const char *word);
/* Who the options are for, kept by the caller; NULL: nobody. */
void options_bind(options *o, const void *owner);
const void *options_owner(const options *o);
/* Row number `index` over all tables, and the section that it stands in; NULL: there is none. */
const option_spec *options_row(const options *o, int index, const char **section);

/* The value of --name in argv, else in INLAY_<NAME>, without parsing the rest (to find the method before its table is
 * known); NULL when absent. */
const char *options_peek(const char *name, int argc, char *const *argv, int first);

/* Variables INLAY_<NAME> that set nothing. `all` has the options of every subcommand. One that is nearly an option's is
 * an error; `note` is called for any other (the entry and the length of its name), unless its NAME begins, in small
 * letters, with one of `others` (ended by NULL). */
typedef void (*options_variable)(const char *entry, int length);
inlay_status options_check_environment(const options *all, char *const *environment, const char *const *others,
                                       options_variable tell, inlay_error *err);

/* Sets one option from text, checked as on the command line; `where` names the source in messages ("preset
 * adaptformer", a JSON file). */
inlay_status options_set(options *o, const char *name, const char *text, const char *where, inlay_error *err);

/* options_default from a file that others may have written: an option that names files or folders (its metavar begins
 * with DIR or FILE) is refused there unless it is empty, so that no file chooses what is opened. */
inlay_status options_set_foreign(options *o, const char *name, const char *text, const char *where, inlay_error *err);

/* Sets a default in place of the table's, checked as options_set checks: the user's word, and options_set, go first.
 * Such an option is not "given". */
inlay_status options_default(options *o, const char *name, const char *text, const char *where, inlay_error *err);

/* The next "name=value" of `list`, where a space stands between two of them, as presets and recipes are written: `pair`
 * [room] gets the name, *value is behind it there. False at the end of the list. */
bool options_next_pair(const char **list, char *pair, size_t room, const char **value);

bool options_given(const options *o, const char *name); /* set by the user: command line, environment or options_set */
bool options_has(const options *o, const char *name);   /* is in a table and has a value, given or by default */
bool options_flag(const options *o, const char *name);
int64_t options_int(const options *o, const char *name); /* of a SIZE: its bytes */
double options_real(const options *o, const char *name);
const char *options_string(const options *o,
                           const char *name);          /* also of a CHOICE, INT, REAL: its text; NULL when unset */
int options_count(const options *o, const char *name); /* repeatable: how many */
const char *options_at(const options *o, const char *name, int index);
int options_positionals(const options *o);
const char *options_positional(const options *o, int index);

/* `option` is read beside certain values of the option `of` only. */
typedef struct option_need {
    const char *option; /* NULL ends a table */
    const char *of;
    const char *values; /* "a|b": these; "!a|b": all but these; "": when it is not set or empty; NULL: when it is set */
} option_need;

/* The first option that is given and not read is an error that names both. NULL as table: nothing is asked. */
inlay_status options_check_needs(const options *o, const option_need *needs, inlay_error *err);
bool option_need_met(const options *o, const option_need *need);

/* What was parsed in a way that the user should know of. */
const notes *options_notes(const options *o);

/* Visits every option that has a value, in table order. */
typedef void (*options_visitor)(void *context, const option_spec *spec, const char *text);
void options_each(const options *o, const char *section, options_visitor visit, void *context); /* section NULL: all */

/* Writes the option list of --help, wrapped to 100 columns, by section. */
void options_help(const options *o, FILE *out);
/* Writes the OPTIONS section of a man page in mdoc. */
void options_mdoc(const options *o, FILE *out);

#endif
