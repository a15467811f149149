/* Writes the pixels of images as Inlay decodes them, for tools/compare_images.py: for each file a line "ok WIDTH HEIGHT CUT" and the RGB bytes, or a line
 * "refused MESSAGE". Usage: image_pixels [-u] [-s] FILE...; -u: upright, -s: scale grey of more than 8 bits. */
#include <stdio.h>
#include <string.h>

#include "formats/image.h"

static void write_image(const char *path, unsigned how)
{
    image img;
    inlay_error err;

    if (image_load(&img, path, how, &err) != INLAY_OK) {
        printf("refused %s\n", err.message);
        return;
    }
    printf("ok %d %d %d\n", img.width, img.height, img.cut);
    fwrite(img.rgb, 3, (size_t)img.width * (size_t)img.height, stdout);
    image_free(&img);
}

int main(int argc, char **argv)
{
    unsigned how = 0;

    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "-u") == 0)
            how |= IMAGE_UPRIGHT;
        else if (strcmp(argv[i], "-s") == 0)
            how |= IMAGE_SCALE_GREY;
        else
            write_image(argv[i], how);
    }
    return fflush(stdout) != 0;
}
