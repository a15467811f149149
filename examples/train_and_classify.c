/* Trains an adapter with progress and a stop, then classifies an image from memory. Ctrl-C stops the training in good
 * order; the same command goes on from there. usage: train_and_classify BACKBONE DATA OUTPUT IMAGE [EPOCHS] */
#include <inlay/inlay.h>

#include <signal.h>
#include <stdio.h>

static volatile sig_atomic_t interrupted;

static void on_signal(int number)
{
    interrupted = number;
}

static bool on_stop(void *context)
{
    (void)context;
    return interrupted != 0;
}

static void on_progress(void *context, double done, double resumed, const char *text)
{
    (void)context, (void)resumed;
    fprintf(stderr, "\r%.0f images%s%s ", done, text ? ", " : "", text ? text : "");
}

static void on_event(void *context, const char *kind, const char *json)
{
    (void)context;
    fprintf(stderr, "\n%s: %s\n", kind, json);
}

static void *read_file(const char *path, size_t *size)
{
    static unsigned char bytes[1 << 24];
    FILE *in = fopen(path, "rb");

    *size = in ? fread(bytes, 1, sizeof bytes, in) : 0;
    if (in)
        fclose(in);
    return bytes;
}

static inlay_status train(char **argv, const char *epochs, inlay_error *err)
{
    const char *settings[][2] = {
        {"backbone", argv[1]}, {"data", argv[2]}, {"output", argv[3]}, {"epochs", epochs}, {"resume", "true"}};
    inlay_observer watch = {.size = sizeof watch, .progress = on_progress, .event = on_event, .stop = on_stop};
    inlay_options *o;
    inlay_status status = inlay_options_new(&o, "train", "adapter_plus", err);

    for (size_t i = 0; status == INLAY_OK && i < sizeof settings / sizeof *settings; i++)
        status = inlay_options_set(o, settings[i][0], settings[i][1], err);
    if (status == INLAY_OK)
        status = inlay_run(o, &watch, NULL, err);
    inlay_options_free(o);
    return status;
}

static inlay_status classify(char **argv, inlay_error *err)
{
    inlay_backbone_options how = {.size = sizeof how, .adapter = argv[3]};
    inlay_input image = {.size = sizeof image, .kind = INLAY_INPUT_ENCODED, .name = argv[4]};
    inlay_prediction top[3];
    inlay_backbone *b = NULL;
    inlay_session *s = NULL;
    int found = 0;
    inlay_status status = inlay_backbone_open(&b, argv[1], &how, err);

    image.data = read_file(argv[4], &image.bytes);
    if (status == INLAY_OK)
        status = inlay_session_open(&s, b, NULL, err);
    if (status == INLAY_OK)
        status = inlay_session_load(s, "mine", argv[3], err);
    if (status == INLAY_OK)
        status = inlay_session_classify(s, "mine", &image, top, 3, &found, err);
    for (int i = 0; i < found; i++)
        printf("%5.1f %% %s\n", 100 * (double)top[i].probability, inlay_session_label(s, "mine", top[i].index));
    inlay_session_close(s);
    inlay_backbone_release(b);
    return status;
}

int main(int argc, char **argv)
{
    inlay_error err;

    if (argc < 5) {
        fprintf(stderr, "usage: %s BACKBONE DATA OUTPUT IMAGE [EPOCHS]\n", argv[0]);
        return 2;
    }
    signal(SIGINT, on_signal);
    if (train(argv, argc > 5 ? argv[5] : "10", &err) != INLAY_OK || classify(argv, &err) != INLAY_OK) {
        fprintf(stderr, "\n%s\n", err.message);
        return err.code == INLAY_ERR_INTERRUPTED ? 130 : 1;
    }
    return 0;
}
