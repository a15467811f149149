#define _GNU_SOURCE
#include "base/code.h"

#include <elf.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"

#define ALIGN4(n) (((n) + 3u) & ~(size_t)3)

/* The build id among the notes of one segment; NULL when it is not there. */
static const unsigned char *build_id(const unsigned char *notes, size_t size, size_t *length)
{
    ElfW(Nhdr) head;

    for (size_t at = 0; at + sizeof head <= size; at += sizeof head + ALIGN4(head.n_namesz) + ALIGN4(head.n_descsz)) {
        memcpy(&head, notes + at, sizeof head);
        if (head.n_type == NT_GNU_BUILD_ID && head.n_namesz == 4 && memcmp(notes + at + sizeof head, "GNU", 4) == 0) {
            *length = head.n_descsz;
            return notes + at + sizeof head + 4;
        }
    }
    return NULL;
}

static int describe(struct dl_phdr_info *object, size_t size, void *context)
{
    FILE *out = context;
    file_stamp stamp = {0};
    bool found = false;

    (void)size;
    if (strncmp(object->dlpi_name, "linux-vdso", 10) == 0) /* the kernel's, no numbers are computed there */
        return 0;
    for (int i = 0; i < object->dlpi_phnum && !found; i++) {
        const ElfW(Phdr) *segment = &object->dlpi_phdr[i];
        size_t length = 0;
        const unsigned char *id = NULL;
        if (segment->p_type == PT_NOTE)
            id = build_id((const unsigned char *)(uintptr_t)(object->dlpi_addr + segment->p_vaddr), segment->p_memsz,
                          &length);
        for (size_t j = 0; id && j < length; j++)
            fprintf(out, "%02x", id[j]);
        found = id != NULL;
    }
    if (!found && file_stamp_of(object->dlpi_name[0] ? object->dlpi_name : "/proc/self/exe", &stamp))
        fprintf(out, "%s %llu %lld.%09lld", object->dlpi_name, (unsigned long long)stamp.size, (long long)stamp.seconds,
                (long long)stamp.nanoseconds);
    fputc('\n', out);
    return 0;
}

inlay_status code_identity(char hex[65], inlay_error *err)
{
    char *text = NULL;
    size_t length = 0;
    FILE *out = open_memstream(&text, &length);
    inlay_status status;

    if (!out)
        FAIL(err, INLAY_ERR_NOMEM, "out of memory");
    dl_iterate_phdr(describe, out);
    status = fclose(out) == 0 ? bytes_sha256(text, length, hex, err) : error_set(err, INLAY_ERR_NOMEM, "out of memory");
    free(text);
    return status;
}
