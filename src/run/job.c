#include "run/job.h"

#include <string.h>

#include "adapters/adapter.h"
#include "train/recipe.h"

const job *const job_table[] = {
#define JOB(name) &job_##name,
#include "run/jobs.def"
#undef JOB
    NULL,
};

const job *job_find(const char *name)
{
    for (int i = 0; job_table[i]; i++)
        if (strcmp(job_table[i]->name, name) == 0)
            return job_table[i];
    return NULL;
}

inlay_status job_options(options **out, const job *j, const char *method_name, inlay_error *err)
{
    const char *name = method_name ? method_name : "adapter_plus";
    const method *m = j->takes_method ? method_find(name, NULL) : NULL;

    *out = options_new();
    options_bind(*out, j);
    options_add_table(*out, "Options", j->options);
    if (m)
        options_add_table(*out, "Method", m->options);
    return method_name && j->takes_method ? options_set(*out, "method", method_name, j->name, err) : INLAY_OK;
}

inlay_status job_explain(options **out, options **method_options, const job *j, const char *method_name,
                         inlay_error *err)
{
    const char *name = !j->takes_method ? "full" : method_name ? method_name : "adapter_plus";

    *method_options = NULL;
    *out = options_new();
    options_add_table(*out, "Options", j->options);
    if (j->takes_method)
        TRY(adapter_settings(method_options, name, err));
    return j->recipe ? recipe_apply(recipe_of(name), *out, err) : INLAY_OK;
}

options *job_all_options(void)
{
    options *all = options_new();

    for (int i = 0; job_table[i]; i++)
        options_add_names(all, job_table[i]->options);
    for (int i = 0; method_table[i]; i++)
        options_add_names(all, method_table[i]->options);
    return all;
}

inlay_status job_run(const job *j, options *o, const inlay_observer *watch, json_t **record, inlay_error *err)
{
    *record = NULL;
    TRY(options_check_needs(o, j->needs, err));
    if (options_positionals(o) > j->words)
        FAIL(err, INLAY_ERR_USAGE, "unexpected word '%s'", options_positional(o, j->words));
    return j->run(o, watch, record, err);
}
