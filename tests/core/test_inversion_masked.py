"""An inversion inside a mask comes back inside, leaves the rest to the bit, and is what masked sampling asks for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from msd_core import INVERSIONS, GaussianMixture, Trajectory, invert
from msd_core.inversion.masked import MaskedDenoiser, Outside
from msd_core.inversion.resample import resample, round_trip_psnr

pytestmark = pytest.mark.core
LEVELS = torch.cat([torch.linspace(1.6, -3.0, 24, dtype=torch.float64).exp(), torch.zeros(1, dtype=torch.float64)])
MASK = torch.tensor([[1, 1, 0, 0], [1, 0, 0, 0], [1, 1, 0, 1]])
NAMES = [name for name in INVERSIONS if name != "null-text"]


@dataclass(frozen=True)
class Pictures:
    """A mixture as a denoiser of pictures (B, 2, 3, 4), whose cells all depend on one another."""

    mixture: GaussianMixture

    def __call__(self, z: Tensor, sigma: Any) -> Tensor:  # noqa: ANN401
        return self.mixture(z.flatten(1), sigma).reshape(z.shape)

    def with_cfg(self, cfg: float) -> Pictures:
        return self


def made(seed: int, lift: float = 0.0) -> Pictures:
    rng = torch.Generator().manual_seed(seed)
    spread = torch.randn(2, 24, 24, generator=rng, dtype=torch.float64) / 6
    means = torch.randn(2, 24, generator=rng, dtype=torch.float64) + lift
    return Pictures(
        GaussianMixture(torch.tensor([0.6, 0.4]).double(), means, spread @ spread.mT + 0.05 * torch.eye(24))
    )


@pytest.fixture(scope="module")
def model() -> Pictures:
    return made(3)


@pytest.fixture(scope="module")
def x() -> Tensor:
    return torch.randn(2, 2, 3, 4, generator=torch.Generator().manual_seed(8), dtype=torch.float64)


def inverted(x: Tensor, model: Pictures, name: str = "implicit", mask: object = MASK) -> Trajectory:
    return invert(x, model, LEVELS, name, torch.Generator().manual_seed(1), mask=mask)


def test_the_equation(model: Pictures, x: Tensor) -> None:
    rng = torch.Generator().manual_seed(2)
    noise, z = (torch.randn(x.shape, generator=rng, dtype=torch.float64) for _ in range(2))
    m = MASK.double()
    asked = MaskedDenoiser(model, Outside(x, MASK[None, None], noise))
    expected = m * model(m * z + (1 - m) * (x + 0.7 * noise), 0.7) + (1 - m) * x
    torch.testing.assert_close(asked(z, 0.7), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(
        asked(z, torch.tensor([0.7, 0.7], dtype=torch.float64)), expected, rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize("name", NAMES)
def test_the_rest_comes_back_to_the_bit_and_its_states_are_the_picture_under_one_noise(
    name: str, model: Pictures, x: Tensor
) -> None:
    trajectory, kept = inverted(x, model, name), (MASK == 0).expand(x.shape)
    back = resample(trajectory, model)
    assert torch.equal(back[kept], x[kept])
    assert float(round_trip_psnr(x, back).min()) > (15 if name in ("ancestral", "rf-inversion") else 30)
    noise = trajectory.outside.noise[kept]
    for state, sigma in zip(trajectory.states, trajectory.sigmas, strict=True):
        assert torch.equal(state[kept], x[kept] + sigma * noise)


@pytest.mark.parametrize("name", ["implicit", "implicit-heun", "direct", "edit-friendly"])
def test_inside_it_is_as_exact_as_the_inversion(name: str, model: Pictures, x: Tensor) -> None:
    trajectory = inverted(x, model, name)
    assert float(round_trip_psnr(x, resample(trajectory, model)).min()) > 110
    assert not torch.equal(trajectory.states[-1], inverted(x, model, name, None).states[-1])
    unmasked = replace(trajectory, outside=None)
    assert float(round_trip_psnr(x, resample(unmasked, model)).max()) < 60


def test_masked_sampling_of_another_program_gives_the_picture_back(model: Pictures, x: Tensor) -> None:
    """Euler's walk as ComfyUI takes it with a noise mask, from the noise of the last state."""
    trajectory, m = inverted(x, model), MASK.double()
    top = float(trajectory.sigmas[-1])
    noise = (trajectory.states[-1] - x) / top
    z, levels = x + top * noise, LEVELS.tolist()
    for sigma, below in zip(levels, levels[1:], strict=False):
        seen = m * z + (1 - m) * (x + sigma * noise)
        denoised = m * model(seen, sigma) + (1 - m) * x
        z = z + (z - denoised) / sigma * (below - sigma)
    assert float(round_trip_psnr(x, z).min()) > 110


