#include "kernels/device.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>
#endif

#include "base/arena.h"
#include "base/monitor.h"

inlay_status device_open(device *d, const kernels *k, int threads, inlay_error *err)
{
    *d = (device){.k = k};
    if (!k)
        TRY(kernels_choose(&d->k, err));
    if (threads == 0)
        threads = pool_processors();
    TRY(pool_new(&d->c.threads, threads, err));
    d->c.scratch_size = d->k->scratch_size;
    d->c.micro_kernels = d->k->micro_kernels;
    d->c.begin = d->k->begin;
    d->c.end = d->k->end;
    if (d->c.scratch_size)
        d->c.scratch = calloc((size_t)threads, sizeof *d->c.scratch);
    for (int i = 0; i < threads && d->c.scratch_size; i++) {
        void *block = d->c.scratch ? aligned_alloc(64, (d->c.scratch_size + 63) & ~(size_t)63) : NULL;
        if (!block) {
            size_t size = d->c.scratch_size;
            device_close(d);
            FAIL(err, INLAY_ERR_NOMEM, "out of memory: %.1f MB of scratch for each of %d threads", (double)size / 1e6,
                 threads);
        }
        d->c.scratch[i] = block;
    }
    return INLAY_OK;
}

void device_plan(const device *d, budget *room)
{
    budget_set(room, "scratch of the threads", size_product(pool_threads(d->c.threads), d->c.scratch_size),
               "fewer --threads");
}

void device_close(device *d)
{
    for (int i = 0; d->c.scratch && d->c.threads && i < pool_threads(d->c.threads); i++)
        free(d->c.scratch[i]);
    free(d->c.scratch);
    pool_free(d->c.threads);
    *d = (device){0};
}

/* ---- which precision is faster ---- */

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

static bool measured_faster;

static void measure_pace(void)
{
    device d;

    if (device_open(&d, NULL, 1, NULL) != INLAY_OK)
        return;
    measured_faster = rate_of(&d, DTYPE_BF16) > 1.25 * rate_of(&d, d.k->real);
    device_close(&d);
}

bool device_prefers_bf16(const device *d, const char **why)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    char vendor[13];

    *why = d->k->bf16 == PACE_FASTER ? "these kernels multiply bf16 faster than f32"
                                     : "these kernels multiply bf16 no faster than f32";
    if (d->k->bf16 != PACE_UNKNOWN)
        return d->k->bf16 == PACE_FASTER;
    read_vendor(vendor);
    for (size_t i = 0; i < sizeof known_paces / sizeof *known_paces; i++)
        if (strcmp(vendor, known_paces[i].vendor) == 0) {
            *why = known_paces[i].why;
            return known_paces[i].faster;
        }
    pthread_once(&once, measure_pace);
    *why = measured_faster ? "bf16 was measured to be faster than f32" : "bf16 was not measured to be faster than f32";
    return measured_faster;
}

/* ---- copies ---- */

#define CHUNK 512 /* values that are converted at a time */

void device_set_f32(const device *d, void *array, const float *values, int64_t count)
{
    double wide[CHUNK];

    if (d->k->real == DTYPE_F32) {
        d->k->copy_in(array, values, (size_t)count * sizeof(float));
        return;
    }
    for (int64_t done = 0, now; done < count; done += now) {
        now = count - done < CHUNK ? count - done : CHUNK;
        for (int64_t i = 0; i < now; i++)
            wide[i] = (double)values[done + i];
        d->k->copy_in((double *)array + done, wide, (size_t)now * sizeof *wide);
    }
}

void device_get_f32(const device *d, float *out, const void *array, int64_t count)
{
    double wide[CHUNK];

    if (d->k->real == DTYPE_F32) {
        d->k->copy_out(out, array, (size_t)count * sizeof(float));
        return;
    }
    for (int64_t done = 0, now; done < count; done += now) {
        now = count - done < CHUNK ? count - done : CHUNK;
        d->k->copy_out(wide, (const double *)array + done, (size_t)now * sizeof *wide);
        for (int64_t i = 0; i < now; i++)
            out[done + i] = (float)wide[i];
    }
}
