/* Names of files, folders, commands and variables may hold anything: on a terminal they neither move the cursor nor
 * forge a line. */
#include "command.h"

/* A colour, a line feed with a forged line, a carriage return, DEL, and C1 controls as UTF-8 and bare: for printf. */
#define HOSTILE "a\\033[31m\\nnote: forged\\r\\177\\302\\233\\233"
#define NAME "N=\"$(printf '" HOSTILE "')\" && "
#define CHECKED " >out.txt 2>err.txt"

/* Neither stream holds a control byte but line feeds, nor a line that the name began. */
static void expect_clean(const char *what, bool shown)
{
    static const char *const streams[] = {"out.txt", "err.txt"};
    bool found = false;

    for (int i = 0; i < 2; i++) {
        const unsigned char *text = (const unsigned char *)text_of(streams[i]);
        for (const unsigned char *at = text; *at; at++)
            if ((*at < 0x20 && *at != '\n') || (*at >= 0x7f && *at < 0xa0))
                fail_msg("%s: %s holds the byte %02x: %s", what, streams[i], *at, (const char *)text);
        if (strstr((const char *)text, "\nnote: forged"))
            fail_msg("%s: %s has a forged line: %s", what, streams[i], (const char *)text);
        found = found || strstr((const char *)text, "a\\x1b[31m\\x0anote: forged\\x0d\\x7f\\xc2\\x9b\\x9b");
    }
    if (shown && !found)
        fail_msg("%s: the name is not shown: %s", what, text_of("err.txt"));
}

static void test_commands(void **state)
{
    static const struct {
        const char *line;
        int status;
        bool shown;
    } members[] = {
        {"\"$INLAY\" \"$N\"", 2, true},
        {"\"$INLAY\" \"$N\" >/dev/full", 2, true},
        {"\"$INLAY\" train \"--$N\" 1", 2, true},
        {"\"$INLAY\" train \"$N\" --data data", 2, true},
        {"env \"INLAY_$N=1\" \"$INLAY\" methods", 0, false},
        {"\"$INLAY\" train --backbone \"$N\" --data data --output run", 1, true},
        {"\"$INLAY\" train --backbone " VIT " --data \"$N\" --output run", 1, true},
        {"\"$INLAY\" train --backbone \"b$N\" --data data --output \"r$N\" --cache-dir \"$N\" --method lora --epochs 1",
         0, true},
        {"\"$INLAY\" train --backbone \"b$N\" --data data --output \"r$N\" --epochs 1 --threads 1", 2, true},
        {"\"$INLAY\" train --backbone \"b$N\" --data data --output \"r$N\" --cache-dir \"$N\" --method lora --epochs 1 "
         "--resume",
         0, true},
        {"\"$INLAY\" eval --backbone \"b$N\" --adapter \"r$N\" --data data --confusion \"p$N\"", 0, false},
        {"\"$INLAY\" predict --backbone \"b$N\" data/test", 0, true}, /* has no names of classes */
        {"\"$INLAY\" predict --backbone \"b$N\" --adapter \"r$N\" \"i$N.ppm\" \"no$N\"", 1, true},
        {"\"$INLAY\" predict --backbone \"b$N\" --labels \"$N\" data/test", 1, true},
        {"\"$INLAY\" inspect \"b$N\"", 0, false},
        {"\"$INLAY\" inspect \"r$N\"", 0, false},
        {"\"$INLAY\" fold --backbone \"b$N\" --adapter \"r$N\" --output \"f$N\"", 0, true},
        {"\"$INLAY\" bench --backbone \"b$N\" --batch-size 1 --runs 1 --threads 1", 0, true},
        {"\"$INLAY\" unpack --images \"$N\" --labels \"$N\" --output u", 1, true},
        {"\"$INLAY\" pretrain --data \"$N\" --output u", 1, true},
        {"\"$INLAY\" prune --backbone \"b$N\" --adapter \"r$N\" --data data --output u --keep 1", -1, false},
    };

    (void)state;
    expect(shell(NAME "cp -r '" VIT "' \"b$N\" && cp data/test/class0/00.ppm \"i$N.ppm\" && "
                      "sed -i 's/\"label_names\"/\"other_names\"/' \"b$N/config.json\""),
           0);
    for (size_t i = 0; i < sizeof members / sizeof *members; i++) {
        int status = shell(NAME "(%s)" CHECKED, members[i].line);
        if (members[i].status >= 0 && status != members[i].status)
            fail_msg("%s: exit status %d: %s", members[i].line, status, text_of("err.txt"));
        expect_clean(members[i].line, members[i].shown);
    }
}

static void test_lists(void **state)
{
    (void)state;
    expect(shell(NAME "(\"$INLAY\" eval --backbone " VIT " --data \"$N.csv\")" CHECKED), 1);
    expect_clean("eval", true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_commands, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_lists, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
