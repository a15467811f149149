/* What Hugging Face's config.json says of a ViT. */
#include "backbones/labels.h"
#include "backbones/vit_config.h"
#include "base/json.h"

inlay_status vit_hf_config(backbone *b, const config_reader *r)
{
    b->shape.eps = 1e-12;
    TRY(config_real(r, "layer_norm_eps", 0, 1, &b->shape.eps));
    TRY(config_int(r, "num_attention_heads", &b->shape.heads));
    TRY(config_int(r, "image_size", &b->shape.height));
    TRY(config_activation(r, "hidden_act", &b->shape.act));
    TRY(labels_read(b, r, "id2label"));
    return vit_hf_input(b, r);
}
