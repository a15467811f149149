/* Plain vision transformers (arXiv 2010.11929 and its relatives in timm). */
#ifndef INLAY_BACKBONES_VIT_H
#define INLAY_BACKBONES_VIT_H

#include "backbones/naming.h"

extern const naming *const vit_namings[]; /* ended by NULL */
extern const backbone_desc vit_desc;

/* Position embeddings [prefix + from[0] * from[1], width] for another grid [prefix + to[0] * to[1], width] of rows and
 * columns, prefix rows kept: bicubic, as torch.nn.functional.interpolate(mode="bicubic", antialias=antialias). timm and
 * most others resample with antialiasing. */
inlay_status vit_resample_positions(float *out, const int64_t to[2], const float *in, const int64_t from[2],
                                    int64_t prefix, int64_t width, bool antialias, inlay_error *err);

#endif
