/* Random numbers: the generator against known answers, the distributions against their moments, and independence of
 * what else is drawn. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"

#define COUNT 200000

static const rng_stream stream = {.seed = 42, .purpose = RNG_TEST, .stream = 3, .step = 7};

/* The known answers of the Random123 distribution for philox4x32 with 10 rounds. */
static void test_philox_known_answers(void **state)
{
    static const uint32_t rows[][10] = {
        {0, 0, 0, 0, 0, 0, 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8},
        {0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0x408f276d, 0x41c83b0e, 0xa20bc7c6,
         0x6d5451fd},
        {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344, 0xa4093822, 0x299f31d0, 0xd16cfe09, 0x94fdcceb, 0x5001e420,
         0x24126ea1},
    };
    uint32_t out[4];

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        rng_philox(out, rows[i], rows[i] + 4);
        assert_memory_equal(out, rows[i] + 6, sizeof out);
    }
}

static void test_words_of_blocks(void **state)
{
    uint32_t block[4];

    (void)state;
    for (uint32_t b = 0; b < 50; b++) {
        rng_block(block, stream, b);
        for (uint32_t k = 0; k < 4; k++)
            assert_int_equal(rng_u32(stream, b * 4 + k), block[k]);
    }
    assert_true(rng_uniform(stream, 5) == rng_u32(stream, 5) / 4294967296.0);
}

/* Every field of a stream, and both halves of the seed, lead elsewhere. */
static void test_streams_differ(void **state)
{
    rng_stream others[] = {stream, stream, stream, stream, stream, stream};
    int same = 0;

    (void)state;
    others[1].seed++;
    others[2].seed += 1ull << 32;
    others[3].purpose = RNG_INIT;
    others[4].stream++;
    others[5].step++;
    for (int i = 0; i < 6; i++)
        for (int j = 0; j < i; j++)
            for (uint64_t k = 0; k < 1000; k++)
                same += rng_u32(others[i], k) == rng_u32(others[j], k);
    assert_true(same <= 1); /* 15,000 pairs: 3.5e-6 expected */
}

typedef struct moments {
    double mean, variance, skewness, kurtosis, low, high;
} moments;

static moments measure(const float *x, int count)
{
    moments m = {.low = x[0], .high = x[0]};
    double second = 0, third = 0, fourth = 0;

    for (int i = 0; i < count; i++)
        m.mean += x[i] / (double)count;
    for (int i = 0; i < count; i++) {
        double d = x[i] - m.mean;
        second += d * d / count;
        third += d * d * d / count;
        fourth += d * d * d * d / count;
        m.low = x[i] < m.low ? x[i] : m.low;
        m.high = x[i] > m.high ? x[i] : m.high;
    }
    m.variance = second;
    m.skewness = third / pow(second, 1.5);
    m.kurtosis = fourth / (second * second);
    return m;
}

static void near(double found, double expected, double tolerance)
{
    if (!(fabs(found - expected) <= tolerance))
        fail_msg("found %g, expected %g +- %g", found, expected, tolerance);
}

/* Tolerances are about five standard errors for 200,000 numbers. */
static void test_uniform(void **state)
{
    float *x = malloc(COUNT * sizeof *x);
    moments m;

    (void)state;
    rng_fill_uniform(x, COUNT, -1, 3, stream);
    m = measure(x, COUNT);
    near(m.mean, 1, 0.013);
    near(m.variance, 16.0 / 12, 0.014);
    near(m.skewness, 0, 0.02);
    near(m.kurtosis, 1.8, 0.01);
    assert_true(m.low >= -1 && m.low < -0.999 && m.high <= 3 && m.high > 2.999);
    free(x);
}

static void test_normal(void **state)
{
    float *x = malloc(COUNT * sizeof *x);
    double neighbours = 0;
    int within = 0;
    moments m;

    (void)state;
    rng_fill_normal(x, COUNT, 0.5, 2, stream);
    m = measure(x, COUNT);
    near(m.mean, 0.5, 0.023);
    near(m.variance, 4, 0.065);
    near(m.skewness, 0, 0.028);
    near(m.kurtosis, 3, 0.055);
    for (int i = 0; i < COUNT; i++)
        within += fabs(x[i] - 0.5) < 2;
    near(within / (double)COUNT, 0.682689, 0.0055);
    for (int i = 0; i + 1 < COUNT; i++)
        neighbours += (x[i] - 0.5) * (x[i + 1] - 0.5) / 4 / COUNT;
    near(neighbours, 0, 0.0115);
    free(x);
}

