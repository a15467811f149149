#include "base/hash_index.h"

#include <string.h>

static void link_entry(hash_index *h, int entry)
{
    int *head = &h->heads[h->entries[entry].hash & (uint32_t)(h->buckets - 1)];

    h->entries[entry].next = *head;
    *head = entry;
}

static void grow(hash_index *h, arena *memory)
{
    int capacity = h->capacity ? 2 * h->capacity : 64;
    hash_entry *entries = ARENA_ARRAY(memory, hash_entry, capacity);

    if (h->count)
        memcpy(entries, h->entries, (size_t)h->count * sizeof *entries);
    h->entries = entries;
    h->capacity = capacity;
    h->buckets = 2 * capacity;
    h->heads = ARENA_ARRAY(memory, int, h->buckets);
    memset(h->heads, 0xff, (size_t)h->buckets * sizeof *h->heads);
    for (int i = 0; i < h->count; i++)
        link_entry(h, i);
}

void hash_index_add(hash_index *h, arena *memory, uint32_t hash, int id)
{
    if (h->count == h->capacity)
        grow(h, memory);
    h->entries[h->count] = (hash_entry){.hash = hash, .id = id};
    link_entry(h, h->count++);
}

int hash_index_next(const hash_index *h, uint32_t hash, int entry)
{
    int at = -1;

    if (h->count)
        at = entry < 0 ? h->heads[hash & (uint32_t)(h->buckets - 1)] : h->entries[entry].next;
    while (at >= 0 && h->entries[at].hash != hash)
        at = h->entries[at].next;
    return at;
}

uint32_t hash_mix(uint32_t hash, uint64_t word)
{
    uint64_t x = (hash ^ word) * 0x9E3779B97F4A7C15u;

    return (uint32_t)(x >> 32) ^ (uint32_t)x;
}

uint32_t hash_text(uint32_t hash, const char *text)
{
    while (*text)
        hash = hash_mix(hash, (unsigned char)*text++);
    return hash;
}
