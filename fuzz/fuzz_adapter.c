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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int made;
    char path[FUZZ_PATH], picture[FUZZ_PATH];
    inlay_model_options wanted = {.backbone = BACKBONE, .precision = "f32", .threads = 1, .force_backbone = true};
    inlay_prediction top[5];
    inlay_model *model;
    inlay_error err = {0};
    int found = 0;

    if (!made++)
        set_up();
    fuzz_write(path, "adapter.json", data, size);
    snprintf(picture, sizeof picture, "%s/picture.ppm", fuzz_folder());
    wanted.adapter = fuzz_folder();
    fuzz_check_error(inlay_model_open(&model, &wanted, &err), &err);
    if (model && inlay_model_image_size(model) <= 64)
        fuzz_check_error(inlay_model_classify_file(model, picture, top, 5, &found, &err), &err);
    inlay_model_close(model);
    return 0;
}
