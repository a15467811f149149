/* TIFF through libtiff: the first page, with the kinds of pixels that Pillow knows (LAB excepted), converted as
 * it converts them.
 *
 * Samples are fetched from strips or tiles as they are stored, and a pixel is put together here, because libtiff's own
 * conversion to RGBA is another one. It serves for compressed YCbCr alone, as in Pillow. The orientation is applied
 * always: Pillow does so for TIFF and for no other format. */
#include "formats/image_codec.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <tiffio.h>

#define FUNCTIONS(F)                        \
    F(TIFFClientOpenExt)                    \
    F(TIFFClose)                            \
    F(TIFFComputeStrip)                     \
    F(TIFFComputeTile)                      \
    F(TIFFGetField)                         \
    F(TIFFGetFieldDefaulted)                \
    F(TIFFGetStrileOffset)                  \
    F(TIFFIsTiled)                          \
    F(TIFFOpenOptionsAlloc)                 \
    F(TIFFOpenOptionsFree)                  \
    F(TIFFOpenOptionsSetErrorHandlerExtR)   \
    F(TIFFOpenOptionsSetMaxSingleMemAlloc)  \
    F(TIFFOpenOptionsSetWarningHandlerExtR) \
    F(TIFFRGBAImageBegin)                   \
    F(TIFFRGBAImageEnd)                     \
    F(TIFFRGBAImageGet)                     \
    F(TIFFReadEncodedStrip)                 \
    F(TIFFReadEncodedTile)                  \
    F(TIFFScanlineSize64)                   \
    F(TIFFSetField)                         \
    F(TIFFTileRowSize64)                    \
    F(TIFFTileSize64)

#define LIBRARY image_tiff_library
#define LIBRARY_FILE LIBTIFF_FILE
#include "formats/image_functions.h"

enum { MAX_SAMPLES = 6 }; /* of a pixel, as in Pillow */

typedef struct tiff_reader {
    image_source *s;
    size_t at;
    bool missing; /* more was asked for than the file has */
    TIFF *tiff;
    char message[1024]; /* as long as libtiff may make one */
    uint32_t width, height;
    uint16_t bits, samples, photometric, format, compression, planar,
        extra;   /* extra: what the first sample behind the colours is */
    int colours; /* samples of a pixel that are colours */
    bool ycbcr;  /* the samples are Y, Cb and Cr: put_pixel makes them RGB */
    uint16_t *map[3];
    unsigned char *block; /* a strip or tile, of each plane */
} tiff_reader;

/* ---- the file as libtiff sees it ---- */

static tmsize_t on_read(thandle_t handle, void *target, tmsize_t count)
{
    tiff_reader *r = handle;
    size_t left = r->at < r->s->size ? r->s->size - r->at : 0, step = (size_t)count < left ? (size_t)count : left;

    memcpy(target, r->s->bytes + (r->s->size - left), step);
    r->at += step;
    r->missing |= step < (size_t)count;
    return (tmsize_t)step;
}

static tmsize_t on_write(thandle_t handle, void *source, tmsize_t count)
{
    (void)handle;
    (void)source;
    (void)count;
    return -1;
}

static toff_t on_seek(thandle_t handle, toff_t offset, int whence)
{
    tiff_reader *r = handle;

    r->at = (size_t)offset + (whence == SEEK_CUR ? r->at : whence == SEEK_END ? r->s->size : 0);
    return (toff_t)r->at;
}

static int on_close(thandle_t handle)
{
    (void)handle;
    return 0;
}

static toff_t on_size(thandle_t handle)
{
    return (toff_t)((tiff_reader *)handle)->s->size;
}

/* Refuses to map the file, so that all reads come by on_read, which sees what is missing. */
static int on_map(thandle_t handle, void **base, toff_t *size)
{
    (void)handle;
    (void)base;
    (void)size;
    return 0;
}

static void on_unmap(thandle_t handle, void *base, toff_t size)
{
    (void)handle;
    (void)base;
    (void)size;
}

