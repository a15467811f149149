/* Options that are of use beside certain values of another option only: given elsewhere they would be passed over in
 * silence, which is an error. */
#include <stdlib.h>
#include <string.h>

#include "base/options_impl.h"

static bool says(const option_spec *spec, const char *value, const char *text, size_t length)
{
    if (spec->type == OPTION_REAL || spec->type == OPTION_INT)
        return strtod(value, NULL) == strtod(text, NULL);
    return strlen(value) == length && strncmp(value, text, length) == 0;
}

/* Whether `value` is one of "a|b|c". */
static bool among(const option_spec *spec, const char *value, const char *list)
{
    for (;; list++) {
        size_t length = strcspn(list, "|");
        if (says(spec, value, list, length))
            return true;
        list += length;
        if (!*list)
            return false;
    }
}

static const option_spec *spec_of(const options *o, const char *name)
{
    for (int i = 0; i < o->slot_count; i++)
        if (strcmp(o->slots[i].spec->name, name) == 0)
            return o->slots[i].spec;
    return NULL;
}

bool option_need_met(const options *o, const option_need *need)
{
    const char *value = options_string(o, need->of);
    const option_spec *spec = spec_of(o, need->of);

    if (!value)
        value = "";
    if (!need->values)
        return *value != '\0';
    return *need->values == '!' ? !among(spec, value, need->values + 1) : among(spec, value, need->values);
}

/* A list of values as words: "a|b|c" is "a, b or c". */
static const char *either(arena *memory, const char *list)
{
    const char *text = "";

    while (*list) {
        size_t length = strcspn(list, "|");
        const char *gap = !*text ? "" : list[length] ? ", " : " or ";
        text = arena_printf(memory, "%s%s%.*s", text, gap, (int)length, list);
        list += length + (list[length] == '|');
    }
    return text;
}

static inlay_status refuse(const options *o, const option_need *need, inlay_error *err)
{
    char option[NAME_SIZE], of[NAME_SIZE];
    const char *value = options_string(o, need->of), *values = need->values;
    bool flag = spec_of(o, need->of)->type == OPTION_FLAG;

    options_outer_name(option, need->option);
    options_outer_name(of, need->of);
    if (!values || (flag && strcmp(values, "true") == 0))
        FAIL(err, INLAY_ERR_USAGE, "--%s: with --%s only", option, of);
    if (!*values || (flag && strcmp(values, "false") == 0))
        FAIL(err, INLAY_ERR_USAGE, "--%s: of no use with --%s", option, of);
    if (*values == '!')
        FAIL(err, INLAY_ERR_USAGE, "--%s: of no use with --%s %s", option, of, value);
    FAIL(err, INLAY_ERR_USAGE, "--%s: of --%s %s only; this run has %s", option, of, either(o->memory, values), value);
}

inlay_status options_check_needs(const options *o, const option_need *needs, inlay_error *err)
{
    for (; needs && needs->option; needs++)
        if (options_given(o, needs->option) && !option_need_met(o, needs))
            return refuse(o, needs, err);
    return INLAY_OK;
}
