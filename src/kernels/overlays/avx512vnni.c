/* AVX-512 with one instruction for sums of products of bytes (VNNI) and without products of bf16 pairs: Cascade Lake,
 * Ice Lake and others. It has its own micro-kernel for int8 weights. Sums of bytes are exact: its bits are those of
 * avx512. */
#include "kernels/isa/gemm_kernel.h"
#include "kernels/overlays/overlays.h"

static const char *(*beneath)(void);

static const char *refused(void)
{
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx512vnni") ? beneath() : "the processor has no products of bytes (AVX512-VNNI)";
}

void overlay_avx512vnni(kernels *k)
{
    beneath = k->refused;
    k->name = "avx512vnni";
    k->refused = refused;
    k->micro_kernels[MICRO_KERNEL_INT8] = &KERNEL(micro_int8);
}
