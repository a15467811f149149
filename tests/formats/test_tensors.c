/* Tensor files: what is read, what is refused and how, and what is written. */
#include "support.h"

#include "formats/tensors_impl.h"

static inlay_status parse(const char *header, size_t data_size, inlay_error *err)
{
    unsigned char file[4096] = {0};
    size_t length = strlen(header);
    tensor_list list = {.memory = arena_new()};
    inlay_status status;

    file[0] = (unsigned char)length;
    file[1] = (unsigned char)(length >> 8);
    memcpy(file + 8, header, length);
    status = safetensors_parse(&list, file, 8 + length + data_size, "file.safetensors", err);
    tensor_list_clear(&list);
    arena_free(list.memory);
    return status;
}

static void refused(const char *header, size_t data_size, const char *part)
{
    inlay_error err = {INLAY_OK, ""};

    assert_int_not_equal(parse(header, data_size, &err), INLAY_OK);
    if (!strstr(err.message, part) || !strstr(err.message, "file.safetensors"))
        fail_msg("'%s' is not in: %s", part, err.message);
}

static void test_rules(void **state)
{
    inlay_error err;

    (void)state;
    ASSERT_OK(parse("{\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]},\"a\":{\"dtype\":\"F32\","
                    "\"shape\":[],\"data_offsets\":[0,4]}}",
                    8, &err));
    ASSERT_OK(parse("{\"a\":{\"dtype\":\"F32\",\"shape\":[0,3],\"data_offsets\":[0,0]},\"__metadata__\":{\"k\":\"v\"}}",
                    0, &err));
    refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}", 8, "'a'"); /* hole */
    refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},\"b\":{\"dtype\":\"F32\",\"shape\":[1],"
            "\"data_offsets\":[4,8]}}",
            8, "'b'");                                                                             /* overlap */
    refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 5, "describes 4"); /* rest */
    refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 4, "truncated");
    refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,8]}}", 8, "12 bytes");
    refused("{\"a\":{\"dtype\":\"F31\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8, "F31");
    refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,8]}}", 8, "'a'");
    refused("{\"a\":{\"dtype\":\"U8\",\"shape\":[4611686018427387904,4611686018427387904],\"data_offsets\":[0,8]}}", 8,
            "overflows");
    /* as many values as take a multiple of 2^64 bits, and many of nothing */
    refused("{\"a\":{\"dtype\":\"F64\",\"shape\":[288230376151711744],\"data_offsets\":[0,0]}}", 0, "overflows");
    refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[2251799813685248,128],\"data_offsets\":[0,0]}}", 0, "overflows");
    refused("{\"a\":{\"dtype\":\"F4\",\"shape\":[1152921504606846976,16],\"data_offsets\":[0,0]}}", 0, "overflows");
    refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[1152921504606846976,0],\"data_offsets\":[0,0]}}", 0, "overflows");
    refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, "data_offsets");
    refused("{\"a\":1,\"a\":2}", 0, "duplicate");
    refused("[]", 0, "'{'");
    refused("{\"a\":", 0, "line 1");
}

/* A file cut at any byte gives an error, never a crash. */
static void test_truncation(void **state)
{
    const char *folder = support_folder();
    float values[6] = {1, 2, 3, 4, 5, 6};
    tensor_view views[2] = {{.name = "one", .type = DTYPE_F32, .ndim = 2, .dims = {2, 2}, .data = values},
                            {.name = "two", .type = DTYPE_BF16, .ndim = 1, .dims = {3}, .data = values}};
    const char *metadata[] = {"key", "text", NULL};
    char path[300], *bytes;
    size_t size;
    inlay_error err;
    tensor_set *set;

    (void)state;
    snprintf(path, sizeof path, "%s/a.safetensors", folder);
    ASSERT_OK(safetensors_write(path, views, 2, metadata, &err));
    ASSERT_OK(tensor_set_open(&set, path, &err));
    assert_int_equal(tensor_set_count(set), 2);
    assert_memory_equal(tensor_set_find(set, "one")->data, values, 16);
    assert_int_equal(tensor_set_find(set, "two")->dims[0], 3);
    assert_null(tensor_set_find(set, "three"));
    assert_string_equal(tensor_set_metadata(set, "key"), "text");
    assert_string_equal(tensor_set_metadata(set, "format"), "pt");
    tensor_set_close(set);
    ASSERT_OK(file_read(path, 1 << 20, &bytes, &size, &err));
    assert_int_equal(size % 8, 16 % 8 + 6); /* header padded to 8, then 16 + 6 bytes */
    for (size_t cut = 0; cut < size; cut++) {
        tensor_list list = {.memory = arena_new()};
        assert_int_not_equal(safetensors_parse(&list, (unsigned char *)bytes, cut, path, &err), INLAY_OK);
        tensor_list_clear(&list);
        arena_free(list.memory);
    }
    free(bytes);
    ASSERT_OK(file_read(TEST_DATA "/oracle/vit_jax.npz", 1 << 24, &bytes, &size, &err));
    for (size_t cut = 0; cut < size; cut += 1 + size / 400) {
        tensor_list list = {.memory = arena_new()};
        assert_int_not_equal(npz_parse(&list, (unsigned char *)bytes, cut, "vit_jax.npz", &err), INLAY_OK);
        tensor_list_clear(&list);
        arena_free(list.memory);
    }
    free(bytes);
    support_remove(folder);
}

static void test_real(void **state)
{
    inlay_error err;
    tensor_set *set;
    char hex[65];

    (void)state;
    if (!file_exists(TEST_ASSETS "/backbones/vit_tiny_patch16_224/model.safetensors")) {
        print_message("skipped: the ViT-Ti/16 checkpoint is not there\n");
        skip();
    }
    ASSERT_OK(tensor_set_open(&set, TEST_ASSETS "/backbones/vit_tiny_patch16_224/model.safetensors", &err));
    assert_int_equal(tensor_set_count(set), 152);
    ASSERT_OK(tensor_set_sha256(set, hex, &err));
    assert_string_equal(hex, "352e72699f7a76ad32524ec578915050c671dc56c559a50ace84f65ccf4d5bea");
    tensor_set_close(set);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_rules), cmocka_unit_test(test_truncation),
                                       cmocka_unit_test(test_real)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
