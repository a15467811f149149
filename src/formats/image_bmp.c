/* Windows bitmaps: palettes of 1, 4 and 8 bits, run lengths, 16, 24 and 32 bits, rows bottom-up or top-down, all
 * headers from OS/2 1.x on.
 */
#include "formats/image_codec.h"

#include <stdlib.h>
#include <string.h>

enum {
    FILE_HEADER = 14 /* may be missing */,
    OS2_HEADER = 12,
    COMPRESSION_NONE = 0,
    COMPRESSION_RLE8 = 1,
    COMPRESSION_RLE4 = 2,
    COMPRESSION_MASKS = 3
};

typedef struct bmp {
    const uint8_t *bytes;
    size_t size;
    const char *name;
    size_t start;                           /* of the header behind that of the file */
    uint32_t header, compression, masks[3]; /* red, green, blue */
    int64_t width, height;
    int bits;
    bool top_down;
    size_t pixels; /* offset of the first row */
    uint8_t palette[256][3];
} bmp;

static uint32_t little(const uint8_t *bytes, int width)
{
    uint32_t value = 0;

    for (int i = 0; i < width; i++)
        value |= (uint32_t)bytes[i] << 8 * i;
    return value;
}

/* Reads the palette; entries that the file does not have stay black. */
static void read_palette(bmp *b, size_t at, uint64_t colors)
{
    size_t entry = b->header == OS2_HEADER ? 3 : 4;

    for (size_t i = 0; i < 256 && i < colors && at + 3 <= b->size; i++, at += entry)
        for (size_t c = 0; c < 3; c++)
            b->palette[i][c] = b->bytes[at + 2 - c];
}

static inlay_status read_header(bmp *b, inlay_error *err)
{
    const uint8_t *info = b->bytes + b->start;
    uint64_t colors = 0, after;

    if (b->size < b->start + 4)
        FAIL(err, INLAY_ERR_FORMAT, "'%s': the BMP file is truncated in its header", b->name);
    b->pixels = b->start ? little(b->bytes + 10, 4) : 0;
    b->header = little(info, 4);
    if (b->header != OS2_HEADER && b->header != 40 && b->header != 52 && b->header != 56 && b->header != 64 &&
        b->header != 108 && b->header != 124)
        FAIL(err, INLAY_ERR_UNSUPPORTED, "'%s': BMP header of %u bytes is not known", b->name, b->header);
    if (b->size < b->start + b->header)
        FAIL(err, INLAY_ERR_FORMAT, "'%s': the BMP file is truncated in its header", b->name);
    after = b->start + (uint64_t)b->header;
    if (b->header == OS2_HEADER) {
        b->width = little(info + 4, 2);
        b->height = little(info + 6, 2);
        b->bits = (int)little(info + 10, 2);
    } else {
        b->width = (int32_t)little(info + 4, 4);
        b->height = (int32_t)little(info + 8, 4);
        b->bits = (int)little(info + 14, 2);
        b->compression = little(info + 16, 4);
        colors = little(info + 32, 4);
        b->top_down = b->height < 0;
        b->height = b->top_down ? -b->height : b->height;
        if (b->compression == COMPRESSION_MASKS) {
            if (b->header == 40)
                after += 12; /* the three masks follow the header; in longer headers they are its fields, at the same
                                place */
            if (b->size < after || b->size < b->start + 52)
                FAIL(err, INLAY_ERR_FORMAT, "'%s': the BMP file is truncated in its header", b->name);
            for (int c = 0; c < 3; c++)
                b->masks[c] = little(info + 40 + 4 * c, 4);
        }
    }
    if (b->width < 0)
        FAIL(err, INLAY_ERR_FORMAT, "'%s': BMP with the width %lld", b->name, (long long)b->width);
    if (b->bits <= 8) {
        colors = colors ? colors : (uint64_t)1 << b->bits;
        read_palette(b, (size_t)after, colors);
        if (b->pixels == 0 || b->pixels == b->start + b->header) /* some writers forget the palette in the offset */
            b->pixels = (size_t)after + (size_t)((b->header == OS2_HEADER ? 3 : 4) * colors);
    }
    if (b->pixels == 0)
        b->pixels = (size_t)after;
    return INLAY_OK;
}

