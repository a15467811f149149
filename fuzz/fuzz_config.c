/* Any bytes as a checkpoint's configuration, beside weights that are whole. The first byte modulo 4: 0, timm's
 * config.json; 1, Hugging Face's config.json; 2, Hugging Face's preprocessor_config.json; 3, its processor_config.json.
 * What opens must answer for an image. */
#include "fuzz.h"

#include "inlay/inlay.h"

static void set_up(void)
{
    static const unsigned char picture[] = "P6\n2 2\n255\n\0\1\2\3\4\5\6\7\10\11\12\13";
    char path[FUZZ_PATH];

    for (int i = 0; i < 4; i++) {
        snprintf(path, sizeof path, "%s/%d", fuzz_folder(), i);
        FUZZ_MUST(file_make_folder(path, NULL) == INLAY_OK);
        snprintf(path, sizeof path, "%d/model.safetensors", i);
        fuzz_link(path, i ? FUZZ_DATA "/oracle/vit_hf/model.safetensors" : FUZZ_DATA "/oracle/vit/model.safetensors");
    }
    fuzz_link("1/preprocessor_config.json", FUZZ_DATA "/oracle/vit_hf/preprocessor_config.json");
    fuzz_link("2/config.json", FUZZ_DATA "/oracle/vit_hf/config.json");
    fuzz_link("3/config.json", FUZZ_DATA "/oracle/vit_hf/config.json");
    fuzz_write(path, "picture.ppm", picture, sizeof picture - 1);
}

/* Asks the checkpoint's own head, where its images are small. */
static void ask(inlay_backbone *b, const char *picture)
{
    inlay_session_options how = {.size = sizeof how, .precision = "f32", .threads = 1};
    inlay_input in = {.size = sizeof in, .kind = INLAY_INPUT_FILE, .name = picture};
    inlay_prediction top[5];
    inlay_session *s;
    inlay_error err = {0};
    int found = 0;

    FUZZ_MUST(inlay_session_open(&s, b, &how, &err) == INLAY_OK);
    if (inlay_session_height(s) <= 64 && inlay_session_width(s) <= 64)
        fuzz_check_error(inlay_session_classify(s, NULL, &in, top, 5, &found, &err), &err);
    for (int i = 0; i < inlay_session_classes(s, NULL); i++)
        inlay_session_label(s, NULL, i);
    inlay_session_close(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const names[] = {"0/config.json", "1/config.json", "2/preprocessor_config.json",
                                        "3/processor_config.json"};
    static int made;
    char path[FUZZ_PATH], picture[FUZZ_PATH];
    inlay_backbone *b;
    inlay_error err = {0};

    if (size == 0)
        return 0;
    if (!made++)
        set_up();
    fuzz_write(path, names[data[0] % 4], data + 1, size - 1);
    snprintf(path, sizeof path, "%s/%d", fuzz_folder(), data[0] % 4);
    snprintf(picture, sizeof picture, "%s/picture.ppm", fuzz_folder());
    fuzz_check_error(inlay_backbone_open(&b, path, NULL, &err), &err);
    if (b)
        ask(b, picture);
    inlay_backbone_release(b);
    return 0;
}
