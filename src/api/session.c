/* The public calls about backbones and sessions. Each adapter that is loaded has a model of its own, planned when it is
 * loaded; what the models share is the backbone. */
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "api/sized.h"
#include "infer/evaluate.h"
#include "infer/session.h"

enum { BATCH = 16 };

struct inlay_backbone {
    atomic_int holders;
    char *path;
    backbone *b;
};

typedef struct loaded {
    char *name; /* NULL: the checkpoint's own head */
    session s;
    predictor answers[2]; /* [0]: of pixels as preprocessing makes them; [1]: of f32 pixels */
    bool opened[2];
    struct loaded *next;
} loaded;

struct inlay_session {
    inlay_backbone *b;
    session_request request;
    int batch;
    loaded *first;
};

/* ---- backbones ---- */

const char *inlay_version(void)
{
    return INLAY_VERSION_STRING;
}

inlay_status inlay_backbone_open(inlay_backbone **out, const char *path, const inlay_backbone_options *given,
                                 inlay_error *err)
{
    inlay_backbone_options how = {0};
    inlay_backbone *b = calloc(1, sizeof *b);
    int64_t size;
    inlay_status status;

    *out = NULL;
    SIZED_TAKE(how, given);
    if (!b)
        FAIL(err, INLAY_ERR_NOMEM, "out of memory opening a backbone");
    size = how.image_size ? how.image_size : how.adapter ? session_recorded_size(how.adapter) : 0;
    b->path = path ? strdup(path) : NULL;
    atomic_init(&b->holders, 1);
    status = b->path ? backbone_open(&b->b, path, size, err) : error_set(err, INLAY_ERR_USAGE, "no backbone is given");
    if (status != INLAY_OK) {
        inlay_backbone_release(b);
        return status;
    }
    *out = b;
    return INLAY_OK;
}

inlay_backbone *inlay_backbone_retain(inlay_backbone *b)
{
    atomic_fetch_add(&b->holders, 1);
    return b;
}

void inlay_backbone_release(inlay_backbone *b)
{
    if (!b || atomic_fetch_sub(&b->holders, 1) > 1)
        return;
    backbone_close(b->b);
    free(b->path);
    free(b);
}

/* ---- adapters of a session ---- */

static bool is_called(const loaded *l, const char *name)
{
    return name && l->name ? strcmp(name, l->name) == 0 : name == l->name;
}

static loaded *find(const inlay_session *s, const char *name)
{
    loaded *l = s->first;

    while (l && !is_called(l, name))
        l = l->next;
    return l;
}

static void forget(loaded *l)
{
    for (int i = 0; i < 2; i++)
        if (l->opened[i])
            predictor_close(&l->answers[i]);
    session_close(&l->s);
    free(l->name);
    free(l);
}

/* Makes the program for pixels of one type, when it is first asked for. */
static inlay_status open_predictor(const inlay_session *s, loaded *l, int which, inlay_error *err)
{
    inlay_status status;

    if (l->opened[which])
        return INLAY_OK;
    status = session_predictor_of(&l->s, s->batch, which ? DTYPE_F32 : preprocess_pixel_type(&l->s.prep), true,
                                  &l->answers[which], err);
    l->opened[which] = status == INLAY_OK;
    return status;
}

static inlay_status load(inlay_session *s, const char *name, const char *folder, inlay_error *err)
{
    loaded *l = calloc(1, sizeof *l);
    session_request request = s->request;
    inlay_status status;

    if (!l)
        FAIL(err, INLAY_ERR_NOMEM, "out of memory for an adapter");
    request.adapter = folder;
    l->name = name ? strdup(name) : NULL;
    status = name && !l->name ? error_set(err, INLAY_ERR_NOMEM, "out of memory for an adapter")
                              : session_open(&l->s, &request, err);
    if (status == INLAY_OK)
        status = open_predictor(s, l, 0, err);
    if (status != INLAY_OK) {
        forget(l);
        return status;
    }
    l->next = s->first;
    s->first = l;
    return INLAY_OK;
}

/* The adapter of that name; with NULL the checkpoint's own head, which is opened when somebody asks for it. */
static inlay_status demand(inlay_session *s, const char *name, loaded **out, inlay_error *err)
{
    *out = find(s, name);
    if (*out)
        return INLAY_OK;
    if (name)
        FAIL(err, INLAY_ERR_USAGE, "no adapter of the session is called '%s'", name);
    TRY(load(s, NULL, NULL, err));
    *out = s->first;
    return INLAY_OK;
}

