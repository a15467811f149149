#define _GNU_SOURCE
#include "base/pool.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

#if defined(__x86_64__)
#define SPIN_PAUSE() __builtin_ia32_pause()
#else
#define SPIN_PAUSE() ((void)0)
#endif

/* Operations of one step follow each other within microseconds, so a waiting thread spins for a short time before it sleeps. */
#define SPINS 4000

struct pool {
    int threads;
    pthread_t *workers;
    pthread_mutex_t mutex;
    pthread_cond_t wake, done;
    pool_fn fn;
    void *arg;
    int sleeping, stopping;
    _Alignas(64) atomic_uint round;
    _Alignas(64) atomic_int pending;
};

typedef struct worker_start {
    pool *p;
    int index;
} worker_start;

static void wait_for_round(pool *p, unsigned seen)
{
    for (int i = 0; i < SPINS; i++) {
        if (atomic_load_explicit(&p->round, memory_order_acquire) != seen)
            return;
        SPIN_PAUSE();
    }
    pthread_mutex_lock(&p->mutex);
    p->sleeping++;
    while (atomic_load_explicit(&p->round, memory_order_acquire) == seen)
        pthread_cond_wait(&p->wake, &p->mutex);
    p->sleeping--;
    pthread_mutex_unlock(&p->mutex);
}

static void *worker_main(void *argument)
{
    worker_start start = *(worker_start *)argument;
    pool *p = start.p;
    unsigned seen = 0;

    free(argument);
    for (;;) {
        wait_for_round(p, seen);
        seen++;
        if (p->stopping)
            return NULL;
        p->fn(p->arg, start.index, p->threads);
        if (atomic_fetch_sub_explicit(&p->pending, 1, memory_order_acq_rel) == 1) {
            pthread_mutex_lock(&p->mutex);
            pthread_cond_signal(&p->done);
            pthread_mutex_unlock(&p->mutex);
        }
    }
}

static void start_round(pool *p)
{
    pthread_mutex_lock(&p->mutex);
    atomic_fetch_add_explicit(&p->round, 1, memory_order_release);
    if (p->sleeping)
        pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->mutex);
}

inlay_status pool_new(pool **out, int threads, inlay_error *err)
{
    pool *p;

    *out = NULL;
    if (threads < 1 || threads > 1024)
        FAIL(err, INLAY_ERR_USAGE, "threads must be between 1 and 1024, found %d", threads);
    if (posix_memalign((void **)&p, 64, sizeof *p) != 0)
        FAIL(err, INLAY_ERR_NOMEM, "out of memory for the thread pool");
    *p = (pool){.threads = 1};
    pthread_mutex_init(&p->mutex, NULL);
    pthread_cond_init(&p->wake, NULL);
    pthread_cond_init(&p->done, NULL);
    p->workers = calloc((size_t)threads, sizeof *p->workers);
    for (int i = 1; i < threads; i++) {
        worker_start *start = malloc(sizeof *start);
        if (start)
            *start = (worker_start){p, i};
        if (!start || !p->workers || pthread_create(&p->workers[i], NULL, worker_main, start) != 0) {
            free(start);
            pool_free(p);
            FAIL(err, INLAY_ERR_NOMEM, "cannot start compute thread %d of %d", i + 1, threads);
        }
        p->threads = i + 1;
    }
    *out = p;
    return INLAY_OK;
}

void pool_free(pool *p)
{
    if (!p)
        return;
    p->stopping = 1;
    start_round(p);
    for (int i = 1; i < p->threads; i++)
        pthread_join(p->workers[i], NULL);
    pthread_cond_destroy(&p->done);
    pthread_cond_destroy(&p->wake);
    pthread_mutex_destroy(&p->mutex);
    free(p->workers);
    free(p);
}

int pool_threads(const pool *p)
{
    return p->threads;
}

void pool_run(pool *p, pool_fn fn, void *arg)
{
    if (p->threads == 1) {
        fn(arg, 0, 1);
        return;
    }
    p->fn = fn;
    p->arg = arg;
    atomic_store_explicit(&p->pending, p->threads - 1, memory_order_release);
    start_round(p);
    fn(arg, 0, p->threads);
    for (int i = 0; i < SPINS; i++) {
        if (atomic_load_explicit(&p->pending, memory_order_acquire) == 0)
            return;
        SPIN_PAUSE();
    }
    pthread_mutex_lock(&p->mutex);
    while (atomic_load_explicit(&p->pending, memory_order_acquire) != 0)
        pthread_cond_wait(&p->done, &p->mutex);
    pthread_mutex_unlock(&p->mutex);
}

void pool_share(int64_t count, int thread, int threads, int64_t *begin, int64_t *end)
{
    *begin = count * thread / threads;
    *end = count * (thread + 1) / threads;
}

int pool_processors(void)
{
    cpu_set_t set;

    if (sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0)
        return CPU_COUNT(&set);
    return 1;
}
