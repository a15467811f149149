/* Runs a fuzz target once on each file that is named: seeds and what fuzzing found stay tests where there is no fuzzer.
 */
#include "fuzz.h"

int main(int count, char **names)
{
    for (int i = 1; i < count; i++) {
        inlay_error err;
        char *data;
        size_t size;
        if (file_read(names[i], (size_t)1 << 24, &data, &size, &err) != INLAY_OK) {
            fprintf(stderr, "%s\n", err.message);
            return 1;
        }
        LLVMFuzzerTestOneInput((const uint8_t *)data, size);
        free(data);
    }
    printf("%d inputs\n", count - 1);
    return count < 2;
}
