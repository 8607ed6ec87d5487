"""Every family of models at an odd latent size: the denoiser is the host's own, and a step of MSD and of SDS runs."""

from __future__ import annotations

import comfy.samplers
import pytest
import torch
from msd_pack.nodes import host
from msd_pack.nodes.axis import Axis
from msd_pack.nodes.cells import CELL, cell_of, grid_of
from msd_pack.nodes.distill import STEPS
from msd_pack.nodes.generators import NeuralImageGenerator, RenderGenerator
from msd_pack.nodes.guiders import make_guider
from tiny_families import FAMILIES, conditioning_of, model_of, vae_of

ROWS, COLUMNS = 3, 5
COMMON = {"steps": 1, "seed": 0, "cfg": 2.0, "learning_rate": 0.01, "optimizer": "gd"}
MSD = {"estimator": "exact", "solver": "ddim", "solver_steps": 2, "samples": 1}
METHODS = {"msd": MSD, "sds": {"weighting": "sigma", "anneal": "none", "t_min": 0.02, "t_max": 0.98}}


class OneStep(comfy.samplers.Sampler):
    """A stock sampler that does nothing but ask the host for its denoised at levels, from noise and picture."""

    def __init__(self, levels: list[float], picture: torch.Tensor, noise: torch.Tensor) -> None:
        self.levels, self.picture, self.noise, self.denoised = levels, picture, noise, []

    def sample(self, model_wrap, sigmas, extra_args, callback, noise, *args, **kwargs):  # noqa: ANN001, ANN002, ANN003, ANN201
        sampling = model_wrap.inner_model.model_sampling
        for level in self.levels:
            level = torch.tensor(level)
            x = sampling.noise_scaling(level, self.noise.clone(), self.picture.clone())
            self.denoised.append(model_wrap(x, level.reshape(1), **extra_args).clone())
        return torch.zeros_like(noise)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_denoiser_is_the_hosts_own_at_every_level(name: str) -> None:
    """z = picture + σ n here, what `noise_scaling` makes there."""
    family, model = FAMILIES[name], model_of(name)
    guider = make_guider(model, conditioning_of(name, 3), conditioning_of(name, 4), 2.0)
    axis = Axis.of(model.get_model_object("model_sampling"))
    sigmas = [axis.sigma_min, 0.3, 1.0, 5.0, axis.sigma_max]
    generator = torch.Generator().manual_seed(0)
    picture, noise = torch.randn(2, 1, family.channels, ROWS, COLUMNS, generator=generator).unbind()
    stock = OneStep([float(axis.level(sigma)) for sigma in sigmas], picture, noise)
    with torch.inference_mode():
        guider.sample(noise.clone(), torch.zeros_like(noise), stock, torch.tensor([1.0, 0.0]), disable_pbar=True)

    def loop(session: host.Session) -> list[torch.Tensor]:
        return [session.denoiser(picture + sigma * noise, sigma) for sigma in sigmas]

    for sigma, ours, theirs in zip(sigmas, host.run(guider, loop, ROWS, COLUMNS), stock.denoised, strict=True):
        scale = float(theirs.abs().max())
        assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-4 * scale), f"at sigma {sigma}"
        assert not torch.allclose(ours, picture + sigma * noise, rtol=1e-3)  # it did denoise


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("representation", ["pixels", "latent"])
@pytest.mark.parametrize("name", FAMILIES)
def test_a_step_runs_at_an_odd_size(name: str, representation: str, method: str) -> None:
    """On pixels through the encoder, on a latent without."""
    family = FAMILIES[name]
    size = {"width": COLUMNS * family.cell, "height": ROWS * family.cell}
    with torch.inference_mode():
        start = NeuralImageGenerator.execute(
            representation, **size, seed=0, hidden=8, layers=1, channels=family.channels, cell=family.cell
        ).args[0]
        prompts = {"positive": conditioning_of(name, 3), "negative": conditioning_of(name, 4)}
        vae = vae_of(name)
        made, picture, *_ = (
            STEPS[method].execute(start, **COMMON | METHODS[method] | prompts, model=model_of(name), vae=vae).args
        )
        drawn = RenderGenerator.execute(made, **size, vae=vae).args
    moved = [
        (a - b).abs().max() for a, b in zip(made.generator.parameters(), start.generator.parameters(), strict=True)
    ]
    assert float(max(moved)) > 0 and bool(picture.isfinite().all())
    assert picture.shape == drawn[0].shape == (1, size["height"], size["width"], 3)
    assert drawn[1]["samples"].shape == (1, family.channels, ROWS, COLUMNS)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_cell_is_the_models_own(name: str) -> None:
    assert cell_of(model_of(name).get_model_object("latent_format")) == FAMILIES[name].cell


def test_the_cell_of_formats_of_older_hosts() -> None:
    """They do not say it themselves."""
    formats = {name: type(name, (), {})() for name in ("SD15", "Flux2", "ChromaRadiance")}
    assert [cell_of(latent_format) for latent_format in formats.values()] == [CELL, 16, 1]
    assert cell_of(type("Own", (type(formats["ChromaRadiance"]),), {})()) == 1


def test_sizes_that_do_not_fit_the_model_are_refused_by_its_name() -> None:
    flux2 = model_of("flux2").get_model_object("latent_format")

    def born(representation: str, width: int, cell: int) -> object:
        return NeuralImageGenerator.execute(representation, width, 32, 0, 8, 1, 128, cell=cell).args[0].canvas

    assert grid_of(born("pixels", 48, 8), flux2) == grid_of(born("latent", 48, 16), flux2) == (2, 3)
    with pytest.raises(ValueError, match=r"its width is 40; allowed with this model \(Flux2\) are multiples of 16"):
        grid_of(born("pixels", 40, 8), flux2)
    with pytest.raises(ValueError, match=r"cells of its latent are 8 pixels a side, those of this model \(Flux2\) 16"):
        grid_of(born("latent", 48, 8), flux2)
    with pytest.raises(ValueError, match="width: got 40; allowed are multiples of 16"):
        born("latent", 40, 16)
