/* Resuming on the same paths: images that are others now are found and named, copies with other times are not minded.
 */
#include "train/runs.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "formats/tensors.h"

static const setup plain = {.method = "adapter_plus", .threads = 2, .workers = 2, .cache = CACHE_OFF};

static void image_path(char out[300], int class, int index)
{
    snprintf(out, 300, "%s/data/train/class%d/%02d.ppm", folder, class, index);
}

/* Another pixel in the middle of the image; twice is none. */
static void change_image(int class, int index)
{
    char path[300];
    FILE *file;
    int byte;

    image_path(path, class, index);
    file = fopen(path, "r+b");
    assert_non_null(file);
    fseek(file, 2000, SEEK_SET);
    byte = fgetc(file);
    fseek(file, 2000, SEEK_SET);
    fputc(byte ^ 0x55, file);
    fclose(file);
}

/* Times of a copy. */
static void set_times(void)
{
    const struct timespec times[2] = {{.tv_sec = 1000000000}, {.tv_sec = 1000000000}};
    char path[300];

    for (int c = 0; c < CLASSES; c++)
        for (int i = 0; i < PER_CLASS; i++) {
            image_path(path, c, i);
            assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
        }
}

static void refused(const char *name, setup s, const char *words)
{
    char data[300], output[300];
    train_result result;
    inlay_error err = {0};

    path_of(data, "data");
    path_of(output, name);
    s.resume = true;
    assert_int_equal(train_once(data, output, s, &result, &err), INLAY_ERR_MISMATCH);
    train_result_free(&result);
    if (!strstr(err.message, words))
        fail_msg("'%s' does not say '%s'", err.message, words);
}

static void test_changed_image(void **state)
{
    char cache[300];
    const setup ways[] = {plain,
                          {.method = "linear", .threads = 2, .workers = 1, .cache = CACHE_AUTO},
                          {.method = "linear", .threads = 1, .workers = 2, .cache = CACHE_AUTO, .cache_dir = cache}};

    (void)state;
    path_of(cache, "cache");
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        setup s = ways[i];
        char whole[20], name[20];
        snprintf(whole, sizeof whole, "whole%zu", i);
        snprintf(name, sizeof name, "changed%zu", i);
        run_to_end(whole, s);
        s.stop_after = 7; /* in the second epoch: all images were read */
        run_and_stop(name, s);
        s.stop_after = 0;
        change_image(1, 4);
        refused(name, s, "/class1/04.ppm' is another image than this run read before");
        change_image(1, 4);
        set_times();
        s.resume = true;
        last_note[0] = '\0';
        run_to_end(name, s);
        assert_string_equal(last_note, "");
        same_bytes(whole, name, "adapter.safetensors");
    }
}

/* What was not read yet may be anything; what was is found when it is read again, in the same run too. */
static void change_when_asked(void)
{
    static int asked;

    if (++asked == 6)
        change_image(0, 0);
}

static void test_changed_while_it_runs(void **state)
{
    char data[300], output[300];
    train_result result;
    inlay_error err = {0};

    (void)state;
    path_of(data, "data");
    path_of(output, "running");
    when_asked = change_when_asked;
    assert_int_equal(train_once(data, output, plain, &result, &err), INLAY_ERR_MISMATCH);
    when_asked = NULL;
    assert_non_null(strstr(err.message, "/class0/00.ppm' is another image than this run read before"));
    train_result_free(&result);
    change_image(0, 0);
    setup s = plain;
    s.resume = true;
    run_to_end("running", s);
    same_bytes("whole0", "running", "adapter.safetensors");
}

/* A checkpoint of a build that kept no records: it goes on, and says what it cannot know. */
static void test_without_records(void **state)
{
    char path[300];
    tensor_set *file;
    tensor_view kept[200];
    int count = 0;
    setup s = plain;
    inlay_error err = {0};

    (void)state;
    s.stop_after = 7;
    run_and_stop("old", s);
    path_of(path, "old/checkpoint.safetensors");
    ASSERT_OK(tensor_set_open(&file, path, &err));
    for (int i = 0; i < tensor_set_count(file); i++)
        if (strncmp(tensor_set_at(file, i)->name, "images.", 7) != 0)
            kept[count++] = *tensor_set_at(file, i);
    assert_int_equal(count, tensor_set_count(file) - 3);
    const char *metadata[] = {"inlay.state",
                              tensor_set_metadata(file, "inlay.state"),
                              "inlay.run",
                              tensor_set_metadata(file, "inlay.run"),
                              "inlay.updates",
                              tensor_set_metadata(file, "inlay.updates"),
                              NULL};
    ASSERT_OK(safetensors_write(path, kept, count, metadata, &err));
    tensor_set_close(file);
    s.stop_after = 0;
    s.resume = true;
    run_to_end("old", s);
    assert_non_null(strstr(last_note, "the checkpoint does not say what the images were"));
    same_bytes("whole0", "old", "adapter.safetensors");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_changed_image),
        cmocka_unit_test(test_changed_while_it_runs),
        cmocka_unit_test(test_without_records),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
