#include "run/common.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "backbones/labels.h"
#include "base/monitor.h"
#include "base/text.h"

inlay_status require(const options *o, const char *name, inlay_error *err)
{
    if (!options_string(o, name) || !*options_string(o, name))
        FAIL(err, INLAY_ERR_USAGE, "--%s is missing", name);
    return INLAY_OK;
}

inlay_status apply_labels(session *s, const options *o, const inlay_observer *w, inlay_error *err)
{
    const char *file = options_string(o, "labels");

    if (file && s->a)
        FAIL(err, INLAY_ERR_USAGE,
             "--labels names the classes of a checkpoint's own head: adapter '%s' has the names of its own",
             options_at(o, "adapter", 0));
    if (file)
        return labels_load(s->b, file, err);
    if (!s->a && s->b->shape.classes && !s->b->labels)
        watch_note(w,
                   "'%s' does not name the %lld classes of its head: they are given by number (--labels FILE "
                   "names them)",
                   s->b->path, (long long)s->b->shape.classes);
    return INLAY_OK;
}

void open_budget(budget *b, const options *o)
{
    bool given = options_has(o, "memory");

    budget_open(b, given ? (uint64_t)options_int(o, "memory") : monitor_free(""), given);
}

int choose_workers(const options *o)
{
    int64_t workers = options_int(o, "workers");

    return workers > 0 ? (int)workers : pool_processors();
}

/* What --crop-mode center and border keep where the checkpoint's own preprocessing is the whole image: as most of
 * timm's ViTs. */
#define CROP_PCT_OF_CENTRE 0.9

inlay_status apply_preprocess_options(preprocess *p, const options *o, inlay_error *err)
{
    const char *mode = options_string(o, "crop_mode"), *interpolation = options_string(o, "interpolation");
    preprocess_mode wanted;

    if (mode && preprocess_mode_from_name(mode, &wanted)) {
        if (wanted == PREPROCESS_SQUASH)
            p->crop_pct = 1; /* the whole image, unless --crop-pct says otherwise */
        else if (p->mode == PREPROCESS_SQUASH && p->crop_pct >= 1)
            p->crop_pct = CROP_PCT_OF_CENTRE;
        p->mode = wanted;
    }
    if (options_has(o, "crop_pct"))
        p->crop_pct = options_real(o, "crop_pct");
    if (options_given(o, "exif_orientation"))
        p->apply_orientation = options_flag(o, "exif_orientation");
    if (options_given(o, "scale_16bit"))
        p->scale_16bit = options_flag(o, "scale_16bit");
    if (interpolation && !resample_from_name(interpolation, &p->interpolation))
        FAIL(err, INLAY_ERR_USAGE, "--interpolation: '%s' is not known", interpolation);
    return INLAY_OK;
}

void note_cut_images(const preprocess *p, int count, const inlay_observer *w)
{
    char many[TEXT_SHORT + 16];

    if (count == 0)
        return;
    snprintf(many, sizeof many, "%d images have", count);
    if (p->scale_16bit)
        watch_note(w,
                   "%s signed or real grey, which is cut to 0..255 as Pillow does: it has no range that --scale-16bit "
                   "could scale",
                   count == 1 ? "1 image has" : many);
    else
        watch_note(w, "%s grey of more than 8 bits, which is cut at 255 as Pillow does; --scale-16bit scales it",
                   count == 1 ? "1 image has" : many);
}

/* Reads --skip-layers, where a command has it: a number of layers from below, or a list of them. */
static void read_skip(session_request *request, const options *o)
{
    const char *text = options_has(o, "skip_layers") ? options_string(o, "skip_layers") : "0";

    if (*text && strspn(text, "0123456789") == strlen(text))
        request->skip_layers = strlen(text) > 9 ? INT_MAX : (int)strtol(text, NULL, 10);
    else
        request->skip_list = text;
}

inlay_status open_session(session *s, budget *room, const options *o, const inlay_observer *w, inlay_error *err)
{
    arena *memory = arena_new();
    int count = options_count(o, "adapter");
    const char **folders = ARENA_ARRAY(memory, const char *, count + 1);
    session_request request = {.backbone = options_string(o, "backbone"),
                               .adapters = folders,
                               .adapter_count = count,
                               .image_size = options_int(o, "image_size"),
                               .force_backbone = options_flag(o, "force_backbone"),
                               .threads = (int)options_int(o, "threads"),
                               .pin_threads = options_flag(o, "pin_threads"),
                               .room = room,
                               .precision = options_string(o, "precision")};
    inlay_status status = require(o, "backbone", err);

    if (room)
        open_budget(room, o);
    read_skip(&request, o);
    for (int i = 0; i < count; i++)
        folders[i] = options_at(o, "adapter", i);
    if (status == INLAY_OK)
        status = session_open(s, &request, err);
    arena_free(memory);
    if (status != INLAY_OK) {
        if (room)
            budget_close(room);
        return status;
    }
    watch_notes(w, &s->b->notes, false, NULL);
    status = apply_preprocess_options(&s->prep, o, err);
    if (status != INLAY_OK)
        close_session(s, room);
    return status;
}

void close_session(session *s, budget *room)
{
    session_close(s);
    if (room)
        budget_close(room);
}

inlay_status hold_folder(file_lock *lock, const char *folder, const inlay_observer *w, inlay_error *err)
{
    arena *memory = arena_new();
    bool held = false;
    inlay_status status = file_make_folder(folder, err);

    if (status == INLAY_OK)
        status = file_lock_take(lock, path_join(memory, folder, FOLDER_LOCK), &held, err);
    if (status == INLAY_OK && lock->none)
        watch_note(w, "the file system of '%s' has no locks: nothing keeps a second run out of it", folder);
    arena_free(memory);
    if (held)
        FAIL(err, INLAY_ERR_IO, "'%s' is in use by another run", folder);
    return status;
}

inlay_status method_settings(options **out, const char *name, const options *o, inlay_error *err)
{
    const method *m;

    TRY(adapter_settings(out, name, err));
    m = method_find(name, NULL);
    for (const option_spec *spec = m->options; spec->name; spec++)
        if (options_has(o, spec->name) && options_given(o, spec->name)) {
            inlay_status status = options_set(*out, spec->name, options_string(o, spec->name), "the command line", err);
            if (status != INLAY_OK) {
                options_free(*out);
                *out = NULL;
                return status;
            }
        }
    return INLAY_OK;
}
