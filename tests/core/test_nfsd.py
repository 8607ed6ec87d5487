"""NFSD against its two terms, from scores known in closed form."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from msd_core import GaussianMixture, GuidedDenoiser, draw_normal, sd15_schedule, with_companions, with_levels
from msd_core.denoiser import Denoiser, level_at
from msd_core.distillation.csd import CSD
from msd_core.distillation.nfsd import NFSD

pytestmark = pytest.mark.core
X = torch.tensor([[0.6, -0.4], [-0.3, 0.2], [0.1, 0.9]], dtype=torch.float64)
CFG = 4.0


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def part(mixture: GaussianMixture, first: int, last: int) -> GaussianMixture:
    """Some of the mixture's components alone."""
    weights = mixture.weights[first:last] / mixture.weights[first:last].sum()
    return GaussianMixture(weights, mixture.means[first:last], mixture.covariances[first:last])


def model(mixture: GaussianMixture, negative: Denoiser, cfg: float = CFG) -> Denoiser:
    """The first two components are the prompt, all of them the empty one."""
    guided = GuidedDenoiser(part(mixture, 0, 2), mixture, cfg)
    return with_companions(with_levels(guided, sd15_schedule()), negative=negative)


def at(t: float, **settings: object) -> NFSD:
    """The method at one fraction of the chain."""
    return NFSD(anneal="linear", t_min=t, t_max=t, **settings)  # type: ignore[arg-type]


def gradient(method: NFSD | CSD, denoiser: Denoiser, x: Tensor = X) -> Tensor:
    return method(x, denoiser, step=0, steps=1, rng=rng())[0]


def in_terms(mixture: GaussianMixture, t: float, clean: bool) -> Tensor:
    """w (delta_D + cfg delta_C), each prediction being -sigma times a mixture's score."""
    sigma = level_at(model(mixture, mixture), t)
    z = X + sigma * draw_normal(X, rng())[0]
    cond, empty, negative = (-sigma * m.score(z, sigma) for m in (part(mixture, 0, 2), mixture, part(mixture, 2, 4)))
    domain = empty if clean else empty - negative
    return sigma**2 / (1 + sigma**2) * (domain + CFG * (cond - empty))


@pytest.mark.parametrize(("t", "clean"), [(0.1, True), (0.199, True), (0.2, False), (0.6, False)])
def test_it_is_the_sum_of_its_terms(t: float, clean: bool, mixture: GaussianMixture) -> None:
    denoiser = model(mixture, part(mixture, 2, 4))
    truth = in_terms(mixture, t, clean)
    torch.testing.assert_close(gradient(at(t), denoiser), truth, rtol=1e-6, atol=1e-9)
    planted = [in_terms(mixture, t, not clean), gradient(at(t), model(mixture, mixture.denoise, cfg=CFG + 1))]
    planted.append(gradient(at(t, clean_below=0.0 if clean else 1.0), denoiser))
    for wrong in planted:
        assert float((wrong - truth).norm() / truth.norm()) > 0.01, "a planted error must show"


def test_with_an_empty_negative_prompt_it_is_csd_times_cfg(mixture: GaussianMixture) -> None:
    denoiser = model(mixture, mixture)
    csd = gradient(CSD(t_min=0.3), denoiser)
    torch.testing.assert_close(gradient(NFSD(t_min=0.3), denoiser), CFG * csd, rtol=1e-9, atol=1e-12)
    assert not torch.allclose(gradient(NFSD(t_min=0.3), model(mixture, part(mixture, 2, 4))), CFG * csd, rtol=1e-2)


def test_without_any_difference_there_is_no_gradient_above(mixture: GaussianMixture) -> None:
    same = with_levels(GuidedDenoiser(mixture, mixture, CFG), sd15_schedule())
    denoiser = with_companions(same, negative=mixture)
    torch.testing.assert_close(gradient(at(0.5), denoiser), torch.zeros_like(X), rtol=0, atol=1e-12)
    assert gradient(at(0.1), denoiser).abs().max() > 1e-3, "below, the prediction itself is left"


def test_three_rows_a_row_are_asked_and_two_below(mixture: GaussianMixture) -> None:
    denoiser = model(mixture, part(mixture, 2, 4))
    for t, rows in ((0.1, 2), (0.5, 3)):
        method = dataclasses.replace(at(t), samples=4)
        assert method(X, denoiser, step=0, steps=1, rng=rng())[1].evaluations == rows * 4 * len(X)


def test_a_batch_is_its_rows_even_across_the_switch(mixture: GaussianMixture) -> None:
    """With levels drawn from both sides of the switch, and several draws a row."""
    denoiser, method = model(mixture, part(mixture, 2, 4)), NFSD(samples=3, t_max=0.4)
    together = method(X, denoiser, step=0, steps=4, rng=[rng(i) for i in range(3)])[0]
    for i in range(3):
        alone = method(X[i : i + 1], denoiser, step=0, steps=4, rng=rng(i))[0]
        torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-9, atol=1e-12)


def test_wrong_input_is_refused(mixture: GaussianMixture) -> None:
    with pytest.raises(ValueError, match="clean_below: got 1.5; allowed is a finite number from 0 up to 1"):
        NFSD(clean_below=1.5)
    with pytest.raises(ValueError, match="has no negative beside it, and NFSD needs one"):
        gradient(NFSD(), with_levels(GuidedDenoiser(mixture, mixture), sd15_schedule()))