static int __attribute__((format(printf, 4, 0)))
on_error(TIFF *tiff, void *user, const char *module, const char *format, va_list rest)
{
    tiff_reader *r = user;

    (void)tiff;
    (void)module;
    if (!r->message[0]) /* the first is the cause of the others */
        vsnprintf(r->message, sizeof r->message, format, rest);
    return 1;
}

static int __attribute__((format(printf, 4, 0)))
on_warning(TIFF *tiff, void *user, const char *module, const char *format, va_list rest)
{
    (void)tiff;
    (void)user;
    (void)module;
    (void)format;
    (void)rest;
    return 1;
}

static inlay_status broken(const tiff_reader *r, inlay_error *err)
{
    FAIL(err, INLAY_ERR_FORMAT, "'%s': broken or truncated TIFF: %s", r->s->name,
         r->message[0] ? r->message : "no reason given");
}

/* ---- what the pixels are ---- */

typedef struct pixel_kind {
    uint16_t photometric;
    int colours;
    const char *bits; /* of a sample, as a list; those that Pillow reads */
} pixel_kind;

static const pixel_kind kinds[] = {
    {PHOTOMETRIC_MINISWHITE, 1, " 1 2 4 8 16 32 "},
    {PHOTOMETRIC_MINISBLACK, 1, " 1 2 4 8 12 16 32 "},
    {PHOTOMETRIC_RGB, 3, " 8 16 "},
    {PHOTOMETRIC_PALETTE, 1, " 1 2 4 8 "},
    {PHOTOMETRIC_SEPARATED, 4, " 8 16 "},
    {PHOTOMETRIC_YCBCR, 3, " 8 "},
};

static inlay_status unsupported(const tiff_reader *r, inlay_error *err)
{
    FAIL(err, INLAY_ERR_UNSUPPORTED,
         "'%s': TIFF with pixels of a kind that is not read (photometric interpretation %u, %u samples of %u bits, "
         "sample format %u)",
         r->s->name, r->photometric, r->samples, r->bits, r->format);
}

static inlay_status check_kind(tiff_reader *r, inlay_error *err)
{
    const pixel_kind *kind = NULL;
    char bits[16];
    bool grey = r->photometric <= PHOTOMETRIC_MINISBLACK;

    snprintf(bits, sizeof bits, " %u ", r->bits);
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (kinds[i].photometric == r->photometric && strstr(kinds[i].bits, bits))
            kind = &kinds[i];
    if (!kind || r->samples > MAX_SAMPLES)
        return unsupported(r, err);
    r->colours = r->photometric == PHOTOMETRIC_YCBCR && r->samples == 1 ? 1 : kind->colours;
    if (r->samples < r->colours || (r->colours == 1 && r->samples > (r->bits == 8 ? 2 : 1)))
        return unsupported(r, err);
    if (r->format == SAMPLEFORMAT_IEEEFP ? !grey || r->bits != 32
        : r->format == SAMPLEFORMAT_INT  ? !grey || r->bits < 8
                                         : r->format != SAMPLEFORMAT_UINT)
        return unsupported(r, err);
    return INLAY_OK;
}

