/* The command, used as a person would: every subcommand on a tiny checkpoint, wrong input, interruption, exit statuses.
 */
#include "command.h"

#include "formats/image.h"

#include <math.h>
#include <signal.h>
#include <time.h>

#define TINY TEST_ASSETS "/backbones/vit_tiny_patch16_224"

#define TRAIN "train --backbone " VIT " --data data --epochs 4 --batch-size 4 --warmup-epochs 1 --lr 1e-2 --quiet "

static void test_help(void **state)
{
    static const char *const commands[] = {
#define JOB(name) #name,
#include "run/jobs.def"
#undef JOB
    };

    (void)state;
    expect(inlay("--help"), 0);
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        assert_non_null(strstr((expect(inlay("--help"), 0), text_of("out.txt")), commands[i]));
        expect(inlay("%s --help", commands[i]), 0);
        assert_non_null(strstr(text_of("out.txt"), "usage: inlay"));
        expect(inlay("%s --man", commands[i]), 0);
        assert_non_null(strstr(text_of("out.txt"), ".Sh DESCRIPTION"));
    }
    expect(inlay("--version"), 0);
    expect(inlay("%s", ""), 2);
    expect_error(inlay("tune"), 2, "unknown command 'tune'");
}

static void test_train_eval_predict(void **state)
{
    json_t *root;

    (void)state;
    expect(inlay(TRAIN "--method adapter_plus --rank 4 --output run --train-on train+val"), 0);
    assert_non_null(strstr(text_of("out.txt"), "top-1"));
    expect(inlay("eval --backbone " VIT
                 " --adapter run --data data --split test --json --quiet --confusion confusion.csv"),
           0);
    root = json_of("out.txt");
    assert_int_equal(json_integer_value(json_object_get(root, "count")), 9);
    assert_true(json_number_value(json_object_get(root, "top1")) > 0.9);
    assert_true(json_number_value(json_object_get(root, "top5")) == 1);
    assert_true(json_is_real(json_object_get(root, "loss")));
    json_decref(root);
    assert_non_null(strstr(text_of("confusion.csv"), "class0,class1,class2"));
    expect(inlay("predict --backbone " VIT " --adapter run data/test/class1 --json --logits --top-k 2"), 0);
    root = json_of("out.txt");
    assert_int_equal(json_array_size(json_object_get(root, "results")), 3);
    const json_t *first = json_array_get(json_object_get(root, "results"), 0);
    assert_int_equal(json_array_size(json_object_get(first, "logits")), 3);
    assert_int_equal(json_array_size(json_object_get(first, "top")), 2);
    assert_string_equal(json_string_value(json_object_get(json_array_get(json_object_get(first, "top"), 0), "label")),
                        "class1");
    json_decref(root);
    expect(inlay("inspect run --json"), 0);
    root = json_of("out.txt");
    assert_string_equal(json_string_value(json_object_get(root, "method")), "adapter_plus");
    assert_int_equal(json_integer_value(json_object_get(json_object_get(root, "options"), "rank")), 4);
    json_decref(root);
    /* the first line of the log is an epoch, the last the evaluation */
    assert_non_null(strstr(text_of("run/metrics.jsonl"), "\"event\":\"epoch\",\"epoch\":1"));
    assert_non_null(strstr(text_of("run/metrics.jsonl"), "\"split\":\"test\""));
}

static void test_inspect(void **state)
{
    json_t *root;

    (void)state;
    expect(inlay("inspect " VIT " --json --sites --tensors"), 0);
    root = json_of("out.txt");
    assert_int_equal(json_integer_value(json_object_get(root, "width")), 32);
    assert_int_equal(json_integer_value(json_object_get(root, "depth")), 3);
    assert_true(json_array_size(json_object_get(root, "sites")) > 10);
    json_decref(root);
    expect(inlay("inspect " VIT), 0);
    assert_non_null(strstr(text_of("out.txt"), "timm"));
    expect_error(inlay("inspect"), 2, "one folder or file");
    expect(inlay("methods --json"), 0);
    root = json_of("out.txt");
    assert_true(json_array_size(root) >= 13);
    json_decref(root);
    expect(inlay("methods lora"), 0);
    assert_non_null(strstr(text_of("out.txt"), "--alpha"));
    expect_error(inlay("methods adapter_minus"), 2, "adapter_minus");
}

