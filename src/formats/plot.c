#define _GNU_SOURCE
#include "formats/plot.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/text.h"

/* All lengths are pixels of a picture that is shown in its own size. */
#define ONE_WIDE 480
#define TWO_WIDE 760
#define NARROW 560 /* a picture of two panels that is shown no wider than this has larger text */
#define PLOT_HIGH 230
#define EDGE 14
#define SWATCH 30 /* of a legend's entry */
#define MARKER 3.5
#define RING 7.0
#define CHARACTER                                                                                                 \
    0.58            /* width of a character of the widest common sans-serif, in sizes of its font; mean over text \
                     */
#define BOLD 1.12   /* how much wider bold text is */
#define ASCENT 0.78 /* of a line's height: where its text stands */

#define TEXT_SIZE 14
#define TEXT_SIZE_NARROW 19
#define TITLE_SIZE 17
#define TITLE_SIZE_NARROW 20

/* Colours after Okabe and Ito's set, which the colour-blind tell apart, dark enough for white and light enough for
 * black. */
static const struct {
    const char *light, *dark, *dashes;
} styles[PLOT_STYLES] = {
    {"#0067a8", "#5fb8f0", NULL},         {"#c24e00", "#f58b45", "6 4.5"}, {"#007d5c", "#2fc79a", "2.5 5"},
    {"#a8457f", "#e795c3", "12 5 2.5 5"}, {"#8a6a00", "#e6bf2a", "5 3"},   {"#555c64", "#b9c0c7", "18 6"},
};

static const char *const colours =
    "rect{fill:#fff}text{fill:#1f2328}.q{fill:#57606a}.g{stroke:#d8dee4}.a{stroke:#8c959f}.r{stroke:#1f2328}"
    ".k{stroke:#fff}";
static const char *const dark_colours =
    "rect{fill:#0d1117}text{fill:#e6edf3}.q{fill:#a5afb9}.g{stroke:#2b323a}.a{stroke:#6e7681}.r{stroke:#e6edf3}"
    ".k{stroke:#0d1117}";

typedef struct spot {
    int x, y; /* hundredths of a pixel */
} spot;

/* ---- text ---- */

/* XML has no control characters but three, which a line of text does not need, and not the last two code points of a
 * plane's beginning. */
static bool fits_xml(const char *text, size_t length)
{
    const unsigned char *s = (const unsigned char *)text;

    if (length == 1)
        return s[0] >= 0x20 && s[0] != 0x7f;
    if (length == 2)
        return s[0] != 0xc2 || s[1] >= 0xa0;
    return length != 3 || s[0] != 0xef || s[1] != 0xbf || s[2] < 0xbe;
}

/* What stands in the document, not escaped yet. */
static char *clean(arena *memory, const char *text)
{
    static const unsigned char replacement[] = {0xef, 0xbf, 0xbd}; /* U+FFFD */
    char *out = arena_alloc(memory, size_sum(size_product((int64_t)strlen(text), 3), 1)), *at = out;

    while (*text) {
        size_t length = text_character(text);
        if (length > 0 && fits_xml(text, length)) {
            memcpy(at, text, length);
            at += length;
        } else {
            memcpy(at, replacement, sizeof replacement);
            at += sizeof replacement;
        }
        text += length ? length : 1;
    }
    return out;
}

static void put_text(FILE *out, const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++)
        switch (text[i]) {
        case '&':
            fputs("&amp;", out);
            break;
        case '<':
            fputs("&lt;", out);
            break;
        case '>':
            fputs("&gt;", out);
            break;
        case '"':
            fputs("&quot;", out);
            break;
        default:
            putc(text[i], out);
        }
}

/* Characters of usual width that a character of clean text takes: those of Asian scripts and symbols take two. */
static int cells(const char *text, size_t length)
{
    const unsigned char *s = (const unsigned char *)text;

    return length < 3 || (length == 3 && (s[0] < 0xe1 || (s[0] == 0xe2 && s[1] < 0xba))) ? 1 : 2;
}

