/* Adapters from one text, "method option=value option=value", for tests. */
#ifndef TESTS_MAKE_ADAPTER_H
#define TESTS_MAKE_ADAPTER_H

#include "support.h"

#include "adapters/adapter.h"

/* Sets what a text names: "option=value option=value"; NULL: nothing. */
static inline void support_settings(options *o, const char *text)
{
    char pair[2000];
    const char *setting;
    inlay_error err;

    while (text && options_next_pair(&text, pair, sizeof pair, &setting))
        ASSERT_OK(options_set(o, pair, setting, "test", &err));
}

/* The method or preset that a text begins with; the next call takes its memory. */
static inline const char *support_method(const char *text)
{
    static char name[64];

    snprintf(name, sizeof name, "%.*s", (int)strcspn(text, " "), text);
    return name;
}

/* The options of that method or preset, set as the text says. */
static inline options *support_options(const char *text)
{
    const char *name = support_method(text);
    inlay_error err;
    options *o;

    ASSERT_OK(adapter_settings(&o, name, &err));
    support_settings(o, text[strlen(name)] ? text + strlen(name) + 1 : NULL);
    return o;
}

/* Moves every value away from where it begins, near zero in places: by `seed`'s noise of standard deviation 0.1. */
static inline void support_shake(adapter *a, const device *d, uint32_t seed)
{
    uint32_t stream = 0;

    for (const adapter_param *i = NULL; (i = adapter_each_param(a, i));) {
        param *p = i->p;
        float *values = malloc((size_t)p->count * sizeof *values), *noise = malloc((size_t)p->count * sizeof *noise);
        param_get(p, d, values);
        rng_fill_normal(noise, (uint64_t)p->count, 0, 0.1,
                        (rng_stream){.seed = seed, .purpose = RNG_TEST, .stream = stream++});
        for (int64_t j = 0; j < p->count && !i->fixed; j++)
            values[j] += noise[j];
        param_set(p, d, values);
        free(values);
        free(noise);
    }
}

#endif
