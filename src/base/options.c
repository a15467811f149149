#include "base/options_impl.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- finding ---- */

/* The inner spelling of a name: dashes become underscores. False: too long for any option. */
static bool inner_name(char out[NAME_SIZE], const char *name, size_t length)
{
    if (length >= NAME_SIZE)
        return false;
    for (size_t i = 0; i < length; i++)
        out[i] = name[i] == '-' ? '_' : name[i];
    out[length] = '\0';
    return true;
}

const char *options_outer_name(char out[NAME_SIZE], const char *name)
{
    size_t i = 0;

    for (; name[i] && i + 1 < NAME_SIZE; i++)
        out[i] = name[i] == '_' ? '-' : name[i];
    out[i] = '\0';
    return out;
}

static slot *find(const options *o, const char *name)
{
    char inner[NAME_SIZE];

    if (inner_name(inner, name, strlen(name)))
        for (int i = 0; i < o->slot_count; i++)
            if (strcmp(o->slots[i].spec->name, inner) == 0)
                return &o->slots[i];
    return NULL;
}

static const slot *expect(const options *o, const char *name)
{
    const slot *s = find(o, name);

    assert(s && "no option of this name in the tables");
    return s;
}

/* Edit distance with exchanges of neighbours (optimal string alignment); both names are shorter than NAME_SIZE. */
static int distance(const char *a, const char *b)
{
    int rows[3][NAME_SIZE], *before = rows[0], *last = rows[1], *now = rows[2];
    int m = (int)strlen(a), n = (int)strlen(b);

    for (int j = 0; j <= n; j++)
        last[j] = before[j] = j;
    for (int i = 1; i <= m; i++) {
        int *spare = before;
        now[0] = i;
        for (int j = 1; j <= n; j++) {
            int best = last[j - 1] + (a[i - 1] != b[j - 1]);
            if (last[j] + 1 < best)
                best = last[j] + 1;
            if (now[j - 1] + 1 < best)
                best = now[j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && before[j - 2] + 1 < best)
                best = before[j - 2] + 1;
            now[j] = best;
        }
        before = last;
        last = now;
        now = spare;
    }
    return last[n];
}

/* The known name that the user may have meant; NULL when none is near. */
static const char *nearest(const options *o, const char *inner)
{
    size_t length = strlen(inner);
    int bound = length < 4 ? 1 : length < 8 ? 2 : 3, best = bound + 1;
    const char *found = NULL;

    for (int i = 0; i < o->slot_count; i++) {
        const char *name = o->slots[i].spec->name;
        int d = distance(inner, name);
        if (length >= 3 &&
            strncmp(inner, name, length) == 0) /* the beginning of a name is as good as a slip of one letter */
            d = d < 1 ? d : 1;
        if (d < best) {
            best = d;
            found = name;
        }
    }
    return found;
}

static inlay_status unknown(const options *o, const char *word, size_t length, const char *where, inlay_error *err)
{
    char inner[NAME_SIZE], outer[NAME_SIZE];
    size_t dashes = where ? 0 : strspn(word, "-");
    bool negated = dashes == 2 && (strncmp(word + 2, "no-", 3) == 0 || strncmp(word + 2, "no_", 3) == 0);
    const char *near = NULL, *prefix = where ? "" : "--";

    dashes = dashes < length ? dashes : length;
    if (inner_name(inner, word + dashes, length - dashes))
        near = nearest(o, inner);
    if (!near && negated && inner_name(inner, word + 5, length - 5) && (near = nearest(o, inner)) != NULL)
        prefix = find(o, near)->spec->type == OPTION_FLAG ? "--no-" : "--";
    if (near && !where)
        near = options_outer_name(outer, near);
    if (near)
        FAIL(err, INLAY_ERR_USAGE, "%s%sunknown option '%.*s', did you mean '%s%s'?", where ? where : "",
             where ? ": " : "", (int)length, word, prefix, near);
    FAIL(err, INLAY_ERR_USAGE, "%s%sunknown option '%.*s'", where ? where : "", where ? ": " : "", (int)length, word);
}

/* ---- values ---- */

static inlay_status check_range(const slot *s, double value, const char *text, const char *where, inlay_error *err)
{
    if ((s->spec->low != 0 || s->spec->high != 0) && (value < s->spec->low || value > s->spec->high))
        FAIL(err, INLAY_ERR_USAGE, "%s: %s is out of range, expected %.10g to %.10g", where, text, s->spec->low,
             s->spec->high);
    return INLAY_OK;
}