static void test_fold(void **state)
{
    static const char *const methods[] = {"lora", "ssf", "bitfit", "layernorm", "full", "linear"};

    (void)state;
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++) {
        const char *text;
        double difference;
        expect(inlay(TRAIN "--method %s --output run-%s", methods[i], methods[i]), 0);
        expect(inlay("fold --backbone " VIT " --adapter run-%s --output folded-%s --precision f32", methods[i],
                     methods[i]),
               0);
        text = strstr(text_of("out.txt"), "largest difference of the logits ");
        assert_non_null(text);
        difference = strtod(text + strlen("largest difference of the logits "), NULL);
        if (!(difference <= 1e-5))
            fail_msg("%s: folded logits differ by %g", methods[i], difference);
        expect(inlay("eval --backbone folded-%s --data data --quiet --json", methods[i]), 0);
    }
    expect(inlay(TRAIN "--method adapter_plus --output run-nonlinear"), 0);
    expect_error(inlay("fold --backbone " VIT " --adapter run-nonlinear --output folded-x"), 1, "not linear");
}

/* The operations' times are within the pass's, and their multiply-adds are all of it. */
static void test_bench_profile(void)
{
    json_t *root;

    expect(
        inlay("bench --backbone " VIT " --runs 2 --batch-size 3 --threads 1 --precision f32 --json --quiet --profile"),
        0);
    root = json_of("out.txt");
    for (int pass = 0; pass < 2; pass++) {
        const json_t *one =
            json_object_get(json_array_get(json_object_get(root, "results"), 0), pass ? "training" : "inference");
        const json_t *times = json_object_get(one, "operations_for_each_image");
        double rate = json_number_value(json_object_get(one, "images_per_second")),
               counted = json_number_value(json_object_get(one, "gflops")) / rate * 1e9, sum = 0;
        assert_true(json_array_size(times) > 5);
        for (size_t i = 0; i < json_array_size(times); i++) {
            const json_t *time = json_array_get(times, i);
            double backward = json_number_value(json_object_get(time, "backward_seconds"));
            assert_true(json_number_value(json_object_get(time, "forward_seconds")) >= 0);
            assert_true(pass ? backward >= 0 : backward == 0);
            sum += json_number_value(json_object_get(time, "forward_operations")) +
                   json_number_value(json_object_get(time, "backward_operations"));
        }
        /* dropped samples do nothing in a frozen branch */
        assert_true(pass ? sum > 0.5 * counted && sum < counted * 1.001 : fabs(sum / counted - 1) < 1e-6);
    }
    json_decref(root);
}

static void test_bench(void **state)
{
    json_t *root;

    (void)state;
    expect(
        inlay("bench --backbone " VIT " --runs 1 --batch-size 3 --threads 1,2,1 --precision f32,bf16 --json --quiet"),
        0);
    root = json_of("out.txt");
    assert_true(json_string_length(json_object_get(root, "processor")) > 0);
    assert_true(json_string_length(json_object_get(root, "kernels")) > 0);
    assert_int_equal(json_array_size(json_object_get(root, "results")), 4);
    for (size_t i = 0; i < 4; i++) {
        static const char *const passes[] = {"training", "inference"};
        const json_t *row = json_array_get(json_object_get(root, "results"), i);
        assert_string_equal(json_string_value(json_object_get(row, "precision")), i < 2 ? "f32" : "bf16");
        assert_int_equal(json_integer_value(json_object_get(row, "threads")), 1 + i % 2);
        assert_true(json_number_value(json_object_get(row, "peak_gflops")) > 0);
        assert_true(json_number_value(json_object_get(row, "latency_seconds")) > 0);
        for (int pass = 0; pass < 2; pass++) {
            const json_t *one = json_object_get(row, passes[pass]);
            assert_true(json_number_value(json_object_get(one, "images_per_second")) > 0);
            assert_true(json_number_value(json_object_get(one, "gflops")) > 0);
            assert_true(json_number_value(json_object_get(one, "fraction_of_peak")) > 0);
            assert_true(json_is_integer(json_object_get(one, "peak_memory_bytes")));
        }
    }
    json_decref(root);
    test_bench_profile();
    expect(inlay("bench --backbone " VIT
                 " --runs 1 --batch-size 2 --threads 1 --precision auto --method lora --rank 2 --profile"),
           0);
    assert_non_null(strstr(text_of("out.txt"), "lora, batch 2, best of 1"));
    assert_non_null(strstr(text_of("out.txt"), "training, for each image"));
    assert_non_null(strstr(text_of("out.txt"), "% of time"));
    assert_non_null(strstr(text_of("out.txt"), "% of peak"));
    assert_non_null(strstr(text_of("err.txt"), "measuring"));
    expect_error(inlay("bench"), 2, "--backbone is missing");
    expect_error(inlay("bench --backbone " VIT " --threads 1,many"), 2,
                 "--threads: 'many' is no number from 0 to 1024");
    expect_error(inlay("bench --backbone " VIT " --precision f32,f16"), 2, "--precision: 'f16' is none of");
    expect_error(inlay("bench --backbone " VIT " --threads 1024 --pin-threads --quiet"), 2,
                 "1024 threads cannot be pinned");
    expect_error(inlay("bench --backbone data --runs 1"), 1, "data");
}

