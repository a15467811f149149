/* Writing PNG through libpng. */
#include "formats/image.h"

#include <setjmp.h>
#include <stdio.h>
#include <string.h>

#include <png.h>

typedef struct png_writer {
    png_structp png;
    png_infop info;
    FILE *stream;
    jmp_buf escape;
} png_writer;

static void on_error(png_structp png, png_const_charp message)
{
    png_writer *w = png_get_error_ptr(png);

    (void)message;
    longjmp(w->escape, 1);
}

static void on_warning(png_structp png, png_const_charp message)
{
    (void)png;
    (void)message;
}

static void on_write(png_structp png, png_bytep bytes, size_t count)
{
    png_writer *w = png_get_io_ptr(png);

    if (fwrite(bytes, 1, count, w->stream) != count)
        png_error(png, "cannot write");
}

static void on_flush(png_structp png)
{
    (void)png;
}

/* Writes the image; whether all of it went to the stream. */
static bool encode(png_writer *w, const image *img)
{
    w->png = png_create_write_struct(PNG_LIBPNG_VER_STRING, w, on_error, on_warning);
    w->info = w->png ? png_create_info_struct(w->png) : NULL;
    if (!w->info || setjmp(w->escape))
        return false;
    png_set_write_fn(w->png, w, on_write, on_flush);
    png_set_IHDR(w->png, w->info, (png_uint_32)img->width, (png_uint_32)img->height, 8, PNG_COLOR_TYPE_RGB,
                 PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    png_write_info(w->png, w->info);
    for (int row = 0; row < img->height; row++)
        png_write_row(w->png, img->rgb + (size_t)row * (size_t)img->width * 3);
    png_write_end(w->png, w->info);
    return true;
}

inlay_status image_write_png(const image *img, const char *path, inlay_error *err)
{
    png_writer w = {0};
    file_writer out;
    inlay_status status;
    bool good;

    if (img->width <= 0 || img->height <= 0)
        FAIL(err, INLAY_ERR_USAGE, "'%s': an image of %d x %d pixels cannot be written", path, img->width, img->height);
    TRY(file_begin_named(&out, path, err));
    w.stream = out.stream;
    good = encode(&w, img);
    png_destroy_write_struct(&w.png, &w.info);
    if (good)
        return file_commit(&out, err);
    status = file_error(err, "write", path);
    file_abandon(&out);
    return status;
}
