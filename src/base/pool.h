/* A pool of compute threads. Work is split statically, by the caller's own arithmetic on (thread, threads), never
 * stolen: so results cannot depend on timing. */
#ifndef INLAY_BASE_POOL_H
#define INLAY_BASE_POOL_H

#include "base/status.h"

typedef struct pool pool;

/* threads >= 1; the caller's thread is number 0. Free with pool_free (NULL accepted). */
inlay_status pool_new(pool **out, int threads, inlay_error *err);
void pool_free(pool *p);
int pool_threads(const pool *p);

/* Runs fn(arg, thread, threads) once on each thread and returns when all are done. Not reentrant. */
typedef void (*pool_fn)(void *arg, int thread, int threads);
void pool_run(pool *p, pool_fn fn, void *arg);

/* The half-open share [*begin, *end) of `count` items that belongs to `thread`; contiguous, sizes differ by at most
 * one. */
void pool_share(int64_t count, int thread, int threads, int64_t *begin, int64_t *end);

/* Number of processors that this process may use: those that it was started with, whatever its threads are bound to
 * since. */
int pool_processors(void);

/* Binds each thread, the caller's as well, to a processor of its own among those that the process may use; cores first,
 * then further threads of the same cores. pool_free unbinds the caller's. More threads than processors:
 * INLAY_ERR_USAGE. */
inlay_status pool_pin(pool *p, inlay_error *err);
/* Lets a thread that was made by a bound one, and is bound like it, run on all processors again. */
void pool_unbind(void);

#endif
