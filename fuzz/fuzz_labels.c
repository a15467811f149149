/* Any bytes as a file of class names (--labels): one a line, or JSON. What is taken has a name, or none, for every
 * class of a head with three. */
#include "fuzz.h"

#include "backbones/labels.h"

#define CLASSES 3

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    backbone b = {.memory = arena_new(), .path = "backbone", .shape = {.classes = CLASSES}};
    char path[FUZZ_PATH];
    inlay_error err = {0};
    inlay_status status;

    fuzz_write(path, "labels", data, size);
    status = labels_load(&b, path, &err);
    fuzz_check_error(status, &err);
    if (status == INLAY_OK) {
        FUZZ_MUST(b.label_count == CLASSES && b.named == CLASSES);
        labels_fit(&b);
        for (int i = 0; i < CLASSES; i++)
            FUZZ_MUST(b.labels[i] && strlen(b.labels[i]) <= size);
    }
    notes_free(&b.notes);
    arena_free(b.memory);
    return 0;
}
