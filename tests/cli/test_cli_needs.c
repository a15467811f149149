/* Options that a run would not read: given, they are an error that names what they would need. */
#include "cli/command.h"

#include "base/options.h"

#define TRAIN "train --backbone " VIT " --data data --quiet --threads 1 --epochs 1 --output run "

static const option_need needs[] = {
#define NEED(option, of, values) {option, of, values},
#include "../../src/run/training_needs.def"
#undef NEED
};

/* A value of each option that is needed, with which what needs it is not read. */
static const char *against(const option_need *need)
{
    static const char *const rows[][3] = {{"optimizer", "sgd", "adamw"},
                                          {"optimizer", "adamw", "sgd"},
                                          {"schedule", "cosine|linear", "constant"},
                                          {"eval_split", "auto|val|test", "none"},
                                          {"feature_cache", "auto|on", "off"}};

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (strcmp(rows[i][0], need->of) == 0 && strcmp(rows[i][1], need->values) == 0)
            return rows[i][2];
    return NULL; /* a flag */
}

static const char *some(const char *option)
{
    static const char *const rows[][2] = {{"adam_rule", "bert"},
                                          {"decay_from_start", ""},
                                          {"eval_every", "1"},
                                          {"cache_limit", "2048"},
                                          {"cache_dir", "cached"}};

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (strcmp(rows[i][0], option) == 0)
            return rows[i][1];
    return "0.5";
}

static void outer(char out[80], const char *name)
{
    snprintf(out, 80, "--%s", name);
    for (char *p = out; *p; p++)
        *p = *p == '_' ? '-' : *p;
}

static void test_training(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof needs / sizeof *needs; i++) {
        const option_need *need = &needs[i];
        const char *value = against(need);
        char option[80], of[80], set[100];
        outer(option, need->option);
        outer(of, need->of);
        snprintf(set, sizeof set, value ? "%s %s" : "--%s%s",
                 value                          ? of
                 : strcmp(need->values, "true") ? ""
                                                : "no-",
                 value ? value : of + 2);
        expect_error(inlay(TRAIN "%s %s %s", set, option, some(need->option)), 2, option);
        if (!strstr(text_of("err.txt"), of))
            fail_msg("%s is not in: %s", of, text_of("err.txt"));
    }
}

static void refuses(const char *command, const char *message)
{
    expect_error(inlay("%s", command), 2, message);
}

static void test_others(void **state)
{
    (void)state;
    refuses(TRAIN "--flip 0.5", "--flip: with --augment only"); /* its default is given all the same */
    refuses(TRAIN "--val-split 0.5", "--val-split: 'data' has splits of its own");
    refuses(TRAIN "--save-trained", "--save-trained: 'adapter_plus' has no merge");
    refuses("train --backbone " VIT " --data data/train --output run --train-on train+val",
            "'data/train' has no splits");
    refuses("train --backbone " VIT " --data data/train --output run --eval-every 1", "has no split to evaluate on");
    refuses(TRAIN "--method bottleneck --scale 2", "--scale: of --scaling fixed, learned or channel only");
    refuses(TRAIN "--method lora --scale 2 --alpha 4", "--alpha: of --scale 0 only; this run has 2");
    refuses("bench --backbone " VIT " --method adaptable --no-switches --temperature 2",
            "--temperature: with --switches");
    refuses("predict --backbone " VIT " data/test --logits", "--logits: with --json only");
    refuses("predict --backbone " VIT " data/test --heatmap-layer 1", "--heatmap-layer: with --heatmap only");
    refuses("eval --backbone " VIT " --data data --skip-layers 1", "there is no adapter");
    refuses("eval --backbone " VIT " --data data --force-backbone", "--force-backbone: with --adapter only");
    refuses("methods --recipes --backbone " VIT, "--backbone: of no use with --recipes");
    expect(inlay(TRAIN "--augment --flip 0.5 --augment-scale 0.5 --eval-every 1"), 0);
}

/* A word that no option takes: of a forgotten dash, or of a value with a space in it. */
static void test_words(void **state)
{
    static const char *const commands[] = {"train", "eval", "fold", "prune", "pretrain", "unpack", "bench"};

    (void)state;
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        expect_error(inlay("%s stray", commands[i]), 2, "unexpected word 'stray'");
    refuses("inspect " VIT " stray", "unexpected word 'stray'");
    refuses("methods lora stray", "unexpected word 'stray'");
}

/* What is there stays when the new run cannot begin. */
static void test_pretrain_keeps(void **state)
{
    static const char small[] = "pretrain --output scratch --width 16 --depth 1 --heads 2 --patch 4 --image-size 16 "
                                "--epochs 1 --batch-size 6 --quiet --threads 1 ";
    static const char *const wrong[] = {"--data nowhere", "--data data/test/class0", "--data data --momentum 0.9",
                                        "--data data --recipe nobody", "--data data --val-split 0.5"};
    char path[300], *before, *after;
    size_t size, now;
    inlay_error err;

    (void)state;
    expect(inlay("%s --data data", small), 0);
    path_in(path, "scratch/initial/model.safetensors");
    ASSERT_OK(file_read(path, 1 << 24, &before, &size, &err));
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_int_not_equal(inlay("%s --overwrite --seed 5 %s", small, wrong[i]), 0);
        ASSERT_OK(file_read(path, 1 << 24, &after, &now, &err));
        assert_int_equal(now, size);
        assert_memory_equal(after, before, size);
        free(after);
    }
    expect(inlay("%s --overwrite --seed 5 --data data", small), 0);
    ASSERT_OK(file_read(path, 1 << 24, &after, &now, &err));
    assert_true(now != size || memcmp(after, before, size) != 0);
    free(after);
    free(before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_training), cmocka_unit_test(test_others),
                                       cmocka_unit_test(test_words), cmocka_unit_test(test_pretrain_keeps)};

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
