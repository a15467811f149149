/* Permission to use tiles. The processor says whether it has them, XCR0 whether the system keeps their state, and the
 * process has to ask for it: its signal frames grow by 8 KB, so that Linux refuses while any thread has an alternate
 * signal stack that is too small for that. */
#if defined(__linux__)
#define _GNU_SOURCE
#endif
#include "kernels/tiles/tile.h"

#include <cpuid.h>
#include <stddef.h>
#if defined(__linux__)
#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#define ARCH_REQ_XCOMP_PERM 0x1023
#define XFEATURE_XTILEDATA 18

static unsigned enabled_states(void)
{
    unsigned low, high;

    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

const char *tiles_refused(void)
{
    const unsigned tile = 1u << 24, bf16 = 1u << 22, int8 = 1u << 25, osxsave = 1u << 27, states = 3u << 17;
    unsigned a, b, c, d;

    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d & (tile | bf16 | int8)) != (tile | bf16 | int8))
        return "the processor has no tiles (AMX)";
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & osxsave) || (enabled_states() & states) != states)
        return "the system does not keep the state of tiles (AMX)";
#if defined(__linux__)
    if (syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0)
        return NULL;
    if (errno == ENOSPC || errno == EBUSY)
        return "the system refuses tiles (AMX): a thread's alternate signal stack is too small for their state";
    return "the system refuses tiles (AMX)";
#else
    return "tiles (AMX) are asked for on Linux only";
#endif
}
