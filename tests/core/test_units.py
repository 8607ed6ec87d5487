"""Units of a model: lambda carries from latent to latent and from size to size as the derivation says."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from msd_core import load_model
from msd_core.demo.evaluate import draw_scenes
from msd_core.demo.scenes import draw
from msd_core.denoiser import data_std
from msd_core.densities import GaussianMixture
from msd_core.named import NAMED, preset_named
from msd_core.randomness import seeded
from msd_core.units import Units, units_of

pytestmark = pytest.mark.core
TOP = 14.6
MIXTURE = GaussianMixture(
    torch.tensor([0.3, 0.7]),
    torch.tensor([[0.5, -1.0, 0.2, 0.9], [-0.8, 0.6, -0.3, 0.1]]),
    torch.diag(torch.tensor([0.3, 0.1, 0.6, 0.2])).repeat(2, 1, 1),
)


@dataclass(frozen=True)
class Scaled:
    """The model of c y where ``MIXTURE`` is that of y; ``stated`` says its standard deviation."""

    c: float
    stated: float | None = None

    @property
    def data_std(self) -> float:
        return self.c if self.stated is None else self.stated

    @property
    def sigma_max(self) -> float:
        return self.c * TOP

    def __call__(self, z: Tensor, sigma: float | Tensor) -> Tensor:
        return self.c * MIXTURE(z.double() / self.c, torch.as_tensor(sigma).double() / self.c).to(z)


def gradient(name: str, model: Scaled, step: int = 4) -> Tensor:
    """What the preset asks for at c x, divided by c."""
    preset = preset_named(name, Units(model.c, 4, model.sigma_max), {"steps": 10})
    x = torch.tensor([[0.4, -0.2, 0.7, 0.1], [2.0, 1.0, -1.0, 0.3]], dtype=torch.float64)
    return preset.method(model.c * x, model, step=step, steps=preset.steps, rng=seeded(3))[0] / model.c


@pytest.mark.parametrize("name", NAMED)
@pytest.mark.parametrize("c", [0.5, 8.0])
def test_another_unit_of_the_latent_changes_nothing(name: str, c: float) -> None:
    """The same run, c times as large: also the levels that are walked, which follow the data's deviation."""
    plain = gradient(name, Scaled(1.0))
    assert torch.allclose(gradient(name, Scaled(c)), plain, rtol=1e-4, atol=1e-5)


def test_a_model_that_does_not_say_its_deviation_is_walked_otherwise() -> None:
    """What the test above would look like if the levels stayed where they are for latents of deviation 1."""
    plain = gradient("balanced", Scaled(1.0), step=0)
    assert torch.allclose(gradient("balanced", Scaled(0.1), step=0), plain, rtol=1e-4, atol=1e-5)
    wrong = preset_named("balanced", Units(0.1, 4, 0.1 * TOP), {"steps": 10, "bandwidth_start": 0.8})
    right = preset_named("balanced", Units(1.0, 4, TOP), {"steps": 10, "bandwidth_start": 8.0})
    x, found = torch.tensor([[0.4, -0.2, 0.7, 0.1]], dtype=torch.float64), []
    for preset, model in ((right, Scaled(1.0)), (wrong, Scaled(0.1, stated=1.0)), (wrong, Scaled(0.1))):
        given = preset.method(model.c * x, model, step=0, steps=10, rng=seeded(3))[0]
        found.append(given / model.c)
    assert not torch.allclose(found[1], found[0], rtol=1e-2) and torch.allclose(
        found[2], found[0], rtol=1e-4, atol=1e-5
    )


def merging(distance2: float, variance: float) -> float:
    """The bandwidth at which two modes become one, found by the slope of the mean shift half-way between them."""
    half = math.sqrt(distance2) / 2
    mixture = GaussianMixture(
        torch.tensor([0.5, 0.5]), torch.tensor([[-half], [half]]), torch.full((2, 1, 1), variance, dtype=torch.float64)
    )
    low, high = 1e-3, 10 * half
    for _ in range(60):
        middle, x = (low + high) / 2, torch.tensor([[1e-4 * half]], dtype=torch.float64)
        one_mode = float(mixture(x, middle) - x) < 0
        low, high = (low, middle) if one_mode else (middle, high)
    return high


@pytest.mark.parametrize("variance", [0.01, 0.5])
def test_two_pictures_merge_at_half_their_distance(variance: float) -> None:
    """Closed form, and what follows for size: d coordinates that differ alike make the distance sqrt(d) times one's."""
    for d in (16, 64, 1024):
        assert merging(2.0 * d, variance) == pytest.approx(math.sqrt(2.0 * d / 4 - variance), rel=1e-3)
    assert merging(2.0 * 4096, variance) / merging(2.0 * 1024, variance) == pytest.approx(2, rel=1e-2)
    assert Units(1.0, 4096).first(0.25, 0.7) / Units(1.0, 1024).first(0.25, 0.7) == 2


def test_the_ends_of_lambda() -> None:
    plain = Units(1.0, 1024, TOP)
    assert (plain.first(0.25, 0.7), plain.last(0.7)) == (8.0, 0.7)
    assert Units(0.5, 1024, TOP).first(0.25, 0.35) == 4.0 and Units(0.5, 1024).last(0.7) == 0.35
    assert Units(1.0, 65536, TOP).first(0.25, 0.7) == TOP, "no further than the model goes"
    assert Units(1.0, 262144, 999.0).first(0.25, 0.7) == 128.0, "a flow model goes on"
    assert Units(1.0, 4, TOP).first(0.25, 0.7) == 1.4, "an octave above the last"


def test_the_demo_model_is_the_model_that_was_measured() -> None:
    model = load_model()
    units = units_of(model, 128, 128)
    assert units == Units(1.0, 1024, model.denoiser("").sigma_max)
    assert units_of(model, 130, 64).coordinates == 4 * 17 * 8
    pictures = draw(draw_scenes(24, 5), 128)
    latents = torch.cat([model.encode(picture[None]) for picture in pictures])
    assert float((latents - latents.mean(dim=0)).square().mean().sqrt()) == pytest.approx(units.data_std, rel=0.06)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"data_std": 0.0}, "data_std: got 0.0"),
        ({"coordinates": 0}, "coordinates: got 0"),
        ({"sigma_max": -1.0}, "sigma_max: got -1.0"),
    ],
)
def test_wrong_units(fields: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Units(**{"data_std": 1.0, "coordinates": 16, **fields})


def test_a_denoiser_that_says_a_deviation_that_is_none() -> None:
    assert data_std(Scaled(3.0)) == 3.0 and data_std(lambda z, sigma: z) == 1.0
    with pytest.raises(ValueError, match="data_std: got -1.0"):
        data_std(Scaled(3.0, stated=-1.0))
    with pytest.raises(ValueError, match="width: got 0"):
        units_of(load_model(), 0, 128)
