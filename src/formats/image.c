/* The front of the image decoders, and what is done to an image without resampling. */
#include "formats/image_codec.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/text.h"

/* Twice Pillow's MAX_IMAGE_PIXELS, above which it refuses an image too. */
#ifndef IMAGE_MAX_PIXELS
#define IMAGE_MAX_PIXELS ((uint64_t)178956970)
#endif

static bool begins(const uint8_t *b, size_t size, const char *sign, size_t length)
{
    return size >= length && memcmp(b, sign, length) == 0;
}

static bool is_jpeg(const uint8_t *b, size_t size)
{
    return begins(b, size, "\xFF\xD8\xFF", 3);
}

static bool is_png(const uint8_t *b, size_t size)
{
    return begins(b, size, "\x89PNG\r\n\x1a\n", 8);
}

static bool is_webp(const uint8_t *b, size_t size)
{
    return size >= 12 && memcmp(b, "RIFF", 4) == 0 && memcmp(b + 8, "WEBP", 4) == 0;
}

static bool is_gif(const uint8_t *b, size_t size)
{
    return begins(b, size, "GIF87a", 6) || begins(b, size, "GIF89a", 6);
}

static bool is_tiff(const uint8_t *b, size_t size)
{
    return begins(b, size, "II*\0", 4) || begins(b, size, "MM\0*", 4) || begins(b, size, "II+\0", 4) ||
           begins(b, size, "MM\0+", 4);
}

/* Whether the container has the brand that Pillow takes for AVIF: HEIC and other pictures have other ones, or none that
 * libavif reads. */
static bool is_avif(const uint8_t *b, size_t size)
{
    static const char *const brands[] = {"avif", "avis", "mif1", "msf1"};

    for (size_t i = 0; i < sizeof brands / sizeof brands[0] && size >= 12 && memcmp(b + 4, "ftyp", 4) == 0; i++)
        if (memcmp(b + 8, brands[i], 4) == 0)
            return true;
    return false;
}

/* Whether it is a bare codestream of JPEG XL, or one in its container. */
static bool is_jxl(const uint8_t *b, size_t size)
{
    return begins(b, size, "\xFF\x0A", 2) || begins(b, size, "\0\0\0\x0CJXL \r\n\x87\n", 12);
}

/* Whether it is a bitmap, with the header of a file or without, as a .dib may be: then the size of the other header
 * comes first, and 1 at the place of the planes. */
static bool is_bmp(const uint8_t *b, size_t size)
{
    static const uint8_t sizes[] = {12, 40, 52, 56, 64, 108, 124};

    if (begins(b, size, "BM", 2))
        return true;
    for (size_t i = 0; i < sizeof sizes && size >= 16; i++)
        if (b[0] == sizes[i] && b[1] == 0 && b[2] == 0 && b[3] == 0)
            return b[b[0] == 12 ? 8 : 12] == 1 && b[b[0] == 12 ? 9 : 13] == 0;
    return false;
}

static bool is_pnm(const uint8_t *b, size_t size)
{
    return size >= 2 && b[0] == 'P' && b[1] >= '1' && b[1] <= '6';
}

static const struct {
    const char *name;
    bool (*accepts)(const uint8_t *bytes, size_t size);
    image_decoder decode;
} decoders[] = {
#define CODEC(id, name, endings) {name, is_##id, image_decode_##id},
#include "formats/image_codecs.def"
#undef CODEC
};

#define DECODERS (sizeof decoders / sizeof decoders[0])

static const char all_endings[] =
#define CODEC(id, name, endings) " " endings
#include "formats/image_codecs.def"
#undef CODEC
    ;

static const char all_formats[] =
#define CODEC(id, name, endings) IMAGE_LISTED_##id(", " name)
#include "formats/image_codecs.def"
#undef CODEC
    ;

/* The row that reads the file, or the number of rows. */
static size_t find_decoder(const uint8_t *bytes, size_t size)
{
    size_t kind = 0;

    while (kind < DECODERS && !decoders[kind].accepts(bytes, size))
        kind++;
    return kind;
}

const char *image_format_of(const void *bytes, size_t size)
{
    size_t kind = find_decoder(bytes, size);

    return kind < DECODERS ? decoders[kind].name : NULL;
}

const char *image_endings(void)
{
    return all_endings + 1;
}

const char *image_formats(void)
{
    return all_formats + 2;
}

bool image_has_ending(const char *name)
{
    const char *dot = strrchr(name, '.'), *known = image_endings();

    while (dot && *known) {
        size_t length = strcspn(known, " ");
        if (strlen(dot + 1) == length && strncasecmp(dot + 1, known, length) == 0)
            return true;
        known += length + strspn(known + length, " ");
    }
    return false;
}

inlay_status image_check_size(uint64_t width, uint64_t height, const char *name, inlay_error *err)
{
    if (width == 0 || height == 0)
        FAIL(err, INLAY_ERR_FORMAT, "'%s': the image is empty (%llu x %llu pixels)", name, (unsigned long long)width,
             (unsigned long long)height);
    if (width > IMAGE_MAX_PIXELS || height > IMAGE_MAX_PIXELS || width * height > IMAGE_MAX_PIXELS)
        FAIL(err, INLAY_ERR_UNSUPPORTED, "'%s': the image has %llu x %llu pixels, at most %llu are read", name,
             (unsigned long long)width, (unsigned long long)height, (unsigned long long)IMAGE_MAX_PIXELS);
    return INLAY_OK;
}

