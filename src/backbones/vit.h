/* Plain vision transformers (arXiv 2010.11929 and its relatives in timm). */
#ifndef INLAY_BACKBONES_VIT_H
#define INLAY_BACKBONES_VIT_H

#include "backbones/naming.h"

extern const naming *const vit_namings[]; /* ended by NULL */
extern const backbone_desc vit_desc;

/* Position embeddings [prefix + old * old, width] for another grid [prefix + rows * columns, width], as timm resamples them: bicubic with antialiasing
 * (torch.nn.functional.interpolate(mode="bicubic", antialias=True)), prefix rows kept. */
inlay_status vit_resample_positions(float *out, int64_t rows, int64_t columns, const float *in, int64_t old, int64_t prefix, int64_t width,
                                    inlay_error *err);

#endif
