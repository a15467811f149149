/* Charts as SVG: lines, points and bands over axes with round numbers, in one panel or two.
 *
 * A chart is a picture of its own, for paper (grey tells the series apart by dashes and markers), for light and dark
 * screens, and for narrow ones, on which its text is larger. The same chart gives the same bytes, whatever the locale.
 * Texts are escaped; what XML cannot hold in them (control characters, bytes that are not UTF-8) becomes U+FFFD. */
#ifndef INLAY_FORMATS_PLOT_H
#define INLAY_FORMATS_PLOT_H

#include <stddef.h>

#include "formats/plot_ticks.h"
#include "base/status.h"

typedef struct plot_axis {
    const char *label; /* NULL: none. A vertical axis has it on top, where it is the panel's title */
    bool logarithmic;  /* what is not positive is not drawn */
    bool whole;        /* only whole numbers are marked */
    double low, high;  /* the axis shows these at least; as long as low < high */
} plot_axis;

/* PLOT_LINE joins neighbours; PLOT_POINTS is markers alone; PLOT_RINGS goes around points of another series. */
typedef enum plot_kind { PLOT_LINE, PLOT_POINTS, PLOT_RINGS } plot_kind;

enum { PLOT_STYLES = 6, PLOT_PANELS = 2 };

typedef struct plot_series {
    const char *name; /* in the legend; NULL: not there */
    plot_kind kind;
    int style;       /* colour, dashes and marker: below PLOT_STYLES; the same for what is the same in two panels */
    bool markers;    /* of a line: at its points, as far as they do not touch */
    int count;       /* a line with more points than the picture has room for is drawn by their extremes */
    const double *x; /* [count] */
    const double *y; /* [count]; NaN, an infinity or a size over PLOT_LARGEST is a gap, in x as well */
    const double *low, *high; /* [count], the ends of a band around a line; both NULL: none */
} plot_series;

typedef struct plot_panel {
    plot_axis x, y;
    const plot_series *series;
    int series_count;
} plot_panel;

typedef struct plot {
    const char *title;       /* above it, in bold; wrapped at spaces */
    const char *caption;     /* below it, wrapped; NULL: none */
    const char *description; /* for who cannot see it; NULL: the caption */
    plot_panel panels[PLOT_PANELS];
    int panel_count; /* 1 or 2 */
    bool stacked;    /* two panels stand one above the other, in a picture that is as wide as one of them */
} plot;

/* *out: the document, *size bytes and a NUL, freed with free(). Fails where there is no memory. */
inlay_status plot_svg(char **out, size_t *size, const plot *p, inlay_error *err);
/* The document as a file of the program's own: a reader sees the old one or the new one, and a link is replaced. */
inlay_status plot_write(const plot *p, const char *path, inlay_error *err);

#endif
