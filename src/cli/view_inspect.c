#include <stdlib.h>

#include "base/text.h"
#include "cli/display.h"

static void print_text(const char *text)
{
    text_put(stdout, text);
    putchar('\n');
}

static void print_key(const char *key, int indent, int width)
{
    int room = width - text_columns(key);

    printf("%*s", indent, "");
    text_put(stdout, key);
    printf("%*s", room > 0 ? room : 0, "");
}

static void print_value(const json_t *item, int indent)
{
    const char *key;
    json_t *inner;
    char count[TEXT_SHORT];

    if (json_is_object(item)) {
        putchar('\n');
        json_object_foreach((json_t *)(uintptr_t)item, key, inner)
        {
            print_key(key, indent, 22);
            print_value(inner, indent + 2);
        }
    } else if (json_is_array(item) && json_array_size(item) > 0 && json_is_object(json_array_get(item, 0))) {
        putchar('\n');
        for (size_t i = 0; i < json_array_size(item); i++) {
            char *text = json_dumps(json_array_get(item, i), JSON_COMPACT | JSON_PRESERVE_ORDER);
            printf("%*s", indent, "");
            print_text(text ? text : "");
            free(text);
        }
    } else if (json_is_integer(item)) {
        printf(" %s\n", text_count(count, json_integer_value(item)));
    } else if (json_is_string(item)) {
        putchar(' ');
        print_text(json_string_value(item));
    } else {
        char *text = json_dumps(item, JSON_ENCODE_ANY | JSON_REAL_PRECISION(6));
        putchar(' ');
        print_text(text ? text : "");
        free(text);
    }
}

static void print(display *d, const json_t *record)
{
    const char *key;
    json_t *item;

    (void)d;
    json_object_foreach((json_t *)(uintptr_t)record, key, item)
    {
        print_key(key, 0, 24);
        print_value(item, 2);
    }
}

const view view_inspect = {.job = "inspect", .print = print};
