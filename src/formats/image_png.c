/* PNG through libpng. The conversions to 8-bit RGB are done here, because they have to be Pillow's. */
#include "formats/image_codec.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <png.h>
#include <zlib.h>

typedef struct png_reader {
    png_structp png;
    png_infop info;
    const uint8_t *next;
    size_t left, size; /* of the file: what is not yet read, all */
    uint8_t *rows;     /* as libpng makes them: one row, or all of an interlaced image */
    jmp_buf escape;
    char message[200];
} png_reader;

static void on_error(png_structp png, png_const_charp message)
{
    png_reader *r = png_get_error_ptr(png);

    snprintf(r->message, sizeof r->message, "%s", message);
    longjmp(r->escape, 1);
}

static void on_warning(png_structp png, png_const_charp message)
{
    (void)png;
    (void)message;
}

static void on_read(png_structp png, png_bytep target, size_t count)
{
    png_reader *r = png_get_io_ptr(png);

    if (count > r->left)
        png_error(png, "the file is truncated");
    memcpy(target, r->next, count);
    r->next += count;
    r->left -= count;
}

/* Allocates for libpng within a limit: no chunk is longer than the file and no row longer than 8 MB. Without it a chunk
 * that claims 2 GB is allocated and cleared before it is found missing. */
static png_voidp limited_malloc(png_structp png, png_alloc_size_t size)
{
    const png_reader *r = png_get_mem_ptr(png);

    return size > r->size + ((size_t)16 << 20) ? NULL : malloc(size);
}

static void limited_free(png_structp png, png_voidp block)
{
    (void)png;
    free(block);
}

/* Converts a row of pixels as libpng hands them out here: samples of one byte (16-bit ones cut to their high byte),
 * except 16-bit grey. */
static void row_to_rgb(image *out, int y, const uint8_t *row, const image_source *s, int color_type, int depth,
                       const uint8_t palette[256][3])
{
    uint8_t *rgb = out->rgb + (size_t)y * (size_t)out->width * 3;
    int channels = color_type == PNG_COLOR_TYPE_GRAY_ALPHA  ? 2
                   : color_type == PNG_COLOR_TYPE_RGB       ? 3
                   : color_type == PNG_COLOR_TYPE_RGB_ALPHA ? 4
                                                            : 1;

    for (int i = 0; i < out->width; i++, rgb += 3) {
        const uint8_t *pixel = row + (size_t)i * (size_t)channels;
        uint8_t grey = pixel[0];
        if (color_type == PNG_COLOR_TYPE_PALETTE) {
            memcpy(rgb, palette[pixel[0]], 3);
            continue;
        }
        if (channels >= 3) {
            memcpy(rgb, pixel, 3);
            continue;
        }
        /* 16-bit grey becomes Pillow's mode I;16, whose conversion to RGB clips at 255 instead of scaling: nearly
         * everything turns white. Grey with alpha and RGB of 16 bits keep their high byte. Both are copied here. */
        if (color_type == PNG_COLOR_TYPE_GRAY && depth == 16)
            grey = image_deep_grey(out, s, (uint32_t)row[2 * i] << 8 | row[2 * i + 1], 65535);
        else if (depth < 8)
            grey = (uint8_t)(grey * (255 / ((1 << depth) - 1)));
        memset(rgb, grey, 3);
    }
}

/* Reads the palette; colours that the file does not give are black. */
static void read_palette(png_reader *r, uint8_t palette[256][3])
{
    png_colorp colors = NULL;
    int count = 0;

    if (png_get_PLTE(r->png, r->info, &colors, &count))
        for (int i = 0; i < count && i < 256; i++) {
            palette[i][0] = colors[i].red;
            palette[i][1] = colors[i].green;
            palette[i][2] = colors[i].blue;
        }
}

static int find_orientation(png_reader *r)
{
    png_uint_32 size = 0;
    png_bytep exif = NULL;
    png_textp texts = NULL;
    int count = 0, found = 0;

    png_read_end(r->png, r->info); /* both kinds may follow the pixels */
    if (png_get_eXIf_1(r->png, r->info, &size, &exif))
        found = exif_orientation(exif, size);
    png_get_text(r->png, r->info, &texts, &count);
    for (int i = 0; i < count && !found; i++)
        if (strcmp(texts[i].key, "XML:com.adobe.xmp") == 0 && texts[i].text)
            found = xmp_orientation((const uint8_t *)texts[i].text, strlen(texts[i].text));
    return found ? found : 1;
}

/* Bytes that libpng and this reader take: all rows of an interlaced image, else some. libpng keeps two of all samples,
 * and 64 kB to inflate with. */