static inlay_status read_kind(tiff_reader *r, inlay_error *err)
{
    uint16_t extras = 0, *extra = NULL, orientation = 0;

    if (!lib.TIFFGetField(r->tiff, TIFFTAG_IMAGEWIDTH, &r->width) ||
        !lib.TIFFGetField(r->tiff, TIFFTAG_IMAGELENGTH, &r->height))
        FAIL(err, INLAY_ERR_FORMAT, "'%s': broken TIFF: it does not say how large it is", r->s->name);
    lib.TIFFGetFieldDefaulted(r->tiff, TIFFTAG_BITSPERSAMPLE, &r->bits);
    lib.TIFFGetFieldDefaulted(r->tiff, TIFFTAG_SAMPLESPERPIXEL, &r->samples);
    lib.TIFFGetFieldDefaulted(r->tiff, TIFFTAG_SAMPLEFORMAT, &r->format);
    lib.TIFFGetFieldDefaulted(r->tiff, TIFFTAG_PLANARCONFIG, &r->planar);
    lib.TIFFGetFieldDefaulted(r->tiff, TIFFTAG_COMPRESSION, &r->compression);
    lib.TIFFGetFieldDefaulted(r->tiff, TIFFTAG_EXTRASAMPLES, &extras, &extra);
    if (!lib.TIFFGetField(r->tiff, TIFFTAG_PHOTOMETRIC, &r->photometric))
        r->photometric = PHOTOMETRIC_MINISWHITE;
    if (r->compression == COMPRESSION_OJPEG)
        r->photometric = PHOTOMETRIC_YCBCR;
    r->extra = extras ? extra[0] : EXTRASAMPLE_UNSPECIFIED;
    if (lib.TIFFGetField(r->tiff, TIFFTAG_ORIENTATION, &orientation) && orientation >= 1 && orientation <= 8)
        r->s->orientation = orientation;
    r->s->always_turned = true;
    if (r->photometric == PHOTOMETRIC_PALETTE &&
        !lib.TIFFGetField(r->tiff, TIFFTAG_COLORMAP, &r->map[0], &r->map[1], &r->map[2]))
        FAIL(err, INLAY_ERR_FORMAT, "'%s': broken TIFF: its colours are missing", r->s->name);
    return check_kind(r, err);
}

/* ---- pixels ---- */

/* Sample `index` of a row. libtiff gives 16 and 32 bits in the machine's order. */
static uint32_t sample(const unsigned char *row, size_t index, int bits)
{
    uint16_t two;
    uint32_t four;

    switch (bits) {
    case 8:
        return row[index];
    case 12:
        row += index / 2 * 3;
        return index & 1 ? (uint32_t)(row[1] & 15) << 8 | row[2] : (uint32_t)row[0] << 4 | row[1] >> 4;
    case 16:
        memcpy(&two, row + index * 2, sizeof two);
        return two;
    case 32:
        memcpy(&four, row + index * 4, sizeof four);
        return four;
    default:
        return row[index * (size_t)bits / 8] >> (8 - (size_t)bits - index * (size_t)bits % 8) & ((1u << bits) - 1);
    }
}

/* A byte of a signed or real number, which has no range of its own to scale from: it is cut, and cut off behind the
 * point. */
static uint8_t cut_number(image *out, double value)
{
    out->cut = true;
    return value > 0 ? value >= 255 ? 255 : (uint8_t)value : 0;
}

static uint8_t grey_of(const tiff_reader *r, image *out, uint32_t value)
{
    float real;

    if (r->bits <= 8) {
        value = value * 255 / ((1u << r->bits) - 1);
        return (uint8_t)(r->photometric == PHOTOMETRIC_MINISWHITE ? 255 - value : value);
    }
    if (r->format == SAMPLEFORMAT_IEEEFP) {
        memcpy(&real, &value, sizeof real);
        return cut_number(out, (double)real);
    }
    if (r->format == SAMPLEFORMAT_INT)
        return cut_number(out, r->bits == 16 ? (double)(int16_t)value : (double)(int32_t)value);
    /* Pillow's mode I is signed: without scaling, what is above its range is below 0 */
    if (r->bits == 32 && !r->s->scale_grey)
        return cut_number(out, (double)(int32_t)value);
    return image_deep_grey(out, r->s, value, r->bits == 32 ? UINT32_MAX : (1u << r->bits) - 1);
}

static uint8_t clipped(int value)
{
    return (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value);
}

/* A colour difference in 1/64, as in Pillow's tables; shifted back, it is rounded down. */
static int part(double factor, int difference)
{
    return (int)(factor * 64 * (difference - 128) + 0.5);
}

static void ycbcr_to_rgb(uint8_t *rgb, const uint8_t *s)
{
    rgb[0] = clipped(s[0] + (part(1.40200, s[2]) >> 6));
    rgb[1] = clipped(s[0] + ((part(-0.34414, s[1]) + part(-0.71414, s[2])) >> 6));
    rgb[2] = clipped(s[0] + (part(1.77200, s[1]) >> 6));
}

