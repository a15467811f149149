/* The command at first contact: what is not a number, inputs and outputs that are no regular files, names that are not
 * UTF-8, options and variables that would be passed over, signals, and folders in which a run is already. */
#include "command.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <sys/stat.h>

#include "formats/tensors.h"

#define RUN "train --backbone " VIT " --data data --batch-size 4 --warmup-epochs 0 --threads 1 --workers 1 --quiet "
#define ONE "data/test/class0/00.ppm"

static void expect_text(const char *name, const char *part)
{
    if (!strstr(text_of(name), part))
        fail_msg("'%s' is not in: %s", part, text_of(name));
}

/* A copy of the safetensors file `from` in which the first value of `tensor` is `x`. */
static void damage(const char *from, const char *to, const char *tensor, float x)
{
    tensor_set *set;
    tensor_view views[256];
    float *values = NULL;
    int count;
    inlay_error err;

    ASSERT_OK(tensor_set_open(&set, from, &err));
    count = tensor_set_count(set);
    assert_true(count <= 256);
    for (int i = 0; i < count; i++) {
        views[i] = *tensor_set_at(set, i);
        if (strcmp(views[i].name, tensor) != 0)
            continue;
        assert_int_equal(views[i].type, DTYPE_F32);
        values = malloc((size_t)views[i].count * sizeof *values);
        memcpy(values, views[i].data, (size_t)views[i].count * sizeof *values);
        values[0] = x;
        views[i].data = values;
    }
    assert_non_null(values);
    ASSERT_OK(safetensors_write(to, views, count, NULL, &err));
    free(values);
    tensor_set_close(set);
}

static void damaged_backbone(const char *name, const char *tensor, float x)
{
    char path[300], line[400];

    snprintf(path, sizeof path, "%s/%s/model.safetensors", folder, name);
    snprintf(line, sizeof line, "mkdir -p %s && cp " VIT "/config.json %s/", name, name);
    assert_int_equal(shell("%s", line), 0);
    damage(VIT "/model.safetensors", path, tensor, x);
}

/* ---- not a number ---- */

static void test_not_finite(void **state)
{
    static const char *const tensors[] = {"head.weight", "blocks.1.mlp.fc1.bias", "norm.weight",
                                          "patch_embed.proj.weight"};
    static const float values[] = {NAN, INFINITY, -INFINITY};
    char path[300], other[300];

    (void)state;
    assert_int_equal(shell("for c in 0 1 2; do for f in data/test/class$c/*; do echo $f,$c; done; done | sed '1i "
                           "path,label' > list.csv"),
                     0);
    for (int i = 0; i < 4; i++) {
        damaged_backbone("nan", tensors[i], values[i % 3]);
        expect_error(inlay("eval --backbone nan --data list.csv --quiet"), 1,
                     "data/test/class0/00.ppm': the logits are not finite");
        expect_text("err.txt", tensors[i]);
        assert_int_equal(strlen(text_of("out.txt")), 0);
        expect_error(inlay("eval --backbone nan --data list.csv --quiet --json"), 1, "not finite");
        assert_int_equal(strlen(text_of("out.txt")), 0);
        expect_error(inlay("predict --backbone nan " ONE), 1, "'" ONE "': the logits are not finite");
        expect_error(inlay("predict --backbone nan " ONE " --json --logits"), 1, "not finite");
        assert_int_equal(strlen(text_of("out.txt")), 0);
    }
    damaged_backbone("nan", "blocks.0.norm1.weight", NAN);
    expect_error(inlay("bench --backbone nan --runs 1 --batch-size 2 --threads 1 --precision f32 --quiet"), 1,
                 "not finite");
    /* an adapter, evaluated, asked, and folded */
    expect(inlay(RUN "--method lora --epochs 1 --output low"), 0);
    assert_int_equal(shell("cp -r low bad"), 0);
    path_in(path, "low/adapter.safetensors");
    path_in(other, "bad/adapter.safetensors");
    damage(path, other, "head.bias", NAN);
    expect_error(inlay("eval --backbone " VIT " --adapter bad --data data --quiet"), 1,
                 "tensor 'head.bias' of the 'lora' adapter has a value that is not finite");
    expect_error(inlay("predict --backbone " VIT " --adapter low --adapter bad " ONE " --json"), 1, "not finite");
    expect_error(inlay("fold --backbone " VIT " --adapter bad --output folded"), 1, "not finite");
    expect_error(inlay("train --backbone nan --data data --epochs 1 --batch-size 4 --quiet --output never"), 1,
                 "not finite");
}

