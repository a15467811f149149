#include "kernels/kernels.h"

#include <pthread.h>
#include <string.h>

#include "kernels/overlays/overlays.h"

extern const kernels kernels_portable;
extern const kernels kernels_avx2, kernels_avx512, kernels_avx512bf16; /* those that the build has */

/* The table of kernel sets, fastest first, and behind them those that are chosen by name only. A set is complete, or
 * lies over another one: it begins as a copy of that, and `overlay` replaces what it does better. */
typedef struct set_row {
    const kernels *complete;
    const kernels *under;
    void (*overlay)(kernels *k);
} set_row;

static const set_row set_table[] = {
#if defined(KERNELS_amx)
    {.under = &kernels_avx512bf16, .overlay = overlay_amx},
#endif
#if defined(KERNELS_avx512bf16)
    {.complete = &kernels_avx512bf16},
#endif
#if defined(KERNELS_avx512vnni)
    {.under = &kernels_avx512, .overlay = overlay_avx512vnni},
#endif
#if defined(KERNELS_avx512)
    {.complete = &kernels_avx512},
#endif
#if defined(KERNELS_avx2)
    {.complete = &kernels_avx2},
#endif
    {.complete = &kernels_portable},
#if defined(KERNELS_amxemulated)
    {.under = &kernels_avx512bf16, .overlay = overlay_amxemulated},
#endif
};

#define SET_COUNT ((int)(sizeof set_table / sizeof *set_table))

static kernels overlaid[SET_COUNT];

static void lay_over(void)
{
    for (int i = 0; i < SET_COUNT; i++)
        if (set_table[i].overlay) {
            overlaid[i] = *set_table[i].under;
            set_table[i].overlay(&overlaid[i]);
        }
}

const kernels *kernels_set(int i)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    if (i >= SET_COUNT)
        return NULL;
    pthread_once(&once, lay_over);
    return set_table[i].complete ? set_table[i].complete : &overlaid[i];
}

static const char *const activation_names[ACT_COUNT] = {"none", "relu", "gelu",    "gelu_tanh",
                                                        "silu", "tanh", "sigmoid", "quick_gelu"};

const char *activation_name(activation act)
{
    return activation_names[act];
}

bool activation_from_name(const char *name, activation *act)
{
    static const struct {
        const char *name;
        activation act;
    } aliases[] = {{"gelu_new", ACT_GELU_TANH},
                   {"gelu_pytorch_tanh", ACT_GELU_TANH},
                   {"swish", ACT_SILU},
                   {"identity", ACT_NONE},
                   {"linear", ACT_NONE}};

    for (int i = 0; i < ACT_COUNT; i++)
        if (strcmp(name, activation_names[i]) == 0) {
            *act = (activation)i;
            return true;
        }
    for (size_t i = 0; i < sizeof aliases / sizeof *aliases; i++)
        if (strcmp(name, aliases[i].name) == 0) {
            *act = aliases[i].act;
            return true;
        }
    return false;
}

const kernel_limits *kernels_limits(void)
{
    return &kernels_portable.limits;
}

const char *kernels_lack(const kernels *k, kernel_set wanted)
{
#define X(name, parameters, arguments)       \
    if ((wanted & USES(name)) && !(k)->name) \
        return #name;
#include "kernels/kernels.def"
#undef X
    return NULL;
}

typedef struct surrounded {
    const compute *c;
    pool_fn task;
    void *argument;
} surrounded;

static void run_surrounded(void *argument, int thread, int threads)
{
    const surrounded *s = argument;

    if (s->c->begin)
        s->c->begin();
    s->task(s->argument, thread, threads);
    if (s->c->end)
        s->c->end();
}

void compute_run(compute *c, pool_fn task, void *argument)
{
    if (c->begin || c->end)
        pool_run(c->threads, run_surrounded, &(surrounded){c, task, argument});
    else
        pool_run(c->threads, task, argument);
}
