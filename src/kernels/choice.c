#include "kernels/choice.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>
#endif

#include "base/monitor.h"
#include "base/status.h"
#include "kernels/device.h"

/* What products of bf16 pairs (vdpbf16ps) are known to do: on AMD's processors since Zen 4 twice the rate of f32; on
 * Intel's, where they are not done by tiles, half of it. */
static const struct {
    const char *vendor, *why;
    bool faster;
} known_paces[] = {
    {"AuthenticAMD", "this processor multiplies pairs of bf16 at twice the rate of f32", true},
    {"GenuineIntel", "this processor multiplies pairs of bf16, without tiles, at half the rate of f32", false},
};

static void read_vendor(char out[13])
{
    out[0] = '\0';
#if defined(__x86_64__) || defined(__i386__)
    unsigned a, b, c, d;
    if (__get_cpuid(0, &a, &b, &c, &d)) {
        memcpy(out, &b, 4);
        memcpy(out + 4, &d, 4);
        memcpy(out + 8, &c, 4);
        out[12] = '\0';
    }
#endif
}

/* Operations a second on registers, the best of a few short runs. */
static double rate_of(device *d, dtype type)
{
    double best = 0;

    for (int run = 0; run < 5; run++) {
        double begun = monitor_seconds(), done = d->k->peak(&d->c, type, 200000), rate;
        rate = done / (monitor_seconds() - begun);
        best = rate > best ? rate : best;
    }
    return best;
}

/* Measured once for a set. */
static bool measured_faster(const kernels *k)
{
    static pthread_mutex_t measuring = PTHREAD_MUTEX_INITIALIZER;
    static const kernels *measured;
    static bool faster;
    bool answer;
    device d;

    pthread_mutex_lock(&measuring);
    if (measured != k && device_open(&d, k, 1, NULL) == INLAY_OK) {
        measured = k;
        faster = rate_of(&d, DTYPE_BF16) > 1.25 * rate_of(&d, k->real);
        device_close(&d);
    }
    answer = measured == k && faster;
    pthread_mutex_unlock(&measuring);
    return answer;
}

bool kernels_prefer_bf16(const kernels *k, const char **why)
{
    char vendor[13];
    bool faster;

    *why = k->bf16 == PACE_FASTER ? "these kernels multiply bf16 faster than f32"
                                  : "these kernels multiply bf16 no faster than f32";
    if (k->bf16 != PACE_UNKNOWN)
        return k->bf16 == PACE_FASTER;
    read_vendor(vendor);
    for (size_t i = 0; i < sizeof known_paces / sizeof *known_paces; i++)
        if (strcmp(vendor, known_paces[i].vendor) == 0) {
            *why = known_paces[i].why;
            return known_paces[i].faster;
        }
    faster = measured_faster(k);
    *why = faster ? "bf16 was measured to be faster than f32" : "bf16 was not measured to be faster than f32";
    return faster;
}

/* A set that has products of bf16 for their speed gives way where they are slow: the next one computes f32 as fast, and
 * bf16 faster. */
const char *kernels_passed_over(int i)
{
    const kernels *k = kernels_set(i);
    const char *why = k->refused();

    if (!why && k->on_request)
        why = "it is chosen by its name only";
    if (!why && k->bf16 == PACE_UNKNOWN && kernels_prefer_bf16(k, &why))
        why = NULL;
    return why;
}

inlay_status kernels_choose(const kernels **out, inlay_error *err)
{
    const char *wanted = getenv("INLAY_ISA");
    char names[256] = "";

    for (int i = 0; kernels_set(i); i++) {
        const kernels *k = *out = kernels_set(i);
        if (!wanted || !*wanted) {
            if (!kernels_passed_over(i)) /* of the portable set that is true */
                return INLAY_OK;
        } else if (!k->refused()) {
            if (strcmp(wanted, k->name) == 0)
                return INLAY_OK;
            snprintf(names + strlen(names), sizeof names - strlen(names), "%s%s", names[0] ? ", " : "", k->name);
        }
    }
    FAIL(err, INLAY_ERR_USAGE, "INLAY_ISA is '%s'; this processor has: %s", wanted, names);
}
