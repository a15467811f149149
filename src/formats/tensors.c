#include <stdlib.h>
#include <string.h>

#include "base/foreign.h"
#include "base/json.h"
#include "formats/tensors_impl.h"

struct tensor_set {
    arena *memory;
    tensor_list list;
    const tensor_view **sorted; /* by name */
    file_map *maps;
    const char **paths;
    int file_count;
};

static int by_name(const void *a, const void *b)
{
    return strcmp((*(const tensor_view *const *)a)->name, (*(const tensor_view *const *)b)->name);
}

static inlay_status sort_views(tensor_set *set, const char *path, inlay_error *err)
{
    set->sorted = calloc((size_t)set->list.count + 1, sizeof *set->sorted);
    if (!set->sorted)
        FAIL(err, INLAY_ERR_NOMEM, "out of memory reading '%s'", path);
    for (int i = 0; i < set->list.count; i++)
        set->sorted[i] = &set->list.views[i];
    qsort(set->sorted, (size_t)set->list.count, sizeof *set->sorted, by_name);
    for (int i = 1; i < set->list.count; i++)
        if (strcmp(set->sorted[i]->name, set->sorted[i - 1]->name) == 0)
            FAIL(err, INLAY_ERR_FORMAT, "%s: tensor '%s' occurs twice", path, set->sorted[i]->name);
    return INLAY_OK;
}

