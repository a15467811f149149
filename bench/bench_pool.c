/* What a round of the thread pool costs, and how well work is shared: rounds without work, then rounds of so many
 * microseconds of arithmetic on registers. usage: bench_pool [THREADS [pin]] */
#include <stdio.h>
#include <stdlib.h>

#include "base/monitor.h"
#include "base/pool.h"

#define SECONDS 0.5

/* About a nanosecond an item; the share of each thread is its own. */
static void spin(void *argument, int thread, int threads)
{
    int64_t begin, end;
    volatile double x = 1;

    pool_share(*(const int64_t *)argument, thread, threads, &begin, &end);
    for (int64_t i = begin; i < end; i++)
        x = x * 1.0000001;
}

/* Seconds of one round. */
static double round_of(pool *p, int64_t items)
{
    double begun = monitor_seconds(), seconds = 0;
    int64_t rounds = 0;

    while (seconds < SECONDS) {
        for (int i = 0; i < 100; i++)
            pool_run(p, spin, &items);
        rounds += 100;
        seconds = monitor_seconds() - begun;
    }
    return seconds / (double)rounds;
}

int main(int argc, char **argv)
{
    static const int64_t sizes[] = {0, 1000, 4000, 16000, 64000};
    int threads = argc > 1 ? (int)strtol(argv[1], NULL, 10) : pool_processors();
    pool *one, *many;
    inlay_error err;

    if (pool_new(&one, 1, &err) != INLAY_OK || pool_new(&many, threads, &err) != INLAY_OK ||
        (argc > 2 && pool_pin(many, &err) != INLAY_OK)) {
        fprintf(stderr, "bench_pool: %s\n", err.message);
        return 1;
    }
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        double alone = round_of(one, sizes[i]), shared = round_of(many, sizes[i]);
        printf("%6lld items: %8.2f us on 1 thread, %8.2f us on %d: %.2f times as fast\n", (long long)sizes[i],
               1e6 * alone, 1e6 * shared, threads, alone / shared);
    }
    pool_free(many);
    pool_free(one);
    return 0;
}
