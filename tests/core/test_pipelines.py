"""Pipelines of diffusers as models: their denoisers walk the library's own paths, and every method runs on them."""

from __future__ import annotations

import itertools
import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

pytest.importorskip("diffusers", reason="diffusers is not installed: pip install '.[diffusers]'")
pytest.importorskip("transformers", reason="transformers is not installed: pip install '.[diffusers]'")
sys.path.insert(0, str(Path(__file__).parent))
from tiny_pipelines import KINDS, pipeline

from msd_core import ddim_sample, distil, load_generator, load_model, sample
from msd_core.cli import run
from msd_core.cli.main import main
from msd_core.pipelines.families import unpacked
from msd_core.pipelines.model import PipelineModel, load_pipeline

pytestmark = pytest.mark.core
PROMPT, NEGATIVE = "a red cup", "a cat"
DIFFUSION = ("sd1", "sd2", "sdxl")
FLOWS = ("sd3", "flux")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], PipelineModel]:
    known: dict[str, PipelineModel] = {}

    def get(kind: str) -> PipelineModel:
        if kind not in known:
            known[kind] = PipelineModel.of(pipeline(kind, tmp_path_factory.mktemp(kind)))
        return known[kind]

    return get


def noise(model: PipelineModel, rows: int = 1, side: int = 8) -> Tensor:
    rng = torch.Generator().manual_seed(0)
    return torch.randn(rows, model.channels, side, side, generator=rng)


