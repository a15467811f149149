#include "base/monitor.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "base/pool.h"

double monitor_seconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* The value of the first line "key<blanks>: value" of a file of /proc, without the line end; false when there is none. */
static bool proc_value(const char *path, const char *key, char *value, size_t size)
{
    FILE *in = fopen(path, "re");
    char line[512];
    bool found = false;

    while (in && !found && fgets(line, sizeof line, in)) {
        char *colon = strchr(line, ':');
        size_t length = strlen(key);
        if (!colon || strncmp(line, key, length) != 0 || line + length + strspn(line + length, " \t") != colon)
            continue;
        colon += 1 + strspn(colon + 1, " \t");
        colon[strcspn(colon, "\n")] = '\0';
        snprintf(value, size, "%s", colon);
        found = true;
    }
    if (in)
        fclose(in);
    return found;
}

/* A value of /proc in kB, as bytes. */
static uint64_t proc_bytes(const char *path, const char *key)
{
    char value[64];

    return proc_value(path, key, value, sizeof value) ? strtoull(value, NULL, 10) * 1024 : 0;
}

uint64_t monitor_rss(void)
{
    return proc_bytes("/proc/self/status", "VmRSS");
}

uint64_t monitor_peak_rss(void)
{
    /* getrusage also counts what the process was before exec, so it is only the second choice */
    uint64_t peak = proc_bytes("/proc/self/status", "VmHWM"), now = monitor_rss();
    struct rusage usage;

    if (peak == 0 && getrusage(RUSAGE_SELF, &usage) == 0)
        peak = (uint64_t)usage.ru_maxrss * 1024;
    return peak > now ? peak : now; /* the high-water mark may lag behind */
}

void monitor_reset_peak(void)
{
    FILE *out = fopen("/proc/self/clear_refs", "we");

    if (out) {
        fputs("5", out);
        fclose(out);
    }
}

void monitor_describe(monitor_machine *machine)
{
    static const char *const keys[] = {"model name", "Model", "cpu"}; /* x86 and most others, some ARM boards, POWER */
    long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    struct utsname system;
    bool named = false;

    *machine = (monitor_machine){.processors = pool_processors()};
    for (size_t i = 0; i < sizeof keys / sizeof *keys && !named; i++)
        named = proc_value("/proc/cpuinfo", keys[i], machine->cpu, sizeof machine->cpu) && machine->cpu[0];
    if (!named)
        snprintf(machine->cpu, sizeof machine->cpu, "%s", uname(&system) == 0 ? system.machine : "unknown processor");
    if (pages > 0 && page > 0)
        machine->memory = (uint64_t)pages * (uint64_t)page;
}