static int columns(const char *text)
{
    int count = 0;

    for (size_t length; (length = text_character(text)) > 0; text += length)
        count += cells(text, length);
    return count;
}

/* Bytes of the longest beginning that fits in `room` columns. */
static size_t fit(const char *text, int room)
{
    size_t at = 0;

    for (size_t length; (length = text_character(text + at)) > 0; at += length)
        if ((room -= cells(text + at, length)) < 0)
            break;
    return at;
}

/* The text, or its beginning with an ellipsis, in `room` columns. */
static const char *elide(arena *memory, const char *text, int room)
{
    if (columns(text) <= room)
        return text;
    return arena_printf(memory, "%.*s\xe2\x80\xa6", (int)fit(text, room - 1), text);
}

enum { MOST_LINES = 4 };

typedef struct paragraph {
    const char *lines[MOST_LINES];
    int count;
} paragraph;

/* Breaks at spaces, and within a word that is longer than a line; what is too long for all lines ends with an ellipsis.
 */
static void wrap(paragraph *p, arena *memory, const char *text, int room)
{
    *p = (paragraph){0};
    while (*text && p->count < MOST_LINES) {
        size_t length = fit(text, room), end;
        if (p->count == MOST_LINES - 1)
            length = strlen(text);
        for (end = length; text[length] && end > 0 && text[end] != ' ';)
            end--;
        if (end == 0)
            end = length;
        p->lines[p->count++] = elide(memory, arena_printf(memory, "%.*s", (int)end, text), room);
        text += end;
        text += strspn(text, " ");
    }
}

/* ---- layout ---- */

typedef struct frame {
    const plot_panel *panel;
    plot_ticks x, y;
    double left, right, top, bottom; /* of the plot itself */
    double x0, width, y0;            /* of the panel */
    int legend_rows;
} frame;

typedef struct drawing {
    const plot *p;
    int panels;
    arena *memory;
    FILE *out;
    spot *spots; /* as many as the longest series has */
    double width, height, text_size, title_size, line, title_line;
    paragraph title, caption;
    frame frames[PLOT_PANELS];
} drawing;

static double text_width(const drawing *d, const char *text)
{
    return columns(text) * CHARACTER * d->text_size;
}

static bool drawable(const plot_axis *a, double v)
{
    return fabs(v) <= PLOT_LARGEST && (!a->logarithmic || v > 1 / PLOT_LARGEST);
}

static void include(double *low, double *high, double v)
{
    *low = fmin(*low, v);
    *high = fmax(*high, v);
}

/* The values of all points that are drawn, along one axis. */
static plot_range range_of(const plot_panel *panel, bool vertical)
{
    const plot_axis *a = vertical ? &panel->y : &panel->x;
    double low = INFINITY, high = -INFINITY;

    for (int i = 0; i < panel->series_count; i++) {
        const plot_series *s = &panel->series[i];
        for (int j = 0; j < s->count; j++) {
            if (!drawable(&panel->x, s->x[j]))
                continue;
            if (drawable(&panel->y, s->y[j]))
                include(&low, &high, vertical ? s->y[j] : s->x[j]);
            if (s->low && vertical && drawable(a, s->low[j]) && drawable(a, s->high[j])) {
                include(&low, &high, s->low[j]);
                include(&low, &high, s->high[j]);
            }
        }
    }
    if (a->low < a->high && drawable(a, a->low) && drawable(a, a->high)) {
        include(&low, &high, a->low);
        include(&low, &high, a->high);
    }
    return (plot_range){.low = low,
                        .high = high,
                        .most = vertical ? 5 : 6,
                        .round = vertical || a->logarithmic,
                        .whole = a->whole,
                        .logarithmic = a->logarithmic};
}

static double widest(const drawing *d, const plot_ticks *t)
{
    double width = 0;

    for (int i = 0; i < t->count; i++)
        width = fmax(width, text_width(d, t->at[i].text));
    return width;
}