static uint64_t working_memory(const png_reader *r)
{
    uint64_t row = (uint64_t)png_get_image_width(r->png, r->info) * png_get_channels(r->png, r->info) *
                   (png_get_bit_depth(r->png, r->info) > 8 ? 2 : 1);
    bool whole = png_get_interlace_type(r->png, r->info) != PNG_INTERLACE_NONE;

    return row * (3 + (whole ? png_get_image_height(r->png, r->info) : 0)) + (1 << 16);
}

/* Reads the file under setjmp: everything that must be freed hangs on `r` or `out`. */
static inlay_status read_png(png_reader *r, image *out, const image_source *s, inlay_error *err)
{
    const char *name = s->name;
    uint8_t palette[256][3] = {{0}};
    int color_type, depth, passes;
    size_t row_bytes;

    png_read_info(r->png, r->info);
    color_type = png_get_color_type(r->png, r->info);
    depth = png_get_bit_depth(r->png, r->info);
    TRY(image_new(out, s, png_get_image_width(r->png, r->info), png_get_image_height(r->png, r->info),
                  working_memory(r), err));
    read_palette(r, palette);
    if (depth < 8)
        png_set_packing(r->png);
    if (depth == 16 && color_type != PNG_COLOR_TYPE_GRAY)
        png_set_strip_16(r->png);
    passes = png_set_interlace_handling(r->png);
    png_read_update_info(r->png, r->info);
    row_bytes = png_get_rowbytes(r->png, r->info);
    r->rows = calloc(passes > 1 ? (size_t)out->height : 1, row_bytes);
    if (!r->rows)
        FAIL(err, INLAY_ERR_NOMEM, "'%s': out of memory for an image of %d x %d pixels", name, out->width, out->height);
    for (int pass = 0; pass < passes; pass++)
        for (int i = 0; i < out->height; i++) {
            uint8_t *row = r->rows + (passes > 1 ? (size_t)i * row_bytes : 0);
            png_read_row(r->png, row, NULL);
            if (pass == passes - 1)
                row_to_rgb(out, i, row, s, color_type, depth, palette);
        }
    return INLAY_OK;
}

/* Compares the checksum of every chunk in front of the pixels, as Pillow does, and of none from there on. libpng is
 * asked to compare none. */
static inlay_status check_sums(const image_source *s, inlay_error *err)
{
    for (size_t at = 8; s->size - at >= 12;) {
        const uint8_t *chunk = s->bytes + at;
        uint32_t length = png_get_uint_32(chunk), wanted;
        char kind[5] = "";
        if (memcmp(chunk + 4, "IDAT", 4) == 0 || length > s->size - at - 12)
            break;
        wanted = png_get_uint_32(chunk + 8 + length);
        for (int i = 0; i < 4; i++)
            kind[i] = chunk[4 + i] > ' ' && chunk[4 + i] < 127 ? (char)chunk[4 + i] : '?';
        if (crc32(0, chunk + 4, length + 4) != wanted)
            FAIL(err, INLAY_ERR_FORMAT, "'%s': broken PNG: the checksum of the chunk %s at offset %zu is wrong",
                 s->name, kind, at);
        at += 12 + (size_t)length;
    }
    return INLAY_OK;
}

inlay_status image_decode_png(image *out, image_source *s, inlay_error *err)
{
    png_reader r = {.next = s->bytes, .left = s->size, .size = s->size};
    const char *name = s->name;
    volatile bool pixels_read = false; /* what is broken behind the pixels only costs the orientation */
    inlay_status status = INLAY_OK;

    TRY(check_sums(s, err));
    r.png = png_create_read_struct_2(PNG_LIBPNG_VER_STRING, &r, on_error, on_warning, &r, limited_malloc, limited_free);
    r.info = r.png ? png_create_info_struct(r.png) : NULL;
    if (!r.info) {
        png_destroy_read_struct(&r.png, NULL, NULL);
        FAIL(err, INLAY_ERR_NOMEM, "'%s': out of memory", name);
    }
    if (setjmp(r.escape)) {
        png_destroy_read_struct(&r.png, &r.info, NULL);
        free(r.rows);
        if (pixels_read)
            return INLAY_OK;
        FAIL(err, INLAY_ERR_FORMAT, "'%s': broken PNG: %s", name, r.message);
    }
    png_set_keep_unknown_chunks(r.png, PNG_HANDLE_CHUNK_ALWAYS, NULL,
                                0); /* else a critical one that it does not know is an error */
    png_set_crc_action(r.png, PNG_CRC_QUIET_USE, PNG_CRC_QUIET_USE);
    png_set_read_fn(r.png, &r, on_read);
    status = read_png(&r, out, s, err);
    pixels_read = status == INLAY_OK;
    if (pixels_read && s->upright)
        s->orientation = find_orientation(&r);
    png_destroy_read_struct(&r.png, &r.info, NULL);
    free(r.rows);
    return status;
}
