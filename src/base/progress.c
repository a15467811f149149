#include "base/progress.h"

#include <langinfo.h>
#include <locale.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/monitor.h"
#include "base/text.h"

#define TERMINAL_INTERVAL 0.1 /* seconds between two lines */
#define LOG_INTERVAL 10.0
#define LINE_SIZE 1024

/* The columns of the terminal; 0: not a terminal, or one that cannot go back to the beginning of its line. */
static int terminal_columns(FILE *out)
{
    const char *type = getenv("TERM");
    struct winsize window;
    int fd = fileno(out);

    if (fd < 0 || !isatty(fd) || (type && strcmp(type, "dumb") == 0))
        return 0;
    if (ioctl(fd, TIOCGWINSZ, &window) != 0 || window.ws_col == 0)
        return 80;
    return window.ws_col;
}

/* Whether the user's locale is UTF-8; asks without setting the process's own, which is the program's to choose. */
static bool locale_is_utf8(void)
{
    locale_t user = newlocale(LC_CTYPE_MASK, "", (locale_t)0);
    bool utf8 = user && strcmp(nl_langinfo_l(CODESET, user), "UTF-8") == 0;

    if (user)
        freelocale(user);
    return utf8;
}

/* Copies what fits, whole characters only, without anything that could move the cursor. */
static void copy_clean(char *out, size_t size, const char *text)
{
    size_t used = 0;

    for (; *text && used + 1 < size; text++)
        out[used++] = (unsigned char)*text < 0x20 || *text == 0x7f ? ' ' : *text;
    while (*text && used && (*text & 0xc0) == 0x80) /* the character that did not fit */
        text = &out[--used];
    out[used] = '\0';
}

void progress_begin(progress *p, FILE *out, const char *label, double total, const char *unit)
{
    *p = (progress){.out = out, .total = total > 0 ? total : 0};
    copy_clean(p->label, sizeof p->label, label);
    copy_clean(p->unit, sizeof p->unit, unit);
    p->begun = monitor_seconds();
    if (out) {
        p->columns = terminal_columns(out);
        p->utf8 = p->columns > 0 && locale_is_utf8();
    }
    p->drawn = p->begun - (p->columns ? TERMINAL_INTERVAL : LOG_INTERVAL);
}

void progress_resume(progress *p, double done)
{
    p->done = p->resumed = done;
    p->begun = monitor_seconds();
}

static void append(char *line, size_t size, const char *separator, const char *text)
{
    size_t used = strlen(line);

    if (*text)
        snprintf(line + used, size - used, "%s%s", used ? separator : "", text);
}

/* How much is done, "205/456 images" or "205 images". */
static void amount(const progress *p, char *out, size_t size)
{
    char done[TEXT_SHORT], total[TEXT_SHORT];

    text_count(done, (int64_t)p->done);
    if (p->total > 0)
        snprintf(out, size, "%s/%s %s", done, text_count(total, (int64_t)p->total), p->unit);
    else
        snprintf(out, size, "%s %s", done, p->unit);
}

/* Units a second since the beginning; 0: not known yet. */
static double rate(const progress *p, double now)
{
    double elapsed = now - p->begun, fresh = p->done - p->resumed;

    return elapsed > 1e-3 && fresh > 0 ? fresh / elapsed : 0;
}

static void rate_text(const progress *p, double now, char *out, size_t size)
{
    char number[TEXT_SHORT];

    *out = '\0';
    if (rate(p, now) > 0)
        snprintf(out, size, "%s %s/s", text_quantity(number, rate(p, now)), p->unit);
}

static double fraction(const progress *p)
{
    double part = p->total > 0 ? p->done / p->total : 0;

    return part < 0 ? 0 : part > 1 ? 1 : part;
}

