/* Leaving in good order on Ctrl-C (SIGINT), SIGTERM and SIGHUP (a terminal that is closed): the first signal only sets
 * a flag that long work looks at; a SIGINT after it ends the process. */
#ifndef INLAY_BASE_STOP_H
#define INLAY_BASE_STOP_H

#include <stdbool.h>

/* Takes SIGINT, SIGTERM and SIGHUP over; one that the process was started to ignore (nohup) stays ignored. The flag is
 * cleared. */
void stop_install(void);
/* Puts back the handlers that were there before stop_install. The flag stays as it is. */
void stop_uninstall(void);

/* Writing to a pipe that nobody reads, or beyond the limit of a file's size, fails with a message of its own instead of
 * ending the process. */
void stop_ignore_broken_output(void);

bool stop_requested(void);
int stop_signal(void); /* the signal that asked first; 0: none */

#endif