/* Decides how a pixel of 16, 24 or 32 bits is taken apart, in masks[]. */
static inlay_status settle_masks(bmp *b, inlay_error *err)
{
    static const uint32_t rgb555[3] = {0x7C00, 0x3E0, 0x1F}, rgb565[3] = {0xF800, 0x7E0, 0x1F},
                          rgb888[3] = {0xFF0000, 0xFF00, 0xFF}, none[3] = {0};
    bool known = b->bits == 16 ? memcmp(b->masks, rgb555, 12) == 0 || memcmp(b->masks, rgb565, 12) == 0 : true;

    if (b->compression == COMPRESSION_NONE || memcmp(b->masks, none, sizeof none) == 0) {
        memcpy(b->masks, b->bits == 16 ? rgb555 : rgb888, sizeof b->masks);
        return INLAY_OK;
    }
    for (int c = 0; c < 3 && b->bits > 16; c++) {
        uint32_t mask = b->masks[c];
        known =
            known && (mask == 0xFFu || mask == 0xFF00u || mask == 0xFF0000u || (mask == 0xFF000000u && b->bits == 32));
    }
    if (!known)
        FAIL(err, INLAY_ERR_UNSUPPORTED, "'%s': BMP with the unusual bit masks %x, %x, %x", b->name, b->masks[0],
             b->masks[1], b->masks[2]);
    return INLAY_OK;
}

static void row_to_rgb(const bmp *b, uint8_t *rgb, const uint8_t *row)
{
    int bytes = b->bits / 8;
    int shifts[3];
    uint32_t tops[3]; /* largest value of each channel */

    for (int c = 0; c < 3; c++) {
        shifts[c] = 0;
        tops[c] = b->masks[c] ? b->masks[c] : 1; /* with a palette there are no masks */
        while (!(tops[c] & 1)) {
            tops[c] >>= 1;
            shifts[c]++;
        }
    }
    for (int64_t i = 0; i < b->width; i++, rgb += 3) {
        if (b->bits <= 8) {
            int per_byte = 8 / b->bits, shift = 8 - b->bits * (int)(i % per_byte + 1);
            memcpy(rgb, b->palette[row[i / per_byte] >> shift & ((1 << b->bits) - 1)], 3);
        } else {
            uint32_t pixel = little(row + i * bytes, bytes);
            for (int c = 0; c < 3; c++)
                rgb[c] = (uint8_t)((pixel >> shifts[c] & tops[c]) * 255 / tops[c]);
        }
    }
}

typedef struct run_reader {
    const uint8_t *bytes;
    size_t at, size;
    uint8_t *indices; /* all pixels in the order of the file */
    size_t done, wanted;
} run_reader;

static void put_run(run_reader *r, size_t count, uint8_t first, uint8_t second)
{
    for (size_t i = 0; i < count && r->done < r->wanted; i++)
        r->indices[r->done++] = i & 1 ? second : first;
}

/* Reads what follows a zero byte: the end of a row or of the image, a jump, or pixels one by one. False: no more
 * pixels. */
static bool read_escape(run_reader *r, size_t width, size_t *x, uint8_t code, bool nibbles)
{
    if (code == 0) {
        put_run(r, (width - r->done % width) % width, 0, 0);
        *x = 0;
        return true;
    }
    if (code == 1)
        return false;
    if (code == 2) {
        if (r->size - r->at < 2)
            return false;
        put_run(r, r->bytes[r->at] + r->bytes[r->at + 1] * width, 0, 0);
        r->at += 2;
        *x = r->done % width;
        return true;
    }
    for (size_t i = 0; i < code; i += nibbles ? 2 : 1) {
        uint8_t byte;
        if (r->at == r->size)
            return false;
        byte = r->bytes[r->at++];
        if (nibbles)
            put_run(r, code - i < 2 ? 1 : 2, byte >> 4, byte & 15);
        else
            put_run(r, 1, byte, byte);
    }
    *x += code;
    r->at += r->at & 1 && r->at < r->size; /* runs are aligned to words of the file */
    return true;
}

