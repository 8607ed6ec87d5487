"""Edit, inpaint, restore: the picture is the prompt's, what was to stay is the same to the bit, bad input is told."""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from msd_core import edit, inpaint, restore
from msd_core.cli.main import main
from msd_core.cli.pictures import read_picture, to_pil
from msd_core.demo.grammar import parse
from msd_core.demo.judge import judge
from msd_core.demo.scenes import draw
from msd_core.denoiser import Denoiser, Wrapped
from msd_core.finite import NonFiniteError
from msd_core.generators import cover
from msd_core.manipulation.result import pasted
from msd_core.measurement import MEASUREMENTS, Observation, observe
from msd_core.measurement.blur import Blur
from msd_core.measurement.pool import Pool
from msd_core.model import load_model
from msd_core.posterior import INVERSE_SOLVERS, RESTORERS
from msd_core.posterior.conditional import OfConditional
from msd_core.posterior.kalman import Kalman
from msd_core.posterior.psld import PSLD

pytestmark = pytest.mark.core
BEFORE, AFTER = "a red boat left of a yellow house at sea", "a red boat left of a green fir at sea"


@pytest.fixture(scope="module")
def model():  # noqa: ANN201
    return load_model()


@pytest.fixture(scope="module")
def picture() -> Tensor:
    return draw([parse(BEFORE)], 128)


@pytest.fixture(scope="module")
def hole() -> Tensor:
    """Around the house, with a soft edge."""
    mask = torch.zeros(128, 128)
    mask[30:92, 68:126] = 1
    mask[30, 68:126] = 0.5
    return mask


def psnr(a: Tensor, b: Tensor) -> float:
    return float(-10 * (a - b).square().mean().log10())


def test_a_hole_is_filled_as_the_prompt_says(model, picture: Tensor, hole: Tensor) -> None:  # noqa: ANN001
    filled = inpaint(picture, hole, AFTER, model=model)
    assert judge(filled.picture[0], parse(AFTER)).accepted and not judge(picture[0], parse(AFTER)).accepted
    stays = hole == 0
    assert torch.equal(filled.picture[..., stays], picture[..., stays])
    assert filled.kept is not None and filled.kept > 25 and filled.evaluations == 16 * 3
    spoilt = torch.where(hole > 0, 0.0, picture)
    again = inpaint(torch.where(hole == 1, spoilt, picture), hole, AFTER, model=model)
    assert psnr(again.picture[..., hole == 1], filled.picture[..., hole == 1]) > 40, "what was in it plays no part"
    other = inpaint(picture, hole, AFTER, model=model, seed=1, steps=2)
    assert not torch.equal(other.picture, inpaint(picture, hole, AFTER, model=model, steps=2).picture)


def test_an_edit_changes_what_the_words_do_and_keeps_the_rest(model, picture: Tensor, hole: Tensor) -> None:  # noqa: ANN001
    target = "a red boat left of a blue house at sea"
    made = edit(picture, target, model=model, mask=hole, steps=30)
    assert judge(made.picture[0], parse(target)).accepted and made.evaluations == 91
    assert torch.equal(made.picture[..., hole == 0], picture[..., hole == 0])
    still = edit(picture, target, model=model, strength=0.0, steps=30)
    assert psnr(still.picture, picture) > 30 and still.kept is None
    assert not judge(still.picture[0], parse(target)).accepted
    known = edit(picture, target, BEFORE, model=model, steps=30)
    assert judge(known.picture[0], parse(target)).accepted and known.evaluations == 61
    assert psnr(known.picture[..., hole == 0], picture[..., hole == 0]) > 26


@pytest.mark.parametrize(("measurement", "least"), [(Pool(8), 25.0), (Blur(4.0), 28.0)], ids=["x8", "blur"])
def test_what_is_restored_is_the_picture(model, picture: Tensor, measurement, least: float) -> None:  # noqa: ANN001
    found = restore(observe(picture, measurement), (128, 128), BEFORE, model=model, steps=16)
    assert psnr(found.picture, picture) > least and found.evaluations == 16
    assert judge(found.picture[0], parse(BEFORE)).accepted
    assert psnr(measurement.apply(found.picture), measurement.apply(picture)) > 45