/* As many numbers below the plot as stand apart. */
static void lay_out_width(const drawing *d, frame *f)
{
    plot_range x = range_of(f->panel, false), y = range_of(f->panel, true);

    plot_ticks_over(&f->y, &y);
    f->left = f->x0 + EDGE + widest(d, &f->y) + 8;
    for (;; x.most--) {
        plot_ticks_over(&f->x, &x);
        f->right = f->x0 + f->width - fmax(EDGE, widest(d, &f->x) / 2 + 4);
        if (x.most == 1 || (f->x.count + 1) * (widest(d, &f->x) + d->text_size) <= f->right - f->left)
            return;
    }
}

/* Goes through the legend's entries: where each stands, in pixels from its left end and in rows. */
typedef struct entry {
    int index, row;
    double at;
    const char *name;
} entry;

static bool next_entry(const drawing *d, const frame *f, entry *e)
{
    double room = f->x0 + f->width - EDGE - f->left;

    if (e->index >= 0)
        e->at += SWATCH + 6 + text_width(d, e->name) + 20;
    do {
        if (++e->index == f->panel->series_count)
            return false;
    } while (!f->panel->series[e->index].name);
    e->name = elide(d->memory, clean(d->memory, f->panel->series[e->index].name),
                    (int)((room - SWATCH - 6) / (CHARACTER * d->text_size)));
    if (e->at > 0 && e->at + SWATCH + 6 + text_width(d, e->name) > room) {
        e->at = 0;
        e->row++;
    }
    return true;
}

static int legend_rows(const drawing *d, const frame *f)
{
    entry e = {.index = -1};
    int rows = 0;

    while (next_entry(d, f, &e))
        rows = e.row + 1;
    return rows;
}

/* From `y` down; returns where it ends. Panels side by side begin and end together. */
static double lay_out_height(const drawing *d, frame *f, double y, bool labelled_x, bool labelled_y, int rows)
{
    f->y0 = y;
    f->top = y + (labelled_y ? d->line : 0) + rows * d->line + 8;
    f->bottom = f->top + PLOT_HIGH;
    return f->bottom + 6 + d->line + (labelled_x ? d->line : 0);
}

static double lay_out_panels(drawing *d, double y)
{
    bool beside = d->panels == 2 && !d->p->stacked, x = false, above = false;
    int rows = 0;

    for (int i = 0; i < d->panels; i++) {
        frame *f = &d->frames[i];
        f->panel = &d->p->panels[i];
        f->width = beside ? d->width / 2 : d->width;
        f->x0 = beside ? i * f->width : 0;
        lay_out_width(d, f);
        f->legend_rows = legend_rows(d, f);
        rows = f->legend_rows > rows ? f->legend_rows : rows;
        x |= f->panel->x.label != NULL;
        above |= f->panel->y.label != NULL;
    }
    for (int i = 0; i < d->panels; i++) {
        frame *f = &d->frames[i];
        double end = beside ? lay_out_height(d, f, y, x, above, rows)
                            : lay_out_height(d, f, y, f->panel->x.label, f->panel->y.label, f->legend_rows);
        if (!beside || i == d->panels - 1)
            y = end + (i < d->panels - 1 ? 10 : 0);
    }
    return y;
}

static void lay_out(drawing *d)
{
    bool beside = d->panels == 2 && !d->p->stacked;
    double room, y = EDGE;

    d->width = beside ? TWO_WIDE : ONE_WIDE;
    d->text_size = beside ? TEXT_SIZE_NARROW : TEXT_SIZE;
    d->title_size = beside ? TITLE_SIZE_NARROW : TITLE_SIZE;
    d->line = ceil(d->text_size * (beside ? 1.2 : 1.4));
    d->title_line = ceil(d->title_size * (beside ? 1.2 : 1.4));
    room = d->width - 2 * EDGE;
    if (d->p->title)
        wrap(&d->title, d->memory, clean(d->memory, d->p->title), (int)(room / (CHARACTER * BOLD * d->title_size)));
    if (d->p->caption)
        wrap(&d->caption, d->memory, clean(d->memory, d->p->caption), (int)(room / (CHARACTER * d->text_size)));
    y += d->title.count * d->title_line + (d->title.count ? 6 : 0);
    y = lay_out_panels(d, y);
    if (d->caption.count)
        y += 6 + d->caption.count * d->line;
    d->height = ceil(y + EDGE - 4);
}

