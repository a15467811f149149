/* Options of a method from one text, for tests. */
#ifndef TESTS_SETTINGS_H
#define TESTS_SETTINGS_H

#include "support.h"

#include "base/options.h"

/* Sets what a text names: "option=value option=value"; NULL: nothing. */
static inline void support_settings(options *o, const char *text)
{
    inlay_error err;

    while (text && *text) {
        char name[64], setting[64];
        size_t length = strcspn(text, " "), equals = strcspn(text, "=");
        snprintf(name, sizeof name, "%.*s", (int)equals, text);
        snprintf(setting, sizeof setting, "%.*s", (int)(length - equals - 1), text + equals + 1);
        ASSERT_OK(options_set(o, name, setting, "test", &err));
        text += length + (text[length] == ' ');
    }
}

#endif
