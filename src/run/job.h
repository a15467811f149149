/* The table of jobs: what `inlay` and programs that use the library ask for by options. One file and one row each
 * (jobs.def). A job prints nothing: what it has to say goes to its observer, its answer is a record. */
#ifndef INLAY_RUN_JOB_H
#define INLAY_RUN_JOB_H

#include "base/json.h"
#include "base/options.h"

typedef struct job {
    const char *name;
    const char *usage;   /* what follows the name: "--backbone DIR [--adapter DIR] IMAGE|DIR..." */
    const char *summary; /* one line */
    const char *details; /* a paragraph for --help and the man page */
    const option_spec *options;
    const option_need *needs; /* options that are read beside certain others only; NULL: none */
    int words;                /* at most so many words beside options: images, a folder */
    bool takes_method;        /* also takes the options of the method that `method` names */
    bool recipe; /* has options whose defaults are a recipe's: the method's, or that of a ViT trained whole */
    bool stops;  /* asks its observer now and then whether to stop */
    /* *record: a JSON document, the caller's; it may be set when the job fails, too: what was done until then. */
    inlay_status (*run)(options *o, const inlay_observer *watch, json_t **record, inlay_error *err);
} job;

#define JOB(name) extern const job job_##name;
#include "run/jobs.def"
#undef JOB

extern const job *const job_table[]; /* ended by NULL */

/* NULL: there is no such job. */
const job *job_find(const char *name);
/* Options of a job, with those of a method or preset (NULL: adapter_plus) where it takes one. */
inlay_status job_options(options **out, const job *j, const char *method, inlay_error *err);
/* job_options for help: defaults are those of the method's recipe and preset; the method's are in *method_options,
 * which is NULL where the job takes no method. */
inlay_status job_explain(options **out, options **method_options, const job *j, const char *method, inlay_error *err);
/* The names of all options of all jobs and methods. */
options *job_all_options(void);
/* Checks what is given, then runs the job. */
inlay_status job_run(const job *j, options *o, const inlay_observer *watch, json_t **record, inlay_error *err);

#endif
