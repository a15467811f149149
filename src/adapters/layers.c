/* Which layers have adapters, and how wide each is: the options `layers`, `drop_layers` and `ranks`, of methods that
 * have them. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "adapters/adapter.h"

#define LONGEST_RANK 65536

/* A span of layers: "3", "5-11", and with a value "5-11:16". */
typedef struct span {
    long first, last, value;
} span;

static bool read_number(const char **at, long *out)
{
    char *end;

    if (!isdigit((unsigned char)**at))
        return false;
    *out = strtol(*at, &end, 10);
    *at = end;
    return true;
}

static bool read_span(const char **at, bool valued, span *s)
{
    if (!read_number(at, &s->first))
        return false;
    s->last = s->first;
    s->value = 1;
    if (**at == '-' && (++*at, !read_number(at, &s->last)))
        return false;
    if (valued && (*(*at)++ != ':' || !read_number(at, &s->value)))
        return false;
    return **at == 0 || **at == ',';
}

/* Reads spans, "0,2,5-11", or with values "0-5:4,6:16": of_layer[i] becomes the value of layer i, 1 without values; it
 * stays where i is not named. */
static inlay_status read_spans(const char *option, const char *text, bool valued, int64_t depth, int64_t *of_layer,
                               inlay_error *err)
{
    const char *at = text, *begin;
    span s;

    do {
        begin = at;
        if (!read_span(&at, valued, &s))
            FAIL(err, INLAY_ERR_USAGE, "%s: expected %s, found '%s' in '%s'", option,
                 valued ? "layers and their ranks, say 0-5:4,6:16" : "'all', 'none' or numbers of layers, say 0,2,5-11",
                 begin, text);
        if (s.first > s.last || s.last >= depth)
            FAIL(err, INLAY_ERR_USAGE,
                 "%s: expected layers from 0 to %lld, of a range the lower end first, found '%.*s' in '%s'", option,
                 (long long)depth - 1, (int)(at - begin), begin, text);
        if (s.value < 1 || s.value > LONGEST_RANK)
            FAIL(err, INLAY_ERR_USAGE, "%s: expected ranks from 1 to %d, found '%.*s' in '%s'", option, LONGEST_RANK,
                 (int)(at - begin), begin, text);
        for (long layer = s.first; layer <= s.last; layer++) {
            if (of_layer[layer] > 0)
                FAIL(err, INLAY_ERR_USAGE, "%s: layer %ld is named twice in '%s'", option, layer, text);
            of_layer[layer] = s.value;
        }
    } while (*at++ == ',');
    return INLAY_OK;
}

static const char *text_of(const adapter *a, const char *option, const char *otherwise)
{
    return options_has(a->settings, option) ? options_string(a->settings, option) : otherwise;
}

inlay_status layers_read(const char *option, const char *text, int64_t depth, bool *chosen, inlay_error *err)
{
    arena *memory = arena_new();
    int64_t *named = ARENA_ARRAY(memory, int64_t, depth);
    bool all = strcmp(text, "all") == 0, none = strcmp(text, "none") == 0;
    inlay_status status = all || none ? INLAY_OK : read_spans(option, text, false, depth, named, err);

    for (int64_t layer = 0; layer < depth; layer++)
        chosen[layer] = all || named[layer];
    arena_free(memory);
    return status;
}

/* Reads `drop_layers`: a number of layers from below; "random" or "random:LOW-HIGH", from which each step draws one. */
static inlay_status read_dropped(adapter *a, inlay_error *err)
{
    const char *text = text_of(a, "drop_layers", "0"), *at = text;
    long depth = (long)a->shape->depth, low = 0, high = depth - 1;
    bool good;

    a->drop_random = strncmp(text, "random", 6) == 0;
    if (a->drop_random) {
        at += 6;
        good =
            *at == 0 || (*at++ == ':' && read_number(&at, &low) && *at++ == '-' && read_number(&at, &high) && *at == 0);
    } else {
        good = read_number(&at, &high) && *at == 0;
    }
    if (!good || low > high || high > depth)
        FAIL(err, INLAY_ERR_USAGE,
             "drop_layers: expected a number of layers from 0 to %ld, 'random' or 'random:LOW-HIGH', found '%s'", depth,
             text);
    a->drop_low = (int)low;
    a->drop_high = (int)high;
    for (long layer = 0; layer < high && !a->drop_random; layer++)
        a->layers[layer] = false;
    return INLAY_OK;
}

static inlay_status read_ranks(adapter *a, inlay_error *err)
{
    const char *text = text_of(a, "ranks", "");
    int64_t depth = a->shape->depth;
    bool needed = false;

    for (int64_t layer = 0; layer < depth; layer++)
        a->ranks[layer] = 0;
    if (*text)
        TRY(read_spans("ranks", text, true, depth, a->ranks, err));
    for (int64_t layer = 0; layer < depth; layer++) {
        needed |= a->layers[layer] && !a->ranks[layer];
        if (a->ranks[layer] && !a->layers[layer])
            FAIL(err, INLAY_ERR_USAGE, "ranks: layer %lld has a rank, but no adapter", (long long)layer);
        if (!a->ranks[layer])
            a->ranks[layer] = options_has(a->settings, "rank") ? options_int(a->settings, "rank") : 0;
    }
    if (*text && !needed && options_has(a->settings, "rank") && options_given(a->settings, "rank"))
        FAIL(err, INLAY_ERR_USAGE, "rank: no layer has it: '--ranks %s' names all that have adapters", text);
    return INLAY_OK;
}

inlay_status adapter_read_layers(adapter *a, inlay_error *err)
{
    if (!a->layers) {
        a->layers = ARENA_ARRAY(a->memory, bool, a->shape->depth);
        a->ranks = ARENA_ARRAY(a->memory, int64_t, a->shape->depth);
    }
    TRY(layers_read("layers", text_of(a, "layers", "all"), a->shape->depth, a->layers, err));
    TRY(read_dropped(a, err));
    return read_ranks(a, err);
}
