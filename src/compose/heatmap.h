/* What a method looks at: its token weights over the image. */
#ifndef INLAY_COMPOSE_HEATMAP_H
#define INLAY_COMPOSE_HEATMAP_H

#include "infer/session.h"

#define HEATMAP_ALL_LAYERS (-1)

typedef struct heatmap {
    double low, high; /* smallest and largest |weight| of a patch: the two ends of the colours */
    int layers;       /* whose mean it is */
    image picture;    /* the image as the model sees it, and beside it the same under the weights' colours */
} heatmap;

/* Draws |weight| of every patch of the first image of `set`, of one layer or the mean over the layers. Fails where the
 * adapter has no token weights. */
inlay_status heatmap_draw(heatmap *out, session *s, const dataset *set, int layer, inlay_error *err);
void heatmap_free(heatmap *h);

#endif
