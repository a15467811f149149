/* sgemm of OpenBLAS on the shapes of bench/gemm.h. usage: gemm_openblas THREADS f32 */
#include "bench/gemm.h"

#include <cblas.h>

typedef struct job {
    gemm_shape shape;
    float *y, *x, *w;
} job;

static void multiply(void *context)
{
    const job *j = context;
    int m = (int)j->shape.m, n = (int)j->shape.n, k = (int)j->shape.k;

    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, m, n, k, 1, j->x, k, j->w, k, 0, j->y, n);
}

static float *filled(int64_t count)
{
    float *block = gemm_block((size_t)count * sizeof *block);

    for (int64_t i = 0; i < count; i++)
        block[i] = gemm_element(i);
    return block;
}

int main(int argc, char **argv)
{
    const char *version = openblas_get_config();

    if (argc != 3 || strcmp(argv[2], "f32") != 0) {
        fprintf(stderr, "usage: gemm_openblas THREADS f32\n");
        return 2;
    }
    openblas_set_num_threads((int)strtol(argv[1], NULL, 10));
    gemm_begin("OpenBLAS", version, argv[2], openblas_get_num_threads());
    for (size_t i = 0; i < GEMM_SHAPES; i++) {
        gemm_shape s = gemm_shapes[i];
        job j = {s, filled(s.m * s.n), filled(s.m * s.k), filled(s.n * s.k)};
        gemm_report(i, gemm_speed(multiply, &j, gemm_flops(s)), 0);
        gemm_check("OpenBLAS", s, j.y[s.m * s.n - 1]);
        free(j.y);
        free(j.x);
        free(j.w);
    }
    gemm_end(0);
    return 0;
}
