/* Charts: a reader of XML of its own takes every document apart; ticks for many ranges; texts that XML cannot hold. */
#include "support.h"

#include <ctype.h>
#include <locale.h>
#include <math.h>

#include "base/text.h"
#include "formats/plot.h"

/* ---- reading ---- */

typedef struct document {
    char *text; /* all of it */
    size_t size;
    int elements;
} document;

/* A name, and the length of it. */
static size_t name_at(const char *at)
{
    return strspn(at, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-:0123456789");
}

/* Text or the value of an attribute up to `end`: characters that XML has, and known entities. Returns where it ends. */
static const char *expect_characters(const char *at, char end)
{
    static const char *const entities[] = {"&amp;", "&lt;", "&gt;", "&quot;"};

    while (*at != end) {
        size_t length = text_character(at);
        bool known = *at != '&';
        assert_true(length > 0 && *at != '<');
        assert_true((unsigned char)*at >= 0x20 || *at == '\n');
        for (int i = 0; i < 4; i++)
            known |= strncmp(at, entities[i], strlen(entities[i])) == 0;
        assert_true(known);
        at += length;
    }
    return at;
}

/* Fails unless the document is well formed: one root, elements that are closed in order, attributes that are quoted and
 * not given twice, no bytes that XML has no place for. */
static void expect_well_formed(document *d)
{
    const char *open[8], *at = d->text;
    int depth = 0;

    assert_int_equal(strlen(at), d->size);
    assert_true(text_is_utf8(at));
    do {
        size_t length;
        assert_int_equal(*at, '<');
        if (at[1] == '/') {
            length = name_at(at + 2);
            assert_true(depth > 0 && length == name_at(open[depth - 1]));
            assert_memory_equal(at + 2, open[--depth], length);
            at += 2 + length;
            assert_int_equal(*at++, '>');
        } else {
            char seen[16][32];
            int count = 0;
            length = name_at(at + 1);
            assert_true(length > 0 && depth < 8 && isalpha((unsigned char)at[1]));
            open[depth++] = at + 1;
            d->elements++;
            for (at += 1 + length; *at == ' ';) {
                length = name_at(++at);
                assert_true(length > 0 && length < 32 && count < 16);
                snprintf(seen[count], 32, "%.*s", (int)length, at);
                for (int i = 0; i < count; i++)
                    assert_string_not_equal(seen[i], seen[count]);
                count++;
                assert_memory_equal(at + length, "=\"", 2);
                at = expect_characters(at + length + 2, '"') + 1;
            }
            depth -= *at == '/';
            at += *at == '/';
            assert_int_equal(*at++, '>');
        }
        if (depth > 0)
            at = expect_characters(at, '<');
    } while (depth > 0);
    assert_string_equal(at, "\n");
}

static document draw(const plot *p)
{
    document d = {0};
    inlay_error err;

    ASSERT_OK(plot_svg(&d.text, &d.size, p, &err));
    expect_well_formed(&d);
    assert_null(strstr(d.text, "nan"));
    assert_null(strstr(d.text, "inf"));
    return d;
}

static int count_of(const document *d, const char *part)
{
    int count = 0;

    for (const char *at = d->text; (at = strstr(at, part)) != NULL; at++)
        count++;
    return count;
}

/* ---- ticks ---- */

/* The texts of the ticks, with spaces between. */
static const char *ticks_of(plot_range r)
{
    static char out[512];
    plot_ticks t;
    size_t used = 0;

    if (r.most == 0)
        r.most = 5;
    plot_ticks_over(&t, &r);
    out[0] = '\0';
    for (int i = 0; i < t.count; i++)
        used += (size_t)snprintf(out + used, sizeof out - used, "%s%s", i ? " " : "", t.at[i].text);
    return out;
}

static void test_ticks(void **state)
{
    static const struct {
        plot_range range;
        const char *texts;
    } rows[] = {
        {{.low = 0, .high = 0}, "0.0 0.2 0.4 0.6 0.8 1.0"},
        {{.low = NAN, .high = NAN}, "0.0 0.2 0.4 0.6 0.8 1.0"},
        {{.low = INFINITY, .high = -INFINITY}, "0.0 0.2 0.4 0.6 0.8 1.0"},
        {{.low = 1, .high = 1, .whole = true}, "1"},
        {{.low = 1, .high = 5, .whole = true}, "1 2 3 4 5"},
        {{.low = 1, .high = 60, .whole = true, .most = 6}, "10 20 30 40 50 60"},
        {{.low = 1, .high = 100}, "20 40 60 80 100"},
        {{.low = 25.2, .high = 76.1, .round = true}, "20 40 60 80"},
        {{.low = -3, .high = 7, .round = true}, "-4 -2 0 2 4 6 8"},
        {{.low = -0.35, .high = -0.1, .round = true}, "-0.35 -0.30 -0.25 -0.20 -0.15 -0.10"},
        {{.low = 0, .high = 1e-9, .round = true}, "0 2e-10 4e-10 6e-10 8e-10 1e-9"},
        {{.low = 0, .high = 1e9, .round = true}, "0 2e8 4e8 6e8 8e8 1e9"},
        {{.low = 0, .high = 1.4e6}, "0 500000 1000000"},
        {{.low = 0, .high = 2.5e8, .most = 5}, "0 5e7 1e8 1.5e8 2e8 2.5e8"},
        {{.low = 1e9, .high = 1e9 + 1}, "6e8 8e8 1e9 1.2e9 1.4e9"},
        {{.low = 1e5, .high = 1e5 + 1}, "100000.0 100000.2 100000.4 100000.6 100000.8 100001.0"},
        {{.low = 7, .high = 7}, "4 6 8 10"},
        {{.low = 0.2, .high = 30, .logarithmic = true}, "0.1 1 10 100"},
        {{.low = 0.2, .high = 3, .logarithmic = true}, "0.2 0.5 1 2 5"},
        {{.low = 13872, .high = 1202688, .logarithmic = true}, "1e4 1e5 1e6 1e7"},
        {{.low = 1, .high = 1, .logarithmic = true}, "1 2"},
        {{.low = -1, .high = 0, .logarithmic = true}, "1 2 5 10"},
        {{.low = 1e-9, .high = 1e9, .logarithmic = true}, "1e-9 1e-5 1e-1 1e3 1e7 1e11"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (strcmp(ticks_of(rows[i].range), rows[i].texts) != 0)
            fail_msg("%g to %g: '%s', expected '%s'", rows[i].range.low, rows[i].range.high, ticks_of(rows[i].range),
                     rows[i].texts);
}

static uint32_t draw_number(int i, int what)
{
    return rng_below((rng_stream){.seed = 7, .step = (uint32_t)what}, (uint64_t)i, 1000000);
}

/* Whatever the range: ticks ascend in even steps of 1, 2 or 5, lie on the axis, say what they are, and a round axis
 * holds all values. */
static void test_many_ranges(void **state)
{
    (void)state;
    for (int i = 0; i < 20000; i++) {
        double size = pow(10, (double)draw_number(i, 0) / 1e6 * 40 - 20), low, high;
        plot_range r = {.most = 1 + i % 12, .round = i % 2, .whole = i % 5 == 0, .logarithmic = i % 7 == 0};
        plot_ticks t;
        low = ((double)draw_number(i, 1) / 5e5 - 1) * size;
        high = low + (double)draw_number(i, 2) / 1e6 * size * (i % 3 ? 1 : 1e-4);
        r.low = r.logarithmic ? fabs(low) + 1e-30 : low;
        r.high = r.logarithmic ? r.low + high - low : high;
        plot_ticks_over(&t, &r);
        assert_true(t.low < t.high && t.low <= r.low && t.high >= r.high && t.count <= PLOT_MOST_TICKS);
        assert_true(t.count >= (r.round || r.logarithmic ? 2 : 0));
        if (!r.whole && !r.logarithmic && r.most > 2)
            assert_true(t.count > 0);
        for (int k = 0; k < t.count; k++) {
            double step = t.at[1].value - t.at[0].value, place = plot_ticks_place(&t, t.at[k].value);
            double said = strtod(t.at[k].text, NULL);
            assert_true(place > -1e-5 && place < 1 + 1e-5);
            assert_true(fabs(said - t.at[k].value) <= 1e-12 * fabs(said));
            if (r.whole && !r.logarithmic)
                assert_true(t.at[k].exponent >= 0);
            if (k > 0)
                assert_true(t.at[k].value > t.at[k - 1].value);
            if (k > 1 && !r.logarithmic)
                assert_true(fabs(t.at[k].value - t.at[k - 1].value - step) <= 1e-4 * step);
        }
        if (t.count > 1 && !r.logarithmic) {
            int64_t step = t.at[1].digits - t.at[0].digits;
            assert_true((step == 1 || step == 2 || step == 5) && t.at[1].exponent == t.at[0].exponent);
        }
    }
}

/* The ends of what doubles are. */
static void test_extreme_ranges(void **state)
{
    static const double ends[] = {-PLOT_LARGEST, -1, -1e-300, -5e-324, 0, 5e-324, 1e-300, 1, 1e17, PLOT_LARGEST};

    (void)state;
    for (int i = 0; i < 10; i++)
        for (int j = i; j < 10; j++)
            for (int round = 0; round < 2; round++) {
                plot_range r = {.low = ends[i], .high = ends[j], .most = 5, .round = round};
                plot_ticks t;
                plot_ticks_over(&t, &r);
                assert_true(t.low < t.high && t.count > 0);
                assert_true(plot_ticks_place(&t, r.low) > -1e-9 && plot_ticks_place(&t, r.high) < 1 + 1e-9);
            }
}

/* ---- charts ---- */

static const double one_to_five[] = {1, 2, 3, 4, 5}, values[] = {2, 1.5, NAN, 0.8, 0.7},
                    lower[] = {1.8, 1.2, NAN, 0.7, 0.6}, upper[] = {2.2, 1.7, NAN, 0.9, 0.8};

static void test_two_panels(void **state)
{
    plot_series left[] = {{.name = "training", .count = 5, .x = one_to_five, .y = values, .low = lower, .high = upper},
                          {.name = "test", .style = 1, .markers = true, .count = 2, .x = one_to_five, .y = values}};
    plot_series right = {.kind = PLOT_POINTS, .style = 2, .count = 5, .x = one_to_five, .y = values};
    plot p = {.title = "a title",
              .caption = "a caption",
              .panels = {{{"epoch", .whole = true}, {.label = "loss"}, left, 2},
                         {{.label = "epoch"}, {.label = "top-1"}, &right, 1}},
              .panel_count = 2};
    document beside, stacked, again;

    (void)state;
    beside = draw(&p);
    again = draw(&p);
    assert_int_equal(beside.size, again.size);
    assert_memory_equal(beside.text, again.text, beside.size);
    assert_non_null(strstr(beside.text, "role=\"img\" viewBox=\"0 0 760 "));
    assert_non_null(strstr(beside.text, "<title>a title</title>\n<desc>a caption</desc>"));
    assert_non_null(strstr(beside.text, "prefers-color-scheme:dark"));
    assert_int_equal(count_of(&beside, ">epoch</text>"), 2);
    assert_int_equal(count_of(&beside, ">test</text>"), 1);
    /* the line and its band have a gap where a value is no number */
    assert_int_equal(count_of(&beside, "class=\"f0 b\""), 1);
    assert_non_null(strstr(beside.text, "Z\"/>"));
    {
        const char *line = strstr(beside.text, "class=\"s0 l\""), *first = strchr(line, 'M'), *end = strchr(line, '/');
        const char *second = strchr(first + 1, 'M');
        assert_true(second && second < end);
    }
    p.stacked = true;
    stacked = draw(&p);
    assert_non_null(strstr(stacked.text, "viewBox=\"0 0 480 "));
    assert_int_equal(stacked.elements, beside.elements);
    free(beside.text);
    free(stacked.text);
    free(again.text);
}

/* Nothing to draw, one point, all of one value, values of no size that has a place. */
static void test_little_to_draw(void **state)
{
    static const double none[] = {NAN, NAN, NAN, NAN, NAN}, same[] = {3, 3, 3, 3, 3}, zero[] = {0, 0, 0, 0, 0},
                        wild[] = {INFINITY, -INFINITY, 1e300, -1e300, NAN}, tiny[] = {0, 1e-9, 2e-9, 5e-10, 1e-9},
                        large[] = {-1e9, 1e9, 0, 5e8, 1}, ends[] = {-1e290, 1e290, 0, 5e-324, 1};
    static const double *const all[] = {none, same, zero, wild, tiny, large, ends};

    (void)state;
    for (int x = 0; x < 7; x++)
        for (int y = 0; y < 7; y++)
            for (int count = 0; count <= 5; count++)
                for (int kind = 0; kind < 3; kind++) {
                    plot_series s = {.name = "s",
                                     .kind = (plot_kind)kind,
                                     .markers = true,
                                     .count = count,
                                     .x = all[x],
                                     .y = all[y],
                                     .low = all[y],
                                     .high = all[(y + 1) % 7]};
                    plot p = {.panels = {{{.label = "x"}, {"y", .logarithmic = count % 2}, &s, 1}}, .panel_count = 1};
                    document d = draw(&p);
                    free(d.text);
                }
}

static void test_texts(void **state)
{
    static const struct {
        const char *text, *written;
    } rows[] = {
        {"a < b & \"c\" > 'd'", "a &lt; b &amp; &quot;c&quot; &gt; 'd'"},
        {"</text><script>", "&lt;/text&gt;&lt;script&gt;"},
        {"]]>", "]]&gt;"},
        {"a\tb\nc\x1b[31m\x7f", "a\xef\xbf\xbd"
                                "b\xef\xbf\xbd"
                                "c\xef\xbf\xbd[31m\xef\xbf\xbd"},
        {"\xc2\x85\xc2\xa0", "\xef\xbf\xbd\xc2\xa0"},
        {"\xff\xc3", "\xef\xbf\xbd\xef\xbf\xbd"},
        {"\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
        {"\xef\xbf\xbe\xef\xbf\xbf\xef\xbf\xbd", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
        {"Bl\xc3\xbcten \xe8\x8a\xb1 \xf0\x9f\x8c\xb8", "Bl\xc3\xbcten \xe8\x8a\xb1 \xf0\x9f\x8c\xb8"},
        {"", ""},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        plot_series s = {.name = rows[i].text, .count = 1, .x = one_to_five, .y = values};
        plot p = {.title = rows[i].text,
                  .caption = rows[i].text,
                  .description = rows[i].text,
                  .panels = {{{.label = rows[i].text}, {.label = rows[i].text}, &s, 1}},
                  .panel_count = 1};
        document d = draw(&p);
        char wanted[128];
        snprintf(wanted, sizeof wanted, "<title>%s</title>\n<desc>%s</desc>", rows[i].written, rows[i].written);
        assert_non_null(strstr(d.text, wanted));
        snprintf(wanted, sizeof wanted, ">%s</text>", rows[i].written);
        assert_true(count_of(&d, wanted) >= 3);
        free(d.text);
    }
}

/* Texts of any length stay within the picture: four lines at most, and an ellipsis. */
static void test_long_texts(void **state)
{
    char word[2000], wide[1501] = "", words[3000];
    const char *const texts[] = {word, wide, words};

    (void)state;
    memset(word, 'x', sizeof word - 1);
    word[sizeof word - 1] = '\0';
    for (int i = 0; i < 500; i++)
        memcpy(wide + 3 * (size_t)i, "\xe8\x8a\xb1", 4);
    for (size_t i = 0; i < sizeof words - 1; i++)
        words[i] = i % 9 ? 'y' : ' ';
    words[sizeof words - 1] = '\0';
    for (int i = 0; i < 3; i++) {
        plot_series s[] = {{.name = texts[i], .count = 1, .x = one_to_five, .y = values},
                           {.name = "short", .style = 1, .count = 1, .x = one_to_five, .y = values}};
        plot p = {.title = texts[i],
                  .caption = texts[i],
                  .panels = {{{.label = texts[i]}, {.label = texts[i]}, s, 2},
                             {{.label = texts[i]}, {.label = texts[i]}, s, 2}},
                  .panel_count = 2};
        document d = draw(&p);
        assert_int_equal(count_of(&d, "\xe2\x80\xa6</text>"), 2 + 6);
        for (const char *at = d.text; (at = strstr(at, "<text")) != NULL; at++)
            assert_true(strcspn(strchr(at, '>'), "<") < 400);
        free(d.text);
    }
}

/* A line of any number of points is a document of bounded size that keeps the extremes. */
static void test_many_points(void **state)
{
    enum { COUNT = 300000 };
    double *x = malloc(COUNT * sizeof *x), *y = malloc(COUNT * sizeof *y);
    plot_series s = {.markers = true, .count = COUNT, .x = x, .y = y, .low = y, .high = y};
    plot p = {.panels = {{{.label = "x"}, {.label = "y"}, &s, 1}}, .panel_count = 1};
    document d;

    (void)state;
    for (int i = 0; i < COUNT; i++) {
        x[i] = i;
        y[i] = sin(i / 1000.0) + (i == 123456 ? 9 : 0);
    }
    d = draw(&p);
    assert_true(d.size < 200000);
    assert_non_null(strstr(d.text, ">10</text>"));
    free(d.text);
    free(x);
    free(y);
}

static void test_locale(void **state)
{
    plot_series s = {.name = "s", .markers = true, .count = 5, .x = one_to_five, .y = values};
    plot p = {.panels = {{{.label = "x"}, {.label = "y"}, &s, 1}}, .panel_count = 1};
    document before = draw(&p), after;

    (void)state;
    if (!setlocale(LC_ALL, "de_DE.UTF-8"))
        print_message("there is no locale with a decimal comma here\n");
    after = draw(&p);
    setlocale(LC_ALL, "C");
    assert_string_equal(before.text, after.text);
    free(before.text);
    free(after.text);
}

static void test_files(void **state)
{
    plot_series s = {.count = 5, .x = one_to_five, .y = values};
    plot p = {.title = "a file", .panels = {{{.label = "x"}, {.label = "y"}, &s, 1}}, .panel_count = 1};
    document d = draw(&p);
    char *folder = support_folder(), path[128], *text;
    size_t size;
    inlay_error err;

    (void)state;
    snprintf(path, sizeof path, "%s/chart.svg", folder);
    ASSERT_OK(plot_write(&p, path, &err));
    ASSERT_OK(file_read(path, 1 << 20, &text, &size, &err));
    assert_string_equal(text, d.text);
    assert_int_not_equal(plot_write(&p, "/nowhere/at/all/chart.svg", &err), INLAY_OK);
    assert_non_null(strstr(err.message, "/nowhere/at/all/chart.svg"));
    free(text);
    free(d.text);
    support_remove(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ticks),      cmocka_unit_test(test_many_ranges),    cmocka_unit_test(test_extreme_ranges),
        cmocka_unit_test(test_two_panels), cmocka_unit_test(test_little_to_draw), cmocka_unit_test(test_texts),
        cmocka_unit_test(test_long_texts), cmocka_unit_test(test_many_points),    cmocka_unit_test(test_locale),
        cmocka_unit_test(test_files),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
