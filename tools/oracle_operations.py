"""Operations of the graph as torch.nn.functional has them, among the oracles: convolution over time, bilinear
interpolation, embeddings, losses of rows, of several labels and of numbers, with their gradients.

A row is an operation: what it reads, its result, the loss and the gradients of what may be trained. A result that is no
loss itself has the loss MSELoss with `target`. make_oracles.py calls make(); tests/data/oracle/README.md describes the
file."""

import torch
import torch.nn.functional as F


def by_rows(x):
    """[batch, channels, ...] to [batch, points, channels], as a graph has it."""
    return x.flatten(2).transpose(1, 2)


def conv1d(t, stride, padding):
    return by_rows(F.conv1d(t["x"].transpose(1, 2), t["weight"], t["bias"], stride, padding))


def interpolate(t, size, out):
    grid = t["x"].transpose(1, 2).unflatten(2, size)
    return by_rows(F.interpolate(grid, out, mode="bilinear", align_corners=False))


def rows_loss(t, smoothing):
    return F.cross_entropy(t["x"].flatten(0, 1), t["labels"].flatten().long(), label_smoothing=smoothing)


def table(m):
    """name, tensors that are read (those with a gradient are of floats but `target`), function"""
    rng = m.generator("operations")

    def draw(*shape):
        return m.draw(rng, shape, 1.0)

    def whole(below, *shape):
        return torch.from_numpy(rng.integers(0, below, shape)).int()

    for name, stride, padding, rows in (("conv1d", 1, 1, 7), ("conv1d_strided", 2, 1, 4), ("conv1d_apart", 4, 0, 2)):
        read = {"x": draw(2, 7, 5), "weight": draw(4, 5, 3), "bias": draw(4), "target": draw(2, rows, 4)}
        yield name, read, lambda t, s=stride, p=padding: conv1d(t, s, p)
    for name, size, out in (
        ("upsample", (3, 4), (7, 9)),
        ("upsample_whole", (2, 3), (8, 12)),
        ("upsample_less", (5, 6), (2, 4)),
    ):
        read = {"x": draw(2, size[0] * size[1], 3), "target": draw(2, out[0] * out[1], 3)}
        yield name, read, lambda t, s=size, o=out: interpolate(t, s, o)
    read = {"table": draw(6, 5), "ids": whole(6, 3, 8), "target": draw(3, 8, 5)}
    yield "embedding", read, lambda t: F.embedding(t["ids"], t["table"])
    for name, smoothing in (("rows", 0.0), ("rows_smoothed", 0.1)):
        labels = whole(4, 3, 6)
        labels[0, 2] = labels[1, 0] = labels[1, 5] = labels[2, 3] = -100
        yield name, {"x": 3 * draw(3, 6, 4), "labels": labels}, lambda t, e=smoothing: rows_loss(t, e)
    read = {"x": 5 * draw(3, 2, 4), "target": whole(2, 3, 2, 4).double()}
    yield "binary", read, lambda t: F.binary_cross_entropy_with_logits(t["x"], t["target"])
    yield "distance", {"x": draw(3, 2, 4), "target": draw(3, 2, 4)}, lambda t: F.mse_loss(t["x"], t["target"])


def compute(read, function):
    """What is read, result and loss; and the gradients. In float64 on float32 numbers."""
    t = {k: v if v.dtype == torch.int32 else v.float().double() for k, v in read.items()}
    leaves = [k for k, v in t.items() if v.is_floating_point() and k != "target"]
    for k in leaves:
        t[k].requires_grad_()
    result, loss = function(t), None
    if result.ndim:
        t["result"], loss = result, F.mse_loss(result, t["target"])
    t["loss"] = (result if loss is None else loss).reshape(1)
    gradients = torch.autograd.grad(t["loss"], [t[k] for k in leaves])
    return t, {"grad." + k: g for k, g in zip(leaves, gradients)}


def make(m):
    tensors = {}
    for name, read, function in table(m):
        values, gradients = compute(read, function)
        tensors.update({name + "." + k: v for k, v in {**values, **gradients}.items()})
    m.save("operations.safetensors", tensors)