def test_temperature_0_is_nearer_than_samples_and_has_no_seed(model, picture: Tensor, hole: Tensor) -> None:  # noqa: ANN001
    def filled(temperature: float, seed: int) -> Tensor:
        told = {"model": model, "steps": 8, "seed": seed, "space": "pixels", "temperature": temperature}
        found = inpaint(picture, hole, BEFORE, **told)
        assert found.evaluations == 8 and found.kept is not None and found.kept > 25
        assert torch.equal(found.picture[..., hole == 0], picture[..., hole == 0])
        return found.picture

    cold, again = filled(0.0, 0), filled(0.0, 1)
    assert torch.equal(cold, again) and judge(cold[0], parse(BEFORE)).accepted
    near = [psnr(filled(1.0, seed)[..., hole == 1], picture[..., hole == 1]) for seed in (0, 1)]
    assert psnr(cold[..., hole == 1], picture[..., hole == 1]) > sum(near) / len(near)
    spoilt = torch.where(hole > 0, 0.0, picture)
    again = inpaint(spoilt, hole, BEFORE, model=model, steps=8, space="pixels", temperature=0.0).picture
    assert psnr(again[..., hole == 1], cold[..., hole == 1]) > 40, "what was in it plays no part"


@pytest.mark.parametrize("solver", [name for name in INVERSE_SOLVERS if name != "kalman"])
def test_every_solver_fills_a_hole(model, picture: Tensor, hole: Tensor, solver: str) -> None:  # noqa: ANN001
    """At 48 network rows, back-passes counted: what the prompt says, and the rest to the bit."""
    chosen = PSLD(omega=0.3, gamma=0.03) if solver == "psld" else INVERSE_SOLVERS[solver]()
    filled = inpaint(picture, hole, AFTER, model=model, solver=chosen, steps=48 // chosen.rows)
    assert judge(filled.picture[0], parse(AFTER)).accepted and filled.evaluations == 48
    assert torch.equal(filled.picture[..., hole == 0], picture[..., hole == 0])
    assert filled.kept is not None and filled.kept > 25, "the known part was drawn, too"


@pytest.mark.parametrize("solver", ["red-diff", "dps", "psld"])
def test_every_solver_restores(model, picture: Tensor, solver: str) -> None:  # noqa: ANN001
    observation = observe(picture, Pool(4))
    chosen = RESTORERS[solver]()
    found = restore(observation, (128, 128), BEFORE, model=model, solver=chosen, steps=24 // chosen.rows)
    assert psnr(found.picture, picture) > 27 and found.evaluations == 24
    assert judge(found.picture[0], parse(BEFORE)).accepted and found.kept is not None and found.kept > 30


def test_a_paste_has_no_step_and_says_how_far_it_was_off() -> None:
    old, mask = torch.full((1, 3, 40, 40), 0.5), torch.zeros(1, 1, 40, 40)
    mask[..., 20:] = 1
    found, kept = pasted(old + 0.1, old, mask, 3.0)
    assert kept == pytest.approx(20, abs=0.01)
    assert (found[..., 19] - found[..., 20]).abs().max() < 0.02 < (found[..., 39] - found[..., 19]).abs().min()
    assert torch.equal(found[..., :20], old[..., :20])
    assert torch.equal(pasted(old + 0.1, old, mask, 0.0)[0], torch.where(mask > 0, old + 0.1, old)), "0 leaves the step"
    assert pasted(old, old, mask, 3.0)[1] == float("inf") and pasted(old, old, torch.ones_like(mask), 3.0)[1] is None


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, p: inpaint(p, torch.zeros(128, 128), AFTER, model=m), "mask: is 0 everywhere"),
        (lambda m, p: inpaint(p, torch.ones(64, 64), AFTER, model=m), r"mask: got shape \(1, 1, 64, 64\)"),
        (lambda m, p: inpaint(p[..., :100], torch.ones(128, 100), AFTER, model=m), "picture: got 100x128"),
        (lambda m, p: inpaint(p, torch.ones(128, 128), AFTER, model=m, grow=-1), "grow: got -1"),
        (lambda m, p: inpaint(p, torch.ones(128, 128), AFTER, model=m, solver="none"), "solver: got 'none'"),
        (lambda m, p: inpaint(p, torch.ones(128, 128), AFTER, model=m, space="air"), "space: got 'air'"),
        (
            lambda m, p: inpaint(p, torch.ones(128, 128), AFTER, model=m, solver="kalman", space="pixels"),
            "solver: got 'kalman' in pixels",
        ),
        (
            lambda m, p: inpaint(p, torch.ones(128, 128), AFTER, model=m, temperature=0.5),
            "temperature: got 0.5 with 'kalman'",
        ),
        (
            lambda m, p: inpaint(
                p, torch.ones(128, 128), AFTER, model=m, cfg=3.0, temperature=0.5, solver=OfConditional(Kalman())
            ),
            "temperature: got 0.5 with 'kalman'",
        ),
        (
            lambda m, p: inpaint(p, torch.ones(128, 128), AFTER, model=m, temperature=0.5, solver="ddrm"),
            "temperature: got 0.5 with 'ddrm'.*the solver 'proximal' or 'replacement'",
        ),
        (lambda m, p: inpaint(p, torch.ones(128, 128), AFTER, model=m, feather=-1.0), "feather: got -1"),
        (lambda m, p: edit(p, AFTER, model=m, feather=300), "feather: got 300"),
        (lambda m, p: edit(p, AFTER, 5, model=m), "source: got 5"),
        (lambda m, p: edit(p, 5, BEFORE, model=m), "prompt: got 5"),
        (lambda m, p: edit(p, AFTER, BEFORE, model=m, negative=5), "negative: got 5"),
        (lambda m, p: restore(observe(p, Pool(4)), (128, 128), "", model=m, solver="kalman"), "solver: got 'kalman'"),
        (lambda m, p: inpaint(2 * p, torch.ones(128, 128), AFTER, model=m), "picture: got numbers from"),
        (lambda m, p: edit(p, AFTER, model=m, strength=-1.0), "strength: got -1.0"),
        (lambda m, p: edit(p, AFTER, BEFORE, model=m, strength=0.2), "strength: got 0.2 with a source"),
        (lambda m, p: edit(p, AFTER, model=m, steps=0), "steps: got 0"),
        (lambda m, p: edit(p, AFTER, model="demo"), "model: got 'demo'"),
        (lambda m, p: restore(observe(p, Pool(4)), (64, 64), BEFORE, model=m), "b: got shape"),
        (lambda m, p: restore(observe(p, Pool(4)), (128, 120, 1), BEFORE, model=m), "size: got"),
        (lambda m, p: restore(observe(p, Pool(4)), (124, 128), BEFORE, model=m), "size: got"),
        (lambda m, p: restore("b", (128, 128), BEFORE, model=m), "observation: got 'b'"),
        (lambda m, p: restore(observe(p, Pool(4)), (128, 128), "", model=m, temperature=2), "temperature: got 2"),
        (
            lambda m, p: restore(observe(p, Pool(4)), (128, 128), "", model=m, solver="dps", temperature=0.5),
            "temperature: got 0.5 with a solver that walks by itself",
        ),
        (lambda m, p: restore(Observation(Pool(1), p), (128, 128), BEFORE, model=m, seed=-1), "seed: got -1"),
    ],
)
def test_wrong_input(call, message: str, model, picture: Tensor) -> None:  # noqa: ANN001
    with pytest.raises(ValueError, match=message):
        call(model, picture)


