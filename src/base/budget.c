#include "base/budget.h"

#include <stdio.h>
#include <string.h>

#include "base/text.h"

void memory_share_open(memory_share *s, uint64_t size)
{
    *s = (memory_share){.size = size};
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->freed, NULL);
}

void memory_share_close(memory_share *s)
{
    pthread_cond_destroy(&s->freed);
    pthread_mutex_destroy(&s->lock);
}

bool memory_share_take(memory_share *s, uint64_t bytes)
{
    if (bytes > s->size)
        return false;
    pthread_mutex_lock(&s->lock);
    while (s->used > s->size - bytes)
        pthread_cond_wait(&s->freed, &s->lock);
    s->used += bytes;
    pthread_mutex_unlock(&s->lock);
    return true;
}

void memory_share_give(memory_share *s, uint64_t bytes)
{
    pthread_mutex_lock(&s->lock);
    s->used -= bytes;
    pthread_cond_broadcast(&s->freed);
    pthread_mutex_unlock(&s->lock);
}

enum { DECODING = 4, FILES = 16 }; /* a quarter, of which a quarter for files */

static uint64_t share_of(uint64_t total, uint64_t parts)
{
    return total ? total / parts : UINT64_MAX;
}

void budget_open(budget *b, uint64_t total, bool given)
{
    uint64_t files = share_of(total, FILES);

    *b = (budget){.total = total, .given = given};
    memory_share_open(&b->files, files);
    memory_share_open(&b->images, total ? total / DECODING - files : UINT64_MAX);
}

uint64_t budget_decoding(const budget *b)
{
    return b->total / DECODING;
}

void budget_close(budget *b)
{
    memory_share_close(&b->files);
    memory_share_close(&b->images);
}

void budget_set(budget *b, const char *name, uint64_t size, const char *advice)
{
    int i = 0;

    while (i < b->count && strcmp(b->parts[i].name, name) != 0)
        i++;
    if (i == BUDGET_PARTS)
        return;
    b->parts[i] = (budget_part){name, advice, size};
    b->count += i == b->count;
}

uint64_t budget_sum(const budget *b)
{
    uint64_t sum = 0;

    for (int i = 0; i < b->count; i++)
        sum = b->parts[i].size > UINT64_MAX - sum ? UINT64_MAX : sum + b->parts[i].size;
    return sum;
}

uint64_t budget_left(const budget *b)
{
    uint64_t sum = budget_sum(b);

    if (b->total == 0)
        return UINT64_MAX;
    return sum < b->total ? b->total - sum : 0;
}

/* Adds `text` to a list, behind the separator, while there is room. */
static void add(char *room, size_t size, const char *separator, const char *text)
{
    size_t used = strlen(room);

    snprintf(room + used, size - used, "%s%s", used ? separator : "", text);
}

const char *budget_text(const budget *b, char out[BUDGET_TEXT])
{
    char part[120], size[TEXT_SHORT];

    out[0] = '\0';
    for (int i = 0; i < b->count; i++) {
        snprintf(part, sizeof part, "%s %s", b->parts[i].name, text_size(size, b->parts[i].size));
        if (b->parts[i].size)
            add(out, BUDGET_TEXT, ", ", part);
    }
    return out;
}

inlay_status budget_check(const budget *b, inlay_error *err)
{
    char list[BUDGET_TEXT], advice[240] = "", wanted[TEXT_SHORT], total[TEXT_SHORT];
    const char *ways;

    if (b->total == 0 || budget_sum(b) <= b->total)
        return INLAY_OK;
    for (int i = 0; i < b->count; i++)
        if (b->parts[i].size && b->parts[i].advice && !strstr(advice, b->parts[i].advice))
            add(advice, sizeof advice, ", ", b->parts[i].advice);
    ways = b->given ? "a larger --memory" : "free memory, or --memory SIZE where more can be had";
    add(advice, sizeof advice, ", ", ways);
    FAIL(err, INLAY_ERR_NOMEM, "%s of memory are needed and %s%s: %s. What helps: %s", text_size(wanted, budget_sum(b)),
         b->given ? "--memory is " : "free are ", text_size(total, b->total), budget_text(b, list), advice);
}
