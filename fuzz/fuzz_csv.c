/* Any bytes as a CSV list: records or a message, and every field a string inside the text; and as a list of images
 * for every task: a data set whose targets are what the task says, or a message. */
#include "fuzz.h"

#include <math.h>

#include "data/csv.h"
#include "data/dataset.h"

static void read_records(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);
    csv list;
    bool found = true;
    inlay_error err;

    memcpy(text, data, size);
    text[size] = '\0';
    csv_start(&list, text, size, "fuzz");
    while (found && csv_next(&list, &found, &err) == INLAY_OK)
        for (int i = 0; found && i < list.count; i++)
            if (list.fields[i] < text || list.fields[i] + strlen(list.fields[i]) > text + size)
                abort();
    csv_column(&list, "path");
    csv_stop(&list);
    free(text);
}

static void check_target(const dataset *d, int i)
{
    const sample *s = &d->samples[i];

    if (d->task->one_class) {
        FUZZ_MUST(s->label >= 0 && s->label < d->class_count);
        return;
    }
    FUZZ_MUST(s->label == 0 && s->target);
    for (int c = 0; c < d->outputs; c++)
        FUZZ_MUST(isfinite(s->target[c]) && (!d->task->classes || s->target[c] == 0 || s->target[c] == 1));
}

/* `task` NULL: what the columns say. */
static void read_images(const uint8_t *data, size_t size, const task_desc *task)
{
    char path[FUZZ_PATH];
    notes found = {0};
    dataset_request request = {.path = path, .task = task, .notes = &found};
    dataset *set;
    inlay_error err = {0};
    inlay_status status;

    fuzz_write(path, "list.csv", data, size);
    status = dataset_open(&set, &request, &err);
    fuzz_check_error(status, &err);
    if (status == INLAY_OK) {
        FUZZ_MUST(set->outputs > 0 && set->class_count == (set->task->classes ? set->outputs : 0));
        FUZZ_MUST(!task || set->task == task);
        for (int i = 0; i < set->count; i++)
            check_target(set, i);
    }
    dataset_free(set);
    notes_free(&found);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    read_records(data, size);
    read_images(data, size, NULL);
    for (int i = 0; task_table[i]; i++)
        read_images(data, size, task_table[i]);
    return 0;
}
