#include "tasks/task.h"

#include <stdlib.h>
#include <string.h>

const task_desc *const task_table[] = {
#define TASK(name) &task_##name,
#include "tasks/tasks.def"
#undef TASK
    NULL,
};

const task_desc *task_find(const char *name)
{
    for (int i = 0; task_table[i]; i++)
        if (strcmp(task_table[i]->name, name) == 0)
            return task_table[i];
    return NULL;
}

dtype task_target_type(const task_desc *t)
{
    return t->one_class ? DTYPE_I32 : DTYPE_F32;
}

int64_t task_target_count(const task_desc *t, int64_t outputs)
{
    return t->one_class ? 1 : outputs;
}

size_t task_target_bytes(const task_desc *t, int64_t outputs)
{
    return size_product(task_target_count(t, outputs), dtype_size(task_target_type(t)));
}

inlay_status task_scores_begin(task_scores *s, const task_desc *t, int64_t outputs, bool confusion, inlay_error *err)
{
    *s = (task_scores){.task = t, .outputs = outputs};
    if (confusion && t->one_class)
        return memory_alloc((void **)&s->confusion, size_product(outputs, size_product(outputs, sizeof *s->confusion)),
                            "the confusion matrix", err);
    return INLAY_OK;
}

inlay_status task_scores_add(task_scores *s, const float *outputs, const void *target, inlay_error *err)
{
    TRY(s->task->add(s, outputs, target, err));
    s->count++;
    return INLAY_OK;
}

void task_scores_end(task_scores *s)
{
    if (s->count > 0)
        s->loss /= s->count;
    if (s->task->conclude)
        s->task->conclude(s);
    else
        for (int i = 0; s->task->metrics[i].name && s->count > 0; i++)
            s->values[i] /= s->count;
}

void task_scores_free(task_scores *s)
{
    memory_free(s->confusion);
    free(s->answers);
    free(s->targets);
    s->confusion = NULL;
    s->answers = s->targets = NULL;
}

inlay_status task_scores_keep(task_scores *s, const float *outputs, const float *target, inlay_error *err)
{
    if (s->count == s->capacity) {
        int64_t room = s->capacity ? 2 * s->capacity : 64;
        size_t bytes = size_product(room, size_product(s->outputs, sizeof *s->answers));
        float *answers = bytes < SIZE_MAX ? realloc(s->answers, bytes) : NULL, *targets;
        s->answers = answers ? answers : s->answers;
        targets = answers ? realloc(s->targets, bytes) : NULL;
        s->targets = targets ? targets : s->targets;
        if (!targets)
            FAIL(err, INLAY_ERR_NOMEM, "out of memory for the answers to %lld samples", (long long)room);
        s->capacity = room;
    }
    memcpy(s->answers + s->count * s->outputs, outputs, (size_t)s->outputs * sizeof *outputs);
    memcpy(s->targets + s->count * s->outputs, target, (size_t)s->outputs * sizeof *target);
    return INLAY_OK;
}
