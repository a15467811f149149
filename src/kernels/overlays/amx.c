/* AMX: tiles for products with bf16 and int8 weights and for attention, over avx512bf16, whose rounding to bf16 and
 * other kernels it keeps. Its products of bf16 sum in an order of their own (tiles/tile.h); those of bytes are exact.
 *
 * Compiled once for the processor's tiles and once for their emulation, which has the same bits on every processor that
 * runs avx512bf16: for tests, and to reproduce what was trained on tiles. */
#include "kernels/tiles/tile.h"

#include "kernels/isa/gemm_kernel.h"
#include "kernels/overlays/overlays.h"

static void take_tiles(kernels *k, const char *name)
{
    k->name = name;
    k->bf16 = PACE_FASTER; /* of the emulation, too: it reproduces what was chosen on tiles */
    k->attention = KERNEL(attention);
    k->attention_backward = KERNEL(attention_backward);
    k->micro_kernels[MICRO_KERNEL_BF16] = &KERNEL(micro_bf16);
    k->micro_kernels[MICRO_KERNEL_INT8] = &KERNEL(micro_int8);
}

#if defined(TILES_EMULATED)

void overlay_amxemulated(kernels *k)
{
    take_tiles(k, "amx-emulated");
    k->on_request = true;
}

#else

static const char *(*beneath)(void);

static const char *refused(void)
{
    const char *why = beneath();

    return why ? why : tiles_refused();
}

void overlay_amx(kernels *k)
{
    beneath = k->refused;
    take_tiles(k, "amx");
    k->refused = refused;
    k->begin = tiles_begin;
    k->end = tiles_end;
}

#endif
