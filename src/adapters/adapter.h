/* Adapters: what is trained on a frozen backbone.
 *
 * A method is data plus a few functions. Its plan() declares parameters, edges, transforms and unfrozen weights for a
 * backbone's shape; the rest - building, training, saving, loading, counting, folding - is done here for all of them
 * from those declarations. Adding a method is one source file and one row in methods.def. A preset is a row of data: a
 * method with other defaults. */
#ifndef INLAY_ADAPTERS_ADAPTER_H
#define INLAY_ADAPTERS_ADAPTER_H

#include "backbones/backbone.h"
#include "tasks/task.h"
#include "base/options.h"

typedef struct adapter adapter;

/* How a fresh parameter is filled. `a`, `b`: mean and std (normal; truncated at +-2 std), low and high (uniform), the
 * constant in `a`, the value on the diagonal and beside it (diagonal), of the first element and of the others (first).
 */
typedef enum init_kind {
    INIT_ZERO,
    INIT_CONSTANT,
    INIT_NORMAL,
    INIT_TRUNC_NORMAL,
    INIT_UNIFORM,
    INIT_DIAGONAL,
    INIT_FIRST
} init_kind;
typedef struct init_rule {
    init_kind kind;
    double a, b;
} init_rule;

/* What of a parameter is trained: part `part` of `parts` of a random partition of all its entries, or of each of its
 * rows or columns. The partition is drawn from the run's seed and `stream`; parameters with the same stream have the
 * parts of one partition. parts 0: all of it. */
typedef enum mask_kind { MASK_ALL, MASK_ROW, MASK_COLUMN } mask_kind;
typedef struct mask_rule {
    mask_kind kind;
    int part, parts;
    uint32_t stream;
    bool decay_masked; /* weight decay reaches the rest as well */
} mask_rule;

/* What the function of an edge or of a transform sees while a graph is built. */
typedef struct build_context {
    const adapter *a;
    graph *g;
    site at;                  /* where the result goes */
    bool training;            /* dropout and drop path are on */
    struct listener *through; /* the pass, for the functions below */
} build_context;

/* Builds the function of an edge, or of a transform, on `x`: what the edge reads, with the target's rows. */
typedef value (*adapter_function)(const build_context *b, value x, const void *context);

/* The activation at a site that the pass has gone through, behind all that was added there; NO_VALUE: it has not. */
value build_at(const build_context *b, site s);
/* A state that goes from one place to the next, such as that of a recurrence over layers: what was kept last under
 * `key`, an address of the adapter's; NO_VALUE: nothing yet in this pass. */
value build_kept(const build_context *b, const void *key);
void build_keep(const build_context *b, const void *key, value v);
/* v with `rows` rows. Rows are matched by what their tokens are: class and other tokens in front, those that the
 * adapter inserted, patches. Inserted ones that v has not are zeros. */
value build_align(const build_context *b, value v, int64_t rows);
/* The row in front of which an adapter inserts tokens: behind the class token where there is one. */
int64_t inserted_row(const backbone_shape *shape);

/* Editing backbone weights in f32 by canonical name: for folding. Returns NULL (and sets the error) when there is no
 * such tensor. */
typedef struct fold_target {
    void *context;
    float *(*weight)(void *context, const char *name, int64_t *rows, int64_t *columns, inlay_error *err);
    float *(*bias)(void *context, const char *name, int64_t count, inlay_error *err);
} fold_target;

/* A forward pass of a training step: what its graph gave, and the head's answer. Passes differ in what they draw. */
typedef struct pass_result {
    build_result of;
    value outputs;
} pass_result;

/* What a training step is held against. */
typedef struct training_target {
    const task_desc *task;
    value targets;
    double smoothing; /* of labels */
} training_target;

typedef struct method {
    const char *name;
    const char *summary;  /* one line */
    const char *equation; /* what it computes */
    const char *cite;     /* where it comes from */
    const option_spec *options;
    const option_need *needs; /* options that are read beside certain values of others only; NULL: none */
    const char *recipe;       /* how it is trained by default: a row of train/recipes.def */
    inlay_status (*plan)(adapter *a, inlay_error *err);
    inlay_status (*fold)(const adapter *a, const fold_target *target,
                         inlay_error *err); /* NULL: cannot be written into the weights */
    int passes;                             /* forward passes of a training step; 0: one */
    /* The loss of a training step over its passes; NULL: the task's loss of the first. */
    value (*loss)(const adapter *a, graph *g, const pass_result *passes, const training_target *t);
    /* What is evaluated and saved in place of what was trained: a plain adapter with the trained values' merge. NULL:
     * what was trained itself. */
    inlay_status (*conclude)(adapter **out, const adapter *a, device *d, inlay_error *err);
    bool (*unfinished)(
        const adapter *a); /* whether it is what was trained, which draws and so cannot answer; NULL: never */
} method;

