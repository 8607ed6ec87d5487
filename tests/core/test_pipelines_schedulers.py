"""What a pipeline's scheduler says of its network: every kind walks the library's own path, and is read once."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("diffusers", reason="diffusers is not installed: pip install '.[diffusers]'")
pytest.importorskip("transformers", reason="transformers is not installed: pip install '.[diffusers]'")
sys.path.insert(0, str(Path(__file__).parent))
import diffusers
from diffusers import EDMDPMSolverMultistepScheduler, EDMEulerScheduler, StableDiffusionXLImg2ImgPipeline
from tiny_pipelines import EDM, pipeline

import msd_core.pipelines.scheduler as of_scheduler
from msd_core import EpsDenoiser, VDenoiser, ddim_sample, distil
from msd_core.denoiser import data_std, sigma_range
from msd_core.multistep import dpmpp_2m_steps
from msd_core.pipelines.model import PipelineModel, load_pipeline
from msd_core.schedule import DiscreteSchedule
from msd_core.units import units_of

pytestmark = pytest.mark.core
PROMPT, NEGATIVE = "a red cup", "a cat"
Made = Callable[..., PipelineModel]
V = {"prediction_type": "v_prediction"}
BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


@pytest.fixture
def made(tmp_path: Path) -> Made:
    """The model around a pipeline of a kind, with another scheduler."""

    def make(kind: str, scheduler: object = None) -> PipelineModel:
        pipe: Any = pipeline(kind, tmp_path / kind)
        if scheduler is not None:
            pipe.scheduler = scheduler
        return PipelineModel.of(pipe)

    return make


def noise(model: PipelineModel, rows: int = 1) -> Tensor:
    return torch.randn(rows, model.channels, 8, 8, generator=torch.Generator().manual_seed(0))


def walked(model: PipelineModel, cfg: float, steps: int = 5, **options: object) -> Tensor:
    """The library's own pipeline on `noise`, with its own scheduler."""
    side = {"height": 8 * model.cell, "width": 8 * model.cell}
    return model.family.pipe(
        PROMPT, negative_prompt=NEGATIVE, guidance_scale=cfg, num_inference_steps=steps, latents=noise(model),
        return_dict=False, **side, **options,
    )[0]  # fmt: skip


@pytest.mark.parametrize(
    "scheduler",
    [
        EDMEulerScheduler(),
        EDMEulerScheduler(
            sigma_max=120.0, sigma_data=1.0, sigma_schedule="exponential", prediction_type="v_prediction"
        ),
        EDMEulerScheduler(sigma_max=120.0, sigma_data=0.7, prediction_type="v_prediction"),
        EDMDPMSolverMultistepScheduler(sigma_data=0.5, solver_order=1),
        EDMDPMSolverMultistepScheduler(sigma_min=0.01, rho=5.0, solver_order=1, **V),
    ],
    ids=["euler", "cosxl", "euler-v", "dpm", "dpm-v"],
)
@pytest.mark.parametrize("cfg", [1.0, 3.0])
def test_ddim_walks_the_path_of_edm_s_schedulers(made: Made, scheduler: Any, cfg: float) -> None:  # noqa: ANN401
    """Step by step, as Euler and DPM-Solver of the first order do; at another deviation of the data it does not."""
    model, theirs = made("sdxl", scheduler), []

    def note(pipe: object, i: int, t: object, told: dict) -> dict:
        theirs.append(told["latents"])
        return {}

    walked(model, cfg, output_type="latent", callback_on_step_end=note)
    sigmas, start = scheduler.sigmas, noise(model) * scheduler.init_noise_sigma
    denoiser = model.denoiser(PROMPT, NEGATIVE if cfg != 1 else "", cfg)
    for i in range(1, len(sigmas)):
        z = ddim_sample(start, denoiser, sigmas[: i + 1])
        torch.testing.assert_close(z, theirs[i - 1], atol=2e-4, rtol=1e-3)
    wrong = type(scheduler).from_config(scheduler.config, sigma_data=1.1 * scheduler.config.sigma_data)
    other = made("sdxl", wrong).denoiser(PROMPT, NEGATIVE if cfg != 1 else "", cfg)
    assert (ddim_sample(start, other, sigmas) - theirs[-1]).abs().max() > 1e-2


