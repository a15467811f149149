/* What can be drawn over an image: methods mark a value of one column, a number for each token, under this name. */
#ifndef INLAY_ADAPTERS_TOKEN_WEIGHT_H
#define INLAY_ADAPTERS_TOKEN_WEIGHT_H

#define TOKEN_WEIGHT_MARK "token weight"

#endif
