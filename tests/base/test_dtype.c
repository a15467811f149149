/* Element types: every bf16 and f16 value against its definition, and rounding. */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/dtype.h"

static float from_bits(uint32_t bits)
{
    float value;

    memcpy(&value, &bits, sizeof value);
    return value;
}

static uint32_t to_bits(float value)
{
    uint32_t bits;

    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static void test_names_and_sizes(void **state)
{
    (void)state;
    assert_string_equal(dtype_name(DTYPE_F32), "F32");
    assert_string_equal(dtype_name(DTYPE_BF16), "BF16");
    assert_string_equal(dtype_name(DTYPE_F64), "F64");
    assert_string_equal(dtype_name(DTYPE_F16), "F16");
    assert_string_equal(dtype_name(DTYPE_U8), "U8");
    assert_string_equal(dtype_name(DTYPE_I32), "I32");
    assert_string_equal(dtype_name(DTYPE_I64), "I64");
    assert_int_equal(dtype_size(DTYPE_F32), 4);
    assert_int_equal(dtype_size(DTYPE_BF16), 2);
    assert_int_equal(dtype_size(DTYPE_F64), 8);
    assert_int_equal(dtype_size(DTYPE_F16), 2);
    assert_int_equal(dtype_size(DTYPE_U8), 1);
    assert_int_equal(dtype_size(DTYPE_I32), 4);
    assert_int_equal(dtype_size(DTYPE_I64), 8);
    assert_int_equal(dtype_size(DTYPE_OTHER), 0);
}

static void test_bf16_round_trip(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 65536; i++) {
        float value = bf16_to_f32((uint16_t)i);
        assert_int_equal(to_bits(value), i << 16);
        if (isnan(value))
            assert_true(isnan(bf16_to_f32(f32_to_bf16(value))));
        else
            assert_int_equal(f32_to_bf16(value), i);
    }
}

static void test_bf16_rounding(void **state)
{
    static const struct {
        uint32_t f32;
        uint16_t bf16;
    } rows[] = {
        {0x3f808000, 0x3f80},                       /* a tie goes to the even neighbour below */
        {0x3f818000, 0x3f82},                       /* and above */
        {0x3f807fff, 0x3f80}, {0x3f808001, 0x3f81}, /* just below and above the tie */
        {0xbf818000, 0xbf82}, {0xbf808000, 0xbf80}, /* the same with a sign */
        {0x3fffffff, 0x4000},                       /* carries into the exponent */
        {0x7f7fffff, 0x7f80}, {0xff7fffff, 0xff80}, /* the largest floats become infinite */
        {0x7f7f7fff, 0x7f7f},                       /* these do not */
        {0x7f800000, 0x7f80}, {0xff800000, 0xff80}, {0x00000000, 0x0000}, {0x80000000, 0x8000},
        {0x00008000, 0x0000}, {0x00008001, 0x0001}, {0x00018000, 0x0002}, /* subnormal */
        {0x7f800001, 0x7fc0}, {0xff800001, 0xffc0}, {0x7fffffff, 0x7fff}, /* a NaN is never rounded to infinity */
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        assert_int_equal(f32_to_bf16(from_bits(rows[i].f32)), rows[i].bf16);
}

/* No other bf16 number is nearer, over floats of all sizes. */
static void test_bf16_is_nearest(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 0x7f000000; i += 104729) {
        float value = from_bits(i);
        uint16_t found = f32_to_bf16(value);
        double error = fabs((double)value - bf16_to_f32(found));
        assert_true(error <= fabs((double)value - bf16_to_f32((uint16_t)(found + 1))));
        assert_true(found == 0 || error <= fabs((double)value - bf16_to_f32((uint16_t)(found - 1))));
        assert_int_equal(f32_to_bf16(-value), found | 0x8000);
    }
}

static void test_f16_all_values(void **state)
{
    uint16_t *in = malloc(65536 * sizeof *in);
    float *out = malloc(65536 * sizeof *out);

    (void)state;
    for (uint32_t i = 0; i < 65536; i++)
        in[i] = (uint16_t)i;
    dtype_to_f32(out, in, DTYPE_F16, 65536);
    for (uint32_t i = 0; i < 65536; i++) {
        int exponent = (int)(i >> 10 & 31), fraction = (int)(i & 1023);
        double expected = exponent == 0 ? ldexp(fraction, -24) : ldexp(1024 + fraction, exponent - 25);
        if (exponent == 31 && fraction) {
            assert_true(isnan(out[i]));
            continue;
        }
        expected = exponent == 31 ? INFINITY : expected;
        assert_true(out[i] == (i & 0x8000 ? -expected : expected));
        assert_int_equal(signbit(out[i]) != 0, (i & 0x8000) != 0); /* also of zero */
    }
    free(in);
    free(out);
}

static void test_conversions(void **state)
{
    static const float f32[] = {1.5f, -0.0f, FLT_MAX};
    static const double f64[] = {0.1, -1e300, 1e-46, 16777217.0};
    static const uint16_t bf16[] = {0x3f80, 0xc000, 0x7f80};
    float out[4];

    (void)state;
    dtype_to_f32(out, f32, DTYPE_F32, 3);
    assert_memory_equal(out, f32, sizeof f32);
    dtype_to_f32(out, f64, DTYPE_F64, 4);
    assert_true(out[0] == 0.1f && out[1] == -INFINITY && out[2] == 0 && out[3] == 16777216.0f);
    dtype_to_f32(out, bf16, DTYPE_BF16, 3);
    assert_true(out[0] == 1 && out[1] == -2 && out[2] == INFINITY);
    out[0] = 5;
    dtype_to_f32(out, f32, DTYPE_F32, 0);
    assert_true(out[0] == 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names_and_sizes), cmocka_unit_test(test_bf16_round_trip),
        cmocka_unit_test(test_bf16_rounding),   cmocka_unit_test(test_bf16_is_nearest),
        cmocka_unit_test(test_f16_all_values),  cmocka_unit_test(test_conversions),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