@dataclass(frozen=True)
class Broken(Wrapped):
    """``denoiser``, which has no answer at low noise, as a network in half precision may have none."""

    denoiser: Denoiser

    def __call__(self, z: Tensor, sigma: Any) -> Tensor:  # noqa: ANN401
        denoised = self.denoiser(z, sigma)
        return denoised if float(torch.as_tensor(sigma).max()) > 2 else denoised * torch.nan


@pytest.mark.parametrize(
    "call",
    [
        lambda m, p, h: inpaint(p, h, BEFORE, model=m, steps=3),
        lambda m, p, h: inpaint(p, h, BEFORE, model=m, steps=3, solver="ddrm"),
        lambda m, p, h: restore(observe(p, Pool(4)), (128, 128), BEFORE, model=m, steps=3),
        lambda m, p, h: edit(p, AFTER, BEFORE, model=m, steps=3),
        lambda m, p, h: edit(p, AFTER, BEFORE, model=m, steps=3, inversion="edit-friendly", mask=h),
        lambda m, p, h: edit(p, AFTER, BEFORE, model=m, steps=3, inversion="flow-edit"),
    ],
)
def test_what_a_broken_model_makes_is_no_picture(call, model, picture: Tensor, hole: Tensor) -> None:  # noqa: ANN001
    broken = copy.copy(model)
    broken.denoiser = lambda *given, **named: Broken(model.denoiser(*given, **named))
    with pytest.raises(NonFiniteError, match="(model|denoiser): NaN or infinity in .* Run .* in float32, or lower cfg"):
        call(broken, picture, hole)