static inlay_status read_file(tensor_set *set, const char *path, inlay_error *err)
{
    file_map *map = &set->maps[set->file_count];
    int before = set->list.count;
    inlay_status status;
    const char *what;
    bool zip;

    TRY(file_map_open(map, path, err));
    set->paths[set->file_count++] = path;
    zip = map->size >= 4 && memcmp(map->data, "PK\3\4", 4) == 0;
    status = (zip ? npz_parse : safetensors_parse)(&set->list, map->data, map->size, path, err);
    what = status != INLAY_OK || (zip && set->list.count == before) ? foreign_bytes(map->data, map->size) : NULL;
    return what ? error_set(err, INLAY_ERR_FORMAT, "%s: this is %s", path, what) : status;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Reads an index, {"weight_map": {"tensor": "file", ...}}: opens each file once, in name order, and checks that every
 * tensor is where the map says. */
static inlay_status read_shards(tensor_set *set, const char *path, const json_t *map, inlay_error *err)
{
    int limit = (int)json_object_size(map), count = 0;
    const char **names = ARENA_ARRAY(set->memory, const char *, limit + 1),
               *folder = arena_printf(set->memory, "%.*s", (int)(path_base(path) - path), path), *key;
    json_t *item;

    json_object_foreach((json_t *)(uintptr_t)map, key, item)
    {
        const char *name = json_string_value(item);
        if (!name || strchr(name, '/') || name[0] == '.')
            FAIL(err, INLAY_ERR_FORMAT, "%s: weight_map: '%s' must name a file beside it", path, key);
        names[count++] = name;
    }
    qsort(names, (size_t)count, sizeof *names, by_text);
    set->maps = calloc((size_t)count + 1, sizeof *set->maps);
    set->paths = ARENA_ARRAY(set->memory, const char *, count + 1);
    if (!set->maps)
        FAIL(err, INLAY_ERR_NOMEM, "out of memory reading '%s'", path);
    for (int i = 0; i < count; i++)
        if (i == 0 || strcmp(names[i], names[i - 1]) != 0)
            TRY(read_file(set, arena_printf(set->memory, "%s%s", folder, names[i]), err));
    TRY(sort_views(set, path, err));
    json_object_foreach((json_t *)(uintptr_t)map, key, item)
    {
        const tensor_view *view = tensor_set_find(set, key);
        if (!view || strcmp(path_base(view->file), json_string_value(item)) != 0)
            FAIL(err, INLAY_ERR_FORMAT, "%s: tensor '%s' is not in '%s'", path, key, json_string_value(item));
    }
    for (int i = 0; i < set->list.count; i++)
        if (!json_object_get(map, set->list.views[i].name))
            FAIL(err, INLAY_ERR_FORMAT, "%s: tensor '%s' of '%s' is not in weight_map", path, set->list.views[i].name,
                 set->list.views[i].file);
    return INLAY_OK;
}

static inlay_status read_index(tensor_set *set, const char *path, inlay_error *err)
{
    const json_t *map;
    inlay_status status;
    json_t *root;

    TRY(json_read(&root, path, err));
    map = json_object_get(root, "weight_map");
    status = json_is_object(map) && json_object_size(map) > 0
                 ? read_shards(set, path, map, err)
                 : error_set(err, INLAY_ERR_FORMAT, "%s: key 'weight_map' (an object) is expected", path);
    json_decref(root);
    return status;
}

inlay_status tensor_set_open(tensor_set **out, const char *path, inlay_error *err)
{
    arena *memory = arena_new();
    tensor_set *set = ARENA_NEW(memory, tensor_set);
    size_t length = strlen(path);
    inlay_status status;

    set->memory = set->list.memory = memory;
    path = arena_strdup(memory, path);
    if (length > 5 && strcmp(path + length - 5, ".json") == 0) {
        status =
            file_exists(path) ? read_index(set, path, err) : error_set(err, INLAY_ERR_IO, "'%s' does not exist", path);
    } else {
        set->maps = calloc(1, sizeof *set->maps);
        set->paths = ARENA_ARRAY(memory, const char *, 1);
        status =
            set->maps ? read_file(set, path, err) : error_set(err, INLAY_ERR_NOMEM, "out of memory reading '%s'", path);
        if (status == INLAY_OK)
            status = sort_views(set, path, err);
    }
    if (status != INLAY_OK) {
        tensor_set_close(set);
        set = NULL;
    }
    *out = set;
    return status;
}

void tensor_set_close(tensor_set *set)
{
    if (!set)
        return;
    for (int i = 0; i < set->file_count; i++)
        file_map_close(&set->maps[i]);
    tensor_list_clear(&set->list);
    free(set->maps);
    free(set->sorted);
    arena_free(set->memory);
}

int tensor_set_count(const tensor_set *set)
{
    return set->list.count;
}

const tensor_view *tensor_set_at(const tensor_set *set, int index)
{
    return &set->list.views[index];
}

const tensor_view *tensor_set_find(const tensor_set *set, const char *name)
{
    tensor_view wanted = {.name = name};
    const tensor_view *key = &wanted,
                      **found = bsearch(&key, set->sorted, (size_t)set->list.count, sizeof *set->sorted, by_name);

    return found ? *found : NULL;
}

const char *tensor_set_metadata(const tensor_set *set, const char *key)
{
    for (int i = 0; i + 1 < set->list.metadata_count; i += 2)
        if (strcmp(set->list.metadata[i], key) == 0)
            return set->list.metadata[i + 1];
    return NULL;
}

void tensor_set_release(const tensor_set *set)
{
    for (int i = 0; i < set->file_count; i++)
        file_map_release(&set->maps[i]);
}

bool tensor_set_maps(const tensor_set *set, const void *data)
{
    uintptr_t at = (uintptr_t)data;

    for (int i = 0; i < set->file_count; i++)
        if (at >= (uintptr_t)set->maps[i].data && at - (uintptr_t)set->maps[i].data < set->maps[i].size)
            return true;
    return false;
}

size_t tensor_set_bytes(const tensor_set *set)
{
    size_t total = 0;

    for (int i = 0; i < set->file_count; i++)
        total += set->maps[i].size;
    return total;
}

inlay_status tensor_set_sha256(const tensor_set *set, char hex[65], inlay_error *err)
{
    char *all; /* the sums of several files, one behind the other, which are summed again */

    if (set->file_count == 1) {
        bytes_sha256(set->maps[0].data, set->maps[0].size, hex);
        return INLAY_OK;
    }
    all = memory_array(set->file_count, 65);
    if (!all)
        FAIL(err, INLAY_ERR_NOMEM, "out of memory for the sha256 of %d files", set->file_count);
    for (int i = 0; i < set->file_count; i++)
        bytes_sha256(set->maps[i].data, set->maps[i].size, all + 64 * i);
    bytes_sha256(all, 64 * (size_t)set->file_count, hex);
    free(all);
    return INLAY_OK;
}
