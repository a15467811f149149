/* Any bytes as a CSV list: records or a message, and every field a string inside the text. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "data/csv.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
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
    return 0;
}