def test_any_type_of_numbers_is_a_picture(model, picture: Tensor, hole: Tensor) -> None:  # noqa: ANN001
    made = inpaint(picture, hole, AFTER, model=model, steps=2).picture
    for kind in (torch.float64, torch.bfloat16):
        other = inpaint(picture.to(kind), hole, AFTER, model=model, steps=2).picture
        torch.testing.assert_close(other, made, rtol=0, atol=0.02)


# --- the commands -----------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, picture: Tensor, hole: Tensor) -> Path:
    to_pil(picture[0]).save(tmp_path / "picture.png")
    to_pil(hole.expand(3, -1, -1)).save(tmp_path / "mask.png")
    to_pil(Pool(4).apply(picture)[0]).save(tmp_path / "small.png")
    return tmp_path


def test_the_commands(folder: Path, hole: Tensor, capsys: pytest.CaptureFixture) -> None:
    mask = ["--mask", str(folder / "mask.png"), "--steps", "2"]
    assert main(["inpaint", str(folder / "picture.png"), AFTER, *mask]) == 0
    before, filled = read_picture(folder / "picture.png"), read_picture(folder / "picture-inpainted.png")
    assert torch.equal(before[..., hole == 0], filled[..., hole == 0]) and not torch.equal(before, filled)
    assert main(["edit", str(folder / "picture.png"), "--to", AFTER, *mask, "--out", str(folder / "e.png")]) == 0
    assert torch.equal(read_picture(folder / "e.png")[..., hole == 0], before[..., hole == 0])
    for task in ("x4", "blur", "noise", "grey"):
        assert main(["restore", str(folder / "small.png"), BEFORE, "--task", task, "--steps", "2"]) == 0
        side = 128 if task == "x4" else 32
        assert read_picture(folder / "small-restored.png").shape[-2:] == (side, side)
    assert main(["inpaint", str(folder / "picture.png"), AFTER, *mask, "--solver", "dps", "--zeta", "1"]) == 0
    assert main(["inpaint", str(folder / "picture.png"), AFTER, *mask, "--space", "pixels", "--temperature", "0"]) == 0
    other = read_picture(folder / "picture-inpainted.png")
    assert torch.equal(before[..., hole == 0], other[..., hole == 0]) and not torch.equal(other, filled)
    words = ["restore", str(folder / "small.png"), BEFORE, "--task", "x4", "--steps", "2", "--solver", "red-diff"]
    assert main([*words, "--lr", "0.2"]) == 0
    said = capsys.readouterr().out
    assert "4 evaluations" in said and "6 evaluations" in said and "dB outside of the hole, before the paste" in said
    assert "dB to what was given" in said


