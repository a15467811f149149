/* What a run writes while it lasts: metrics.jsonl, a whole line an epoch, and the checkpoint that tells how far it is.
 */
#define _GNU_SOURCE
#include "train/train_impl.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The length of the log's whole lines from its beginning, of those that the checkpoint tells of. A file that lost its
 * end, or whose end is zeros since the power failed, has fewer. */
static int64_t whole_lines(FILE *log, int64_t most)
{
    char *line = NULL;
    size_t room = 0;
    int64_t whole = 0;

    for (ssize_t got; whole < most && (got = getline(&line, &room, log)) > 0; whole += got)
        if (whole + got > most || got < 3 || line[0] != '{' || memchr(line, '\0', (size_t)got) ||
            line[got - 2] != '}' || line[got - 1] != '\n')
            break;
    free(line);
    return whole;
}

inlay_status trainer_open_log(trainer *t, inlay_error *err)
{
    const char *path = path_join(t->memory, t->q->output, "metrics.jsonl");
    int64_t told = t->state.log_bytes;

    TRY(file_open_own(&t->log, path, told > 0 && file_exists(path), err));
    t->state.log_bytes = whole_lines(t->log, told);
    if (ferror(t->log))
        return file_error(err, "read", path);
    if (t->state.log_bytes < told)
        NOTIFY(t, note,
               arena_printf(t->memory,
                            "'%s' has %" PRId64 " bytes of whole lines, the checkpoint tells of %" PRId64
                            ": lines of earlier epochs are lost, and the run goes on behind what is there",
                            path, t->state.log_bytes, told));
    /* lines behind the checkpoint belong to work that is done again */
    if (ftruncate(fileno(t->log), t->state.log_bytes) != 0 || fseek(t->log, 0, SEEK_END) != 0)
        return file_error(err, "write", path);
    return t->q->tensorboard ? events_open(&t->board, t->q->output, err) : INLAY_OK;
}

inlay_status trainer_save_state(trainer *t, inlay_error *err)
{
    if (fdatasync(fileno(t->log)) != 0)
        return file_error(err, "write", path_join(t->memory, t->q->output, "metrics.jsonl"));
    return checkpoint_save(t->checkpoint, &t->update, &t->state, t->q->run, &t->images, err);
}

inlay_status trainer_log(trainer *t, json_t *line, inlay_error *err)
{
    const char *path = path_join(t->memory, t->q->output, "metrics.jsonl");
    char *text;
    inlay_status status =
        line ? json_encode(&text, line, JSON_COMPACT | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(9), path, err)
             : INLAY_ERR_FORMAT;
    bool good;

    json_decref(line);
    TRY(status);
    good = fprintf(t->log, "%s\n", text) > 0 && fflush(t->log) == 0;
    free(text);
    if (!good)
        return file_error(err, "write", path);
    t->state.log_bytes = ftell(t->log);
    return INLAY_OK;
}
