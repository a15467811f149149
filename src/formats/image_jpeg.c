/* JPEG through libjpeg. Settings and leniency are Pillow's: slow integer DCT, fancy upsampling, warnings ignored,
 * missing data refused. */
#include "formats/image_codec.h"

#include <setjmp.h>
#include <stdio.h>
#include <string.h>

#include <jpeglib.h>

#define MAX_SCANS 500 /* real progressive files have some ten; thousands only serve to keep a decoder busy */

typedef struct jpeg_reader {
    struct jpeg_decompress_struct jpeg;
    struct jpeg_error_mgr errors;
    struct jpeg_source_mgr source;
    struct jpeg_progress_mgr progress;
    jmp_buf escape;
    char message[JMSG_LENGTH_MAX];
} jpeg_reader;

static void on_error(j_common_ptr common)
{
    jpeg_reader *r = common->client_data;

    common->err->format_message(common, r->message);
    longjmp(r->escape, 1);
}

static void on_message(j_common_ptr common, int level)
{
    (void)common;
    (void)level;
}

static void on_progress(j_common_ptr common)
{
    jpeg_reader *r = common->client_data;

    if (common->is_decompressor && r->jpeg.input_scan_number > MAX_SCANS) {
        snprintf(r->message, sizeof r->message, "more than %d scans", MAX_SCANS);
        longjmp(r->escape, 1);
    }
}

static void source_nothing(j_decompress_ptr jpeg)
{
    (void)jpeg;
}

/* The whole file is in the buffer: asking for more means that it is truncated. libjpeg then "suspends" and the caller
 * sees it. */
static boolean source_fill(j_decompress_ptr jpeg)
{
    (void)jpeg;
    return FALSE;
}

static void source_skip(j_decompress_ptr jpeg, long count)
{
    struct jpeg_source_mgr *s = jpeg->src;
    size_t step = count <= 0 ? 0 : (size_t)count < s->bytes_in_buffer ? (size_t)count : s->bytes_in_buffer;

    s->next_input_byte += step;
    s->bytes_in_buffer -= step;
}

/* The orientation of EXIF or, without one, of XMP: EXIF wins, as in Pillow. */
static int find_orientation(const struct jpeg_decompress_struct *jpeg)
{
    static const char xmp_mark[] = "http://ns.adobe.com/xap/1.0/";
    int from_exif = 0, from_xmp = 0;

    for (jpeg_saved_marker_ptr m = jpeg->marker_list; m; m = m->next) {
        if (m->data_length >= 6 && memcmp(m->data, "Exif\0\0", 6) == 0 && !from_exif)
            from_exif = exif_orientation(m->data, m->data_length);
        else if (m->data_length > sizeof xmp_mark && memcmp(m->data, xmp_mark, sizeof xmp_mark) == 0 && !from_xmp)
            from_xmp = xmp_orientation(m->data + sizeof xmp_mark, m->data_length - sizeof xmp_mark);
    }
    return from_exif ? from_exif : from_xmp ? from_xmp : 1;
}

static inline uint8_t scaled(unsigned a, unsigned b) /* a * b / 255, rounded, as Pillow's MULDIV255 */
{
    unsigned product = a * b + 128;

    return (uint8_t)((product + (product >> 8)) >> 8);
}

/* Spreads a row of 1 or 4 channels to RGB. CMYK is taken as Adobe stores it, inverted, whatever the file says: so does
 * Pillow. */
static void row_to_rgb(uint8_t *rgb, const uint8_t *row, int width, int channels)
{
    for (int i = 0; i < width; i++, row += channels, rgb += 3)
        for (int c = 0; c < 3; c++)
            rgb[c] = channels == 1 ? row[0] : (uint8_t)(row[3] - scaled(255u - row[c], row[3]));
}

/* Refuses a header that asks for more blocks of 8 x 8 samples than the file can hold, each in a bit at least: it only
 * asks for memory, as of a progressive file all coefficients are kept. What small files lack is grey, as in Pillow. */
static inlay_status check_room(const struct jpeg_decompress_struct *jpeg, const image_source *s, inlay_error *err)
{
    uint64_t blocks = 0;

    if ((uint64_t)jpeg->image_width * jpeg->image_height <= IMAGE_LARGE_PIXELS || jpeg->arith_code)
        return INLAY_OK;
    for (int c = 0; c < jpeg->num_components; c++)
        blocks += (uint64_t)jpeg->comp_info[c].width_in_blocks * jpeg->comp_info[c].height_in_blocks;
    if (blocks / 8 > s->size)
        FAIL(err, INLAY_ERR_FORMAT, "'%s': broken JPEG: %u x %u pixels take %llu bytes at least, the file has %zu",
             s->name, jpeg->image_width, jpeg->image_height, (unsigned long long)(blocks / 8), s->size);
    return INLAY_OK;
}

