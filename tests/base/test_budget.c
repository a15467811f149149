/* What fits and what does not, and threads that share memory. */
#define _GNU_SOURCE
#include "support.h"

#include <pthread.h>

#include "base/budget.h"
#include "base/arena.h"

static void test_parts_add_up(void **state)
{
    budget b;
    inlay_error err;
    char text[BUDGET_TEXT];

    (void)state;
    budget_open(&b, 1000000, true);
    assert_int_equal(budget_decoding(&b), 250000);
    assert_int_equal(b.files.size + b.images.size, 250000);
    budget_set(&b, "weights", 400000, NULL);
    budget_set(&b, "activations", 500000, "a smaller --batch-size");
    budget_set(&b, "nothing", 0, "no advice of it");
    assert_int_equal(budget_left(&b), 100000);
    ASSERT_OK(budget_check(&b, &err));
    budget_set(&b, "weights", 500000, NULL); /* in place of what it was */
    assert_int_equal(budget_sum(&b), 1000000);
    ASSERT_OK(budget_check(&b, &err));
    assert_string_equal(budget_text(&b, text), "weights 500 kB, activations 500 kB");
    budget_set(&b, "feature cache", 1, "--feature-cache off");
    assert_int_equal(budget_left(&b), 0);
    assert_int_equal(budget_check(&b, &err), INLAY_ERR_NOMEM);
    assert_string_equal(
        err.message,
        "1.0 MB of memory are needed and --memory is 1.0 MB: weights 500 kB, activations 500 kB, feature cache 1 B. "
        "What helps: a smaller --batch-size, --feature-cache off, a larger --memory");
    budget_close(&b);
}

/* Parts that are more than a number can hold are too much, and not little. */
static void test_sums_do_not_wrap(void **state)
{
    budget b;
    inlay_error err;

    (void)state;
    budget_open(&b, UINT64_MAX - 1, false);
    budget_set(&b, "one", UINT64_MAX / 2 + 1, NULL);
    budget_set(&b, "other", UINT64_MAX / 2 + 1, NULL);
    assert_true(budget_sum(&b) == UINT64_MAX);
    assert_int_equal(budget_check(&b, &err), INLAY_ERR_NOMEM);
    budget_close(&b);
}

static void test_unknown_total_holds_anything(void **state)
{
    budget b;
    inlay_error err;

    (void)state;
    budget_open(&b, 0, false);
    budget_set(&b, "weights", UINT64_MAX, NULL);
    ASSERT_OK(budget_check(&b, &err));
    assert_true(budget_left(&b) == UINT64_MAX);
    assert_true(memory_share_take(&b.images, (uint64_t)1 << 50));
    memory_share_give(&b.images, (uint64_t)1 << 50);
    budget_close(&b);
}

enum { THREADS = 4, ROUNDS = 2000, SHARE = 100 };

typedef struct takers {
    memory_share share;
    pthread_mutex_t lock;
    uint64_t held, most;
} takers;

static void *take_and_give(void *argument)
{
    takers *t = argument;

    for (uint64_t i = 0; i < ROUNDS; i++) {
        uint64_t bytes = i * 37 % SHARE + 1;
        if (!memory_share_take(&t->share, bytes))
            return t;
        pthread_mutex_lock(&t->lock);
        t->held += bytes;
        t->most = t->held > t->most ? t->held : t->most;
        pthread_mutex_unlock(&t->lock);
        pthread_mutex_lock(&t->lock);
        t->held -= bytes;
        pthread_mutex_unlock(&t->lock);
        memory_share_give(&t->share, bytes);
    }
    return NULL;
}

static void test_threads_stay_within_a_share(void **state)
{
    pthread_t threads[THREADS];
    takers t = {.lock = PTHREAD_MUTEX_INITIALIZER};
    void *failed;

    (void)state;
    memory_share_open(&t.share, SHARE);
    assert_false(memory_share_take(&t.share, SHARE + 1)); /* at once: nobody could give so much back */
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, take_and_give, &t), 0);
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], &failed);
        assert_null(failed);
    }
    assert_true(t.most > 0 && t.most <= SHARE);
    assert_int_equal(t.share.used, 0);
    memory_share_close(&t.share);
}

static void test_checked_sizes(void **state)
{
    void *block = &block;
    inlay_error err;

    (void)state;
    assert_int_equal(size_product(3, 4), 12);
    assert_int_equal(size_product(0, SIZE_MAX), 0);
    assert_true(size_product(-1, 1) == SIZE_MAX);
    assert_true(size_product(INT64_MAX, 4) == SIZE_MAX);
    assert_true(size_product((int64_t)1 << 32, (size_t)1 << 32) == SIZE_MAX); /* would be 0 */
    assert_true(size_product(2, size_product((int64_t)1 << 33, (size_t)1 << 33)) == SIZE_MAX);
    assert_true(size_sum(SIZE_MAX, 64) == SIZE_MAX);
    assert_int_equal(size_sum(1, 2), 3);
    assert_null(memory_array((int64_t)1 << 61, 16));
    assert_null(memory_array(-1, 4));
    assert_int_equal(memory_alloc(&block, SIZE_MAX, "everything", &err), INLAY_ERR_NOMEM);
    assert_null(block);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parts_add_up),
        cmocka_unit_test(test_sums_do_not_wrap),
        cmocka_unit_test(test_unknown_total_holds_anything),
        cmocka_unit_test(test_threads_stay_within_a_share),
        cmocka_unit_test(test_checked_sizes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
