/* unpack: images of an IDX file (MNIST and its relatives, also gzipped) as class folders of PGM files. */
#include <stdlib.h>
#include <string.h>

#include "run/common.h"
#include "formats/idx.h"

static const option_spec option_table[] = {
    OPT_TEXT("images", NULL, "FILE", "IDX file of images (idx3-ubyte, may be gzipped)"),
    OPT_TEXT("labels", NULL, "FILE", "IDX file of labels (idx1-ubyte, may be gzipped)"),
    OPT_TEXT("output", NULL, "DIR", "folder for the class folders"),
    OPT_TEXT("names", NULL, "A,B,...", "names of the classes, in label order; an empty name leaves the class out"),
    OPT_INT("per_class", "0", 0, 1000000000, "N", "at most so many images of each class; 0: all"),
    OPT_INT("skip", "0", 0, 1000000000, "N", "leave out the first N images of each class"),
    OPTION_JSON,
    OPTION_QUIET,
    {0},
};

typedef struct unpacking {
    const options *o;
    const inlay_observer *watch;
    arena *memory;
    const char *names[256];
    int seen[256], written;
    idx_file images, labels;
    unsigned char *pixels;
    file_lock lock; /* of the output folder */
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
    const char *folder = path_join(u->memory, options_string(u->o, "output"), u->names[label]),
               *path = arena_printf(u->memory, "%s/%06u.pgm", folder, index);
    size_t area = (size_t)u->images.sizes[1] * u->images.sizes[2];
    file_writer out;

    if (u->seen[label] == (int)options_int(u->o, "skip") + 1)
        TRY(file_make_folder(folder, err));
    TRY(file_begin(&out, path, err));
    out.quick = true; /* what a power cut takes can be unpacked again */
    fprintf(out.stream, "P5\n%u %u\n255\n", u->images.sizes[2], u->images.sizes[1]);
    fwrite(u->pixels, 1, area, out.stream); /* short writes are seen by ferror in file_commit */
    TRY(file_commit(&out, err));
    u->written++;
    return INLAY_OK;
}

static inlay_status open_both(unpacking *u, inlay_error *err)
{
    const uint32_t *sizes = u->images.sizes;

    TRY(idx_open(&u->images, options_string(u->o, "images"), 3, err));
    TRY(idx_open(&u->labels, options_string(u->o, "labels"), 1, err));
    if (u->labels.sizes[0] != sizes[0] || sizes[1] == 0 || sizes[2] == 0 || sizes[1] > 4096 || sizes[2] > 4096)
        FAIL(err, INLAY_ERR_FORMAT, "%s has %u images of %u x %u (at most 4096 x 4096), %s has %u labels",
             u->images.path, sizes[0], sizes[2], sizes[1], u->labels.path, u->labels.sizes[0]);
    return INLAY_OK;
}

static inlay_status unpack(unpacking *u, inlay_error *err)
{
    int skip = (int)options_int(u->o, "skip"), limit = (int)options_int(u->o, "per_class");
    size_t area;

    TRY(open_both(u, err));
    area = (size_t)u->images.sizes[1] * u->images.sizes[2];
    TRY(hold_folder(&u->lock, options_string(u->o, "output"), u->watch, err));
    u->pixels = arena_alloc(u->memory, area);
    watch_phase(u->watch, "unpacking", u->images.sizes[0], "img");
    for (uint32_t i = 0; i < u->images.sizes[0]; i++) {
        unsigned char label;
        if (watch_stop(u->watch))
            FAIL(err, INLAY_ERR_INTERRUPTED, "interrupted: %d images are written", u->written);
        TRY(idx_read(&u->labels, i, &label, 1, err));
        TRY(idx_read(&u->images, i, u->pixels, area, err));
        u->seen[label]++;
        if (u->names[label][0] && u->seen[label] > skip && (limit == 0 || u->seen[label] <= skip + limit))
            TRY(write_image(u, i, label, err));
        watch_progress(u->watch, i + 1.0, 0, NULL);
    }
    TRY(idx_finish(&u->images, err));
    TRY(idx_finish(&u->labels, err));
    return INLAY_OK;
}

static inlay_status run(options *o, const inlay_observer *watch, json_t **record, inlay_error *err)
{
    unpacking u = {.o = o, .watch = watch, .memory = arena_new(), .lock = {.fd = -1}};
    inlay_status status = require(o, "images", err);

    if (status == INLAY_OK)
        status = require(o, "labels", err);
    if (status == INLAY_OK)
        status = require(o, "output", err);
    if (status == INLAY_OK) {
        read_names(&u);
        status = unpack(&u, err);
        watch_end(watch);
    }
    if (status == INLAY_OK) {
        *record =
            json_build("the answer", err, "{s:o, s:i, s:i, s:i}", "output", json_text(options_string(o, "output")),
                       "images", u.written, "width", (int)u.images.sizes[2], "height", (int)u.images.sizes[1]);
        status = *record ? INLAY_OK : INLAY_ERR_FORMAT;
    }
    file_lock_release(&u.lock);
    idx_close(&u.images);
    idx_close(&u.labels);
    arena_free(u.memory);
    return status;
}

const job job_unpack = {
    .name = "unpack",
    .usage = "--images FILE --labels FILE --output DIR [--names A,B,...] [--per-class N] [--skip N]",
    .summary = "turn an IDX file (MNIST) into class folders",
    .details = "Writes every image of an IDX pair as a PGM file in a folder for its class, so that the other commands "
               "can read it.",
    .options = option_table,
    .stops = true,
    .run = run,
};
