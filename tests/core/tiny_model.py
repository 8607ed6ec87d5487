"""A small model of pictures without a network, and what tests of whole runs ask of their states."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import torch
from torch import Tensor

import msd_core
from msd_core import State, sd15_schedule, with_levels
from msd_core.guidance import guide

FIRE, SNOW = "a red circle", "a white square"


class TinyModel:
    """A model of pictures of any size, whose prompts are shades; its latent has two channels, in cells of 2 pixels."""

    cell, channels, side, differentiable = 2, 2, 6, True

    def __init__(self) -> None:
        self.asked: list[tuple] = []

    def encode(self, picture: Tensor) -> Tensor:
        return torch.nn.functional.avg_pool2d(torch.sin(2 * picture[:, :2]), 2)

    def decode(self, x: Tensor) -> Tensor:
        wide = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
        return 0.5 + 0.3 * torch.cat([wide, wide[:, :1] * wide[:, 1:]], dim=1)

    def denoiser(self, prompt: str | list[str], negative: str = "", cfg: float = 1.0) -> msd_core.Denoiser:
        self.asked.append((prompt, negative, cfg))

        def shade(words: str | list[str]) -> Tensor:
            each = [words] if isinstance(words, str) else words
            return torch.tensor([0.1 + 0.05 * len(word) for word in each]).reshape(-1, 1, 1, 1)

        def denoiser(z: Tensor, sigma: float | Tensor) -> Tensor:
            level = torch.as_tensor(sigma, dtype=z.dtype).reshape(-1, 1, 1, 1)
            means = [shade(words).repeat(len(z) // len(shade(words)), 1, 1, 1) for words in (prompt, negative)]
            cond, uncond = (mean + (z - mean) * 0.2 / (0.2 + level**2) for mean in means)
            return guide(cond, uncond, cfg)

        return with_levels(denoiser, sd15_schedule())


def last(states: Iterator[State]) -> State:
    return deque(states, maxlen=1)[0]


def assert_same(one: State, other: State) -> None:
    """To the last bit."""
    assert (one.step, one.steps, one.seed, one.history) == (other.step, other.steps, other.seed, other.history)
    assert torch.equal(one.picture(), other.picture()) and torch.equal(one.rng_state, other.rng_state)
    for name, value in one.generator.state_dict().items():
        assert torch.equal(value, other.generator.state_dict()[name]), name