static bool is_choice(const char *choices, const char *text)
{
    size_t wanted = strlen(text);

    while (*choices) {
        size_t length = strcspn(choices, "|");
        if (length == wanted && strncmp(choices, text, length) == 0)
            return true;
        choices += length + (choices[length] == '|');
    }
    return false;
}

char *options_list_choices(arena *memory, const char *choices)
{
    char *list = arena_strdup(memory, "");

    while (*choices) {
        size_t length = strcspn(choices, "|");
        list = arena_printf(memory, "%s%s%.*s", list, *list ? ", " : "", (int)length, choices);
        choices += length + (choices[length] == '|');
    }
    return list;
}

/* Whether `text` can be a decimal number and nothing else: strtod also takes leading spaces, hexadecimal, "inf" and
 * "nan". */
static bool looks_decimal(const char *text)
{
    return text[0] != '\0' && text[strspn(text, "+-.0123456789eE")] == '\0';
}

/* Reads a size as bytes: "512", "2G", "1.5 GiB". */
static inlay_status read_size(slot *s, const char *text, const char *where, inlay_error *err)
{
    static const char units[] = "KMGT";
    bool good = text[0] >= '0' && text[0] <= '9';
    double value = 0, unit = 1e6;

    if (good) {
        char *end;
        const char *letter;
        value = strtod(text, &end);
        end += strspn(end, " ");
        letter = *end ? strchr(units, toupper((unsigned char)*end)) : NULL;
        if (letter) {
            unit = pow(end[1] == 'i' ? 1024 : 1000, (double)(letter - units + 1));
            end += end[1] == 'i' ? 2 : 1;
            end += *end == 'B' || *end == 'b';
        }
        good = *end == '\0' && !strpbrk(text, "xXeE");
    }
    if (!good)
        FAIL(err, INLAY_ERR_USAGE, "%s: expected a size such as 512 (megabytes), 800M, 2G or 1.5GiB, found '%s'", where,
             text);
    if (!(value * unit < 9e18))
        FAIL(err, INLAY_ERR_USAGE, "%s: %s is out of range, expected less than 9000000T", where, text);
    s->integer = (int64_t)(value * unit);
    s->real = (double)s->integer;
    return INLAY_OK;
}

static inlay_status read_value(options *o, slot *s, const char **text, const char *where, inlay_error *err)
{
    static const char *const on[] = {"true", "yes", "on", "1"}, *const off[] = {"false", "no", "off", "0"};
    long long integer;
    char *end;

    errno = 0;
    switch (s->spec->type) {
    case OPTION_FLAG:
        for (int i = 0; i < 4; i++)
            if (strcmp(*text, on[i]) == 0 || strcmp(*text, off[i]) == 0) {
                s->integer = strcmp(*text, on[i]) == 0;
                *text = s->integer ? "true" : "false";
                return INLAY_OK;
            }
        FAIL(err, INLAY_ERR_USAGE, "%s: expected 'true' or 'false', found '%s'", where, *text);
    case OPTION_INT:
        integer = strtoll(*text, &end, 10);
        if (!looks_decimal(*text) || *end || errno == EINVAL)
            FAIL(err, INLAY_ERR_USAGE, "%s: expected a whole number, found '%s'", where, *text);
        if (errno == ERANGE)
            FAIL(err, INLAY_ERR_USAGE, "%s: %s is out of range", where, *text);
        TRY(check_range(s, (double)integer, *text, where, err));
        s->integer = integer;
        s->real = (double)integer;
        *text = arena_printf(o->memory, "%lld", integer);
        return INLAY_OK;
    case OPTION_REAL:
        s->real = strtod(*text, &end);
        if (!looks_decimal(*text) || *end)
            FAIL(err, INLAY_ERR_USAGE, "%s: expected a number, found '%s'", where, *text);
        if (!isfinite(s->real))
            FAIL(err, INLAY_ERR_USAGE, "%s: %s is out of range", where, *text);
        return check_range(s, s->real, *text, where, err);
    case OPTION_CHOICE:
        if (!is_choice(s->spec->choices, *text))
            FAIL(err, INLAY_ERR_USAGE, "%s: '%s' is not one of %s", where, *text,
                 options_list_choices(o->memory, s->spec->choices));
        return INLAY_OK;
    case OPTION_STRING:
        return INLAY_OK;
    case OPTION_SIZE:
        return read_size(s, *text, where, err);
    }
    FAIL(err, INLAY_ERR_INTERNAL, "%s: option of an unknown type", where);
}

/* Two values of one option on the command line: one of them is passed over. The same one twice is no contradiction; a
 * number or a choice behind another is how scripts change their defaults, and is noted; two names may have been meant
 * as a list, and a flag and its opposite leave open what is wanted: errors. */
