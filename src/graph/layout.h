/* Laying out buffers with known lifetimes in one block of memory. */
#ifndef INLAY_GRAPH_LAYOUT_H
#define INLAY_GRAPH_LAYOUT_H

#include <stddef.h>

typedef struct layout_buffer {
    size_t size;
    int start, end; /* first and last moment of use, from 0 on, inclusive; end < start: not used */
    size_t offset;  /* result, a multiple of 64 */
} layout_buffer;

/* Gives every buffer an offset such that no two that live at the same moment overlap; returns the size of the block.
 * Largest first, each at the lowest free place (greedy by size: Pisarchyk and Lee, "Efficient memory management for
 * deep neural net inference", 2020). Takes n log n steps for n buffers where each is in use together with few others,
 * besides such as are in use all the time; n * n short ones otherwise. */
size_t layout_assign(layout_buffer *buffers, int count);

#endif
