/* The memory that a command may take: what its parts are going to need, checked before anything of it is taken, and
 * the share that threads which decode images have together. */
#ifndef INLAY_BASE_BUDGET_H
#define INLAY_BASE_BUDGET_H

#include <pthread.h>

#include "base/status.h"

/* Memory that several threads take from and give back to. Who needs more than is there waits; who holds a part must
 * not ask for another. */
typedef struct memory_share {
    uint64_t size, used;
    pthread_mutex_t lock;
    pthread_cond_t freed;
} memory_share;

void memory_share_open(memory_share *s, uint64_t size);
void memory_share_close(memory_share *s);
/* Waits until `bytes` are free. False, at once: the share is smaller than that. */
bool memory_share_take(memory_share *s, uint64_t bytes);
void memory_share_give(memory_share *s, uint64_t bytes);

#define BUDGET_PARTS 12

typedef struct budget_part {
    const char *name;
    const char *advice; /* what makes it smaller; NULL: nothing does */
    uint64_t size;
} budget_part;

typedef struct budget {
    uint64_t total; /* 0: unknown, everything fits */
    bool given;     /* by --memory; else it is what was free */
    budget_part parts[BUDGET_PARTS];
    int count;
    memory_share files,
        images; /* of what decodes: bytes of files that are read, and what decoders, images and resampling take */
} budget;

/* Decoding has a quarter of the budget: three parts of it for images, one for the bytes of their files. So the
 * largest image that is read follows from the budget alone. */
void budget_open(budget *b, uint64_t total, bool given);
uint64_t budget_decoding(const budget *b); /* 0 when the total is unknown */
void budget_close(budget *b);
/* Sets the part of this name, whatever it was. Text is kept by the caller. */
void budget_set(budget *b, const char *name, uint64_t size, const char *advice);
uint64_t budget_sum(const budget *b);
/* What the parts so far leave; UINT64_MAX when the total is unknown. */
uint64_t budget_left(const budget *b);
#define BUDGET_TEXT 480
/* "weights 22.9 MB, decoding 500 MB": the parts that are not nothing, into `out`, which it returns. */
const char *budget_text(const budget *b, char out[BUDGET_TEXT]);
/* INLAY_ERR_NOMEM when the parts are more than the total, with all of them and what can be done. */
inlay_status budget_check(const budget *b, inlay_error *err);

#endif
