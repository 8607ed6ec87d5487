"""What is outside of a mask stays where parameters are shared: it is held to the picture that the run began with."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from msd_core import (
    Batch,
    Generator,
    ImagePull,
    Info,
    LatentPull,
    Masked,
    OptimizerConfig,
    Pixels,
    Pull,
    State,
    View,
    generator_for_size,
    load_state,
    measure,
    optimize,
    save_state,
    start,
)
from msd_core.denoiser import Denoiser
from msd_core.pull import Pulling
from msd_core.randomness import Rng

pytestmark = pytest.mark.core
WEIGHT = torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(3)) / 3


def encode(picture: Tensor) -> Tensor:
    """Linear, (B, 3, 16, 24) to (B, 4, 8, 12)."""
    return torch.nn.functional.conv2d(picture, WEIGHT.to(picture), stride=2)


def decode(x: Tensor) -> Tensor:
    """(B, 4, 8, 12) to (B, 3, 16, 24); the inverse of nothing."""
    return torch.sigmoid(x[:, :3]).repeat_interleave(2, 2).repeat_interleave(2, 3)


class Towards:
    """A method that pulls x to a value, everywhere."""

    def __call__(self, x: Tensor, denoiser: Denoiser, *, step: int, steps: int, rng: Rng) -> tuple[Tensor, Info]:
        return x - 0.9, measure(x - 0.9, 0)


def network(seed: int = 0) -> Generator:
    """A neural image of few units, whose parameters reach across the picture."""
    return generator_for_size("fourier", 24, 16, seed=seed, hidden=16, layers=1)


HALF = torch.zeros(16, 24)
HALF[:, 12:] = 1


def outside(pull: Pulling, generator: Generator | None = None, inner_steps: int = 1) -> tuple[float, float]:
    """How far 40 steps within `HALF` move a network outside and inside: root of the mean squared change."""
    state, config = start(generator or network(), steps=40), OptimizerConfig("adam", lr=0.01)
    made = list(optimize(state, Towards(), encode, pull=pull, optimizer=config, inner_steps=inner_steps))
    change = (made[-1].picture() - state.picture()).square().mean(dim=(0, 1))
    return float(change[:, :12].mean().sqrt()), float(change[:, 12:].mean().sqrt())


@pytest.mark.parametrize("inner_steps", [1, 5])
@pytest.mark.parametrize(
    "pull", [Pull(), ImagePull(encode, decode), LatentPull(encode)], ids=["pull", "image", "latent"]
)
def test_a_network_stays_outside_of_the_mask(pull: Pulling, inner_steps: int) -> None:
    held, inside = outside(Masked(pull, HALF), inner_steps=inner_steps)
    drifted, _ = outside(Masked(pull, HALF, hold=0), inner_steps=inner_steps)
    assert held < (0.5 if isinstance(pull, LatentPull) else 0.3) * drifted, "planted: without the hold it drifts"
    assert inside > 0.1, "and within it moves"


def test_the_target_is_the_first_picture_outside_the_methods_within_and_their_mixture_between() -> None:
    first, grey = network(), torch.full((16, 24), 0.25)
    for mask in (HALF, grey):
        made = list(optimize(start(first, steps=3), Towards(), encode, pull=Masked(Pull(), mask)))[-1]
        begun = first.render(View(16, 24)).detach()
        torch.testing.assert_close(made.target, mask * 0.9 + (1 - mask) * begun)


def test_a_share_of_the_hold_is_that_share_of_the_way_back() -> None:
    pulled, cotangent, first = torch.rand(3, 1, 3, 16, 24).unbind()
    half = Masked(Pull(), HALF, hold=0.5).held(pulled, cotangent, first)
    torch.testing.assert_close(half, cotangent + 0.5 * (1 - HALF) * (pulled - first))
    assert torch.equal(Masked(Pull(), HALF, hold=0).held(pulled, cotangent, first), cotangent)


@pytest.mark.parametrize(
    "generator", [Pixels(16, 24, init="noise"), Batch([Pixels(16, 24), Pixels(16, 24, init="noise")])]
)
def test_where_places_are_independent_the_hold_changes_nothing(generator: Generator) -> None:
    def made(hold: float) -> State:
        pull = Masked(ImagePull(encode, decode), torch.linspace(0, 1, 16 * 24).reshape(16, 24), hold=hold)
        return list(optimize(start(generator, steps=3), Towards(), encode, pull=pull))[-1]

    assert torch.equal(made(1).picture(), made(0).picture()) and made(1).first is None


def test_a_batch_is_held_as_its_members_are() -> None:
    masks = torch.stack([HALF, 1 - HALF])[:, None]
    together = list(
        optimize(start(Batch([network(1), network(2)]), steps=6), Towards(), encode, pull=Masked(Pull(), masks))
    )
    for row, seed in enumerate((1, 2)):
        alone = list(optimize(start(network(seed), steps=6), Towards(), encode, pull=Masked(Pull(), masks[row, 0])))
        torch.testing.assert_close(together[-1].picture()[row], alone[-1].picture()[0], rtol=1e-4, atol=1e-5)


def test_a_tile_is_held_in_the_view_that_is_seen() -> None:
    """The views of a tile are shifted, and what it is held to with them."""
    tile = generator_for_size("fourier", 24, 16, seed=0, hidden=16, layers=1, tile="xy")
    assert outside(Masked(Pull(), torch.zeros(16, 24)), generator=tile) == (0, 0)


def test_a_resumed_run_is_held_to_what_it_began_with(tmp_path: Path) -> None:
    pull = Masked(ImagePull(encode, decode), HALF)
    states = list(optimize(start(network(), steps=6), Towards(), encode, pull=pull))
    save_state(states[2], tmp_path / "state.safetensors")
    loaded = load_state(tmp_path / "state.safetensors")
    assert torch.equal(loaded.first.render(View(16, 24)), network().render(View(16, 24)))
    again = list(optimize(loaded, Towards(), encode, pull=pull))
    assert torch.equal(again[-1].picture(), states[-1].picture())
    lost = list(optimize(replace(loaded, first=None), Towards(), encode, pull=pull))
    assert not torch.equal(lost[-1].picture(), states[-1].picture()), "planted: held to where it was resumed"


def test_a_file_whose_first_picture_is_another_generators_is_refused(tmp_path: Path) -> None:
    state = next(optimize(start(network(), steps=2), Towards(), encode, pull=Masked(Pull(), HALF)))
    save_state(replace(state, first=Pixels(16, 24)), tmp_path / "state.safetensors")
    with pytest.raises(ValueError, match="path: the generator in .* is damaged"):
        load_state(tmp_path / "state.safetensors")


@pytest.mark.parametrize("hold", [-0.1, 1.1, math.nan, "1", None])
def test_other_holds_are_refused(hold: object) -> None:
    with pytest.raises(ValueError, match="hold: got .* allowed is a finite number from 0 to 1"):
        Masked(Pull(), HALF, hold=hold)  # type: ignore[arg-type]
