/* bench: what this machine makes of a backbone. */
#include <stdlib.h>
#include <string.h>

#include "base/monitor.h"
#include "kernels/choice.h"
#include "run/common.h"
#include "train/measure.h"

#define MOST 64 /* items in a list */

static const option_spec option_table[] = {
    OPTION_BACKBONE,
    OPT_TEXT("method", "adapter_plus", "NAME", "what is trained: a row of 'inlay methods'"),
    OPT_INT("classes", "100", 2, 1000000, "N", "classes of the head"),
    OPT_INT("batch_size", "32", 1, 4096, "N", "images in a step"),
    OPT_INT("image_size", "0", 0, 8192, "N", "side of the input in pixels; 0: the checkpoint's"),
    OPT_TEXT("precision", "f32,auto", "LIST",
             "of the frozen weights, one or several: f32, bf16, int8; auto: what the other commands choose here"),
    OPT_TEXT("threads", "1,0", "LIST", "compute threads, one or several numbers; 0: all processors"),
    OPTION_PIN,
    OPT_INT("runs", "5", 1, 1000, "N", "the best of N runs counts"),
    OPT_FLAG("profile", "also what each operation takes, of a training step and of inference"),
    OPTION_JSON,
    OPTION_MEMORY,
    OPTION_QUIET,
    {0},
};

typedef struct plan {
    precision precisions[MOST];
    const char *names[MOST]; /* of the precisions */
    int threads[MOST];
    int precision_count, thread_count;
} plan;

/* Adds a precision that is not in the plan yet: "auto" may be one that is named too. */
static void add_precision(plan *p, precision prec, const char *name)
{
    for (int i = 0; i < p->precision_count; i++)
        if (p->precisions[i] == prec)
            return;
    p->precisions[p->precision_count] = prec;
    p->names[p->precision_count++] = name;
}

static void add_threads(plan *p, int threads)
{
    for (int i = 0; i < p->thread_count; i++)
        if (p->threads[i] == threads)
            return;
    p->threads[p->thread_count++] = threads;
}

static inlay_status read_precision(plan *p, const char *word, const kernels *k, inlay_error *err)
{
    precision prec;

    if (strcmp(word, "auto") == 0) {
        prec = precision_choose(word, &(device){.k = k});
        add_precision(p, prec, precision_name(prec));
        return INLAY_OK;
    }
    if (!precision_from_name(word, &prec))
        FAIL(err, INLAY_ERR_USAGE, "--precision: '%s' is none of f32, bf16, int8, auto", word);
    add_precision(p, prec, word);
    return INLAY_OK;
}

static inlay_status read_threads(plan *p, const char *word, inlay_error *err)
{
    char *end;
    long number = strtol(word, &end, 10);

    if (end == word || *end || number < 0 || number > 1024)
        FAIL(err, INLAY_ERR_USAGE, "--threads: '%s' is no number from 0 to 1024", word);
    add_threads(p, number ? (int)number : pool_processors());
    return INLAY_OK;
}

/* Reads the lists of --precision and --threads, word by word between commas. */
static inlay_status read_plan(plan *p, const options *o, arena *memory, inlay_error *err)
{
    static const char *const lists[] = {"precision", "threads"};
    const kernels *k;

    TRY(kernels_choose(&k, err));
    for (int list = 0; list < 2; list++) {
        int count = 0;
        for (char *word = arena_strdup(memory, options_string(o, lists[list])), *next; word; word = next) {
            next = strchr(word, ',');
            if (next)
                *next++ = '\0';
            if (++count > MOST)
                FAIL(err, INLAY_ERR_USAGE, "--%s: at most %d items are expected", lists[list], MOST);
            TRY(list == 0 ? read_precision(p, word, k, err) : read_threads(p, word, err));
        }
    }
    return INLAY_OK;
}

static inlay_status measure_one(measured *out, backbone *b, const options *o, precision prec, int threads,
                                const inlay_observer *w, inlay_error *err)
{
    const char *name = options_string(o, "method");
    device dev = {0};
    options *settings;
    measure_request request = {.dev = &dev,
                               .b = b,
                               .prec = prec,
                               .batch = options_int(o, "batch_size"),
                               .runs = (int)options_int(o, "runs"),
                               .profile = options_flag(o, "profile"),
                               .stop = watch_on_stop,
                               .context = &w};
    budget room;
    inlay_status status;

    TRY(method_settings(&settings, name, o, err));
    TRY(adapter_new(&request.a, name, settings, b, options_int(o, "classes"), NULL, err));
    open_budget(&room, o);
    request.room = &room;
    status = device_open(&dev, NULL, threads, err);
    if (status == INLAY_OK && options_flag(o, "pin_threads"))
        status = pool_pin(dev.c.threads, err);
    if (status == INLAY_OK)
        status = measure(out, &request, err);
    backbone_release_forms(b); /* the next setting has others */
    adapter_free(request.a, dev.k ? &dev : NULL);
    budget_close(&room);
    if (dev.k)
        device_close(&dev);
    return status;
}

static json_t *times_array(const measured_pass *pass, inlay_error *err)
{
    json_t *all = json_array();
    double images = (double)pass->images;

    for (int i = 0; i < pass->time_count; i++) {
        const program_time *t = &pass->times[i];
        json_array_append_new(all,
                              json_build("an operation's time", err, "{s:s, s:I, s:I, s:I, s:f, s:f, s:f, s:f}",
                                         "operation", t->name, "rows", (json_int_t)t->rows, "cols", (json_int_t)t->cols,
                                         "depth", (json_int_t)t->depth, "forward_seconds", t->seconds[0] / images,
                                         "forward_operations", t->operations[0] / images, "backward_seconds",
                                         t->seconds[1] / images, "backward_operations", t->operations[1] / images));
    }
    return all;
}

