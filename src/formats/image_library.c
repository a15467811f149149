/* Libraries that are loaded when the first file of their format is read. With what they need themselves they are a few dozen, and starting with them takes three
 * times as long as starting without. */
#include "formats/image_codec.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void load(image_library *l)
{
    void *handle = dlopen(l->file, RTLD_NOW | RTLD_LOCAL), *function;
    const char *reason;

    l->tried = true;
    for (size_t i = 0; handle && i < l->count; i++) {
        function = dlsym(handle, l->names[i]);
        if (!function)
            handle = NULL;
        memcpy((char *)l->functions + i * sizeof function, &function, sizeof function);
    }
    l->usable = handle != NULL;
    reason = l->usable ? NULL : dlerror();
    snprintf(l->reason, sizeof l->reason, "%s", reason ? reason : "unknown reason");
}

inlay_status image_library_use(image_library *l, const char *name, inlay_error *err)
{
    bool usable;

    pthread_mutex_lock(&lock);
    if (!l->tried)
        load(l);
    usable = l->usable;
    pthread_mutex_unlock(&lock);
    if (!usable)
        FAIL(err, INLAY_ERR_UNSUPPORTED, "'%s': an image that only %s can read, which cannot be loaded: %s", name, l->file, l->reason);
    return INLAY_OK;
}