def test_the_command_edits_as_the_core_does(folder: Path) -> None:
    """Every flag reaches it."""
    words = {
        "negative": "a blue boat at sea",
        "cfg": 3.0,
        "source_cfg": 2.0,
        "inversion": "flow-edit",
        "denoise": 0.8,
        "seed": 5,
    }
    demo = load_model()
    flags = [part for name, value in words.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    given = ["edit", str(folder / "picture.png"), "--to", AFTER, "--from", BEFORE, "--steps", "4", *flags]
    assert main([*given, "--out", str(folder / "e.png")]) == 0
    picture = read_picture(folder / "picture.png")
    whole = edit(picture, AFTER, BEFORE, model=demo, steps=4, **words).picture
    assert psnr(read_picture(folder / "e.png"), whole) > 50
    for name, other in {"negative": "", "cfg": 2.0, "source_cfg": 3.0, "inversion": "direct", "denoise": 1.0}.items():
        made = edit(picture, AFTER, BEFORE, model=demo, steps=4, **(words | {name: other})).picture
        assert psnr(made, whole) < 50, name
    assert psnr(edit(picture, AFTER, BEFORE, model=demo, steps=4, **(words | {"seed": 6})).picture, whole) < 50


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["inpaint", "picture.png", AFTER, "--mask", "small.png"], "--mask: got 32x32"),
        (["inpaint", "mask.png", AFTER, "--mask", "mask.png", "--solver", "x"], "--solver: got 'x'"),
        (
            ["inpaint", "mask.png", AFTER, "--mask", "mask.png", "--zeta", "1"],
            "--zeta: got 1.0 with the solver 'kalman'",
        ),
        (["inpaint", "mask.png", AFTER, "--mask", "mask.png", "--cg-steps", "0"], "--cg-steps: got 0"),
        (["restore", "small.png", BEFORE, "--task", "x4", "--solver", "kalman"], "--solver: got 'kalman'"),
        (["restore", "small.png", BEFORE, "--task", "x3"], "--task: got 'x3'"),
        (["restore", "small.png", BEFORE, "--task", "blur", "--width", "0"], "width: got 0.0"),
        (["restore", "small.png", BEFORE, "--task", "grey", "--noise", "-1"], "noise: got -1.0"),
        (["restore", "small.png", BEFORE, "--task", "x2", "--width", "9"], "--width: got 9.0 with --task x2; allowed"),
        (["edit", "picture.png", "--to", AFTER, "--size", "60x64"], "--size: got '60x64'; allowed are multiples of 8"),
        (["edit", "picture.png", "--to", "a purple dog"], "dog"),
        (["edit", "picture.png", "--to", AFTER, "--cfg", "3"], "--cfg: got 3.0 without a source; allowed is 1 there"),
        (["edit", "picture.png", "--to", AFTER, "--source-cfg", "1"], "--source-cfg: got 1.0 without a source"),
        (["edit", "picture.png", "--to", AFTER, "--denoise", "0"], "--denoise: got 0.0; allowed is a number above 0"),
        (
            ["edit", "picture.png", "--to", AFTER, "--inversion", "direct"],
            "Pass --from, what the picture shows now, or",
        ),
        (["edit", "picture.png", "--to", AFTER, "--from", BEFORE, "--strength", "1"], "--strength: got 1.0 with a"),
        (["edit", "picture.png"], "--to"),
    ],
)
def test_wrong_command_lines(words: list[str], message: str, folder: Path, capsys: pytest.CaptureFixture) -> None:
    try:
        status: object = main([str(folder / word) if word.endswith(".png") else word for word in words])
    except SystemExit as stop:
        status = stop.code
    error = capsys.readouterr().err
    assert status == 2 and message in error and len(error.splitlines()) == 1