static uint8_t times(unsigned a, unsigned b) /* a * b / 255, rounded, as Pillow's MULDIV255 */
{
    unsigned product = a * b + 128;

    return (uint8_t)((product + (product >> 8)) >> 8);
}

/* Puts one pixel together from its samples; of 16 bits the high byte counts. */
static void put_pixel(const tiff_reader *r, image *out, uint8_t *rgb, const uint32_t *value)
{
    uint8_t high[MAX_SAMPLES] = {0};

    for (int c = 0; c < r->samples && r->colours > 1; c++)
        high[c] = (uint8_t)(value[c] >> (r->bits - 8));
    if (r->photometric == PHOTOMETRIC_PALETTE) {
        for (int c = 0; c < 3; c++)
            rgb[c] = (uint8_t)(r->map[c][value[0]] >> 8);
    } else if (r->colours == 1) {
        memset(rgb, grey_of(r, out, value[0]), 3);
    } else if (r->photometric == PHOTOMETRIC_SEPARATED) {
        for (int c = 0; c < 3; c++)
            rgb[c] = (uint8_t)(255 - high[3] - times(high[c], 255u - high[3]));
    } else if (r->ycbcr) {
        ycbcr_to_rgb(rgb, high);
    } else if (r->samples > 3 && r->extra == EXTRASAMPLE_ASSOCALPHA && high[3] < 255) {
        for (int c = 0; c < 3; c++) {
            unsigned free_of_alpha = high[3] ? 255u * high[c] / high[3] : 0;
            rgb[c] = (uint8_t)(free_of_alpha < 255 ? free_of_alpha : 255);
        }
    } else {
        memcpy(rgb, high, 3);
    }
}

/* Puts the pixels of one strip or tile, whose corner is at (left, top), into the image. `plane`: bytes from one plane
 * to the next. */
static void put_block(const tiff_reader *r, image *out, uint32_t left, uint32_t top, uint32_t columns, uint32_t rows,
                      size_t stride, size_t plane)
{
    uint32_t value[MAX_SAMPLES] = {0};

    for (uint32_t y = 0; y < rows && top + y < r->height; y++)
        for (uint32_t x = 0; x < columns && left + x < r->width; x++) {
            const unsigned char *row = r->block + y * stride;
            for (uint32_t c = 0; c < r->samples; c++)
                value[c] =
                    plane ? sample(row + c * plane, x, r->bits) : sample(row, (size_t)x * r->samples + c, r->bits);
            put_pixel(r, out, out->rgb + ((size_t)(top + y) * r->width + left + x) * 3, value);
        }
}

/* Takes room for a strip or tile. None is larger than the image by much: a header that says so only asks for memory. */
static inlay_status allocate_block(tiff_reader *r, uint64_t bytes, int planes, inlay_error *err)
{
    uint64_t reasonable = ((uint64_t)1 << 24) + (uint64_t)r->width * r->height * r->samples * 8;

    if (bytes == 0 || bytes > reasonable)
        FAIL(err, INLAY_ERR_FORMAT, "'%s': broken TIFF: strips or tiles of %llu bytes in an image of %u x %u pixels",
             r->s->name, (unsigned long long)bytes, r->width, r->height);
    r->block = calloc((size_t)planes, bytes);
    if (!r->block)
        FAIL(err, INLAY_ERR_NOMEM, "'%s': out of memory for an image of %u x %u pixels", r->s->name, r->width,
             r->height);
    return INLAY_OK;
}

/* Checks that a strip or tile has a place in the file: libtiff would read one without from the beginning of it. */
static inlay_status check_place(tiff_reader *r, uint32_t number, inlay_error *err)
{
    if (lib.TIFFGetStrileOffset(r->tiff, number) == 0)
        FAIL(err, INLAY_ERR_FORMAT, "'%s': broken TIFF: strip or tile %u is missing", r->s->name, number);
    return INLAY_OK;
}