/* The last update of a run spoils the weights: with an evaluation behind it and without. */
static void test_diverged(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        for (int again = 0; again < 2; again++) {
            expect(inlay("train --backbone " VIT " --data data --epochs 1 --batch-size 18 --quiet --no-tensorboard "
                         "--output diverged%d --warmup-epochs 0 --repeat-first "
                         "--lr 100 --beta1 0 --beta2 0 --adam-eps 0 --weight-decay 10 --method full --eval-split %s%s",
                         i, i ? "none" : "val", again ? " --resume" : ""),
                   1);
            expect_text("err.txt", "not finite");
            expect_text("err.txt", "--lr");
            assert_null(strstr(text_of("err.txt"), "Success"));
        }
        assert_int_equal(shell("[ -e diverged%d/adapter.json ]", i), 1);
    }
}

/* ---- which images, and how they are answered ---- */

static json_t *results_of(const char *name)
{
    json_t *root = json_of(name), *results = json_incref(json_object_get(root, "results"));

    json_decref(root);
    return results;
}

static const char *path_at(const json_t *results, size_t index)
{
    return json_string_value(json_object_get(json_array_get(results, index), "path"));
}

static void test_predict_order(void **state)
{
    json_t *results;

    (void)state;
    expect(
        inlay("predict --backbone " VIT
              " --json --top-k 1 --batch-size 2 data/test/class2/01.ppm data/test/class0 data/test/class2/01.ppm " ONE),
        0);
    results = results_of("out.txt");
    assert_int_equal(json_array_size(results), 6);
    assert_string_equal(path_at(results, 0), "data/test/class2/01.ppm");
    assert_string_equal(path_at(results, 1), "data/test/class0/00.ppm");
    assert_string_equal(path_at(results, 3), "data/test/class0/02.ppm");
    assert_string_equal(path_at(results, 4), "data/test/class2/01.ppm");
    assert_string_equal(path_at(results, 5), ONE);
    assert_true(json_equal(json_object_get(json_array_get(results, 0), "top"),
                           json_object_get(json_array_get(results, 4), "top")));
    json_decref(results);
}

/* What was named and cannot be read fails the command, when the others are answered; what a folder holds is only told.
 */
static void test_predict_unreadable(void **state)
{
    json_t *results;

    (void)state;
    assert_int_equal(shell("mkdir -p mixed void && cp " ONE
                           " mixed/a.ppm && echo no image > mixed/b.png && echo nothing > text.jpg"),
                     0);
    expect(inlay("predict --backbone " VIT " --json mixed"), 0);
    expect_text("err.txt", "left out: 'mixed/b.png'");
    expect_error(inlay("predict --backbone " VIT " --json mixed --strict"), 1, "1 of 2 images could not be read");
    expect_error(inlay("predict --backbone " VIT " --json text.jpg " ONE " nowhere.png void"), 1,
                 "3 of 4 images could not be read");
    expect_text("err.txt", "'text.jpg'");
    expect_text("err.txt", "'nowhere.png'");
    expect_text("err.txt", "'void'");
    results = results_of("out.txt");
    assert_int_equal(json_array_size(results), 1);
    json_decref(results);
    expect_error(inlay("predict --backbone " VIT " --json text.jpg"), 1, "1 of 1 images could not be read");
    results = results_of("out.txt");
    assert_int_equal(json_array_size(results), 0);
    json_decref(results);
}

