"""One solver, three switches: DDIM, SDS, editing and inpainting are settings of it, to rounding."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from msd_core import GaussianMixture, GuidedDenoiser, ddim_sample, invert, resample, sigma_schedule
from msd_core.dreamsampler import PER_STEPS, Denoised, Edited, dream_steps, renoised, unit_share
from msd_core.measurement import observe
from msd_core.measurement.mask import Mask
from msd_core.posterior import PosteriorDenoiser

pytestmark = pytest.mark.core


def gaussian(mean: float, variance: float) -> GaussianMixture:
    """One Gaussian on the line."""
    return GaussianMixture(*(torch.tensor(part, dtype=torch.float64) for part in ([1.0], [[mean]], [[[variance]]])))


PAIR = GuidedDenoiser(gaussian(3.0, 0.09), gaussian(0.0, 1.0), 5.0)


def levels(steps: int) -> Tensor:
    """To 0, float64."""
    return sigma_schedule("karras", steps, sigma_min=0.02, sigma_max=14.6).double()


def last(z: Tensor, inner: object, sigmas: Tensor, **options: object) -> Tensor:
    *_, (_, end, _) = dream_steps(z, inner, sigmas, **options)  # type: ignore[arg-type]
    return end


def edited(steps: int, strength: float) -> float:
    """Where a point at .3 is brought."""
    x, sigmas = torch.tensor([[0.3]]).double(), levels(steps)
    noise = invert(x, PAIR.uncond, sigmas).states[-1]
    return float(last(noise, Edited(PAIR, strength, steps), sigmas))


def test_all_of_the_noise_and_the_denoised_picture_is_ddim(smooth: GaussianMixture, points: Tensor) -> None:
    sigmas = levels(12)
    z = 14 * points
    torch.testing.assert_close(
        last(z, Denoised(smooth), sigmas), ddim_sample(z, smooth, sigmas), rtol=1e-12, atol=1e-12
    )
    half = last(z, Denoised(smooth), sigmas, kept=0.5, rng=torch.Generator().manual_seed(0))
    assert (half - ddim_sample(z, smooth, sigmas)).abs().max() > 0.01


def test_none_of_the_noise_and_one_step_of_the_inner_problem_is_sds(smooth: GaussianMixture, points: Tensor) -> None:
    """y <- y - eta (y - D(y + sigma n)), which is sigma (eps - n), at levels in any order."""
    rate, rng, again = 0.1, torch.Generator().manual_seed(3), torch.Generator().manual_seed(3)
    sigmas = [1.2, 0.3, 2.0, 0.7]
    y = by_hand = points
    z = renoised(y, torch.zeros_like(y), sigmas[0], 0.0, rng)
    for i, sigma in enumerate(sigmas):
        held = y

        def inner(z: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
            return held - rate * (held - smooth(z, sigma)), torch.zeros_like(z)  # noqa: B023 - called at once

        ((_, z, y),) = dream_steps(z, inner, [sigma, 0.0], kept=0.0, rng=rng)
        z = renoised(y, torch.zeros_like(y), sigmas[(i + 1) % 4], 0.0, rng)
        n = torch.randn((1, *points.shape), generator=again, dtype=torch.float64)[0]
        noisy = by_hand + sigma * n
        noise = (noisy - smooth(noisy, sigma)) / sigma
        torch.testing.assert_close(by_hand - smooth(noisy, sigma), sigma * (noise - n), rtol=1e-9, atol=1e-12)
        by_hand = by_hand - rate * sigma * (noise - n)
        torch.testing.assert_close(y, by_hand, rtol=1e-10, atol=1e-12)


def test_an_edit_is_the_product_of_its_affine_maps() -> None:
    """D = (c z + sigma^2 m) / (c + sigma^2) on Gaussians, so each step is affine in z."""
    steps, strength, sigmas = 10, 0.3, levels(10)
    slope, offset = 1.0, 0.0
    for sigma, following in zip(sigmas.tolist(), sigmas[1:].tolist(), strict=False):
        weight = strength / (1 + sigma**2) * PER_STEPS / steps
        maps = [(c / (c + sigma**2), sigma**2 * m / (c + sigma**2)) for m, c in ((3.0, 0.09), (0.0, 1.0))]
        (a, b), (a0, b0) = maps
        y = a0 + weight * (a - a0), b0 + weight * (b - b0)
        share = following / sigma
        step = y[0] + share * (1 - a0), y[1] - share * b0
        slope, offset = step[0] * slope, step[0] * offset + step[1]
    z = torch.tensor([[-4.0], [9.0]]).double()
    torch.testing.assert_close(
        last(z, Edited(PAIR, strength, steps), sigmas), slope * z + offset, rtol=1e-10, atol=1e-10
    )


def test_the_strength_does_not_depend_on_the_number_of_steps() -> None:
    """And it would, by a lot, were it given by the step."""
    ends = [edited(steps, 0.2) for steps in (20, 50, 100, 200)]
    assert max(ends) - min(ends) < 0.15 * (ends[-1] - 0.3), ends
    by_the_step = [edited(steps, 0.2 * steps / PER_STEPS) for steps in (20, 200)]
    assert by_the_step[1] - by_the_step[0] > 0.3 * (by_the_step[1] - 0.3), by_the_step


def test_no_strength_is_the_round_trip() -> None:
    x, sigmas = torch.tensor([[0.3], [-1.2]]).double(), levels(20)
    trajectory = invert(x, PAIR.uncond, sigmas)
    back = last(trajectory.states[-1], Edited(PAIR, 0.0, 20), sigmas)
    torch.testing.assert_close(back, resample(trajectory, PAIR.uncond), rtol=1e-10, atol=1e-10)


def test_inpainting_fills_the_hole_and_keeps_the_rest(smooth: GaussianMixture) -> None:
    """A line of the plane is known: all samples lie on it, and spread as the density does there."""

    class Line:
        def apply(self, y: Tensor) -> Tensor:
            return y[:, :1]

        def adjoint(self, u: Tensor) -> Tensor:
            return torch.cat([u, torch.zeros_like(u)], dim=1)

        inverse = adjoint

    known = observe(torch.tensor([[0.1, 0.0]]).double(), Line())
    rng = torch.Generator().manual_seed(0)
    z = 14.6 * torch.randn(400, 2, generator=rng, dtype=torch.float64)
    inner = Denoised(PosteriorDenoiser(smooth, known))
    drawn = last(z, inner, levels(40), kept=unit_share, rng=rng)
    torch.testing.assert_close(drawn[:, 0], torch.full((400,), 0.1).double(), rtol=0, atol=1e-9)
    assert 0.1 < float(drawn[:, 1].std()) < 1.0
    assert unit_share(1.0) == pytest.approx(math.sqrt(0.5)) and inner.rows == 3


def test_fresh_noise_is_of_the_right_size() -> None:
    y, noise = torch.zeros(20_000, 1), torch.randn(20_000, 1, generator=torch.Generator().manual_seed(1))
    for kept in (0.0, 0.6, 1.0):
        z = renoised(y, noise, 2.0, kept, torch.Generator().manual_seed(2))
        assert float(z.std()) == pytest.approx(2.0, rel=0.03)
        assert float((z * noise).mean()) / 2 == pytest.approx(kept, abs=0.03)
    assert torch.equal(renoised(y, noise, 0.0, 0.0, None), y), "at level 0 nothing is drawn"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Edited(gaussian(0, 1)), "has no guidance"),
        (lambda: Edited(PAIR, -1.0), "strength: got -1.0"),
        (lambda: Edited(PAIR, steps=0), "steps: got 0"),
        (lambda: dream_steps(torch.ones(1, 1), Edited(PAIR), [1.0, 2.0]), "sigmas: entry 1"),
        (lambda: dream_steps(torch.ones(1, 1), Edited(PAIR), [1.0, 0.0], kept=2.0), "kept: got 2.0"),
        (lambda: dream_steps(torch.ones(1, 1), "edit", [1.0, 0.0]), "inner: got 'edit'"),
        (lambda: list(dream_steps(torch.ones(1, 1), Edited(PAIR), [1.0, 0.5], kept=0.5)), "rng: got None"),
        (lambda: Mask(torch.full((2, 2), float("nan"))), "mask: "),
    ],
)
def test_wrong_input(call, message: str) -> None:  # noqa: ANN001
    with pytest.raises(ValueError, match=message):
        call()