/* Another set of defaults for a method, by name. `cite` names every source whose values are in it. */
typedef struct preset {
    const char *name, *method;
    const char *settings; /* "position=post scaling=channel" */
    const char *summary, *cite;
    const char *recipe; /* NULL: the method's */
} preset;

extern const method *const method_table[]; /* ended by NULL */
extern const preset preset_table[];        /* ended by name == NULL */

/* The method of that name or of the preset of that name (*p then, else NULL); NULL: unknown. */
const method *method_find(const char *name, const preset **p);

/* A parameter of an adapter. Only what declares it writes here. */
typedef struct adapter_param {
    param *p;
    init_rule init;
    bool of_backbone;    /* it stands in place of a weight of the backbone */
    bool fixed;          /* saved with the adapter, but never trained */
    uint32_t stream;     /* of its initial values: parameters with the same stream begin equal */
    const double *begin; /* [count] its initial values, in place of `init`; NULL: none */
    mask_rule mask;
    unsigned char *drawn;    /* [count] on the device, 0: that value is never trained; NULL: all are */
    double peak_lr;          /* a learning rate of its own, on the run's schedule; 0: the run's */
    const param *stands_for; /* of_backbone: the weight that it stands in place of */
} adapter_param;

struct adapter {
    arena *memory;
    const method *method;
    const char *name; /* method or preset, as the user named it */
    options *settings;
    backbone *backbone;
    const backbone_shape *shape;
    struct adapter_declared *declared; /* parameters, edges and transforms: adapter_impl.h */
    const task_desc *task;             /* adapter_new: the first of the table; whoever knows of another one sets it */
    param *head_weight, *head_bias;
    int64_t outputs;     /* of its head: classes, or numbers */
    const char **labels; /* [outputs] */
    tensor_set *file;    /* a loaded adapter's values */
    bool trainable;
    int passes;       /* forward passes of a training step: the method's, or what plan() made of them */
    bool *layers;     /* [depth] whether there are adapters in that layer */
    int64_t *ranks;   /* [depth] of the methods that have the option `rank` */
    bool drop_random; /* each training step draws from how many layers, drop_low to drop_high, from below it leaves the
                         adapters out */
    int drop_low, drop_high;
    adapter **parts; /* given adapters that it is made of: owned, saved with it, never trained */
    int part_count, part_capacity;
};

/* A fresh adapter for `backbone` with a head of `outputs` rows. `settings` (owned by the adapter from here on) holds
 * the method's options. Parameters are trainable and get their initial values from `seed` when adapter_initialise is
 * called. */
inlay_status adapter_new(adapter **out, const char *name, options *settings, backbone *b, int64_t outputs,
                         const char *const *labels, inlay_error *err);
void adapter_free(adapter *a, const device *d); /* NULL accepted */
/* The parameter that was declared after `last`, the first one after NULL; NULL: there are no more. They are those that
 * the adapter is saved with, its head's at the end. Not while any is added. */
const adapter_param *adapter_each_param(const adapter *a, const adapter_param *last);
/* The parameter of that name; NULL: there is none. */
param *adapter_find(const adapter *a, const char *name);
/* Whether it does anything at the sites: beside its head, and weights of the backbone that it trains. */
bool adapter_acts(const adapter *a);
/* The graph_override of an adapter: what stands in place of a weight of its backbone, else the weight itself. */
param *adapter_stand_in(const void *a, param *p);
/* The mask of a parameter that was drawn, or NULL. */
const unsigned char *adapter_drawn_mask(const adapter *a, const param *p);
inlay_status adapter_initialise(adapter *a, device *d, uint64_t seed, inlay_error *err);
/* A table of the method's options with the preset's defaults set; unknown name: an error that lists the known ones. */
inlay_status adapter_settings(options **out, const char *name, inlay_error *err);

int64_t adapter_param_total(const adapter *a, bool with_head);
int64_t adapter_trained_total(const adapter *a, bool with_head); /* without what masks leave out and what is fixed */
/* What listens at the sites while the backbone is built for this adapter; lives in the graph's memory. Adapters of
 * layers below `skip_layers` are left out, and of those that `skipped` [depth] has (NULL: none). Of an adapter that
 * feeds back, `before` is what listened in the pass before; NULL: this is the first, or the only one. */
site_hooks *adapter_hooks(const adapter *a, graph *g, bool training, int skip_layers, const bool *skipped,
                          const site_hooks *before);
