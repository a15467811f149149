/* Any bytes as adapter.json, beside the weights of a bottleneck adapter that are whole. What opens must answer for an
 * image. */
#include "fuzz.h"

#include "adapters/adapter.h"
#include "inlay/inlay.h"

#define BACKBONE FUZZ_DATA "/oracle/vit"

static void set_up(void)
{
    static const unsigned char picture[] = "P6\n2 2\n255\n\0\1\2\3\4\5\6\7\10\11\12\13";
    char path[FUZZ_PATH];
    inlay_error err;
    backbone *b;
    options *o;
    adapter *a;
    device d;

    FUZZ_MUST(device_open(&d, NULL, 1, &err) == INLAY_OK);
    FUZZ_MUST(backbone_open(&b, BACKBONE, 0, &err) == INLAY_OK);
    FUZZ_MUST(adapter_settings(&o, "adapter_plus", &err) == INLAY_OK);
    FUZZ_MUST(adapter_new(&a, "adapter_plus", o, b, 3, NULL, &err) == INLAY_OK);
    FUZZ_MUST(adapter_initialise(a, &d, 1, &err) == INLAY_OK);
    FUZZ_MUST(adapter_save(a, &d, fuzz_folder(), NULL, NULL, &err) == INLAY_OK);
    adapter_free(a, &d);
    backbone_close(b);
    device_close(&d);
    fuzz_write(path, "picture.ppm", picture, sizeof picture - 1);
}

/* Loads the adapter and asks it, where its images are small. */
static void ask(inlay_backbone *b, const char *picture)
{
    inlay_session_options how = {.size = sizeof how, .precision = "f32", .threads = 1, .force_backbone = true};
    inlay_input in = {.size = sizeof in, .kind = INLAY_INPUT_FILE, .name = picture};
    inlay_prediction top[5];
    inlay_session *s;
    inlay_error err = {0};
    int found = 0;

    FUZZ_MUST(inlay_session_open(&s, b, &how, &err) == INLAY_OK);
    if (inlay_session_height(s) <= 64 && inlay_session_width(s) <= 64) {
        inlay_status status = inlay_session_load(s, "one", fuzz_folder(), &err);
        fuzz_check_error(status, &err);
        if (status == INLAY_OK)
            fuzz_check_error(inlay_session_classify(s, "one", &in, top, 5, &found, &err), &err);
        for (int i = 0; i < inlay_session_classes(s, "one"); i++)
            inlay_session_label(s, "one", i);
    }
    inlay_session_close(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int made;
    char path[FUZZ_PATH], picture[FUZZ_PATH];
    inlay_backbone_options how = {.size = sizeof how};
    inlay_backbone *b;
    inlay_error err = {0};

    if (!made++)
        set_up();
    fuzz_write(path, "adapter.json", data, size);
    snprintf(picture, sizeof picture, "%s/picture.ppm", fuzz_folder());
    how.adapter = fuzz_folder();
    fuzz_check_error(inlay_backbone_open(&b, BACKBONE, &how, &err), &err);
    if (b)
        ask(b, picture);
    inlay_backbone_release(b);
    return 0;
}
