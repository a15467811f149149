/* GIF through giflib: the first frame, as Pillow shows it. What the frame does not cover is the transparent colour
 * where there is one, else colour 0; a frame that reaches beyond the screen enlarges it. */
#include "formats/image_codec.h"

#include <stdlib.h>
#include <string.h>

#include <gif_lib.h>

typedef struct gif_reader {
    const image_source *s;
    size_t at;
    GifFileType *gif;
    GifPixelType *row;
    uint8_t palette[256][3];
    int transparent; /* -1: none */
} gif_reader;

static int on_read(GifFileType *gif, GifByteType *target, int count)
{
    gif_reader *r = gif->UserData;
    size_t left = r->s->size - r->at, step = count < 0 ? 0 : (size_t)count < left ? (size_t)count : left;

    memcpy(target, r->s->bytes + r->at, step);
    r->at += step;
    return (int)step;
}

static inlay_status broken(const gif_reader *r, inlay_error *err)
{
    const char *reason = r->gif ? GifErrorString(r->gif->Error) : NULL;

    FAIL(err, INLAY_ERR_FORMAT, "'%s': %s GIF: %s", r->s->name, r->at == r->s->size ? "truncated or broken" : "broken",
         reason ? reason : "no frame");
}

/* Reads the graphics control in front of a frame, which says what is transparent. */
static inlay_status read_extension(gif_reader *r, inlay_error *err)
{
    GifByteType *block;
    int kind;

    if (DGifGetExtension(r->gif, &kind, &block) == GIF_ERROR)
        return broken(r, err);
    if (kind == GRAPHICS_EXT_FUNC_CODE && block && block[0] >= 4 && block[1] & 1)
        r->transparent = block[4];
    while (block)
        if (DGifGetExtensionNext(r->gif, &block) == GIF_ERROR)
            return broken(r, err);
    return INLAY_OK;
}

/* Reads up to the data of the first frame. */
static inlay_status find_frame(gif_reader *r, inlay_error *err)
{
    GifRecordType kind;

    for (;;) {
        if (DGifGetRecordType(r->gif, &kind) == GIF_ERROR)
            return broken(r, err);
        if (kind == IMAGE_DESC_RECORD_TYPE)
            return DGifGetImageDesc(r->gif) == GIF_ERROR ? broken(r, err) : INLAY_OK;
        if (kind == TERMINATE_RECORD_TYPE)
            FAIL(err, INLAY_ERR_FORMAT, "'%s': broken GIF: it has no frame", r->s->name);
        if (kind == EXTENSION_RECORD_TYPE)
            TRY(read_extension(r, err));
    }
}

/* Reads the palette: a file without colours is grey, and colours that the file does not give are black. */
static void read_palette(gif_reader *r)
{
    const ColorMapObject *map = r->gif->Image.ColorMap ? r->gif->Image.ColorMap : r->gif->SColorMap;

    for (int i = 0; i < 256; i++) {
        if (!map)
            memset(r->palette[i], i, 3);
        else if (i < map->ColorCount)
            memcpy(r->palette[i], (uint8_t[]){map->Colors[i].Red, map->Colors[i].Green, map->Colors[i].Blue}, 3);
    }
}

static void fill(const gif_reader *r, image *out)
{
    const uint8_t *colour = r->palette[r->transparent < 0 ? 0 : r->transparent];

    if (colour[0] || colour[1] || colour[2])
        for (size_t i = 0; i < (size_t)out->width * (size_t)out->height; i++)
            memcpy(out->rgb + i * 3, colour, 3);
}

static inlay_status read_rows(gif_reader *r, image *out, inlay_error *err)
{
    static const int first[] = {0, 4, 2, 1}, step[] = {8, 8, 4, 2};
    const GifImageDesc *frame = &r->gif->Image;
    int passes = frame->Interlace ? 4 : 1;

    r->row = malloc((size_t)frame->Width + 1);
    if (!r->row)
        FAIL(err, INLAY_ERR_NOMEM, "'%s': out of memory for a row of pixels", r->s->name);
    for (int pass = 0; pass < passes; pass++)
        for (int y = passes > 1 ? first[pass] : 0; y<frame->Height; y += passes> 1 ? step[pass] : 1) {
            uint8_t *rgb = out->rgb + ((size_t)(frame->Top + y) * (size_t)out->width + (size_t)frame->Left) * 3;
            if (DGifGetLine(r->gif, r->row, frame->Width) == GIF_ERROR)
                return broken(r, err);
            for (int x = 0; x < frame->Width; x++)
                memcpy(rgb + (size_t)x * 3, r->palette[r->row[x]], 3);
        }
    return INLAY_OK;
}

static inlay_status read_gif(gif_reader *r, image *out, inlay_error *err)
{
    const GifImageDesc *frame;
    int right, bottom;

    TRY(find_frame(r, err));
    frame = &r->gif->Image;
    right = frame->Left + frame->Width;
    bottom = frame->Top + frame->Height;
    TRY(image_new(out, r->s, (uint64_t)(right > r->gif->SWidth ? right : r->gif->SWidth),
                  (uint64_t)(bottom > r->gif->SHeight ? bottom : r->gif->SHeight), (uint64_t)frame->Width, err));
    read_palette(r);
    if (frame->Width < out->width || frame->Height < out->height)
        fill(r, out);
    return read_rows(r, out, err);
}

inlay_status image_decode_gif(image *out, image_source *s, inlay_error *err)
{
    gif_reader r = {.s = s, .transparent = -1};
    int code = 0;
    inlay_status status;

    r.gif = DGifOpen(&r, on_read, &code);
    if (!r.gif)
        FAIL(err, code == D_GIF_ERR_NOT_ENOUGH_MEM ? INLAY_ERR_NOMEM : INLAY_ERR_FORMAT, "'%s': broken GIF: %s",
             s->name, GifErrorString(code));
    status = read_gif(&r, out, err);
    free(r.row);
    DGifCloseFile(r.gif, &code);
    return status;
}
