/* The public API over a session. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "infer/evaluate.h"
#include "infer/session.h"

#define BATCH 16

struct inlay_model {
    session s;
    predictor p;
    bool ready;
    float *logits;
    int *order;
};

const char *inlay_version(void)
{
    return INLAY_VERSION_STRING;
}

inlay_status inlay_model_open(inlay_model **out, const inlay_model_options *how, inlay_error *err)
{
    inlay_model *m = calloc(1, sizeof *m);
    session_request request = {.backbone = how->backbone,
                               .adapter = how->adapter,
                               .precision = how->precision ? how->precision : "auto",
                               .threads = how->threads,
                               .image_size = how->image_size,
                               .force_backbone = how->force_backbone};
    precision unused;
    inlay_status status;

    *out = NULL;
    if (!m)
        FAIL(err, INLAY_ERR_NOMEM, "out of memory opening a model");
    if (!how->backbone)
        status = error_set(err, INLAY_ERR_USAGE, "no backbone is given");
    else if (strcmp(request.precision, "auto") != 0 && !precision_from_name(request.precision, &unused))
        status =
            error_set(err, INLAY_ERR_USAGE, "precision '%s' is not one of auto, f32, bf16, int8", request.precision);
    else
        status = session_open(&m->s, &request, err);
    if (status == INLAY_OK) {
        m->ready = true;
        status = session_predictor(&m->s, BATCH, &m->p, err);
    }
    if (status == INLAY_OK) {
        m->logits = calloc(BATCH, size_product(session_classes(&m->s), sizeof *m->logits));
        m->order = calloc((size_t)session_classes(&m->s), sizeof *m->order);
        if (!m->logits || !m->order)
            status = error_set(err, INLAY_ERR_NOMEM, "out of memory opening a model");
    }
    if (status != INLAY_OK) {
        inlay_model_close(m);
        return status;
    }
    *out = m;
    return INLAY_OK;
}

void inlay_model_close(inlay_model *m)
{
    if (!m)
        return;
    if (m->p.p)
        predictor_close(&m->p);
    if (m->ready)
        session_close(&m->s);
    free(m->logits);
    free(m->order);
    free(m);
}

int inlay_model_classes(const inlay_model *m)
{
    return (int)session_classes(&m->s);
}

const char *inlay_model_label(const inlay_model *m, int index)
{
    return index >= 0 && index < inlay_model_classes(m) ? session_label(&m->s, index) : NULL;
}

int inlay_model_image_size(const inlay_model *m)
{
    return (int)m->s.b->shape.height;
}

int inlay_model_image_width(const inlay_model *m)
{
    return (int)m->s.b->shape.image_width;
}

inlay_status inlay_model_classify_file(inlay_model *m, const char *path, inlay_prediction *top, int room, int *found,
                                       inlay_error *err)
{
    int classes = inlay_model_classes(m);
    float *probabilities = m->logits + classes;

    *found = 0;
    if (room < 1)
        FAIL(err, INLAY_ERR_USAGE, "room for at least one prediction is needed");
    TRY(preprocess_file(&m->s.prep, path, false, (rng_stream){0}, predictor_pixels(&m->p), NULL, err));
    predictor_run(&m->p, 1, m->logits);
    TRY(predictor_check(&m->p, 0, m->logits, path, err));
    memcpy(probabilities, m->logits, (size_t)classes * sizeof *probabilities);
    *found = room < classes ? room : classes;
    softmax_top(probabilities, classes, m->order, *found);
    for (int i = 0; i < *found; i++) {
        int c = m->order[i];
        top[i] = (inlay_prediction){c, session_label(&m->s, c), probabilities[c], m->logits[c]};
    }
    return INLAY_OK;
}

inlay_status inlay_model_logits(inlay_model *m, const uint8_t *pixels, int count, float *logits, inlay_error *err)
{
    size_t bytes = (size_t)m->s.prep.height * (size_t)m->s.prep.width * 3;
    int classes = inlay_model_classes(m);

    if (count < 0)
        FAIL(err, INLAY_ERR_USAGE, "%d images cannot be classified", count);
    if (preprocess_pixel_type(&m->s.prep) != DTYPE_U8)
        FAIL(err, INLAY_ERR_UNSUPPORTED,
             "the model's preprocessing makes real-valued pixels (tf-bilinear): 8-bit ones would not be the same");
    for (int done = 0; done < count; done += BATCH) {
        int now = count - done < BATCH ? count - done : BATCH;
        memcpy(predictor_pixels(&m->p), pixels + (size_t)done * bytes, (size_t)now * bytes);
        predictor_run(&m->p, now, logits + (size_t)done * (size_t)classes);
        for (int i = 0; i < now; i++) {
            char name[32];
            snprintf(name, sizeof name, "image %d", done + i);
            TRY(predictor_check(&m->p, 0, logits + (size_t)(done + i) * (size_t)classes, name, err));
        }
    }
    return INLAY_OK;
}