/* ---- drawing ---- */

static void put_length(FILE *out, int hundredths)
{
    char text[TEXT_SHORT], *end;

    text_fixed(text, hundredths / 100.0, 2);
    for (end = text + strlen(text); end[-1] == '0'; end--)
        ;
    fprintf(out, "%.*s", (int)(end[-1] == '.' ? end - text - 1 : end - text), text);
}

static int hundredths(double pixels)
{
    return (int)lround(pixels * 100);
}

static void put_pair(FILE *out, const char *before, double x, double y)
{
    fputs(before, out);
    put_length(out, hundredths(x));
    putc(' ', out);
    put_length(out, hundredths(y));
}

static void put_attribute(FILE *out, const char *name, double pixels)
{
    fprintf(out, " %s=\"", name);
    put_length(out, hundredths(pixels));
    putc('"', out);
}

/* `attributes` NULL: none. */
static void put_line_of_text(const drawing *d, double x, double y, const char *attributes, const char *text)
{
    fputs("<text", d->out);
    put_attribute(d->out, "x", x);
    put_attribute(d->out, "y", y);
    fprintf(d->out, "%s>", attributes ? attributes : "");
    put_text(d->out, text, strlen(text));
    fputs("</text>\n", d->out);
}

static void put_paragraph(const drawing *d, const paragraph *p, double y, double line, const char *attributes)
{
    for (int i = 0; i < p->count; i++)
        put_line_of_text(d, EDGE, y + (i + ASCENT) * line, attributes, p->lines[i]);
}

static spot spot_of(const frame *f, double x, double y)
{
    return (spot){hundredths(f->left + plot_ticks_place(&f->x, x) * (f->right - f->left)),
                  hundredths(f->bottom - plot_ticks_place(&f->y, y) * (f->bottom - f->top))};
}

/* A point of a path: M where a piece begins, L to go on. */
static void put_spot(FILE *out, char how, spot s)
{
    putc(how, out);
    put_length(out, s.x);
    putc(' ', out);
    put_length(out, s.y);
}

/* A line through the spots. Of those that share half a pixel of the width the first, the last and the two extremes are
 * enough. */
static void put_run(FILE *out, const spot *s, int count, char how)
{
    for (int i = 0, end; i < count; i = end) {
        int low = i, high = i;
        for (end = i + 1; end < count && s[end].x / 50 == s[i].x / 50; end++) {
            low = s[end].y < s[low].y ? end : low;
            high = s[end].y > s[high].y ? end : high;
        }
        const int kept[4] = {i, low < high ? low : high, low < high ? high : low, end - 1};
        for (int k = 0; k < 4; k++)
            if (k == 0 || kept[k] > kept[k - 1]) {
                put_spot(out, how, s[kept[k]]);
                how = 'L';
            }
    }
}

static bool has_point(const frame *f, const plot_series *s, int i)
{
    return drawable(&f->panel->x, s->x[i]) && drawable(&f->panel->y, s->y[i]);
}

static bool has_band(const frame *f, const plot_series *s, int i)
{
    return drawable(&f->panel->x, s->x[i]) && drawable(&f->panel->y, s->low[i]) && drawable(&f->panel->y, s->high[i]);
}

static void draw_band(const drawing *d, const frame *f, const plot_series *s)
{
    fprintf(d->out, "<path class=\"f%d b\" d=\"", s->style);
    for (int i = 0, end; i < s->count; i = end + 1) {
        for (end = i; end < s->count && has_band(f, s, end); end++)
            d->spots[end - i] = spot_of(f, s->x[end], s->high[end]);
        put_run(d->out, d->spots, end - i, 'M');
        for (int j = i; j < end; j++)
            d->spots[end - 1 - j] = spot_of(f, s->x[j], s->low[j]);
        put_run(d->out, d->spots, end - i, 'L');
        if (end > i)
            putc('Z', d->out);
    }
    fputs("\"/>\n", d->out);
}