static void test_predict_streams(void **state)
{
    json_t *direct, *piped;

    (void)state;
    expect(inlay("predict --backbone " VIT " --json " ONE), 0);
    direct = results_of("out.txt");
    for (int way = 0; way < 4; way++) {
        static const char *const lines[] = {
            "cat " ONE " | $INLAY predict --backbone " VIT " --json - >out.txt 2>err.txt",
            "cat " ONE " | $INLAY predict --backbone " VIT " --json /dev/stdin >out.txt 2>err.txt",
            "$INLAY predict --backbone " VIT " --json - < " ONE " >out.txt 2>err.txt",
            "rm -f pipe && mkfifo pipe && { cat " ONE " > pipe & } && $INLAY predict --backbone " VIT
            " --json pipe >out.txt 2>err.txt"};
        expect(shell("%s", lines[way]), 0);
        piped = results_of("out.txt");
        assert_int_equal(json_array_size(piped), 1);
        assert_true(json_equal(json_object_get(json_array_get(piped, 0), "top"),
                               json_object_get(json_array_get(direct, 0), "top")));
        json_decref(piped);
    }
    json_decref(direct);
    expect_error(shell("$INLAY predict --backbone " VIT " - </dev/null >out.txt 2>err.txt"), 1,
                 "'-': the file is empty");
    expect_error(shell("$INLAY predict --backbone " VIT " /dev/zero >out.txt 2>err.txt"), 1,
                 "'/dev/zero' has more than the 268435456 bytes that are read");
}

static void test_predict_names(void **state)
{
    json_t *results;

    (void)state;
    assert_int_equal(
        shell("cp " ONE " \"$(printf 'n\\351.ppm')\" && cp " ONE " \"$(printf 'e\\033[2J\\302\\233x\\233y\\n.ppm')\""),
        0);
    expect(shell("$INLAY predict --backbone " VIT " --json --top-k 1 n*.ppm " ONE " e*.ppm >out.txt 2>err.txt"), 0);
    results = results_of("out.txt");
    assert_int_equal(json_array_size(results), 3);
    assert_string_equal(path_at(results, 0), "n\xef\xbf\xbd.ppm");
    assert_string_equal(json_string_value(json_object_get(json_array_get(results, 0), "path_bytes")), "6ee92e70706d");
    assert_null(json_object_get(json_array_get(results, 1), "path_bytes"));
    json_decref(results);
    expect(shell("$INLAY predict --backbone " VIT " e*.ppm >out.txt 2>err.txt"), 0);
    expect_text("out.txt", "e\\x1b[2J\\xc2\\x9bx\\x9by\\x0a.ppm\n");
    expect_error(shell("$INLAY predict --backbone \"$(printf 'no\\033[2Jwhere')\" " ONE " >out.txt 2>err.txt"), 1,
                 "'no\\x1b[2Jwhere'");
    /* what is recorded with an adapter must be text, and that is said before anything is trained */
    assert_int_equal(shell("d=\"latin/train/$(printf 'caf\\351')\"; mkdir -p \"$d\" latin/train/tea && cp "
                           "data/train/class0/* \"$d\" && cp data/train/class1/* latin/train/tea"),
                     0);
    expect(inlay("train --backbone " VIT " --data latin --batch-size 4 --epochs 1 --quiet --output l"), 1);
    expect_text("err.txt", "UTF-8");
    assert_int_equal(shell("[ -e l ]"), 1);
    expect_error(shell("$INLAY " RUN
                       "--method fusion --epochs 1 --output f --adapters \"$(printf 'a\\351,b')\" >out.txt 2>err.txt"),
                 2, "is not UTF-8");
}

/* ---- outputs ---- */

