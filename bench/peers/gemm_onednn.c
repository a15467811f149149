/* The matrix product of oneDNN 2 on the shapes of bench/gemm.h, its weights reordered once to the layout that it asks
 * for. int8: unsigned activations, signed weights, f32 result. usage: gemm_onednn THREADS f32|bf16|int8 */
#include "bench/gemm.h"

#include <oneapi/dnnl/dnnl.h>
#include <omp.h>

typedef struct precision {
    const char *name;
    dnnl_data_type_t x, w, y;
} precision;

static const precision precisions[] = {{"f32", dnnl_f32, dnnl_f32, dnnl_f32},
                                       {"bf16", dnnl_bf16, dnnl_bf16, dnnl_bf16},
                                       {"int8", dnnl_u8, dnnl_s8, dnnl_f32}};

typedef struct job {
    dnnl_stream_t stream;
    dnnl_primitive_t primitive;
    dnnl_exec_arg_t args[3];
} job;

static void check(dnnl_status_t status)
{
    if (status != dnnl_success) {
        fprintf(stderr, "gemm_onednn: status %d\n", (int)status);
        exit(1);
    }
}

static void multiply(void *context)
{
    const job *j = context;

    check(dnnl_primitive_execute(j->primitive, j->stream, 3, j->args));
    check(dnnl_stream_wait(j->stream));
}

static dnnl_memory_t memory_of(dnnl_engine_t engine, const dnnl_memory_desc_t *desc)
{
    dnnl_memory_t memory;

    check(dnnl_memory_create(&memory, desc, engine, DNNL_MEMORY_ALLOCATE));
    return memory;
}

/* desc: of f32, in the layout in which the elements are numbered; the memory that comes back holds them as `wanted`
 * says. */
static dnnl_memory_t filled(dnnl_engine_t engine, dnnl_stream_t stream, const dnnl_memory_desc_t *desc,
                            const dnnl_memory_desc_t *wanted, float scale)
{
    dnnl_memory_t plain = memory_of(engine, desc), memory = memory_of(engine, wanted);
    dnnl_exec_arg_t args[] = {{DNNL_ARG_FROM, plain}, {DNNL_ARG_TO, memory}};
    dnnl_primitive_desc_t pd;
    dnnl_primitive_t reorder;
    void *data;

    check(dnnl_memory_get_data_handle(plain, &data));
    for (int64_t i = 0; i < desc->dims[0] * desc->dims[1]; i++)
        ((float *)data)[i] = scale * gemm_element(i);
    check(dnnl_reorder_primitive_desc_create(&pd, desc, engine, wanted, engine, NULL));
    check(dnnl_primitive_create(&reorder, pd));
    check(dnnl_primitive_execute(reorder, stream, 2, args));
    check(dnnl_stream_wait(stream));
    dnnl_primitive_destroy(reorder);
    dnnl_primitive_desc_destroy(pd);
    dnnl_memory_destroy(plain);
    return memory;
}

static dnnl_memory_desc_t matrix(int64_t rows, int64_t cols, dnnl_data_type_t type, dnnl_format_tag_t tag)
{
    dnnl_memory_desc_t desc;

    check(dnnl_memory_desc_init_by_tag(&desc, 2, (dnnl_dims_t){rows, cols}, type, tag));
    return desc;
}

static void check_last(gemm_shape s, dnnl_data_type_t type, dnnl_memory_t y)
{
    void *data;
    float value;

    check(dnnl_memory_get_data_handle(y, &data));
    if (type == dnnl_bf16) {
        uint32_t wide = (uint32_t)((uint16_t *)data)[s.m * s.n - 1] << 16;
        memcpy(&value, &wide, sizeof value);
    } else {
        value = ((float *)data)[s.m * s.n - 1];
    }
    gemm_check("oneDNN", s, value);
}

static void measure(dnnl_engine_t engine, dnnl_stream_t stream, const precision *p, size_t index)
{
    gemm_shape s = gemm_shapes[index];
    dnnl_memory_desc_t x = matrix(s.m, s.k, p->x, dnnl_ab), w = matrix(s.k, s.n, p->w, dnnl_format_tag_any),
                       y = matrix(s.m, s.n, p->y, dnnl_ab);
    dnnl_memory_desc_t x_f32 = matrix(s.m, s.k, dnnl_f32, dnnl_ab), w_f32 = matrix(s.k, s.n, dnnl_f32, dnnl_ba);
    float scale = p->w == dnnl_s8 ? 200 : 1;
    dnnl_matmul_desc_t desc;
    dnnl_primitive_desc_t pd;
    job j = {.stream = stream};

    check(dnnl_matmul_desc_init(&desc, &x, &w, NULL, &y));
    check(dnnl_primitive_desc_create(&pd, &desc, NULL, engine, NULL));
    check(dnnl_primitive_create(&j.primitive, pd));
    j.args[0] = (dnnl_exec_arg_t){DNNL_ARG_SRC, filled(engine, stream, &x_f32, &x, scale)};
    j.args[1] =
        (dnnl_exec_arg_t){DNNL_ARG_WEIGHTS, filled(engine, stream, &w_f32,
                                                   dnnl_primitive_desc_query_md(pd, dnnl_query_weights_md, 0), scale)};
    j.args[2] = (dnnl_exec_arg_t){DNNL_ARG_DST, memory_of(engine, &y)};
    gemm_report(index, gemm_speed(multiply, &j, gemm_flops(s)), 0);
    if (p->w != dnnl_s8) /* the elements were rounded there */
        check_last(s, p->y, j.args[2].memory);
    for (int i = 0; i < 3; i++)
        dnnl_memory_destroy(j.args[i].memory);
    dnnl_primitive_destroy(j.primitive);
    dnnl_primitive_desc_destroy(pd);
}

int main(int argc, char **argv)
{
    const dnnl_version_t *v = dnnl_version();
    const precision *p = NULL;
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    char version[64];

    for (size_t i = 0; argc == 3 && i < sizeof precisions / sizeof *precisions; i++)
        if (strcmp(argv[2], precisions[i].name) == 0)
            p = &precisions[i];
    if (!p) {
        fprintf(stderr, "usage: gemm_onednn THREADS f32|bf16|int8\n");
        return 2;
    }
    omp_set_num_threads((int)strtol(argv[1], NULL, 10));
    snprintf(version, sizeof version, "%d.%d.%d", v->major, v->minor, v->patch);
    check(dnnl_engine_create(&engine, dnnl_cpu, 0));
    check(dnnl_stream_create(&stream, engine, dnnl_stream_default_flags));
    gemm_begin("oneDNN", version, p->name, omp_get_max_threads());
    for (size_t i = 0; i < GEMM_SHAPES; i++)
        measure(engine, stream, p, i);
    gemm_end(0);
    dnnl_stream_destroy(stream);
    dnnl_engine_destroy(engine);
    return 0;
}