static inlay_status check_repeated(options *o, const slot *s, const char *text, inlay_error *err)
{
    char name[NAME_SIZE];
    const char *outer = options_outer_name(name, s->spec->name), *earlier = s->count ? s->values[s->count - 1] : "";

    if (s->from != FROM_COMMAND_LINE || s->spec->repeatable || strcmp(earlier, text) == 0)
        return INLAY_OK;
    if (s->spec->type == OPTION_FLAG)
        FAIL(err, INLAY_ERR_USAGE, "--%s and --no-%s are given: one of them", outer, outer);
    if (s->spec->type == OPTION_STRING)
        FAIL(err, INLAY_ERR_USAGE, "--%s is given twice: '%s' and '%s'", outer, earlier, text);
    notes_add(&o->found, "--%s is given twice, %s and %s: the last counts", outer, earlier, text);
    return INLAY_OK;
}

/* Gives `s` a value. A stronger source replaces what a weaker one gave; the values of a repeatable option are collected
 * while they come from the same source. */
static inlay_status give(options *o, slot *s, const char *text, source from, const char *where, inlay_error *err)
{
    slot read = *s;

    TRY(read_value(o, &read, &text, where, err));
    if (from == FROM_COMMAND_LINE)
        TRY(check_repeated(o, s, text, err));
    s->integer = read.integer;
    s->real = read.real;
    if (s->from != from || !s->spec->repeatable)
        s->count = 0;
    s->from = from;
    ARRAY_PUSH(s->values, s->count, s->capacity, arena_strdup(o->memory, text));
    return INLAY_OK;
}

/* ---- building ---- */

options *options_new(void)
{
    arena *memory = arena_new();
    options *o = ARENA_NEW(memory, options);

    o->memory = memory;
    return o;
}

void options_free(options *o)
{
    if (!o)
        return;
    for (int i = 0; i < o->slot_count; i++)
        free(o->slots[i].values);
    free(o->slots);
    free(o->positionals);
    notes_free(&o->found);
    arena_free(o->memory);
}

void options_add_table(options *o, const char *section, const option_spec *specs)
{
    for (; specs->name; specs++) {
        slot s = {.spec = specs, .section = section};
        const char *text = specs->type == OPTION_FLAG && !specs->default_value ? "false" : specs->default_value;
        inlay_status status = text ? give(o, &s, text, FROM_DEFAULT, specs->name, NULL) : INLAY_OK;
        assert(!find(o, specs->name) && "two options of one name");
        assert(status == INLAY_OK && "a default that its own row refuses");
        (void)status;
        ARRAY_PUSH(o->slots, o->slot_count, o->slot_capacity, s);
    }
}

void options_add_names(options *o, const option_spec *specs)
{
    for (; specs->name; specs++) {
        slot s = {.spec = specs, .section = ""};
        if (!find(o, specs->name))
            ARRAY_PUSH(o->slots, o->slot_count, o->slot_capacity, s);
    }
}

/* ---- parsing ---- */

/* Can `word` be the value of the option before it? "--name" cannot: a forgotten value would swallow the next option.
 * `--a=--b` says it openly. */
static bool is_value(const char *word)
{
    return word && strncmp(word, "--", 2) != 0;
}

/* The length of the name in "--name" or "--name=value"; *value is what follows the sign, or NULL. */
static size_t split(const char *word, const char **value)
{
    size_t length = strcspn(word, "=");

    *value = word[length] ? word + length + 1 : NULL;
    return length;
}

static inlay_status parse_option(options *o, int argc, char *const *argv, int *index, inlay_error *err)
{
    const char *word = argv[*index], *value;
    size_t length = split(word, &value);
    char name[NAME_SIZE], where[NAME_SIZE + 2] = "--";
    bool negated = false;
    slot *s = inner_name(name, word + 2, length - 2) ? find(o, name) : NULL;

    if (!s && length - 2 < NAME_SIZE && strncmp(name, "no_", 3) == 0) {
        s = find(o, name + 3);
        negated = s != NULL;
    }
    if (!s)
        return unknown(o, word, length, NULL, err);
    options_outer_name(where + 2, s->spec->name);
    if (negated && s->spec->type != OPTION_FLAG)
        FAIL(err, INLAY_ERR_USAGE, "%.*s: '%s' takes a value and cannot be switched off", (int)length, word, where);
    if (negated && value)
        FAIL(err, INLAY_ERR_USAGE, "%.*s takes no value, found '%s'", (int)length, word, value);
    if (s->spec->type == OPTION_FLAG)
        return give(o, s, negated ? "false" : value ? value : "true", FROM_COMMAND_LINE, where, err);
    if (!value) {
        if (*index + 1 >= argc || !is_value(argv[*index + 1]))
            FAIL(err, INLAY_ERR_USAGE, "%s: a value is missing", where);
        value = argv[++*index];
    }
    return give(o, s, value, FROM_COMMAND_LINE, where, err);
}

