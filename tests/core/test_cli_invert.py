"""`msd invert`: what it writes and says, by every inversion, and wrong input."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from msd_core.cli.main import main
from msd_core.demo.grammar import parse
from msd_core.demo.scenes import draw
from msd_core.inversion import INVERSIONS
from msd_core.tensorfile import read_tensors

pytestmark = pytest.mark.core
WORDS = "a large red circle on a blue background"


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("picture") / "circle.png"
    pixels = (draw([parse(WORDS)], 64)[0] * 255).round().byte().movedim(0, -1).numpy()
    Image.fromarray(pixels).save(path)
    return path


def decibels(said: str) -> float:
    return float(said.split(" dB against")[0].split()[-1])


def test_the_implicit_inversion_brings_it_back(
    picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, noise = tmp_path / "back.png", tmp_path / "noise.safetensors"
    given = [str(picture), "--prompt", WORDS, "--steps", "12", "--out", str(out), "--noise", str(noise)]
    assert main(["invert", *given]) == 0
    said = capsys.readouterr().out
    assert "evaluations in 12 steps" in said and "white noise" in said and decibels(said) > 50
    assert Image.open(out).size == (64, 64)
    tensors, told = read_tensors(noise, "msd-noise", "1", lambda *_: None)
    assert tensors["noise"].shape == (1, 4, 8, 8) and tensors["sigmas"][0] > 10 > tensors["sigmas"][-1] == 0
    assert told["inversion"] == "implicit" and bool(torch.isfinite(tensors["noise"]).all())
    assert main(["invert", *given[:-4], "--out", str(tmp_path / "e.png"), "--inversion", "explicit"]) == 0
    assert decibels(capsys.readouterr().out) < 50


def test_a_mask_confines_it(picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Inside the noise is that of the picture, outside it is drawn; and the picture comes back."""
    mask = Image.new("L", (64, 64))
    mask.paste(255, (0, 0, 28, 64))  # three cells and a half, so four
    mask.save(tmp_path / "mask.png")
    ends = []
    for seed in ("0", "1"):
        noise = tmp_path / f"{seed}.safetensors"
        given = ["--mask", str(tmp_path / "mask.png"), "--noise", str(noise), "--seed", seed]
        given += ["--prompt", WORDS, "--steps", "12", "--out", str(tmp_path / "b.png")]
        assert main(["invert", str(picture), *given]) == 0
        assert decibels(capsys.readouterr().out) > 50
        ends.append(read_tensors(noise, "msd-noise", "1", lambda *_: None)[0]["noise"])
    one, two = (end / end.std() for end in ends)
    assert float((one - two)[..., 4:].std()) > 1 > 0.5 > float((one - two)[..., :4].std())


def test_a_mask_without_white_is_refused(picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("L", (64, 64)).save(tmp_path / "mask.png")
    assert main(["invert", str(picture), "--mask", str(tmp_path / "mask.png"), "--out", str(tmp_path / "b.png")]) == 2
    assert "--mask: got a picture without white" in capsys.readouterr().err


@pytest.mark.parametrize("name", INVERSIONS)
def test_every_inversion_runs(name: str, picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cfg = "2" if name == "null-text" else "1"  # it looks for the negative prompt that guidance is best against
    given = ["--steps", "3", "--cfg", cfg, "--out", str(tmp_path / "b.png"), "--inversion", name]
    assert main(["invert", str(picture), *given]) == 0, capsys.readouterr().err
    assert "dB against" in capsys.readouterr().out


def test_a_place_for_the_noise_is_looked_at_before_the_work(
    picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = ["invert", str(picture), "--steps", "2", "--out", str(tmp_path / "b.png"), "--noise"]
    monkeypatch.setattr("msd_core.inversion.invert", lambda *_: pytest.fail("inverted"))
    with pytest.raises(SystemExit):
        main([*given, str(tmp_path)])
    assert "--noise: got" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert main([*given, str(tmp_path / "file" / "n.safetensors")]) == 2
    assert "--noise: got" in capsys.readouterr().err
    monkeypatch.undo()
    assert main([*given, str(tmp_path / "new" / "n.safetensors")]) == 0 and (tmp_path / "new").is_dir()


def test_wrong_input_is_one_line(picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["invert", str(picture), "--inversion", "magic", "--out", str(tmp_path / "b.png")]) == 2
    assert "--inversion: got 'magic'; allowed are 'explicit'" in capsys.readouterr().err
    assert main(["invert", str(picture), "--prompt", "a zebra", "--out", str(tmp_path / "b.png")]) == 2
    assert "zebra" in capsys.readouterr().err
