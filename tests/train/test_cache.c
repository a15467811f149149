/* The feature cache: wherever it lies and whatever was done to it, a run has the bits of one without it; and what is
 * there is used again. */
#include "train/runs.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include "train/cache_file.h"

#define IMAGES (CLASSES * PER_CLASS)

static const setup plain = {.method = "adapter_plus", .threads = 2, .workers = 2, .cache = CACHE_AUTO};

static char cache_folder[300]; /* of the test that runs */

static int fresh_folder(void **state)
{
    static int number;

    (void)state;
    snprintf(cache_folder, sizeof cache_folder, "%s/cache%d", folder, number++);
    when_asked = NULL;
    return 0;
}

static setup with_folder(void)
{
    setup s = plain;

    s.cache_dir = cache_folder;
    return s;
}

/* Runs to the end and says how many images' features were there already. */
static int reused_by(const char *name, setup s, const char *data_name)
{
    char data[300], output[300];
    train_result result;
    inlay_error err;
    int reused;

    path_of(data, data_name);
    path_of(output, name);
    ASSERT_OK(train_once(data, output, s, &result, &err));
    assert_true(result.cached == (s.cache != CACHE_OFF));
    assert_true((result.cache_bytes > 0) == result.cached);
    reused = result.cache_reused;
    train_result_free(&result);
    return reused;
}

/* The one cache file. */
static void file_of_cache(char out[600])
{
    DIR *list = opendir(cache_folder);
    int count = 0;

    assert_non_null(list);
    for (struct dirent *entry; (entry = readdir(list)) != NULL;)
        if (entry->d_name[0] != '.') {
            snprintf(out, 600, "%s/%s", cache_folder, entry->d_name);
            count++;
        }
    closedir(list);
    assert_int_equal(count, 1);
}

static size_t size_of(const char *path)
{
    size_t size = 0;

    assert_true(file_size(path, &size));
    return size;
}

static size_t record_size(const char *path)
{
    return (size_of(path) - 4096) / IMAGES;
}

static void flip(const char *path, size_t at)
{
    FILE *f = fopen(path, "r+b");
    int byte;

    assert_non_null(f);
    fseek(f, (long)at, SEEK_SET);
    byte = fgetc(f);
    fseek(f, (long)at, SEEK_SET);
    fputc(byte ^ 0x10, f);
    assert_int_equal(fclose(f), 0);
}

static void uncached(const char *name, setup s, const char *data_name)
{
    s.cache = CACHE_OFF;
    assert_int_equal(reused_by(name, s, data_name), 0);
}

static void test_places(void **state)
{
    setup s = plain;
    char left[300];

    (void)state;
    uncached("off", plain, "data");
    assert_int_equal(reused_by("memory", plain, "data"), 0);
    same_bytes("off", "memory", "adapter.safetensors");
    s.cache_limit = 1;
    assert_int_equal(reused_by("spilled", s, "data"), 0);
    same_bytes("off", "spilled", "adapter.safetensors");
    path_of(left, "spilled/features.tmp");
    assert_false(file_exists(left));
    s = with_folder();
    for (int mode = 0; mode < 2; mode++) {
        s.cache = mode ? CACHE_ON : CACHE_AUTO;
        s.threads = 2 - mode;
        assert_int_equal(reused_by("kept", s, "data"), mode ? IMAGES : 0);
        same_bytes("off", "kept", "adapter.safetensors");
        same_bytes("off", "kept", "adapter.json");
        assert_int_equal(reused_by("reused", s, "data"), IMAGES);
        same_bytes("off", "reused", "adapter.safetensors");
        same_bytes("off", "reused", "adapter.json");
    }
}

/* The same frozen part below other adapters, another seed's order, another split of the same images: one file. Other
 * values: another one, and the right bits. */
static void test_shared(void **state)
{
    setup s = with_folder();
    char path[600];

    (void)state;
    reused_by("first", s, "data");
    s.settings = "rank=4 activation=relu";
    assert_int_equal(reused_by("other-rank", s, "data"), IMAGES);
    uncached("other-rank-off", s, "data");
    same_bytes("other-rank", "other-rank-off", "adapter.safetensors");
    file_of_cache(path);
    s.settings = NULL;
    s.prec = PRECISION_BF16;
    assert_int_equal(reused_by("bf16", s, "data"), 0);
    uncached("bf16-off", s, "data");
    same_bytes("bf16", "bf16-off", "adapter.safetensors");
    s = with_folder();
    s.method = "lora";
    assert_int_equal(reused_by("lora", s, "data"), 0);
    assert_int_equal(reused_by("lora-again", s, "data"), IMAGES);
    uncached("lora-off", s, "data");
    same_bytes("lora-again", "lora-off", "adapter.safetensors");
}

