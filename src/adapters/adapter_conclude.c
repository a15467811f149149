/* From what was trained to what is evaluated and saved. */
#include <stdlib.h>
#include <string.h>

#include "adapters/adapter.h"

inlay_status adapter_conclude(adapter **out, adapter *a, device *d, inlay_error *err)
{
    *out = a;
    return a->method->conclude ? a->method->conclude(out, a, d, err) : INLAY_OK;
}

inlay_status adapter_average(param *to, param *const *from, int count, double factor, device *d, inlay_error *err)
{
    float *one = memory_array(to->count, sizeof *one);
    double *sum = calloc((size_t)to->count, sizeof *sum);

    if (!one || !sum) {
        free(one);
        free(sum);
        FAIL(err, INLAY_ERR_NOMEM, "out of memory merging '%s'", to->name);
    }
    for (int e = 0; e < count; e++) {
        param_get(from[e], d, one);
        for (int64_t i = 0; i < to->count; i++)
            sum[i] += (double)one[i];
    }
    for (int64_t i = 0; i < to->count; i++)
        one[i] = (float)(factor * sum[i]);
    param_set(to, d, one);
    free(one);
    free(sum);
    return INLAY_OK;
}

inlay_status adapter_plain(adapter **out, const adapter *a, const char *name, const char *const *same,
                           const char *const (*settings)[2], device *d, inlay_error *err)
{
    options *o;
    inlay_status status = adapter_settings(&o, name, err);

    *out = NULL;
    TRY(status);
    for (; status == INLAY_OK && *same; same++) {
        const char *text = options_string(a->settings, *same);
        status = options_default(o, *same, strncmp(text, "random", 6) == 0 ? "0" : text, "merging", err);
    }
    for (; status == INLAY_OK && settings && (*settings)[0]; settings++)
        status = options_default(o, (*settings)[0], (*settings)[1], "merging", err);
    if (status != INLAY_OK) {
        options_free(o);
        return status;
    }
    status = adapter_new(out, name, o, a->backbone, a->outputs, a->labels, err);
    if (status == INLAY_OK)
        (*out)->task = a->task;
    for (const adapter_param *i = NULL; status == INLAY_OK && (i = adapter_each_param(*out, i));) {
        i->p->trainable = false;
        status = param_materialise(i->p, d, err);
    }
    if (status == INLAY_OK)
        status = adapter_average((*out)->head_weight, &a->head_weight, 1, 1, d, err);
    if (status == INLAY_OK)
        status = adapter_average((*out)->head_bias, &a->head_bias, 1, 1, d, err);
    if (status != INLAY_OK) {
        adapter_free(*out, d);
        *out = NULL;
    }
    return status;
}
