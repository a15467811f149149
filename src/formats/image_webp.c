/* WebP through libwebp: lossy, lossless, with alpha (dropped); of an animation the first frame on a black canvas, as
 * Pillow shows it. */
#include "formats/image_codec.h"

#include <stdlib.h>
#include <string.h>

#include <webp/decode.h>

static uint32_t little(const uint8_t *bytes, int width)
{
    uint32_t value = 0;

    for (int i = 0; i < width; i++)
        value |= (uint32_t)bytes[i] << 8 * i;
    return value;
}

/* Payload of the first RIFF chunk with this name; NULL when there is none or it is cut off. */
static const uint8_t *find_chunk(const uint8_t *bytes, size_t size, const char *fourcc, size_t *length)
{
    for (size_t at = 12; size - at >= 8;) {
        uint32_t payload = little(bytes + at + 4, 4);
        if (payload > size - at - 8)
            return NULL;
        if (memcmp(bytes + at, fourcc, 4) == 0) {
            *length = payload;
            return bytes + at + 8;
        }
        at += 8 + (size_t)payload + (payload & 1);
        if (at > size)
            return NULL;
    }
    return NULL;
}

static int find_orientation(const uint8_t *bytes, size_t size)
{
    size_t length = 0;
    const uint8_t *chunk = find_chunk(bytes, size, "EXIF", &length);
    int found = chunk ? exif_orientation(chunk, length) : 0;

    if (!found && (chunk = find_chunk(bytes, size, "XMP ", &length)) != NULL)
        found = xmp_orientation(chunk, length);
    return found ? found : 1;
}

/* Decodes one still bitstream onto the canvas with its corner at (left, top). */
static inlay_status decode_still(image *canvas, const uint8_t *bytes, size_t size, int left, int top, const char *name,
                                 inlay_error *err)
{
    static const char *const reasons[] = {
        "ok",          "out of memory", "invalid parameter", "broken bitstream", "unsupported feature",
        "interrupted", "interrupted",   "not enough data"};
    WebPDecoderConfig config;
    VP8StatusCode code;

    if (!WebPInitDecoderConfig(&config))
        FAIL(err, INLAY_ERR_INTERNAL, "libwebp has another version than its headers");
    code = WebPGetFeatures(bytes, size, &config.input);
    if (code == VP8_STATUS_OK &&
        (config.input.width > canvas->width - left || config.input.height > canvas->height - top))
        FAIL(err, INLAY_ERR_FORMAT, "'%s': broken WebP: a frame does not fit on its canvas", name);
    if (code == VP8_STATUS_OK) {
        size_t stride = (size_t)canvas->width * 3;
        config.output.colorspace = MODE_RGB;
        config.output.is_external_memory = 1;
        config.output.u.RGBA.rgba = canvas->rgb + (size_t)top * stride + (size_t)left * 3;
        config.output.u.RGBA.stride = (int)stride;
        config.output.u.RGBA.size = stride * (size_t)(canvas->height - top) - (size_t)left * 3;
        code = WebPDecode(bytes, size, &config);
        WebPFreeDecBuffer(&config.output);
    }
    if (code != VP8_STATUS_OK)
        FAIL(err, INLAY_ERR_FORMAT, "'%s': broken WebP: %s", name,
             (size_t)code < sizeof reasons / sizeof reasons[0] ? reasons[code] : "unknown error");
    return INLAY_OK;
}

/* Bytes that libwebp takes: it writes lossy pixels row by row, with their alpha whole, and keeps lossless ones in four
 * bytes each. */
static uint64_t working_memory(const WebPBitstreamFeatures *f)
{
    uint64_t pixels = (uint64_t)f->width * (uint64_t)f->height, rows = (uint64_t)f->width * 256;
    bool lossy = f->format == 1;

    return rows + pixels * (lossy ? f->has_alpha ? 2 : 0 : 5);
}

inlay_status image_decode_webp(image *out, image_source *s, inlay_error *err)
{
    enum { FRAME_HEADER = 16 };
    WebPBitstreamFeatures features;
    const uint8_t *bytes = s->bytes, *frame;
    const char *name = s->name;
    size_t size = s->size, length = 0;

    if (WebPGetFeatures(bytes, size, &features) != VP8_STATUS_OK)
        FAIL(err, INLAY_ERR_FORMAT, "'%s': broken or truncated WebP header", name);
    TRY(image_new(out, s, (uint64_t)features.width, (uint64_t)features.height, working_memory(&features), err));
    s->orientation = find_orientation(bytes, size);
    if (!features.has_animation)
        return decode_still(out, bytes, size, 0, 0, name, err);
    frame = find_chunk(bytes, size, "ANMF", &length);
    if (!frame || length < FRAME_HEADER || little(frame, 3) * 2 >= (uint32_t)out->width ||
        little(frame + 3, 3) * 2 >= (uint32_t)out->height)
        FAIL(err, INLAY_ERR_FORMAT, "'%s': broken WebP: no usable first frame", name);
    return decode_still(out, frame + FRAME_HEADER, length - FRAME_HEADER, (int)little(frame, 3) * 2,
                        (int)little(frame + 3, 3) * 2, name, err);
}