static void test_corrupted(void **state)
{
    setup s = with_folder();
    char path[600];
    size_t record;

    (void)state;
    uncached("whole", plain, "data");
    reused_by("damaged", s, "data");
    file_of_cache(path);
    record = record_size(path);
    flip(path, 4096 + 3 * record + CACHE_RECORD_HEAD + 100); /* a value */
    flip(path, 4096 + 5 * record + CACHE_RECORD_HEAD);
    assert_int_equal(reused_by("damaged", s, "data"), IMAGES - 2);
    same_bytes("whole", "damaged", "adapter.safetensors");
    assert_int_equal(reused_by("damaged", s, "data"), IMAGES);
    flip(path, 4096 + 7 * record + 10); /* an image's name */
    flip(path, 4096 + 8 * record + 65); /* a checksum */
    assert_int_equal(reused_by("damaged", s, "data"), IMAGES - 2);
    same_bytes("whole", "damaged", "adapter.safetensors");
    flip(path, 30); /* what the file says of itself */
    assert_int_equal(reused_by("damaged", s, "data"), 0);
    same_bytes("whole", "damaged", "adapter.safetensors");
    assert_int_equal(reused_by("damaged", s, "data"), IMAGES);
    same_bytes("whole", "damaged", "adapter.safetensors");
}

static void test_truncated(void **state)
{
    setup s = with_folder();
    char path[600];
    size_t record;

    (void)state;
    uncached("long", plain, "data");
    reused_by("short", s, "data");
    file_of_cache(path);
    record = record_size(path);
    const size_t sizes[] = {
        0, 100, 4096, 4096 + record / 2, 4096 + record, 4096 + 6 * record + 64, 4096 + IMAGES * record - 1};
    const int left[] = {0, 0, 0, 0, 1, 6, IMAGES - 1};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        assert_int_equal(truncate(path, (off_t)sizes[i]), 0);
        assert_int_equal(reused_by("short", s, "data"), left[i]);
        same_bytes("long", "short", "adapter.safetensors");
        assert_int_equal(size_of(path), 4096 + IMAGES * record);
    }
}

/* The same path, size and time, but other pixels: only the bytes tell. */
static void test_changed_image(void **state)
{
    setup s = with_folder();
    char data[300], path[400];
    struct stat before;

    (void)state;
    path_of(data, "changing");
    support_images(data, "train", CLASSES, PER_CLASS, 40);
    support_images(data, "val", CLASSES, 2, 40);
    reused_by("before", s, "changing");
    snprintf(path, sizeof path, "%s/train/class1/03.ppm", data);
    assert_int_equal(stat(path, &before), 0);
    for (size_t at = 1000; at < 3000; at++)
        flip(path, at);
    assert_int_equal(utimensat(AT_FDCWD, path, (const struct timespec[]){before.st_atim, before.st_mtim}, 0), 0);
    assert_int_equal(reused_by("after", s, "changing"), IMAGES - 1);
    uncached("after-off", s, "changing");
    same_bytes("after", "after-off", "adapter.safetensors");
    for (size_t at = 1000; at < 3000; at++)
        flip(path, at);
    assert_int_equal(reused_by("back", s, "changing"), IMAGES); /* the row of the first version is there still */
    same_bytes("before", "back", "adapter.safetensors");
}

/* One weight of the first block in another checkpoint at the same path. */
static void test_changed_checkpoint(void **state)
{
    static char copy[300];
    const char *kept = backbone_path;
    char command[700], weights[400], config[400];
    setup s = with_folder();

    (void)state;
    path_of(copy, "vit");
    snprintf(command, sizeof command, "cp -r '%s' '%s'", backbone_path, copy);
    assert_int_equal(system(command), 0);
    snprintf(weights, sizeof weights, "%s/model.safetensors", copy);
    snprintf(config, sizeof config, "%s/config.json", copy);
    backbone_path = copy;
    reused_by("old-weights", s, "data");
    assert_int_equal(reused_by("old-weights", s, "data"), IMAGES);
    for (size_t at = size_of(weights) / 2; at < size_of(weights) / 2 + 4000; at += 4)
        flip(weights, at);
    assert_int_equal(reused_by("new-weights", s, "data"), 0);
    uncached("new-weights-off", s, "data");
    same_bytes("new-weights", "new-weights-off", "adapter.safetensors");
    backbone_path = kept;
}