/* A piece of one point is a dot. */
static void draw_line(const drawing *d, const frame *f, const plot_series *s)
{
    fprintf(d->out, "<path class=\"s%d l\" fill=\"none\" d=\"", s->style);
    for (int i = 0, end; i < s->count; i = end + 1) {
        for (end = i; end < s->count && has_point(f, s, end); end++)
            d->spots[end - i] = spot_of(f, s->x[end], s->y[end]);
        put_run(d->out, d->spots, end - i, 'M');
        if (end == i + 1)
            fputs("h0", d->out);
    }
    fputs("\"/>\n", d->out);
}

static void put_marker(FILE *out, int style, double x, double y)
{
    const double r = MARKER;

    switch (style) {
    case 0: /* a circle */
        put_pair(out, "M", x - r, y);
        fputs("a3.5 3.5 0 1 0 7 0a3.5 3.5 0 1 0-7 0z", out);
        break;
    case 1: /* a square */
        put_pair(out, "M", x - r, y - r);
        fputs("h7v7h-7z", out);
        break;
    case 2: /* a triangle */
        put_pair(out, "M", x, y - r - 1);
        fputs("l4.5 8h-9z", out);
        break;
    case 3: /* a lozenge */
        put_pair(out, "M", x, y - r - 1.5);
        fputs("l5 5-5 5-5-5z", out);
        break;
    case 4: /* a triangle on its point */
        put_pair(out, "M", x, y + r + 1);
        fputs("l4.5-8h-9z", out);
        break;
    default: /* a flat bar */
        put_pair(out, "M", x - r - 1.5, y - 1.5);
        fputs("h10v3h-10z", out);
    }
}

/* Those of a line stay apart from each other; of points, only those in the same place are left out. */
static void draw_markers(const drawing *d, const frame *f, const plot_series *s)
{
    int apart = s->kind == PLOT_LINE ? 900 : 1;
    spot before = {0, 0};
    bool any = false;

    fprintf(d->out, "<path class=\"f%d k\" d=\"", s->style);
    for (int i = 0; i < s->count; i++) {
        spot here;
        if (!has_point(f, s, i))
            continue;
        here = spot_of(f, s->x[i], s->y[i]);
        if (any && abs(here.x - before.x) < apart && abs(here.y - before.y) < apart)
            continue;
        put_marker(d->out, s->style, here.x / 100.0, here.y / 100.0);
        before = here;
        any = true;
    }
    fputs("\"/>\n", d->out);
}

static void put_ring(FILE *out, double x, double y)
{
    fputs("<circle class=\"r\" fill=\"none\"", out);
    put_attribute(out, "cx", x);
    put_attribute(out, "cy", y);
    put_attribute(out, "r", RING);
    fputs("/>\n", out);
}

static void draw_rings(const drawing *d, const frame *f, const plot_series *s)
{
    for (int i = 0; i < s->count; i++)
        if (has_point(f, s, i)) {
            spot here = spot_of(f, s->x[i], s->y[i]);
            put_ring(d->out, here.x / 100.0, here.y / 100.0);
        }
}

static void draw_legend(const drawing *d, const frame *f)
{
    double begin = f->top - 8 - f->legend_rows * d->line;
    entry e = {.index = -1};

    while (next_entry(d, f, &e)) {
        const plot_series *s = &f->panel->series[e.index];
        double x = f->left + e.at, y = begin + e.row * d->line, middle = y + d->line / 2;
        if (s->kind == PLOT_LINE) {
            fprintf(d->out, "<path class=\"s%d l\" fill=\"none\" d=\"", s->style);
            put_pair(d->out, "M", x, middle);
            fputs("h30\"/>\n", d->out);
        }
        if (s->kind == PLOT_RINGS)
            put_ring(d->out, x + SWATCH / 2.0, middle);
        if (s->kind == PLOT_POINTS || (s->kind == PLOT_LINE && s->markers)) {
            fprintf(d->out, "<path class=\"f%d k\" d=\"", s->style);
            put_marker(d->out, s->style, x + SWATCH / 2.0, middle);
            fputs("\"/>\n", d->out);
        }
        put_line_of_text(d, x + SWATCH + 6, middle, " dy=\".35em\"", e.name);
    }
}

