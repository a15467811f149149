/* PGM and PPM, binary (P5, P6) and plain (P2, P3), with any largest value up to 65535. */
#include "formats/image_codec.h"

#include <math.h>
#include <string.h>

typedef struct pnm {
    const uint8_t *bytes;
    size_t at, size;
    const char *name;
} pnm;

static bool is_space(uint8_t c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* The next number; the one white-space byte behind it is consumed too, binary pixels start there. `#` starts a comment up to the end of the
 * line. */
static inlay_status read_number(pnm *p, unsigned *value, const char *what, inlay_error *err)
{
    int digits = 0;

    for (*value = 0; p->at < p->size; p->at++) {
        uint8_t c = p->bytes[p->at];
        if (c == '#') {
            while (p->at < p->size && p->bytes[p->at] != '\n' && p->bytes[p->at] != '\r')
                p->at++;
            if (p->at == p->size)
                break;
        } else if (is_space(c)) {
            if (digits > 0) {
                p->at++;
                return INLAY_OK;
            }
        } else if (c < '0' || c > '9' || digits == 9) {
            FAIL(err, INLAY_ERR_FORMAT, "'%s': broken PNM: byte 0x%02x at offset %zu, expected a number (%s)", p->name, c, p->at, what);
        } else {
            *value = *value * 10 + (c - '0');
            digits++;
        }
    }
    if (digits == 0)
        FAIL(err, INLAY_ERR_FORMAT, "'%s': the PNM file is truncated: no %s", p->name, what);
    return INLAY_OK;
}

/* Grey of more than 8 bits becomes Pillow's mode I, stretched to 0..65535, and its conversion to RGB clips at 255 instead of scaling back.
 * Colour is scaled to 0..255. Both round half to even, as Python does. */
static uint8_t to_byte(unsigned value, unsigned largest, bool grey)
{
    unsigned top = grey && largest > 255 ? 65535 : 255;
    unsigned scaled = largest == top ? value : (unsigned)rint((double)value / largest * top);

    return (uint8_t)(scaled < 255 ? scaled : 255);
}

inlay_status image_decode_pnm(image *out, const uint8_t *bytes, size_t size, const char *name, int *orientation, inlay_error *err)
{
    pnm p = {bytes, 2, size, name};
    bool plain = bytes[1] <= '3', grey = bytes[1] == '2' || bytes[1] == '5';
    unsigned width, height, largest;
    size_t samples, wide;

    (void)orientation;
    TRY(read_number(&p, &width, "width", err));
    TRY(read_number(&p, &height, "height", err));
    TRY(read_number(&p, &largest, "largest value", err));
    if (largest == 0 || largest > 65535)
        FAIL(err, INLAY_ERR_FORMAT, "'%s': broken PNM: largest value %u, expected 1..65535", name, largest);
    TRY(image_new(out, width, height, name, err));
    samples = (size_t)width * height * (grey ? 1 : 3);
    wide = largest > 255 ? 2 : 1;
    if (size - p.at < (plain ? samples * 2 - 1 : samples * wide))
        FAIL(err, INLAY_ERR_FORMAT, "'%s': the PNM file is truncated: %zu bytes of pixels, at least %zu expected", name, size - p.at,
             plain ? samples * 2 - 1 : samples * wide);
    for (size_t i = 0; i < samples; i++) {
        unsigned value;
        if (plain) {
            TRY(read_number(&p, &value, "pixel", err));
            if (value > largest)
                FAIL(err, INLAY_ERR_FORMAT, "'%s': broken PNM: the pixel value %u is above the largest value %u", name, value, largest);
        } else {
            value = wide == 2 ? (unsigned)bytes[p.at] << 8 | bytes[p.at + 1] : bytes[p.at];
            p.at += wide;
        }
        if (grey)
            memset(out->rgb + i * 3, to_byte(value, largest, true), 3);
        else
            out->rgb[i] = to_byte(value, largest, false);
    }
    return INLAY_OK;
}
