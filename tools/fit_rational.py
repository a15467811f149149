#!/usr/bin/env python3
"""Fits the rational functions that adaptable adapters can begin with: P(x) / Q(x), P of degree 5, Q of degree 4, to
common activations over [-3, 3], by least squares; prints rows for the table in src/adapters/adaptable.c (numbers below
1e-10 are zero there) and how far off each is at most.

  fit_rational.py

Version A: Q = 1 + sum |b_j x^j|; version B: Q = 1 + |sum b_j x^j|. Needs torch."""

import torch
import torch.nn.functional as F

FUNCTIONS = {
    "gelu": F.gelu,
    "relu": F.relu,
    "swish": F.silu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "leaky_relu": lambda x: F.leaky_relu(x, 0.01),
}
TRIES = 6


def rational(x, a, b, version):
    powers = torch.stack([x**i for i in range(6)])
    terms = b[:, None] * powers[1:5]
    q = 1 + (terms.abs().sum(0) if version == "A" else terms.sum(0).abs())
    return (a[:, None] * powers).sum(0) / q


def fit(function, version, x, generator):
    """Coefficients of one attempt and its mean squared error; the numerator is solved for, the denominator descends."""
    y, powers = function(x), torch.stack([x**i for i in range(6)])
    b = (torch.rand(4, generator=generator, dtype=x.dtype) * 0.5).requires_grad_()
    optimiser = torch.optim.LBFGS(
        [b], max_iter=250, tolerance_grad=1e-12, tolerance_change=1e-14, line_search_fn="strong_wolfe"
    )

    def numerator():
        terms = b[:, None] * powers[1:5]
        q = 1 + (terms.abs().sum(0) if version == "A" else terms.sum(0).abs())
        return torch.linalg.lstsq((powers / q).T, y[:, None]).solution[:, 0]

    def closure():
        optimiser.zero_grad()
        loss = ((rational(x, numerator(), b, version) - y) ** 2).mean()
        loss.backward()
        return loss

    optimiser.step(closure)
    a = numerator().detach()
    b = b.detach().abs() if version == "A" else b.detach()
    return ((rational(x, a, b, version) - y) ** 2).mean().item(), a, b


def main():
    torch.set_num_threads(1)
    x = torch.linspace(-3, 3, 601, dtype=torch.float64)
    for name, function in FUNCTIONS.items():
        rows = []
        for version in "AB":
            generator = torch.Generator().manual_seed(1)
            error, a, b = min((fit(function, version, x, generator) for _ in range(TRIES)), key=lambda found: found[0])
            most = (rational(x, a, b, version) - function(x)).abs().max().item()
            print(f"/* {name}, {version}: at most {most:.2g} off */")
            numbers = [", ".join(f"{v:.6g}" for v in part.tolist()) for part in (a, b)]
            rows.append("{" + "}, {".join(numbers) + "}")
        print(f'{{"{name}", {{{{{rows[0]}}}, {{{rows[1]}}}}}}},', flush=True)


if __name__ == "__main__":
    main()
