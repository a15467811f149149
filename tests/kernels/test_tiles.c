/* Tiles and their emulation: the bits of products are those that the definition in plain C gives, for any bits of bf16,
 * and whole kernels have the same bits on tiles and on their emulation. */
#include "kernel_sets.h"

#define TILES_EMULATED
#include "kernels/tiles/tile.h"

#define ROWS 32
#define COLUMNS 32
#define DEPTH 96

static const kernels *set_named(const char *name)
{
    for (int i = 0; kernels_set(i); i++)
        if (strcmp(kernels_set(i)->name, name) == 0 && !kernels_set(i)->refused())
            return kernels_set(i);
    return NULL;
}

/* The sets with tiles that can run here: none, one or both. */
static int sets_with_tiles(const kernels *sets[2])
{
    static const char *const names[] = {"amx", "amx-emulated"};
    int count = 0;

    for (int i = 0; i < 2; i++)
        if ((sets[count] = set_named(names[i])))
            count++;
        else
            print_message("%s cannot run here\n", names[i]);
    return count;
}

static uint32_t draw_bits(uint32_t seed, int i)
{
    return (uint32_t)(rng_uniform((rng_stream){.seed = seed, .purpose = RNG_TEST}, (uint64_t)i) * 65536.0);
}

/* Values of a kind, as bits of bf16: small numbers around 1; any; around the least normal number, where products and
 * sums are tiny; infinities among small ones. */
static uint16_t draw_bf16(int kind, uint32_t seed, int i)
{
    uint32_t bits = draw_bits(seed, i);

    switch (kind) {
    case 0:
        return f32_to_bf16((float)bits / 32768.0f - 1.0f);
    case 1:
        return (uint16_t)bits;
    case 2:
        return (uint16_t)((bits & 0x8000u) | (0x1f00u + (bits & 0x3ffu)));
    default:
        return bits % 977 == 0 ? (bits & 1 ? 0x7f80u : 0xff80u) : (uint16_t)((bits & 0x807fu) | 0x3f00u);
    }
}

static void expect(float out[ROWS][COLUMNS], const uint16_t *x, const uint16_t *w)
{
    for (int i = 0; i < ROWS; i += TILE_ROWS)
        for (int j = 0; j < COLUMNS; j += TILE_WORDS) {
            TILE_ZERO(0);
            for (int s = 0; s < DEPTH; s += 32) {
                uint16_t right[TILE_ROWS][TILE_WORDS][2];
                for (int p = 0; p < TILE_ROWS; p++)
                    for (int c = 0; c < TILE_WORDS; c++)
                        memcpy(right[p][c], w + (j + c) * DEPTH + s + 2 * p, sizeof right[p][c]);
                TILE_LOAD(4, x + i * DEPTH + s, DEPTH * sizeof *x);
                TILE_LOAD(6, right, TILE_BYTES);
                TILE_PRODUCT_BF16(0, 4, 6);
            }
            TILE_STORE(0, &out[i][j], COLUMNS * sizeof(float));
        }
}

static void check_bits(const char *name, int kind, const float *expected, const float *found)
{
    for (int i = 0; i < ROWS * COLUMNS; i++)
        if (isnan(expected[i]) ? !isnan(found[i]) : memcmp(&expected[i], &found[i], sizeof(float)) != 0)
            fail_msg("%s, values of kind %d: sum %d is %.9g (%a), by the definition %.9g (%a)", name, kind, i,
                     (double)found[i], (double)found[i], (double)expected[i], (double)expected[i]);
}

static void test_definition(void **state)
{
    const kernels *sets[2];
    int count = sets_with_tiles(sets);
    static uint16_t x[ROWS * DEPTH], w[COLUMNS * DEPTH];
    static float wide[COLUMNS * DEPTH], expected[ROWS][COLUMNS], found[ROWS * COLUMNS];

    (void)state;
    if (count == 0)
        skip();
    for (int round = 0; round < 40; round++)
        for (int kind = 0; kind < 4; kind++) {
            for (int i = 0; i < ROWS * DEPTH; i++)
                x[i] = draw_bf16(kind, 2 * (uint32_t)round, i);
            for (int i = 0; i < COLUMNS * DEPTH; i++) {
                w[i] = draw_bf16(kind, 2 * (uint32_t)round + 1, i);
                wide[i] = bf16_to_f32(w[i]);
            }
            expect(expected, x, w);
            for (int s = 0; s < count; s++) {
                const kernels *k = sets[s];
                packed panels = {COLUMNS, DEPTH, DTYPE_BF16, k->alloc(k->pack_size(k, COLUMNS, DEPTH, DTYPE_BF16))};
                device d;
                inlay_error err;
                ASSERT_OK(device_open(&d, k, 1, &err));
                k->pack(&d.c, &panels, wide, DTYPE_F32, PLACE_DEVICE);
                k->gemm(&d.c, &(gemm_args){.y = {found, DTYPE_F32, ROWS, COLUMNS, COLUMNS, NULL, 0},
                                           .x = {x, DTYPE_BF16, ROWS, DEPTH, DEPTH, NULL, 0},
                                           .w = &panels});
                check_bits(k->name, kind, expected[0], found);
                k->release(panels.data);
                device_close(&d);
            }
        }
}

