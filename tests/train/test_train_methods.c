/* Methods that draw while they train - experts, noise, the layers that take part: the same seed gives the same bits
 * with any number of threads, with and without the feature cache, and when the run was stopped at any step and resumed.
 * What is compared is what is evaluated and saved, what was trained, and the loss. */
#include "train/runs.h"

static struct row {
    const char *name;
    setup s;
    double loss; /* of the whole run, once it was made */
} rows[] = {
#define ROW(label, ...)                                                                                           \
    {                                                                                                             \
        .name = label, .s = {.threads = 2, .workers = 2, .cache = CACHE_AUTO, .save_trained = true, __VA_ARGS__ } \
    }
    ROW("adamix", .method = "adamix"),
    ROW("adamix-lora", .method = "adamix", .settings = "kind=lora share=none dropout=0.1"),
    ROW("mosa", .method = "mosa", .settings = "rank=8"),
    ROW("mosa-both", .method = "mosa",
        .settings =
            "rank=4 style=houlsby split=both experts=3 second_loss=0.5 deep_regulariser=true decay_masked=true"),
    ROW("adaptable", .method = "adaptable", .settings = "temperature=2 dropout=0.1"),
    ROW("adapter-bias", .method = "adapter_bias", .settings = "norms=all share_alpha=true"),
    ROW("adapter-plus-dropout", .method = "adapter_plus", .dropout = 0.1),
    ROW("mosa-dropout", .method = "mosa", .settings = "rank=4", .dropout = 0.1),
    ROW("random", .method = "bottleneck", .settings = "drop_layers=random"),
    ROW("random-houlsby", .method = "bottleneck", .settings = "drop_layers=random position=houlsby dropout=0.1"),
    ROW("random-range", .method = "houlsby", .settings = "rank=4 drop_layers=random:1-2 ranks=1:2"),
    ROW("layers", .method = "adamix", .settings = "layers=0,2 ranks=2:3"),
    ROW("random-mosa", .method = "mosa", .settings = "rank=4 drop_layers=random", .move_untouched = true),
};
#define ROWS (int)(sizeof rows / sizeof *rows)

/* The row's run without an interruption, under the row's name. */
static void run_whole(struct row *r)
{
    char path[300];

    path_of(path, r->name);
    if (!file_exists(path))
        r->loss = run_to_end(r->name, r->s);
}

static void expect_same_end(const struct row *r, const char *name, double loss)
{
    char trained[400];

    same_bytes(r->name, name, "adapter.safetensors");
    snprintf(trained, sizeof trained, "%s/%s/trained", folder, r->name);
    if (file_exists(trained))
        same_bytes(r->name, name, "trained/adapter.safetensors");
    if (r->loss != loss)
        fail_msg("loss of '%s' is %.17g, of '%s' %.17g", r->name, r->loss, name, loss);
}

static void test_same_bits(void **state)
{
    char name[64];

    (void)state;
    for (int i = 0; i < ROWS; i++) {
        run_whole(&rows[i]);
        for (int threads = 1; threads <= 3; threads += 2) {
            setup s = rows[i].s;
            s.threads = s.workers = threads;
            s.cache = threads == 1 ? CACHE_OFF : CACHE_ON;
            snprintf(name, sizeof name, "%s-%d", rows[i].name, threads);
            expect_same_end(&rows[i], name, run_to_end(name, s));
        }
    }
}

/* The rows together are stopped at every step of a run but one; the early ones again two steps later. */
static void test_resume(void **state)
{
    char name[64];

    (void)state;
    for (int i = 0; i < ROWS; i++) {
        run_whole(&rows[i]);
        for (int stop = 1 + i; stop < 20; stop += 10) {
            setup s = rows[i].s;
            s.cache = i % 2 ? CACHE_OFF : CACHE_AUTO;
            s.stop_after = stop;
            snprintf(name, sizeof name, "%s-stopped-%d", rows[i].name, stop);
            run_and_stop(name, s);
            s.resume = true;
            s.stop_after = 2;
            if (stop < 10)
                run_and_stop(name, s);
            s.stop_after = 0;
            s.threads = 1 + stop % 3;
            expect_same_end(&rows[i], name, run_to_end(name, s));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_bits),
        cmocka_unit_test(test_resume),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
