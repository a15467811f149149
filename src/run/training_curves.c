/* curves.svg: how a run went, drawn from the lines of metrics.jsonl. These are those of an undisturbed run however
 * often it was resumed, but for times, which are not drawn. */
#define _GNU_SOURCE
#include "run/training.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "formats/plot.h"

typedef struct curve {
    double *epochs, *losses, *metrics; /* [count]; the metric of evaluations alone, as it is shown */
    int count, epochs_room, losses_room, metrics_room;
} curve;

typedef struct curves {
    const metric *shown; /* the task's; NULL: nothing is evaluated */
    curve training, evaluation;
    char *split;  /* what was evaluated on last; NULL: nothing */
    int64_t seen; /* how many images */
    int best;     /* the evaluation with the highest metric, the first of several */
} curves;

static void add(curve *c, double epoch, double loss, double shown)
{
    int losses = c->count, metrics = c->count;

    ARRAY_PUSH(c->metrics, metrics, c->metrics_room, shown);
    ARRAY_PUSH(c->losses, losses, c->losses_room, loss);
    ARRAY_PUSH(c->epochs, c->count, c->epochs_room, epoch);
}

static double number_of(const json_t *line, const char *key)
{
    const json_t *item = json_object_get(line, key);

    return json_is_number(item) ? json_number_value(item) : NAN;
}

/* Epochs whose lines were lost are a gap. */
static void add_epoch(curve *c, const json_t *line)
{
    double epoch = number_of(line, "epoch");

    if (c->count > 0 && epoch != c->epochs[c->count - 1] + 1)
        add(c, NAN, NAN, NAN);
    add(c, epoch, number_of(line, "loss"), NAN);
}

static void add_evaluation(curves *c, const json_t *line)
{
    curve *e = &c->evaluation;
    const char *split = json_string_value(json_object_get(line, "split"));
    char *name = strdup(split ? split : "");

    if (name) {
        free(c->split);
        c->split = name;
    }
    c->seen = json_integer_value(json_object_get(line, "count"));
    add(e, number_of(line, "epoch"), number_of(line, "loss"),
        (c->shown->share ? 100 : 1) * number_of(line, c->shown->name));
    if (isnan(e->metrics[c->best]) || e->metrics[e->count - 1] > e->metrics[c->best])
        c->best = e->count - 1;
}

/* A line that is damaged is a gap as well: the run is complete without it. */
static void add_line(curves *c, const char *text)
{
    json_t *line = json_loads(text, 0, NULL);
    const char *event = json_string_value(json_object_get(line, "event"));

    if (event && strcmp(event, "epoch") == 0)
        add_epoch(&c->training, line);
    if (event && c->shown && strcmp(event, "eval") == 0)
        add_evaluation(c, line);
    json_decref(line);
}

static inlay_status read_log(curves *c, const char *path, inlay_error *err)
{
    FILE *log = fopen(path, "re");
    char *line = NULL;
    size_t room = 0;
    inlay_status status;

    if (!log)
        return file_error(err, "open", path);
    while (getline(&line, &room, log) > 0)
        add_line(c, line);
    status = ferror(log) ? file_error(err, "read", path) : INLAY_OK;
    free(line);
    fclose(log);
    return status;
}

static void free_curve(curve *c)
{
    free(c->epochs);
    free(c->losses);
    free(c->metrics);
}

/* ---- the picture ---- */

static const char *fixed(arena *memory, double number, int decimals)
{
    char text[TEXT_SHORT];

    return arena_strdup(memory, text_fixed(text, number, decimals));
}

/* The metric of evaluation i with its unit. */
static const char *shown_text(arena *memory, const curves *c, int i)
{
    return arena_printf(memory, "%s%s", fixed(memory, c->evaluation.metrics[i], c->shown->share ? 2 : 4),
                        c->shown->share ? " %" : "");
}

/* "loss 2.3026 after epoch 1, 0.4312 after epoch 60" of the first and the last point. */
static const char *describe_ends(arena *memory, const curve *c, const double *values, const char *what,
                                 const char *unit, int decimals)
{
    int last = c->count - 1;
    const char *end = arena_printf(memory, "%s%s after epoch %s", fixed(memory, values[last], decimals), unit,
                                   fixed(memory, c->epochs[last], 0));

    if (last == 0)
        return arena_printf(memory, "%s %s", what, end);
    return arena_printf(memory, "%s %s%s after epoch %s, %s", what, fixed(memory, values[0], decimals), unit,
                        fixed(memory, c->epochs[0], 0), end);
}

