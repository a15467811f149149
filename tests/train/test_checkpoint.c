/* A run's checkpoint: what is written comes back, and a state in which no such run can be is refused. */
#include "support.h"

#include "train/checkpoint.h"

#include <math.h>

#define EPOCHS 4
#define IMAGES 21
#define BATCH 4 /* six steps an epoch at most */
#define RUN "{\"seed\": 5}"

static device d;
static backbone *b;
static adapter *a;
static optimizer update;
static sample samples[IMAGES];
static dataset images = {.count = IMAGES, .samples = samples};

static int set_up(void **state)
{
    inlay_error err;
    options *o;
    (void)state;

    ASSERT_OK(device_open(&d, NULL, 1, &err));
    ASSERT_OK(backbone_open(&b, TEST_DATA "/oracle/vit", 0, &err));
    ASSERT_OK(adapter_settings(&o, "adapter_plus", &err));
    ASSERT_OK(adapter_new(&a, "adapter_plus", o, b, 3, NULL, &err));
    ASSERT_OK(adapter_initialise(a, &d, 5, &err));
    ASSERT_OK(optimizer_open(&update, &(optimizer_settings){0}, &(schedule){.lr = 1}, a, &d, &err));
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    optimizer_close(&update);
    adapter_free(a, &d);
    backbone_close(b);
    device_close(&d);
    return 0;
}

static inlay_status round_trip(const train_state *written, train_state *read, inlay_error *err)
{
    const train_extent extent = {EPOCHS, IMAGES, BATCH};
    image_records records;
    inlay_status status;
    char path[300];

    for (int i = 0; i < IMAGES; i++)
        samples[i].path = "/there/is/none";
    snprintf(path, sizeof path, "%s/checkpoint.safetensors", support_folder());
    status = image_records_new(&records, &images, err);
    if (status == INLAY_OK)
        status = checkpoint_save(path, &update, written, RUN, &records, err);
    if (status != INLAY_OK)
        fail_msg("%s", err->message);
    status = checkpoint_load(path, &update, read, &extent, RUN, &records, err);
    image_records_free(&records);
    return status;
}

static void test_states(void **state)
{
    static const train_state possible[] = {
        {0},
        {.step_in_epoch = 1, .position = 4, .step = 1, .loss_sum = 1.5, .log_bytes = 10},
        {.epoch = 1, .step = 6},
        {.epoch = 1, .step = 5}, /* an image could not be read */
        {.epoch = 3, .step_in_epoch = 6, .position = 21, .step = 24},
        {.epoch = 4, .step = 24},
    };
    static const train_state impossible[] = {
        {.position = -1},
        {.position = -1000000},
        {.position = 22, .step_in_epoch = 1, .step = 1},
        {.step_in_epoch = -1},
        {.step_in_epoch = 3, .position = 2, .step = 3},
        {.epoch = -1},
        {.epoch = 5, .step = 30},
        {.epoch = 2147483647, .step = 2147483647},
        {.epoch = 4, .position = 4, .step_in_epoch = 1, .step = 25},
        {.epoch = 2, .step = 13},
        {.epoch = 2, .step = 1},
        {.step = -1},
        {.log_bytes = -1},
    };
    train_state read;
    inlay_error err;
    (void)state;

    for (size_t i = 0; i < sizeof possible / sizeof *possible; i++) {
        ASSERT_OK(round_trip(&possible[i], &read, &err));
        assert_int_equal(read.epoch, possible[i].epoch);
        assert_int_equal(read.step_in_epoch, possible[i].step_in_epoch);
        assert_int_equal(read.position, possible[i].position);
        assert_int_equal(read.step, possible[i].step);
        assert_int_equal(read.log_bytes, possible[i].log_bytes);
        assert_true(read.loss_sum == possible[i].loss_sum);
    }
    for (size_t i = 0; i < sizeof impossible / sizeof *impossible; i++) {
        if (round_trip(&impossible[i], &read, &err) != INLAY_ERR_FORMAT)
            fail_msg("state %zu was taken", i);
        assert_non_null(strstr(err.message, "no run of 4 epochs over 21 images"));
    }
}

static void test_no_number(void **state)
{
    train_state read;
    inlay_error err;
    (void)state;

    assert_int_not_equal(round_trip(&(train_state){.loss_sum = NAN}, &read, &err), INLAY_OK);
    assert_int_not_equal(round_trip(&(train_state){.loss_sum = INFINITY}, &read, &err), INLAY_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_states),
        cmocka_unit_test(test_no_number),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
