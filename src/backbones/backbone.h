/* Backbones: frozen pre-trained transformers, read from a checkpoint and built as a graph with sites.
 *
 * A site is a named activation that an adapter may read from, add to, or transform. A backbone announces every site as
 * it builds it; who listens (src/adapters) is none of its business. Adding a backbone is one file and one row in the
 * table of backbones. */
#ifndef INLAY_BACKBONES_BACKBONE_H
#define INLAY_BACKBONES_BACKBONE_H

#include "base/notes.h"
#include "formats/tensors.h"
#include "graph/graph.h"

/* name, what it is; in the order in which a block passes them. Sites before `blocks` and after it have layer -1. */
#define SITE_MAP(XX)                                                                                 \
    XX(PATCHES, "patch_embed", "patch embedding's projection")                                       \
    XX(BLOCK_INPUT, "input", "tokens that enter the block")                                          \
    XX(ATTN_NORM, "attn.input", "normalised input of the attention")                                 \
    XX(QKV, "attn.qkv", "queries, keys and values side by side")                                     \
    XX(Q, "attn.q", "queries")                                                                       \
    XX(K, "attn.k", "keys")                                                                          \
    XX(V, "attn.v", "values")                                                                        \
    XX(ATTN_HIDDEN, "attn.hidden", "heads' results, input of the output projection")                 \
    XX(ATTN_PROJ, "attn.proj", "result of the attention's output projection")                        \
    XX(ATTN_OUTPUT, "attn.output", "attention branch before its residual, behind stochastic depth")  \
    XX(ATTN_RESIDUAL, "attn.residual", "residual stream after the attention")                        \
    XX(FFN_NORM, "ffn.input", "normalised input of the feed-forward part")                           \
    XX(FFN_PRE, "ffn.pre", "first feed-forward layer before its activation")                         \
    XX(FFN_HIDDEN, "ffn.hidden", "hidden activation of the feed-forward part")                       \
    XX(FFN_PROJ, "ffn.proj", "result of the second feed-forward layer")                              \
    XX(FFN_OUTPUT, "ffn.output", "feed-forward branch before its residual, behind stochastic depth") \
    XX(BLOCK_OUTPUT, "output", "tokens that leave the block")                                        \
    XX(NORM, "norm", "after the final normalisation")                                                \
    XX(FEATURES, "features", "what the head reads")

typedef enum site_kind {
#define XX(name, text, help) SITE_##name,
    SITE_MAP(XX)
#undef XX
        SITE_COUNT
} site_kind;

typedef struct site {
    site_kind kind;
    int layer; /* -1: outside the blocks */
} site;

const char *site_name(site_kind kind);

/* What listens at the sites. Both functions are called while a graph is built, in the order of the forward pass. */
typedef struct site_hooks {
    void *context;
    /* The activation at a site: columns [offset, offset + width) of `v` (all of it, but for Q, K and V inside a fused
     * QKV). Returns the value that takes its place: `v` itself when nobody acts there. `v` may have fewer rows than the
     * sites before it where only the class token is needed. */
    value (*reach)(void *context, graph *g, site s, value v, int64_t offset, int64_t width);
    /* Whether anything reads, adds to or transforms that site: lets a backbone leave out work that nobody would see. */
    bool (*listens)(void *context, site s);
    /* Whether all tokens of the last block are read by somebody, also where the head does not need them. NULL: no. */
    bool (*keeps_tokens)(void *context);
} site_hooks;

/* What the head reads. */
typedef enum pooling {
    POOL_TOKEN,   /* the class token */
    POOL_AVERAGE, /* the mean over the patch tokens */
    POOL_MAP,     /* SigLIP's attention pooling: what a learned query finds in the tokens */
    POOL_COUNT
} pooling;

const char *pooling_name(pooling kind); /* as timm calls them: "token", "avg", "map" */
bool pooling_from_name(const char *name, pooling *out);

/* What every encoder has in common; what methods may know about it. */
typedef struct backbone_shape {
    const char *architecture;            /* "vit" */
    const char *layout;                  /* the naming that its checkpoint uses: "timm", "hugging face", ... */
    int64_t width, depth, heads, hidden; /* hidden: of the feed-forward part */
    int64_t tokens, prefix_tokens;       /* tokens in all, of them class, distillation and register tokens */
    int64_t height, image_width, channels, patch;
    int64_t classes; /* of the checkpoint's own head; 0: none */
    pooling pool;
    double eps;
    activation act;
} backbone_shape;

int64_t site_width(const backbone_shape *shape,
                   site_kind kind); /* columns of the activation there; of Q, K and V those of the one part */

/* How images are brought to it, from the checkpoint's own configuration. */
typedef struct backbone_input {
    float mean[3], std[3];
    double crop_pct;
    const char *interpolation; /* as resample_from_name reads it */
    const char *crop_mode;     /* "center", "squash", "border" */
    bool crop_down;            /* centre crops as transformers', not as torchvision's (data/preprocess.h) */
} backbone_input;

typedef struct backbone_desc backbone_desc;

/* Tensors of the file that are left out, and why nothing is lost. */
typedef struct backbone_passed {
    const char *pattern, *reason;
    int count;
} backbone_passed;