static void test_pinned(void **state)
{
    (void)state;
    expect(inlay(TRAIN "--output unpinned --threads 1"), 0);
    expect(inlay(TRAIN "--output pinned --threads 1 --pin-threads"), 0);
    expect(inlay("eval --backbone " VIT " --adapter pinned --data data --threads 1 --pin-threads --quiet --json"), 0);
}

/* --cache-dir: a later run says what it found. */
static void test_cache_dir(void **state)
{
    json_t *root;

    (void)state;
    for (int run = 0; run < 2; run++) {
        expect(inlay("train --backbone " VIT " --data data --epochs 2 --batch-size 4 --overwrite --output cached "
                     "--cache-dir kept --backbone-drop-path 0"),
               0);
        assert_non_null(strstr(text_of("err.txt"), "of cached features in 'kept'"));
        assert_int_equal(strstr(text_of("err.txt"), "(of 18 of 18 images from an earlier run)") != NULL, run);
        root = json_of("cached/results.json");
        assert_true(json_is_true(json_object_get(root, "feature_cache")));
        assert_true(json_integer_value(json_object_get(root, "feature_cache_bytes")) > 0);
        assert_int_equal(json_integer_value(json_object_get(root, "feature_cache_reused_images")), run ? 18 : 0);
        json_decref(root);
    }
    expect(inlay(TRAIN "--output spilled --cache-limit 0"), 0);
    expect_error(inlay(TRAIN "--output refused --feature-cache on --cache-dir data/train/class0/00.ppm"), 1, "00.ppm");
}

static void test_pretrain(void **state)
{
    (void)state;
    expect(inlay("pretrain --data data --output scratch --width 16 --depth 2 --heads 2 --patch 4 --image-size 16 "
                 "--epochs 3 --batch-size 6 --warmup-epochs 1 --quiet"),
           0);
    expect(inlay("eval --backbone scratch --data data --quiet --json"), 0);
    expect(inlay("train --backbone scratch --data data --output on-scratch --epochs 2 --batch-size 6 --quiet"), 0);
}

static void test_wrong_options(void **state)
{
    (void)state;
    expect_error(inlay(TRAIN "--output x --rankk 8"), 2, "--rank");
    expect_error(inlay(TRAIN "--output x --rank eight"), 2, "eight");
    expect_error(inlay(TRAIN "--output x --rank 0"), 2, "rank");
    expect_error(inlay(TRAIN "--output x --method nothing"), 2, "nothing");
    expect_error(inlay(TRAIN "--output x --position beside"), 2, "beside");
    expect_error(inlay("train --data data --output x"), 2, "--backbone is missing");
    expect_error(inlay("train --backbone " VIT " --output x"), 2, "--data is missing");
    expect_error(inlay("eval --backbone " VIT), 2, "--data is missing");
    expect_error(inlay("predict --backbone " VIT), 2, "no image");
}

static void test_wrong_input(void **state)
{
    char path[300];
    inlay_error err;

    (void)state;
    expect_error(inlay("train --backbone nowhere --data data --output x"), 1, "nowhere");
    expect_error(inlay("train --backbone " VIT " --data nowhere --output x"), 1, "nowhere");
    expect_error(inlay("predict --backbone " VIT " nothing.jpg"), 1, "nothing.jpg");
    path_in(path, "broken.jpg");
    ASSERT_OK(file_write(path, "\xff\xd8\xff\xe0 no image", 14, &err));
    expect_error(inlay("predict --backbone " VIT " broken.jpg"), 1, "broken.jpg");
    path_in(path, "empty/train/one");
    ASSERT_OK(file_make_folder(path, &err));
    expect_error(inlay("train --backbone " VIT " --data empty --output x"), 1, "empty");
    path_in(path, "cut");
    ASSERT_OK(file_make_folder(path, &err));
    assert_int_equal(system("true"), 0);
    char command[800];
    snprintf(command, sizeof command,
             "head -c 5000 " VIT "/model.safetensors > '%s/model.safetensors' && cp " VIT "/config.json '%s/'", path,
             path);
    assert_int_equal(system(command), 0);
    expect_error(inlay("inspect cut"), 1, "cut/model.safetensors");
    path_in(path, "list.csv");
    ASSERT_OK(file_write(path, "file,label\na.jpg,1\n", 19, &err));
    expect_error(inlay("eval --backbone " VIT " --data list.csv"), 1, "path");
    expect(inlay(TRAIN "--output other"), 0);
    expect_error(inlay("eval --backbone " TEST_DATA "/oracle/variants/layerscale --adapter other --data data --quiet"),
                 1, "another backbone");
    expect_error(inlay(TRAIN "--output other"), 2, "--resume");
    expect(inlay(TRAIN "--output other --resume"), 0);
    assert_non_null(strstr(text_of("out.txt"), "complete"));
    expect(inlay(TRAIN "--output other --overwrite"), 0);
}