/* An image that cannot be read is tried again, named again, and left out again; copies of an image are images of their
 * own. */
static void test_bad_and_equal_images(void **state)
{
    setup s = with_folder();
    char data[300], output[300], path[400], command[1000];
    train_result result;
    inlay_error err;

    (void)state;
    path_of(data, "mixed");
    support_images(data, "train", CLASSES, PER_CLASS, 40);
    support_images(data, "val", CLASSES, 2, 40);
    for (int i = 2; i < 4; i++) {
        snprintf(path, sizeof path, "%s/train/class1/0%d.ppm", data, i);
        ASSERT_OK(file_write(path, "P6 40 40 255 truncated", 22, &err));
    }
    snprintf(command, sizeof command, "cp '%s/train/class0/00.ppm' '%s/train/class2/05.ppm'", data, data);
    assert_int_equal(system(command), 0);
    uncached("mixed-off", s, "mixed");
    for (int run = 0; run < 2; run++) {
        path_of(output, "mixed-cached");
        ASSERT_OK(train_once(data, output, s, &result, &err));
        assert_int_equal(result.cache_reused, run ? IMAGES - 2 : 0);
        assert_int_equal(result.bad_count, 2);
        assert_non_null(strstr(result.bad[0], "02.ppm"));
        assert_non_null(strstr(result.bad[1], "03.ppm"));
        train_result_free(&result);
        same_bytes("mixed-off", "mixed-cached", "adapter.safetensors");
    }
}

/* Killed at some moment while it fills or trains: the next run completes what is there. */
static void test_killed(void **state)
{
    setup s = with_folder();

    (void)state;
    uncached("alive", plain, "data");
    for (int trial = 0; trial < 8; trial++) {
        char data[300], output[300];
        pid_t child;
        int outcome;
        path_of(data, "data");
        path_of(output, "killed");
        child = fork();
        if (child == 0) {
            train_result result;
            inlay_error err;
            _exit(train_once(data, output, s, &result, &err) == INLAY_OK ? 0 : 1);
        }
        nanosleep(&(struct timespec){0, 3000000L * trial}, NULL);
        kill(child, SIGKILL);
        waitpid(child, &outcome, 0);
    }
    reused_by("completed", s, "data");
    same_bytes("alive", "completed", "adapter.safetensors");
    assert_int_equal(reused_by("completed", s, "data"), IMAGES);
}

/* Several at once: one fills, the others wait and read. */
static void test_at_once(void **state)
{
    setup s = with_folder();
    pid_t children[4];
    char data[300], output[300], name[32], path[600];
    int outcome;

    (void)state;
    uncached("alone", plain, "data");
    path_of(data, "data");
    for (int i = 0; i < 4; i++) {
        snprintf(name, sizeof name, "at-once%d", i);
        path_of(output, name);
        children[i] = fork();
        if (children[i] == 0) {
            train_result result;
            inlay_error err;
            _exit(train_once(data, output, s, &result, &err) == INLAY_OK ? 0 : 1);
        }
    }
    for (int i = 0; i < 4; i++) {
        assert_int_equal(waitpid(children[i], &outcome, 0), children[i]);
        assert_true(WIFEXITED(outcome) && WEXITSTATUS(outcome) == 0);
        snprintf(name, sizeof name, "at-once%d", i);
        same_bytes("alone", name, "adapter.safetensors");
    }
    file_of_cache(path);
    assert_int_equal(size_of(path), 4096 + IMAGES * record_size(path));
}

static void change_last_image(void)
{
    char path[400];

    snprintf(path, sizeof path, "%s/moving/train/class%d/%02d.ppm", folder, CLASSES - 1, PER_CLASS - 1);
    flip(path, 2000);
    when_asked = NULL;
}