@pytest.mark.parametrize("kind", DIFFUSION)
@pytest.mark.parametrize("cfg", [1.0, 3.0])
def test_ddim_walks_the_library_s_path(made: Callable[[str], PipelineModel], kind: str, cfg: float) -> None:
    """The whole pipeline with its DDIM scheduler, and `ddim_sample` on the same levels, from the same noise."""
    model = made(kind)
    pipe, start = model.family.pipe, noise(model)
    side = {"height": 8 * model.cell, "width": 8 * model.cell}
    theirs = pipe(
        PROMPT, negative_prompt=NEGATIVE, guidance_scale=cfg, num_inference_steps=5, latents=start,
        output_type="latent", return_dict=False, **side,
    )[0]  # fmt: skip
    alphas = torch.cat([pipe.scheduler.alphas_cumprod[pipe.scheduler.timesteps], pipe.scheduler.alphas_cumprod[:1]])
    sigmas = ((1 - alphas) / alphas).sqrt()
    denoiser = model.denoiser(PROMPT, NEGATIVE if cfg != 1 else "", cfg)
    ours = ddim_sample(start / alphas[0].sqrt(), denoiser, sigmas) * alphas[-1].sqrt()
    torch.testing.assert_close(ours, theirs, atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize("kind", FLOWS)
def test_euler_walks_the_library_s_path(made: Callable[[str], PipelineModel], kind: str) -> None:
    """Flow models: Euler in t is DDIM in sigma. The path begins below t = 1, where sigma is infinite."""
    model, levels = made(kind), [0.9, 0.6, 0.3]
    pipe, start = model.family.pipe, noise(model)
    latents = start if kind == "sd3" else pipe._pack_latents(start, 1, model.channels, 8, 8)
    side = {"height": 8 * model.cell, "width": 8 * model.cell}
    theirs = pipe(
        PROMPT, guidance_scale=3.5 if kind == "flux" else 1.0, num_inference_steps=3, sigmas=levels, latents=latents,
        output_type="latent", return_dict=False, **side,
    )[0]  # fmt: skip
    theirs = theirs if kind == "sd3" else unpacked(theirs, 8, 8)
    t = torch.tensor([*levels, 0.0])
    ours = ddim_sample(start / (1 - t[0]), model.denoiser(PROMPT), t / (1 - t))
    torch.testing.assert_close(ours, theirs, atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize("kind", FLOWS)
@pytest.mark.parametrize(
    "shifted", [{}, {"shift": 3.0}, {"use_dynamic_shifting": True}, {"use_dynamic_shifting": True, "shift": 2.0}]
)
def test_a_flow_s_chain_has_its_scheduler_s_levels(
    made: Callable[[str], PipelineModel], kind: str, shifted: dict, tmp_path: Path
) -> None:
    """Those that the library walks at the model's own size: a fraction of the chain is no fraction of t."""
    from diffusers import FlowMatchEulerDiscreteScheduler
    from diffusers.pipelines.flux.pipeline_flux import calculate_shift

    model, steps = PipelineModel.of(pipeline(kind, tmp_path)), 8
    scheduler = model.family.pipe.scheduler = FlowMatchEulerDiscreteScheduler(**shifted)
    cells = (model.side // model.cell // 2) ** 2
    mu = {"mu": calculate_shift(cells)} if "use_dynamic_shifting" in shifted else {}
    scheduler.set_timesteps(sigmas=[1 - i / steps for i in range(steps)], **mu)
    denoiser = model.denoiser(PROMPT)
    ours = torch.tensor([denoiser.percent_to_sigma(i / steps) for i in range(1, steps)])
    torch.testing.assert_close(ours / (1 + ours), scheduler.sigmas[1:-1])
    assert not shifted or float((scheduler.sigmas[1:-1] - torch.linspace(1, 0, steps + 1)[1:-1]).abs().max()) > 0.05


def test_a_chain_that_ends_in_noise_alone(tmp_path: Path) -> None:
    """Rescaled to a last level of infinity, where v is all that the network can say; the other levels stay."""
    from diffusers import DDPMScheduler

    model = PipelineModel.of(pipeline("sd2", tmp_path))
    pipe = model.family.pipe
    pipe.scheduler = type(pipe.scheduler).from_config(pipe.scheduler.config, rescale_betas_zero_snr=True)
    denoiser = model.denoiser(PROMPT)
    alphas = DDPMScheduler.from_config(pipe.scheduler.config).alphas_cumprod.double()
    assert alphas[-1] == 0 and 4000 < denoiser.sigma_max < 5000
    middle = denoiser.percent_to_sigma(1 - 500 / 999)
    assert middle == pytest.approx(float(((1 - alphas[500]) / alphas[500]).sqrt()), rel=1e-3)
    assert bool(sample(model, PROMPT, cfg=1.0, width=16, height=16, steps=2).pictures.isfinite().all())


def test_the_autoencoder_of_xl_stays_in_float32(made: Callable[[str], PipelineModel], tmp_path: Path) -> None:
    """Beside a network in half precision, as in the library's own pipeline; unless its configuration says otherwise."""
    pipe = made("sdxl").family.pipe
    pipe.save_pretrained(tmp_path)
    half = load_pipeline(tmp_path, dtype="float16", device="cpu").family
    assert (half.pipe.vae.dtype, half.network.dtype) == (torch.float32, torch.float16)
    config = tmp_path / "vae" / "config.json"
    config.write_text(config.read_text().replace('"force_upcast": true', '"force_upcast": false'))
    assert load_pipeline(tmp_path, dtype="float16", device="cpu").family.pipe.vae.dtype == torch.float16


@pytest.mark.parametrize("kind", KINDS)
def test_the_size_is_the_library_s_own(made: Callable[[str], PipelineModel], kind: str) -> None:
    model = made(kind)
    default = getattr(model.family.pipe, "default_sample_size", None) or model.family.pipe.unet.config.sample_size
    assert model.side == default * model.cell == (256 if kind == "flux" else 32)


@pytest.mark.parametrize("kind", KINDS)
def test_encode_and_decode_are_the_pipeline_s(made: Callable[[str], PipelineModel], kind: str) -> None:
    model = made(kind)
    picture = torch.rand(2, 3, 4 * model.cell, 6 * model.cell, generator=torch.Generator().manual_seed(1))
    x = model.encode(picture)
    assert x.shape == (2, model.channels, 4, 6)
    config = model.family.pipe.vae.config
    raw = model.family.pipe.vae.encode(2 * picture - 1).latent_dist.mean
    torch.testing.assert_close(x, (raw - (config.get("shift_factor") or 0)) * config.scaling_factor)
    decoded = model.family.pipe.vae.decode(raw).sample / 2 + 0.5
    torch.testing.assert_close(model.decode(x), decoded.clamp(0, 1), atol=1e-4, rtol=1e-3)
    given = picture.requires_grad_()
    model.encode(given).square().sum().backward()
    assert float(given.grad.abs().sum()) > 0


@pytest.mark.parametrize("kind", KINDS)
def test_rows_have_their_own_prompts(made: Callable[[str], PipelineModel], kind: str) -> None:
    model = made(kind)
    z = noise(model, 4) * 2
    sigma = torch.tensor([0.5, 1.0, 2.0, 3.0])
    both = model.denoiser(["a red cup", "a cat"], NEGATIVE, 2.0)(z, sigma)
    for row in range(4):
        alone = model.denoiser(["a red cup", "a cat"][row % 2], NEGATIVE, 2.0)(z[row : row + 1], sigma[row])
        torch.testing.assert_close(both[row : row + 1], alone, atol=1e-4, rtol=1e-3)
    assert not torch.allclose(both[0], model.denoiser("a cat", NEGATIVE, 2.0)(z[:1], 0.5)[0], atol=1e-4)


def test_guidance_is_between_its_parts(made: Callable[[str], PipelineModel]) -> None:
    model = made("sd1")
    z, denoiser = noise(model), model.denoiser(PROMPT, NEGATIVE, 3.0)
    cond, uncond = denoiser.parts(z, 1.5)
    torch.testing.assert_close(denoiser(z, 1.5), uncond + 3 * (cond - uncond))
    torch.testing.assert_close(denoiser.uncond(z, 1.5), uncond, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(denoiser.with_cfg(1.0)(z, 1.5), cond, atol=1e-5, rtol=1e-4)
    assert (denoiser.cost, denoiser.uncond.cost) == (2, 1) and denoiser.sigma_max > 14 > 0.03 > denoiser.sigma_min


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_distilled(made: Callable[[str], PipelineModel], kind: str) -> None:
    size = (8 * made(kind).cell, 8 * made(kind).cell)
    for method in ("msd", "sds", "sdi"):
        more = {"estimator": "one-step", "inner_steps": 1} if method == "msd" else {}
        *_, state = distil(PROMPT, model=made(kind), method=method, size=size, steps=2, cfg=2.0, **more)
        assert state.info.norm > 0 and bool(state.picture().isfinite().all())


def test_a_folder_is_loaded_offline(
    made: Callable[[str], PipelineModel], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    model = made("sd1")
    model.family.pipe.save_pretrained(tmp_path / "sd")
    again = load_model(tmp_path / "sd", "diffusers")
    z = noise(model)
    found, wanted = (one.denoiser(PROMPT, NEGATIVE, 2.0)(z, 1.0) for one in (again, model))
    torch.testing.assert_close(found, wanted)
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)  # the library's, of an argument's old name
        half = load_pipeline(tmp_path / "sd", dtype="bfloat16").denoiser(PROMPT)(z, 1.0)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, model.denoiser(PROMPT)(z, 1.0), atol=0.1, rtol=0.1)
    assert sample(again, PROMPT, cfg=1.0, width=32, height=32, steps=2).pictures.shape == (1, 3, 32, 32)
    out = tmp_path / "out"
    command = ["distill", "a red cup", "--model", str(tmp_path / "sd"), "--model-kind", "diffusers", "--out", str(out)]
    quick = ["--size", "32x32", "--steps", "2", "--estimator", "one-step", "--inner-steps", "1"]
    placed = ["--device", "cpu", "--dtype", "bfloat16", "--offload", "none"]
    assert main([*command, *quick, *placed]) == 0 and (out / "picture.png").is_file()
    assert json.loads((out / "metrics.json").read_text())["settings"]["dtype"] == "bfloat16"
    for flag, value in (("--device", "nowhere"), ("--dtype", "int8"), ("--offload", "disk")):
        assert main([*command, flag, value, "--force"]) == 2
        assert f"msd: error: {flag}: got '{value}'" in capsys.readouterr().err
    assert main(["distill", PROMPT, "--out", str(tmp_path / "demo"), "--dtype", "float16"]) == 2
    assert "--dtype: got 'float16' with --model-kind demo" in capsys.readouterr().err


def test_a_run_goes_on_in_its_own_precision(
    made: Callable[[str], PipelineModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """Stopped after a step; the same to the bit as without, although what goes on says nothing of its dtype.

    With other weights in the folder it does not go on.
    """
    made("sd1").family.pipe.save_pretrained(tmp_path / "sd")
    words = ["distill", PROMPT, "--model", str(tmp_path / "sd"), "--model-kind", "diffusers", "--size", "32x32"]
    words += ["--steps", "2", "--method", "sds", "--dtype", "bfloat16", "--device", "cpu"]
    assert main([*words, "--out", str(tmp_path / "whole")]) == 0
    written = run.Run.optimise

    def stopped(self: run.Run, seconds: float) -> None:
        self.states = itertools.islice(self.states, 1)
        written(self, seconds)
        raise KeyboardInterrupt

    monkeypatch.setattr(run.Run, "optimise", stopped)
    assert main([*words, "--out", str(tmp_path / "half")]) == 130
    monkeypatch.undo()
    on = ["distill", "--resume", "--out", str(tmp_path / "half"), *words[2:6]]
    weights = next((tmp_path / "sd" / "unet").glob("*.safetensors"))
    true = weights.read_bytes()
    weights.write_bytes(true[:-1] + bytes([true[-1] ^ 1]))
    assert main(on) == 2 and "--model: got other weights than those of the run" in capsys.readouterr().err
    weights.write_bytes(true)
    assert main(on) == 0
    whole, half = (load_generator(tmp_path / name / "generator.safetensors") for name in ("whole", "half"))
    for name, value in whole.state_dict().items():
        assert torch.equal(value, half.state_dict()[name]), name


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: load_pipeline(None), r"^path: got none; allowed is a folder of diffusers"),
        (lambda: load_pipeline("nowhere"), r"^path: 'nowhere' is not there"),
        (lambda: load_pipeline("nowhere", dtype="int8"), r"^dtype: got 'int8'; allowed are 'float32'"),
        (lambda: load_pipeline("nowhere", offload="disk"), r"^offload: got 'disk'; allowed are 'none'"),
        (lambda: load_pipeline("nowhere", offload="model", device="cpu"), r"^offload: got 'model' on the CPU"),
        (lambda: load_model(None, "demo", dtype="float16"), r"^dtype: got 'float16' for a model of the kind 'demo'"),
        (lambda: load_pipeline(Path(__file__).parent), r"^path: .* has no model_index.json"),
        (lambda: PipelineModel.of(object()), r"^pipe: got a object; allowed are StableDiffusionPipeline, "),
    ],
)
def test_wrong_input_is_named(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_a_size_that_does_not_fit_is_named(made: Callable[[str], PipelineModel]) -> None:
    with pytest.raises(ValueError, match=r"^z: got .* multiples of 2 cells for a FluxPipeline"):
        made("flux").denoiser(PROMPT)(torch.zeros(1, made("flux").channels, 7, 8), 1.0)
