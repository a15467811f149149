/* Round numbers along an axis: steps of 1, 2 or 5 times a power of ten. */
#ifndef INLAY_FORMATS_PLOT_TICKS_H
#define INLAY_FORMATS_PLOT_TICKS_H

#include <stdbool.h>
#include <stdint.h>

#define PLOT_MOST_TICKS 16
#define PLOT_LARGEST 1e290 /* a value beyond is not drawn: the length of an axis stays a number */

enum { PLOT_TICK_TEXT = 64 };

typedef struct plot_ticks {
    double low, high; /* the ends of the axis; low < high */
    bool logarithmic;
    int count; /* at most PLOT_MOST_TICKS; ascending */
    struct {
        int64_t digits; /* the value is digits * 10^exponent, exactly */
        int exponent;
        double value;
        char text[PLOT_TICK_TEXT]; /* "0.25", "40"; all of an axis "2e-9" where that is shorter and 7 characters too few
                                    */
    } at[PLOT_MOST_TICKS];
} plot_ticks;

typedef struct plot_range {
    double low, high; /* of the values; low > high, or either NaN: there are none */
    int most;         /* about how many steps, 1 to 12 */
    bool round;       /* the axis ends at ticks, outside of the values; else at the values */
    bool whole;       /* only whole numbers have ticks; of linear axes */
    bool logarithmic; /* the values are positive, and the axis is round */
} plot_range;

/* Values that are one, or differ by less than a millionth, stand in the middle of an axis. No values: 0 to 1, on
 * a logarithmic axis 1 to 10. */
void plot_ticks_over(plot_ticks *t, const plot_range *r);
/* Where on the axis a value lies: 0 at its low end, 1 at its high end. */
double plot_ticks_place(const plot_ticks *t, double value);

#endif
