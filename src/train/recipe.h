/* Recipes: named sets of training defaults. A recipe's texts are options of `inlay train`; what it does not name is
 * Adapter+'s. Every value so has one of three sources: the recipe's own authors, this project, or Adapter+. */
#ifndef INLAY_TRAIN_RECIPE_H
#define INLAY_TRAIN_RECIPE_H

#include "base/options.h"

typedef struct recipe {
    const char *name;
    const char *source; /* where the authors' values were read */
    const char *theirs; /* "option=value option=value" */
    const char *ours;   /* values that this project chose in place of the authors' */
    const char *note;   /* why, and what of the authors' training is not in it; empty: nothing to say */
} recipe;

extern const recipe recipe_table[]; /* ended by name == NULL; the first is Adapter+'s, which names every option */

const recipe *recipe_find(const char *name); /* NULL: unknown */
/* What a method or preset is trained with by default. */
const recipe *recipe_of(const char *method_name);
/* Finds a recipe by its name, with an error that lists the known ones. */
inlay_status recipe_named(const recipe **out, const char *name, inlay_error *err);

/* Visits every option of a recipe with its value and who chose it ("authors", "this project", "adapter_plus"). */
typedef void (*recipe_visitor)(void *context, const char *option, const char *text, const char *who);
void recipe_each(const recipe *r, recipe_visitor visit, void *context);
double recipe_real(const recipe *r, const char *option);
/* Makes the recipe's values the defaults of `o`. */
inlay_status recipe_apply(const recipe *r, options *o, inlay_error *err);

#endif
