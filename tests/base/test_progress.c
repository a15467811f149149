/* Progress: the line for a given time, and what reaches a stream. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/monitor.h"
#include "base/progress.h"
#include "base/text.h"

static int count(const char *text, const char *part)
{
    int found = 0;

    for (; (text = strstr(text, part)) != NULL; text += strlen(part))
        found++;
    return found;
}

static void test_line_for_a_log(void **state)
{
    progress p;
    char line[300];

    (void)state;
    progress_begin(&p, NULL, "training", 2000, "images");
    progress_line(&p, p.begun, 0, false, line, sizeof line);
    assert_string_equal(line, "training: 0%, 0/2,000 images");
    p.done = 500;
    snprintf(p.note, sizeof p.note, "%s", "loss 0.5123");
    progress_line(&p, p.begun + 10, 0, false, line, sizeof line);
    assert_string_equal(line, "training: 25%, 500/2,000 images, 50.0 images/s, 30 s left, loss 0.5123");
    p.done = 2000;
    progress_line(&p, p.begun + 40, 0, false, line, sizeof line);
    assert_string_equal(line, "training: 100%, 2,000/2,000 images, 50.0 images/s, loss 0.5123");
    p.done = 1999; /* not yet */
    progress_line(&p, p.begun + 40, 0, false, line, sizeof line);
    assert_non_null(strstr(line, " 99%"));
}

static void test_line_without_a_total(void **state)
{
    progress p;
    char line[300];

    (void)state;
    progress_begin(&p, NULL, "reading", 0, "files");
    p.done = 30;
    progress_line(&p, p.begun + 2, 0, false, line, sizeof line);
    assert_string_equal(line, "reading: 30 files, 15.0 files/s");
    progress_line(&p, p.begun + 2, 100, false, line, sizeof line);
    assert_string_equal(line, "reading  30 files  15.0 files/s");
}

static void test_resumed_work_is_not_in_the_rate(void **state)
{
    progress p;
    char line[300];

    (void)state;
    progress_begin(&p, NULL, "training", 1000, "steps");
    progress_resume(&p, 900);
    p.done = 950;
    progress_line(&p, p.begun + 10, 0, false, line, sizeof line);
    assert_string_equal(line, "training: 95%, 950/1,000 steps, 5.00 steps/s, 10 s left");
}

static void test_line_for_a_terminal(void **state)
{
    progress p;
    char line[300];

    (void)state;
    progress_begin(&p, NULL, "eval", 100, "images");
    p.done = 50;
    progress_line(&p, p.begun + 10, 100, false, line, sizeof line);
    assert_string_equal(line, "eval  ###############...............   50%  50/100 images  5.00 images/s  10 s left");
    p.done = 51;
    progress_line(&p, p.begun + 10, 100, true, line, sizeof line);
    assert_int_equal(count(line, "█"), 15);
    assert_int_equal(count(line, "▎"), 1); /* 0.3 of a cell: two eighths */
    assert_null(strchr(line, '#'));
    p.done = 100;
    progress_line(&p, p.begun + 10, 100, true, line, sizeof line);
    assert_int_equal(count(line, "█"), 30);
    assert_null(strstr(line, "left"));
}

static void test_line_fits_every_width(void **state)
{
    progress p;
    char line[600];

    (void)state;
    progress_begin(&p, NULL, "Köln", 123456, "Bilder");
    snprintf(p.note, sizeof p.note, "%s", "loss 0.123, accuracy 98.7 %, lr 1.0e-3");
    for (int columns = 1; columns < 250; columns++)
        for (int utf8 = 0; utf8 < 2; utf8++)
            for (p.done = 0; p.done <= 123456; p.done += 41152) {
                progress_line(&p, p.begun + 100, columns, utf8, line, sizeof line);
                assert_true(text_columns(line) <= columns);
            }
    assert_true(text_columns(line) > 100); /* wide terminals show all of it */
}

