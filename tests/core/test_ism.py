"""ISM against the exact inversion of a Gaussian, and against CSD where the interval is empty."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from msd_core import GaussianMixture, GuidedDenoiser, ddim_invert, sd15_schedule, with_levels
from msd_core.denoiser import Denoiser, Sigma, eps, level_at
from msd_core.distillation.ism import ISM

pytestmark = pytest.mark.core
X = torch.tensor([[0.6, -0.4], [-0.3, 0.2], [0.1, 0.9]], dtype=torch.float64)
SPREAD, MEAN = 0.6, torch.tensor([[0.2, 0.5]], dtype=torch.float64)
GAUSSIAN = GaussianMixture(
    torch.ones(1, dtype=torch.float64), MEAN, torch.eye(2, dtype=torch.float64)[None] * SPREAD**2
)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def model(cond: Denoiser, uncond: Denoiser, cfg: float = 3.0) -> Denoiser:
    return with_levels(GuidedDenoiser(cond, uncond, cfg), sd15_schedule())


def at(t: float, **settings: float) -> ISM:
    """The method at one fraction of the chain."""
    return ISM(t_min=t, t_max=t, t_late=t, **settings)


def gradient(method: ISM, denoiser: Denoiser, x: Tensor = X) -> Tensor:
    return method(x, denoiser, step=1, steps=4, rng=rng())[0]


def exact_interval(t: float, delta_t: float) -> Tensor:
    """The gradient at the exact inversion of the Gaussian, under the Gaussian itself: x_s = m + (x - m) r_s/s."""
    sigma_s, sigma_t = (level_at(model(GAUSSIAN, GAUSSIAN), time) for time in (t - delta_t, t))
    x_s = MEAN + (X - MEAN) * math.hypot(SPREAD, sigma_s) / SPREAD
    noise = sigma_s * (x_s - MEAN) / (SPREAD**2 + sigma_s**2)
    x_t = x_s + (sigma_t - sigma_s) * noise
    return sigma_t * (sigma_t * (x_t - MEAN) / (SPREAD**2 + sigma_t**2) - noise)


def test_it_approaches_the_exact_inversion_at_first_order() -> None:
    truth, denoiser = exact_interval(0.5, 0.1), model(GAUSSIAN, GAUSSIAN)
    errors = [float((gradient(at(0.5, delta_t=0.1, delta_s=d), denoiser) - truth).norm()) for d in (0.02, 0.01, 0.005)]
    for coarse, fine in zip(errors, errors[1:], strict=False):
        assert 1.7 < coarse / fine < 2.3
    planted = gradient(at(0.5, delta_t=0.12, delta_s=0.005), denoiser)
    assert float((planted - truth).norm()) > 10 * errors[-1], "another interval must show"


@pytest.mark.parametrize("cfg", [1.0, 7.5])
def test_with_an_empty_interval_it_is_csd_at_the_inverted_point(cfg: float, mixture: GaussianMixture) -> None:
    prompt = GaussianMixture(mixture.weights[:2] / 0.8, mixture.means[:2], mixture.covariances[:2])
    denoiser, grid = model(prompt, mixture, cfg), [0.001, 0.2, 0.4, 0.5]
    sigmas = torch.tensor([level_at(denoiser, t) for t in grid], dtype=torch.float64)
    sigma, low = float(sigmas[-1]), level_at(denoiser, 0.0)
    first = X + float(sigmas[1]) * eps(X, low, mixture(X, low))
    z = ddim_invert(first, mixture, sigmas[1:]).states[-1]
    truth = sigma * cfg * (eps(z, sigma, prompt(z, sigma)) - eps(z, sigma, mixture(z, sigma)))
    torch.testing.assert_close(gradient(at(0.5, delta_t=0.0), denoiser), truth, rtol=1e-6, atol=1e-9)
    planted = (gradient(at(0.5, delta_t=0.05), denoiser), gradient(at(0.5, delta_t=0.0, delta_s=0.25), denoiser))
    for wrong in planted:
        assert float((wrong - truth).norm() / truth.norm()) > 1e-3, "a planted error must show"


def test_without_interval_and_difference_there_is_no_gradient(mixture: GaussianMixture) -> None:
    still = gradient(at(0.5, delta_t=0.0), model(mixture, mixture))
    torch.testing.assert_close(still, torch.zeros_like(X), rtol=0, atol=1e-10)
    assert gradient(at(0.5), model(mixture, mixture)).abs().max() > 1e-3


def test_the_inversion_and_the_matched_noise_are_unconditional(mixture: GaussianMixture) -> None:
    """The prompt is asked once, at t, and the inversion does not change with it."""
    seen: list[tuple[str, float, Tensor]] = []

    def watched(name: str) -> Denoiser:
        def denoise(z: Tensor, sigma: Sigma) -> Tensor:
            seen.append((name, float(torch.as_tensor(sigma).reshape(-1)[0]), z))
            return mixture(z, sigma)

        return denoise

    denoiser = model(watched("prompt"), watched("empty"))
    _, info = at(0.5, delta_t=0.05)(X, denoiser, step=1, steps=4, rng=rng())
    wanted = [level_at(denoiser, t) for t in (0.0, 0.2, 0.4, 0.45, 0.5)]
    assert [level for name, level, _ in seen if name == "empty"] == pytest.approx(wanted)
    assert [level for name, level, _ in seen if name == "prompt"] == pytest.approx(wanted[-1:])
    assert info.evaluations == 6 * len(X) and info.sigma == pytest.approx(wanted[-1])


def test_the_highest_noise_falls_over_the_warm_up() -> None:
    method = ISM(t_max=0.9, t_late=0.4, warm_up=0.5)
    assert [method.highest(step, 8) for step in (0, 2, 4, 7)] == pytest.approx([0.9, 0.65, 0.4, 0.4])
    assert ISM(warm_up=0.0).highest(0, 8) == 0.5


def test_levels_are_drawn_under_the_cap() -> None:
    seen: list[Tensor] = []

    def prompt(z: Tensor, sigma: Sigma) -> Tensor:
        seen.append(torch.as_tensor(sigma))
        return z

    denoiser = model(prompt, lambda z, sigma: z)
    x = X[:1].expand(200, 2)
    ISM()(x, denoiser, step=9, steps=10, rng=rng())
    assert seen[0].unique().numel() > 190
    assert level_at(denoiser, 0.02) <= float(seen[0].min()) and float(seen[0].max()) <= level_at(denoiser, 0.5)
    assert float(seen[0].max()) > level_at(denoiser, 0.45)


def test_a_row_does_not_depend_on_how_far_the_others_walk(mixture: GaussianMixture) -> None:
    denoiser = model(GAUSSIAN, mixture)
    together, info = ISM()(X, denoiser, step=0, steps=4, rng=[rng(i) for i in range(3)])
    rows = [ISM()(X[i : i + 1], denoiser, step=0, steps=4, rng=rng(i)) for i in range(3)]
    torch.testing.assert_close(together, torch.cat([row for row, _ in rows]), rtol=1e-9, atol=1e-12)
    asked = [alone.evaluations for _, alone in rows]
    assert len(set(asked)) > 1 and info.evaluations == 3 * max(asked), "a planted equal walk must show"


def test_the_lowest_level_works(mixture: GaussianMixture) -> None:
    assert bool(torch.isfinite(gradient(at(0.02), model(GAUSSIAN, mixture))).all())


def test_wrong_input_is_refused() -> None:
    with pytest.raises(ValueError, match="t_late: got 0.5; allowed is 0.02 to 0.4, from t_min to t_max. Move it"):
        ISM(t_max=0.4)
    with pytest.raises(ValueError, match="delta_s: got 0.0; allowed is a finite number above 0"):
        ISM(delta_s=0.0)
    with pytest.raises(ValueError, match="t_min, t_max: got 0.9, 0.1"):
        ISM(t_min=0.9, t_max=0.1)