/* A full disk, as /dev/full plays it for a file and a tiny limit on file sizes for the rest. */
static void test_full_disk(void **state)
{
    char command[2048];
    int status;

    (void)state;
    snprintf(command, sizeof command,
             "cd '%s' && (ulimit -f 8; trap '' XFSZ; '%s' " TRAIN "--method full --output small >out.txt 2>err.txt)",
             folder, INLAY_BINARY);
    status = system(command);
    assert_int_equal(WEXITSTATUS(status), 1);
    assert_non_null(strstr(text_of("err.txt"), "cannot write"));
    snprintf(command, sizeof command, "ls '%s'/small | grep -c tmp", folder);
    assert_int_not_equal(system(command), 0); /* nothing half-written stays */
}

static void test_interrupt(void **state)
{
    char command[2048], pid_path[300];
    struct timespec moment = {0, 300000000L};

    (void)state;
    path_in(pid_path, "pid");
    expect(inlay(TRAIN "--epochs 300 --output whole"), 0);
    snprintf(command, sizeof command,
             "cd '%s' && { '%s' " TRAIN "--epochs 300 --output stopped >out.txt 2>err.txt & echo $! > pid; }", folder,
             INLAY_BINARY);
    assert_int_equal(system(command), 0);
    nanosleep(&moment, NULL);
    snprintf(command, sizeof command,
             "kill -TERM $(cat '%s'); while kill -0 $(cat '%s') 2>/dev/null; do sleep 0.05; done", pid_path, pid_path);
    (void)!system(command);
    expect(inlay(TRAIN "--epochs 300 --output stopped --resume"), 0);
    snprintf(command, sizeof command,
             "cd '%s' && cmp whole/adapter.safetensors stopped/adapter.safetensors && cmp whole/adapter.json "
             "stopped/adapter.json && cmp whole/curves.svg stopped/curves.svg",
             folder);
    assert_int_equal(system(command), 0);
}

/* Dropout of the backbone is a setting of the run: recorded, compared on --resume, the same bits with and without the
 * feature cache. */
static void test_backbone_dropout(void **state)
{
    char command[2048];

    (void)state;
    expect_error(inlay(TRAIN "--output never --backbone-dropout 0.96"), 2, "--backbone-dropout");
    expect(inlay(TRAIN "--output drop_on --backbone-dropout 0.2 --feature-cache on"), 0);
    expect(inlay(TRAIN "--output drop_off --backbone-dropout 0.2 --feature-cache off"), 0);
    expect(inlay(TRAIN "--output drop_none"), 0);
    assert_non_null(strstr(text_of("drop_on/adapter.json"), "\"backbone_dropout\": 0.2"));
    assert_non_null(strstr(text_of("drop_none/adapter.json"), "\"backbone_dropout\": 0"));
    snprintf(command, sizeof command, "cd '%s' && cmp drop_on/adapter.safetensors drop_off/adapter.safetensors",
             folder);
    assert_int_equal(system(command), 0);
    snprintf(command, sizeof command, "cd '%s' && cmp -s drop_on/adapter.safetensors drop_none/adapter.safetensors",
             folder);
    assert_int_not_equal(system(command), 0);
    snprintf(command, sizeof command,
             "cd '%s' && { '%s' " TRAIN "--epochs 3000 --output dropping --backbone-dropout 0.2 >out.txt 2>err.txt & "
             "for i in $(seq 600); do [ -f dropping/checkpoint.safetensors ] && break; sleep 0.1; done; "
             "kill -TERM $!; wait $!; }",
             folder, INLAY_BINARY);
    (void)!system(command);
    expect_error(inlay(TRAIN "--epochs 3000 --output dropping --resume"), 1, "'backbone_dropout' was 0.2, now 0.0");
}

