#include "train/recipe.h"

#include <stdlib.h>
#include <string.h>

#include "adapters/adapter.h"

const recipe recipe_table[] = {
#define RECIPE(name, source, theirs, ours, note) {#name, source, theirs, ours, note},
#include "train/recipes.def"
#undef RECIPE
    {NULL, NULL, NULL, NULL, NULL},
};

const recipe *recipe_find(const char *name)
{
    for (const recipe *r = recipe_table; r->name; r++)
        if (strcmp(r->name, name) == 0)
            return r;
    return NULL;
}

const recipe *recipe_of(const char *method_name)
{
    const preset *p;
    const method *m = method_find(method_name, &p);

    return m ? recipe_find(p && p->recipe ? p->recipe : m->recipe) : NULL;
}

inlay_status recipe_named(const recipe **out, const char *name, inlay_error *err)
{
    char known[512] = "";

    *out = recipe_find(name);
    if (*out)
        return INLAY_OK;
    for (const recipe *r = recipe_table; r->name; r++)
        snprintf(known + strlen(known), sizeof known - strlen(known), "%s%s", r->name, r[1].name ? ", " : "");
    FAIL(err, INLAY_ERR_USAGE, "unknown recipe '%s' (known: %s)", name, known);
}

/* ---- values ---- */

#define PAIR 96 /* room for "option=value" */

/* The value of an option in a list, as a part of `pair`; NULL: the list does not name it. */
static const char *look_up(const char *list, const char *wanted, char pair[PAIR])
{
    const char *text;

    while (options_next_pair(&list, pair, PAIR, &text))
        if (strcmp(pair, wanted) == 0)
            return text;
    return NULL;
}

void recipe_each(const recipe *r, recipe_visitor visit, void *context)
{
    const char *all = recipe_table->theirs, *common;
    char option[PAIR], found[PAIR];

    while (options_next_pair(&all, option, PAIR, &common)) {
        const char *theirs = look_up(r->theirs, option, found), *ours = theirs ? NULL : look_up(r->ours, option, found);
        const char *who = theirs && r != recipe_table ? "authors" : ours ? "this project" : recipe_table->name;
        visit(context, option, theirs ? theirs : ours ? ours : common, who);
    }
}

typedef struct wanted {
    const char *option;
    double value;
} wanted;

static void take_wanted(void *context, const char *option, const char *text, const char *who)
{
    wanted *w = context;

    (void)who;
    if (strcmp(option, w->option) == 0)
        w->value = strtod(text, NULL);
}

double recipe_real(const recipe *r, const char *option)
{
    wanted w = {option, 0};

    recipe_each(r, take_wanted, &w);
    return w.value;
}

/* ---- as defaults ---- */

typedef struct application {
    options *o;
    const char *where;
    inlay_status status;
    inlay_error *err;
} application;

static void apply_one(void *context, const char *option, const char *text, const char *who)
{
    application *a = context;

    (void)who;
    if (a->status == INLAY_OK)
        a->status = options_default(a->o, option, text, a->where, a->err);
}

inlay_status recipe_apply(const recipe *r, options *o, inlay_error *err)
{
    char where[96];
    application a = {.o = o, .where = where, .err = err};

    snprintf(where, sizeof where, "recipe '%s'", r->name);
    recipe_each(r, apply_one, &a);
    return a.status;
}
