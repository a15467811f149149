/* Any bytes as a method's options: the first byte chooses the method, the rest is a command line of words that are
 * ended by NULs: numbers, choices, lists of layers and maps of ranks. What is taken is a plan within the backbone's
 * depth. */
#include "fuzz.h"

#include "adapters/adapter.h"

#define MOST_WORDS 64

/* argv in `words`, which points into `text`; returns its length. */
static int split(char *words[MOST_WORDS], char *text, size_t size)
{
    int count = 0;

    words[count++] = (char *)(uintptr_t) "fuzz";
    for (size_t at = 0; at < size && count < MOST_WORDS - 1; at += strlen(text + at) + 1)
        words[count++] = text + at;
    words[count] = NULL;
    return count;
}

/* Of all options' words, those that name folders of this machine are not for a fuzzer. */
static bool names_folders(int count, char *const *words)
{
    for (int i = 1; i < count; i++)
        if (strchr(words[i], '/') || strchr(words[i], '.'))
            return true;
    return false;
}

static void plan(const method *m, options *settings, backbone *b)
{
    adapter *a = NULL;
    inlay_error err = {0};

    fuzz_check_error(adapter_new(&a, m->name, settings, b, 3, NULL, &err), &err);
    if (a) {
        FUZZ_MUST(a->drop_low >= 0 && a->drop_low <= a->drop_high && a->drop_high <= b->shape.depth);
        FUZZ_MUST(adapter_param_total(a, true) > 0 && adapter_trained_total(a, true) <= adapter_param_total(a, true));
        for (int i = 0; i < b->shape.depth; i++)
            FUZZ_MUST(a->ranks[i] >= 0);
    }
    adapter_free(a, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static backbone *b;
    static int methods;
    char *words[MOST_WORDS], *text = calloc(1, size + 1);
    options *settings = NULL;
    inlay_error err = {0};
    inlay_status status;
    const method *m;
    int count;

    FUZZ_MUST(text);
    if (!b) {
        FUZZ_MUST(backbone_open(&b, FUZZ_DATA "/oracle/vit", 0, &err) == INLAY_OK);
        while (method_table[methods])
            methods++;
    }
    m = method_table[size ? data[0] % methods : 0];
    if (size)
        memcpy(text, data + 1, size - 1);
    count = split(words, text, size ? size - 1 : 0);
    FUZZ_MUST(adapter_settings(&settings, m->name, &err) == INLAY_OK);
    status = names_folders(count, words) ? INLAY_ERR_USAGE : options_parse(settings, count, words, 1, &err);
    if (status == INLAY_OK)
        plan(m, settings, b); /* which owns them from here on */
    else
        options_free(settings);
    free(text);
    return 0;
}