/* Parses a word with one dash: "-h" is --help, "-" and negative numbers are positional. */
static inlay_status parse_dash(options *o, const char *word, bool *positional, inlay_error *err)
{
    slot *help = find(o, "help");

    *positional = word[1] == '\0' || (looks_decimal(word) && strpbrk(word, "0123456789"));
    if (*positional)
        return INLAY_OK;
    if (strcmp(word, "-h") == 0 && help && help->spec->type == OPTION_FLAG)
        return give(o, help, "true", FROM_COMMAND_LINE, "-h", err);
    return unknown(o, word, strcspn(word, "="), NULL, err);
}

static bool has_variable(const option_spec *spec)
{
    return strcmp(spec->name, "help") != 0 && strcmp(spec->name, "version") != 0;
}

/* The variable of an option: INLAY_DROP_PATH of "drop_path". */
static const char *variable_of(char out[NAME_SIZE + 8], const char *name)
{
    size_t length = 6;

    memcpy(out, "INLAY_", 6);
    for (; *name && length < NAME_SIZE + 7; name++)
        out[length++] = (char)toupper((unsigned char)*name);
    out[length] = '\0';
    return out;
}

static inlay_status read_environment(options *o, inlay_error *err)
{
    for (int i = 0; i < o->slot_count; i++) {
        slot *s = &o->slots[i];
        char variable[NAME_SIZE + 8], where[NAME_SIZE + 40];
        const char *text = has_variable(s->spec) ? getenv(variable_of(variable, s->spec->name)) : NULL;
        if (!text || !*text || s->from > FROM_ENVIRONMENT)
            continue;
        snprintf(where, sizeof where, "environment variable %s", variable);
        TRY(give(o, s, text, FROM_ENVIRONMENT, where, err));
    }
    return INLAY_OK;
}

inlay_status options_parse(options *o, int argc, char *const *argv, int first, inlay_error *err)
{
    bool ended = false;

    for (int i = first; i < argc; i++) {
        const char *word = argv[i];
        bool positional = ended || word[0] != '-';
        if (!positional && strcmp(word, "--") == 0) {
            ended = true;
            continue;
        }
        if (!positional && word[1] == '-')
            TRY(parse_option(o, argc, argv, &i, err));
        else if (!positional)
            TRY(parse_dash(o, word, &positional, err));
        if (positional)
            options_add_positional(o, word);
    }
    return read_environment(o, err);
}

void options_add_positional(options *o, const char *word)
{
    ARRAY_PUSH(o->positionals, o->positional_count, o->positional_capacity, arena_strdup(o->memory, word));
}

const char *options_peek(const char *name, int argc, char *const *argv, int first)
{
    char wanted[NAME_SIZE], found[NAME_SIZE], variable[NAME_SIZE + 8];
    const char *result = NULL, *value;

    if (!inner_name(wanted, name, strlen(name)))
        return NULL;
    for (int i = first; i < argc && strcmp(argv[i], "--") != 0; i++) {
        size_t length = split(argv[i], &value);
        if (strncmp(argv[i], "--", 2) != 0 || !inner_name(found, argv[i] + 2, length - 2) || strcmp(found, wanted) != 0)
            continue;
        if (!value && i + 1 < argc && is_value(argv[i + 1]))
            value = argv[++i];
        result = value;
    }
    value = result ? NULL : getenv(variable_of(variable, wanted));
    return value && *value ? value : result;
}

inlay_status options_set(options *o, const char *name, const char *text, const char *where, inlay_error *err)
{
    slot *s = find(o, name);
    char *place;

    if (!s)
        return unknown(o, name, strlen(name), where, err);
    place = arena_printf(o->memory, "%s: %s", where, s->spec->name);
    return give(o, s, text, FROM_CALLER, place, err);
}

static bool names_files(const option_spec *spec)
{
    return spec->metavar && (strncmp(spec->metavar, "DIR", 3) == 0 || strncmp(spec->metavar, "FILE", 4) == 0);
}

inlay_status options_set_foreign(options *o, const char *name, const char *text, const char *where, inlay_error *err)
{
    const slot *s = find(o, name);

    if (s && *text && names_files(s->spec))
        FAIL(err, INLAY_ERR_FORMAT,
             "%s: option '%s' names files and is for the command line only; in a file it is empty, found '%s'", where,
             name, text);
    return options_default(o, name, text, where, err);
}

