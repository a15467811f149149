/* Any bytes as the three texts of a run's checkpoint (where it stands, its settings, how often each parameter was
 * moved), each ended by a NUL, beside tensors that are whole. A state that is taken must lie within the run. */
#include "fuzz.h"

#include "train/checkpoint.h"

#define RUN "{\"epochs\": 4}"

static device d;
static backbone *b;
static adapter *a;
static optimizer update;
static sample samples[100];
static dataset images = {.count = 100, .samples = samples};
static image_records records;

static void set_up(void)
{
    inlay_error err;
    options *o;

    FUZZ_MUST(device_open(&d, NULL, 1, &err) == INLAY_OK);
    FUZZ_MUST(backbone_open(&b, FUZZ_DATA "/oracle/vit", 0, &err) == INLAY_OK);
    FUZZ_MUST(adapter_settings(&o, "linear", &err) == INLAY_OK);
    FUZZ_MUST(adapter_new(&a, "linear", o, b, 3, NULL, &err) == INLAY_OK);
    FUZZ_MUST(adapter_initialise(a, &d, 1, &err) == INLAY_OK);
    FUZZ_MUST(optimizer_open(&update, &(optimizer_settings){0}, &(schedule){.lr = 1}, a, &d, &err) == INLAY_OK);
    for (int i = 0; i < images.count; i++)
        samples[i].path = "/there/is/none";
    FUZZ_MUST(image_records_new(&records, &images, &err) == INLAY_OK);
}

static void write_checkpoint(const char *path, const char *const texts[3])
{
    static const char *const kinds[] = {"param", "m", "v"};
    static const float values[4096];
    const char *metadata[] = {"inlay.state", texts[0], "inlay.run", texts[1], "inlay.updates", texts[2], NULL};
    tensor_view views[6];
    char names[6][64];
    inlay_error err;

    for (int i = 0; i < 6; i++) {
        const param *p = i % 2 ? a->head_bias : a->head_weight;
        snprintf(names[i], sizeof names[i], "%s.%s", kinds[i / 2], p->name);
        views[i] =
            (tensor_view){.name = names[i], .type = DTYPE_F32, .ndim = p->ndim, .count = p->count, .data = values};
        memcpy(views[i].dims, p->dims, (size_t)p->ndim * sizeof *p->dims);
        FUZZ_MUST(p->count <= 4096);
    }
    (void)safetensors_write(path, views, 6, metadata, &err);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *texts[3] = {"", "", ""};
    char *copy = calloc(1, size + 1), path[FUZZ_PATH];
    const train_extent extent = {.epochs = 4, .images = 100, .batch = 8};
    train_state state = {0};
    inlay_error err = {0};
    inlay_status status;

    FUZZ_MUST(copy);
    memcpy(copy, data, size);
    for (size_t i = 0, at = 0; i < 3 && at <= size; i++) {
        texts[i] = copy + at;
        at += strlen(copy + at) + 1;
    }
    if (!a)
        set_up();
    snprintf(path, sizeof path, "%s/checkpoint.safetensors", fuzz_folder());
    unlink(path);
    write_checkpoint(path, texts);
    status = checkpoint_load(path, &update, &state, &extent, RUN, &records, &err);
    fuzz_check_error(status, &err);
    if (status == INLAY_OK)
        FUZZ_MUST(state.epoch >= 0 && state.epoch <= 4 && state.position >= 0 && state.position <= 100 &&
                  state.step_in_epoch <= state.position && state.log_bytes >= 0);
    free(copy);
    return 0;
}
