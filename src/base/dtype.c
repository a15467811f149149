#include "base/dtype.h"

#include <assert.h>

const char *dtype_name(dtype type)
{
    static const char *const names[] = {"F32", "BF16", "F64", "F16", "U8", "I8", "I32", "I64", "other"};

    return names[type];
}

static float f16_to_f32(uint16_t half)
{
    uint32_t sign = (uint32_t)(half & 0x8000u) << 16, exponent = (half >> 10) & 31u, fraction = half & 0x3ffu, bits;
    float value;

    if (exponent == 0) { /* zero or subnormal: fraction * 2^-24 */
        value = (float)fraction * 0x1p-24f;
        return sign ? -value : value;
    }
    bits = exponent == 31 ? sign | 0x7f800000u | (fraction << 13) : sign | ((exponent + 112u) << 23) | (fraction << 13);
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* Element i of an array of 16-bit values. A file may lay its values out at any byte, so they are copied, not looked at
 * in place. */
static uint16_t half_at(const void *in, size_t i)
{
    uint16_t x;

    memcpy(&x, (const char *)in + i * sizeof x, sizeof x);
    return x;
}

static double double_at(const void *in, size_t i)
{
    double x;

    memcpy(&x, (const char *)in + i * sizeof x, sizeof x);
    return x;
}

void dtype_to_f32(float *out, const void *in, dtype type, size_t count)
{
    switch (type) {
    case DTYPE_F32:
        memcpy(out, in, count * sizeof *out);
        break;
    case DTYPE_BF16:
        for (size_t i = 0; i < count; i++)
            out[i] = bf16_to_f32(half_at(in, i));
        break;
    case DTYPE_F16:
        for (size_t i = 0; i < count; i++)
            out[i] = f16_to_f32(half_at(in, i));
        break;
    case DTYPE_F64:
        for (size_t i = 0; i < count; i++)
            out[i] = (float)double_at(in, i);
        break;
    default:
        assert(!"not a floating type");
    }
}