/* Bytes that libjpeg takes: of a file of several scans it keeps all coefficients, two bytes each; else some rows of
 * samples. */
static uint64_t working_memory(struct jpeg_decompress_struct *jpeg)
{
    uint64_t bytes = (uint64_t)jpeg->image_width * (uint64_t)jpeg->num_components * 64;

    for (int c = 0; c < jpeg->num_components && jpeg_has_multiple_scans(jpeg); c++) {
        const jpeg_component_info *part = &jpeg->comp_info[c];
        bytes += ((uint64_t)part->width_in_blocks + (uint64_t)part->h_samp_factor) *
                 ((uint64_t)part->height_in_blocks + (uint64_t)part->v_samp_factor) * sizeof(JBLOCK);
    }
    return bytes;
}

/* Reads the file under setjmp: everything that must be freed hangs on `jpeg` or `out`. */
static inlay_status read_jpeg(jpeg_reader *r, image *out, image_source *s, inlay_error *err)
{
    struct jpeg_decompress_struct *jpeg = &r->jpeg;
    const char *name = s->name;
    JSAMPROW row;

    if (s->upright)
        jpeg_save_markers(jpeg, JPEG_APP0 + 1, 0xFFFF);
    if (jpeg_read_header(jpeg, TRUE) != JPEG_HEADER_OK)
        FAIL(err, INLAY_ERR_FORMAT, "'%s': the JPEG file is truncated in its header", name);
    s->orientation = find_orientation(jpeg); /* 1 where no marker was kept */
    if (jpeg->num_components != 1 && jpeg->num_components != 3 && jpeg->num_components != 4)
        FAIL(err, INLAY_ERR_UNSUPPORTED, "'%s': JPEG with %d components, expected 1, 3 or 4", name,
             jpeg->num_components);
    jpeg->out_color_space = jpeg->num_components == 1 ? JCS_GRAYSCALE : jpeg->num_components == 3 ? JCS_RGB : JCS_CMYK;
    TRY(image_check_size(jpeg->image_width, jpeg->image_height, name, err));
    TRY(check_room(jpeg, s, err));
    TRY(image_new(out, s, jpeg->image_width, jpeg->image_height, working_memory(jpeg), err));
    if (!jpeg_start_decompress(jpeg))
        FAIL(err, INLAY_ERR_FORMAT, "'%s': the JPEG file is truncated", name);
    row = jpeg->mem->alloc_large((j_common_ptr)jpeg, JPOOL_IMAGE,
                                 (size_t)jpeg->output_width * (size_t)jpeg->output_components);
    while (jpeg->output_scanline < jpeg->output_height) {
        uint8_t *rgb = out->rgb + (size_t)jpeg->output_scanline * (size_t)out->width * 3;
        JSAMPROW target = jpeg->output_components == 3 ? rgb : row;
        if (jpeg_read_scanlines(jpeg, &target, 1) != 1)
            FAIL(err, INLAY_ERR_FORMAT, "'%s': the JPEG file is truncated: %u of %d rows found", name,
                 jpeg->output_scanline, out->height);
        if (jpeg->output_components != 3)
            row_to_rgb(rgb, row, out->width, jpeg->output_components);
    }
    return INLAY_OK;
}

inlay_status image_decode_jpeg(image *out, image_source *s, inlay_error *err)
{
    jpeg_reader r;
    inlay_status status;

    memset(&r, 0, sizeof r);
    r.jpeg.err = jpeg_std_error(&r.errors);
    r.errors.error_exit = on_error;
    r.errors.emit_message = on_message;
    r.jpeg.client_data = &r;
    if (setjmp(r.escape)) {
        jpeg_destroy_decompress(&r.jpeg);
        FAIL(err, INLAY_ERR_FORMAT, "'%s': broken JPEG: %s", s->name, r.message);
    }
    jpeg_create_decompress(&r.jpeg);
    r.source = (struct jpeg_source_mgr){.next_input_byte = s->bytes,
                                        .bytes_in_buffer = s->size,
                                        .init_source = source_nothing,
                                        .fill_input_buffer = source_fill,
                                        .skip_input_data = source_skip,
                                        .resync_to_restart = jpeg_resync_to_restart,
                                        .term_source = source_nothing};
    r.jpeg.src = &r.source;
    r.progress.progress_monitor = on_progress;
    r.jpeg.progress = &r.progress;
    status = read_jpeg(&r, out, s, err);
    jpeg_destroy_decompress(&r.jpeg);
    return status;
}
