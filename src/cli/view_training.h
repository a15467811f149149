/* How a training run is shown, whichever job it belongs to. */
#ifndef INLAY_CLI_VIEW_TRAINING_H
#define INLAY_CLI_VIEW_TRAINING_H

#include "cli/display.h"

void view_training_event(display *d, const char *kind, const json_t *record);
/* Prints the line of accuracy, where the record has an evaluation. */
void view_training_print_accuracy(const json_t *record);
/* The line that names the picture of the run, where there is one. */
void view_training_print_curves(const json_t *record);

#endif