static void test_more_than_all(void **state)
{
    progress p;
    char line[300];

    (void)state;
    progress_begin(&p, NULL, "x", 10, "files");
    p.done = 25;
    progress_line(&p, p.begun + 1, 90, false, line, sizeof line);
    assert_int_equal(count(line, "#"), 30);
    assert_non_null(strstr(line, "100%"));
    assert_null(strstr(line, "left"));
}

static void test_a_log_gets_few_lines(void **state)
{
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    progress p;

    (void)state;
    progress_begin(&p, out, "training", 1000, "images");
    assert_int_equal(p.columns, 0);
    for (int i = 1; i <= 1000; i++)
        progress_update(&p, i, "loss %.2f", 1.0 / i);
    fflush(out);
    assert_int_equal(count(text, "\n"), 1); /* the first one; no ten seconds have passed */
    p.drawn -= 11;
    progress_update(&p, 1000, NULL);
    assert_int_equal(count(text, "\n"), 2);
    progress_clear(&p);
    progress_end(&p);
    progress_end(&p); /* nothing more */
    progress_update(&p, 1000, NULL);
    fclose(out);
    assert_int_equal(count(text, "\n"), 3);
    assert_int_equal(count(text, "loss 0.00"), 2);
    assert_non_null(strstr(text, "training: 1,000 images in "));
    assert_null(strchr(text, '\r'));
    assert_null(strchr(text, '\033'));
    free(text);
}

static void test_a_terminal_is_redrawn_in_place(void **state)
{
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    double begun;
    progress p;

    (void)state;
    progress_begin(&p, out, "training", 300000, "images");
    p.columns = 80;
    begun = monitor_seconds();
    for (int i = 1; monitor_seconds() - begun < 0.35; i++)
        progress_update(&p, i, NULL);
    fflush(out);
    assert_in_range(count(text, "\r"), 2, 5); /* at 0, 0.1, 0.2 and 0.3 s; a busy machine may miss some */
    assert_int_equal(count(text, "\n"), 0);
    progress_clear(&p);
    progress_clear(&p);
    assert_string_equal(text + size - 4, "\r\033[K");
    progress_update(&p, 5, NULL); /* comes back at once */
    progress_end(&p);
    fclose(out);
    assert_int_equal(count(text, "\n"), 1);
    assert_string_equal(text + size - 1, "\n");
    assert_non_null(strstr(text, "training: 5/300,000 images in ")); /* left early: says of how many */
    free(text);
}

static void test_silent(void **state)
{
    progress p;

    (void)state;
    progress_begin(&p, NULL, "training", 10, "images");
    progress_update(&p, 5, "loss %d", 3);
    progress_clear(&p);
    assert_true(p.done == 5);
    progress_end(&p);
}

static void test_notes_cannot_move_the_cursor(void **state)
{
    char *text = NULL, wide[200] = "";
    size_t size;
    FILE *out = open_memstream(&text, &size);
    progress p;

    (void)state;
    progress_begin(&p, out, "two\nlines", 10, "images");
    progress_update(&p, 1, "%s", "a\r\033[2Jb");
    assert_string_equal(p.note, "a  [2Jb");
    assert_string_equal(p.label, "two lines");
    for (int i = 0; i < 90; i++)
        memcpy(wide + 2 * i, "ö", 3);
    p.drawn = 0;
    progress_update(&p, 1, "%s", wide);
    assert_int_equal(strlen(p.note) % 2, 0); /* no half character */
    progress_end(&p);
    fclose(out);
    assert_int_equal(count(text, "\n"), 3);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_line_for_a_log),
        cmocka_unit_test(test_line_without_a_total),
        cmocka_unit_test(test_resumed_work_is_not_in_the_rate),
        cmocka_unit_test(test_line_for_a_terminal),
        cmocka_unit_test(test_line_fits_every_width),
        cmocka_unit_test(test_more_than_all),
        cmocka_unit_test(test_a_log_gets_few_lines),
        cmocka_unit_test(test_a_terminal_is_redrawn_in_place),
        cmocka_unit_test(test_silent),
        cmocka_unit_test(test_notes_cannot_move_the_cursor),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