static void draw_axes(const drawing *d, const frame *f)
{
    fputs("<path class=\"g\" fill=\"none\" d=\"", d->out);
    for (int i = 0; i < f->x.count; i++) {
        put_spot(d->out, 'M', (spot){spot_of(f, f->x.at[i].value, f->y.low).x, hundredths(f->top)});
        fprintf(d->out, "v%d", PLOT_HIGH);
    }
    for (int i = 0; i < f->y.count; i++) {
        put_spot(d->out, 'M', (spot){hundredths(f->left), spot_of(f, f->x.low, f->y.at[i].value).y});
        putc('H', d->out);
        put_length(d->out, hundredths(f->right));
    }
    put_pair(d->out, "\"/>\n<path class=\"a\" fill=\"none\" d=\"M", f->left, f->top);
    put_pair(d->out, "L", f->left, f->bottom);
    put_pair(d->out, "L", f->right, f->bottom);
    fputs("\"/>\n", d->out);
    for (int i = 0; i < f->x.count; i++)
        put_line_of_text(d, spot_of(f, f->x.at[i].value, f->y.low).x / 100.0, f->bottom + 6 + ASCENT * d->line,
                         " class=\"q\" text-anchor=\"middle\"", f->x.at[i].text);
    for (int i = 0; i < f->y.count; i++)
        put_line_of_text(d, f->left - 7, spot_of(f, f->x.low, f->y.at[i].value).y / 100.0,
                         " class=\"q\" dy=\".35em\" text-anchor=\"end\"", f->y.at[i].text);
}

static void draw_labels(const drawing *d, const frame *f)
{
    const plot_axis *x = &f->panel->x, *y = &f->panel->y;
    int room = (int)((f->width - 2 * EDGE) / (CHARACTER * BOLD * d->text_size));

    if (x->label)
        put_line_of_text(d, (f->left + f->right) / 2, f->bottom + 6 + (1 + ASCENT) * d->line,
                         " class=\"q\" text-anchor=\"middle\"", elide(d->memory, clean(d->memory, x->label), room));
    if (y->label)
        put_line_of_text(d, f->x0 + EDGE, f->y0 + ASCENT * d->line, " class=\"h\"",
                         elide(d->memory, clean(d->memory, y->label), room));
}

static void draw_panel(const drawing *d, const frame *f)
{
    draw_axes(d, f);
    draw_labels(d, f);
    for (int i = 0; i < f->panel->series_count; i++)
        if (f->panel->series[i].low && f->panel->series[i].high)
            draw_band(d, f, &f->panel->series[i]);
    for (int i = 0; i < f->panel->series_count; i++) {
        const plot_series *s = &f->panel->series[i];
        if (s->kind == PLOT_LINE)
            draw_line(d, f, s);
        if (s->kind == PLOT_POINTS || (s->kind == PLOT_LINE && s->markers))
            draw_markers(d, f, s);
    }
    for (int i = 0; i < f->panel->series_count; i++)
        if (f->panel->series[i].kind == PLOT_RINGS)
            draw_rings(d, f, &f->panel->series[i]);
    draw_legend(d, f);
}

/* ---- the document ---- */

static void put_style_colours(FILE *out, bool dark)
{
    fputs(dark ? dark_colours : colours, out);
    for (int i = 0; i < PLOT_STYLES; i++) {
        const char *colour = dark ? styles[i].dark : styles[i].light;
        fprintf(out, ".s%d{stroke:%s}.f%d{fill:%s}", i, colour, i, colour);
    }
}