/* ---- adapters together: fusion, pruning, several on the same images, layers left out, heat maps ---- */

/* eval's JSON without what differs from run to run. */
static char *eval_text(const char *arguments)
{
    json_t *root;
    char *text;

    expect(inlay("eval --backbone " VIT " --data data --split test --json --quiet %s", arguments), 0);
    root = json_of("out.txt");
    json_object_del(root, "images_per_second");
    text = json_dumps(root, JSON_COMPACT);
    json_decref(root);
    return text;
}

static void same_eval(const char *a, const char *b)
{
    char *first = eval_text(a), *other = eval_text(b);

    if (strcmp(first, other) != 0)
        fail_msg("%s: %s\n%s: %s", a, first, b, other);
    free(first);
    free(other);
}

/* The parts may go away; --resume with others is refused. */
static void test_fusion(void **state)
{
    char command[2048], *before, *after;
    json_t *root;

    (void)state;
    expect(inlay(TRAIN "--method bottleneck --rank 4 --output part0"), 0);
    expect(inlay(TRAIN "--method adapter_plus --rank 2 --output part1 --seed 2"), 0);
    expect(inlay(TRAIN "--method bottleneck --rank 4 --output part2 --seed 3"), 0);
    expect_error(inlay(TRAIN "--method fusion --output fused"), 2, "at least 2");
    expect_error(inlay(TRAIN "--method fusion --adapters part0,nowhere --output fused"), 1, "part 1: 'nowhere'");
    expect(inlay(TRAIN "--method fusion --adapters part0,part1,part2 --output fused --train-on train+val"), 0);
    assert_non_null(strstr(text_of("out.txt"), "top-1"));
    expect(inlay("inspect fused --json"), 0);
    root = json_of("out.txt");
    assert_string_equal(json_string_value(json_object_get(json_object_get(root, "options"), "adapters")), "");
    assert_int_equal(json_integer_value(json_object_get(json_object_get(root, "parameters"), "adapter")),
                     3 * (3 * 32 * 32 + 2 * 32));
    json_decref(root);
    before = eval_text("--adapter fused");
    snprintf(command, sizeof command, "cd '%s' && mkdir away && mv part0 part1 part2 away/", folder);
    assert_int_equal(system(command), 0);
    after = eval_text("--adapter fused");
    assert_string_equal(before, after);
    free(before);
    free(after);
    snprintf(command, sizeof command,
             "cd '%s' && mv away/* . && { '%s' " TRAIN
             "--method fusion --adapters part0,part1 --epochs 3000 --output begun "
             ">out.txt 2>err.txt & echo $! > pid; }",
             folder, INLAY_BINARY);
    assert_int_equal(system(command), 0);
    snprintf(command, sizeof command,
             "cd '%s'; for i in $(seq 600); do [ -f begun/checkpoint.safetensors ] && break; sleep 0.1; done; kill "
             "-TERM $(cat pid); "
             "while kill -0 $(cat pid) 2>/dev/null; do sleep 0.05; done",
             folder);
    (void)!system(command);
    expect_error(inlay(TRAIN "--method fusion --adapters part0,part2 --epochs 3000 --output begun --resume"), 1,
                 "'options.parts' was ...");
}

static void test_prune(void **state)
{
    json_t *root, *layers;

    (void)state;
    expect(inlay("prune --backbone " VIT " --adapter fused --data data --keep 3 --output kept --quiet"), 0);
    assert_non_null(strstr(text_of("out.txt"), "part 2: bottleneck"));
    assert_non_null(strstr(text_of("out.txt"), "0, 1, 2"));
    same_eval("--adapter fused", "--adapter kept");
    expect(inlay("prune --backbone " VIT " --adapter fused --data data --keep 1 --output pruned --quiet --json"), 0);
    root = json_of("out.txt");
    assert_int_equal(json_integer_value(json_object_get(root, "images")), 18);
    layers = json_object_get(root, "layers");
    assert_int_equal(json_array_size(layers), 3);
    for (size_t i = 0; i < 3; i++) {
        json_t *weights = json_object_get(json_array_get(layers, i), "weights"),
               *kept = json_object_get(json_array_get(layers, i), "kept");
        double best = 0;
        assert_int_equal(json_array_size(kept), 1);
        for (size_t n = 0; n < 3; n++)
            best = fmax(best, json_real_value(json_array_get(weights, n)));
        assert_true(json_real_value(json_array_get(weights, (size_t)json_integer_value(json_array_get(kept, 0)))) ==
                    best);
    }
    json_decref(root);
    expect(inlay("eval --backbone " VIT " --adapter pruned --data data --quiet"), 0);
    expect(inlay("prune --backbone " VIT " --adapter pruned --data data --keep 1 --output again --quiet"),
           0); /* what is left can be pruned again */
    same_eval("--adapter pruned", "--adapter again");
    expect_error(inlay("prune --backbone " VIT " --adapter fused --data data --keep 4 --output x --quiet"), 2,
                 "has 3 parts");
    expect_error(inlay("prune --backbone " VIT " --adapter part0 --data data --output x --quiet"), 2, "only a fusion");
    expect_error(inlay("prune --backbone " VIT " --adapter fused --data data --quiet"), 2, "--output is missing");
}

