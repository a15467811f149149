/* inlay: the command. Exit status: 0 done, 1 failed, 2 used wrongly, 128 + signal when interrupted. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "base/options.h"
#include "base/stop.h"
#include "base/text.h"
#include "cli/display.h"

static const option_spec general[] = {
    OPT_FLAG("help", "show this help"),
    OPT_FLAG("man", "write this help as a man page (mdoc)"),
    {0},
};

/* Job number `index`; false: there are no more. */
static bool job_at(int index, inlay_job_info *job)
{
    *job = (inlay_job_info){.size = sizeof *job};
    return inlay_job_at(index, job);
}

static bool find_job(const char *name, inlay_job_info *job)
{
    for (int i = 0; job_at(i, job); i++)
        if (strcmp(job->name, name) == 0)
            return true;
    return false;
}

static void print_overview(FILE *out)
{
    inlay_job_info job;

    fprintf(out,
            "inlay %s: tunes, studies, merges and serves adapters on frozen pre-trained transformers\n\nusage: inlay "
            "COMMAND [OPTIONS]\n\ncommands:\n",
            inlay_version());
    for (int i = 0; job_at(i, &job); i++)
        fprintf(out, "  %-10s %s\n", job.name, job.summary);
    fprintf(
        out,
        "\n'inlay COMMAND --help' explains a command. Every option can also be set by a variable INLAY_<OPTION>.\n");
}

static void print_help(const inlay_job_info *job, const options *o, const options *method_options, FILE *out)
{
    fprintf(out, "usage: inlay %s %s\n\n%s\n\n", job->name, job->usage, job->details);
    options_help(o, out);
    if (method_options) {
        fputc('\n', out);
        options_help(method_options, out);
    }
}

static void print_man(const inlay_job_info *job, const options *o, const options *method_options, FILE *out)
{
    fprintf(out,
            ".Dd November 24, 2026\n.Dt INLAY-%s 1\n.Os\n.Sh NAME\n.Nm inlay-%s\n.Nd %s\n.Sh SYNOPSIS\n.Nm inlay "
            "%s\n%s\n.Sh DESCRIPTION\n%s\n",
            job->name, job->name, job->summary, job->name, job->usage, job->details);
    options_mdoc(o, out);
    if (method_options)
        options_mdoc(method_options, out);
    fprintf(out, ".Sh EXIT STATUS\n0 when done, 1 when it failed, 2 when it was used wrongly, 128 plus the signal when "
                 "it was interrupted.\n");
}

extern char **environ;

/* Variables with our prefix that are no options: the kernels to use, tests, a version as many images have it, and what
 * Kubernetes sets for a service that is called "inlay". */
static const char *const other_variables[] = {"isa", "ci_", "version", "help", "service_", "port", NULL};

static void note_variable(const char *entry, int length)
{
    text_line(stderr, "note: environment variable %.*s is not an option of any subcommand and is passed over", length,
              entry);
}

static inlay_status check_environment(inlay_error *err)
{
    options *all = inlay_options_all();
    inlay_status status;

    options_add_names(all, general);
    status = options_check_environment(all, environ, other_variables, note_variable, err);
    options_free(all);
    return status;
}

/* Opens standard descriptors that are closed: else whatever opens a file first would get one, and progress lines or
 * answers would be written into that file. */
static void open_standard(void)
{
    for (int fd = open("/dev/null", O_RDWR); fd >= 0; fd = open("/dev/null", O_RDWR))
        if (fd > STDERR_FILENO) {
            close(fd);
            break;
        }
}

/* Closes standard output, through which every answer passes: one that could not be written is an error, whatever made
 * it. */
static int close_output(const char *name, int code)
{
    bool bad = ferror(stdout) != 0;

    errno = 0;
    if (fclose(stdout) == 0 && !bad)
        return code;
    text_line(stderr, "inlay%s%s: cannot write to standard output%s%s", *name ? " " : "", name, errno ? ": " : "",
              errno ? strerror(errno) : "");
    return code ? code : 1;
}

static int finish(const char *name, inlay_status status, const inlay_error *err)
{
    if (status == INLAY_OK)
        return 0;
    text_line(stderr, "inlay %s: %s", name, err->message);
    if (status == INLAY_ERR_INTERRUPTED)
        return 128 + stop_signal();
    return status == INLAY_ERR_USAGE ? 2 : 1;
}

