/* What adaptable adapters learn beside their projections (arXiv 2205.01549): a rational activation, and a gate that
 * keeps or drops a layer's adapter. */
#include <math.h>

#include "graph/op_impl.h"

static unsigned reads_x(const graph *g, const op_node *op)
{
    (void)g;
    (void)op;
    return 1u;
}

/* ---- rational: y = P(x) / Q(x). Inputs: x, numerator, denominator ---- */
static size_t rational_workspace(const graph *g, const op_node *op, int64_t batch, bool backward)
{
    return backward ? size_product(value_rows(g, op->out, batch), 10 * dtype_size(g->real)) : 0;
}

static rational_args rational_arguments(const op_run *r)
{
    return (rational_args){
        .x = op_in(r, 0), .numerator = op_data(r, 1), .denominator = op_data(r, 2), .safe = r->op->a.first};
}

static void rational_forward(const op_run *r)
{
    rational_args args = rational_arguments(r);

    args.y = op_out(r);
    r->k->rational(r->c, &args);
}

static void rational_backward(const op_run *r)
{
    rational_args args = rational_arguments(r);

    args.dy = op_out_grad(r);
    if (op_wants(r, 0))
        args.dx = op_in_grad(r, 0);
    args.accumulate = r->accumulate[0];
    args.dnumerator = op_param_grad(r, 1);
    args.ddenominator = op_param_grad(r, 2);
    args.terms = r->workspace;
    r->k->rational_backward(r->c, &args);
}

const op_desc op_rational = {
    .name = "rational",
    .uses = USES(rational),
    .backward_uses = USES(rational_backward),
    .forward = rational_forward,
    .backward = rational_backward,
    .backward_reads = reads_x,
    .workspace = rational_workspace,
    .inplace = 0,
    .passes = -1,
};

/* ---- gate: y = w x with one w for each sample. Inputs: x, logits ---- */
static size_t gate_workspace(const graph *g, const op_node *op, int64_t batch, bool backward)
{
    (void)op;
    (void)backward;
    return (size_t)batch * (sizeof(double) + dtype_size(g->real));
}

/* The temperature falls exponentially and reaches `low` in the middle of the run. */
static double temperature(const op_run *r)
{
    double high = r->op->a.rate, low = r->op->a.scale, half = r->step->epochs / 2.0;

    return high <= low || half <= 0 ? low : fmax(low, high * exp(log(low / high) / half * r->step->epoch));
}

static double gumbel(const op_run *r, uint64_t index)
{
    double u = rng_uniform(
        (rng_stream){.seed = r->step->seed, .purpose = RNG_GUMBEL, .stream = r->op->a.stream, .step = r->step->step},
        index);

    return -log(-log(u + 0x1p-33)); /* the number has 32 bits: never 0 or 1 */
}

static gate_args gate_arguments(const op_run *r)
{
    mat x = op_in(r, 0);
    double *noise = op_host_room(r);

    for (int64_t i = 0; i < r->batch; i++)
        noise[i] = gumbel(r, 2 * (uint64_t)(r->first + i) + 1) - gumbel(r, 2 * (uint64_t)(r->first + i));
    noise = op_take_room(r, (size_t)r->batch * sizeof *noise);
    return (gate_args){.x = x,
                       .logits = op_data(r, 1),
                       .noise = noise,
                       .temperature = temperature(r),
                       .group = x.rows / r->batch,
                       .dweights = noise + r->batch};
}

static void gate_forward(const op_run *r)
{
    gate_args args = gate_arguments(r);

    args.y = op_out(r);
    r->k->gate(r->c, &args);
}

static void gate_backward(const op_run *r)
{
    gate_args args = gate_arguments(r);

    args.dy = op_out_grad(r);
    if (op_wants(r, 0))
        args.dx = op_in_grad(r, 0);
    args.accumulate = r->accumulate[0];
    args.dlogits = op_param_grad(r, 1);
    r->k->gate_backward(r->c, &args);
}

static bool always_random(const op_node *op)
{
    (void)op;
    return true;
}

const op_desc op_gate = {
    .name = "gate",
    .uses = USES(gate),
    .backward_uses = USES(gate_backward),
    .forward = gate_forward,
    .backward = gate_backward,
    .backward_reads = reads_x,
    .workspace = gate_workspace,
    .random = always_random,
    .inplace = -1,
    .passes = -1,
};