/* An image that is written while the cache is filled must not be kept under the name of what it was. */
static void test_changed_meanwhile(void **state)
{
    setup s = with_folder();
    char data[300], output[300];
    train_result result;
    inlay_error err;

    (void)state;
    path_of(data, "moving");
    path_of(output, "moved");
    support_images(data, "train", CLASSES, PER_CLASS, 40);
    support_images(data, "val", CLASSES, 2, 40);
    when_asked = change_last_image;
    assert_int_equal(train_once(data, output, s, &result, &err), INLAY_ERR_MISMATCH);
    assert_non_null(strstr(err.message, "was changed while the feature cache was filled"));
    train_result_free(&result);
    reused_by("settled", s, "moving");
    uncached("settled-off", s, "moving");
    same_bytes("settled", "settled-off", "adapter.safetensors");
}

static struct rlimit roomy;

static void lift_limit(void)
{
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &roomy), 0);
}

/* No space for the file: a note and a run without it, or an error where it was asked for. */
static void test_full_disk(void **state)
{
    static const char *const names[] = {"full-folder", "full-spill"};
    char data[300], output[300];
    struct rlimit tight;
    train_result result;
    inlay_error err;

    (void)state;
    uncached("roomy", plain, "data");
    path_of(data, "data");
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &roomy), 0);
    tight = (struct rlimit){.rlim_cur = 1, .rlim_max = roomy.rlim_max};
    for (int spill = 0; spill < 2; spill++) {
        setup s = with_folder();
        inlay_status status;
        s.cache_dir = spill ? NULL : cache_folder;
        s.cache_limit = spill ? 1 : 0;
        s.cache = CACHE_ON;
        path_of(output, names[spill]);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &tight), 0);
        status = train_once(data, output, s, &result, &err);
        lift_limit();
        assert_int_equal(status, INLAY_ERR_IO);
        assert_non_null(strstr(err.message, spill ? "features.tmp': File too large" : ".cache': File too large"));
        train_result_free(&result);
        s.cache = CACHE_AUTO;
        when_noted = lift_limit; /* what else the run writes has room */
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &tight), 0);
        status = train_once(data, output, s, &result, &err);
        when_noted = NULL;
        lift_limit();
        assert_int_equal(status, INLAY_OK);
        assert_non_null(strstr(last_note, "no feature cache in a file"));
        assert_int_equal(result.cached, !spill); /* in memory, where it fits */
        train_result_free(&result);
        same_bytes("roomy", names[spill], "adapter.safetensors");
    }
}

static void test_unusable_folder(void **state)
{
    setup s = plain;
    char data[300], output[300], path[300];
    train_result result;
    inlay_error err;

    (void)state;
    uncached("no-folder-off", plain, "data");
    path_of(data, "data");
    path_of(path, "data/train/class0/00.ppm/cache");
    path_of(output, "no-folder");
    s.cache_dir = path;
    ASSERT_OK(train_once(data, output, s, &result, &err));
    assert_true(result.cached); /* in memory, where it fits */
    assert_non_null(strstr(last_note, "no feature cache in a file: cannot create folder"));
    train_result_free(&result);
    same_bytes("no-folder-off", "no-folder", "adapter.safetensors");
    s.cache_limit = 1;
    ASSERT_OK(train_once(data, output, s, &result, &err));
    assert_false(result.cached);
    train_result_free(&result);
    same_bytes("no-folder-off", "no-folder", "adapter.safetensors");
    s.cache = CACHE_ON;
    assert_int_equal(train_once(data, output, s, &result, &err), INLAY_ERR_IO);
    assert_non_null(strstr(err.message, "00.ppm"));
    train_result_free(&result);
}

#define CACHE_TEST(test) cmocka_unit_test_setup(test, fresh_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CACHE_TEST(test_places),
        CACHE_TEST(test_shared),
        CACHE_TEST(test_corrupted),
        CACHE_TEST(test_truncated),
        CACHE_TEST(test_changed_image),
        CACHE_TEST(test_changed_checkpoint),
        CACHE_TEST(test_bad_and_equal_images),
        CACHE_TEST(test_killed),
        CACHE_TEST(test_at_once),
        CACHE_TEST(test_changed_meanwhile),
        CACHE_TEST(test_full_disk),
        CACHE_TEST(test_unusable_folder),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
