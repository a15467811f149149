/* What this process uses and what it runs on. */
#ifndef INLAY_BASE_MONITOR_H
#define INLAY_BASE_MONITOR_H

#include <stdint.h>

/* Wall clock in seconds from an arbitrary start; never goes back. */
double monitor_seconds(void);

/* Resident memory in bytes, now and at its highest; 0 when the system does not tell. Mapped weights count while they
 * are resident. */
uint64_t monitor_rss(void);
uint64_t monitor_peak_rss(void);
/* Lets the highest resident memory begin again at what is in use now. Where the system cannot (only Linux can), it
 * stays that of the whole process. */
void monitor_reset_peak(void);

/* Bytes that this process can still take before the system or its limits refuse them: the least of what the machine
 * has available, what the control groups above it leave (versions 1 and 2; the cache of files in them counts as free,
 * swap does not), and what is left of its address space (ulimit -v). 0: unknown. `root`: the folder in which proc and
 * sys/fs/cgroup lie, "" for the machine's own. */
uint64_t monitor_free(const char *root);

typedef struct monitor_machine {
    char cpu[128];   /* "AMD EPYC 7B13", or the architecture when the system gives no name */
    int processors;  /* that this process may use */
    uint64_t memory; /* of the machine, in bytes; 0: unknown */
} monitor_machine;
void monitor_describe(monitor_machine *machine);

#endif