/* ---- whole kernels ---- */

#define MOST_BYTES (1 << 22)

typedef struct record {
    unsigned char *bytes;
    size_t size;
} record;

static void keep(record *to, const mat *m)
{
    size_t size = (size_t)(m->rows * m->stride) * dtype_size(m->type);

    assert_true(to->size + size <= MOST_BYTES);
    memcpy(to->bytes + to->size, m->data, size);
    to->size += size;
}

static void run_products(record *to, device *d, int64_t m, int64_t n, int64_t k)
{
    const kernels *set = d->k;

    for (int variant = 0; variant < 8; variant++) {
        bool transposed = variant == 1, bytes = variant >= 6;
        dtype type = bytes ? DTYPE_I8 : DTYPE_BF16, y_type = variant == 2 ? DTYPE_F32 : DTYPE_BF16;
        mat w = random_mat(set, n, k, DTYPE_F32, 0, 1), x = random_mat(set, m, transposed ? n : k, DTYPE_BF16, 0, 2),
            y = random_mat(set, m, transposed ? k : n, variant == 4 ? DTYPE_F32 : y_type, 0, 3),
            act_grad = random_mat(set, m, n, DTYPE_BF16, 0, 4), bias = random_mat(set, 1, n, DTYPE_F32, 0, 5);
        packed panels = {n, k, type, set->alloc(set->pack_size(set, n, k, type))};
        gemm_args args = {.y = y, .x = x, .w = &panels, .transposed = transposed};
        if (!transposed)
            args.out.bias = bias.data;
        if (variant == 3 || variant == 5 || variant == 7)
            args.out.act = ACT_GELU;
        if (variant == 5)
            args.out.act_grad = act_grad;
        if (variant == 4)
            args.out.residual = y;
        set->pack(&d->c, &panels, w.data, DTYPE_F32, PLACE_DEVICE);
        set->gemm(&d->c, &args);
        keep(to, &y);
        keep(to, &act_grad);
        set->release(w.data);
        set->release(x.data);
        set->release(y.data);
        set->release(act_grad.data);
        set->release(bias.data);
        set->release(panels.data);
    }
}

static void run_attention(record *to, device *d, int64_t rows, int64_t keys, int64_t dim)
{
    const kernels *set = d->k;
    enum { SAMPLES = 2, HEADS = 2 };
    int64_t width = HEADS * dim;
    mat q = random_mat(set, SAMPLES * rows, width, DTYPE_BF16, 0, 6),
        k = random_mat(set, SAMPLES * keys, width, DTYPE_BF16, 0, 7),
        v = random_mat(set, SAMPLES * keys, width, DTYPE_BF16, 0, 8),
        out = random_mat(set, SAMPLES * rows, width, DTYPE_BF16, 0, 9),
        dout = random_mat(set, SAMPLES * rows, width, DTYPE_BF16, 0, 10),
        dq = random_mat(set, SAMPLES * rows, width, DTYPE_BF16, 0, 11),
        dk = random_mat(set, SAMPLES * keys, width, DTYPE_F32, 0, 12),
        dv = random_mat(set, SAMPLES * keys, width, DTYPE_F32, 0, 13),
        lse = random_mat(set, SAMPLES * HEADS * rows, 1, DTYPE_F32, 0, 14);
    attention_args args = {.out = out,
                           .q = q,
                           .k = k,
                           .v = v,
                           .samples = SAMPLES,
                           .q_rows = rows,
                           .k_rows = keys,
                           .heads = HEADS,
                           .head_dim = dim,
                           .scale = 0.125,
                           .rounded = true,
                           .lse = lse.data,
                           .dout = dout,
                           .dq = dq,
                           .dk = dk,
                           .dv = dv,
                           .accumulate_k = true};
    const mat all[] = {q, k, v, out, dout, dq, dk, dv, lse};

    set->attention(&d->c, &args);
    set->attention_backward(&d->c, &args);
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        keep(to, &all[i]);
        set->release(all[i].data);
    }
}

static void test_same_bits(void **state)
{
    static const int shapes[][3] = {{1, 1, 1}, {5, 10, 33}, {16, 32, 32}, {33, 65, 288}, {197, 96, 64}, {70, 40, 600}};
    const kernels *sets[2];
    int count = sets_with_tiles(sets);
    record records[6] = {{NULL, 0}};
    int made = 0;

    (void)state;
    if (count == 0)
        skip();
    for (int s = 0; s < count; s++)
        for (int threads = 1; threads <= 3; threads++) {
            record *to = &records[made++];
            device d;
            inlay_error err;
            to->bytes = calloc(1, MOST_BYTES);
            ASSERT_OK(device_open(&d, sets[s], threads, &err));
            for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
                run_products(to, &d, shapes[i][0], shapes[i][1], shapes[i][2]);
            run_attention(to, &d, 1, 7, 8);
            run_attention(to, &d, 45, 45, 64);
            run_attention(to, &d, 197, 70, 48);
            run_attention(to, &d, 3, 130, 128);
            device_close(&d);
            assert_int_equal(to->size, records[0].size);
            assert_memory_equal(to->bytes, records[0].bytes, to->size);
        }
    for (int i = 0; i < made; i++)
        free(records[i].bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_definition), cmocka_unit_test(test_same_bits)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
