/* Element types and their conversions. */
#ifndef INLAY_BASE_DTYPE_H
#define INLAY_BASE_DTYPE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef enum dtype {
    DTYPE_F32,
    DTYPE_BF16,
    DTYPE_F64,
    DTYPE_F16,
    DTYPE_U8,
    DTYPE_I8,
    DTYPE_I32,
    DTYPE_I64,
    DTYPE_OTHER
} dtype;

static inline size_t dtype_size(dtype type)
{
    static const unsigned char sizes[] = {4, 2, 8, 2, 1, 1, 4, 8, 0};

    return sizes[type];
}

const char *dtype_name(dtype type); /* as safetensors writes it: "F32", "BF16", ... */

static inline float bf16_to_f32(uint16_t bits)
{
    uint32_t wide = (uint32_t)bits << 16;
    float value;

    memcpy(&value, &wide, sizeof value);
    return value;
}

/* Rounds to the nearest bf16, ties to even; NaN stays a NaN. */
static inline uint16_t f32_to_bf16(float value)
{
    uint32_t bits;

    memcpy(&bits, &value, sizeof bits);
    if ((bits & 0x7fffffffu) > 0x7f800000u)
        return (uint16_t)((bits >> 16) | 0x40u);
    return (uint16_t)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

/* Converts `count` elements of any floating type (F32, BF16, F64, F16) to f32. */
void dtype_to_f32(float *out, const void *in, dtype type, size_t count);

#endif
