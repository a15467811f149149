/* Numbers by a hash: everything that was added is found, under whatever collisions, and nothing else. */
#include "support.h"

#include "base/hash_index.h"

static int count_of(const hash_index *h, uint32_t hash, int wanted)
{
    int found = 0;

    for (int e = hash_index_next(h, hash, -1); e >= 0; e = hash_index_next(h, hash, e))
        found += h->entries[e].id == wanted;
    return found;
}

static void test_found(void **state)
{
    (void)state;
    for (uint32_t kinds = 1; kinds <= 10000; kinds *= 10) { /* 1: all have the same hash */
        arena *memory = arena_new();
        hash_index h = {0};
        assert_int_equal(hash_index_next(&h, 0, -1), -1);
        for (int i = 0; i < 3000; i++)
            hash_index_add(&h, memory, hash_mix(0, (uint32_t)i % kinds), i);
        for (int i = 0; i < 3000; i += 7) {
            assert_int_equal(count_of(&h, hash_mix(0, (uint32_t)i % kinds), i), 1);
            assert_int_equal(count_of(&h, hash_mix(0, (uint32_t)i % kinds), 3000 + i), 0);
        }
        assert_int_equal(hash_index_next(&h, hash_mix(0, 123456), -1), -1);
        arena_free(memory);
    }
}

static void test_text(void **state)
{
    (void)state;
    assert_int_equal(hash_text(7, ""), 7);
    assert_int_equal(hash_text(0, "head.weight"), hash_text(0, "head.weight"));
    assert_int_not_equal(hash_text(0, "head.weight"), hash_text(0, "weight.head"));
    assert_int_not_equal(hash_text(0, "blocks.1"), hash_text(0, "blocks.11"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_found), cmocka_unit_test(test_text)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
