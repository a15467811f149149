/* The drawn image of tools/make_image_fixtures.py, and the hash with which its results are compared. */
#ifndef TESTS_PATTERNS_H
#define TESTS_PATTERNS_H

#include <stdint.h>
#include <stdlib.h>

#include "formats/image.h"

static inline image pattern(int width, int height)
{
    image img = {.width = width, .height = height, .rgb = malloc((size_t)width * (size_t)height * 3)};

    for (uint32_t y = 0; y < (uint32_t)height; y++)
        for (uint32_t x = 0; x < (uint32_t)width; x++)
            for (uint32_t c = 0; c < 3; c++) {
                uint32_t noise = ((x * 73856093u) ^ (y * 19349663u) ^ (c * 83492791u)) >> 5;
                img.rgb[(y * (uint32_t)width + x) * 3 + c] = (uint8_t)((noise & 63) + (x * 2 + y + c * 40) % 192);
            }
    return img;
}

static inline uint64_t fnv(const uint8_t *bytes, size_t size)
{
    uint64_t value_ = 0xCBF29CE484222325u;

    for (size_t i = 0; i < size; i++)
        value_ = (value_ ^ bytes[i]) * 0x100000001B3u;
    return value_;
}

#endif
