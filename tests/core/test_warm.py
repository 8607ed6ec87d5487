"""A warm start: the sample is DDIM's own, its cost is counted, and a run begins where it shows the picture."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from msd_core import ddim_sample, distil, load_model, sample
from msd_core.cli.main import main
from msd_core.cli.pictures import read_picture

PROMPT = "a red boat left of a yellow house at sea"
QUICK = ("--steps", "2", "--estimator", "one-step", "--threads", "1", "--lr", "1e-6")
SMALL = {"width": 64, "height": 32}


def psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(-10 * (a - b).square().mean().log10())


def test_a_sample_is_the_ddim_walk_of_its_own_noise() -> None:
    model = load_model()
    made = sample(model, PROMPT, cfg=3.0, n=2, seed=7, steps=4, **SMALL)
    assert made.pictures.shape == (2, 3, 32, 64) and made.evaluations == 2 * 4 * 2
    denoiser = model.denoiser(PROMPT, "", 3.0)
    levels = torch.tensor([*(denoiser.percent_to_sigma(i / 4) for i in range(4)), 0.0], dtype=torch.float64)
    noise = torch.randn(1, 4, 4, 8, generator=torch.Generator().manual_seed(8))
    with torch.no_grad():
        by_hand = model.decode(ddim_sample(noise * (1 + levels[0] ** 2) ** 0.5, denoiser, levels)).clamp(0, 1)
    assert psnr(by_hand, made.pictures[1:]) > 100
    assert psnr(made.pictures[:1], made.pictures[1:]) < 40


@pytest.mark.parametrize(
    ("wrong", "message"), [({"width": 60}, "width: got 60.*Use 56"), ({"steps": 0}, "steps"), ({"n": 0}, "n: got 0")]
)
def test_bad_input(wrong: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sample(load_model(), PROMPT, **wrong)


def test_a_run_begins_with_its_sample() -> None:
    options = {"steps": 1, "estimator": "one-step", "size": (64, 32), "seed": 7, "lr": 1e-9}
    wanted = sample(load_model(), PROMPT, cfg=3.0, seed=7, **SMALL).pictures
    (warm,), (cold,) = distil(PROMPT, start="sample", **options), distil(PROMPT, **options)
    assert psnr(warm.picture(), wanted) > 30 > psnr(cold.picture(), wanted)
    with pytest.raises(ValueError, match="start: got 'noise'"):
        distil(PROMPT, start="noise", **options)
    with pytest.raises(ValueError, match="start: got 'sample' with a prompt by view"):
        distil(lambda view: PROMPT, start="sample", **options)


def test_the_command_counts_the_start_and_resumes(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    whole, words = tmp_path / "whole", ("--size", "64x64", "--start", "sample")
    assert main(["distill", PROMPT, "--out", str(whole), *words, *QUICK]) == 0
    metrics = json.loads((whole / "metrics.json").read_text())
    steps = sum(step["evaluations"] for step in metrics["steps"])
    assert metrics["settings"]["start"] == "sample" and metrics["evaluations"] == 64 + steps
    assert f"{64 + steps} evaluations" in capsys.readouterr().out


def test_the_command_begins_with_a_picture(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    photo, out = tmp_path / "photo.png", tmp_path / "out"
    Image.linear_gradient("L").convert("RGB").save(photo)
    words = ("distill", PROMPT, "--out", str(out), "--size", "64x64", *QUICK)
    assert main([*words, "--start", str(photo)]) == 0
    drawn, wanted = (read_picture(file) for file in (out / "picture.png", photo))
    assert psnr(torch.nn.functional.interpolate(drawn, (256, 256), mode="area"), wanted) > 25
    (tmp_path / "text.png").write_text("no picture")
    for wrong, message in (("none.png", "--start: got"), ("text.png", "cannot be read as a picture")):
        assert main([*words, "--start", str(tmp_path / wrong), "--force"]) == 2
        assert message in capsys.readouterr().err
    Image.new("RGBA", (8, 8)).save(photo)
    with pytest.raises(ValueError, match="is transparent"):
        read_picture(photo)


def test_other_levels_may_be_walked_and_each_step_is_told() -> None:
    model, told = load_model(), []
    levels = torch.tensor([5.0, 1.0, 0.0])
    made = sample(model, PROMPT, seed=3, sigmas=levels, on_step=lambda *where: told.append(where), **SMALL)
    noise = torch.randn(1, 4, 4, 8, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        by_hand = model.decode(ddim_sample(noise * 26**0.5, model.denoiser(PROMPT), levels)).clamp(0, 1)
    assert psnr(by_hand, made.pictures) > 100 and made.evaluations == 2 and told == [(1, 2), (2, 2)]
    assert psnr(sample(model, PROMPT, seed=3, steps=2, **SMALL).pictures, made.pictures) < 40


def test_the_command_draws_the_sample_that_all_else_begins_with(tmp_path: Path) -> None:
    out, words = tmp_path / "two.png", ("--size", "64x32", "--steps", "4", "--seed", "7", "--n", "2")
    assert main(["sample", PROMPT, "--out", str(out), *words]) == 0
    wanted = sample(load_model(), PROMPT, cfg=3.0, n=2, seed=7, steps=4, **SMALL).pictures
    assert psnr(read_picture(out), torch.cat(list(wanted[:, None]), dim=3)) > 55
    assert main(["sample", PROMPT, "--out", str(out), *words, "--scheduler", "normal"]) == 0
    assert psnr(read_picture(out), torch.cat(list(wanted[:, None]), dim=3)) < 40
