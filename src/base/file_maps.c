/* The maps of files that are open now, with their names: a file that is cut while it is mapped ends in a signal, and
 * its handler can tell which file that was. Slots are claimed and given back without a lock, and a name stays where it
 * is until the slot is claimed again, so that the handler may read at any moment. */
#include <stdatomic.h>
#include <string.h>

#include "base/file.h"

#define SLOTS 1024
#define NAME 256
#define CLAIMED 1 /* no address of a page */

static struct slot {
    atomic_uintptr_t begin; /* 0: free */
    atomic_uintptr_t end;
    char name[NAME];
} slots[SLOTS];

/* Keeps the end of a name that is too long, and replaces what would move a terminal's cursor. */
static void set_name(char *out, const char *path)
{
    size_t length = strlen(path);
    const char *from = length < NAME ? path : path + length - (NAME - 4);
    char *at = out;

    if (from != path)
        at = (char *)memcpy(at, "...", 3) + 3;
    for (; *from; from++)
        *at++ = (unsigned char)*from < 0x20 || *from == 0x7f ? '?' : *from;
    *at = '\0';
}

void file_maps_add(const file_map *map, const char *path)
{
    for (int i = 0; map->data && i < SLOTS; i++) {
        uintptr_t none = 0;
        if (!atomic_compare_exchange_strong(&slots[i].begin, &none, CLAIMED))
            continue;
        set_name(slots[i].name, path);
        atomic_store(&slots[i].end, (uintptr_t)map->data + map->size);
        atomic_store(&slots[i].begin, (uintptr_t)map->data);
        return;
    }
}

void file_maps_remove(const file_map *map)
{
    for (int i = 0; map->data && i < SLOTS; i++)
        if (atomic_load(&slots[i].begin) == (uintptr_t)map->data) {
            atomic_store(&slots[i].begin, 0);
            return;
        }
}

const char *file_maps_find(const void *address)
{
    for (int i = 0; i < SLOTS; i++) {
        uintptr_t begin = atomic_load(&slots[i].begin);
        if (begin > CLAIMED && (uintptr_t)address >= begin && (uintptr_t)address < atomic_load(&slots[i].end))
            return slots[i].name;
    }
    return NULL;
}
