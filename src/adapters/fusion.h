/* AdapterFusion: what pruning asks of it. */
#ifndef INLAY_ADAPTERS_FUSION_H
#define INLAY_ADAPTERS_FUSION_H

#include "adapters/adapter.h"

#define FUSION_MARK "fusion weights" /* name of the marked attention over the parts, one column for each */

bool adapter_is_fusion(const adapter *a);
/* The parts that are mixed in a layer, in ascending order, as the columns of its attention are; returns how many, 0:
 * nothing is mixed there. */
int fusion_parts(const adapter *a, int layer, const int **parts);

#endif