/* Takes the memory for everything from a file's header to the pixels that a model reads: what decodes it, the image,
 * the same turned upright, a part cut out of it, and between the two passes of resampling a strip of it. */
inlay_status image_take(image *out, const image_source *s, uint64_t width, uint64_t height, uint64_t working,
                        inlay_error *err)
{
    uint64_t whole = width * height * 3, shorter = width < height ? width : height, needed;
    char a[TEXT_SHORT], b[TEXT_SHORT];

    TRY(image_check_size(width, height, s->name, err));
    if (!s->memory || !s->memory->share || out->taken)
        return INLAY_OK;
    needed = working + whole * (1 + (s->upright || s->always_turned) + s->memory->copied) +
             (uint64_t)s->memory->side * shorter * 6;
    if (!memory_share_take(s->memory->share, needed))
        FAIL(err, INLAY_ERR_UNSUPPORTED,
             "'%s': decoding its %llu x %llu pixels takes %s, an image may take %s (a larger --memory allows more)",
             s->name, (unsigned long long)width, (unsigned long long)height, text_size(a, needed),
             text_size(b, s->memory->share->size));
    out->share = s->memory->share;
    out->taken = needed;
    return INLAY_OK;
}

inlay_status image_new(image *out, const image_source *s, uint64_t width, uint64_t height, uint64_t working,
                       inlay_error *err)
{
    const char *name = s->name;

    TRY(image_take(out, s, width, height, working, err));
    out->width = (int)width;
    out->height = (int)height;
    out->rgb = calloc((size_t)(width * height), 3);
    if (!out->rgb)
        FAIL(err, width * height > IMAGE_LARGE_PIXELS ? INLAY_ERR_UNSUPPORTED : INLAY_ERR_NOMEM,
             "'%s': out of memory for an image of %d x %d pixels", name, out->width, out->height);
    return INLAY_OK;
}

inlay_status image_decode(image *out, const void *bytes, size_t size, const char *name, unsigned how, inlay_error *err)
{
    return image_decode_from(out, bytes, size, name, how, NULL, err);
}

inlay_status image_decode_from(image *out, const void *bytes, size_t size, const char *name, unsigned how,
                               const image_memory *memory, inlay_error *err)
{
    image_source source = {.bytes = bytes,
                           .size = size,
                           .name = name,
                           .memory = memory,
                           .scale_grey = how & IMAGE_SCALE_GREY,
                           .upright = how & IMAGE_UPRIGHT,
                           .orientation = 1};
    size_t kind;
    inlay_status status;

    *out = (image){0};
    if (size == 0)
        FAIL(err, INLAY_ERR_FORMAT, "'%s': the file is empty", name);
    kind = find_decoder(bytes, size);
    if (kind == DECODERS)
        FAIL(err, INLAY_ERR_UNSUPPORTED, "'%s': not an image in a known format (%s)", name, image_formats());
    status = decoders[kind].decode(out, &source, err);
    if (status == INLAY_OK && (source.upright || source.always_turned))
        status = image_orient(out, source.orientation, err);
    if (status != INLAY_OK)
        image_free(out);
    return status;
}

inlay_status image_load(image *out, const char *path, unsigned how, inlay_error *err)
{
    file_map map;
    inlay_status status;

    *out = (image){0};
    TRY(file_map_open(&map, path, err));
    status = image_decode(out, map.data, map.size, path, how, err);
    file_map_close(&map);
    return status;
}

void image_load_libraries(void)
{
    image_library *libraries[] = {image_tiff_library(), image_avif_library(), image_jxl_library()};
    inlay_error ignored;

    for (size_t i = 0; i < sizeof libraries / sizeof libraries[0]; i++)
        if (libraries[i])
            image_library_use(libraries[i], "",
                              &ignored); /* one that is missing is named with the first file that needs it */
}

void image_free(image *img)
{
    free(img->rgb);
    if (img->taken)
        memory_share_give(img->share, img->taken);
    *img = (image){0};
}

inlay_status image_crop(image *out, const image *in, int left, int top, int width, int height, inlay_error *err)
{
    int64_t skipped = left < 0 ? -(int64_t)left : 0,
            end = (int64_t)left + width; /* columns of zeros before the image's own; end of the region */
    int64_t copied = (end < in->width ? end : in->width) - (left + skipped);

    *out = (image){0};
    if (width <= 0 || height <= 0 || (uint64_t)width * (uint64_t)height > IMAGE_MAX_PIXELS)
        FAIL(err, INLAY_ERR_USAGE, "cannot cut a region of %d x %d pixels out of an image", width, height);
    out->width = width;
    out->height = height;
    out->rgb = calloc((size_t)width * (size_t)height, 3);
    if (!out->rgb)
        FAIL(err, INLAY_ERR_NOMEM, "out of memory for a region of %d x %d pixels", width, height);
    for (int row = 0; row < height && copied > 0; row++) {
        int64_t source = (int64_t)top + row;
        if (source >= 0 && source < in->height)
            memcpy(out->rgb + ((size_t)row * (size_t)width + (size_t)skipped) * 3,
                   in->rgb + ((size_t)source * (size_t)in->width + (size_t)(left + skipped)) * 3, (size_t)copied * 3);
    }
    return INLAY_OK;
}