static inlay_status decode_runs(const bmp *b, image *out, inlay_error *err)
{
    bool nibbles = b->compression == COMPRESSION_RLE4, more = true;
    size_t width = (size_t)b->width, x = 0;
    run_reader r = {.bytes = b->bytes, .at = b->pixels, .size = b->size, .wanted = width * (size_t)b->height};

    r.indices = malloc(r.wanted);
    if (!r.indices)
        FAIL(err, INLAY_ERR_NOMEM, "'%s': out of memory for an image of %d x %d pixels", b->name, out->width,
             out->height);
    while (more && r.done < r.wanted && r.at < r.size && r.size - r.at >= 2) {
        uint8_t count = r.bytes[r.at], byte = r.bytes[r.at + 1];
        r.at += 2;
        if (count == 0) {
            more = read_escape(&r, width, &x, byte, nibbles);
        } else {
            size_t room = x < width ? width - x : 0, run = count < room ? count : room;
            put_run(&r, run, nibbles ? byte >> 4 : byte, nibbles ? byte & 15 : byte);
            x += run;
        }
    }
    for (size_t i = 0; i < r.done; i++) {
        size_t row = i / width, target = b->top_down ? row : (size_t)b->height - 1 - row;
        memcpy(out->rgb + (target * width + i % width) * 3, b->palette[r.indices[i]], 3);
    }
    free(r.indices);
    if (r.done < r.wanted)
        FAIL(err, INLAY_ERR_FORMAT, "'%s': the BMP file is truncated: %zu of %zu pixels found", b->name, r.done,
             r.wanted);
    return INLAY_OK;
}

inlay_status image_decode_bmp(image *out, image_source *s, inlay_error *err)
{
    const uint8_t *bytes = s->bytes;
    const char *name = s->name;
    size_t size = s->size, stride;
    bool runs;
    bmp b = {.bytes = bytes, .size = size, .name = name, .start = bytes[0] == 'B' ? FILE_HEADER : 0};

    TRY(read_header(&b, err));
    if (b.bits != 1 && b.bits != 4 && b.bits != 8 && b.bits != 16 && b.bits != 24 && b.bits != 32)
        FAIL(err, INLAY_ERR_UNSUPPORTED, "'%s': BMP with %d bits a pixel, expected 1, 4, 8, 16, 24 or 32", name,
             b.bits);
    if (b.compression > COMPRESSION_MASKS || (b.compression == COMPRESSION_MASKS && b.bits <= 8) ||
        (b.compression == COMPRESSION_RLE8 && b.bits != 8) || (b.compression == COMPRESSION_RLE4 && b.bits != 4))
        FAIL(err, INLAY_ERR_UNSUPPORTED, "'%s': BMP of %d bits with compression %u is not known", name, b.bits,
             b.compression);
    if (b.bits > 8)
        TRY(settle_masks(&b, err));
    runs = b.compression == COMPRESSION_RLE8 || b.compression == COMPRESSION_RLE4;
    TRY(image_new(out, s, (uint64_t)b.width, (uint64_t)b.height, runs ? (uint64_t)b.width * (uint64_t)b.height : 0,
                  err));
    if (runs)
        return decode_runs(&b, out, err);
    stride = ((size_t)b.width * (size_t)b.bits + 31) / 32 * 4;
    if (b.pixels > size || (size - b.pixels) / stride < (size_t)b.height)
        FAIL(err, INLAY_ERR_FORMAT, "'%s': the BMP file is truncated: it has %zu bytes, %llu are expected", name, size,
             (unsigned long long)b.pixels + (unsigned long long)stride * (unsigned long long)b.height);
    for (int64_t row = 0; row < b.height; row++) {
        int64_t target = b.top_down ? row : b.height - 1 - row;
        row_to_rgb(&b, out->rgb + (size_t)target * (size_t)b.width * 3, bytes + b.pixels + (size_t)row * stride);
    }
    return INLAY_OK;
}