static inlay_status read_tiles(tiff_reader *r, image *out, int planes, inlay_error *err)
{
    uint32_t columns = 0, rows = 0;
    size_t bytes = (size_t)lib.TIFFTileSize64(r->tiff), stride = (size_t)lib.TIFFTileRowSize64(r->tiff);

    lib.TIFFGetField(r->tiff, TIFFTAG_TILEWIDTH, &columns);
    lib.TIFFGetField(r->tiff, TIFFTAG_TILELENGTH, &rows);
    TRY(allocate_block(r, bytes, planes, err));
    if (columns == 0 || rows == 0 || bytes / rows < stride)
        FAIL(err, INLAY_ERR_FORMAT, "'%s': broken TIFF: tiles of %u x %u pixels", r->s->name, columns, rows);
    for (uint32_t y = 0; y < r->height; y += rows)
        for (uint32_t x = 0; x < r->width; x += columns) {
            for (int p = 0; p < planes; p++) {
                uint32_t tile = lib.TIFFComputeTile(r->tiff, x, y, 0, (uint16_t)p);
                TRY(check_place(r, tile, err));
                if (lib.TIFFReadEncodedTile(r->tiff, tile, r->block + (size_t)p * bytes, (tmsize_t)bytes) < 0)
                    return broken(r, err);
            }
            put_block(r, out, x, y, columns, rows, stride, planes > 1 ? bytes : 0);
            if (r->width - x <= columns)
                break;
        }
    return INLAY_OK;
}

static inlay_status read_strips(tiff_reader *r, image *out, int planes, inlay_error *err)
{
    uint32_t rows = 0;
    size_t stride = (size_t)lib.TIFFScanlineSize64(r->tiff), bytes;

    lib.TIFFGetFieldDefaulted(r->tiff, TIFFTAG_ROWSPERSTRIP, &rows);
    rows = rows == 0 || rows > r->height ? r->height : rows;
    bytes = stride * rows;
    TRY(allocate_block(r, bytes, planes, err));
    for (uint32_t y = 0; y < r->height; y += rows) {
        uint32_t here = r->height - y < rows ? r->height - y : rows;
        for (int p = 0; p < planes; p++) {
            uint32_t strip = lib.TIFFComputeStrip(r->tiff, y, (uint16_t)p);
            TRY(check_place(r, strip, err));
            if (lib.TIFFReadEncodedStrip(r->tiff, strip, r->block + (size_t)p * bytes, (tmsize_t)(stride * here)) <
                (tmsize_t)(stride * here))
                return broken(r, err);
        }
        put_block(r, out, 0, y, r->width, here, stride, planes > 1 ? bytes : 0);
        if (r->height - y <= rows)
            break;
    }
    return INLAY_OK;
}

/* Reads YCbCr through libtiff's conversion to RGBA. */
static inlay_status read_converted(tiff_reader *r, image *out, inlay_error *err)
{
    TIFFRGBAImage rgba;
    size_t pixels = (size_t)r->width * r->height;
    uint32_t *raster;
    bool good;

    if (!lib.TIFFRGBAImageBegin(&rgba, r->tiff, 1, r->message))
        return broken(r, err);
    rgba.req_orientation = rgba.orientation;
    raster = calloc(pixels, sizeof *raster);
    good = raster && lib.TIFFRGBAImageGet(&rgba, raster, r->width, r->height);
    lib.TIFFRGBAImageEnd(&rgba);
    for (size_t i = 0; good && i < pixels; i++) {
        out->rgb[i * 3] = (uint8_t)TIFFGetR(raster[i]);
        out->rgb[i * 3 + 1] = (uint8_t)TIFFGetG(raster[i]);
        out->rgb[i * 3 + 2] = (uint8_t)TIFFGetB(raster[i]);
    }
    free(raster);
    return good ? INLAY_OK : broken(r, err);
}

/* Bytes that libtiff and this reader take: a strip or tile of each plane, as it is stored and as it is decoded; all
 * coefficients of JPEG in several scans; four bytes a pixel where libtiff converts. */
