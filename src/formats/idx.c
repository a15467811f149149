/* IDX: 0, 0, 8 (unsigned bytes), the rank, then for each dimension its size in 32 bits, the most significant byte first
 * (yann.lecun.com/exdb/mnist). */
#include "formats/idx.h"

#include <string.h>
#include <zlib.h>

#include "base/file.h"

/* Whether fewer bytes came than were wanted because the stream ends, not because it is damaged. */
static bool ends_early(const idx_file *f)
{
    int code;

    gzerror(f->stream, &code);
    return code == Z_OK || code == Z_BUF_ERROR || code == Z_STREAM_END;
}

/* Why they did: zlib's own word for a damaged stream, without the path that it puts in front. */
static const char *reason(const idx_file *f)
{
    int code;
    const char *text = gzerror(f->stream, &code);
    size_t named = strlen(f->path);

    if (ends_early(f))
        return "truncated";
    if (code == Z_ERRNO)
        return "cannot be read";
    return strncmp(text, f->path, named) == 0 && strncmp(text + named, ": ", 2) == 0 ? text + named + 2 : text;
}

inlay_status idx_open(idx_file *f, const char *path, int rank, inlay_error *err)
{
    unsigned char bytes[4 + 4 * IDX_MAX_RANK];
    int wanted = 4 + 4 * rank, found;

    *f = (idx_file){.path = path, .rank = rank, .stream = gzopen(path, "rbe")};
    if (!f->stream)
        return file_error(err, "open", path);
    found = gzread(f->stream, bytes, (unsigned)wanted);
    if (found != wanted && !ends_early(f))
        FAIL(err, INLAY_ERR_FORMAT, "%s: %s", path, reason(f));
    if (found != wanted)
        FAIL(err, INLAY_ERR_FORMAT, "%s: not an IDX file: its head is %s", path, reason(f));
    if (bytes[0] || bytes[1] || bytes[2] != 8 || bytes[3] != rank)
        FAIL(err, INLAY_ERR_FORMAT,
             "%s: not an IDX file of unsigned bytes with %d dimensions: it begins with %02x %02x %02x %02x, expected "
             "00 00 08 %02x",
             path, rank, bytes[0], bytes[1], bytes[2], bytes[3], (unsigned)rank);
    for (int i = 0; i < rank; i++) {
        const unsigned char *p = bytes + 4 + 4 * i;
        f->sizes[i] = (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
    }
    return INLAY_OK;
}

inlay_status idx_read(const idx_file *f, uint32_t index, void *out, size_t size, inlay_error *err)
{
    if (gzfread(out, 1, size, f->stream) != size)
        FAIL(err, INLAY_ERR_FORMAT, "%s: %s at item %u of %u", f->path, reason(f), index, f->sizes[0]);
    return INLAY_OK;
}

inlay_status idx_finish(const idx_file *f, inlay_error *err)
{
    char more;
    int found = gzread(f->stream, &more, 1), code;

    if (found > 0)
        FAIL(err, INLAY_ERR_FORMAT, "%s: there are bytes behind the last of %u items", f->path, f->sizes[0]);
    gzerror(f->stream, &code);
    if (found < 0 || code != Z_OK) /* a missing trailer is a stream that ends too early */
        FAIL(err, INLAY_ERR_FORMAT, "%s: %s behind the last of %u items", f->path, reason(f), f->sizes[0]);
    return INLAY_OK;
}

void idx_close(idx_file *f)
{
    if (f->stream)
        gzclose(f->stream);
    *f = (idx_file){0};
}
