/* JPEG XL through libjxl, where it was there when Inlay was built: 8-bit RGB of the first frame, alpha dropped, in the
 * colour space that the file asks for. */
#include "formats/image_codec.h"

#include <stdlib.h>

#ifdef HAVE_LIBJXL
#include <jxl/decode.h>

/* clang-format off */
#define FUNCTIONS(F) \
    F(JxlDecoderCreate) \
    F(JxlDecoderSubscribeEvents) \
    F(JxlDecoderSetKeepOrientation) \
    F(JxlDecoderSetInput) \
    F(JxlDecoderCloseInput) \
    F(JxlDecoderProcessInput) \
    F(JxlDecoderGetBasicInfo) \
    F(JxlDecoderImageOutBufferSize) \
    F(JxlDecoderSetImageOutBuffer) \
    F(JxlDecoderDestroy)
/* clang-format on */

#define LIBRARY image_jxl_library
#define LIBRARY_FILE LIBJXL_FILE
#include "formats/image_functions.h"

static inlay_status broken(const image_source *s, const char *what, inlay_error *err)
{
    FAIL(err, INLAY_ERR_FORMAT, "'%s': broken or truncated JPEG XL: %s", s->name, what);
}

/* Bytes that libjxl takes: it computes in real numbers and may keep a frame twice, once as it is stored, once as it is
 * rendered. */
static uint64_t working_memory(const JxlBasicInfo *info)
{
    return (uint64_t)info->xsize * info->ysize * sizeof(float) * 2 * (3 + (uint64_t)info->num_extra_channels);
}

static inlay_status begin_image(JxlDecoder *decoder, image *out, image_source *s, inlay_error *err)
{
    JxlBasicInfo info;

    if (lib.JxlDecoderGetBasicInfo(decoder, &info) != JXL_DEC_SUCCESS)
        return broken(s, "no usable header", err);
    s->orientation = info.orientation >= 1 && info.orientation <= 8 ? (int)info.orientation : 1;
    return image_new(out, s, info.xsize, info.ysize, working_memory(&info), err);
}

static inlay_status give_buffer(JxlDecoder *decoder, image *out, const image_source *s, inlay_error *err)
{
    static const JxlPixelFormat format = {
        .num_channels = 3, .data_type = JXL_TYPE_UINT8, .endianness = JXL_NATIVE_ENDIAN, .align = 0};
    size_t needed = 0, room = (size_t)out->width * (size_t)out->height * 3;

    if (!out->rgb || lib.JxlDecoderImageOutBufferSize(decoder, &format, &needed) != JXL_DEC_SUCCESS || needed != room ||
        lib.JxlDecoderSetImageOutBuffer(decoder, &format, out->rgb, room) != JXL_DEC_SUCCESS)
        return broken(s, "pixels of another size than the header says", err);
    return INLAY_OK;
}

static inlay_status read_jxl(JxlDecoder *decoder, image *out, image_source *s, inlay_error *err)
{
    if (lib.JxlDecoderSubscribeEvents(decoder, JXL_DEC_BASIC_INFO | JXL_DEC_FULL_IMAGE) != JXL_DEC_SUCCESS ||
        lib.JxlDecoderSetKeepOrientation(decoder, JXL_TRUE) != JXL_DEC_SUCCESS ||
        lib.JxlDecoderSetInput(decoder, s->bytes, s->size) != JXL_DEC_SUCCESS)
        FAIL(err, INLAY_ERR_INTERNAL, "'%s': libjxl does not take its input", s->name);
    lib.JxlDecoderCloseInput(decoder);
    for (;;)
        switch (lib.JxlDecoderProcessInput(decoder)) {
        case JXL_DEC_BASIC_INFO:
            TRY(begin_image(decoder, out, s, err));
            break;
        case JXL_DEC_NEED_IMAGE_OUT_BUFFER:
            TRY(give_buffer(decoder, out, s, err));
            break;
        case JXL_DEC_FULL_IMAGE:
            return INLAY_OK;
        case JXL_DEC_SUCCESS:
            return broken(s, "no image", err);
        default:
            return broken(s, out->rgb ? "its pixels" : "its header", err);
        }
}

inlay_status image_decode_jxl(image *out, image_source *s, inlay_error *err)
{
    JxlDecoder *decoder;
    inlay_status status;

    TRY(image_library_use(image_jxl_library(), s->name, err));
    decoder = lib.JxlDecoderCreate(NULL);
    if (!decoder)
        FAIL(err, INLAY_ERR_NOMEM, "'%s': out of memory", s->name);
    status = read_jxl(decoder, out, s, err);
    lib.JxlDecoderDestroy(decoder);
    return status;
}

#else

image_library *image_jxl_library(void)
{
    return NULL;
}

inlay_status image_decode_jxl(image *out, image_source *s, inlay_error *err)
{
    (void)out;
    FAIL(err, INLAY_ERR_UNSUPPORTED,
         "'%s': a JPEG XL image, which this build cannot read: libjxl was missing when it was built", s->name);
}

#endif