static json_t *pass_object(const measured_pass *pass, double peak, inlay_error *err)
{
    json_t *object = json_build("a measured pass", err, "{s:f, s:f, s:f, s:I}", "images_per_second",
                                pass->images_per_second, "gflops", pass->gflops, "fraction_of_peak",
                                pass->gflops / peak, "peak_memory_bytes", (json_int_t)pass->peak_memory);

    if (pass->times)
        json_object_set_new(object, "operations_for_each_image", times_array(pass, err));
    return object;
}

static json_t *row_object(const char *precision_name, int threads, const measured *m, inlay_error *err)
{
    return json_build(
        "a measured setting", err, "{s:s, s:i, s:f, s:o, s:o, s:f}", "precision", precision_name, "threads", threads,
        "peak_gflops", m->peak_gflops, "training", pass_object(&m->training, m->peak_gflops, err), "inference",
        pass_object(&m->inference, m->peak_gflops, err), "latency_seconds", 1 / m->single.images_per_second);
}

static inlay_status run_plan(const plan *p, backbone *b, const options *o, json_t *results, const inlay_observer *w,
                             inlay_error *err)
{
    int total = p->precision_count * p->thread_count;
    inlay_status status = INLAY_OK;

    watch_phase(w, "measuring", total, "settings");
    for (int i = 0; i < total && status == INLAY_OK; i++) {
        int of = i / p->thread_count, threads = p->threads[i % p->thread_count];
        measured m = {0};
        watch_progress(w, i, 0, "%s, threads %d", p->names[of], threads);
        status = measure_one(&m, b, o, p->precisions[of], threads, w, err);
        if (status == INLAY_OK) {
            json_t *row = row_object(p->names[of], threads, &m, err);
            status = row ? INLAY_OK : INLAY_ERR_FORMAT;
            json_array_append_new(results, row);
            watch_progress(w, i + 1, 0, NULL);
        }
        measured_free(&m);
    }
    watch_end(w);
    return status;
}

/* The sets in front of the one in use, each with the reason. */
static json_t *passed_over_for(const kernels *k)
{
    json_t *list = json_array();

    for (int i = 0; kernels_set(i) && kernels_set(i) != k; i++) {
        const char *reason = kernels_passed_over(i);
        json_array_append_new(list, json_pack("{s:s, s:s}", "kernels", kernels_set(i)->name, "reason",
                                              reason ? reason : "INLAY_ISA names other ones"));
    }
    return list;
}

static inlay_status run_on(backbone *b, const plan *p, const options *o, const inlay_observer *w, json_t **record,
                           inlay_error *err)
{
    json_t *results = json_array();
    monitor_machine machine;
    const kernels *k;
    const char *why;
    inlay_status status = kernels_choose(&k, err);

    monitor_describe(&machine);
    if (status == INLAY_OK)
        status = run_plan(p, b, o, results, w, err);
    if (status == INLAY_OK) {
        *record = json_build("the answer", err, "{s:o, s:i, s:s, s:o, s:s, s:I, s:I, s:O}", "processor",
                             json_text(machine.cpu), "processors", machine.processors, "kernels", k->name, "backbone",
                             json_text(b->path), "method", options_string(o, "method"), "batch_size",
                             (json_int_t)options_int(o, "batch_size"), "runs", (json_int_t)options_int(o, "runs"),
                             "results", results);
        status = *record ? INLAY_OK : INLAY_ERR_FORMAT;
    }
    if (status == INLAY_OK) {
        bool bf16 = kernels_prefer_bf16(k, &why);
        json_object_set_new(*record, "passed_over", passed_over_for(k));
        json_object_set_new(
            *record, "auto",
            json_pack("{s:s, s:s}", "precision", precision_name(bf16 ? PRECISION_BF16 : PRECISION_F32), "reason", why));
    }
    json_decref(results);
    return status;
}

static inlay_status run(options *o, const inlay_observer *w, json_t **record, inlay_error *err)
{
    arena *memory = arena_new();
    backbone *b = NULL;
    plan p = {.precision_count = 0};
    inlay_status status = require(o, "backbone", err);

    if (status == INLAY_OK)
        status = read_plan(&p, o, memory, err);
    if (status == INLAY_OK)
        status = backbone_open(&b, options_string(o, "backbone"), options_int(o, "image_size"), err);
    if (status == INLAY_OK)
        status = run_on(b, &p, o, w, record, err);
    backbone_close(b);
    arena_free(memory);
    return status;
}

const job job_bench = {
    .name = "bench",
    .usage =
        "--backbone DIR|FILE [--method adapter_plus] [--batch-size 32] [--threads 1,0] [--precision f32,auto] [--json]",
    .summary = "measure speed and memory on this machine",
    .details = "Measures, for each precision and number of threads, training and inference on images of noise, the "
               "latency of one image alone, the highest memory in use "
               "meanwhile, and what the processor does at best when it multiplies registers only. The machine should "
               "do nothing else.",
    .options = option_table,
    .takes_method = true,
    .stops = true,
    .run = run,
};