/* Paper is white, whatever the screen's colours are. */
static void put_css(const drawing *d)
{
    fprintf(d->out,
            "<style>\ntext{font:%dpx system-ui,-apple-system,\"Segoe UI\",Roboto,\"Helvetica Neue\",Arial,sans-serif}"
            ".t{font-size:%dpx;font-weight:600}.h{font-weight:600}.l{stroke-width:2.2;stroke-linecap:round;"
            "stroke-linejoin:round}.k{stroke-width:1}.b{fill-opacity:.2}.r{stroke-width:2}\n",
            TEXT_SIZE, TITLE_SIZE);
    for (int i = 0; i < PLOT_STYLES; i++)
        if (styles[i].dashes)
            fprintf(d->out, ".s%d{stroke-dasharray:%s}", i, styles[i].dashes);
    putc('\n', d->out);
    put_style_colours(d->out, false);
    fputs("\n@media screen and (prefers-color-scheme:dark){", d->out);
    put_style_colours(d->out, true);
    fputs("}\n", d->out);
    if (d->text_size > TEXT_SIZE)
        fprintf(d->out, "@media (max-width:%dpx){text{font-size:%dpx}.t{font-size:%dpx}.l{stroke-width:3}}\n", NARROW,
                TEXT_SIZE_NARROW, TITLE_SIZE_NARROW);
    fputs("</style>\n", d->out);
}

static void put_element(const drawing *d, const char *name, const char *text)
{
    const char *cleaned = clean(d->memory, text);

    fprintf(d->out, "<%s>", name);
    put_text(d->out, cleaned, strlen(cleaned));
    fprintf(d->out, "</%s>\n", name);
}

static void draw(const drawing *d)
{
    const plot *p = d->p;
    int width = (int)d->width, height = (int)d->height;

    fprintf(d->out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" role=\"img\" viewBox=\"0 0 %d %d\" width=\"%d\" height=\"%d\" "
            "style=\"max-width:100%%;height:auto\">\n",
            width, height, width, height);
    put_element(d, "title", p->title ? p->title : "");
    put_element(d, "desc", p->description ? p->description : p->caption ? p->caption : "");
    put_css(d);
    fprintf(d->out, "<rect width=\"%d\" height=\"%d\"/>\n", width, height);
    put_paragraph(d, &d->title, EDGE, d->title_line, " class=\"t\"");
    for (int i = 0; i < d->panels; i++)
        draw_panel(d, &d->frames[i]);
    put_paragraph(d, &d->caption, d->height - EDGE + 4 - d->caption.count * d->line, d->line, NULL);
    fputs("</svg>\n", d->out);
}

static int most_points(const plot *p)
{
    int most = 0;

    for (int i = 0; i < p->panel_count; i++)
        for (int j = 0; j < p->panels[i].series_count; j++)
            most = p->panels[i].series[j].count > most ? p->panels[i].series[j].count : most;
    return most;
}

inlay_status plot_svg(char **out, size_t *size, const plot *p, inlay_error *err)
{
    drawing d = {.p = p, .panels = p->panel_count, .spots = memory_array((int64_t)most_points(p) + 1, sizeof *d.spots)};
    bool good = false;

    *out = NULL;
    d.out = d.spots ? open_memstream(out, size) : NULL;
    d.memory = arena_new();
    if (d.out) {
        lay_out(&d);
        draw(&d);
        good = !ferror(d.out);
        good = fclose(d.out) == 0 && good;
    }
    arena_free(d.memory);
    free(d.spots);
    if (good)
        return INLAY_OK;
    free(*out);
    *out = NULL;
    FAIL(err, INLAY_ERR_NOMEM, "out of memory for a chart");
}

inlay_status plot_write(const plot *p, const char *path, inlay_error *err)
{
    char *text;
    size_t size;
    inlay_status status;

    TRY(plot_svg(&text, &size, p, err));
    status = file_write(path, text, size, err);
    free(text);
    return status;
}
