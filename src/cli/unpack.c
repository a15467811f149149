/* inlay unpack: images of an IDX file (MNIST and its relatives, also gzipped) as class folders of PGM files. */
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "cli/common.h"

static const option_spec option_table[] = {
    {"images", OPTION_STRING, NULL, NULL, 0, 0, "FILE", "IDX file of images (idx3-ubyte, may be gzipped)", false},
    {"labels", OPTION_STRING, NULL, NULL, 0, 0, "FILE", "IDX file of labels (idx1-ubyte, may be gzipped)", false},
    {"output", OPTION_STRING, NULL, NULL, 0, 0, "DIR", "folder for the class folders", false},
    {"names", OPTION_STRING, NULL, NULL, 0, 0, "A,B,...", "names of the classes, in label order; an empty name leaves the class out", false},
    {"per_class", OPTION_INT, "0", NULL, 0, 1000000000, "N", "at most so many images of each class; 0: all", false},
    {"skip", OPTION_INT, "0", NULL, 0, 1000000000, "N", "leave out the first N images of each class", false},
    {0},
};

/* Reads the head of an IDX file: magic 0, 0, 8 (unsigned bytes), rank, then the big-endian sizes. */
static inlay_status read_head(gzFile file, const char *path, int rank, uint32_t *sizes, inlay_error *err)
{
    unsigned char bytes[16];
    int wanted = 4 + 4 * rank;

    if (gzread(file, bytes, (unsigned)wanted) != wanted || bytes[0] || bytes[1] || bytes[2] != 8 || bytes[3] != rank)
        FAIL(err, INLAY_ERR_FORMAT, "%s: not an IDX file of unsigned bytes with %d dimensions", path, rank);
    for (int i = 0; i < rank; i++) {
        const unsigned char *p = bytes + 4 + 4 * i;
        sizes[i] = (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
    }
    return INLAY_OK;
}

typedef struct unpacking {
    const options *o;
    arena *memory;
    const char *names[256];
    int seen[256], written;
    gzFile images, labels;
    uint32_t sizes[3];
    unsigned char *pixels;
} unpacking;

static void read_names(unpacking *u)
{
    const char *text = options_string(u->o, "names");

    for (int i = 0; i < 256; i++) {
        size_t length = text ? strcspn(text, ",") : 0;
        u->names[i] = text ? arena_printf(u->memory, "%.*s", (int)length, text) : arena_printf(u->memory, "%d", i);
        if (text)
            text += length + (text[length] == ',');
    }
}

static inlay_status write_image(unpacking *u, uint32_t index, int label, inlay_error *err)
{
    const char *folder = path_join(u->memory, options_string(u->o, "output"), u->names[label]), *path = arena_printf(u->memory, "%s/%06u.pgm", folder, index);
    size_t area = (size_t)u->sizes[1] * u->sizes[2];
    char head[48];
    FILE *out;
    bool good;

    if (u->seen[label] == (int)options_int(u->o, "skip") + 1)
        TRY(file_make_folder(folder, err));
    TRY(file_open_own(&out, path, false, err));
    snprintf(head, sizeof head, "P5\n%u %u\n255\n", u->sizes[2], u->sizes[1]);
    good = fputs(head, out) >= 0 && fwrite(u->pixels, 1, area, out) == area;
    if (fclose(out) != 0 || !good)
        return file_error(err, "write", path);
    u->written++;
    return INLAY_OK;
}

static inlay_status unpack(unpacking *u, inlay_error *err)
{
    const char *images = options_string(u->o, "images"), *labels = options_string(u->o, "labels");
    int skip = (int)options_int(u->o, "skip"), limit = (int)options_int(u->o, "per_class");
    uint32_t count;

    if (!(u->images = gzopen(images, "rb")))
        return file_error(err, "open", images);
    if (!(u->labels = gzopen(labels, "rb")))
        return file_error(err, "open", labels);
    TRY(read_head(u->images, images, 3, u->sizes, err));
    TRY(read_head(u->labels, labels, 1, &count, err));
    if (count != u->sizes[0] || u->sizes[1] == 0 || u->sizes[2] == 0 || u->sizes[1] > 4096 || u->sizes[2] > 4096)
        FAIL(err, INLAY_ERR_FORMAT, "%s has %u images of %u x %u, %s has %u labels", images, u->sizes[0], u->sizes[2], u->sizes[1], labels, count);
    u->pixels = arena_alloc(u->memory, (size_t)u->sizes[1] * u->sizes[2]);
    for (uint32_t i = 0; i < count; i++) {
        int label = gzgetc(u->labels), area = (int)(u->sizes[1] * u->sizes[2]);
        if (label < 0 || gzread(u->images, u->pixels, (unsigned)area) != area)
            FAIL(err, INLAY_ERR_FORMAT, "%s: truncated at image %u of %u", images, i, count);
        u->seen[label]++;
        if (u->names[label][0] && u->seen[label] > skip && (limit == 0 || u->seen[label] <= skip + limit))
            TRY(write_image(u, i, label, err));
    }
    printf("%d images of %u x %u in '%s'\n", u->written, u->sizes[2], u->sizes[1], options_string(u->o, "output"));
    return INLAY_OK;
}

static inlay_status run(options *o, inlay_error *err)
{
    unpacking u = {.o = o, .memory = arena_new()};
    inlay_status status = require(o, "images", err);

    if (status == INLAY_OK)
        status = require(o, "labels", err);
    if (status == INLAY_OK)
        status = require(o, "output", err);
    if (status == INLAY_OK) {
        read_names(&u);
        status = unpack(&u, err);
    }
    if (u.images)
        gzclose(u.images);
    if (u.labels)
        gzclose(u.labels);
    arena_free(u.memory);
    return status;
}

const command command_unpack = {
    .name = "unpack",
    .usage = "--images FILE --labels FILE --output DIR [--names A,B,...] [--per-class N] [--skip N]",
    .summary = "turn an IDX file (MNIST) into class folders",
    .details = "Writes every image of an IDX pair as a PGM file in a folder for its class, so that the other commands can read it.",
    .options = option_table,
    .run = run,
};
