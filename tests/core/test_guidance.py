"""Guidance is the affine combination of two denoisers, in ComfyUI's convention, and costs what it evaluates."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from msd_core import (
    Denoiser,
    EDMDenoiser,
    GaussianMixture,
    Guided,
    GuidedDenoiser,
    cost,
    differentiable,
    eps,
    guide,
    guided,
    mean_shift,
    sd15_schedule,
    sigma_range,
    with_levels,
)
from msd_core.blended import blended
from msd_core.denoiser import RowCounter, data_std, level_at, parts_cost
from msd_core.dreamsampler import Edited
from msd_core.guidance import with_cfg
from msd_core.mean_shift import product_sigmas

pytestmark = pytest.mark.core


def refuse(z: Tensor, sigma: float | Tensor) -> Tensor:
    raise AssertionError("must not be called")


@pytest.fixture
def uncond(mixture: GaussianMixture) -> GaussianMixture:
    """A wider density than the mixture."""
    return GaussianMixture(torch.ones(1).double(), torch.zeros(1, 2).double(), torch.eye(2).double()[None])


@pytest.mark.parametrize("cfg", [0.0, 1.0, 2.0, 7.5, -7.5])
def test_closed_form(cfg: float, mixture: GaussianMixture, uncond: GaussianMixture, points: Tensor) -> None:
    guided = GuidedDenoiser(mixture, uncond, cfg)
    # The paper's Eq. 13 in w = cfg - 1, on predicted noise.
    w = cfg - 1
    cond_eps, uncond_eps = (eps(points, 0.5, d(points, 0.5)) for d in (mixture, uncond))
    truth = (1 + w) * cond_eps - w * uncond_eps
    torch.testing.assert_close(eps(points, 0.5, guided(points, 0.5)), truth, rtol=1e-10, atol=1e-10)


def test_swapped_arguments_are_noticed(mixture: GaussianMixture, uncond: GaussianMixture, points: Tensor) -> None:
    right, wrong = GuidedDenoiser(mixture, uncond, 3.0), GuidedDenoiser(uncond, mixture, 3.0)
    assert (right(points, 0.5) - wrong(points, 0.5)).abs().max() > 0.1


def test_one_is_off_and_costs_nothing(mixture: GaussianMixture, points: Tensor) -> None:
    guided = GuidedDenoiser(mixture, refuse)
    assert torch.equal(guided(points, 0.5), mixture(points, 0.5))
    assert cost(guided) == 1
    assert cost(guided.with_cfg(2.0)) == 2
    assert cost(GuidedDenoiser(guided.with_cfg(2.0), mixture, 3.0)) == 3


def test_with_cfg_leaves_the_original_alone(mixture: GaussianMixture, uncond: GaussianMixture) -> None:
    guided = GuidedDenoiser(mixture, uncond, 7.5)
    assert guided.with_cfg(-7.5) == GuidedDenoiser(mixture, uncond, -7.5)
    assert guided.cfg == 7.5


def test_a_batch_is_its_rows(mixture: GaussianMixture, uncond: GaussianMixture, points: Tensor) -> None:
    guided = GuidedDenoiser(mixture, uncond, 4.0)
    rows = torch.cat([guided(row[None], 0.3) for row in points])
    torch.testing.assert_close(guided(points, 0.3), rows, rtol=1e-10, atol=1e-12)


def test_gradients_reach_both(mixture: GaussianMixture, uncond: GaussianMixture, points: Tensor) -> None:
    guided = GuidedDenoiser(mixture, uncond, 4.0)
    assert torch.autograd.gradcheck(lambda z: guided(z, 0.4), points.clone().requires_grad_())


def assert_recombines(guided: Denoiser, z: Tensor, sigma: float | Tensor, cfg: float) -> None:
    """The parts give the guided result at ``cfg``, and cost two rows of the network a row of z, whatever cfg is."""
    counter = RowCounter(guided)
    cond, uncond = counter.parts(z, sigma)
    assert counter.rows == 2 * len(z)
    again = with_cfg(guided, cfg)(z, sigma)
    torch.testing.assert_close(guide(cond, uncond, cfg), again, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(cond, with_cfg(guided, 1.0)(z, sigma), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(uncond, with_cfg(guided, 0.0)(z, sigma), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("cfg", [0.0, 1.0, 2.0, 7.5, -7.5])
@pytest.mark.parametrize("sigma", [0.5, torch.tensor([2.0, 1.0, 0.5, 0.3, 0.1])], ids=["one", "each"])
def test_the_parts_are_those_of_the_guided_result(
    sigma: float | Tensor, cfg: float, mixture: GaussianMixture, uncond: GaussianMixture, points: Tensor
) -> None:
    assert_recombines(GuidedDenoiser(mixture, uncond, 7.5), points, sigma, cfg)
    assert_recombines(with_levels(GuidedDenoiser(mixture, uncond, 1.0), sd15_schedule()), points, sigma, cfg)


def test_parts_in_the_wrong_order_are_noticed(
    mixture: GaussianMixture, uncond: GaussianMixture, points: Tensor
) -> None:
    class Swapped(GuidedDenoiser):
        def parts(self, z: Tensor, sigma: float | Tensor) -> tuple[Tensor, Tensor]:
            cond, uncond = super().parts(z, sigma)
            return uncond, cond

    with pytest.raises(AssertionError):
        assert_recombines(Swapped(mixture, uncond, 7.5), points, 0.5, 7.5)


def test_parts_of_another_shape_are_refused(mixture: GaussianMixture, points: Tensor) -> None:
    counter = RowCounter(GuidedDenoiser(mixture, lambda z, sigma: z[:, :1]))
    with pytest.raises(
        ValueError, match=r"denoiser: its result: got shape \(5, 1\); allowed is the shape of z, \(5, 2\)"
    ):
        counter.parts(points, 0.5)


def test_what_has_guidance(mixture: GaussianMixture) -> None:
    pair = GuidedDenoiser(mixture, mixture)
    for has in (pair, RowCounter(pair), with_levels(pair, sd15_schedule())):
        assert guided(has, "this") is has and isinstance(has, Guided)
    for lacks in (mixture, with_levels(mixture, sd15_schedule())):
        with pytest.raises(
            ValueError, match="denoiser: .* has no guidance .parts, with_cfg., and CSD needs it; .*Pass Gu"
        ):
            guided(lacks, "CSD")
    assert with_cfg(mixture, None) is mixture
    with pytest.raises(
        ValueError, match="inversion_cfg: got 2.0, but GaussianMixture has no with_cfg; allowed is None"
    ):
        with_cfg(mixture, 2.0)


def test_levels_of_a_chain_stay_at_another_scale(mixture: GaussianMixture, uncond: GaussianMixture) -> None:
    schedule = sd15_schedule()
    for pair in (
        GuidedDenoiser(with_levels(mixture, schedule), uncond, 3.0),
        with_levels(GuidedDenoiser(mixture, uncond, 3.0), schedule),
    ):
        other = with_cfg(pair, -7.5)
        assert level_at(other, 0.3) == level_at(pair, 0.3) == schedule.percent_to_sigma(0.7)
        assert getattr(other, "cfg") == -7.5 and getattr(pair, "cfg") == 3.0  # noqa: B009 - passed on by a wrapper


def test_it_says_the_deviation_of_its_data(mixture: GaussianMixture) -> None:
    assert data_std(GuidedDenoiser(EDMDenoiser(lambda x, t: x, data_std=0.5), mixture, 2.0)) == 0.5
    assert data_std(GuidedDenoiser(mixture, mixture)) == 1.0


def test_it_is_differentiable_if_both_are(mixture: GaussianMixture) -> None:
    class Frozen:
        differentiable = False

        def __call__(self, z: Tensor, sigma: float | Tensor) -> Tensor:
            return z

    assert differentiable(mixture) and differentiable(GuidedDenoiser(mixture, mixture))
    for pair in (GuidedDenoiser(mixture, Frozen()), GuidedDenoiser(Frozen(), mixture)):
        assert not differentiable(pair) and not differentiable(with_levels(pair, sd15_schedule()))


def test_levels_are_those_both_know(mixture: GaussianMixture) -> None:
    class Ranged:
        def __init__(self, low: float, high: float) -> None:
            self.sigma_min, self.sigma_max = low, high

        def __call__(self, z: Tensor, sigma: float | Tensor) -> Tensor:
            return z

    assert sigma_range(GuidedDenoiser(Ranged(0.1, 10.0), Ranged(0.2, 20.0), 2.0)) == (0.2, 10.0)
    assert sigma_range(GuidedDenoiser(mixture, mixture)) == (0.0, math.inf)


class OfData:
    """A denoiser of three rows that may say what the deviation of its data is."""

    cost = 3

    def __init__(self, stated: float | None) -> None:
        if stated is not None:
            self.data_std = stated

    def __call__(self, z: Tensor, sigma: float | Tensor) -> Tensor:
        return z


@pytest.mark.parametrize(
    ("cond", "uncond", "known"), [(0.5, 0.5, 0.5), (0.5, None, 0.5), (None, 0.5, 0.5), (None, None, 1.0)]
)
def test_the_deviation_of_the_data_is_whichever_says_it(
    cond: float | None, uncond: float | None, known: float, points: Tensor
) -> None:
    """Alone or guided, in a pair of pairs as well; so a walk has the same levels."""
    pair = GuidedDenoiser(OfData(cond), OfData(uncond), 3.0)
    for one in (pair, pair.with_cfg(1.0), RowCounter(pair), GuidedDenoiser(pair, OfData(None))):
        assert data_std(one) == known
    asked: list[float] = []

    class Leveled(OfData):
        def __call__(self, z: Tensor, sigma: float | Tensor) -> Tensor:
            asked.append(float(torch.as_tensor(sigma).max()))
            return z

    mean_shift(points, GuidedDenoiser(Leveled(cond), OfData(uncond)), 20.0, estimator="split", steps=4, noise=points)
    assert asked == pytest.approx(product_sigmas(20.0, 4, data_std=known)[:-1].tolist())


def test_parts_of_other_data_are_refused() -> None:
    with pytest.raises(ValueError, match=r"cond, uncond: got data_std 0.5 and 1; allowed is one, .*State the same"):
        GuidedDenoiser(OfData(0.5), OfData(1.0))
    with pytest.raises(ValueError, match="data_std: got -1"):
        GuidedDenoiser(OfData(-1.0), OfData(None))


def test_parts_are_counted_by_their_own_cost(mixture: GaussianMixture, points: Tensor) -> None:
    """As many rows as a guided call; of an edit, too, whatever cfg is."""
    for cond, uncond, rows in ((OfData(None), OfData(None), 6), (OfData(None), mixture, 4), (mixture, mixture, 2)):
        pair = GuidedDenoiser(cond, uncond, 3.0)
        counter = RowCounter(pair)
        counter.parts(points, 0.5)
        assert counter.rows == parts_cost(pair) * len(points) == rows * len(points) == cost(pair) * len(points)
        assert Edited(pair).rows == Edited(pair.with_cfg(1.0)).rows == rows


@pytest.mark.parametrize("cfg", [math.nan, math.inf])
def test_a_scale_that_is_no_number_is_refused(cfg: float, mixture: GaussianMixture) -> None:
    with pytest.raises(ValueError, match="cfg: got .* 1 = off"):
        GuidedDenoiser(mixture, mixture, cfg)


# --- several prompts with shares --------------------------------------------------------------------------------------


def test_a_blend_is_guidance_of_the_blended_condition(mixture: GaussianMixture, uncond: GaussianMixture) -> None:
    other = GaussianMixture(torch.ones(1).double(), torch.ones(1, 2).double(), torch.eye(2).double()[None])
    pairs = [GuidedDenoiser(cond.denoise, uncond.denoise, 3.0) for cond in (mixture, other)]
    shares = [[0.25, 0.75], [1.0, 0.0]]
    blend = blended(pairs, shares)
    z = torch.randn(4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    share = torch.tensor(shares).double().repeat(2, 1)
    cond = share[:, :1] * mixture.denoise(z, 0.7) + share[:, 1:] * other.denoise(z, 0.7)
    for cfg in (3.0, 1.0, -2.0):
        assert torch.allclose(blend.with_cfg(cfg)(z, 0.7), guide(cond, uncond.denoise(z, 0.7), cfg))  # type: ignore[attr-defined]
    parts = blend.parts(z, 0.7)  # type: ignore[attr-defined]
    assert torch.allclose(parts[0], cond) and torch.allclose(parts[1], uncond.denoise(z, 0.7))
    counter = RowCounter(blend)
    counter(z, 0.7), counter.parts(z, 0.7)
    assert counter.rows == 4 * 4 + 4 * 4
    assert not torch.allclose(blended(pairs, shares[::-1])(z, 0.7), blend(z, 0.7)), "rows have their own shares"
    assert blended(pairs[:1], [[1.0]]) is pairs[0]


def test_a_blend_of_what_does_not_fit(mixture: GaussianMixture) -> None:
    pair = [mixture.denoise] * 2
    for shares in ([[0.5, 0.4]], [[1.0]], [0.5, 0.5], [[math.nan, 1.0]]):
        with pytest.raises(ValueError, match="^shares: "):
            blended(pair, shares)
    with pytest.raises(ValueError, match="^z: got 3 rows for prompts of 2 views"):
        blended(pair, [[0.5, 0.5], [1.0, 0.0]])(torch.zeros(3, 2).double(), 1.0)
    with pytest.raises(ValueError, match="no guidance"):
        blended(pair, [[0.5, 0.5]]).parts(torch.zeros(1, 2).double(), 1.0)  # type: ignore[attr-defined]
