/* What the parts of reading a data set share: the set in the making, lists of names. */
#ifndef INLAY_DATA_DATASET_IMPL_H
#define INLAY_DATA_DATASET_IMPL_H

#include "data/dataset.h"

typedef struct names {
    const char **items;
    int count, capacity;
} names;

/* What a folder holds, each sorted by name. */
typedef struct listing {
    names files, folders; /* images by their names; folders and links to folders */
    names others;         /* everything else but hidden files and litter */
} listing;

/* The splits that there are, in the order of this table. */
enum { SPLITS = 3 };
#define SPLIT_NAMES "train (training, trn), val (validation, valid, dev), test (testing)"

/* The split folders of a data set, and what else is there. */
typedef struct split_folders {
    const char *path[SPLITS]; /* NULL: there is none */
    bool usual[SPLITS];
    int count;
    names beside;
} split_folders;

/* A dataset in the making. */
typedef struct builder {
    dataset *set;
    const dataset_request *request;
    int capacity; /* of set->samples, on the heap until it is complete */
    names passed; /* files of class folders that are no images */
    inlay_error *err;
} builder;

inlay_status dataset_list_folder(arena *memory, const char *path, listing *out, inlay_error *err);
void dataset_listing_free(listing *l);
/* Notes b->passed, with endings, and empties it. */
void dataset_note_passed(builder *b, const char *where, notes *n);

/* Which split this is a name of; SPLITS: none. *usual: nothing has to be said about it. */
int dataset_split_of(const char *name, size_t length, bool *usual);
const char *dataset_split_name(int split);
/* Sets wanted[] from "train", "val", "train+val", ... */
inlay_status dataset_parse_split(const char *text, bool wanted[SPLITS], inlay_error *err);
/* out->beside.items is freed by the caller, also after an error. */
inlay_status dataset_find_splits(arena *memory, const char *path, split_folders *out, inlay_error *err);

void dataset_add_sample(builder *b, const char *path, int32_t label, const float *target);
/* The request's classes, or those found: sorted, each once. */
void dataset_settle_classes(builder *b, names *found);
/* The first `most` items with commas between them, and how many there are when there are more. */
void dataset_list_text(char *out, size_t room, const char *const *items, int count, int most);
/* Samples and classes of a CSV list. */
inlay_status dataset_read_list(builder *b);

#endif