static void test_truncated_normal(void **state)
{
    float *x = malloc(COUNT * sizeof *x);
    int at_bounds = 0;
    moments m;

    (void)state;
    rng_fill_trunc_normal(x, COUNT, 0, 1, -2, 2, stream);
    for (int i = 0; i < COUNT; i++)
        at_bounds += fabsf(x[i]) == 2;
    assert_true(at_bounds <= 2); /* redrawn until it fits, not moved to the bound */
    m = measure(x, COUNT);
    near(m.mean, 0, 0.01);
    near(m.variance, 0.773741, 0.009); /* 1 - 4 phi(2) / (Phi(2) - Phi(-2)) */
    near(m.skewness, 0, 0.025);
    assert_true(m.low >= -2 && m.low < -1.99 && m.high <= 2 && m.high > 1.99);
    rng_fill_trunc_normal(x, COUNT, 0, 0.01, -2, 2, stream); /* bounds are absolute: nothing is cut off here */
    near(measure(x, COUNT).variance, 1e-4, 1.7e-6);
    rng_fill_trunc_normal(x, 1000, 0, 1, 30, 31, stream); /* never drawn: the nearer bound stands in */
    near(measure(x, 1000).low, 30, 0);
    near(measure(x, 1000).high, 30, 1);
    free(x);
}

/* Elements do not depend on how many are drawn, nor on what was drawn before. */
static void test_a_prefix_is_a_prefix(void **state)
{
    float shorter[37], longer[1000];

    (void)state;
    for (int kind = 0; kind < 3; kind++) {
        for (int pass = 0; pass < 2; pass++) {
            float *out = pass ? longer : shorter;
            uint64_t count = pass ? 1000 : 37;
            if (kind == 0)
                rng_fill_uniform(out, count, 0, 1, stream);
            else if (kind == 1)
                rng_fill_normal(out, count, 0, 1, stream);
            else
                rng_fill_trunc_normal(out, count, 0, 1, -0.5, 0.5, stream);
        }
        assert_memory_equal(shorter, longer, sizeof shorter);
    }
}

static void test_below(void **state)
{
    static const uint32_t limits[] = {1, 2, 3, 7, 10, 1000, 65537, 0x7fffffff};
    int seen[10] = {0};
    double chi = 0;

    (void)state;
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++)
        for (uint64_t k = 0; k < 2000; k++)
            assert_true(rng_below(stream, k, limits[i]) < limits[i]);
    for (uint64_t k = 0; k < 100000; k++)
        seen[rng_below(stream, k, 10)]++;
    for (int i = 0; i < 10; i++)
        chi += (seen[i] - 10000.0) * (seen[i] - 10000.0) / 10000;
    assert_true(chi < 33.7); /* nine degrees of freedom, p = 1e-4 */
}

static void test_permutation(void **state)
{
    enum { SIZE = 1000 };
    int order[SIZE], other[SIZE], first[6] = {0}, fixed = 0;
    rng_stream s = stream;

    (void)state;
    for (int count = 0; count <= SIZE; count += count < 10 ? 1 : 495) {
        bool seen[SIZE] = {false};
        rng_permutation(order, count, stream);
        for (int i = 0; i < count; i++) {
            assert_in_range(order[i], 0, count - 1);
            assert_false(seen[order[i]]);
            seen[order[i]] = true;
        }
    }
    rng_permutation(order, SIZE, stream);
    rng_permutation(other, SIZE, stream);
    assert_memory_equal(order, other, sizeof order);
    s.step++;
    rng_permutation(other, SIZE, s);
    for (int i = 0; i < SIZE; i++)
        fixed += order[i] == other[i];
    assert_true(fixed < 10);
    for (s.step = 0; s.step < 12000; s.step++) { /* all six orders of three are equally frequent */
        rng_permutation(order, 3, s);
        first[order[0] * 2 + (order[1] > order[2])]++;
    }
    for (int i = 0; i < 6; i++)
        assert_in_range(first[i], 1800, 2200);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_philox_known_answers),
        cmocka_unit_test(test_words_of_blocks),
        cmocka_unit_test(test_streams_differ),
        cmocka_unit_test(test_uniform),
        cmocka_unit_test(test_normal),
        cmocka_unit_test(test_truncated_normal),
        cmocka_unit_test(test_a_prefix_is_a_prefix),
        cmocka_unit_test(test_below),
        cmocka_unit_test(test_permutation),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