static void test_outputs(void **state)
{
    (void)state;
    expect(inlay(RUN "--method linear --epochs 1 --output judge"), 0);
    assert_int_equal(shell("mkdir -p elsewhere && echo old > elsewhere/real.csv && ln -s elsewhere/real.csv link.csv "
                           "&& ln -s link.csv chain.csv && ln -s absent.csv dangling.csv"),
                     0);
    for (int i = 0; i < 3; i++) {
        static const char *const names[][2] = {
            {"link.csv", "elsewhere/real.csv"}, {"chain.csv", "elsewhere/real.csv"}, {"dangling.csv", "absent.csv"}};
        expect(inlay("eval --backbone " VIT " --adapter judge --data data --quiet --confusion %s", names[i][0]), 0);
        assert_int_equal(shell("[ -L %s ]", names[i][0]), 0);
        expect_text(names[i][1], "true\\predicted,class0,class1,class2");
        assert_int_equal(shell("echo old > elsewhere/real.csv; ! ls -R | grep -q tmp"), 0);
    }
    assert_int_equal(shell("ln -s round.csv round.csv"), 0);
    expect_error(inlay("eval --backbone " VIT " --adapter judge --data data --quiet --confusion round.csv"), 1,
                 "cannot write 'round.csv'");
    expect_error(inlay("eval --backbone " VIT " --adapter judge --data data --quiet --confusion elsewhere"), 1,
                 "cannot write 'elsewhere': Is a directory");
    expect(inlay("eval --backbone " VIT " --adapter judge --data data --quiet --confusion /dev/stdout"), 0);
    expect_text("out.txt", "true\\predicted,class0,class1,class2");
    expect_text("out.txt", "9 images: top-1");
    assert_int_equal(shell("rm -f pipe && mkfifo pipe && { cat pipe > drained.txt & } && $INLAY eval --backbone " VIT
                           " --adapter judge --data data --quiet --confusion pipe "
                           ">out.txt && wait && [ -p pipe ]"),
                     0);
    expect_text("drained.txt", "true\\predicted");
    assert_int_equal(shell("$INLAY eval --backbone " VIT
                           " --adapter judge --data data --quiet --confusion /dev/null >out.txt && [ -c /dev/null ]"),
                     0);
    expect_error(inlay("eval --backbone " VIT " --adapter judge --data data --quiet --confusion /dev/full"), 1,
                 "cannot write '/dev/full': No space left on device");
}

/* Links that others put into an output folder lead nowhere. */
static void test_links_in_output(void **state)
{
    static const char *const names[] = {"checkpoint.safetensors.tmp",
                                        "adapter.json.tmp",
                                        "adapter.safetensors.tmp",
                                        "results.json.tmp",
                                        "curves.svg.tmp",
                                        "features.tmp",
                                        "adapter.json",
                                        "results.json",
                                        "curves.svg",
                                        "metrics.jsonl"};

    (void)state;
    for (int i = 0; i < 10; i++) {
        bool refused = i == 9;
        expect(
            shell("rm -rf linked && mkdir linked && echo precious > victim && ln -s ../victim linked/%s && $INLAY " RUN
                  "--epochs 1 --overwrite --drop-layers 1 --backbone-drop-path 0 --cache-limit 0 --output linked "
                  ">out.txt 2>err.txt",
                  names[i]),
            0);
        expect(shell("rm -rf linked && mkdir linked && ln -s ../victim linked/%s && $INLAY " RUN
                     "--epochs 1 --drop-layers 1 --backbone-drop-path 0 --cache-limit 0 --output linked --%s >out.txt "
                     "2>err.txt",
                     names[i], i == 6 ? "overwrite" : "no-resume"),
               refused ? 1 : 0);
        if (refused)
            expect_text("err.txt", "it is a symbolic link");
        assert_string_equal(text_of("victim"), "precious\n");
    }
}

static void test_standard_streams(void **state)
{
    static const char *const answers[] = {"--version",
                                          "--help",
                                          "help",
                                          "methods",
                                          "methods lora",
                                          "methods --json",
                                          "train --help",
                                          "predict --man",
                                          "inspect " VIT,
                                          "inspect " VIT " --json",
                                          "predict --backbone " VIT " " ONE,
                                          "predict --backbone " VIT " --json data/test"};

    (void)state;
    for (size_t i = 0; i < sizeof answers / sizeof *answers; i++) {
        expect_error(shell("$INLAY %s >/dev/full 2>err.txt", answers[i]), 1, "cannot write");
        expect(shell("$INLAY %s >&- 2>err.txt", answers[i]), 0);
    }
    expect_error(shell("{ sleep 0.2; $INLAY predict --backbone " VIT
                       " data/test data/train 2>err.txt; echo $? > status; } | true; exit $(cat status)"),
                 1, "Broken pipe");
    expect(shell("$INLAY train --backbone " VIT " --data data --batch-size 4 --epochs 2 --output closed 2>&- >&- <&-"),
           0);
    assert_int_equal(text_of("closed/metrics.jsonl")[0], '{');
    assert_null(strstr(text_of("closed/metrics.jsonl"), "img"));
    expect_error(
        shell("(ulimit -f 8; trap '' XFSZ; $INLAY " RUN "--epochs 1 --method full --output small >out.txt 2>err.txt)"),
        1, "File too large");
    expect_error(
        shell("(ulimit -f 8; $INLAY " RUN "--epochs 1 --method full --output small --overwrite >out.txt 2>err.txt)"), 1,
        "File too large");
}

