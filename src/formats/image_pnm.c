/* PBM, PGM and PPM, binary (P4, P5, P6) and plain (P1, P2, P3), with any largest value up to 65535. */
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

/* Reads the next number; the one white-space byte behind it is consumed too, binary pixels start there. `#` starts a
 * comment up to the end of the line. */
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
            FAIL(err, INLAY_ERR_FORMAT, "'%s': broken PNM: byte 0x%02x at offset %zu, expected a number (%s)", p->name,
                 c, p->at, what);
        } else {
            *value = *value * 10 + (c - '0');
            digits++;
        }
    }
    if (digits == 0)
        FAIL(err, INLAY_ERR_FORMAT, "'%s': the PNM file is truncated: no %s", p->name, what);
    return INLAY_OK;
}

/* Reads the next digit of a plain bitmap, where nothing need stand between two pixels: 1 is black. */
static inlay_status read_bit(pnm *p, bool *black, inlay_error *err)
{
    for (; p->at < p->size; p->at++) {
        uint8_t c = p->bytes[p->at];
        if (c == '#') {
            while (p->at + 1 < p->size && p->bytes[p->at] != '\n' && p->bytes[p->at] != '\r')
                p->at++;
        } else if (c == '0' || c == '1') {
            *black = c == '1';
            p->at++;
            return INLAY_OK;
        } else if (!is_space(c)) {
            FAIL(err, INLAY_ERR_FORMAT, "'%s': broken PNM: byte 0x%02x at offset %zu, expected 0 or 1", p->name, c,
                 p->at);
        }
    }
    FAIL(err, INLAY_ERR_FORMAT, "'%s': the PNM file is truncated: pixels are missing", p->name);
}

static inlay_status check_size(const pnm *p, size_t needed, inlay_error *err)
{
    if (p->at > p->size || p->size - p->at < needed)
        FAIL(err, INLAY_ERR_FORMAT, "'%s': the PNM file is truncated: %zu bytes of pixels, at least %zu expected",
             p->name, p->size - p->at, needed);
    return INLAY_OK;
}

static inlay_status decode_bitmap(pnm *p, image *out, bool plain, inlay_error *err)
{
    size_t width = (size_t)out->width, stride = (width + 7) / 8;

    TRY(check_size(p, plain ? width * (size_t)out->height : stride * (size_t)out->height, err));
    for (size_t y = 0; y < (size_t)out->height; y++)
        for (size_t x = 0; x < width; x++) {
            bool black;
            if (plain)
                TRY(read_bit(p, &black, err));
            else
                black = p->bytes[p->at + y * stride + x / 8] >> (7 - x % 8) & 1;
            memset(out->rgb + (y * width + x) * 3, black ? 0 : 255, 3);
        }
    return INLAY_OK;
}

/* A sample as a byte. Grey of more than 8 bits becomes Pillow's mode I, stretched to 0..65535, and its conversion to
 * RGB clips at 255 instead of scaling back; colour is scaled to 0..255. Both round half to even, as Python does. */
static uint8_t to_byte(image *out, const image_source *s, unsigned value, unsigned largest, bool grey)
{
    unsigned top = grey && largest > 255 ? 65535 : 255;
    unsigned scaled = largest == top ? value : (unsigned)rint((double)value / largest * top);

    if (top > 255)
        return s->scale_grey ? image_deep_grey(out, s, value, largest) : image_deep_grey(out, s, scaled, top);
    return (uint8_t)(scaled < 255 ? scaled : 255);
}

static inlay_status decode_samples(pnm *p, image *out, const image_source *s, unsigned largest, inlay_error *err)
{
    bool plain = s->bytes[1] <= '3', grey = s->bytes[1] == '2' || s->bytes[1] == '5';
    size_t samples = (size_t)out->width * (size_t)out->height * (grey ? 1 : 3), wide = largest > 255 ? 2 : 1;

    TRY(check_size(p, plain ? samples * 2 - 1 : samples * wide, err));
    for (size_t i = 0; i < samples; i++) {
        unsigned value;
        if (plain) {
            TRY(read_number(p, &value, "pixel", err));
            if (value > largest)
                FAIL(err, INLAY_ERR_FORMAT, "'%s': broken PNM: the pixel value %u is above the largest value %u",
                     p->name, value, largest);
        } else {
            value = wide == 2 ? (unsigned)p->bytes[p->at] << 8 | p->bytes[p->at + 1] : p->bytes[p->at];
            p->at += wide;
        }
        if (grey)
            memset(out->rgb + i * 3, to_byte(out, s, value, largest, true), 3);
        else
            out->rgb[i] = to_byte(out, s, value, largest, false);
    }
    return INLAY_OK;
}

inlay_status image_decode_pnm(image *out, image_source *s, inlay_error *err)
{
    pnm p = {s->bytes, 2, s->size, s->name};
    bool plain_bitmap = s->bytes[1] == '1', bitmap = plain_bitmap || s->bytes[1] == '4';
    unsigned width, height, largest;

    TRY(read_number(&p, &width, "width", err));
    TRY(read_number(&p, &height, "height", err));
    if (!bitmap) {
        TRY(read_number(&p, &largest, "largest value", err));
        if (largest == 0 || largest > 65535)
            FAIL(err, INLAY_ERR_FORMAT, "'%s': broken PNM: largest value %u, expected 1..65535", p.name, largest);
    }
    TRY(image_new(out, s, width, height, 0, err));
    return bitmap ? decode_bitmap(&p, out, plain_bitmap, err) : decode_samples(&p, out, s, largest, err);
}
