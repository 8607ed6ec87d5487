"""Fast inversions re-sample with the order that they promise; every inversion keeps the promises of the walk."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from msd_core import INVERSIONS, GaussianMixture, GuidedDenoiser, invert, resample, resample_steps
from msd_core.denoiser import Denoiser, Sigma
from msd_core.guidance import guide
from msd_core.inversion.renoise import ReNoiseStep
from msd_core.inversion.uni_inv import UniInv

pytestmark = pytest.mark.core


class Shifted:
    """A guided denoiser of points of the plane whose unconditional embedding (B, 2) is where its density lies."""

    cost = 2

    def __init__(self, pair: GuidedDenoiser, embedding: Tensor) -> None:
        self.pair, self.embedding, self.cfg = pair, embedding, pair.cfg

    def __call__(self, z: Tensor, sigma: Sigma) -> Tensor:
        moved = self.pair.uncond(z - self.embedding, sigma) + self.embedding
        return guide(self.pair.cond(z, sigma), moved, self.cfg)

    def with_embedding(self, embedding: Tensor) -> Shifted:
        return Shifted(self.pair, embedding)

    def with_cfg(self, cfg: float) -> Denoiser:
        return self.pair.with_cfg(cfg)


def denoiser_for(name: str, prompted: GuidedDenoiser) -> Any:  # noqa: ANN401 - a denoiser
    return Shifted(prompted, torch.zeros(1, 2, dtype=torch.float64)) if name == "null-text" else prompted


def short(name: str) -> Any:  # noqa: ANN401 - an inversion
    """The inversion called ``name``, with little to do."""
    fewer = {"implicit-dpmpp-2m": {"sweeps": 3, "evaluations": 5}, "null-text": {"evaluations": 3}}
    return INVERSIONS[name](**fewer.get(name, {}))


def even_levels(steps: int) -> Tensor:
    """Equal ratios from 3 to .2 and no 0: what the step to 0 costs is of first order for every method."""
    return torch.logspace(math.log10(3), math.log10(0.2), steps + 1, dtype=torch.float64)


def order(step: Any, denoiser: Denoiser, points: Tensor, steps: int = 48) -> float:  # noqa: ANN401 - an inversion
    """log2 of how much less the picture misses when the steps are halved."""
    rng = torch.Generator().manual_seed(0)
    few, many = (
        float((resample(invert(points, denoiser, even_levels(n), step, rng), denoiser) - points).norm())
        for n in (steps, 2 * steps)
    )
    return math.log2(few / many)


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (INVERSIONS["explicit"](), 1),
        (UniInv(), 2),
        (ReNoiseStep(evaluations=1, averaged=1), 1),
        (ReNoiseStep(evaluations=2, averaged=1), 2),
        (ReNoiseStep(evaluations=3, averaged=1), 3),
        (ReNoiseStep(), 3),
        (INVERSIONS["rf-solver"](), 3),
        (INVERSIONS["fireflow"](), 3),
    ],
    ids=str,
)
def test_the_order_of_the_round_trip(step: object, expected: int, smooth: GaussianMixture, points: Tensor) -> None:
    assert order(step, smooth, points) == pytest.approx(expected, abs=0.35)


def test_a_step_that_carries_the_wrong_slope_loses_the_order(smooth: GaussianMixture, points: Tensor) -> None:
    """Uni-Inv with the slope of a wrong model in the prediction is of first order again."""

    class Wrong(UniInv):
        def walk(self, x: Tensor, denoiser: Any, levels: Any, rng: Any = None) -> Any:  # noqa: ANN401
            return super().walk(x, lambda z, sigma: 0.5 * denoiser(z, sigma), levels, rng)

    assert order(Wrong(), smooth, points) < 0.5


def test_uni_inv_takes_one_evaluation_more_than_steps(smooth: GaussianMixture, points: Tensor) -> None:
    sigmas = torch.cat([even_levels(10), torch.zeros(1).double()])
    trajectory = invert(points, smooth, sigmas, UniInv())
    assert trajectory.evaluations == 12 * len(points)
    assert trajectory.report is not None and trajectory.report.evaluations.tolist() == [12] * len(points)


def test_averaging_cures_an_iteration_that_oscillates() -> None:
    """D = -b z makes the plain iteration alternate around its fixed point with a factor near -1."""
    x, sigmas = torch.ones(1, 1).double(), torch.tensor([3.0, 0.2], dtype=torch.float64)

    def steep(z: Tensor, sigma: Sigma) -> Tensor:
        return 2.05 * z

    def miss(step: ReNoiseStep) -> float:
        return float((resample(invert(x, steep, sigmas, step), steep) - x).abs())

    assert miss(ReNoiseStep(evaluations=8, averaged=2)) < 0.2 * miss(ReNoiseStep(evaluations=8, averaged=1))


def test_more_to_average_than_there_is() -> None:
    with pytest.raises(ValueError, match="averaged: got 3 with 2 evaluations; allowed are at most as many"):
        ReNoiseStep(evaluations=2, averaged=3)


# --- every inversion --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", INVERSIONS)
def test_every_inversion_keeps_the_promises_of_the_walk(name: str, prompted: GuidedDenoiser, points: Tensor) -> None:
    """Default instance, hashable, pure, detached, at least float32, counted, and with a way back."""
    inversion, denoiser = short(name), denoiser_for(name, prompted)
    sigmas = torch.tensor([2.0, 1.0, 0.4, 0.1, 0.0])

    def call(x: Tensor) -> Any:  # noqa: ANN401 - a trajectory
        return invert(x, denoiser, sigmas, inversion, torch.Generator().manual_seed(5))

    trajectory = call(points)
    assert hash(inversion) == hash(short(name)) and INVERSIONS[name]() == INVERSIONS[name]()
    assert trajectory.inversion is inversion and torch.equal(trajectory.states, call(points).states)
    assert trajectory.states.shape == (5, *points.shape) and torch.equal(trajectory.states[0], points)
    assert trajectory.evaluations >= 4 * len(points) and bool((trajectory.report.evaluations >= 4).all())
    assert trajectory.report.residual.shape == (4, len(points))
    assert all(len(kept) == 4 for kept in trajectory.kept.values())
    half = call(points.half().requires_grad_())
    assert half.states.dtype == torch.float32 and not half.states.requires_grad
    back = resample(trajectory, denoiser)
    assert back.shape == points.shape and bool(back.isfinite().all())
    assert resample(trajectory, denoiser, below=0.5).shape == points.shape


@pytest.mark.parametrize("name", [name for name in INVERSIONS if not name.startswith("implicit")])
def test_every_inversion_of_a_batch_is_that_of_its_rows(name: str, prompted: GuidedDenoiser, points: Tensor) -> None:
    """But those that are solved for, to which this happens to the bit: tests/core/test_inversion_implicit.py."""
    inversion, denoiser = short(name), denoiser_for(name, prompted)
    sigmas = torch.tensor([2.0, 1.0, 0.4, 0.1, 0.0], dtype=torch.float64)
    sources = lambda: [torch.Generator().manual_seed(i) for i in range(len(points))]  # noqa: E731
    together = invert(points, denoiser, sigmas, inversion, sources())
    alone = [invert(points[i : i + 1], denoiser, sigmas, inversion, sources()[i : i + 1]) for i in range(len(points))]
    close = {"rtol": 1e-7, "atol": 1e-7}
    torch.testing.assert_close(together.states, torch.cat([t.states for t in alone], dim=1), **close)
    for key, kept in together.kept.items():
        torch.testing.assert_close(kept, torch.cat([t.kept[key] for t in alone], dim=1), **close)
    back = torch.cat([resample(t, denoiser) for t in alone])
    torch.testing.assert_close(resample(together, denoiser), back, rtol=1e-6, atol=1e-6)


def test_a_level_of_float32_is_the_one_that_was_meant(mixture: GaussianMixture, points: Tensor) -> None:
    """Its .4 is above .4."""
    trajectory = invert(points, mixture, torch.tensor([1.0, 0.4, 0.1, 0.0]))
    assert [sigma for sigma, _ in resample_steps(trajectory, mixture, below=0.4)] == pytest.approx([0.1, 0.0])