typedef struct class_name {
    int64_t number; /* of the class */
    const char *name;
} class_name;

typedef struct backbone {
    arena *memory;
    const backbone_desc *desc;
    const char *path;       /* as the user gave it */
    const char *model_name; /* what its configuration calls it, or NULL */
    char sha256[65];        /* empty until backbone_identify */
    tensor_set *file;
    const char *described_by; /* where that comes from which tensors do not tell: "config.json (model_type clip)" */
    backbone_passed *passed;
    int passed_count, passed_capacity;
    backbone_shape shape;
    backbone_input input;
    struct backbone_contents *contents; /* parameters by canonical (timm) name and their memory: backbone.c */
    const char *const *labels;  /* [classes] names of the classes of the checkpoint's own head, NULL where one has none;
                                   NULL: no names */
    const class_name *names;    /* [named] what `labels` is made of, as read */
    int64_t label_count, named; /* how long the list is, and how many names are in it */
    const char *label_source;   /* file and key that they come from */
    bool labels_usual; /* they are ones that people use for these classes, not the checkpoint's: for reading, not for
                          finding classes by name */
    const char *pretrained_tag; /* what timm calls the training of the weights ("augreg_in21k_ft_in1k"), or NULL */
    void *state;                /* the architecture's own */
    notes notes;                /* what its files say that was not used, or was taken for granted */
} backbone;

typedef struct build_request {
    value pixels;            /* [1, height * width * channels] a sample, u8 or f32 in 0..255 */
    const float *mean, *std; /* of p / 255, a value a channel; NULL: as the checkpoint has it */
    bool training;           /* stochastic depth and dropout are on */
    double drop_path;        /* its rate at the last block; grows linearly from 0 at the first */
    double dropout; /* behind the embeddings, and behind activation and second layer of each feed-forward part */
    const site_hooks *hooks; /* NULL: nobody listens */
    bool own_head;           /* the checkpoint's own head answers */
    bool keep_blocks;        /* every block's output is kept for reading */
} build_request;

typedef struct build_result {
    value features, logits; /* what a head reads; the answer of the checkpoint's own head, NO_VALUE when there is none
                               or it was not asked for */
    value *blocks;          /* [depth] outputs, in the graph's memory */
} build_result;

struct backbone_desc {
    const char *name; /* "vit" */
    const char *summary;
    /* Reads configuration and tensors; `config` is the checkpoint's config.json (a json_t *, NULL when there is none).
     */
    bool (*recognises)(const tensor_set *file, const void *config);
    inlay_status (*load)(backbone *b, const void *config, const char *config_path, int64_t image_size,
                         inlay_error *err);
    build_result (*build)(backbone *b, graph *g, const build_request *request);
    /* What its configuration decides beside the shape: adds a key for each such fact to a json_t * object. */
    void (*facts)(const backbone *b, void *facts);
};

extern const backbone_desc *const backbone_table[]; /* ended by NULL */

/* One without file and weights, for a shape and parameters that the caller gives it; ended by backbone_close. */
backbone *backbone_new(void);
/* Opens a folder with model.safetensors (or model.safetensors.index.json, or one *.npz) and config.json, or one such
 * file (config.json is looked for beside it). image_size > 0: another input size than the checkpoint's; position
 * embeddings are resampled. Errors name the file and the tensor or key. */
inlay_status backbone_open(backbone **out, const char *path, int64_t image_size, inlay_error *err);
/* One with nothing in it, for whoever fills it by the functions below. */
backbone *backbone_new(void);
void backbone_close(backbone *b); /* after every graph and device that used its parameters; NULL accepted */
/* Frees what kernels made of its weights: when no graph and no device uses them any more. They are made anew when they
 * are asked for again. */
void backbone_release_forms(backbone *b);
/* Fills b->sha256 (reads the whole file once); may be called by several threads. */
inlay_status backbone_identify(backbone *b, inlay_error *err);
param *backbone_param(const backbone *b, const char *name); /* NULL: no such parameter */
/* Where the parameter behind `*last` stands, the first one after NULL; NULL: there are no more. Their values are views
 * of the checkpoint. Not while any is added or dropped. */
param *const *backbone_each_param(const backbone *b, param *const *last);
/* What its graph is a function of besides the weights, as its configuration says it (a json_t * object; a key for each
 * fact). */
void *backbone_facts(const backbone *b);
int64_t backbone_param_total(const backbone *b, bool with_head);

/* For backbone files, and whoever fills an empty one: registers a parameter whose value lies at `data` (kept by the
 * caller). */
param *backbone_add_param(backbone *b, const char *name, int ndim, const int64_t *dims, const void *data, dtype type);
/* Takes a parameter out again; nothing happens when there is none of that name. */
void backbone_drop_param(backbone *b, const char *name);
/* Notes that a tensor of the file is left out. Both texts must live as long as the backbone. */
void backbone_pass_over(backbone *b, const char *pattern, const char *reason);
/* Memory that lives as long as the backbone, for values that are no view of the checkpoint; NULL when out of memory. */
void *backbone_buffer(backbone *b, size_t size);

#endif
