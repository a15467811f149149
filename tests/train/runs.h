/* Whole training runs on the small ViT and a few images: for tests that compare what they leave behind. */
#ifndef TESTS_TRAIN_RUNS_H
#define TESTS_TRAIN_RUNS_H

#include <signal.h>
#include <sys/wait.h>

#include "make_adapter.h"

#include "train/train.h"

#define CLASSES 3
#define PER_CLASS 7
#define EPOCHS 4

static const char *backbone_path = TEST_DATA "/oracle/vit";

typedef struct setup {
    const char *method;
    const char *settings;             /* "option=value option=value", may be NULL */
    int threads, workers, stop_after; /* steps after which the run is asked to stop; 0: never */
    cache_mode cache;
    double dropout; /* of the backbone */
    bool resume, augment, move_untouched, save_trained;
    const char *cache_dir;
    size_t cache_limit; /* 0: large enough */
    precision prec;
    optimizer_kind optimizer;
    double momentum, clip_norm;
    bool by_step;
    double lr; /* 0: 1e-2 */
} setup;

static int steps_left;
static int steps_to_kill;        /* steps after which the process kills itself; 0: never */
static void (*when_asked)(void); /* called whenever the run asks whether to stop; NULL: nothing */
static void (*when_noted)(void); /* called at every note of the run; NULL: nothing */
static char last_note[512];
static adapter *running; /* what a run trains, and where: for functions that are called meanwhile */
static device *running_on;

static inline void keep_note(void *context, const char *text)
{
    (void)context;
    snprintf(last_note, sizeof last_note, "%s", text);
    if (when_noted)
        when_noted();
}

static inline void count_step(void *context, int epoch, int64_t step, int64_t steps, int images, double loss)
{
    (void)context;
    (void)epoch;
    (void)step;
    (void)steps;
    (void)images;
    (void)loss;
    if (steps_left > 0)
        steps_left--;
    if (steps_to_kill > 0 && --steps_to_kill == 0)
        raise(SIGKILL);
}

static inline bool ask_stop(void *context)
{
    if (when_asked)
        when_asked();
    return *(const int *)context > 0 && steps_left == 0;
}