static uint64_t working_memory(const tiff_reader *r, int planes)
{
    uint64_t pixels = (uint64_t)r->width * r->height, rows = r->height, tiled = lib.TIFFIsTiled(r->tiff);
    uint64_t block = tiled ? lib.TIFFTileSize64(r->tiff) : 0;
    uint32_t strip = 0;
    bool jpeg = r->compression == COMPRESSION_JPEG || r->compression == COMPRESSION_OJPEG,
         converted = r->photometric == PHOTOMETRIC_YCBCR && r->compression != COMPRESSION_NONE &&
                     !(r->compression == COMPRESSION_JPEG && planes == 1);

    lib.TIFFGetFieldDefaulted(r->tiff, TIFFTAG_ROWSPERSTRIP, &strip);
    rows = strip && strip < rows ? strip : rows;
    if (!tiled)
        block = lib.TIFFScanlineSize64(r->tiff) * rows;
    block = block < UINT64_MAX >> 8 ? block : UINT64_MAX >> 8;
    return block * (uint64_t)planes + r->s->size + (jpeg ? pixels * r->samples * 2 : 0) + (converted ? pixels * 4 : 0);
}

static inlay_status read_tiff(tiff_reader *r, image *out, inlay_error *err)
{
    int planes;
    bool converted;

    TRY(read_kind(r, err));
    planes = r->planar == PLANARCONFIG_SEPARATE ? r->samples : 1;
    TRY(image_check_size(r->width, r->height, r->s->name, err));
    TRY(image_new(out, r->s, r->width, r->height, working_memory(r, planes), err));
    converted = r->photometric == PHOTOMETRIC_YCBCR && r->colours == 3;
    if (converted && r->compression == COMPRESSION_JPEG && planes == 1) {
        lib.TIFFSetField(r->tiff, TIFFTAG_JPEGCOLORMODE, JPEGCOLORMODE_RGB);
        converted = false;
    }
    if (converted && r->compression == COMPRESSION_NONE) {
        uint16_t across = 0, down = 0;
        lib.TIFFGetFieldDefaulted(r->tiff, TIFFTAG_YCBCRSUBSAMPLING, &across, &down);
        if (across != 1 || down != 1)
            return unsupported(r, err);
        r->ycbcr = true;
        converted = false;
    }
    if (converted)
        return read_converted(r, out, err);
    return lib.TIFFIsTiled(r->tiff) ? read_tiles(r, out, planes, err) : read_strips(r, out, planes, err);
}

/* The most that libtiff may allocate at once, tables of the directory included, which come before the size of the image
 * is known. */
static tmsize_t largest_block(const image_source *s)
{
    const uint64_t most = (uint64_t)1 << 30,
                   least = (uint64_t)1 << 24, /* its buffers have a size below which they never are */
        share = s->memory && s->memory->share ? s->memory->share->size : most;

    return (tmsize_t)(share > most ? most : share < least ? least : share);
}

inlay_status image_decode_tiff(image *out, image_source *s, inlay_error *err)
{
    tiff_reader r = {.s = s};
    TIFFOpenOptions *options;
    inlay_status status;

    TRY(image_library_use(image_tiff_library(), s->name, err));
    options = lib.TIFFOpenOptionsAlloc();
    if (!options)
        FAIL(err, INLAY_ERR_NOMEM, "'%s': out of memory", s->name);
    lib.TIFFOpenOptionsSetErrorHandlerExtR(options, on_error, &r);
    lib.TIFFOpenOptionsSetWarningHandlerExtR(options, on_warning, NULL);
    lib.TIFFOpenOptionsSetMaxSingleMemAlloc(options, largest_block(s));
    r.tiff = lib.TIFFClientOpenExt(s->name, "r", &r, on_read, on_write, on_seek, on_close, on_size, on_map, on_unmap,
                                   options);
    lib.TIFFOpenOptionsFree(options);
    if (!r.tiff)
        return broken(&r, err);
    /* libtiff takes a tag whose values are cut off for one that is not there, which makes another picture */
    status = r.missing ? error_set(err, INLAY_ERR_FORMAT, "'%s': the TIFF file is truncated in its directory", s->name)
                       : read_tiff(&r, out, err);
    free(r.block);
    lib.TIFFClose(r.tiff);
    return status;
}