inlay_status inlay_session_open(inlay_session **out, inlay_backbone *b, const inlay_session_options *given,
                                inlay_error *err)
{
    inlay_session_options how = {0};
    inlay_session *s;
    const char *frozen = "auto"; /* the weights' precision, in a text that outlives the caller's */
    precision chosen;

    *out = NULL;
    SIZED_TAKE(how, given);
    if (how.precision && strcmp(how.precision, frozen) != 0) {
        if (!precision_from_name(how.precision, &chosen))
            FAIL(err, INLAY_ERR_USAGE, "precision '%s' is not one of auto, f32, bf16, int8", how.precision);
        frozen = precision_name(chosen);
    }
    if (how.batch < 0 || how.threads < 0)
        FAIL(err, INLAY_ERR_USAGE, "neither batch (%d) nor threads (%d) may be negative", how.batch, how.threads);
    s = calloc(1, sizeof *s);
    if (!s)
        FAIL(err, INLAY_ERR_NOMEM, "out of memory opening a session");
    s->b = inlay_backbone_retain(b);
    s->batch = how.batch ? how.batch : BATCH;
    s->request = (session_request){.backbone = b->path,
                                   .shared = b->b,
                                   .threads = how.threads,
                                   .force_backbone = how.force_backbone,
                                   .precision = frozen};
    *out = s;
    return INLAY_OK;
}

void inlay_session_close(inlay_session *s)
{
    if (!s)
        return;
    while (s->first) {
        loaded *next = s->first->next;
        forget(s->first);
        s->first = next;
    }
    inlay_backbone_release(s->b);
    free(s);
}

inlay_status inlay_session_load(inlay_session *s, const char *name, const char *folder, inlay_error *err)
{
    if (!name || !folder)
        FAIL(err, INLAY_ERR_USAGE, "an adapter needs a name and a folder");
    if (find(s, name))
        FAIL(err, INLAY_ERR_USAGE, "the session has an adapter '%s' already", name);
    return load(s, name, folder, err);
}

inlay_status inlay_session_drop(inlay_session *s, const char *name, inlay_error *err)
{
    for (loaded **at = &s->first; *at; at = &(*at)->next)
        if (name && is_called(*at, name)) {
            loaded *l = *at;
            *at = l->next;
            forget(l);
            return INLAY_OK;
        }
    FAIL(err, INLAY_ERR_USAGE, "no adapter of the session is called '%s'", name ? name : "");
}

const char *inlay_session_name(const inlay_session *s, int index)
{
    for (const loaded *l = s->first; l; l = l->next)
        if (l->name && index-- == 0)
            return l->name;
    return NULL;
}

int inlay_session_count(const inlay_session *s)
{
    int count = 0;

    for (const loaded *l = s->first; l; l = l->next)
        count += l->name != NULL;
    return count;
}

int inlay_session_classes(const inlay_session *s, const char *name)
{
    const loaded *l = find(s, name);

    if (l)
        return (int)session_classes(&l->s);
    return name ? 0 : (int)s->b->b->shape.classes;
}

const char *inlay_session_label(const inlay_session *s, const char *name, int index)
{
    const loaded *l = find(s, name);

    if (l)
        return session_label(&l->s, index);
    if (name || !s->b->b->labels || index < 0 || index >= s->b->b->shape.classes)
        return NULL;
    return s->b->b->labels[index];
}

int inlay_session_features(const inlay_session *s)
{
    return (int)s->b->b->shape.width;
}

int inlay_session_height(const inlay_session *s)
{
    return (int)s->b->b->shape.height;
}

int inlay_session_width(const inlay_session *s)
{
    return (int)s->b->b->shape.image_width;
}

/* ---- answers ---- */

/* The name of an input in messages. */
static const char *name_of(const inlay_input *in, int number, char room[32])
{
    snprintf(room, 32, "input %d", number);
    return in->name ? in->name : room;
}

static inlay_status read_input(const loaded *l, const inlay_input *in, const char *name, void *pixels, inlay_error *err)
{
    const preprocess *prep = &l->s.prep;
    image img = {.width = in->width, .height = in->height, .rgb = (uint8_t *)(uintptr_t)in->data};

    if (in->kind != INLAY_INPUT_FILE && !in->data)
        FAIL(err, INLAY_ERR_USAGE, "%s has no data", name);
    switch (in->kind) {
    case INLAY_INPUT_FILE:
        return preprocess_file(prep, name, NULL, pixels, NULL, err);
    case INLAY_INPUT_ENCODED:
        return preprocess_bytes(prep, in->data, in->bytes, name, NULL, pixels, NULL, err);
    case INLAY_INPUT_IMAGE:
        if (in->width < 1 || in->height < 1)
            FAIL(err, INLAY_ERR_USAGE, "%s is an image of %d x %d pixels", name, in->width, in->height);
        return preprocess_image(prep, &img, NULL, pixels, err);
    case INLAY_INPUT_PIXELS_U8:
        if (preprocess_pixel_type(prep) != DTYPE_U8)
            FAIL(err, INLAY_ERR_UNSUPPORTED,
                 "%s: the model's preprocessing makes real-valued pixels (tf-bilinear): 8-bit ones would not be the "
                 "same",
                 name);
        memcpy(pixels, in->data, preprocess_pixel_bytes(prep));
        return INLAY_OK;
    case INLAY_INPUT_PIXELS_F32:
        memcpy(pixels, in->data, (size_t)prep->height * (size_t)prep->width * 3 * sizeof(float));
        return INLAY_OK;
    }
    FAIL(err, INLAY_ERR_USAGE, "%s is of a kind that is not known: %d", name, (int)in->kind);
}

