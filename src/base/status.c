#include "base/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

inlay_status error_write(inlay_error *err, inlay_status code, const char *format, ...)
{
    if (err) {
        va_list args;
        va_start(args, format);
        err->code = code;
        vsnprintf(err->message, sizeof err->message, format, args);
        va_end(args);
    }
    return code;
}

inlay_status error_prefix(inlay_error *err, const char *format, ...)
{
    char text[2 * sizeof err->message];
    va_list args;
    int used;

    if (!err)
        return INLAY_ERR_INTERNAL;
    va_start(args, format);
    used = vsnprintf(text, sizeof err->message, format, args);
    va_end(args);
    if (used < 0 || (size_t)used >= sizeof err->message)
        used = 0;
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
