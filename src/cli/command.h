/* The table of subcommands: one file and one row each. */
#ifndef INLAY_CLI_COMMAND_H
#define INLAY_CLI_COMMAND_H

#include "base/options.h"

typedef struct command {
    const char *name;
    const char *usage;   /* what follows the name: "--backbone DIR [--adapter DIR] IMAGE|DIR..." */
    const char *summary; /* one line */
    const char *details; /* a paragraph for --help and the man page */
    const option_spec *options;
    const option_need *needs; /* options that are read beside certain others only; NULL: none */
    int words;                /* at most so many words beside options: images, a folder */
    bool method_options;      /* also takes the options of the method that --method names */
    bool recipe; /* has options whose defaults are a recipe's: the method's, or that of a ViT trained whole */
    inlay_status (*run)(options *o, inlay_error *err);
} command;

#define COMMAND(name) extern const command command_##name;
#include "cli/commands.def"
#undef COMMAND

extern const command *const command_table[]; /* ended by NULL */

#endif