def test_playground_s_own_sampler(made: Made) -> None:
    """DPM-Solver++(2M) on sigma_data = .5: the library's, and ours on its denoiser."""
    model = made("playground")
    theirs, scheduler = walked(model, 3.0, 6, output_type="latent"), model.family.pipe.scheduler
    start = noise(model) * scheduler.init_noise_sigma
    *_, (_, ours, _) = dpmpp_2m_steps(start, model.denoiser(PROMPT, NEGATIVE, 3.0), scheduler.sigmas)
    torch.testing.assert_close(ours, theirs, atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize("schedule", ["karras", "exponential"])
def test_edm_s_chain_has_its_scheduler_s_levels(made: Made, schedule: str) -> None:
    scheduler = EDMEulerScheduler(sigma_min=0.01, sigma_max=50.0, sigma_data=0.6, sigma_schedule=schedule)
    denoiser = made("sdxl", scheduler).denoiser(PROMPT)
    scheduler.set_timesteps(9)
    ours = torch.tensor([denoiser.percent_to_sigma(i / 8) for i in range(9)])
    torch.testing.assert_close(ours, scheduler.sigmas[:-1])
    assert sigma_range(denoiser) == (0.01, 50.0) and data_std(denoiser) == 0.6


@pytest.mark.parametrize(("kind", "s", "top"), [("playground", 0.5, 80.0), ("cosxl", 1.0, 120.0), ("sdxl", 1.0, 14.6)])
def test_walks_follow_the_deviation_of_its_latents(made: Made, kind: str, s: float, top: float) -> None:
    """As the host's session has it (docs/presets.md)."""
    model = made(kind)
    units = units_of(model, 1024, 1024)
    assert (units.data_std, units.sigma_max) == (s, pytest.approx(top, rel=2e-3))
    assert data_std(model.denoiser(PROMPT, NEGATIVE, 3.0)) == s


@pytest.mark.parametrize("kind", EDM)
def test_it_is_distilled(made: Made, kind: str) -> None:
    for method in ("msd", "sds"):
        more = {"estimator": "exact", "inner_steps": 1} if method == "msd" else {}
        *_, state = distil(PROMPT, model=made(kind), method=method, size=(16, 16), steps=2, cfg=2.0, **more)
        assert state.info.norm > 0 and bool(state.picture().isfinite().all())


def test_it_comes_back_from_a_folder(made: Made, tmp_path: Path) -> None:
    model = made("playground")
    model.family.pipe.save_pretrained(tmp_path / "saved")
    again, z = load_pipeline(tmp_path / "saved", device="cpu"), 3 * noise(model)
    torch.testing.assert_close(again.denoiser(PROMPT)(z, 3.0), model.denoiser(PROMPT)(z, 3.0))
    torch.testing.assert_close(again.decode(z), model.decode(z))


MOMENTS = {"latents_mean": [-1.6, 1.9, -1.4, 2.5], "latents_std": [8.4, 5.9, 6.2, 4.1]}


@pytest.mark.parametrize(
    "said", [MOMENTS, {"latents_mean": MOMENTS["latents_mean"]}, {"latents_std": MOMENTS["latents_std"]}, {}]
)
def test_latents_have_the_moments_that_the_autoencoder_says(
    made: Made, said: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Decoded as by the library's pipeline, and encoded as by its pipeline from pictures; one of the two is none."""
    from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

    model = made("sdxl")
    pipe: Any = model.family.pipe
    pipe.vae.register_to_config(scaling_factor=0.5, **said)
    x, theirs = (walked(model, 1.0, output_type=kind) for kind in ("latent", "pt"))
    torch.testing.assert_close(model.decode(x), theirs, atol=1e-4, rtol=1e-3)
    monkeypatch.setattr(DiagonalGaussianDistribution, "sample", lambda self, generator=None: self.mode())
    picture = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    encode = StableDiffusionXLImg2ImgPipeline(**pipe.components, add_watermarker=False).prepare_latents
    wanted = encode(2 * picture - 1, None, 1, 1, torch.float32, torch.device("cpu"), add_noise=False)
    torch.testing.assert_close(model.encode(picture), wanted, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(model.family.unscaled(model.family.scaled(x)), x, atol=1e-5, rtol=1e-4)
    pipe.vae.register_to_config(**{name: None for name in MOMENTS})
    assert torch.allclose(model.encode(picture), wanted, atol=1e-3) == (said != MOMENTS)


def test_stable_diffusion_1_knows_no_moments(made: Made) -> None:
    """Its pipeline does not look at them."""
    model = made("sd1")
    model.family.pipe.vae.register_to_config(**MOMENTS)
    x, theirs = (walked(model, 1.0, output_type=kind) for kind in ("latent", "pt"))
    torch.testing.assert_close(model.decode(x), theirs, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("zero", [False, True])
@pytest.mark.parametrize(
    "kind", ["DDIM", "DDPM", "EulerDiscrete", "EulerAncestralDiscrete", "DPMSolverMultistep", "UniPCMultistep", "LCM"]
)
def test_it_is_what_was_rebuilt_for_each_evaluation(made: Made, kind: str, prediction: str, zero: bool) -> None:
    """To the bit: the levels of a DDPM scheduler of the same configuration, made anew."""
    options = {**BETAS, "prediction_type": prediction, "rescale_betas_zero_snr": zero}
    scheduler = getattr(diffusers, f"{kind}Scheduler")(**options)
    denoiser, z = (model := made("sd1", scheduler)).denoiser(PROMPT), noise(model)
    alphas = diffusers.DDPMScheduler.from_config(scheduler.config).alphas_cumprod.double()
    if alphas[-1] == 0:
        alphas[-1] = of_scheduler.TERMINAL
    by = {"epsilon": EpsDenoiser, "v_prediction": VDenoiser}[prediction]
    before = by(denoiser._network(denoiser.cond), DiscreteSchedule(alphas))
    for sigma in (0.05, 1.0, 9.0, 5000.0):
        assert torch.equal(denoiser(z, sigma), before(z, sigma))
    assert sigma_range(denoiser) == sigma_range(before)
    assert denoiser.percent_to_sigma(0.3) == before.percent_to_sigma(0.3)


def test_levels_by_default_are_the_scheduler_s_own(made: Made) -> None:
    """LCM's are not those that a DDPM scheduler would take where nothing is said."""
    denoiser = made("sd1", diffusers.LCMScheduler()).denoiser(PROMPT)
    assert denoiser.sigma_max == pytest.approx(14.6146, abs=1e-3)


def test_a_scheduler_is_read_once(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not for each evaluation, level or prompt; another one is read when it is there."""
    read: list[object] = []
    parametrized, schedule = of_scheduler.parametrized, of_scheduler.DiscreteSchedule
    monkeypatch.setattr(of_scheduler, "parametrized", lambda family: (read.append(family), parametrized(family))[1])
    monkeypatch.setattr(of_scheduler, "DiscreteSchedule", lambda alphas: (read.append(alphas), schedule(alphas))[1])
    model = made("sd1")
    assert len(read) == 2
    first = model.denoiser(PROMPT, NEGATIVE, 2.0)
    for level in (first.sigma_max, first.sigma_min, first.percent_to_sigma(0.5)):
        first(noise(model), level)
    *_, state = distil(PROMPT, model=model, method="sds", size=(16, 16), steps=3, cfg=2.0)
    assert state.step == 3 and len(read) == 2
    top = first.sigma_max
    model.family.pipe.scheduler = diffusers.DDIMScheduler(**BETAS | {"beta_end": 0.02})
    assert model.denoiser(PROMPT).sigma_max > 1.5 * top and len(read) == 4
    assert first.sigma_max == top


def test_a_flow_in_another_scheduler_is_shifted_as_that_says(made: Made) -> None:
    flow = {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}
    plain, shifted = (diffusers.UniPCMultistepScheduler(**flow, flow_shift=shift) for shift in (1.0, 3.0))
    denoiser = made("sd3", shifted).denoiser(PROMPT)
    for scheduler in (plain, shifted):
        scheduler.set_timesteps(8)
    ours = torch.tensor([denoiser.percent_to_sigma(1 - float(t)) for t in plain.sigmas[1:-1]])
    torch.testing.assert_close(ours / (1 + ours), shifted.sigmas[1:-1], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("kind", "scheduler", "message"),
    [
        ("sdxl", diffusers.FlowMatchEulerDiscreteScheduler(), "got a FlowMatchEulerDiscreteScheduler for a StableDiff"),
        ("sd1", diffusers.DDIMScheduler(prediction_type="sample"), "got a DDIMScheduler with prediction_type 'sample'"),
        ("sdxl", EDMDPMSolverMultistepScheduler(prediction_type="sample"), "got a EDM.* with prediction_type 'sample'"),
        (
            "sd2",
            diffusers.EulerDiscreteScheduler(timestep_type="continuous", prediction_type="v_prediction"),
            "got a EulerDiscreteScheduler with prediction_type 'v_prediction', timestep_type 'continuous'",
        ),
        (
            "sd1",
            diffusers.UniPCMultistepScheduler(use_flow_sigmas=True, prediction_type="flow_prediction"),
            "got a UniPC.* with prediction_type 'flow_prediction'",
        ),
        ("sd3", diffusers.DDIMScheduler(), "got a DDIMScheduler with prediction_type 'epsilon' for a StableDiffusion3"),
        ("flux", EDMEulerScheduler(), "got a EDMEulerScheduler with prediction_type 'epsilon' for a FluxPipeline"),
        ("sd3", diffusers.FlowMatchEulerDiscreteScheduler(invert_sigmas=True), "got a Flow.* with invert_sigmas True"),
    ],
)
def test_a_scheduler_that_is_not_understood_is_named(made: Made, kind: str, scheduler: Any, message: str) -> None:  # noqa: ANN401
    """When the model is made, and when the scheduler was exchanged afterwards."""
    allowed = ".*; allowed are .*FlowMatchEuler.* Give the" if kind in ("sd3", "flux") else ".*; allowed are .*EDMEuler"
    with pytest.raises(ValueError, match=f"^scheduler: {message}{allowed}"):
        made(kind, scheduler)
    model = made(kind)
    model.family.pipe.scheduler = scheduler
    with pytest.raises(ValueError, match=f"^scheduler: {message}"):
        model.denoiser(PROMPT)