def test_another_prompt_changes_the_inside_alone(model: Pictures, x: Tensor) -> None:
    trajectory, inside = inverted(x, model), (MASK == 1).expand(x.shape)
    edited = resample(trajectory, made(3, lift=0.8))
    assert torch.equal(edited[~inside], x[~inside])
    assert float((edited - x)[inside].abs().mean()) > 0.1


def test_a_row_has_its_own_mask(model: Pictures, x: Tensor) -> None:
    masks = torch.stack([MASK, MASK.flip(0)])[:, None].float()
    together = invert(x, model, LEVELS, "implicit", [torch.Generator().manual_seed(i) for i in range(2)], masks)
    for i in range(2):
        one = slice(i, i + 1)
        alone = invert(x[one], model, LEVELS, "implicit", [torch.Generator().manual_seed(i)], masks[one])
        torch.testing.assert_close(together.states[:, one], alone.states, rtol=1e-6, atol=1e-6)


def test_the_end_looks_like_noise_outside_too(model: Pictures) -> None:
    x = torch.zeros(1, 2, 3, 4, dtype=torch.float64)
    whole = torch.zeros(3, 4)
    whole[0, 0] = 1
    trajectory = invert(x, model, LEVELS, "explicit", torch.Generator().manual_seed(1), mask=whole)
    assert 0.5 < float(trajectory.report.noise.std) < 1.5


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"mask": MASK * 0.5}, r"mask: got values from 0 to 0\.5; allowed are whole cells"),
        ({"mask": MASK * 0}, "with one cell or more to invert"),
        ({"mask": MASK[:2]}, r"mask: got shape \(1, 1, 2, 4\) for an x of \(2, 2, 3, 4\)"),
        ({"mask": torch.ones(3, 1, 3, 4)}, r"mask: got shape \(3, 1, 3, 4\)"),
        ({"mask": "hole"}, "mask: got"),
        ({"sigmas": LEVELS[:-1]}, "Append 0 to sigmas"),
        ({"rng": None}, "rng"),
        ({"x": torch.zeros(2, 5)}, r"for an x of \(2, 5\)"),
        ({"step": "null-text"}, "mask: got one with the inversion 'null-text'"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, Any], words: str, model: Pictures, x: Tensor) -> None:
    given = {"x": x, "denoiser": model, "sigmas": LEVELS, "rng": torch.Generator(), "mask": MASK, **change}
    with pytest.raises(ValueError, match=words):
        invert(**given)


def test_residuals_are_those_of_the_cells_inside() -> None:
    """Outside nothing is missed; of cells that do not depend on one another, the rest may as well not be there."""
    x = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0)).double()
    mask = torch.zeros(8, 8)
    mask[2:4, 2:4] = 1

    def alone(z: Tensor, sigma: Any) -> Tensor:  # noqa: ANN401
        level2 = torch.as_tensor(sigma, dtype=z.dtype).reshape(-1, *[1] * (z.ndim - 1)) ** 2
        return (z + 0.3 * level2) / (1 + level2) + 0.1 * torch.sin(3 * z)

    drawn = invert(x, alone, LEVELS, "ancestral", torch.Generator().manual_seed(1), mask=mask).report
    plain = invert(x, alone, LEVELS, "ancestral", torch.Generator().manual_seed(1)).report
    assert drawn is not None and plain is not None
    assert 0.3 < float(drawn.total.mean() / plain.total.mean()) < 3, "noise outside is no residual"
    for name in ("explicit", "implicit"):
        rng = torch.Generator().manual_seed(1)
        whole = invert(x, alone, LEVELS, name, rng, mask=mask).report
        inside = invert(x[..., 2:4, 2:4].contiguous(), alone, LEVELS, name).report
        assert whole is not None and inside is not None
        if name == "explicit":
            torch.testing.assert_close(whole.residual, inside.residual, equal_nan=True)
        assert torch.equal(whole.evaluations, inside.evaluations) and whole.tolerance == inside.tolerance
        assert torch.equal(whole.unconverged, inside.unconverged)
