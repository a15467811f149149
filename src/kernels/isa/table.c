/* The row of this kernel set in the device table. */
#if defined(__linux__)
#define _DEFAULT_SOURCE /* madvise */
#include <sys/mman.h>
#endif
#include <stdlib.h>

#include "kernels/isa/gemm_kernel.h"

static const char *refused(void)
{
#if !defined(KERNEL_SIMDE) && (defined(KERNEL_AVX2) || defined(KERNEL_AVX512))
    __builtin_cpu_init();
#if defined(KERNEL_BF16)
    if (!__builtin_cpu_supports("avx512bf16"))
        return "the processor has no products of bf16 pairs (AVX512-BF16)";
#endif
#if defined(KERNEL_VNNI)
    if (!__builtin_cpu_supports("avx512vnni"))
        return "the processor has no products of bytes (AVX512-VNNI)";
#endif
#if defined(KERNEL_AVX512)
    if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
        !__builtin_cpu_supports("avx512dq") || !__builtin_cpu_supports("avx512vl"))
        return "the processor has no AVX-512 (F, BW, DQ, VL)";
#endif
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma"))
        return "the processor has no AVX2 with FMA";
#endif
    return NULL;
}

#define LARGE_PAGE ((size_t)2 << 20)

/* Activations are walked from end to end; in large pages, where the system has them, that costs far fewer translations
 * of addresses. */
static void *host_alloc(size_t size)
{
    size_t unit = size >= 2 * LARGE_PAGE ? LARGE_PAGE : 64, rounded = (size + unit - 1) & ~(unit - 1);
    void *block = rounded < size ? NULL : aligned_alloc(unit, rounded ? rounded : unit);

#if defined(MADV_HUGEPAGE)
    if (block && unit == LARGE_PAGE)
        (void)madvise(block, rounded, MADV_HUGEPAGE);
#endif
    if (block)
        memset(block, 0, rounded);
    return block;
}

static void host_release(void *block)
{
    free(block);
}

static void host_copy(void *to, const void *from, size_t size)
{
    memcpy(to, from, size);
}

static void host_zero(void *block, size_t size)
{
    memset(block, 0, size);
}

#define STRING_(text) #text
#define STRING(text) STRING_(text)

const kernels KERNEL(kernels) = {
    .name = STRING(KERNEL_SET),
    .limits = {.width = 16384,
               .tokens = 4096,
               .head_dim = 128,
               .bottleneck_rank = BOTTLENECK_RANK,
               .bottleneck_width = BOTTLENECK_WIDTH,
               .slice_rows = 1536,
               .part_bytes = (size_t)768 << 10},
#if defined(KERNEL_BF16)
    .bf16 =
        PACE_UNKNOWN, /* products of bf16 pairs run at twice the rate of f32 on some processors, at half on others */
#else
    .bf16 = PACE_SLOWER,
#endif
    .host_memory = true,
    .real = REAL_TYPE,
    .refused = refused,
    .alloc = host_alloc,
    .release = host_release,
    .copy_in = host_copy,
    .copy_out = host_copy,
    .zero = host_zero,
    .scratch_size = SCRATCH_SIZE,
    .micro_kernels = {[MICRO_KERNEL_REAL] = &KERNEL(micro_real),
                      [MICRO_KERNEL_BF16] = &KERNEL(micro_bf16),
                      [MICRO_KERNEL_INT8] = &KERNEL(micro_int8)},
    .quantised_stride = KERNEL(quantised_stride),
    .pack_size = KERNEL(pack_size),
    .unpack = KERNEL(unpack),
    .peak = KERNEL(peak),
#define X(name, parameters, arguments) .name = KERNEL(name),
#include "kernels/kernels.def"
#undef X
};
