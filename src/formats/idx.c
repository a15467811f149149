/* IDX: 0, 0, 8 (unsigned bytes), the rank, then for each dimension its size in 32 bits, the most significant byte first
 * (yann.lecun.com/exdb/mnist). */
#include "formats/idx.h"

#include <stdio.h>
#include <string.h>
#include <zlib.h>

#include "base/file.h"

/* The error where fewer bytes came than `part` has; zlib may have found damage that lies behind it. zlib's text begins
 * with the name of the file, which every message has already. */
static inlay_status broken(const idx_file *f, const char *part, size_t found, size_t wanted, inlay_error *err)
{
    int code;
    const char *text = gzerror(f->stream, &code);
    size_t named = strlen(f->path);

    if (strncmp(text, f->path, named) == 0 && strncmp(text + named, ": ", 2) == 0)
        text += named + 2;
    if (code == Z_MEM_ERROR)
        FAIL(err, INLAY_ERR_NOMEM, "out of memory reading '%s'", f->path);
    if (code == Z_ERRNO)
        FAIL(err, INLAY_ERR_IO, "cannot read '%s': %s", f->path, text);
    if (code == Z_OK || code == Z_BUF_ERROR || code == Z_STREAM_END)
        FAIL(err, INLAY_ERR_FORMAT, "%s: truncated: %s has %zu bytes, %zu of them are there", f->path, part, wanted,
             found);
    FAIL(err, INLAY_ERR_FORMAT, "%s: the gzip data is damaged, as was found while reading %s: %s", f->path, part, text);
}

/* Checks what an IDX file of bytes begins with. A file that does not is another one, however short it is. */
static inlay_status check_sign(const idx_file *f, const unsigned char *bytes, size_t found, inlay_error *err)
{
    const unsigned char sign[4] = {0, 0, 8, (unsigned char)f->rank};
    char seen[16] = "";

    found = found < sizeof sign ? found : sizeof sign;
    if (memcmp(bytes, sign, found) == 0)
        return INLAY_OK;
    for (size_t i = 0; i < found; i++)
        snprintf(seen + 3 * i, 4, "%02x ", bytes[i]);
    seen[3 * found - 1] = '\0';
    FAIL(err, INLAY_ERR_FORMAT,
         "%s: not an IDX file of unsigned bytes with %d %s: it begins with %s, expected 00 00 08 %02x", f->path,
         f->rank, f->rank == 1 ? "dimension" : "dimensions", seen, (unsigned)f->rank);
}

inlay_status idx_open(idx_file *f, const char *path, int rank, inlay_error *err)
{
    unsigned char bytes[4 + 4 * IDX_MAX_RANK];
    int wanted = 4 + 4 * rank, found;

    *f = (idx_file){.path = path, .rank = rank, .stream = gzopen(path, "rbe")};
    if (!f->stream)
        return file_error(err, "open", path);
    found = gzread(f->stream, bytes, (unsigned)wanted);
    TRY(check_sign(f, bytes, found > 0 ? (size_t)found : 0, err));
    if (found != wanted)
        return broken(f, "the head of an IDX file", found > 0 ? (size_t)found : 0, (size_t)wanted, err);
    for (int i = 0; i < rank; i++) {
        const unsigned char *p = bytes + 4 + 4 * i;
        f->sizes[i] = (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
    }
    return INLAY_OK;
}

inlay_status idx_read(const idx_file *f, uint32_t index, void *out, size_t size, inlay_error *err)
{
    size_t found = gzfread(out, 1, size, f->stream);
    char part[64];

    snprintf(part, sizeof part, "item %u of %u", index + 1, f->sizes[0]);
    return found == size ? INLAY_OK : broken(f, part, found, size, err);
}

#define TRAILER 8 /* bytes: checksum and length */

inlay_status idx_finish(const idx_file *f, inlay_error *err)
{
    char more;
    int found = gzread(f->stream, &more, 1), code;

    if (found > 0)
        FAIL(err, INLAY_ERR_FORMAT, "%s: there are bytes behind the last of %u items", f->path, f->sizes[0]);
    gzerror(f->stream, &code);
    if (code == Z_BUF_ERROR)
        FAIL(err, INLAY_ERR_FORMAT, "%s: truncated: the gzip data has to end with a checksum, in %d bytes", f->path,
             TRAILER);
    return found < 0 || code != Z_OK ? broken(f, "its checksum", 0, TRAILER, err) : INLAY_OK;
}

void idx_close(idx_file *f)
{
    if (f->stream)
        gzclose(f->stream);
    *f = (idx_file){0};
}
