/* One or several numbers: mean squared error (torch.nn.MSELoss). Metrics are means over the numbers of an answer: r2 as
 * sklearn's r2_score, Pearson's and Spearman's correlation as scipy.stats', equal values sharing their ranks. */
#include <math.h>
#include <stdlib.h>

#include "tasks/task.h"

enum { MSE, R2, PEARSON, SPEARMAN };
static const metric metrics[] = {[MSE] = {"mse", "MSE", false},
                                 [R2] = {"r2", "R2", false},
                                 [PEARSON] = {"pearson", "Pearson", false},
                                 [SPEARMAN] = {"spearman", "Spearman", false},
                                 {0}};

static value loss(graph *g, value outputs, value targets, double smoothing)
{
    (void)smoothing;
    return graph_distance(g, outputs, targets);
}

static inlay_status add(task_scores *s, const float *outputs, const void *target, inlay_error *err)
{
    const float *right = target;

    for (int64_t i = 0; i < s->outputs; i++) {
        double off = (double)outputs[i] - (double)right[i];
        s->loss += off * off / (double)s->outputs;
    }
    return task_scores_keep(s, outputs, right, err);
}

/* NaN where one of them does not vary. */
static double correlation(const double *x, const double *y, int n)
{
    double mean_x = 0, mean_y = 0, xy = 0, xx = 0, yy = 0;

    for (int i = 0; i < n; i++) {
        mean_x += x[i] / n;
        mean_y += y[i] / n;
    }
    for (int i = 0; i < n; i++) {
        xy += (x[i] - mean_x) * (y[i] - mean_y);
        xx += (x[i] - mean_x) * (x[i] - mean_x);
        yy += (y[i] - mean_y) * (y[i] - mean_y);
    }
    return xx > 0 && yy > 0 ? xy / sqrt(xx * yy) : NAN;
}

typedef struct placed {
    double x;
    int at;
} placed;

static int by_value(const void *a, const void *b)
{
    const placed *p = a, *q = b;

    return p->x < q->x ? -1 : p->x > q->x ? 1 : p->at - q->at;
}

/* x [n] becomes its ranks; `room` [n] */
static void rank(double *x, int n, placed *room)
{
    for (int i = 0; i < n; i++)
        room[i] = (placed){x[i], i};
    qsort(room, (size_t)n, sizeof *room, by_value);
    for (int begin = 0, end; begin < n; begin = end) {
        for (end = begin + 1; end < n && room[end].x == room[begin].x; end++)
            ;
        for (int i = begin; i < end; i++)
            x[room[i].at] = (begin + end + 1) / 2.0;
    }
}

/* Adds the shares of output c. x, y [count] and `room` are places to work in. */
static void score_output(task_scores *s, int64_t c, double *x, double *y, placed *room)
{
    double mean = 0, off = 0, spread = 0, share = 1.0 / (double)s->outputs;

    for (int i = 0; i < s->count; i++) {
        x[i] = (double)s->answers[i * s->outputs + c];
        y[i] = (double)s->targets[i * s->outputs + c];
        mean += y[i] / s->count;
    }
    for (int i = 0; i < s->count; i++) {
        off += (x[i] - y[i]) * (x[i] - y[i]);
        spread += (y[i] - mean) * (y[i] - mean);
    }
    s->values[MSE] += share * off / s->count;
    s->values[R2] += share * (spread > 0 ? 1 - off / spread : NAN);
    s->values[PEARSON] += share * correlation(x, y, s->count);
    rank(x, s->count, room);
    rank(y, s->count, room);
    s->values[SPEARMAN] += share * correlation(x, y, s->count);
}

static void conclude(task_scores *s)
{
    arena *memory = arena_new();
    double *x = ARENA_ARRAY(memory, double, s->count + 1), *y = ARENA_ARRAY(memory, double, s->count + 1);
    placed *room = ARENA_ARRAY(memory, placed, s->count + 1);

    for (int64_t c = 0; c < s->outputs && s->count > 0; c++)
        score_output(s, c, x, y, room);
    arena_free(memory);
}

const task_desc task_regress = {
    .name = "regress",
    .summary = "one or several numbers",
    .column = "target",
    .metrics = metrics,
    .curve = R2,
    .loss = loss,
    .difference = graph_distance,
    .add = add,
    .conclude = conclude,
};
