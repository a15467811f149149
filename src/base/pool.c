#define _GNU_SOURCE
#include "base/pool.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__)
#define SPIN_PAUSE() __builtin_ia32_pause()
#else
#define SPIN_PAUSE() ((void)0)
#endif

/* Operations of one step follow each other within microseconds, so who waits looks again and again for a short time
 * before he sleeps. Now and then he lets another thread have the processor: it may be the one that he waits for. */
#define SPINS 2000
#define SPINS_TO_YIELD 64

/* A pool; what different threads write lies in different cache lines. */
struct pool {
    int threads, spins;
    bool pinned;
    pthread_t *workers;
    _Alignas(64) atomic_uint round; /* of the caller: which round it is, and its work */
    pool_fn fn;
    void *arg;
    bool stopping;
    _Alignas(64) atomic_int pending;    /* of the workers: how many are not done */
    _Alignas(64) pthread_mutex_t mutex; /* of who sleeps */
    pthread_cond_t wake, done;
    atomic_int sleeping;
    atomic_bool caller_sleeps;
};

typedef struct worker_start {
    pool *p;
    int index;
} worker_start;

/* Pauses between two looks; false: it has been long enough. */
static bool wait_a_little(const pool *p, int looks)
{
    if (looks >= p->spins)
        return false;
    if (looks % SPINS_TO_YIELD == SPINS_TO_YIELD - 1)
        sched_yield();
    else
        SPIN_PAUSE();
    return true;
}

/* Who goes to sleep says so before his last look, and who wakes looks for sleepers after he has changed what they wait
 * for. As all four are in one order, one of the two sees the other. */
static void wait_for_round(pool *p, unsigned seen)
{
    for (int i = 0; wait_a_little(p, i); i++)
        if (atomic_load_explicit(&p->round, memory_order_acquire) != seen)
            return;
    pthread_mutex_lock(&p->mutex);
    atomic_fetch_add(&p->sleeping, 1);
    while (atomic_load(&p->round) == seen)
        pthread_cond_wait(&p->wake, &p->mutex);
    atomic_fetch_sub(&p->sleeping, 1);
    pthread_mutex_unlock(&p->mutex);
}

static void start_round(pool *p)
{
    atomic_fetch_add(&p->round, 1);
    if (atomic_load(&p->sleeping) > 0) {
        pthread_mutex_lock(&p->mutex);
        pthread_cond_broadcast(&p->wake);
        pthread_mutex_unlock(&p->mutex);
    }
}

static void end_share(pool *p)
{
    if (atomic_fetch_sub(&p->pending, 1) == 1 && atomic_load(&p->caller_sleeps)) {
        pthread_mutex_lock(&p->mutex);
        pthread_cond_signal(&p->done);
        pthread_mutex_unlock(&p->mutex);
    }
}

static void wait_for_workers(pool *p)
{
    for (int i = 0; wait_a_little(p, i); i++)
        if (atomic_load_explicit(&p->pending, memory_order_acquire) == 0)
            return;
    pthread_mutex_lock(&p->mutex);
    atomic_store(&p->caller_sleeps, true);
    while (atomic_load(&p->pending) != 0)
        pthread_cond_wait(&p->done, &p->mutex);
    atomic_store(&p->caller_sleeps, false);
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
        end_share(p);
    }
}

inlay_status pool_new(pool **out, int threads, inlay_error *err)
{
    pool *p;

    *out = NULL;
    if (threads < 1 || threads > 1024)
        FAIL(err, INLAY_ERR_USAGE, "threads must be between 1 and 1024, found %d", threads);
    if (posix_memalign((void **)&p, 64, sizeof *p) != 0)
        FAIL(err, INLAY_ERR_NOMEM, "out of memory for the thread pool");
    *p = (pool){.threads = 1,
                .spins = threads <= pool_processors() ? SPINS
                                                      : 0}; /* with more, who looks again takes the time of who works */
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
    p->stopping = true;
    start_round(p);
    for (int i = 1; i < p->threads; i++)
        pthread_join(p->workers[i], NULL);
    if (p->pinned)
        pool_unbind();
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
    atomic_store_explicit(&p->pending, p->threads - 1, memory_order_relaxed); /* start_round publishes all three */
    start_round(p);
    fn(arg, 0, p->threads);
    wait_for_workers(p);
}

void pool_share(int64_t count, int thread, int threads, int64_t *begin, int64_t *end)
{
    *begin = count * thread / threads;
    *end = count * (thread + 1) / threads;
}

/* ---- processors ---- */

static pthread_once_t allowed_once = PTHREAD_ONCE_INIT;
static cpu_set_t allowed; /* a fact about the process, read before any of its threads is bound */

static void read_allowed(void)
{
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0 || CPU_COUNT(&allowed) == 0)
        CPU_SET(0, &allowed);
}

int pool_processors(void)
{
    pthread_once(&allowed_once, read_allowed);
    return CPU_COUNT(&allowed);
}

void pool_unbind(void)
{
    pthread_once(&allowed_once, read_allowed);
    pthread_setaffinity_np(pthread_self(), sizeof allowed, &allowed);
}

/* The core that a processor is a thread of, as the first of its processors; the processor itself where the system does
 * not tell. */
static int core_of(int processor)
{
    char path[96], line[64];
    int first = processor;
    FILE *in;

    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list", processor);
    in = fopen(path, "re");
    if (!in)
        return processor;
    if (fgets(line, sizeof line, in))
        first = (int)strtol(line, NULL, 10); /* "0-1" or "0,64" */
    fclose(in);
    return first;
}

/* The processors that may be used, the first of each core in front of the second ones, and so on. */
static void list_processors(int list[CPU_SETSIZE])
{
    int found[CPU_SETSIZE], core[CPU_SETSIZE], turn[CPU_SETSIZE], all = 0, count = 0;

    for (int i = 0; i < CPU_SETSIZE; i++)
        if (CPU_ISSET(i, &allowed)) {
            found[all] = i;
            core[all] = core_of(i);
            turn[all] = 0;
            for (int j = 0; j < all; j++)
                turn[all] += core[j] == core[all];
            all++;
        }
    for (int wanted = 0; count < all; wanted++)
        for (int i = 0; i < all; i++)
            if (turn[i] == wanted)
                list[count++] = found[i];
}

inlay_status pool_pin(pool *p, inlay_error *err)
{
    int list[CPU_SETSIZE], processors = pool_processors();

    if (p->threads > processors)
        FAIL(err, INLAY_ERR_USAGE, "%d threads cannot be pinned: this process may use %d processors", p->threads,
             processors);
    list_processors(list);
    for (int i = 0; i < p->threads; i++) {
        cpu_set_t one;
        int failure;
        CPU_ZERO(&one);
        CPU_SET(list[i], &one);
        failure = pthread_setaffinity_np(i ? p->workers[i] : pthread_self(), sizeof one, &one);
        if (failure)
            FAIL(err, INLAY_ERR_IO, "cannot pin thread %d to processor %d: %s", i, list[i], strerror(failure));
        p->pinned = true;
    }
    return INLAY_OK;
}
