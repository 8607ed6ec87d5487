"""`msd bench`: the parts add up, are told apart, and are compared with an earlier measurement."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import torch
from torch import Tensor

from msd_core import sd15_schedule, with_levels
from msd_core.bench import PARTS, Bench, Stopwatch, bench
from msd_core.cli.against import Earlier
from msd_core.cli.bench import told
from msd_core.cli.main import main
from msd_core.generators import NeuralImage

pytestmark = pytest.mark.core
SLOW = 0.02


class Sleepy:
    """A model whose parts take a known time."""

    cell, channels, side, differentiable = 1, 3, 16, True

    def encode(self, picture: Tensor) -> Tensor:
        time.sleep(SLOW)
        return picture

    def decode(self, x: Tensor) -> Tensor:
        time.sleep(2 * SLOW)
        return x

    def denoiser(self, prompt: str, negative: str = "", cfg: float = 1.0):  # type: ignore[no-untyped-def] # noqa: ANN201
        def denoise(z: Tensor, sigma: Tensor | float) -> Tensor:
            time.sleep(3 * SLOW)
            return 0.9 * z

        return with_levels(denoise, sd15_schedule())


def test_the_parts_are_told_apart_and_add_up() -> None:
    before = NeuralImage.renderer
    found = bench("x", steps=3, model=Sleepy(), method="sds", size=(16, 16))  # type: ignore[arg-type]
    assert NeuralImage.renderer is before, "what was timed is as it was"
    assert found.steps == 3 and found.evaluations == 3 and set(found.seconds) == {*PARTS, "rest"}
    for part, wanted in (("encode", SLOW), ("decode", 2 * SLOW), ("network", 3 * SLOW)):
        assert 3 * wanted <= found.seconds[part] < 3 * wanted + 0.5, part
    assert found.seconds["render"] > 0 and found.seconds["update"] > 0
    assert sum(found.seconds.values()) == pytest.approx(found.total)
    assert found.overhead < 1


def test_a_part_within_another_counts_once() -> None:
    watch = Stopwatch()
    inner = watch.around("decode", lambda: time.sleep(SLOW))
    watch.around("network", inner)()
    assert watch.seconds["network"] >= SLOW and watch.seconds["decode"] == 0


def test_the_command_writes_and_compares(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "now.json"
    quick = ["bench", "a red circle on a blue background", "--steps", "1", "--method", "sds", "--size", "32x32"]
    assert main([*quick, "--out", str(out)]) == 0
    told = json.loads(out.read_text())
    assert told["format"] == "msd-bench" and told["evaluations"] == 2 and told["seconds a step"]["network"] > 0
    assert main([*quick, "--against", str(out)]) == 0
    said = capsys.readouterr().out
    assert "before" in said and all(part in said for part in PARTS) and "slower than before: " in said
    (tmp_path / "other.json").write_text("{}")
    assert main([*quick, "--against", str(tmp_path / "other.json")]) == 2
    assert "--against: " in capsys.readouterr().err


def test_pictures_side_by_side_are_told_beside_one_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["bench", "a red circle", "--steps", "1", "--size", "32x32", "--method", "sds"]
    assert main([*words, "--n", "2", "--out", str(tmp_path / "two.json")]) == 0
    assert "one alone: " in capsys.readouterr().out
    told = json.loads((tmp_path / "two.json").read_text())
    assert told["evaluations"] == 4 and told["seconds a step of one alone"] > 0
    assert main([*words, "--out", str(tmp_path / "one.json")]) == 0
    assert "one alone" not in capsys.readouterr().out
    assert json.loads((tmp_path / "one.json").read_text())["seconds a step of one alone"] is None


def figures(network: float, **changes: object) -> dict:
    """A file's content, of a run of two steps; ``changes`` are of its settings and of itself, by name."""
    seconds = {"network": network, "encode": 0.0, "decode": 0.2, "render": 0.001, "update": 0.1, "rest": 0.1}
    told = {"format": "msd-bench", "prompt": "x", "evaluations": 8, "torch": "1", "threads": 1, "machine": "m"}
    settings = {"method": "msd", "generator": "fourier", "size": None, "n": 1, "seed": 0, "steps": 2, "model": "demo"}
    settings |= {name: value for name, value in changes.items() if name in settings}
    told |= {name: value for name, value in changes.items() if name in told}
    return {**told, "settings": settings, "seconds a step": seconds}


def test_what_is_slower_is_said(tmp_path: Path) -> None:
    path = tmp_path / "before.json"
    path.write_text(json.dumps(figures(0.5)))
    earlier = Earlier.read(path, 128)
    seconds = {"network": 2.0, "encode": 0.2, "decode": 0.4, "render": 0.02, "update": 0.1, "rest": 0.2}
    found = Bench(2, 8, seconds, sum(seconds.values()))
    assert "slower than before: network 2.00 times, encode, which is new; all of it takes 1.62 times" in told(
        found, earlier
    )
    lines = {line.split()[0]: line.split() for line in told(found, earlier).splitlines() if line}
    assert lines["network"][3:] == ["0.5000", "2.00"] and lines["update"][4] == "0.50" and lines["encode"][4] == "-"
    same = {part: 2 * value for part, value in earlier.seconds.items()}
    assert "no part by more than a tenth; all of it takes 1.00 times" in told(
        Bench(2, 8, same, sum(same.values())), earlier
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "sds"}, "is of --method sds, this run of msd"),
        ({"generator": "siren"}, "is of --generator siren, this run of fourier"),
        ({"n": 2}, "is of --n 2, this run of 1"),
        ({"size": [64, 32]}, "is of --size 64x32, this run of 128x128; .* Pass --size 64x32"),
    ],
)
def test_unlike_runs_are_not_compared(changes: dict, message: str, tmp_path: Path) -> None:
    path = tmp_path / "before.json"
    path.write_text(json.dumps(figures(0.5, **changes)))
    with pytest.raises(ValueError, match=message):
        Earlier.read(path, 128).check({"method": "msd", "generator": "fourier", "size": (128, 128), "n": 1})


def test_other_circumstances_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "before.json"
    path.write_text(json.dumps(figures(0.5, method="sds", size=[32, 32])))
    quick = ["bench", "a red circle", "--steps", "1", "--method", "sds", "--size", "32x32", "--against", str(path)]
    assert main(quick) == 0
    said = capsys.readouterr().err
    assert "prompt x then and a red circle now" in said and f"torch 1 then and {torch.__version__} now" in said
    assert "evaluations a step 4 then and 2 now" in said and "model" not in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--size", "30x30"], "--size: got '30x30'; allowed are multiples of 8"),
        (["--method", "none"], "--method: got 'none'"),
        (["--method", "dds"], "--method: got 'dds'; allowed are 'msd'"),
        (["--generator", "none"], "--generator: got 'none'"),
        (["--out", "{file}/x.json"], "--out: got"),
    ],
)
def test_wrong_flags_are_refused_before_the_measurement(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def measured(*_: object, **__: object) -> None:
        raise AssertionError("measured")

    monkeypatch.setattr("msd_core.bench.bench", measured)
    (tmp_path / "file").write_text("in the way")
    assert main(["bench", *(word.format(file=tmp_path / "file") for word in words)]) == 2
    assert message in capsys.readouterr().err


def test_wrong_input_is_named() -> None:
    with pytest.raises(ValueError, match="steps: got 0"):
        bench("x", steps=0)
    with pytest.raises(ValueError, match="method: got 'none'"):
        bench("a red circle", method="none")
    assert torch.is_grad_enabled()
