/* Finding numbers by a hash of what they stand for: a list that grows, and chains of what has the same hash. The caller
 * compares. Memory is an arena's: it ends with that. */
#ifndef INLAY_BASE_HASH_INDEX_H
#define INLAY_BASE_HASH_INDEX_H

#include "base/arena.h"

typedef struct hash_entry {
    uint32_t hash;
    int id, next; /* next: entry of the same bucket, -1: none */
} hash_entry;

typedef struct hash_index {
    hash_entry *entries;
    int count, capacity;
    int *heads; /* [buckets], a power of two; -1: empty */
    int buckets;
} hash_index;

/* Adds the number `id`. */
void hash_index_add(hash_index *h, arena *memory, uint32_t hash, int id);
/* The entry after `entry` (-1: the first) with that hash; -1: there is none. h->entries[entry].id is its number. */
int hash_index_next(const hash_index *h, uint32_t hash, int entry);
/* Mixes a word into a hash that began as 0. */
uint32_t hash_mix(uint32_t hash, uint64_t word);
/* ... the bytes of a text. */
uint32_t hash_text(uint32_t hash, const char *text);

#endif
