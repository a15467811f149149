/* The kernels of one set; see kernels.h for what each computes. */
#ifndef INLAY_KERNELS_ISA_ISA_H
#define INLAY_KERNELS_ISA_ISA_H

#include "kernels/isa/vec.h"

/* Scratch memory for each thread. The product keeps its packed left operand in the first part and transposed weights in
 * the rest. */
#define SCRATCH_SIZE ((size_t)14 * (sizeof(REAL) / sizeof(float)) << 20)

size_t KERNEL(pack_size)(int64_t n, int64_t k, dtype type);
void KERNEL(pack)(compute *c, packed *out, const void *w, dtype w_type);
void KERNEL(unpack)(float *w, const packed *in);
void KERNEL(gemm)(compute *c, const gemm_args *args);
void KERNEL(gemm_outer)(compute *c, const gemm_outer_args *args);
void KERNEL(apply_prologue)(compute *c, const mat *y, const mat *x, const gemm_prologue *in);
double KERNEL(peak)(compute *c, dtype type, int64_t rounds);
void KERNEL(bottleneck)(compute *c, const bottleneck_args *args);
void KERNEL(bottleneck_backward)(compute *c, const bottleneck_args *args);
void KERNEL(layernorm)(compute *c, const layernorm_args *args);
void KERNEL(layernorm_backward)(compute *c, const layernorm_args *args);
void KERNEL(attention)(compute *c, const attention_args *args);
void KERNEL(attention_backward)(compute *c, const attention_args *args);
void KERNEL(map)(compute *c, const map_args *args);
void KERNEL(map_backward)(compute *c, const map_args *args);
void KERNEL(affine)(compute *c, const affine_args *args);
void KERNEL(affine_backward)(compute *c, const affine_args *args);
void KERNEL(add)(compute *c, const add_args *args);
void KERNEL(dropout)(compute *c, const dropout_args *args);
void KERNEL(column_sum)(compute *c, const column_sum_args *args);
void KERNEL(copy_rows)(compute *c, const copy_rows_args *args);
void KERNEL(mean_rows)(compute *c, const mean_rows_args *args);
void KERNEL(patchify)(compute *c, const mat *y, const patch_rows *x);
void KERNEL(cross_entropy)(compute *c, const cross_entropy_args *args);
void KERNEL(consistency)(compute *c, const consistency_args *args);
void KERNEL(distance)(compute *c, const distance_args *args);
void KERNEL(rational)(compute *c, const rational_args *args);
void KERNEL(rational_backward)(compute *c, const rational_args *args);
void KERNEL(gate)(compute *c, const gate_args *args);
void KERNEL(gate_backward)(compute *c, const gate_args *args);
void KERNEL(mix)(compute *c, const mix_args *args);
void KERNEL(mix_backward)(compute *c, const mix_args *args);
void KERNEL(adamw)(compute *c, const adamw_args *args, int count);
void KERNEL(sgd)(compute *c, const sgd_args *args, int count);
void KERNEL(square_sums)(compute *c, double *sums, const gradient_args *args, int count);
void KERNEL(scale_gradients)(compute *c, const gradient_args *args, int count);

/* Row r of the patches, made in a room for it that patch_room prepared: there until the next one is made. */
void KERNEL(patch_room)(REAL *room, const patch_rows *x);
const REAL *KERNEL(patch_row)(const patch_rows *x, int64_t r, REAL *room);

#endif
