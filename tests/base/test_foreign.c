/* Files that are not what their name says: the message names what they are. */
#include "support.h"

#include "backbones/backbone.h"
#include "base/foreign.h"
#include "formats/tensors.h"

/* Each is written where tensors, their index, and JSON are expected. */
static const struct {
    const char *bytes;
    size_t size;
    const char *message;
} files[] = {
    {"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 22884616\n", 72, "git lfs pull"},
    {"<!DOCTYPE html>\n<html lang=\"en\"><head></head></html>\n", 53, "a web page"},
    {"\n  <HTML><body>Not Found</body></HTML>", 38, "a web page"},
    {"\xef\xbb\xbf<html></html>", 16, "a web page"},
    {"<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code></Error>", 61, "a web page"},
    {"Entry not found", 15, "a server's answer"},
    {"Invalid username or password.", 29, "a server's answer"},
    {"PK\3\4\0\0\10\10\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x12\0\0\0archive/data.pkl\x80\2}q\0.", 52,
     "a pickle of PyTorch"},
    {"\x80\2\x8a\nl\xfc\x9c\x46\xf9 j\xa8P\x19.\x80\2M\xe9\3.", 22, "a pickle of PyTorch"},
    {"\x80\4\x95\0\0\0\0\0\0\0\0}\x94.", 14, "a pickle of PyTorch"},
    {"\x89HDF\r\n\x1a\n\0\0\0\0\0\0\0\0", 16, "HDF5"},
    {"GGUF\3\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 24, "GGUF"},
    {"\x1f\x8b\10\0\0\0\0\0\0\3", 10, "gzip"},
    {"", 0, "an empty file"},
};

static void test_tensors(void **state)
{
    const char *folder = support_folder();
    static const char *const names[] = {"model.safetensors", "model.npz", "model.safetensors.index.json"};
    inlay_error err;

    (void)state;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        for (size_t n = 0; n < sizeof names / sizeof *names; n++) {
            char path[300];
            tensor_set *set;
            snprintf(path, sizeof path, "%s/%s", folder, names[n]);
            ASSERT_OK(file_write(path, files[i].bytes, files[i].size, &err));
            assert_int_not_equal(tensor_set_open(&set, path, &err), INLAY_OK);
            assert_null(set);
            if (!strstr(err.message, files[i].message) || !strstr(err.message, path))
                fail_msg("'%s' and '%s' are not in the message: %s", files[i].message, path, err.message);
        }
    support_remove(folder);
}

static void test_config(void **state)
{
    const char *folder = support_folder();
    char path[300];
    inlay_error err;
    backbone *b;

    (void)state;
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    ASSERT_OK(file_write(path, "", 0, &err));
    snprintf(path, sizeof path, "%s/config.json", folder);
    ASSERT_OK(file_write(path, files[0].bytes, files[0].size, &err));
    assert_int_not_equal(backbone_open(&b, folder, 0, &err), INLAY_OK);
    assert_non_null(strstr(err.message, "config.json: this is a git-lfs pointer"));
    support_remove(folder);
}

/* A folder whose weights are in a form that is not read says so. */
static void test_folder(void **state)
{
    const char *folder = support_folder();
    char path[300];
    inlay_error err;
    backbone *b;

    (void)state;
    snprintf(path, sizeof path, "%s/pytorch_model.bin", folder);
    ASSERT_OK(file_write(path, files[8].bytes, files[8].size, &err));
    assert_int_not_equal(backbone_open(&b, folder, 0, &err), INLAY_OK);
    assert_non_null(strstr(err.message, "'pytorch_model.bin'"));
    assert_int_not_equal(backbone_open(&b, path, 0, &err), INLAY_OK);
    assert_non_null(strstr(err.message, "a pickle of PyTorch"));
    support_remove(folder);
}

/* What can be read is never asked: a header of 60 bytes begins with '<', as pages do. */
static void test_alike(void **state)
{
    const char *folder = support_folder();
    char path[300], bytes[8 + 60] = "<\0\0\0\0\0\0\0";
    inlay_error err;
    tensor_set *set;

    (void)state;
    memset(bytes + 8, ' ', 60);
    memcpy(bytes + 8, "{\"a\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]}}", 54);
    snprintf(path, sizeof path, "%s/a.safetensors", folder);
    ASSERT_OK(file_write(path, bytes, sizeof bytes, &err));
    ASSERT_OK(tensor_set_open(&set, path, &err));
    assert_int_equal(tensor_set_count(set), 1);
    tensor_set_close(set);
    assert_null(foreign_bytes("{}", 2));
    support_remove(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tensors),
        cmocka_unit_test(test_config),
        cmocka_unit_test(test_folder),
        cmocka_unit_test(test_alike),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