static void test_skip_layers(void **state)
{
    (void)state;
    same_eval("--adapter part0", "--adapter part0 --skip-layers 0");
    expect(inlay("predict --backbone " VIT " --adapter part0 data/test/class1 --json --logits --skip-layers 1"), 0);
    expect(inlay("eval --backbone " VIT " --adapter fused --data data --quiet --skip-layers 3"), 0);
    expect_error(inlay("eval --backbone " VIT " --adapter part0 --data data --skip-layers 4"), 2,
                 "has 3 layers, 4 cannot be skipped");
    expect_error(inlay("eval --backbone " VIT " --data data --skip-layers 1"), 2, "there is no adapter");
    same_eval("--adapter part0 --skip-layers 0-1", "--adapter part0 --skip-layers 2");
    same_eval("--adapter part0 --skip-layers 0,1,2", "--adapter part0 --skip-layers 3");
    expect_error(inlay("eval --backbone " VIT " --adapter part0 --data data --skip-layers 0,3"), 2,
                 "skip_layers: expected layers from 0 to 2");
    expect_error(inlay("eval --backbone " VIT " --adapter part0 --data data --skip-layers x"), 2,
                 "skip_layers: expected");
    expect_error(inlay("eval --backbone " VIT " --adapter part0 --data data --skip-layers 99999999999"), 2,
                 "cannot be skipped");
    expect_error(inlay("eval --backbone " VIT " --data data --skip-layers 0,1"), 2, "there is no adapter");
    expect(inlay(TRAIN "--method vpt --prompts 2 --output prompts"), 0);
    expect_error(inlay("predict --backbone " VIT " --adapter prompts data/test --skip-layers 1"), 2,
                 "a 'vpt' adapter transforms");
}

/* Several answer as each does alone. */
static void test_several_adapters(void **state)
{
    static const char *const folders[] = {"part0", "prompts", "part1"};
    json_t *alone[3], *root, *tasks;

    (void)state;
    for (int t = 0; t < 3; t++) {
        expect(inlay("predict --backbone " VIT " --adapter %s data/test --json --logits --top-k 2", folders[t]), 0);
        alone[t] = json_of("out.txt");
    }
    expect(inlay("predict --backbone " VIT
                 " --adapter part0 --adapter prompts --adapter part1 data/test --json --logits --top-k 2"),
           0);
    root = json_of("out.txt");
    assert_int_equal(json_array_size(json_object_get(root, "results")), 9);
    for (size_t i = 0; i < 9; i++) {
        const json_t *answers = json_array_get(json_object_get(root, "results"), i);
        tasks = json_object_get(answers, "tasks");
        assert_int_equal(json_array_size(tasks), 3);
        for (size_t t = 0; t < 3; t++) {
            const json_t *one = json_array_get(json_object_get(alone[t], "results"), i),
                         *task = json_array_get(tasks, t);
            assert_string_equal(json_string_value(json_object_get(task, "adapter")), folders[t]);
            assert_string_equal(json_string_value(json_object_get(answers, "path")),
                                json_string_value(json_object_get(one, "path")));
            assert_true(json_equal(json_object_get(one, "top"), json_object_get(task, "top")));
            assert_true(json_equal(json_object_get(one, "logits"), json_object_get(task, "logits")));
        }
    }
    for (int t = 0; t < 3; t++)
        json_decref(alone[t]);
    json_decref(root);
    expect(inlay("predict --backbone " VIT " --adapter part0 --adapter part1 data/test/class1/00.ppm"), 0);
    assert_non_null(strstr(text_of("out.txt"), "\n  part1\n"));
    expect(inlay("eval --backbone " VIT " --adapter part0 --adapter part1 --data data --json --quiet"), 0);
    root = json_of("out.txt");
    tasks = json_object_get(root, "tasks");
    assert_int_equal(json_array_size(tasks), 2);
    assert_int_equal(json_integer_value(json_object_get(json_array_get(tasks, 1), "count")), 9);
    expect(inlay("eval --backbone " VIT " --adapter part1 --data data --json --quiet"), 0);
    alone[0] = json_of("out.txt");
    assert_true(json_equal(json_object_get(json_array_get(tasks, 1), "loss"), json_object_get(alone[0], "loss")));
    assert_true(json_equal(json_object_get(json_array_get(tasks, 1), "top1"), json_object_get(alone[0], "top1")));
    json_decref(alone[0]);
    json_decref(root);
    expect(inlay("eval --backbone " VIT " --adapter part0 --adapter part1 --data data --quiet"), 0);
    assert_non_null(strstr(text_of("out.txt"), "part1"));
}

