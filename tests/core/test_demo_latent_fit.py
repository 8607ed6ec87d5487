"""Fitting a neural image to a latent: an encoder that keeps the picture gives it back, one that loses it does not."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from msd_core.demo.latent_fit import fit_latent
from msd_core.demo.scenes import draw, parse

PICTURE = draw([parse("a large red circle on a blue background")], 24)


def fitted(encode: Callable[[Tensor], Tensor], steps: int = 150) -> float:
    return fit_latent(SimpleNamespace(encode=encode), PICTURE, steps=steps)  # type: ignore[arg-type]


def test_an_encoder_that_keeps_everything_gives_the_picture_back() -> None:
    assert fitted(lambda picture: 2 * picture - 1) > 22


@pytest.mark.parametrize(
    "encode",
    [
        lambda picture: picture - picture.mean(dim=(1, 2, 3), keepdim=True),  # loses brightness
        lambda picture: picture.mean(dim=1, keepdim=True),  # loses colour
        lambda picture: 0 * picture,
    ],
)
def test_an_encoder_that_loses_something_does_not(encode: Callable[[Tensor], Tensor]) -> None:
    assert fitted(encode) < fitted(lambda picture: picture) - 3


def test_more_steps_come_nearer() -> None:
    assert fitted(lambda picture: picture, 150) > fitted(lambda picture: picture, 20) + 3


def test_the_fit_is_seeded() -> None:
    assert torch.equal(*(torch.tensor(fitted(lambda picture: picture, 5)) for _ in range(2)))
