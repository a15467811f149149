/* Adapters that earlier versions wrote load and answer as they did, bit for bit: with the portable kernels, which give
 * the same bits everywhere. */
#include "support.h"

#include <dirent.h>

#include "infer/session.h"

#define GOLDEN TEST_DATA "/golden"

static int is_method(const char *name)
{
    return method_find(name, NULL) != NULL;
}

static void check(const char *folder)
{
    session_request request = {
        .backbone = TEST_DATA "/oracle/vit", .adapter = folder, .threads = 1, .precision = "f32"};
    char path[600], *text, *at;
    float logits[16];
    size_t size;
    predictor p;
    session s;
    inlay_error err;

    ASSERT_OK(session_open(&s, &request, &err));
    ASSERT_OK(session_predictor(&s, 1, &p, &err));
    ASSERT_OK(preprocess_file(&s.prep, GOLDEN "/image.pgm", NULL, predictor_pixels(&p), NULL, &err));
    assert_in_range(session_classes(&s), 2, 16);
    predictor_run(&p, 1, logits);
    snprintf(path, sizeof path, "%s/logits.txt", folder);
    ASSERT_OK(file_read(path, 4096, &text, &size, &err));
    at = text;
    for (int64_t c = 0; c < session_classes(&s); c++) {
        float wanted = strtof(at, &at);
        if (memcmp(&wanted, &logits[c], sizeof wanted) != 0)
            fail_msg("%s: logit %d is %.9g, was %.9g", folder, (int)c, (double)logits[c], (double)wanted);
    }
    free(text);
    predictor_close(&p);
    session_close(&s);
}

/* Every folder is right, and every method and preset of the table has one, of the newest version at least. */
static void test_golden(void **state)
{
    char path[512];
    int checked = 0;
    DIR *list;

    (void)state;
    setenv("INLAY_ISA", "portable", 1);
    for (int version = 1; snprintf(path, sizeof path, GOLDEN "/%d", version), (list = opendir(path)) != NULL;
         version++) {
        const struct dirent *entry;
        checked = 0;
        while ((entry = readdir(list)) != NULL)
            if (entry->d_name[0] != '.') {
                assert_true(is_method(entry->d_name));
                snprintf(path, sizeof path, GOLDEN "/%d/%s", version, entry->d_name);
                check(path);
                checked++;
            }
        closedir(list);
    }
    for (int i = 0; method_table[i]; i++)
        checked--;
    for (const preset *row = preset_table; row->name; row++)
        checked--;
    assert_int_equal(checked, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_golden)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