/* ---- options and variables ---- */

static void test_variables(void **state)
{
    (void)state;
    expect_error(shell("INLAY_EPOCH=3 $INLAY methods >out.txt 2>err.txt"), 2,
                 "INLAY_EPOCH is not known, did you mean INLAY_EPOCHS?");
    expect_error(shell("INLAY_BATCHSIZE=4 $INLAY " RUN "--epochs 1 --output v >out.txt 2>err.txt"), 2,
                 "did you mean INLAY_BATCH_SIZE?");
    expect_error(shell("INLAY_DROPOUTS=4 $INLAY methods >out.txt 2>err.txt"), 2,
                 "did you mean INLAY_DROPOUT?"); /* a method's option */
    expect(shell("INLAY_SOMETHING_ELSE=4 $INLAY methods >out.txt 2>err.txt"), 0);
    expect_text("err.txt", "note: environment variable INLAY_SOMETHING_ELSE is not an option of any subcommand");
    expect(shell("INLAY_EPOCHS=3 INLAY_RANK=2 INLAY_ISA=portable INLAY_EPOCH= INLAY_VERSION=1 "
                 "INLAY_PORT=tcp://10.0.0.1 INLAY_SERVICE_HOST=10.0.0.1 $INLAY methods "
                 ">out.txt 2>err.txt"),
           0);
    assert_string_equal(text_of("err.txt"), "");
    expect_error(inlay(RUN "--data other --epochs 1 --output v"), 2, "--data is given twice: 'data' and 'other'");
    expect_error(inlay(RUN "--epochs 1 --output v --tensorboard --no-tensorboard"), 2,
                 "--tensorboard and --no-tensorboard are given");
    expect(inlay("predict --backbone " VIT " --top-k 2 --top-k 1 " ONE), 0);
    expect_text("err.txt", "note: --top-k is given twice, 2 and 1: the last counts");
    expect(inlay("predict --backbone " VIT " --backbone " VIT " --top-k 2 --top-k 2 " ONE), 0);
    assert_null(strstr(text_of("err.txt"), "twice"));
}

/* ---- folders with a run in them ---- */

static int count_files(const char *name)
{
    assert_int_equal(shell("ls %s | wc -l > count.txt", name), 0);
    return atoi(text_of("count.txt"));
}

static void test_overwrite(void **state)
{
    int before;

    (void)state;
    expect(inlay(RUN "--method linear --epochs 1 --output one"), 0);
    before = count_files("one");
    expect(inlay(RUN "--method linear --epochs 1 --overwrite --output '[o]ne'"), 0);
    expect(inlay(RUN "--method linear --epochs 1 --overwrite --output 'on?'"), 0);
    assert_int_equal(count_files("one"), before);
    /* nothing is taken away before all that the new run needs is open */
    expect(inlay("train --backbone nowhere --data data --output one --overwrite"), 1);
    expect(inlay("train --backbone " VIT " --data nowhere --output one --overwrite"), 1);
    expect(inlay(RUN "--method linear --rank 4 --output one --overwrite"), 2);
    expect(inlay(RUN "--method fusion --adapters a,b --output one --overwrite"), 1);
    expect(inlay(RUN "--method linear --output one --overwrite --interpolation none"), 2);
    assert_int_equal(count_files("one"), before);
    expect_error(inlay(RUN "--method linear --output one --overwrite --resume"), 2, "one of them");
    /* all of the old run goes, and nothing else */
    assert_int_equal(shell("mkdir one/trained && touch one/trained/adapter.json one/adapter.json.tmp "
                           "one/events.out.tfevents.1.x one/notes.txt one/events.txt one/features"),
                     0);
    expect(inlay(RUN "--method linear --epochs 1 --output one --overwrite"), 0);
    assert_int_equal(count_files("one"), before + 3);
    assert_int_equal(
        shell("[ -e one/notes.txt ] && [ -e one/events.txt ] && [ -e one/features ] && [ ! -e one/trained ]"), 0);
}

