// The same from C++: trains an adapter with progress and a stop, then classifies an image from memory.
//
//     train_and_classify_cpp BACKBONE DATA OUTPUT IMAGE [EPOCHS]
#include <inlay/inlay.h>

#include <csignal>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <iterator>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace
{
volatile std::sig_atomic_t interrupted = 0;

void check(inlay_status status, const inlay_error &err)
{
    if (status != INLAY_OK)
        throw std::runtime_error(err.message);
}

template <class T> using handle = std::unique_ptr<T, void (*)(T *)>;

void train(const std::string &backbone, const std::string &data, const std::string &output, const std::string &epochs)
{
    inlay_error err;
    inlay_options *raw = nullptr;
    check(inlay_options_new(&raw, "train", "adapter_plus", &err), err);
    handle<inlay_options> options(raw, inlay_options_free);
    const std::string settings[][2] = {
        {"backbone", backbone}, {"data", data}, {"output", output}, {"epochs", epochs}, {"resume", "true"}};
    for (const auto &s : settings)
        check(inlay_options_set(raw, s[0].c_str(), s[1].c_str(), &err), err);

    inlay_observer watch = inlay_observer();
    watch.size = sizeof watch;
    watch.progress = [](void *, double done, double, const char *) { std::cerr << "\r" << done << " images "; };
    watch.event = [](void *, const char *kind, const char *json) { std::cerr << "\n" << kind << ": " << json << "\n"; };
    watch.stop = [](void *) { return interrupted != 0; };
    check(inlay_run(raw, &watch, nullptr, &err), err);
}

void classify(const std::string &backbone, const std::string &adapter, const std::string &path)
{
    std::ifstream file(path, std::ios::binary);
    const std::vector<char> bytes((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
    inlay_error err;
    inlay_backbone *b = nullptr;
    inlay_session *s = nullptr;
    inlay_backbone_options how = inlay_backbone_options();
    how.size = sizeof how;
    how.adapter = adapter.c_str();
    check(inlay_backbone_open(&b, backbone.c_str(), &how, &err), err);
    handle<inlay_backbone> hold(b, inlay_backbone_release);
    check(inlay_session_open(&s, b, nullptr, &err), err);
    handle<inlay_session> session(s, inlay_session_close);
    check(inlay_session_load(s, "mine", adapter.c_str(), &err), err);

    inlay_input image = inlay_input();
    image.size = sizeof image;
    image.kind = INLAY_INPUT_ENCODED;
    image.name = path.c_str();
    image.data = bytes.data();
    image.bytes = bytes.size();
    inlay_prediction top[3];
    int found = 0;
    check(inlay_session_classify(s, "mine", &image, top, 3, &found, &err), err);
    for (int i = 0; i < found; i++)
        std::printf("%5.1f %% %s\n", 100.0 * top[i].probability, inlay_session_label(s, "mine", top[i].index));
}
} // namespace

int main(int argc, char **argv)
{
    if (argc < 5) {
        std::cerr << "usage: " << argv[0] << " BACKBONE DATA OUTPUT IMAGE [EPOCHS]\n";
        return 2;
    }
    std::signal(SIGINT, [](int number) { interrupted = number; });
    try {
        train(argv[1], argv[2], argv[3], argc > 5 ? argv[5] : "10");
        classify(argv[1], argv[3], argv[4]);
    } catch (const std::exception &e) {
        std::cerr << "\n" << e.what() << "\n";
        return 1;
    }
    return 0;
}