/* An adapter with weights of the backbone of its own answers beside another with the bits that it has alone. */
static void expect_same_beside(const char *name)
{
    json_t *first, *second;
    const json_t *alone, *both;

    expect(inlay("predict --backbone " VIT " --adapter %s data/test --json --logits", name), 0);
    first = json_of("out.txt");
    expect(inlay("predict --backbone " VIT " --adapter part0 --adapter %s data/test --json --logits", name), 0);
    second = json_of("out.txt");
    alone = json_object_get(first, "results");
    both = json_object_get(second, "results");
    assert_true(json_array_size(alone) > 0);
    for (size_t i = 0; i < json_array_size(alone); i++) {
        const json_t *tasks = json_object_get(json_array_get(both, i), "tasks");
        assert_true(json_equal(json_object_get(json_array_get(alone, i), "logits"),
                               json_object_get(json_array_get(tasks, 1), "logits")));
        assert_false(json_equal(json_object_get(json_array_get(tasks, 0), "logits"),
                                json_object_get(json_array_get(tasks, 1), "logits")));
    }
    json_decref(first);
    json_decref(second);
}

static void test_several_refused(void **state)
{
    char path[300];

    (void)state;
    expect(inlay(TRAIN "--method bottleneck --crop-mode squash --output squashed"), 0);
    expect_error(inlay("predict --backbone " VIT " --adapter part0 --adapter squashed data/test"), 2,
                 "'part0' and 'squashed' were trained with different preprocessing");
    assert_non_null(strstr(text_of("err.txt"), "crop_mode"));
    expect(inlay(TRAIN "--method bottleneck --image-size 48 --output larger"), 0);
    expect_error(inlay("predict --backbone " VIT " --adapter part0 --adapter larger data/test"), 2,
                 "images of 32 and 48 pixels");
    expect(inlay(TRAIN "--method bitfit --output biases"), 0);
    expect_same_beside("biases");
    path_in(path, "two");
    support_images(path, "train", 2, 4, 40);
    expect(inlay("train --backbone " VIT
                 " --data two --epochs 1 --batch-size 4 --quiet --output two-classes --method bottleneck"),
           0);
    expect_error(inlay("eval --backbone " VIT " --adapter part0 --adapter two-classes --data data --quiet"), 2,
                 "they have 3 and 2 classes");
    expect(inlay("predict --backbone " VIT " --adapter part0 --adapter two-classes data/test/class0 --json"), 0);
    expect_error(inlay("eval --backbone " VIT " --adapter part0 --adapter part1 --data data --quiet --confusion c.csv"),
                 2, "--confusion");
}