static void test_resume_complete(void **state)
{
    (void)state;
    expect(inlay(RUN "--method linear --epochs 1 --output whole"), 0);
    expect(inlay(RUN "--method linear --epochs 1 --output whole --resume"), 0);
    expect_text("out.txt", "is complete already");
    expect_error(inlay(RUN "--method lora --epochs 1 --output whole --resume"), 1,
                 "'method' was \"linear\", now \"lora\"");
    expect_error(inlay(RUN "--method linear --epochs 2 --output whole --resume"), 1, "'epochs' was 1, now 2");
    assert_int_equal(shell("rm whole/adapter.safetensors"), 0);
    expect_error(inlay(RUN "--method linear --epochs 1 --output whole --resume"), 1, "adapter.safetensors' is missing");
    /* a run is complete when results.json is written: until then its checkpoint is there */
    assert_int_equal(shell("mkdir -p stuck/results.json.tmp"), 0);
    expect(inlay(RUN "--method linear --epochs 1 --output stuck"), 1);
    assert_int_equal(
        shell("[ -e stuck/adapter.json ] && [ -e stuck/checkpoint.safetensors ] && rmdir stuck/results.json.tmp"), 0);
    expect(inlay("inspect stuck --json"), 0);
    expect_text("out.txt", "\"complete\": false");
    expect(inlay(RUN "--method linear --epochs 1 --output stuck --resume"), 0);
    assert_int_equal(shell("[ -e stuck/results.json ] && [ ! -e stuck/checkpoint.safetensors ]"), 0);
}

/* Starts `RUN arguments`, waits for `file`, sends it the signal, and returns the exit status. */
static int struck(const char *arguments, const char *file, const char *name)
{
    return shell("{ $INLAY " RUN "%s >out.txt 2>err.txt & p=$!; for i in $(seq 600); do [ -s %s ] && break; sleep "
                 "0.05; done; kill -%s $p; wait $p; }",
                 arguments, file, name);
}

static void test_signals(void **state)
{
    json_t *root;

    (void)state;
    expect(struck("--epochs 100000 --output hung", "hung/checkpoint.safetensors", "HUP"), 128 + SIGHUP);
    expect_text("err.txt", "--resume continues it");
    expect(inlay("inspect hung --json"), 0);
    root = json_of("out.txt");
    assert_string_equal(json_string_value(json_object_get(root, "kind")), "run");
    assert_true(json_is_false(json_object_get(root, "complete")));
    assert_string_equal(json_string_value(json_object_get(root, "method")), "adapter_plus");
    assert_int_equal(json_integer_value(json_object_get(root, "epochs")), 100000);
    assert_true(json_integer_value(json_object_get(root, "steps")) > 0);
    assert_int_equal(strlen(json_string_value(json_object_get(root, "checkpoint_written"))), 20);
    json_decref(root);
    expect(inlay("inspect hung"), 0);
    expect_text("out.txt", "--resume");
    expect(inlay("inspect hung/checkpoint.safetensors"), 0);
    assert_int_equal(shell("mkdir young && touch young/metrics.jsonl"), 0);
    expect(inlay("inspect young"), 0);
    expect_text("out.txt", "no checkpoint is written yet");
}

/* An evaluation between two epochs can be left at once, and is done again: the log is that of a run without an
 * interruption. */
