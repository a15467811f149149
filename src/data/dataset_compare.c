/* Classes that only a part of the data has. */
#include "data/dataset.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Whether two names are the same but for case and what joins words: "Sea_lion" and "sea lion". */
static bool nearly_same(const char *a, const char *b)
{
    for (;; a++, b++) {
        a += strspn(a, " _-");
        b += strspn(b, " _-");
        if (tolower((unsigned char)*a) != tolower((unsigned char)*b))
            return false;
        if (!*a)
            return true;
    }
}

static void count_images(const dataset *d, int *counts)
{
    for (int i = 0; i < d->count; i++)
        if (d->task->one_class)
            counts[d->samples[i].label]++;
        else
            for (int c = 0; c < d->class_count; c++)
                counts[c] += d->samples[i].target[c] > 0;
}

/* Lists the classes for which counts[] is 0, a few, and how many there are: "'Dog' (meant is 'dog'?), 'eel'". */
static int list_empty(char *out, size_t room, const dataset *d, const int *counts)
{
    enum { MOST = 6 };
    size_t used = 0;
    int found = 0;

    out[0] = '\0';
    for (int c = 0; c < d->class_count; c++) {
        const char *partner = NULL;
        if (counts[c] > 0 || found++ >= MOST || used >= room)
            continue;
        for (int k = 0; k < d->class_count && !partner; k++)
            partner = k != c && counts[k] > 0 && nearly_same(d->classes[c], d->classes[k]) ? d->classes[k] : NULL;
        used += (size_t)snprintf(out + used, room - used, "%s'%s'", found > 1 ? ", " : "", d->classes[c]);
        if (partner && used < room)
            used += (size_t)snprintf(out + used, room - used, " (meant is '%s'?)", partner);
    }
    if (found > MOST && used < room)
        snprintf(out + used, room - used, ", ...");
    return found;
}

void dataset_compare(const dataset *train, const dataset *evaluated, const char *split, notes *n)
{
    int *counts = calloc(2 * (size_t)train->class_count + 1, sizeof *counts), *others = counts + train->class_count,
        missing;
    char text[500];

    if (!counts)
        return;
    count_images(train, counts);
    missing = list_empty(text, sizeof text, train, counts);
    if (missing)
        notes_fault(n, "%d of %d classes have no image to train on: %s", missing, train->class_count, text);
    if (evaluated && evaluated->class_count == train->class_count) {
        count_images(evaluated, others);
        for (int c = 0; c < train->class_count; c++) /* those without any image are named above */
            others[c] += counts[c] == 0;
        missing = list_empty(text, sizeof text, train, others);
        if (missing)
            notes_add(n, "%d of %d classes have no image in the split %s: %s", missing, train->class_count, split,
                      text);
    }
    free(counts);
}
