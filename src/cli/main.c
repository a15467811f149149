/* inlay: the command. Exit status: 0 done, 1 failed, 2 used wrongly, 128 + signal when interrupted. */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "adapters/adapter.h"
#include "base/file.h"
#include "base/stop.h"
#include "cli/command.h"
#include "cli/common.h"
#include "formats/image.h"
#include "train/recipe.h"

const command *const command_table[] = {
#define COMMAND(name) &command_##name,
#include "cli/commands.def"
#undef COMMAND
    NULL,
};

static const option_spec general[] = {
    OPT_FLAG("help", "show this help"),
    OPT_FLAG("man", "write this help as a man page (mdoc)"),
    {0},
};

static void print_overview(FILE *out)
{
    fprintf(out,
            "inlay %s: tunes, studies, merges and serves adapters on frozen pre-trained transformers\n\nusage: inlay "
            "COMMAND [OPTIONS]\n\ncommands:\n",
            INLAY_VERSION_STRING);
    for (int i = 0; command_table[i]; i++)
        fprintf(out, "  %-10s %s\n", command_table[i]->name, command_table[i]->summary);
    fprintf(
        out,
        "\n'inlay COMMAND --help' explains a command. Every option can also be set by a variable INLAY_<OPTION>.\n");
}

static void print_help(const command *c, const options *o, const options *method_options, FILE *out)
{
    fprintf(out, "usage: inlay %s %s\n\n%s\n\n", c->name, c->usage, c->details);
    options_help(o, out);
    if (method_options) {
        fputc('\n', out);
        options_help(method_options, out);
    }
}

static void print_man(const command *c, const options *o, const options *method_options, FILE *out)
{
    fprintf(out,
            ".Dd November 24, 2026\n.Dt INLAY-%s 1\n.Os\n.Sh NAME\n.Nm inlay-%s\n.Nd %s\n.Sh SYNOPSIS\n.Nm inlay "
            "%s\n%s\n.Sh DESCRIPTION\n%s\n",
            c->name, c->name, c->summary, c->name, c->usage, c->details);
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
    fprintf(stderr, "note: environment variable %.*s is not an option of any subcommand and is passed over\n", length,
            entry);
}

static inlay_status check_environment(inlay_error *err)
{
    options *all = options_new();
    inlay_status status;

    options_add_names(all, general);
    for (int i = 0; command_table[i]; i++)
        options_add_names(all, command_table[i]->options);
    for (int i = 0; method_table[i]; i++)
        options_add_names(all, method_table[i]->options);
    status = options_check_environment(all, environ, other_variables, note_variable, err);
    options_free(all);
    return status;
}

/* Whatever opens a file first would get a closed standard descriptor, and progress lines or answers would be written
 * into that file. */
static void open_standard(void)
{
    for (int fd = open("/dev/null", O_RDWR); fd >= 0; fd = open("/dev/null", O_RDWR))
        if (fd > STDERR_FILENO) {
            close(fd);
            break;
        }
}

/* Every answer passes here: one that could not be written is an error, whatever made it. */
static int close_output(const char *name, int code)
{
    bool bad = ferror(stdout) != 0;

    errno = 0;
    if (fclose(stdout) == 0 && !bad)
        return code;
    fprintf(stderr, "inlay%s%s: cannot write to standard output%s%s\n", *name ? " " : "", name, errno ? ": " : "",
            errno ? strerror(errno) : "");
    return code ? code : 1;
}

static int finish(const char *name, inlay_status status, const inlay_error *err)
{
    if (status == INLAY_OK)
        return 0;
    fprintf(stderr, "inlay %s: %s\n", name, err->message);
    if (status == INLAY_ERR_INTERRUPTED)
        return 128 + stop_signal();
    return status == INLAY_ERR_USAGE ? 2 : 1;
}

/* --help and --man: the command's own options, with the method's recipe as their defaults, then those of the method
 * with its preset's values. */
static inlay_status explain(const command *c, const char *name, bool man, inlay_error *err)
{
    options *o = options_new(), *method_options = NULL;
    inlay_status status = c->method_options ? adapter_settings(&method_options, name, err) : INLAY_OK;

    options_add_table(o, "General", general);
    options_add_table(o, "Options", c->options);
    if (status == INLAY_OK && c->recipe)
        status = recipe_apply(recipe_of(c->method_options ? name : "full"), o, err);
    if (status == INLAY_OK)
        (man ? print_man : print_help)(c, o, method_options, stdout);
    options_free(method_options);
    options_free(o);
    return status;
}

static inlay_status work(const command *c, options *o, inlay_error *err)
{
    TRY(check_environment(err));
    TRY(options_check_needs(o, c->needs, err));
    if (options_positionals(o) > c->words)
        FAIL(err, INLAY_ERR_USAGE, "unexpected word '%s'", options_positional(o, c->words));
    return c->run(o, err);
}

static int run(const command *c, int argc, char **argv)
{
    options *o = options_new();
    const char *given = c->method_options ? options_peek("method", argc, argv, 2) : NULL,
               *name = given ? given : "adapter_plus";
    const method *m = c->method_options ? method_find(name, NULL) : NULL;
    inlay_error err = {.code = INLAY_OK, .message = ""};
    inlay_status status;
    int code;

    options_add_table(o, "General", general);
    options_add_table(o, "Options", c->options);
    if (m)
        options_add_table(o, "Method", m->options);
    status = options_parse(o, argc, argv, 2, &err);
    if (status == INLAY_OK)
        print_notes(options_notes(o), false, NULL);
    if (status == INLAY_OK && (options_flag(o, "help") || options_flag(o, "man")))
        status = explain(c, name, options_flag(o, "man"), &err);
    else if (status == INLAY_OK)
        status = work(c, o, &err);
    code = finish(c->name, status, &err);
    if (status == INLAY_ERR_USAGE)
        fprintf(stderr, "'inlay %s --help' lists the options\n", c->name);
    options_free(o);
    return code;
}

static int act(int argc, char **argv)
{
    if (argc < 2) {
        print_overview(stderr);
        return 2;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0) {
        print_overview(stdout);
        return 0;
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("inlay %s\nimages: %s\n", INLAY_VERSION_STRING, image_formats());
        return 0;
    }
    for (int i = 0; command_table[i]; i++)
        if (strcmp(argv[1], command_table[i]->name) == 0)
            return run(command_table[i], argc, argv);
    fprintf(stderr, "inlay: unknown command '%s' ('inlay --help' lists them)\n", argv[1]);
    return 2;
}

static void put_error(const char *text)
{
    if (write(STDERR_FILENO, text, strlen(text)) < 0)
        return; /* nobody is left to be told */
}

/* The pages of a mapped file are gone. Only what a handler may call is called. */
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

/* JSON that is built key by key would lack, without a word, the key whose memory was refused. What a run has written by
 * then is whole, and the run can be resumed. */
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
