#include "base/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"

inlay_status error_write(inlay_error *err, inlay_status code, const char *format, ...)
{
    if (err) {
        char text[sizeof err->message]; /* names and labels in it may hold anything; the message is one line for a
                                           terminal */
        va_list args;
        va_start(args, format);
        err->code = code;
        vsnprintf(text, sizeof text, format, args);
        va_end(args);
        text_clean(err->message, sizeof err->message, text);
    }
    return code;
}

inlay_status error_prefix(inlay_error *err, const char *format, ...)
{
    char text[2 * sizeof err->message], front[sizeof err->message];
    va_list args;
    int used;

    if (!err)
        return INLAY_ERR_INTERNAL;
    va_start(args, format);
    used = vsnprintf(front, sizeof front, format, args);
    va_end(args);
    if (used < 0 || (size_t)used >= sizeof front)
        front[0] = '\0';
    used = (int)strlen(text_clean(text, sizeof front, front));
    snprintf(text + used, sizeof text - (size_t)used, ": %s", err->message);
    text[sizeof err->message - 1] = '\0';
    memcpy(err->message, text, sizeof err->message);
    return err->code;
}

const char *inlay_status_name(inlay_status status)
{
    switch (status) {
#define XX(name, value, text) \
    case INLAY_##name:        \
        return text;
        INLAY_STATUS_MAP(XX)
#undef XX
    }
    return "unknown status";
}