def test_the_commands_warn_of_a_size_that_the_model_does_not_draw(
    folder: Path, picture: Tensor, capsys: pytest.CaptureFixture
) -> None:
    to_pil(cover(picture, 256, 192)[0]).save(folder / "large.png")
    to_pil(Pool(2).apply(picture)[0]).save(folder / "half.png")
    to = ["--to", AFTER, "--steps", "1"]
    for words, told in (
        (
            ["edit", "large.png", *to],
            "draws best at 128x128; got 256x192: things may be repeated or lost. Pass --size 128x96$",
        ),
        (["invert", "large.png", "--steps", "1", "--inversion", "explicit"], "got 256x192"),
        (["restore", "half.png", BEFORE, "--task", "x4", "--steps", "1"], "got 256x256: .* Pass --size 32$"),
        (["restore", "small.png", BEFORE, "--task", "grey", "--steps", "1"], "got 32x32: .* Pass --size 128$"),
        (["edit", "large.png", *to, "--size", "128x96"], ""),
        (["edit", "picture.png", *to], ""),
        (["restore", "half.png", BEFORE, "--task", "x4", "--size", "32", "--steps", "1"], ""),
        (["restore", "small.png", BEFORE, "--task", "x4", "--steps", "1"], ""),
    ):
        assert main([str(folder / word) if word.endswith(".png") else word for word in words]) == 0
        error = capsys.readouterr().err.strip()
        assert bool(re.search(told, error)) if told else error == "", (words, error)


def test_a_picture_is_resampled_with_its_mask(folder: Path, picture: Tensor, hole: Tensor) -> None:
    """As if both had come at that size."""
    large, mask = cover(picture, 256, 256), cover(hole.expand(1, 3, -1, -1), 256, 256)
    to_pil(large[0]).save(folder / "large.png")
    to_pil(mask[0]).save(folder / "large-mask.png")
    words = ["edit", str(folder / "large.png"), "--to", AFTER, "--size", "128", "--steps", "2"]
    assert main([*words, "--mask", str(folder / "large-mask.png"), "--out", str(folder / "a.png")]) == 0
    assert main([*words, "--mask", str(folder / "mask.png"), "--out", str(folder / "b.png")]) == 0
    found, other = read_picture(folder / "a.png"), read_picture(folder / "b.png")
    inside, outside = cover(mask, 128, 128)[0, 0] > 0.99, cover(mask, 128, 128)[0, 0] == 0
    assert found.shape == (1, 3, 128, 128) and psnr(found, other) > 30
    assert psnr(found[..., outside], cover(large, 128, 128)[..., outside]) > 50
    assert psnr(found[..., inside], cover(large, 128, 128)[..., inside]) < 40


@pytest.mark.parametrize("command", ["edit", "inpaint", "restore", "invert"])
def test_the_help_says_how_the_result_is_called(command: str, folder: Path, capsys: pytest.CaptureFixture) -> None:
    words = {
        "edit": ["--to", AFTER],
        "inpaint": [AFTER, "--mask", str(folder / "mask.png")],
        "restore": [BEFORE, "--task", "grey"],
        "invert": ["--inversion", "explicit"],
    }[command]
    assert main([command, str(folder / "picture.png"), *words, "--steps", "1"]) == 0
    (made,) = folder.glob("picture-*.png")
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main([command, "--help"])
    told = " ".join(capsys.readouterr().out.split())
    assert f"(default: {made.name.replace('picture', 'PICTURE')})" in told
    assert command != "edit" or "how strongly --to acts, without --from; per 200 steps" in told


def test_a_grey_picture_is_the_measurement_of_a_colour_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tinted one, too: the command restores to its luma, as the node does, and not to its mean."""
    picture = Image.new("RGB", (16, 16), (255, 0, 51))
    picture.save(tmp_path / "tinted.png")
    seen: list[Observation] = []

    def spy(observation: Observation, *_: object, **__: object) -> None:
        seen.append(observation)
        raise ValueError("seen")

    monkeypatch.setattr("msd_core.manipulation.restore", spy)
    assert main(["restore", str(tmp_path / "tinted.png"), "x", "--task", "grey"]) == 2
    told = torch.tensor([1.0, 0.0, 0.2]).reshape(1, 3, 1, 1).expand(1, 3, 16, 16)
    torch.testing.assert_close(seen[0].b, MEASUREMENTS["grey"]().apply(told))
    assert float((seen[0].b - 0.4).abs().min()) > 0.1, "the mean"