/* Draws a bar of `cells` columns; in UTF-8 the last filled cell shows eighths. */
static void bar(char *out, size_t size, double part, int cells, bool utf8)
{
    static const char *const eighths[] = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
    int parts = (int)(part * cells * 8), full = parts / 8, used = full;

    *out = '\0';
    for (int i = 0; i < full; i++)
        append(out, size, "", utf8 ? "█" : "#");
    if (utf8 && parts % 8) {
        append(out, size, "", eighths[parts % 8]);
        used++;
    }
    for (int i = used; i < cells; i++)
        append(out, size, "", utf8 ? " " : ".");
}

void progress_line(const progress *p, double now, int columns, bool utf8, char *line, size_t size)
{
    char done[128], speed[64], left[64] = "", percent[16] = "", text[TEXT_SHORT], blocks[128];
    const char *gap = columns ? "  " : ", ";
    double per_second = rate(p, now);
    int room;

    amount(p, done, sizeof done);
    rate_text(p, now, speed, sizeof speed);
    if (p->total > 0)
        snprintf(percent, sizeof percent, "%3d%%", (int)(100 * fraction(p) + 1e-9)); /* 100% only when all is done */
    if (per_second > 0 && p->total > p->done)
        snprintf(left, sizeof left, "%s left", text_duration(text, (p->total - p->done) / per_second));
    line[0] = '\0';
    append(line, size, gap, p->label);
    if (columns == 0) {
        append(line, size, ": ", percent + strspn(percent, " "));
        append(line, size, percent[0] ? gap : ": ", done);
    } else {
        room = columns - text_columns(line) - text_columns(done) - text_columns(speed) - text_columns(left) -
               text_columns(p->note) - 16;
        if (p->total > 0 && room >= 8) {
            bar(blocks, sizeof blocks, fraction(p), room < 30 ? room : 30, utf8);
            append(line, size, gap, blocks);
        }
        append(line, size, gap, percent);
        append(line, size, gap, done);
    }
    append(line, size, gap, speed);
    append(line, size, gap, left);
    append(line, size, gap, p->note);
    if (columns)
        line[text_fit(line, columns)] = '\0';
}

static void draw(progress *p, double now)
{
    char line[LINE_SIZE];

    if (p->columns)
        p->columns = fileno(p->out) < 0 ? p->columns : terminal_columns(p->out);
    progress_line(p, now, p->columns > 1 ? p->columns - 1 : p->columns, p->utf8, line,
                  sizeof line); /* the last column would wrap the line */
    if (p->columns)
        fprintf(p->out, "\r%s\033[K", line);
    else
        fprintf(p->out, "%s\n", line);
    fflush(p->out);
    p->shown = p->columns > 0;
    p->drawn = now;
}

void progress_update(progress *p, double done, const char *format, ...)
{
    double now;

    p->done = done;
    if (!p->out)
        return;
    if (format) {
        char text[sizeof p->note + 8]; /* longer than the note, which is then cut between characters */
        va_list args;
        va_start(args, format);
        vsnprintf(text, sizeof text, format, args);
        va_end(args);
        copy_clean(p->note, sizeof p->note, text);
    }
    now = monitor_seconds();
    if (now - p->drawn >= (p->columns ? TERMINAL_INTERVAL : LOG_INTERVAL))
        draw(p, now);
}

void progress_clear(progress *p)
{
    if (!p->out || !p->shown)
        return;
    fputs("\r\033[K", p->out);
    fflush(p->out);
    p->shown = false;
    p->drawn = 0;
}

void progress_end(progress *p)
{
    char line[LINE_SIZE] = "", done[128], speed[64], time[TEXT_SHORT];
    double now = monitor_seconds();

    if (!p->out)
        return;
    progress_clear(p);
    if (p->total > 0 && p->done >= p->total) /* "456 images", no longer "456/456 images" */
        p->total = 0;
    amount(p, done, sizeof done);
    rate_text(p, now, speed, sizeof speed);
    append(line, sizeof line, "", p->label);
    append(line, sizeof line, ": ", done);
    append(line, sizeof line, " in ", text_duration(time, now - p->begun));
    append(line, sizeof line, ", ", speed);
    append(line, sizeof line, ", ", p->note);
    fprintf(p->out, "%s\n", line);
    fflush(p->out);
    p->out = NULL;
}
