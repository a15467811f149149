/* Any bytes as a CSV list: records or a message, and every field a string inside the text; and as a list of images: a
 * data set whose labels are its classes, or a message. */
#include "fuzz.h"

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

static void read_images(const uint8_t *data, size_t size)
{
    char path[FUZZ_PATH];
    notes found = {0};
    dataset_request request = {.path = path, .notes = &found};
    dataset *set;
    inlay_error err = {0};
    inlay_status status;

    fuzz_write(path, "list.csv", data, size);
    status = dataset_open(&set, &request, &err);
    fuzz_check_error(status, &err);
    if (status == INLAY_OK)
        for (int i = 0; i < set->count; i++)
            if (set->samples[i].label < 0 || set->samples[i].label >= set->class_count)
                abort();
    dataset_free(set);
    notes_free(&found);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    read_records(data, size);
    read_images(data, size);
    return 0;
}