/* Whether it has edges that feed back. */
bool adapter_feeds_back(const adapter *a);
/* chosen [depth] = what "all", "none" or a list of layers says, "0,2,5-11"; errors name the option. */
inlay_status layers_read(const char *option, const char *text, int64_t depth, bool *chosen, inlay_error *err);
/* Whether layers of it can be left out: all that it does is done by edges. */
bool adapter_can_skip(const adapter *a);
/* What is evaluated and saved: what the method concludes with, or `a` itself. Free with adapter_free when it is not
 * `a`. */
inlay_status adapter_conclude(adapter **out, adapter *a, device *d, inlay_error *err);

/* For methods: */
/* Fills layers, ranks and what is dropped from the options; adapter_new did so before it called plan(). */
inlay_status adapter_read_layers(adapter *a, inlay_error *err);
/* Adds a parameter of the adapter's own, which is trained. */
param *adapter_add_param(adapter *a, const char *name, int ndim, const int64_t *dims, init_rule init);
/* Makes `p` begin with the values of `other`, a parameter of the same shape and rule. */
void adapter_begin_as(adapter *a, const param *p, const param *other);
/* Makes `p` begin with these values [count], kept by the caller. */
void adapter_begin_with(adapter *a, const param *p, const double *values);
/* Makes `p` one that is saved, but not trained: a part that another run made. `values` [count], f32, are kept by the
 * caller. */
void adapter_fix(adapter *a, param *p, const float *values);
/* Takes `part`, an adapter for the same backbone, over: it is freed with `a`. */
void adapter_add_part(adapter *a, adapter *part);
/* Lists part n's parameters among a's, all but its head, as "parts.n.<name>": they are saved with `a` and never
 * trained. Those of layers that `layers` [depth] has false are left out: nothing may read them then. */
void adapter_list_part(adapter *a, int n, const bool *layers);
void adapter_mask(adapter *a, const param *p, mask_rule rule);
/* Gives `p` a learning rate of its own, on the schedule of the run. */
void adapter_peak_lr(adapter *a, const param *p, double lr);
/* A parameter that stands for one of `count`, drawn for each step and pass; those with the same `draw` draw
 * together. */
param *adapter_choose(adapter *a, param *const *of, int count, uint32_t draw);
/* An edge: to += function(from). Where `from` lies behind `to` in the order of the forward pass, the adapter feeds
 * back: the model runs twice, first without such edges, and they read the first pass (Nowak et al., arXiv 2410.15858,
 * whose second pass is read so; what lies below the first such target is computed once). */
void adapter_add_edge(adapter *a, site from, site to, adapter_function function, const void *context);
/* A transform: at = function(at). Those of a site come before its edges. */
void adapter_add_transform(adapter *a, site at, adapter_function function, const void *context);
/* Makes every weight of the backbone's encoder (not its head) in a->layers whose name contains `part` trainable; "" is
 * all. What is in front of the blocks goes with the first layer, what is behind them with the last. */
void adapter_unfreeze(adapter *a, const char *part);
/* Makes the one weight of the backbone of that name trainable, as adapter_unfreeze does; nothing happens where the
 * checkpoint has none. */
void adapter_unfreeze_whole(adapter *a, const char *name);
/* A fresh plain adapter for merging into, with every value on the device: the same backbone, task, labels and head as
 * `a`. Options named in `same` (ended by NULL) are a's; `settings` gives others (name, text; ended by NULL; may be
 * NULL). */
inlay_status adapter_plain(adapter **out, const adapter *a, const char *name, const char *const *same,
                           const char *const (*settings)[2], device *d, inlay_error *err);
/* Sets `to` to factor times the sum of `count` parameters. */
inlay_status adapter_average(param *to, param *const *from, int count, double factor, device *d, inlay_error *err);

/* ---- on disk: adapter.safetensors and adapter.json ---- */

/* The text of one option of a saved adapter of that method, as it would be given on the command line. */
inlay_status adapter_read_option(const char *folder, const char *method_name, const char *option, char *out,
                                 size_t room, inlay_error *err);

/* Everything that a loaded adapter needs beside its weights. `record`: a json_t * object with the training's figures,
 * may be NULL. `preprocessing`: a json_t *, how images are brought to the backbone. */
inlay_status adapter_save(const adapter *a, const device *d, const char *folder, const void *preprocessing,
                          const void *record, inlay_error *err);
/* Opens a folder for inference: weights are frozen views of the file. Refuses an adapter that was trained on another
 * backbone (by sha256), unless `insist`. *preprocessing (a json_t *, owned by the caller) may be NULL. */
inlay_status adapter_load(adapter **out, const char *folder, backbone *b, bool insist, void **preprocessing,
                          inlay_error *err);

#endif
