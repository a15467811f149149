/* The thread pool: every thread runs once a round, and what a round wrote is seen after it. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/pool.h"

#define MAX_THREADS 8
#define ITEMS 1001

typedef struct work {
    int64_t items[ITEMS];
    int calls[MAX_THREADS];
    int round;
} work;

/* Adds 1 to this thread's share. */
static void add_one(void *arg, int thread, int threads)
{
    work *w = arg;
    int64_t begin, end;

    w->calls[thread]++;
    pool_share(ITEMS, thread, threads, &begin, &end);
    for (int64_t i = begin; i < end; i++)
        w->items[i]++;
}

static void test_many_rounds(void **state)
{
    (void)state;
    for (int threads = 1; threads <= MAX_THREADS; threads++) {
        const int rounds = 500;
        work w = {.round = 0};
        inlay_error err;
        pool *p;
        assert_int_equal(pool_new(&p, threads, &err), INLAY_OK);
        assert_int_equal(pool_threads(p), threads);
        for (int round = 1; round <= rounds; round++) {
            pool_run(p, add_one, &w);
            assert_int_equal(w.items[round % ITEMS], round); /* plain reads between rounds are safe */
        }
        for (int i = 0; i < ITEMS; i++)
            assert_int_equal(w.items[i], rounds);
        for (int i = 0; i < threads; i++)
            assert_int_equal(w.calls[i], rounds);
        pool_free(p);
    }
}

/* Each thread reads what another one wrote in the round before. */
static void rotate(void *arg, int thread, int threads)
{
    work *w = arg;
    int from = w->round & 1, to = 1 - from;

    w->items[to * MAX_THREADS + thread] = w->items[from * MAX_THREADS + (thread + 1) % threads];
}

static void test_rounds_see_each_other(void **state)
{
    inlay_error err;
    pool *p;

    (void)state;
    assert_int_equal(pool_new(&p, 3, &err), INLAY_OK);
    for (int wait = 0; wait < 2; wait++) {
        work w = {.items = {10, 11, 12}};
        for (int round = 0; round < 300; round++) {
            w.round = round;
            pool_run(p, rotate, &w);
            for (volatile int spin = 0; wait && spin < 40000; spin++) /* long enough that the others go to sleep */
                continue;
        }
        assert_int_equal(w.items[0], 10); /* 300 turns of three */
        assert_int_equal(w.items[1], 11);
        assert_int_equal(w.items[2], 12);
    }
    pool_free(p);
}

static void test_shares_cover_exactly(void **state)
{
    static const int64_t counts[] = {0, 1, 2, 7, 8, 9, 1000, 4294967311, INT64_MAX / 1024};

    (void)state;
    for (size_t c = 0; c < sizeof counts / sizeof *counts; c++)
        for (int threads = 1; threads <= 17; threads++) {
            int64_t reached = 0, smallest = INT64_MAX, largest = 0;
            for (int thread = 0; thread < threads; thread++) {
                int64_t begin, end;
                pool_share(counts[c], thread, threads, &begin, &end);
                assert_true(begin == reached && end >= begin);
                smallest = end - begin < smallest ? end - begin : smallest;
                largest = end - begin > largest ? end - begin : largest;
                reached = end;
            }
            assert_true(reached == counts[c]);
            assert_true(largest - smallest <= 1);
        }
}

static void test_bad_sizes(void **state)
{
    inlay_error err = {0};
    pool *p = (pool *)(uintptr_t)16;

    (void)state;
    assert_int_equal(pool_new(&p, 0, &err), INLAY_ERR_USAGE);
    assert_null(p);
    assert_string_equal(err.message, "threads must be between 1 and 1024, found 0");
    assert_int_equal(pool_new(&p, -1, &err), INLAY_ERR_USAGE);
    assert_int_equal(pool_new(&p, 1025, &err), INLAY_ERR_USAGE);
    pool_free(NULL);
}

/* Pools come and go without having worked, and after one round. */
static void test_short_lives(void **state)
{
    (void)state;
    for (int i = 0; i < 50; i++) {
        work w = {.round = 0};
        inlay_error err;
        pool *p;
        assert_int_equal(pool_new(&p, 1 + i % 5, &err), INLAY_OK);
        if (i % 2)
            pool_run(p, add_one, &w);
        pool_free(p);
        assert_int_equal(w.items[i], i % 2);
    }
    assert_true(pool_processors() >= 1);
}

/* With more threads than processors nobody looks again and again for work. */
static void test_more_threads_than_processors(void **state)
{
    const int threads = pool_processors() + 3;
    work w = {.round = 0};
    inlay_error err;
    pool *p;

    (void)state;
    if (threads > MAX_THREADS)
        skip();
    assert_int_equal(pool_new(&p, threads, &err), INLAY_OK);
    for (int round = 0; round < 300; round++)
        pool_run(p, add_one, &w);
    for (int i = 0; i < ITEMS; i++)
        assert_int_equal(w.items[i], 300);
    pool_free(p);
}

/* The processors that the calling thread may use. */
static int bound_to(cpu_set_t *set)
{
    assert_int_equal(sched_getaffinity(0, sizeof *set, set), 0);
    return CPU_COUNT(set);
}

static void look_where(void *arg, int thread, int threads)
{
    (void)threads;
    bound_to((cpu_set_t *)arg + thread);
}

static void *unbound_thread(void *arg)
{
    pool_unbind();
    *(int *)arg = bound_to(&(cpu_set_t){{0}});
    return NULL;
}

static void test_pinned(void **state)
{
    const int processors = pool_processors();
    cpu_set_t *sets = calloc((size_t)processors, sizeof *sets), all;
    int seen = 0;
    pthread_t other;
    inlay_error err;
    pool *p;

    (void)state;
    assert_int_equal(bound_to(&all), processors);
    assert_int_equal(pool_new(&p, processors, &err), INLAY_OK);
    assert_int_equal(pool_pin(p, &err), INLAY_OK);
    pool_run(p, look_where, sets);
    for (int i = 0; i < processors; i++) {
        cpu_set_t common;
        assert_int_equal(CPU_COUNT(&sets[i]), 1);
        CPU_AND(&common, &sets[i], &all);
        assert_int_equal(CPU_COUNT(&common), 1);
        for (int j = 0; j < i; j++)
            assert_false(CPU_EQUAL(&sets[i], &sets[j]));
    }
    assert_int_equal(pool_processors(), processors);
    assert_int_equal(pthread_create(&other, NULL, unbound_thread, &seen), 0);
    pthread_join(other, NULL);
    assert_int_equal(seen, processors);
    pool_free(p);
    assert_int_equal(bound_to(&all), processors);
    free(sets);
    assert_int_equal(pool_new(&p, processors + 1, &err), INLAY_OK);
    assert_int_equal(pool_pin(p, &err), INLAY_ERR_USAGE);
    assert_non_null(strstr(err.message, "cannot be pinned: this process may use"));
    pool_free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_many_rounds),
        cmocka_unit_test(test_rounds_see_each_other),
        cmocka_unit_test(test_shares_cover_exactly),
        cmocka_unit_test(test_bad_sizes),
        cmocka_unit_test(test_short_lives),
        cmocka_unit_test(test_more_threads_than_processors),
        cmocka_unit_test(test_pinned),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