static const inlay_input *input_at(const inlay_input *inputs, int index)
{
    return (const inlay_input *)(const void *)((const char *)inputs + (size_t)index * inputs->size);
}

/* Answers inputs [first, first + count), which are all of f32 pixels or all of the others. */
static inlay_status run_some(const inlay_session *s, loaded *l, const inlay_input *inputs, int first, int count,
                             float *logits, float *features, inlay_error *err)
{
    int which = input_at(inputs, first)->kind == INLAY_INPUT_PIXELS_F32;
    int64_t classes = session_classes(&l->s), width = inlay_session_features(s);
    predictor *p;
    size_t bytes;
    char *pixels;

    TRY(open_predictor(s, l, which, err));
    p = &l->answers[which];
    pixels = predictor_pixels(p);
    bytes = (size_t)l->s.prep.height * (size_t)l->s.prep.width * 3 *
            (which || preprocess_pixel_type(&l->s.prep) == DTYPE_F32 ? sizeof(float) : 1);
    for (int i = 0; i < count; i++) {
        char room[32];
        const inlay_input *in = input_at(inputs, first + i);
        TRY(read_input(l, in, name_of(in, first + i, room), pixels + (size_t)i * bytes, err));
    }
    predictor_forward(p, count);
    predictor_logits(p, 0, count, logits + first * classes);
    for (int i = 0; i < count; i++) {
        char room[32];
        TRY(predictor_check(p, 0, logits + (first + i) * classes, name_of(input_at(inputs, first + i), first + i, room),
                            err));
    }
    if (features)
        predictor_features(p, count, features + first * width);
    return INLAY_OK;
}

static inlay_status run_all(const inlay_session *s, loaded *l, const inlay_input *inputs, int count, float *logits,
                            float *features, inlay_error *err)
{
    for (int done = 0, now; done < count; done += now) {
        bool real = input_at(inputs, done)->kind == INLAY_INPUT_PIXELS_F32;
        for (now = 1; now < s->batch && done + now < count; now++)
            if ((input_at(inputs, done + now)->kind == INLAY_INPUT_PIXELS_F32) != real)
                break;
        TRY(run_some(s, l, inputs, done, now, logits, features, err));
    }
    return INLAY_OK;
}

inlay_status inlay_session_run(inlay_session *s, const char *name, const inlay_input *inputs, int count, float *logits,
                               float *features, inlay_error *err)
{
    loaded *l;
    float *room = NULL;
    inlay_status status;

    if (count < 0)
        FAIL(err, INLAY_ERR_USAGE, "%d inputs cannot be answered", count);
    TRY(demand(s, name, &l, err));
    if (!logits) {
        room = memory_array(count, size_product(session_classes(&l->s), sizeof *room));
        if (!room)
            FAIL(err, INLAY_ERR_NOMEM, "out of memory for the logits of %d inputs", count);
    }
    status = run_all(s, l, inputs, count, logits ? logits : room, features, err);
    free(room);
    return status;
}

inlay_status inlay_session_classify(inlay_session *s, const char *name, const inlay_input *input, inlay_prediction *top,
                                    int room, int *found, inlay_error *err)
{
    loaded *l;
    int classes;
    float *logits, *probabilities;
    int *order;
    inlay_status status;

    *found = 0;
    if (room < 1)
        FAIL(err, INLAY_ERR_USAGE, "room for at least one prediction is needed");
    TRY(demand(s, name, &l, err));
    if (!session_task_of(&l->s, 0)->one_class)
        FAIL(err, INLAY_ERR_USAGE, "adapter '%s' answers with %s, not with one class: inlay_session_run gives it", name,
             session_task_of(&l->s, 0)->summary);
    classes = (int)session_classes(&l->s);
    logits = memory_array(2 * (int64_t)classes, sizeof *logits);
    order = memory_array(classes, sizeof *order);
    status = logits && order ? run_all(s, l, input, 1, logits, NULL, err)
                             : error_set(err, INLAY_ERR_NOMEM, "out of memory for %d classes", classes);
    if (status == INLAY_OK) {
        probabilities = logits + classes;
        memcpy(probabilities, logits, (size_t)classes * sizeof *probabilities);
        *found = room < classes ? room : classes;
        softmax_top(probabilities, classes, order, *found);
        for (int i = 0; i < *found; i++)
            top[i] = (inlay_prediction){order[i], probabilities[order[i]], logits[order[i]]};
    }
    free(logits);
    free(order);
    return status;
}
