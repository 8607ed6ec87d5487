"""The commands that draw and change pictures, on pipelines in the place of the demo model."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

pytest.importorskip("diffusers", reason="diffusers is not installed: pip install '.[diffusers]'")
pytest.importorskip("transformers", reason="transformers is not installed: pip install '.[diffusers]'")

sys.path.insert(0, str(Path(__file__).parent))
from tiny_pipelines import EDM, KINDS, pipeline

from msd_core import load_model, sample, sigma_schedule
from msd_core.cli.main import main
from msd_core.cli.models import levels, pixels_of
from msd_core.denoiser import sigma_range
from msd_core.pipelines.model import PipelineModel
from msd_core.schedule import SIGMA_SCHEDULES

pytestmark = pytest.mark.core
PROMPT = "a red cup"


def pixels(file: Path) -> Tensor:
    """A picture's file as (3, H, W) in [0, 1]."""
    return torch.from_numpy(np.array(Image.open(file).convert("RGB"))).movedim(-1, 0) / 255


@pytest.fixture(scope="module", params=["sd1", "flux"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline, saved."""
    path = tmp_path_factory.mktemp(request.param)
    pipeline(request.param, path / "words").save_pretrained(path / "model")  # type: ignore[attr-defined]
    return path / "model"


@pytest.fixture
def given(folder: Path, tmp_path: Path) -> tuple[list[str], str]:
    """The flags that name the model, and the file of a picture of 32 x 32."""
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (32, 32, 3), np.uint8)).save(tmp_path / "picture.png")
    return ["--model", str(folder), "--model-kind", "diffusers", "--device", "cpu"], str(tmp_path / "picture.png")


def test_a_sample_is_the_one_of_the_function(given: tuple[list[str], str], folder: Path, tmp_path: Path) -> None:
    words = ["sample", PROMPT, "--size", "32x48", "--steps", "3", "--seed", "5", "--out", str(tmp_path / "s.png")]
    assert main([*words, *given[0]]) == 0
    wanted = sample(
        load_model(folder, "diffusers", device="cpu"), PROMPT, cfg=3.0, width=32, height=48, steps=3, seed=5
    )
    torch.testing.assert_close(pixels(tmp_path / "s.png"), wanted.pictures[0], atol=0.003, rtol=0)
    assert main([*words, *given[0], "--scheduler", "karras"]) == 0
    assert float((pixels(tmp_path / "s.png") - wanted.pictures[0]).abs().max()) > 0.01


def test_pictures_are_changed_by_it(
    given: tuple[list[str], str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags, picture = given
    mask = Image.new("L", (32, 32))
    mask.paste(255, (0, 0, 16, 32))
    mask.save(tmp_path / "mask.png")
    out = tmp_path / "out.png"
    flags = [*flags, "--steps", "3", "--out", str(out)]
    before = pixels(Path(picture))
    for words in (
        ["inpaint", picture, PROMPT, "--mask", str(tmp_path / "mask.png")],
        ["edit", picture, "--to", "a blue cup", "--from", PROMPT, "--mask", str(tmp_path / "mask.png")],
    ):
        assert main([*words, *flags]) == 0
        after = pixels(out)
        assert torch.equal(after[..., 16:], before[..., 16:]) and not torch.equal(after[..., :16], before[..., :16])
    assert main(["restore", picture, PROMPT, "--task", "x2", *flags]) == 0
    assert Image.open(out).size == (64, 64)
    capsys.readouterr()
    assert main(["invert", picture, "--prompt", PROMPT, "--inversion", "direct", *flags]) == 0
    said = capsys.readouterr().out
    assert float(said.split(" dB against")[0].split()[-1]) > 60


def test_wrong_models_are_refused_by_flag(
    given: tuple[list[str], str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags, picture = given
    out = ["--out", str(tmp_path / "out.png")]
    for wrong, says in (
        ([*flags, "--dtype", "int8"], "--dtype: got 'int8'"),
        (["--model", str(tmp_path / "none")], "--model: there is no file"),
        (["--model", str(tmp_path / "none"), "--model-kind", "diffusers"], "--model: "),
        (["--model-kind", "diffusers"], "--model: got none with --model-kind diffusers"),
        (["--model-kind", "coarse"], "--model-kind: got 'coarse'; allowed are 'demo'"),
        (["--device", "cpu"], "--device: got 'cpu' with --model-kind demo"),
    ):
        for words in (["sample", PROMPT], ["restore", picture, PROMPT, "--task", "x2"]):
            assert main([*words, *out, *wrong]) == 2
            assert f"msd: error: {says}" in capsys.readouterr().err


@pytest.mark.parametrize("kind", [*KINDS, *EDM])
def test_every_schedule_is_one_of_every_model(kind: str, tmp_path: Path) -> None:
    model = PipelineModel.of(pipeline(kind, tmp_path))
    assert pixels_of(model) == (2 if kind in ("sd3", "flux") else 1) * model.cell
    denoiser = model.denoiser(PROMPT)
    low, high = sigma_range(denoiser)
    schedule = getattr(denoiser._alone(denoiser.cond), "schedule", None)
    for name in SIGMA_SCHEDULES:
        found = levels(name, 7, model, denoiser)
        assert found.shape == (8,) and found[-1] == 0 and bool((found[1:] < found[:-1]).all()), name
        assert float(found[0]) == pytest.approx(high, rel=1e-4)
        assert name == "sgm_uniform" or float(found[-2]) == pytest.approx(low, rel=1e-4), name
        if schedule is not None:
            own = sigma_schedule(name, 7, schedule=schedule)
            torch.testing.assert_close(found, own, rtol=1e-4, atol=1e-6, check_dtype=False)
