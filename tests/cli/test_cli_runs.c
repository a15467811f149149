/* The command where a run could lose work or end wrong: two of them in one folder, a log that lost its end, files that
 * are cut while they are mapped, and adapters of others that name files or are too large. */
#include "command.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>

#include "formats/tensors.h"

#define RUN "train --backbone " VIT " --data data --batch-size 4 --warmup-epochs 0 --threads 1 --workers 1 --quiet "

static bool there(const char *name)
{
    char path[300];

    path_in(path, name);
    return file_exists(path);
}

static void write_text(const char *name, const char *text)
{
    char path[300];
    inlay_error err;

    path_in(path, name);
    ASSERT_OK(file_write(path, text, strlen(text), &err));
}

/* ---- one run in a folder ---- */

/* Whoever writes into the folder is refused while this process holds it, and nothing in it changes. */
static void test_folder_in_use(void **state)
{
    char lock[300];
    int fd;

    (void)state;
    expect(inlay(RUN "--epochs 1 --output two"), 0);
    assert_false(there("two/lock"));
    path_in(lock, "two/lock");
    fd = open(lock, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    assert_true(fd >= 0 && flock(fd, LOCK_EX) == 0);
    expect_error(inlay(RUN "--epochs 1 --output two"), 1, "'two' is in use by another run");
    expect_error(inlay(RUN "--epochs 1 --output two --overwrite"), 1, "'two' is in use by another run");
    expect_error(inlay(RUN "--epochs 1 --output two --resume"), 1, "'two' is in use by another run");
    expect_error(inlay("pretrain --data data --epochs 1 --output two --overwrite"), 1,
                 "'two' is in use by another run");
    expect(inlay(RUN "--method bitfit --epochs 1 --output bitfit"), 0);
    expect_error(inlay("fold --backbone " VIT " --adapter bitfit --output two --overwrite"), 1,
                 "'two' is in use by another run");
    assert_true(there("two/adapter.json") && there("two/adapter.safetensors") && there("two/results.json"));
    close(fd); /* a process that ended: its file is no lock */
    expect(inlay(RUN "--epochs 1 --output two --overwrite"), 0);
    assert_false(there("two/lock"));
}

static void test_lock_is_a_link(void **state)
{
    (void)state;
    write_text("mine", "not to be touched");
    assert_int_equal(shell("mkdir linked && ln -s ../mine linked/lock"), 0);
    expect_error(inlay(RUN "--epochs 1 --output linked"), 1, "symbolic link");
    assert_string_equal(text_of("mine"), "not to be touched");
}

/* A run that fails before it begins leaves no folder behind. */
static void test_nothing_is_left(void **state)
{
    (void)state;
    expect(inlay("train --backbone /no/such --data data --output none"), 1);
    assert_false(there("none"));
    assert_int_equal(shell("mkdir empty"), 0);
    expect(inlay("train --backbone /no/such --data data --output empty"), 1);
    assert_false(there("empty/lock"));
}

/* ---- a log that is shorter than the checkpoint tells ---- */

/* A run of many epochs, stopped in the middle: its checkpoint tells of lines. */
/* ---- runs that go on while something happens to their files ---- */

#define PATIENCE 1200 /* waits of 50 ms: what a busy machine may take */

/* `inlay <line>` in the test's folder, in the background; err.txt is its standard error. */
static pid_t start(const char *line)
{
    char command[3072];
    pid_t child;

    path_in(command, "err.txt"); /* what an earlier run said is not taken for this one's */
    unlink(command);
    child = fork();
    if (child == 0) {
        snprintf(command, sizeof command, "cd '%s' && exec '%s' %s >out.txt 2>err.txt", folder, INLAY_BINARY, line);
        execl("/bin/sh", "sh", "-c", command, (char *)NULL);
        _exit(127);
    }
    assert_true(child > 0);
    return child;
}

/* Its exit status once it has ended, with `signal` sent to it before unless that is 0. */
static int finish(pid_t child, int signal)
{
    int status;

    if (signal)
        kill(child, signal);
    for (int i = 0; i < PATIENCE; i++) {
        if (waitpid(child, &status, WNOHANG) == child)
            return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
        nanosleep(&(struct timespec){0, 50000000}, NULL);
    }
    kill(child, SIGKILL);
    waitpid(child, &status, 0);
    fail_msg("the run does not end");
    return -1;
}

static int lines_of(const char *name)
{
    char path[300];
    FILE *file;
    int count = 0, c;

    path_in(path, name);
    file = fopen(path, "r");
    while (file && (c = getc(file)) != EOF)
        count += c == '\n';
    if (file)
        fclose(file);
    return count;
}

/* Waits until the log has `more` lines more than `before`, whichever of them are older. */
static void wait_for_lines(const char *name, int before, int more)
{
    for (int i = 0; i < PATIENCE && lines_of(name) < before + more; i++)
        nanosleep(&(struct timespec){0, 50000000}, NULL);
    assert_true(lines_of(name) >= before + more);
}

static void expect_whole_lines(const char *name)
{
    char *at, *text = text_of(name);

    for (char *line = strtok_r(text, "\n", &at); line; line = strtok_r(NULL, "\n", &at)) {
        json_t *root = json_loads(line, 0, NULL);
        if (!root)
            fail_msg("no JSON: '%.80s'", line);
        json_decref(root);
    }
}

static void test_log_is_cut(void **state)
{
    static const char *const damages[] = {"truncate -s 700 %s/metrics.jsonl",
                                          "truncate -s 700 %s/metrics.jsonl && truncate -s 100000000 %s/metrics.jsonl",
                                          "rm %s/metrics.jsonl", "truncate -s 0 %s/metrics.jsonl"};
    char line[400], name[32], log[64];
    pid_t run;

    (void)state;
    for (int i = 0; i < 4; i++) {
        snprintf(name, sizeof name, "cut%d", i);
        snprintf(log, sizeof log, "%s/metrics.jsonl", name);
        snprintf(line, sizeof line, RUN "--epochs 100000 --output %s", name);
        run = start(line);
        wait_for_lines(log, 0, 12); /* more than 700 bytes */
        assert_int_equal(finish(run, SIGTERM), 143);
        snprintf(line, sizeof line, damages[i], name, name);
        assert_int_equal(shell("%s", line), 0);
        snprintf(line, sizeof line, RUN "--epochs 100000 --output %s --resume", name);
        run = start(line);
        wait_for_lines("err.txt", 0, 1);
        wait_for_lines(log, lines_of(log), 1);
        assert_int_equal(finish(run, SIGTERM), 143);
        if (!strstr(text_of("err.txt"), "bytes of whole lines, the checkpoint tells of"))
            fail_msg("%s: no note, but: %s", damages[i], text_of("err.txt"));
        expect_whole_lines(log);
    }
}

/* ---- files that are cut while they are mapped ---- */

/* The shared cache stays mapped as long as the run goes on, and every step reads it. */
static void test_cut_while_mapped(void **state)
{
    pid_t run = start("train --backbone " VIT
                      " --data data --method linear --epochs 100000 --batch-size 4 --threads 1 --workers 1 --quiet "
                      "--feature-cache on --cache-dir cache --output out");

    (void)state;
    wait_for_lines("out/metrics.jsonl", 0, 1);
    assert_int_equal(shell("truncate -c -s 4096 cache/features-*"), 0);
    assert_int_equal(finish(run, 0), 1);
    assert_non_null(strstr(text_of("err.txt"), "was cut while it was read"));
    assert_non_null(strstr(text_of("err.txt"), "cache/"));
}

/* ---- adapters of others ---- */

/* adapter.json of `name` with a value in the place of an option's. */
static void set_option(const char *name, const char *option, const char *value)
{
    char path[300], file[100];
    json_t *root;
    char *text;

    snprintf(file, sizeof file, "%s/adapter.json", name);
    root = json_of(file);
    json_object_set_new(json_object_get(root, "options"), option, json_string(value));
    text = json_dumps(root, 0);
    path_in(path, file);
    write_text(file, text);
    free(text);
    json_decref(root);
}

static void test_files_named_by_a_file(void **state)
{
    (void)state;
    expect(inlay(RUN "--epochs 1 --method pfeiffer --output p"), 0);
    expect(inlay(RUN "--epochs 1 --method adaptable --output s"), 0);
    expect(inlay(RUN "--epochs 1 --method fusion --adapters p,p --output f"), 0);
    expect(inlay("eval --backbone " VIT " --data data --adapter f"), 0);
    set_option("f", "adapters", "p,p");
    expect_error(inlay("eval --backbone " VIT " --data data --adapter f"), 1, "option 'adapters' names files");
    set_option("s", "focus", "s");
    expect_error(inlay("eval --backbone " VIT " --data data --adapter s"), 1, "option 'focus' names files");
    set_option("f", "adapters", "");
    set_option("f", "parts",
               "[{\"method\": \"adaptable\", \"options\": {\"focus\": \"s\"}}, "
               "{\"method\": \"adaptable\", \"options\": {}}]");
    expect_error(inlay("eval --backbone " VIT " --data data --adapter f"), 1, "option 'focus' names files");
}

static void test_many_parts(void **state)
{
    static const char part[] = "{\"method\": \"pfeiffer\", \"options\": {}},";
    char *text = malloc(20000 * sizeof part + 4), *at = text;

    (void)state;
    expect(inlay(RUN "--epochs 1 --method pfeiffer --output p"), 0);
    expect(inlay(RUN "--epochs 1 --method fusion --adapters p,p --output f"), 0);
    *at++ = '[';
    for (int i = 0; i < 20000; i++)
        at = (char *)memcpy(at, part, sizeof part - 1) + sizeof part - 1;
    memcpy(at - 1, "]", 2);
    set_option("f", "parts", text);
    free(text);
    expect_error(inlay("eval --backbone " VIT " --data data --adapter f"), 1, "parts: 20000 adapters, at most 256");
}

/* A header whose length is no multiple of 8: every value lies at an odd address. */
static void test_unaligned_tensors(void **state)
{
    char path[300], *bytes, *moved;
    size_t size;
    uint64_t length;
    inlay_error err;

    (void)state;
    assert_int_equal(shell("mkdir odd && cp " VIT "/config.json odd/"), 0);
    ASSERT_OK(file_read(VIT "/model.safetensors", 1 << 24, &bytes, &size, &err));
    memcpy(&length, bytes, sizeof length);
    moved = malloc(size + 1);
    memcpy(moved + 8, bytes + 8, length);
    moved[8 + length] = ' ';
    memcpy(moved + 9 + length, bytes + 8 + length, size - 8 - length);
    length++;
    memcpy(moved, &length, sizeof length);
    path_in(path, "odd/model.safetensors");
    ASSERT_OK(file_write(path, moved, size + 1, &err));
    free(bytes);
    free(moved);
    expect(inlay("predict --backbone " VIT " --json --logits data/test/class0/00.ppm"), 0);
    assert_int_equal(shell("mv out.txt even.txt"), 0);
    expect(inlay("predict --backbone odd --json --logits data/test/class0/00.ppm"), 0);
    assert_int_equal(shell("cmp even.txt out.txt"), 0);
    expect(inlay("train --backbone odd --data data --method full --epochs 1 --precision f32 --threads 1 --quiet "
                 "--output full"),
           0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_folder_in_use, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_lock_is_a_link, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_nothing_is_left, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_log_is_cut, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_cut_while_mapped, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_files_named_by_a_file, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_many_parts, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_unaligned_tensors, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
