/* One backbone, a session in each of two threads, adapters that come and go; prints the features' length and who
 * answers what.
 *
 *     many_adapters BACKBONE IMAGE ADAPTER... */
#include <inlay/inlay.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct worker {
    inlay_backbone *b;
    char **adapters;
    int count;
    const char *image;
    int *answers; /* [count] a class for each adapter */
    inlay_status status;
    inlay_error err;
} worker;

static inlay_status answer(worker *w, inlay_session *s)
{
    inlay_input image = {.size = sizeof image, .kind = INLAY_INPUT_FILE, .name = w->image};

    for (int i = 0; i < w->count; i++) {
        inlay_prediction best;
        int found;
        inlay_status status = inlay_session_load(s, w->adapters[i], w->adapters[i], &w->err);
        if (status == INLAY_OK)
            status = inlay_session_classify(s, w->adapters[i], &image, &best, 1, &found, &w->err);
        if (status == INLAY_OK)
            status = inlay_session_drop(s, w->adapters[i], &w->err);
        if (status != INLAY_OK)
            return status;
        w->answers[i] = best.index;
    }
    return INLAY_OK;
}

static void *work(void *context)
{
    worker *w = context;
    inlay_session_options how = {.size = sizeof how, .threads = 1};
    inlay_session *s;

    w->status = inlay_session_open(&s, w->b, &how, &w->err);
    if (w->status == INLAY_OK) {
        w->status = answer(w, s);
        inlay_session_close(s);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    inlay_backbone_options how = {.size = sizeof how};
    worker workers[2];
    pthread_t threads[2];
    inlay_backbone *b;
    inlay_error err;
    int bad = 0;

    if (argc < 4) {
        fprintf(stderr, "usage: %s BACKBONE IMAGE ADAPTER...\n", argv[0]);
        return 2;
    }
    how.adapter = argv[3];
    if (inlay_backbone_open(&b, argv[1], &how, &err) != INLAY_OK) {
        fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    for (int t = 0; t < 2; t++) {
        workers[t] = (worker){.b = b, .adapters = argv + 3, .count = argc - 3, .image = argv[2]};
        workers[t].answers = calloc((size_t)argc, sizeof(int));
        if (!workers[t].answers || pthread_create(&threads[t], NULL, work, &workers[t]) != 0)
            abort();
    }
    for (int t = 0; t < 2; t++) {
        pthread_join(threads[t], NULL);
        if (workers[t].status != INLAY_OK)
            fprintf(stderr, "%s\n", workers[t].err.message);
        bad |= workers[t].status != INLAY_OK;
    }
    for (int i = 0; !bad && i < argc - 3; i++) {
        printf("%s: class %d\n", argv[3 + i], workers[0].answers[i]);
        bad |= workers[0].answers[i] != workers[1].answers[i];
    }
    free(workers[0].answers);
    free(workers[1].answers);
    inlay_backbone_release(b);
    return bad;
}
