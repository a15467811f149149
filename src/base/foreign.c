/* What arrives in place of a checkpoint's files: pointers to them, pages about them, and other libraries' formats. It
 * is asked only once a file could not be read, so a file that merely begins alike is never refused. */
#include "base/foreign.h"

#include <ctype.h>
#include <stdbool.h>
#include <string.h>
#include <strings.h>

#define PAGE "a web page, not the file: download the file itself"
#define ANSWER "a server's answer, not the file: download the file itself"
#define PICKLE "a pickle of PyTorch: convert it to safetensors (torch.load, then safetensors.torch.save_file)"

/* How a file begins, behind white space where it is text. */
static const struct {
    const char *begin;
    size_t size;
    const char *what;
} kinds[] = {
    {"version https://git-lfs.github.com", 34, "a git-lfs pointer, not the file: fetch it with git lfs pull"},
    {"<!doctype", 9, PAGE},
    {"<html", 5, PAGE},
    {"<?xml", 5, PAGE},
    {"<", 1, PAGE},
    {"entry not found", 15, ANSWER},
    {"not found", 9, ANSWER},
    {"404", 3, ANSWER},
    {"invalid username or password", 28, ANSWER},
    {"access to ", 10, ANSWER},
    {"\x80\x02", 2, PICKLE},
    {"\x80\x03", 2, PICKLE},
    {"\x80\x04", 2, PICKLE},
    {"\x80\x05", 2, PICKLE},
    {"\x89HDF", 4, "a file of HDF5 (Keras, TensorFlow): convert it to safetensors"},
    {"GGUF", 4, "a GGUF file, which is not supported: convert it to safetensors"},
    {"\x1f\x8b", 2, "compressed by gzip: unpack it first"},
    {"\xfd"
     "7zXZ",
     5, "compressed by xz: unpack it first"},
    {"BZh", 3, "compressed by bzip2: unpack it first"},
};

/* PyTorch's newer files are zip archives whose first member is NAME/data.pkl. */
static bool is_pickle_archive(const char *data, size_t size)
{
    size_t end = size < 256 ? size : 256;

    if (size < 4 || memcmp(data, "PK\3\4", 4) != 0)
        return false;
    for (size_t i = 0; i + 8 <= end; i++)
        if (memcmp(data + i, "data.pkl", 8) == 0)
            return true;
    return false;
}

const char *foreign_bytes(const void *data, size_t size)
{
    const char *at = data;

    if (size == 0)
        return "an empty file";
    if (is_pickle_archive(at, size))
        return PICKLE;
    if (size >= 3 && memcmp(at, "\xef\xbb\xbf", 3) == 0) { /* mark of UTF-8 */
        at += 3;
        size -= 3;
    }
    for (; size > 0 && isspace((unsigned char)*at); size--)
        at++;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (size >= kinds[i].size && strncasecmp(at, kinds[i].begin, kinds[i].size) == 0)
            return kinds[i].what;
    return NULL;
}
