/* The kernels of one set; see kernels.h for what each computes. */
#ifndef INLAY_KERNELS_ISA_ISA_H
#define INLAY_KERNELS_ISA_ISA_H

#include "kernels/isa/vec.h"

/* Scratch memory for each thread. The product keeps its packed left operand in the first part and transposed weights in
 * the rest. */
#define SCRATCH_SIZE ((size_t)14 * (sizeof(REAL) / sizeof(float)) << 20)

static inline int64_t ceil_div(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

int64_t KERNEL(quantised_stride)(int64_t cols);
size_t KERNEL(pack_size)(const kernels *set, int64_t n, int64_t k, dtype type);
void KERNEL(unpack)(const compute *c, float *w, const packed *in);
double KERNEL(peak)(compute *c, dtype type, int64_t rounds);
/* NOLINTNEXTLINE(bugprone-macro-parentheses): a declarator */
#define X(name, parameters, arguments) void KERNEL(name) parameters;
#include "kernels/kernels.def"
#undef X
#if defined(KERNEL_UNDER)
/* NOLINTNEXTLINE(bugprone-macro-parentheses): a declarator */
#define X(name, parameters, arguments) void BASE(name) parameters;
#include "kernels/kernels.def"
#undef X
#endif

/* Row r of the patches, made in a room for it that patch_room prepared: there until the next one is made. */
void BASE(patch_room)(REAL *room, const patch_rows *x);
const REAL *BASE(patch_row)(const patch_rows *x, int64_t r, REAL *room);

#endif
