#include "formats/plot_ticks.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NEAR 1e-6    /* of a step and of the axis: what lies so near to a tick is on it */
#define APART 1e-6   /* of the larger end: on a shorter axis ticks would differ in their last digits alone */
#define PLAIN_ROOM 7 /* characters that may be taken where another form is shorter */
#define MOST_DIGITS 12
#define NOTHING 1e-290 /* an axis of this length has no steps that are numbers */

static const int mantissas[] = {1, 2, 5};

static double value_of(int64_t digits, int exponent)
{
    return exponent < 0 ? (double)digits / pow(10, -exponent) : (double)digits * pow(10, exponent);
}

static void add(plot_ticks *t, int64_t digits, int exponent)
{
    if (t->count == PLOT_MOST_TICKS)
        return;
    t->at[t->count].digits = digits;
    t->at[t->count].exponent = exponent;
    t->at[t->count++].value = value_of(digits, exponent);
}

/* ---- texts ---- */

/* False: there is no room for all of the digits. */
static bool write_plain(char out[PLOT_TICK_TEXT], int64_t digits, int exponent)
{
    char number[24], *at = out;
    int length = snprintf(number, sizeof number, "%" PRId64, digits < 0 ? -digits : digits), before = length + exponent;

    if (digits == 0 && exponent > 0)
        exponent = 0;
    if (exponent > MOST_DIGITS || exponent < -MOST_DIGITS || length > MOST_DIGITS)
        return false;
    if (digits < 0)
        *at++ = '-';
    if (exponent >= 0) {
        snprintf(at, PLOT_TICK_TEXT - 1, "%s%.*s", number, exponent, "000000000000");
        return true;
    }
    if (before > 0)
        snprintf(at, PLOT_TICK_TEXT - 1, "%.*s.%s", before, number, number + before);
    else
        snprintf(at, PLOT_TICK_TEXT - 1, "0.%.*s%s", -before, "000000000000", number);
    return true;
}

static void write_scientific(char out[PLOT_TICK_TEXT], int64_t digits, int exponent)
{
    char number[24];
    int length;

    if (digits == 0) {
        snprintf(out, PLOT_TICK_TEXT, "0");
        return;
    }
    for (; digits % 10 == 0; exponent++)
        digits /= 10;
    length = snprintf(number, sizeof number, "%" PRId64, digits < 0 ? -digits : digits);
    snprintf(out, PLOT_TICK_TEXT, "%s%c%s%se%d", digits < 0 ? "-" : "", number[0], length > 1 ? "." : "", number + 1,
             exponent + length - 1);
}

/* Plain digits, unless there are many of them and powers of ten are shorter. */
static void write_texts(plot_ticks *t)
{
    char plain[PLOT_MOST_TICKS][PLOT_TICK_TEXT];
    size_t longest = 0, longest_plain = 0;
    bool all = true;

    for (int i = 0; i < t->count; i++) {
        write_scientific(t->at[i].text, t->at[i].digits, t->at[i].exponent);
        all = all && write_plain(plain[i], t->at[i].digits, t->at[i].exponent);
        if (all && strlen(plain[i]) > longest_plain)
            longest_plain = strlen(plain[i]);
        if (strlen(t->at[i].text) > longest)
            longest = strlen(t->at[i].text);
    }
    if (all && (longest_plain <= PLAIN_ROOM || longest_plain <= longest))
        for (int i = 0; i < t->count; i++)
            memcpy(t->at[i].text, plain[i], PLOT_TICK_TEXT);
}

/* ---- linear ---- */

static void widen(double *low, double *high)
{
    double size = fmax(fabs(*low), fabs(*high));

    if (*high - *low >= NOTHING && *high - *low >= size * APART)
        return;
    if (size < NOTHING) {
        *low = 0;
        *high = 1;
    } else {
        *low -= size / 2;
        *high += size / 2;
    }
}

/* The smallest round step of which `most` reach over `span`. */
static void choose_step(double span, int most, bool whole, int *mantissa, int *exponent)
{
    double least = span / most;
    int power = (int)floor(log10(least)) - 1;

    for (;; power++)
        for (int i = 0; i < 3; i++)
            if ((power >= 0 || !whole) && value_of(mantissas[i], power) >= least * (1 - NEAR)) {
                *mantissa = mantissas[i];
                *exponent = power;
                return;
            }
}

static void linear(plot_ticks *t, const plot_range *r)
{
    double low = r->low, high = r->high, step, near;
    int64_t first, last;
    int mantissa, exponent;

    if (!(low <= high)) {
        low = 0;
        high = 1;
    }
    widen(&low, &high);
    choose_step(high - low, r->most, r->whole, &mantissa, &exponent);
    step = value_of(mantissa, exponent);
    near = NEAR * fmin(1, (high - low) / step);
    first = (int64_t)(r->round ? floor(low / step + near) : ceil(low / step - near));
    last = (int64_t)(r->round ? ceil(high / step - near) : floor(high / step + near));
    for (int64_t i = first; i <= last; i++)
        add(t, i * mantissa, exponent);
    t->low = r->round ? fmin(low, t->at[0].value) : low;
    t->high = r->round ? fmax(high, t->at[t->count - 1].value) : high;
}

/* ---- logarithmic ---- */

/* The numbers 1, 2, 5, 10, 20, ... by their place in that list, 1 being the 0th. */
static int mantissa_of(int place)
{
    return mantissas[(place % 3 + 3) % 3];
}

static int decade_of(int place)
{
    return place >= 0 ? place / 3 : -((2 - place) / 3);
}

static double number_at(int place)
{
    return value_of(mantissa_of(place), decade_of(place));
}

static void logarithmic(plot_ticks *t, const plot_range *r)
{
    double low = r->low > 0 && r->low <= r->high ? r->low : 1, high = r->low > 0 && r->low <= r->high ? r->high : 10;
    int first = 3 * (int)floor(log10(low)) + 3, last = 3 * (int)floor(log10(high)) - 1, stride;

    while (number_at(first) > low * (1 + APART))
        first--;
    while (number_at(last) < high * (1 - APART))
        last++;
    if (last == first)
        last++;
    if (last - first <= r->most) {
        for (int i = first; i <= last; i++)
            add(t, mantissa_of(i), decade_of(i));
    } else {
        first = decade_of(first);
        last = decade_of(last + 2);
        stride = (last - first + r->most - 1) / r->most;
        for (int i = first; i < last + stride; i += stride)
            add(t, 1, i);
    }
    t->low = fmin(low, t->at[0].value);
    t->high = fmax(high, t->at[t->count - 1].value);
}

void plot_ticks_over(plot_ticks *t, const plot_range *r)
{
    *t = (plot_ticks){.logarithmic = r->logarithmic};
    if (r->logarithmic)
        logarithmic(t, r);
    else
        linear(t, r);
    write_texts(t);
}

double plot_ticks_place(const plot_ticks *t, double value)
{
    if (t->logarithmic)
        return log10(value / t->low) / log10(t->high / t->low);
    return (value - t->low) / (t->high - t->low);
}