static void test_evaluation_interrupted(void **state)
{
    const char *strip = "sed -E 's/,\"images_per_second.*//'";

    (void)state;
    assert_int_equal(shell("cp -r data long && for i in $(seq 1500); do for c in 0 1 2; do ln -s 00.ppm "
                           "long/val/class$c/x$i.ppm; done; done"),
                     0);
    expect(
        shell("$INLAY " RUN
              "--data data --data data --epochs 2 --output unbroken --eval-every 1 --method linear >out.txt 2>err.txt"),
        0);
    expect(shell("{ $INLAY train --backbone " VIT " --data long --batch-size 4 --warmup-epochs 0 --threads 1 --workers "
                 "1 --quiet --epochs 2 --output broken --eval-every 1 "
                 "--method linear >out.txt 2>err.txt & p=$!; for i in $(seq 600); do [ -s broken/metrics.jsonl ] && "
                 "break; sleep 0.01; done; kill -TERM $p; wait $p; }"),
           128 + SIGTERM);
    expect_text("err.txt", "interrupted");
    assert_int_equal(shell("[ -e broken/checkpoint.safetensors ]"), 0);
    expect(inlay("train --backbone " VIT " --data long --batch-size 4 --warmup-epochs 0 --threads 1 --workers 1 "
                 "--quiet --epochs 2 --output broken --eval-every 1 --method linear "
                 "--resume"),
           0);
    expect(inlay("train --backbone " VIT " --data long --batch-size 4 --warmup-epochs 0 --threads 1 --workers 1 "
                 "--quiet --epochs 2 --output whole-long --eval-every 1 "
                 "--method linear"),
           0);
    assert_int_equal(shell("%s broken/metrics.jsonl > a.txt; %s whole-long/metrics.jsonl > b.txt; cmp a.txt b.txt && [ "
                           "$(wc -l < a.txt) -eq 4 ]",
                           strip, strip),
                     0);
    assert_int_equal(shell("cmp broken/adapter.safetensors whole-long/adapter.safetensors && "
                           "cmp broken/curves.svg whole-long/curves.svg"),
                     0);
}

/* The picture of a run that was killed, twice and then resumed, is that of a run without an interruption. */
static void test_killed_curves(void **state)
{
#define LONG_RUN "--epochs 400 --eval-every 30 --output "
    (void)state;
    expect(inlay(RUN LONG_RUN "calm"), 0);
    expect_text("out.txt", "curves of loss and accuracy in 'calm/curves.svg'");
    for (int i = 0; i < 2; i++)
        expect(struck(i ? LONG_RUN "killed --resume" : LONG_RUN "killed", "killed/checkpoint.safetensors", "KILL"),
               128 + SIGKILL);
    assert_int_equal(shell("[ ! -e killed/curves.svg ]"), 0);
    expect(inlay(RUN LONG_RUN "killed --resume"), 0);
    assert_int_equal(shell("cmp killed/curves.svg calm/curves.svg"), 0);
    expect_text("calm/curves.svg", "<title>adapter_plus on data, backbone vit</title>");
    expect_text("calm/curves.svg", ">top-1 on val, %</text>");
    expect_text("calm/curves.svg", ">Final top-1 ");
#undef LONG_RUN
}

/* What cannot be drawn is left out, and the run ends all the same: no evaluation, lines that are damaged. */
static void test_curves_of_a_damaged_log(void **state)
{
    (void)state;
    expect(inlay(RUN "--epochs 2 --method linear --eval-split none --output plain"), 0);
    expect_text("plain/curves.svg", ">Final training loss ");
    assert_null(strstr(text_of("plain/curves.svg"), "top-1"));
    expect(struck("--epochs 400 --output damaged", "damaged/checkpoint.safetensors", "TERM"), 128 + SIGTERM);
    assert_int_equal(shell("sed -i '1s/,/ /; 2s/loss/lost/' damaged/metrics.jsonl"), 0);
    expect(inlay(RUN "--epochs 400 --output damaged --resume"), 0);
    expect_text("damaged/metrics.jsonl", "\"lost\"");
    expect_text("damaged/curves.svg", ">Final top-1 ");
    assert_null(strstr(text_of("damaged/curves.svg"), "nan"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_not_finite),
        cmocka_unit_test(test_diverged),
        cmocka_unit_test(test_predict_order),
        cmocka_unit_test(test_predict_unreadable),
        cmocka_unit_test(test_predict_streams),
        cmocka_unit_test(test_predict_names),
        cmocka_unit_test(test_outputs),
        cmocka_unit_test(test_links_in_output),
        cmocka_unit_test(test_standard_streams),
        cmocka_unit_test(test_variables),
        cmocka_unit_test(test_overwrite),
        cmocka_unit_test(test_killed_curves),
        cmocka_unit_test(test_curves_of_a_damaged_log),
        cmocka_unit_test(test_resume_complete),
        cmocka_unit_test(test_signals),
        cmocka_unit_test(test_evaluation_interrupted),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
