#include "base/monitor.h"

#include <ctype.h>
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

/* The value of the first line "key<blanks>: value" of a file of /proc, without the line end; false when there is none.
 */
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

/* Reads a number that is all of a file; false: there is none ("max", no such file). */
static bool whole_number(const char *path, uint64_t *out)
{
    FILE *in = fopen(path, "re");
    char text[32];
    bool found = in && fgets(text, sizeof text, in) && isdigit((unsigned char)text[0]);

    if (in)
        fclose(in);
    if (found)
        *out = strtoull(text, NULL, 10);
    return found;
}

/* Bytes of files that a group's memory.stat counts and that the system takes back when it needs them. */
static uint64_t cached_files(const char *path, const char *const names[2])
{
    FILE *in = fopen(path, "re");
    char line[128];
    uint64_t sum = 0;

    while (in && fgets(line, sizeof line, in)) {
        size_t length = strcspn(line, " ");
        bool counts = line[length] == ' ';
        line[length] = '\0';
        if (counts && (strcmp(line, names[0]) == 0 || strcmp(line, names[1]) == 0))
            sum += strtoull(line + length + 1, NULL, 10);
    }
    if (in)
        fclose(in);
    return sum;
}

#define NO_LIMIT ((uint64_t)1 << 60) /* how version 1 says that there is none: the largest number of pages */

typedef struct group_version {
    const char *mount, *limit, *used, *cached[2];
} group_version;

/* The least that a group or one above it leaves. In a container the path may be the host's: folders that are not
 * there are passed over. */
static uint64_t left_in_group(const char *root, const group_version *v, char *group, uint64_t least)
{
    char path[4096];
    uint64_t limit, used, files;

    for (;;) {
        char *slash = strrchr(group, '/');
        snprintf(path, sizeof path, "%s/sys/fs/cgroup%s%s/%s", root, v->mount, group, v->limit);
        if (whole_number(path, &limit) && limit < NO_LIMIT) {
            snprintf(path, sizeof path, "%s/sys/fs/cgroup%s%s/%s", root, v->mount, group, v->used);
            used = whole_number(path, &used) ? used : 0;
            snprintf(path, sizeof path, "%s/sys/fs/cgroup%s%s/memory.stat", root, v->mount, group);
            files = cached_files(path, v->cached);
            used = used > files ? used - files : 0;
            limit = limit > used ? limit - used : 1; /* 0 would mean that it is unknown */
            least = limit < least ? limit : least;
        }
        if (!slash)
            return least;
        *slash = '\0';
    }
}

/* What the process's groups leave: its group of version 2, and that of the memory controller of version 1. Lines of
 * /proc/self/cgroup are "number:controllers:path". */
static uint64_t left_in_groups(const char *root, uint64_t least)
{
    static const group_version one = {"/memory",
                                      "memory.limit_in_bytes",
                                      "memory.usage_in_bytes",
                                      {"total_inactive_file", "total_active_file"}},
                               two = {"", "memory.max", "memory.current", {"inactive_file", "active_file"}};
    char path[4096], line[4096], *group;
    FILE *in;

    snprintf(path, sizeof path, "%s/proc/self/cgroup", root);
    in = fopen(path, "re");
    while (in && fgets(line, sizeof line, in)) {
        line[strcspn(line, "\n")] = '\0';
        group = strchr(line, ':');
        group = group ? strchr(group + 1, ':') : NULL;
        if (!group || group[1] != '/')
            continue;
        group[strlen(group) - 1] = group[strlen(group) - 1] == '/' ? '\0' : group[strlen(group) - 1];
        if (strncmp(line, "0::", 3) == 0)
            least = left_in_group(root, &two, group + 1, least);
        else if (strstr(line, ":memory:") || strstr(line, ",memory:") || strstr(line, ":memory,"))
            least = left_in_group(root, &one, group + 1, least);
    }
    if (in)
        fclose(in);
    return least;
}

static uint64_t left_of_addresses(uint64_t least)
{
    uint64_t used, left;
    struct rlimit limit;

    if (getrlimit(RLIMIT_AS, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY)
        return least;
    used = proc_bytes("/proc/self/status", "VmSize");
    left = limit.rlim_cur > used ? limit.rlim_cur - used : 1;
    return left < least ? left : least;
}

uint64_t monitor_free(const char *root)
{
    char path[4096];
    uint64_t least;

    snprintf(path, sizeof path, "%s/proc/meminfo", root);
    least = proc_bytes(path, "MemAvailable");
    least = left_of_addresses(left_in_groups(root, least ? least : UINT64_MAX));
    return least == UINT64_MAX ? 0 : least;
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
