/* Kernel sets that lie over another one: each function gets a copy of the row beneath and replaces what the set does
 * better. */
#ifndef INLAY_KERNELS_OVERLAYS_OVERLAYS_H
#define INLAY_KERNELS_OVERLAYS_OVERLAYS_H

#include "kernels/kernels.h"

void overlay_amx(kernels *k), overlay_amxemulated(kernels *k); /* over avx512bf16 */
void overlay_avx512vnni(kernels *k);                           /* over avx512 */

#endif
