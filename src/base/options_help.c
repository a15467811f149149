/* --help and the man page's OPTIONS, from the same tables that are parsed. */
#include "base/options_impl.h"

#include <ctype.h>
#include <string.h>

#include "base/text.h"

#define HELP_WIDTH 100
#define HELP_COLUMN 28

static const char *metavar(const option_spec *spec)
{
    static const char *const names[] = {[OPTION_FLAG] = NULL,     [OPTION_INT] = "N",       [OPTION_REAL] = "X",
                                        [OPTION_STRING] = "TEXT", [OPTION_CHOICE] = "NAME", [OPTION_SIZE] = "SIZE"};

    return spec->type == OPTION_FLAG ? NULL : spec->metavar ? spec->metavar : names[spec->type];
}

/* The value that holds when the command line does not set one; NULL when there is none to tell of. */
static const char *standing_value(const slot *s)
{
    bool replaced = s->count && (s->from == FROM_CALLER || s->from == FROM_NEW_DEFAULT);
    const char *text = replaced ? s->values[s->count - 1] : s->spec->default_value;

    if (s->spec->type == OPTION_FLAG)
        return text && strcmp(text, "true") == 0 ? "on" : NULL;
    return text && *text ? text : NULL;
}

/* The range of a number in words, "1 to 8", "at least 1"; an upper end of a million or more only says that there has to
 * be one. */
static const char *range_of(arena *memory, const option_spec *spec)
{
    if ((spec->type != OPTION_INT && spec->type != OPTION_REAL) || (spec->low == 0 && spec->high == 0))
        return NULL;
    if (spec->high >= 1e6)
        return spec->low <= -1e6 ? NULL : arena_printf(memory, "at least %.10g", spec->low);
    return arena_printf(memory, "%.10g to %.10g", spec->low, spec->high);
}

/* What follows the help sentence in parentheses; empty when there is nothing to say. */
static const char *remarks(arena *memory, const slot *s)
{
    const char *value = standing_value(s), *range = range_of(memory, s->spec);
    const char *parts[4];
    char *all = arena_strdup(memory, "");
    int count = 0;

    if (s->spec->type == OPTION_CHOICE)
        parts[count++] = options_list_choices(memory, s->spec->choices);
    if (range)
        parts[count++] = range;
    if (value)
        parts[count++] = arena_printf(memory, "default %s", value);
    if (s->spec->repeatable)
        parts[count++] = "repeatable";
    for (int i = 0; i < count; i++)
        all = arena_printf(memory, "%s%s%s", all, i ? "; " : "", parts[i]);
    return all;
}

static void help_row(const slot *s, arena *memory, FILE *out)
{
    const option_spec *spec = s->spec;
    char name[NAME_SIZE];
    const char *value = metavar(spec), *more = remarks(memory, s), *text;
    bool on = spec->type == OPTION_FLAG && standing_value(s);
    char *flag = arena_printf(memory, "%s--%s%s%s%s", strcmp(spec->name, "help") == 0 ? "-h, " : "", on ? "[no-]" : "",
                              options_outer_name(name, spec->name), value ? " " : "", value ? value : "");
    int used = fprintf(out, "  %s", flag);

    if (used > HELP_COLUMN - 2) {
        fputc('\n', out);
        used = 0;
    }
    fprintf(out, "%*s", HELP_COLUMN - used, "");
    text = *more ? arena_printf(memory, "%s (%s)", spec->help, more) : spec->help;
    text_wrap(out, text, HELP_COLUMN, HELP_COLUMN, HELP_WIDTH);
}

void options_help(const options *o, FILE *out)
{
    arena *memory = arena_new();
    const char *section = NULL;

    for (int i = 0; i < o->slot_count; i++) {
        const slot *s = &o->slots[i];
        if (!section || strcmp(section, s->section) != 0)
            fprintf(out, "%s%s:\n", section ? "\n" : "", s->section);
        section = s->section;
        help_row(s, memory, out);
    }
    arena_free(memory);
}

/* Writes text as mdoc: no request at the beginning of a line, no escape inside. */
static void mdoc_text(const char *text, FILE *out)
{
    if (*text == '.' || *text == '\'')
        fputs("\\&", out);
    for (; *text; text++) {
        if (*text == '\\')
            fputs("\\e", out);
        else
            fputc(*text == '\n' ? ' ' : *text, out);
    }
}

/* Writes a sentence of a table, which begins with a small letter and has no full stop there. */
static void mdoc_sentence(const char *text, FILE *out)
{
    bool word = islower((unsigned char)text[0]) && (text[1] == ' ' || islower((unsigned char)text[1]));
    size_t length = strlen(text);

    if (word)
        fputc(toupper((unsigned char)text[0]), out);
    mdoc_text(text + word, out);
    fputs(length && strchr(".?!", text[length - 1]) ? "\n" : ".\n", out);
}

static void mdoc_row(const slot *s, arena *memory, FILE *out)
{
    const option_spec *spec = s->spec;
    const char *value = metavar(spec), *standing = standing_value(s), *range = range_of(memory, spec);
    char name[NAME_SIZE];

    fprintf(out, ".It %sFl -%s%s", strcmp(spec->name, "help") == 0 ? "Fl h , " : "",
            spec->type == OPTION_FLAG && standing ? "no-" : "", options_outer_name(name, spec->name));
    if (value) {
        fputs(" Ar \\&", out);
        for (; *value; value++) /* an argument with spaces stays one argument */
            fputs(*value == ' ' ? "\\ " : *value == '\\' ? "\\e" : (char[2]){*value, '\0'}, out);
    }
    fputc('\n', out);
    mdoc_sentence(spec->help, out);
    if (spec->type == OPTION_CHOICE)
        mdoc_sentence(arena_printf(memory, "one of %s", options_list_choices(memory, spec->choices)), out);
    if (range)
        mdoc_sentence(range, out);
    if (standing)
        mdoc_sentence(spec->type == OPTION_FLAG ? "on unless switched off"
                                                : arena_printf(memory, "the default is %s", standing),
                      out);
    if (spec->repeatable)
        mdoc_sentence("can be given several times", out);
}

void options_mdoc(const options *o, FILE *out)
{
    arena *memory = arena_new();
    const char *section = NULL;

    fputs(".Sh OPTIONS\n", out);
    for (int i = 0; i < o->slot_count; i++) {
        const slot *s = &o->slots[i];
        if (!section || strcmp(section, s->section) != 0)
            fprintf(out, "%s.Ss %s\n.Bl -tag -width Ds\n", section ? ".El\n" : "", s->section);
        section = s->section;
        mdoc_row(s, memory, out);
    }
    if (section)
        fputs(".El\n", out);
    arena_free(memory);
}
