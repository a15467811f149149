/* The public calls about jobs and their options, over the table of jobs. */
#include <stdlib.h>
#include <string.h>

#include "api/sized.h"
#include "formats/image.h"
#include "run/job.h"

bool inlay_job_at(int index, inlay_job_info *out)
{
    inlay_job_info info;
    int count = 0;

    while (job_table[count])
        count++;
    if (index < 0 || index >= count)
        return false;
    info = (inlay_job_info){.name = job_table[index]->name,
                            .summary = job_table[index]->summary,
                            .usage = job_table[index]->usage,
                            .details = job_table[index]->details,
                            .words = job_table[index]->words,
                            .takes_method = job_table[index]->takes_method,
                            .stops = job_table[index]->stops};
    SIZED_GIVE(out, info);
    return true;
}

inlay_status inlay_options_new(inlay_options **out, const char *name, const char *method, inlay_error *err)
{
    const job *j = name ? job_find(name) : NULL;
    inlay_status status;

    *out = NULL;
    if (!j)
        FAIL(err, INLAY_ERR_USAGE, "there is no job '%s'", name ? name : "");
    status = job_options(out, j, method, err);
    if (status != INLAY_OK) {
        options_free(*out);
        *out = NULL;
    }
    return status;
}

inlay_options *inlay_options_all(void)
{
    return job_all_options();
}

inlay_status inlay_options_explain(inlay_options **out, inlay_options **method_options, const char *name,
                                   const char *method, inlay_error *err)
{
    const job *j = job_find(name);
    inlay_status status;

    *out = *method_options = NULL;
    if (!j)
        FAIL(err, INLAY_ERR_USAGE, "there is no job '%s'", name);
    status = job_explain(out, method_options, j, method, err);
    if (status != INLAY_OK) {
        options_free(*out);
        options_free(*method_options);
        *out = *method_options = NULL;
    }
    return status;
}

const char *inlay_image_formats(void)
{
    return image_formats();
}

void inlay_options_free(inlay_options *o)
{
    options_free(o);
}

inlay_status inlay_options_set(inlay_options *o, const char *name, const char *text, inlay_error *err)
{
    const job *j = options_owner(o);

    if (j->takes_method && strcmp(name, "method") == 0)
        FAIL(err, INLAY_ERR_USAGE, "%s: the method is chosen when the options are made", j->name);
    return options_set(o, name, text, j->name, err);
}

inlay_status inlay_options_add_word(inlay_options *o, const char *word, inlay_error *err)
{
    const job *j = options_owner(o);

    if (options_positionals(o) >= j->words)
        FAIL(err, INLAY_ERR_USAGE, "%s: unexpected word '%s'", j->name, word);
    options_add_positional(o, word);
    return INLAY_OK;
}

const char *inlay_options_get(const inlay_options *o, const char *name)
{
    return options_has(o, name) ? options_string(o, name) : NULL;
}

bool inlay_options_at(const inlay_options *o, int index, inlay_option_info *out)
{
    static const char *const kinds[] = {[OPTION_FLAG] = "flag",   [OPTION_INT] = "integer",   [OPTION_REAL] = "real",
                                        [OPTION_STRING] = "text", [OPTION_CHOICE] = "choice", [OPTION_SIZE] = "size"};
    const char *section;
    const option_spec *row = options_row(o, index, &section);
    inlay_option_info info;

    if (!row)
        return false;
    info = (inlay_option_info){.name = row->name,
                               .section = section,
                               .kind = kinds[row->type],
                               .default_value = row->default_value,
                               .choices = row->choices,
                               .metavar = row->metavar,
                               .help = row->help,
                               .low = row->low,
                               .high = row->high,
                               .repeatable = row->repeatable};
    SIZED_GIVE(out, info);
    return true;
}

inlay_status inlay_run(inlay_options *o, const inlay_observer *watch, char **record, inlay_error *err)
{
    const job *j = options_owner(o);
    inlay_observer known = {.size = sizeof known};
    json_t *root = NULL;
    inlay_status status;

    if (record)
        *record = NULL;
    SIZED_TAKE(known, watch);
    status = job_run(j, o, watch ? &known : NULL, &root, err);
    if (status == INLAY_OK && record)
        status = json_encode(record, root, JSON_ANSWER, j->name, err);
    else if (root && record)
        json_encode(record, root, JSON_ANSWER, j->name, NULL); /* what was done before it failed */
    json_decref(root);
    return status;
}

void inlay_text_free(char *text)
{
    free(text);
}