static void test_heatmap(void **state)
{
    char path[300];
    image picture;
    json_t *root;
    inlay_error err;

    (void)state;
    expect(inlay(TRAIN "--method adapter_bias --output weights"), 0);
    expect(inlay("predict --backbone " VIT " --adapter weights data/test/class1/00.ppm --heatmap seen.png"), 0);
    assert_non_null(strstr(text_of("out.txt"), "heat map in 'seen.png'"));
    path_in(path, "seen.png");
    ASSERT_OK(image_load(&picture, path, false, &err));
    assert_int_equal(picture.width, 2 * 256 + 8);
    assert_int_equal(picture.height, 256);
    image_free(&picture);
    expect(inlay("predict --backbone " VIT
                 " --adapter weights data/test/class1/00.ppm --heatmap last.png --heatmap-layer 2 --json"),
           0);
    root = json_of("out.txt");
    assert_int_equal(json_integer_value(json_object_get(json_object_get(root, "heatmap"), "layers")), 1);
    assert_true(json_real_value(json_object_get(json_object_get(root, "heatmap"), "high")) >
                json_real_value(json_object_get(json_object_get(root, "heatmap"), "low")));
    json_decref(root);
    expect_error(inlay("predict --backbone " VIT " --adapter weights data/test/class1 --heatmap x.png"), 2,
                 "draws one image, 3 are given");
    expect_error(inlay("predict --backbone " VIT " --adapter part0 data/test/class1/00.ppm --heatmap x.png"), 2,
                 "a 'bottleneck' adapter has no token weights");
    expect_error(inlay("predict --backbone " VIT " data/test/class1/00.ppm --heatmap x.png"), 2, "there is no adapter");
    expect_error(
        inlay("predict --backbone " VIT " --adapter weights data/test/class1/00.ppm --heatmap x.png --heatmap-layer 3"),
        2, "layer 3 has no token weights");
    expect_error(inlay("predict --backbone " VIT " --adapter weights data/test/class1/00.ppm --heatmap-layer 1"), 2,
                 "--heatmap-layer: with --heatmap only");
    expect_error(inlay("predict --backbone " VIT " --adapter weights data/test/class1/00.ppm --heatmap nowhere/x.png"),
                 1, "cannot write 'nowhere/x.png'");
    path_in(path, "x.png");
    assert_false(file_exists(path));
}

/* The first class of every image of the sample. */
static int first_classes(const char *precision, int *classes, int room)
{
    json_t *root, *results;
    int count;

    expect(inlay("predict --backbone " TINY " " TEST_ASSETS
                 "/data/imagenet_sample/images --top-k 1 --json --quiet --precision %s",
                 precision),
           0);
    root = json_of("out.txt");
    results = json_object_get(root, "results");
    count = (int)json_array_size(results);
    for (int i = 0; i < count && i < room; i++)
        classes[i] = (int)json_integer_value(
            json_object_get(json_array_get(json_object_get(json_array_get(results, (size_t)i), "top"), 0), "index"));
    json_decref(root);
    return count;
}

static void check_int8(void)
{
    int exact[100], int8[100], same = 0;

    assert_int_equal(first_classes("f32", exact, 100), 100);
    assert_int_equal(first_classes("int8", int8, 100), 100);
    for (int i = 0; i < 100; i++)
        same += exact[i] == int8[i];
    assert_true(same >= 95);
}

static void test_real_checkpoint(void **state)
{
    json_t *root;

    (void)state;
    if (!file_exists(TINY "/model.safetensors")) {
        print_message("skipped: %s is not there\n", TINY);
        skip();
    }
    expect(inlay("eval --backbone " TINY " --data " TEST_ASSETS
                 "/data/imagenet_sample/labels.csv --json --quiet --precision f32"),
           0);
    root = json_of("out.txt");
    assert_int_equal(json_integer_value(json_object_get(root, "count")), 100);
    assert_true(fabs(json_number_value(json_object_get(root, "top1")) - 0.86) < 1e-9);
    assert_true(fabs(json_number_value(json_object_get(root, "top5")) - 0.99) < 1e-9);
    json_decref(root);
    expect(inlay("eval --backbone " TINY " --data " TEST_ASSETS
                 "/data/imagenet_sample/labels.csv --json --quiet --precision bf16"),
           0);
    root = json_of("out.txt");
    assert_true(json_number_value(json_object_get(root, "top1")) > 0.849);
    json_decref(root);
    check_int8();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_help),
        cmocka_unit_test(test_train_eval_predict),
        cmocka_unit_test(test_inspect),
        cmocka_unit_test(test_fold),
        cmocka_unit_test(test_bench),
        cmocka_unit_test(test_pinned),
        cmocka_unit_test(test_cache_dir),
        cmocka_unit_test(test_pretrain),
        cmocka_unit_test(test_wrong_options),
        cmocka_unit_test(test_wrong_input),
        cmocka_unit_test(test_full_disk),
        cmocka_unit_test(test_backbone_dropout),
        cmocka_unit_test(test_interrupt),
        cmocka_unit_test(test_fusion),
        cmocka_unit_test(test_prune),
        cmocka_unit_test(test_skip_layers),
        cmocka_unit_test(test_several_adapters),
        cmocka_unit_test(test_several_refused),
        cmocka_unit_test(test_heatmap),
        cmocka_unit_test(test_real_checkpoint),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