inlay_status options_default(options *o, const char *name, const char *text, const char *where, inlay_error *err)
{
    slot *s = find(o, name);

    if (!s)
        return unknown(o, name, strlen(name), where, err);
    if (s->from > FROM_NEW_DEFAULT)
        return INLAY_OK;
    return give(o, s, text, FROM_NEW_DEFAULT, arena_printf(o->memory, "%s: %s", where, s->spec->name), err);
}

bool options_next_pair(const char **list, char *pair, size_t room, const char **value)
{
    size_t length = strcspn(*list, " "), equals;

    if (!length)
        return false;
    assert(length < room && "a pair that there is no room for");
    snprintf(pair, room, "%.*s", (int)length, *list);
    equals = strcspn(pair, "=");
    *value = pair + equals + (pair[equals] == '=');
    pair[equals] = '\0';
    *list += length + ((*list)[length] == ' ');
    return true;
}

/* ---- asking ---- */

/* INLAY_<NAME> in small letters without its beginning: the name that an option of this variable would have. NULL: not
 * such a variable, or an empty one. */
static const char *name_in_variable(char out[NAME_SIZE], const char *entry)
{
    const char *begin;
    size_t length;

    if (strncmp(entry, "INLAY_", strlen("INLAY_")) != 0)
        return NULL;
    begin = entry + strlen("INLAY_");
    length = strcspn(begin, "=");
    if (length >= NAME_SIZE || begin[length] == '\0' || begin[length + 1] == '\0')
        return NULL;
    for (size_t i = 0; i < length; i++)
        out[i] = (char)tolower((unsigned char)begin[i]);
    out[length] = '\0';
    return out;
}

static bool has_prefix_of(const char *name, const char *const *prefixes)
{
    for (; *prefixes; prefixes++)
        if (strncmp(name, *prefixes, strlen(*prefixes)) == 0)
            return true;
    return false;
}

inlay_status options_check_environment(const options *all, char *const *environment, const char *const *others,
                                       options_variable tell, inlay_error *err)
{
    for (; *environment; environment++) {
        char name[NAME_SIZE] = "", near_variable[NAME_SIZE + 8];
        const char *known = name_in_variable(name, *environment), *near;
        int length = (int)strcspn(*environment, "=");
        if (!known || find(all, name) || has_prefix_of(name, others))
            continue;
        near = nearest(all, name);
        if (near)
            FAIL(err, INLAY_ERR_USAGE, "environment variable %.*s is not known, did you mean %s?", length, *environment,
                 variable_of(near_variable, near));
        tell(*environment, length);
    }
    return INLAY_OK;
}

bool options_given(const options *o, const char *name)
{
    return expect(o, name)->from > FROM_NEW_DEFAULT;
}

bool options_has(const options *o, const char *name)
{
    const slot *s = find(o, name);

    return s && s->count > 0;
}

bool options_flag(const options *o, const char *name)
{
    return expect(o, name)->integer != 0;
}

int64_t options_int(const options *o, const char *name)
{
    return expect(o, name)->integer;
}

double options_real(const options *o, const char *name)
{
    return expect(o, name)->real;
}

const char *options_string(const options *o, const char *name)
{
    const slot *s = expect(o, name);

    return s->count ? s->values[s->count - 1] : NULL;
}

int options_count(const options *o, const char *name)
{
    return expect(o, name)->count;
}

const char *options_at(const options *o, const char *name, int index)
{
    const slot *s = expect(o, name);

    return index >= 0 && index < s->count ? s->values[index] : NULL;
}

void options_bind(options *o, const void *owner)
{
    o->owner = owner;
}

const void *options_owner(const options *o)
{
    return o->owner;
}

const option_spec *options_row(const options *o, int index, const char **section)
{
    if (index < 0 || index >= o->slot_count)
        return NULL;
    *section = o->slots[index].section;
    return o->slots[index].spec;
}

int options_positionals(const options *o)
{
    return o->positional_count;
}

const char *options_positional(const options *o, int index)
{
    return index >= 0 && index < o->positional_count ? o->positionals[index] : NULL;
}

const notes *options_notes(const options *o)
{
    return &o->found;
}

void options_each(const options *o, const char *section, options_visitor visit, void *context)
{
    for (int i = 0; i < o->slot_count; i++) {
        const slot *s = &o->slots[i];
        for (int k = 0; k < s->count && (!section || strcmp(section, s->section) == 0); k++)
            visit(context, s->spec, s->values[k]);
    }
}
