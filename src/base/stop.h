/* Leaving in good order on Ctrl-C (SIGINT) and SIGTERM: the first signal only sets a flag that long work looks at;
 * a SIGINT after it ends the process. */
#ifndef INLAY_BASE_STOP_H
#define INLAY_BASE_STOP_H

#include <stdbool.h>

/* Takes both signals over; one that the process was started to ignore (nohup) stays ignored. The flag is cleared. */
void stop_install(void);
/* Puts back what was there before. The flag stays as it is. */
void stop_uninstall(void);

bool stop_requested(void);
int stop_signal(void); /* the signal that asked first; 0: none */

#endif
