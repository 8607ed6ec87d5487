"""Linear layers initialised from an explicit ``torch.Generator``, and the small network that reads an encoding.

``nn.Linear`` draws its first weights from the global random state; here nothing does.
"""

from __future__ import annotations

import math

import torch
from torch import nn

WIDEST, DEEPEST = 2**14, 128
"""Most units of a layer, and most hidden layers: a file's numbers are checked before anything of their size is made."""


def linear(fan_in: int, fan_out: int, bound: float, rng: torch.Generator, *, bias: float = 0.0) -> nn.Linear:
    """A layer with weights ~ U(-bound, bound) and biases ~ U(-bias, bias)."""
    layer = nn.Linear(fan_in, fan_out, device="meta", dtype=torch.float32)
    if torch.get_default_device().type == "meta":  # only its shapes are asked for
        return layer
    layer = layer.to_empty(device="cpu")
    with torch.no_grad():
        layer.weight.uniform_(-bound, bound, generator=rng)
        layer.bias.uniform_(-bias, bias, generator=rng)
    return layer


def perceptron(inputs: int, hidden: int, layers: int, outputs: int, rng: torch.Generator) -> nn.Sequential:
    """``layers`` hidden layers of ``hidden`` SiLU units and a linear output: (N, inputs) -> (N, outputs).

    SiLU is smooth: it adds no kinks between the pixels. Hidden weights have He's variance 2/fan_in; the output's are a
    tenth of that of an ordinary layer, so that the first picture is nearly its mean (mid-grey behind a sigmoid).
    """
    widths = [inputs, *[hidden] * layers]
    modules: list[nn.Module] = []
    for fan_in, fan_out in zip(widths, widths[1:], strict=False):
        modules += [linear(fan_in, fan_out, math.sqrt(6 / fan_in), rng), nn.SiLU()]
    modules.append(linear(widths[-1], outputs, 0.1 / math.sqrt(widths[-1]), rng))
    return nn.Sequential(*modules)
