/* The output folder of a run: who may write there, what it holds already, and what of an earlier run is taken away. */
#include "run/training_impl.h"

#include <dirent.h>
#include <string.h>
#include <unistd.h>

#include "formats/events.h"
#include "train/checkpoint.h"

static void remove_from(arena *memory, const char *folder, const char *name)
{
    unlink(path_join(memory, folder, name));
    unlink(path_join(memory, folder, arena_printf(memory, "%s.tmp", name)));
}

/* Takes away what an earlier run left, so that nobody takes it for this one's: what a run writes, by its names, and
 * nothing else. */
void training_clear_output(const char *folder)
{
    static const char *const names[] = {
        "checkpoint.safetensors", "adapter.json",  "adapter.safetensors", "metrics.jsonl",
        "results.json",           TRAINING_CURVES, "features.tmp"};
    arena *memory = arena_new();
    const char *trained = path_join(memory, folder, "trained");
    DIR *list = opendir(folder);
    const struct dirent *entry;

    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        remove_from(memory, folder, names[i]);
    while (list && (entry = readdir(list)) != NULL)
        if (strncmp(entry->d_name, EVENTS_PREFIX, strlen(EVENTS_PREFIX)) == 0)
            unlink(path_join(memory, folder, entry->d_name));
    if (list)
        closedir(list);
    remove_from(memory, trained, "adapter.json");
    remove_from(memory, trained, "adapter.safetensors");
    rmdir(trained); /* stays when there is something else in it */
    arena_free(memory);
}

/* Checks what the folder holds against what is asked for. */
static inlay_status check_folder(const char *folder, const options *o, bool *done, inlay_error *err)
{
    arena *memory = arena_new();
    const char *description = path_join(memory, folder, "adapter.json"),
               *checkpoint = path_join(memory, folder, "checkpoint.safetensors");
    bool complete = file_exists(description), begun = file_exists(checkpoint);
    bool resume = options_flag(o, "resume"), overwrite = options_flag(o, "overwrite");
    inlay_status status = INLAY_OK;

    *done = complete && !begun && resume;
    if (resume && overwrite)
        status = error_set(err, INLAY_ERR_USAGE,
                           "--resume goes on with the run in '%s', --overwrite begins anew: one of them", folder);
    else if ((complete || begun) && !resume && !overwrite)
        status =
            error_set(err, INLAY_ERR_USAGE, "'%s' holds a %s run: --resume goes on with it, --overwrite begins anew",
                      folder, complete && !begun ? "complete" : "begun");
    arena_free(memory);
    return status;
}

inlay_status hold_output(file_lock *lock, const options *o, bool *done, const inlay_observer *w, inlay_error *err)
{
    const char *folder = options_string(o, "output");

    if (lock->path)
        return INLAY_OK;
    TRY(hold_folder(lock, folder, w, err));
    return check_folder(folder, o, done, err);
}

inlay_status check_output(file_lock *lock, const options *o, bool *done, const inlay_observer *w, inlay_error *err)
{
    const char *folder = options_string(o, "output");
    inlay_error why = {.code = INLAY_OK, .message = ""};

    if (file_is_folder(folder) && hold_folder(lock, folder, w, &why) != INLAY_OK) {
        inlay_status status = check_folder(folder, o, done, err);
        if (status == INLAY_OK && *done && access(folder, W_OK) != 0) /* nothing will be written */
            return INLAY_OK;
        return error_set(err, why.code, "%s", why.message);
    }
    return check_folder(folder, o, done, err);
}

/* A run that is complete is left alone, when it is the one that is asked for and all of it is there. */
inlay_status training_check_complete(const train_request *q, inlay_error *err)
{
    arena *memory = arena_new();
    const char *path = path_join(memory, q->output, "adapter.json"),
               *weights = path_join(memory, q->output, "adapter.safetensors");
    json_t *root = NULL;
    inlay_status status = json_read(&root, path, err);

    if (status == INLAY_OK)
        status = checkpoint_compare(path, json_object_get(root, "training"), q->run, err);
    if (status == INLAY_OK && !file_exists(weights))
        status = error_set(err, INLAY_ERR_IO, "'%s' is missing though '%s' is there: --overwrite begins anew", weights,
                           path);
    json_decref(root);
    arena_free(memory);
    return status;
}