/* Explains a command for --help and --man: its own options, with the method's recipe as their defaults, then those of
 * the method with its preset's values. */
static inlay_status explain(const inlay_job_info *job, const char *method, bool man, inlay_error *err)
{
    options *o, *method_options;
    inlay_status status = inlay_options_explain(&o, &method_options, job->name, method, err);

    if (status != INLAY_OK)
        return status;
    options_add_table(o, "General", general);
    (man ? print_man : print_help)(job, o, method_options, stdout);
    options_free(method_options);
    options_free(o);
    return INLAY_OK;
}

static inlay_status work(const inlay_job_info *job, options *o, inlay_error *err)
{
    display d;
    inlay_observer watch;
    char *record = NULL;
    inlay_status status;

    TRY(check_environment(err));
    display_open(&d, job->name, o);
    watch = display_observer(&d);
    if (job->stops)
        stop_install();
    status = inlay_run(o, &watch, &record, err);
    if (d.output_errno) {
        errno = d.output_errno;
        status = file_error(err, "write", "standard output");
    }
    display_answer(&d, record, status == INLAY_OK ? NULL : err->message);
    inlay_text_free(record);
    display_close(&d);
    return status;
}

static int run(const inlay_job_info *job, int argc, char **argv)
{
    const char *method = job->takes_method ? options_peek("method", argc, argv, 2) : NULL;
    options *o = NULL;
    inlay_error err = {.code = INLAY_OK, .message = ""};
    inlay_status status = inlay_options_new(&o, job->name, method, &err);
    int code;

    if (status == INLAY_OK) {
        options_add_table(o, "General", general);
        status = options_parse(o, argc, argv, 2, &err);
    }
    for (int i = 0; status == INLAY_OK && i < options_notes(o)->count; i++)
        text_line(stderr, "note: %s", options_notes(o)->items[i].text);
    if (status == INLAY_OK && (options_flag(o, "help") || options_flag(o, "man")))
        status = explain(job, method, options_flag(o, "man"), &err);
    else if (status == INLAY_OK)
        status = work(job, o, &err);
    code = finish(job->name, status, &err);
    if (status == INLAY_ERR_USAGE)
        fprintf(stderr, "'inlay %s --help' lists the options\n", job->name);
    options_free(o);
    return code;
}

static int act(int argc, char **argv)
{
    inlay_job_info job;

    if (argc < 2) {
        print_overview(stderr);
        return 2;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0) {
        print_overview(stdout);
        return 0;
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("inlay %s\nimages: %s\n", inlay_version(), inlay_image_formats());
        return 0;
    }
    if (find_job(argv[1], &job))
        return run(&job, argc, argv);
    text_line(stderr, "inlay: unknown command '%s' ('inlay --help' lists them)", argv[1]);
    return 2;
}

static void put_error(const char *text)
{
    if (write(STDERR_FILENO, text, strlen(text)) < 0)
        return; /* nobody is left to be told */
}

/* Ends the command where the pages of a mapped file are gone. Only what a handler may call is called. */
static void on_lost_pages(int number, siginfo_t *info, void *context)
{
    const char *name = file_maps_find(info->si_addr);

    (void)context;
    if (!name) { /* the same access is made again and ends as it would have */
        signal(number, SIG_DFL);
        return;
    }
    put_error("inlay: '");
    put_error(name);
    put_error("' was cut while it was read, or its disk fails\n");
    _exit(1);
}

/* Allocates for JSON, or ends the command: JSON that is built key by key would lack, without a word, the key whose
 * memory was refused. What a run has written by then is whole, and the run can be resumed. */
static void *json_memory(size_t size)
{
    void *memory = malloc(size);

    if (memory || size == 0)
        return memory;
    put_error("inlay: out of memory\n");
    _exit(1);
}

static void name_lost_files(void)
{
    struct sigaction action = {.sa_sigaction = on_lost_pages, .sa_flags = SA_SIGINFO};

    sigemptyset(&action.sa_mask);
    sigaction(SIGBUS, &action, NULL);
}

int main(int argc, char **argv)
{
    open_standard();
    name_lost_files();
    json_set_alloc_funcs(json_memory, free);
    stop_ignore_broken_output();
    return close_output(argc < 2 ? "" : argv[1], act(argc, argv));
}
