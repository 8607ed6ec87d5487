"""CSD against the score of the implicit classifier, by autograd of a posterior known in closed form."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from msd_core import GaussianMixture, GuidedDenoiser, draw_normal, sd15_schedule, with_levels
from msd_core.denoiser import Denoiser, level_at
from msd_core.distillation.csd import CSD

pytestmark = pytest.mark.core
X = torch.tensor([[0.6, -0.4], [-0.3, 0.2], [0.1, 0.9]], dtype=torch.float64)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def first_class(mixture: GaussianMixture) -> GaussianMixture:
    """The mixture's first two components alone: the "prompt"."""
    weights = mixture.weights[:2] / mixture.weights[:2].sum()
    return GaussianMixture(weights, mixture.means[:2], mixture.covariances[:2])


def model(mixture: GaussianMixture, cfg: float = 3.0, cond: Denoiser | None = None) -> Denoiser:
    return with_levels(GuidedDenoiser(cond or first_class(mixture), mixture, cfg), sd15_schedule())


def gradient(method: CSD, denoiser: Denoiser, x: Tensor = X, step: int = 3) -> Tensor:
    return method(x, denoiser, step=step, steps=4, rng=rng())[0]


def of_the_posterior(method: CSD, mixture: GaussianMixture, weight: Callable[[float], float]) -> Tensor:
    """-sigma w grad log p(c | z), at the level and the noise that the method uses in its last step of four."""
    sigma = level_at(model(mixture), method.t_min)
    z = (X + sigma * draw_normal(X, rng())[0]).requires_grad_()
    posterior = first_class(mixture).log_prob(z, sigma) - mixture.log_prob(z, sigma)
    (score,) = torch.autograd.grad(posterior.sum(), z)
    return -sigma * weight(sigma) * score


WEIGHTS: dict[str, Callable[[float], float]] = {
    "uniform": lambda sigma: 1.0,
    "sigma": lambda sigma: sigma**2 / (1 + sigma**2),
    "dreamfusion": lambda sigma: sigma**2 / (1 + sigma**2) ** 1.5,
}


@pytest.mark.parametrize("weighting", WEIGHTS)
def test_it_is_the_classifiers_score(weighting: str, mixture: GaussianMixture) -> None:
    method = CSD(weighting=weighting, anneal="linear", t_min=0.3)
    truth = of_the_posterior(method, mixture, WEIGHTS[weighting])
    torch.testing.assert_close(gradient(method, model(mixture)), truth, rtol=1e-6, atol=1e-9)
    swapped = with_levels(GuidedDenoiser(mixture, first_class(mixture), 3.0), sd15_schedule())
    for planted in (gradient(method, swapped), gradient(dataclasses.replace(method, t_min=0.35), model(mixture))):
        assert float((planted - truth).norm() / truth.norm()) > 0.05, "a planted error must show"


def test_cfg_plays_no_part_and_two_rows_are_asked(mixture: GaussianMixture) -> None:
    method = CSD(samples=3)
    torch.testing.assert_close(gradient(method, model(mixture, cfg=1.0)), gradient(method, model(mixture, cfg=7.5)))
    for cfg in (1.0, 7.5):
        assert method(X, model(mixture, cfg), step=0, steps=4, rng=rng())[1].evaluations == 2 * 3 * len(X)


def test_rows_with_their_own_randomness_are_single_runs(mixture: GaussianMixture) -> None:
    method, denoiser = CSD(samples=2), model(mixture)
    together = method(X, denoiser, step=0, steps=4, rng=[rng(i) for i in range(3)])[0]
    for i in range(3):
        alone = method(X[i : i + 1], denoiser, step=0, steps=4, rng=rng(i))[0]
        torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-12, atol=0)


def test_no_difference_no_gradient(mixture: GaussianMixture) -> None:
    assert not gradient(CSD(), model(mixture, cond=mixture)).any()


def test_wrong_input_is_refused(mixture: GaussianMixture) -> None:
    with pytest.raises(ValueError, match="denoiser: GaussianMixture has no guidance .* CSD needs it"):
        gradient(CSD(), with_levels(mixture, sd15_schedule()))
    with pytest.raises(ValueError, match="weighting: got 'cosine'"):
        CSD(weighting="cosine")
    with pytest.raises(ValueError, match="t_min, t_max: got 0.9, 0.1"):
        CSD(t_min=0.9, t_max=0.1)
