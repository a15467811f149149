/* Which kernel set this process runs on, and which precision it is faster in. */
#ifndef INLAY_KERNELS_CHOICE_H
#define INLAY_KERNELS_CHOICE_H

#include "kernels/kernels.h"

/* The fastest set that this process can run, or the one that INLAY_ISA names; an unknown name, or one of a set that
 * cannot run here, is an error that lists the choices. */
inlay_status kernels_choose(const kernels **out, inlay_error *err);

/* Why kernels_choose passes over set i unless it is asked for it, a clause; NULL: it does not. */
const char *kernels_passed_over(int i);

/* Whether products with bf16 weights are faster than those with f32 weights on this set, and why it is thought so:
 * `why`, a clause. The set's own fact where it has one; else what is known of the processor; else a short measurement
 * of both, of which bf16 has to win clearly. The same in every call of a process. */
bool kernels_prefer_bf16(const kernels *k, const char **why);

#endif