static const char *describe(arena *memory, const curves *c, const train_result *r)
{
    const curve *t = &c->training, *e = &c->evaluation;
    char own[TEXT_SHORT];
    const char *text =
        t->count ? describe_ends(memory, t, t->losses, "Training loss by epoch:", "", 4) : "No epoch is recorded";

    if (e->count)
        text = arena_printf(memory, "%s. %s. %s; the best: %s after epoch %s", text,
                            describe_ends(memory, e, e->losses, arena_printf(memory, "Loss on %s:", c->split), "", 4),
                            describe_ends(memory, e, e->metrics,
                                          arena_printf(memory, "%s on %s:", c->shown->title, c->split),
                                          c->shown->share ? " %" : "", c->shown->share ? 2 : 4),
                            shown_text(memory, c, c->best), fixed(memory, e->epochs[c->best], 0));
    return arena_printf(memory, "%s. %s trained parameters without the head.", text, text_count(own, r->parameters));
}

static const char *final_figures(arena *memory, const curves *c, const train_result *r)
{
    const curve *e = &c->evaluation;
    char own[TEXT_SHORT], seen[TEXT_SHORT];
    const char *parameters = arena_printf(memory, "%s parameters + head", text_count(own, r->parameters));

    if (e->count == 0)
        return arena_printf(memory, "Final training loss %s; %s", fixed(memory, r->loss, 4), parameters);
    return arena_printf(memory, "Final %s %s (%s images); %s", c->shown->title, shown_text(memory, c, e->count - 1),
                        text_count(seen, c->seen), parameters);
}

static bool is_level(const curve *c)
{
    for (int i = 1; i < c->count; i++)
        if (c->metrics[i] != c->metrics[0])
            return false;
    return true;
}

static inlay_status draw(const curves *c, const char *title, const train_result *r, const char *path, arena *memory,
                         inlay_error *err)
{
    const curve *t = &c->training, *e = &c->evaluation;
    double first = t->count ? t->epochs[0] : 0, last = t->count ? t->epochs[t->count - 1] : 0;
    plot_series
        losses[] = {{.name = "training",
                     .markers = t->count == 1, /* a line of one point is hardly seen */
                     .count = t->count,
                     .x = t->epochs,
                     .y = t->losses},
                    {.name = c->split, .style = 1, .markers = true, .count = e->count, .x = e->epochs, .y = e->losses}},
        shown[] = {{.style = 1, .markers = true, .count = e->count, .x = e->epochs, .y = e->metrics},
                   {.kind = PLOT_RINGS, .count = e->count > 0, .x = e->epochs + c->best, .y = e->metrics + c->best}};
    plot p = {.title = title,
              .caption = final_figures(memory, c, r),
              .description = describe(memory, c, r),
              .panel_count = e->count ? 2 : 1};

    p.panels[0] = (plot_panel){.x = {.label = "epoch", .whole = true},
                               .y = {.label = "loss"},
                               .series = losses,
                               .series_count = e->count ? 2 : 1};
    if (e->count) {
        shown[1].name = arena_printf(memory, "best: %s, epoch %s", shown_text(memory, c, c->best),
                                     fixed(memory, e->epochs[c->best], 0));
        p.panels[1] = (plot_panel){
            .x = {.label = "epoch", .whole = true, .low = first, .high = last},
            .y = {.label = arena_printf(memory, "%s on %s%s", c->shown->title, c->split, c->shown->share ? ", %" : ""),
                  .high = is_level(e) && c->shown->share ? 100 : 0},
            .series = shown,
            .series_count = 2};
    }
    return plot_write(&p, path, err);
}

char *training_name_of(arena *memory, const char *path)
{
    char *name = arena_strdup(memory, path), *whole;

    for (size_t length = strlen(name); length > 1 && name[length - 1] == '/';)
        name[--length] = '\0';
    name = arena_strdup(memory, path_base(name));
    if (strcmp(name, ".") != 0 && strcmp(name, "..") != 0)
        return name;
    whole = realpath(path, NULL);
    if (whole)
        name = arena_strdup(memory, path_base(whole));
    free(whole);
    return name;
}

inlay_status training_draw_curves(const char *title, const train_result *r, const options *o, inlay_error *err)
{
    arena *memory = arena_new();
    curves c = {.shown = r->evaluated ? &r->eval.task->metrics[r->eval.task->curve] : NULL};
    inlay_status status = read_log(&c, path_join(memory, options_string(o, "output"), "metrics.jsonl"), err);

    if (status == INLAY_OK)
        status = draw(&c, title, r, path_join(memory, options_string(o, "output"), TRAINING_CURVES), memory, err);
    free_curve(&c.training);
    free_curve(&c.evaluation);
    free(c.split);
    arena_free(memory);
    return status;
}

void training_name_curves(json_t *record, const options *o)
{
    arena *memory = arena_new();
    const char *path = path_join(memory, options_string(o, "output"), TRAINING_CURVES);

    if (file_exists(path))
        json_set_path(record, "curves", path);
    arena_free(memory);
}