#define MUST(expression)                                   \
    do {                                                   \
        if ((expression) != INLAY_OK)                      \
            fail_msg("%s: %s", #expression, err->message); \
    } while (0)

static inline inlay_status train_once(const char *data_folder, const char *output, setup s, train_result *result,
                                      inlay_error *err)
{
    device d;
    backbone *b;
    adapter *a;
    dataset *data, *evaluated;
    options *o;
    preprocess prep;
    dataset_request request = {.path = data_folder, .split = "train"}, val = {.path = data_folder, .split = "val"};
    inlay_status status;

    MUST(device_open(&d, NULL, s.threads, err));
    MUST(backbone_open(&b, backbone_path, 0, err));
    MUST(backbone_identify(b, err));
    MUST(dataset_open(&data, &request, err));
    MUST(dataset_open(&evaluated, &val, err));
    MUST(adapter_settings(&o, s.method, err));
    support_settings(o, s.settings);
    MUST(adapter_new(&a, s.method, o, b, data->class_count, data->classes, err));
    MUST(preprocess_for(&prep, b, NULL, err));
    if (s.augment) {
        prep.scale_low = 0.3;
        prep.scale_high = 1;
        prep.ratio_low = 0.75;
        prep.ratio_high = 1.33;
        prep.flip = 0.5;
    }
    steps_left = s.stop_after;
    train_request q = {.dev = &d,
                       .b = b,
                       .a = a,
                       .data = data,
                       .eval_data = evaluated,
                       .eval_split = "val",
                       .eval_every = 2,
                       .prep = &prep,
                       .augment = s.augment,
                       .epochs = EPOCHS,
                       .batch = 4,
                       .workers = s.workers,
                       .drop_last = true,
                       .lr = {.lr = 1e-2, .start = 1e-3, .end = 1e-4, .warmup = 2, .epochs = EPOCHS},
                       .update.weight_decay = 1e-4,
                       .update.beta1 = 0.9,
                       .update.beta2 = 0.999,
                       .update.eps = 1e-8,
                       .drop_path = 0.2,
                       .backbone_dropout = s.dropout,
                       .seed = 5,
                       .cache = s.cache,
                       .prec = s.prec,
                       .cache_limit = s.cache_limit ? s.cache_limit : (size_t)1 << 30,
                       .cache_dir = s.cache_dir,
                       .output = output,
                       .run = "{\"seed\": 5}",
                       .resume = s.resume,
                       .tensorboard = true,
                       .update.move_untouched = s.move_untouched,
                       .save_trained = s.save_trained,
                       .observer = {.context = &s.stop_after, .step = count_step, .note = keep_note, .stop = ask_stop}};
    running = a;
    running_on = &d;
    q.update.kind = s.optimizer;
    q.update.momentum = s.momentum;
    q.update.clip_norm = s.clip_norm;
    q.lr.by_step = s.by_step;
    if (s.lr > 0)
        q.lr.lr = s.lr;
    status = train(result, &q, err);
    adapter_free(a, &d);
    dataset_free(data);
    dataset_free(evaluated);
    backbone_close(b);
    device_close(&d);
    return status;
}

static char *folder;

static inline void path_of(char out[300], const char *name)
{
    snprintf(out, 300, "%s/%s", folder, name);
}

static inline void same_bytes(const char *a, const char *b, const char *file)
{
    char pa[400], pb[400], *da, *db;
    size_t na, nb;
    inlay_error err;

    snprintf(pa, sizeof pa, "%s/%s/%s", folder, a, file);
    snprintf(pb, sizeof pb, "%s/%s/%s", folder, b, file);
    ASSERT_OK(file_read(pa, 1 << 24, &da, &na, &err));
    ASSERT_OK(file_read(pb, 1 << 24, &db, &nb, &err));
    if (na != nb || memcmp(da, db, na) != 0)
        fail_msg("%s of '%s' and '%s' differ", file, a, b);
    free(da);
    free(db);
}

/* Returns the mean loss of the last epoch. */
static inline double run_to_end(const char *name, setup s)
{
    char data[300], output[300];
    train_result result;
    inlay_error err = {INLAY_OK, ""};
    double loss;

    path_of(data, "data");
    path_of(output, name);
    ASSERT_OK(train_once(data, output, s, &result, &err));
    assert_int_equal(result.steps, EPOCHS * (CLASSES * PER_CLASS / 4));
    assert_true(result.evaluated);
    loss = result.loss;
    train_result_free(&result);
    return loss;
}

static inline void run_and_stop(const char *name, setup s)
{
    char data[300], output[300];
    train_result result;
    inlay_error err;

    path_of(data, "data");
    path_of(output, name);
    assert_int_equal(train_once(data, output, s, &result, &err), INLAY_ERR_INTERRUPTED);
    assert_non_null(strstr(err.message, "--resume"));
    train_result_free(&result);
}

/* The run is killed behind its step number `steps`, without a chance to write anything. */
static inline void run_and_kill(const char *name, setup s, int steps)
{
    char data[300], output[300];
    pid_t child;
    int outcome;

    path_of(data, "data");
    path_of(output, name);
    child = fork();
    if (child == 0) {
        train_result result;
        inlay_error err;
        steps_to_kill = steps;
        _exit(train_once(data, output, s, &result, &err) == INLAY_OK ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &outcome, 0), child);
    assert_true(WIFSIGNALED(outcome) && WTERMSIG(outcome) == SIGKILL);
}

static inline int set_up(void **state)
{
    (void)state;
    folder = strdup(support_folder());
    char data[300];
    path_of(data, "data");
    support_images(data, "train", CLASSES, PER_CLASS, 40);
    support_images(data, "val", CLASSES, 2, 40);
    return 0;
}

static inline int tear_down(void **state)
{
    (void)state;
    support_remove(folder);
    free(folder);
    return 0;
}

#endif
