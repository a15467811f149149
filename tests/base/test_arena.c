/* Arenas, large buffers and growing arrays. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/arena.h"

static bool is_zero(const unsigned char *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (bytes[i])
            return false;
    return true;
}

/* Blocks are zeroed, aligned and do not overlap: each is filled with its own byte, and all are looked at again at the
 * end. */
static void test_blocks_are_apart(void **state)
{
    enum { COUNT = 3000 };
    arena *a = arena_new();
    unsigned char **blocks = ARENA_ARRAY(a, unsigned char *, COUNT);
    size_t *sizes = ARENA_ARRAY(a, size_t, COUNT);

    (void)state;
    for (size_t i = 0; i < COUNT; i++) {
        sizes[i] = i % 100 == 99 ? 70000 + i : i * 7 % 300; /* some are larger than the arena's own blocks */
        blocks[i] = arena_alloc(a, sizes[i]);
        assert_int_equal((uintptr_t)blocks[i] % 16, 0);
        assert_true(is_zero(blocks[i], sizes[i]));
        memset(blocks[i], (int)(i % 255) + 1, sizes[i]);
    }
    for (size_t i = 0; i < COUNT; i++)
        for (size_t k = 0; k < sizes[i]; k++)
            assert_int_equal(blocks[i][k], i % 255 + 1);
    arena_free(a);
    arena_free(NULL);
}

static void test_texts(void **state)
{
    char original[] = "blocks.0.attn", *large = malloc(100001);
    arena *a = arena_new();
    char *copy = arena_strdup(a, original), *built = arena_printf(a, "%s.%d.%s", original, 12, "weight");

    (void)state;
    original[0] = 'X';
    assert_string_equal(copy, "blocks.0.attn");
    assert_string_equal(built, "blocks.0.attn.12.weight");
    assert_string_equal(arena_strdup(a, ""), "");
    assert_string_equal(arena_printf(a, "%s", ""), "");
    memset(large, 'z', 100000);
    large[100000] = '\0';
    assert_string_equal(arena_printf(a, "%s", large), large);
    assert_string_equal(arena_strdup(a, large), large);
    free(large);
    arena_free(a);
}

static void test_large_buffers(void **state)
{
    static const size_t sizes[] = {0, 1, 63, 64, 65, 1000003};
    inlay_error err = {0};
    void *block;

    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        assert_int_equal(memory_alloc(&block, sizes[i], "the test", &err), INLAY_OK);
        assert_int_equal((uintptr_t)block % 64, 0);
        assert_true(is_zero(block, sizes[i]));
        memory_free(block);
    }
    memory_free(NULL);
}

static void test_impossible_buffers_are_refused(void **state)
{
    inlay_error err = {0};
    void *block = &err;

    (void)state;
    assert_int_equal(memory_alloc(&block, SIZE_MAX, "the activations", &err), INLAY_ERR_NOMEM);
    assert_null(block);
    assert_string_equal(err.message, "the activations: size overflows");
    block = &err;
    assert_int_equal(memory_alloc(&block, SIZE_MAX - 63, "the activations", NULL), INLAY_ERR_NOMEM);
    assert_null(block);
}

static void test_growing_arrays(void **state)
{
    int *items = NULL, count = 0, capacity = 0;

    (void)state;
    for (int i = 0; i < 10000; i++) {
        ARRAY_PUSH(items, count, capacity, i * 3);
        assert_true(capacity >= count);
    }
    assert_int_equal(count, 10000);
    for (int i = 0; i < count; i++)
        assert_int_equal(items[i], i * 3);
    assert_true(array_grow(items, &capacity, 5, sizeof *items) == items); /* never shrinks */
    free(items);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_blocks_are_apart), cmocka_unit_test(test_texts),
        cmocka_unit_test(test_large_buffers),    cmocka_unit_test(test_impossible_buffers_are_refused),
        cmocka_unit_test(test_growing_arrays),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
