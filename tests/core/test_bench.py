"""`msd bench`: the parts add up, are told apart, and are compared with an earlier measurement."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import torch
from torch import Tensor

from msd_core import sd15_schedule, with_levels
from msd_core.bench import PARTS, Stopwatch, bench
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
    assert "before" in said and all(part in said for part in PARTS)
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


def test_wrong_input_is_named() -> None:
    with pytest.raises(ValueError, match="steps: got 0"):
        bench("x", steps=0)
    with pytest.raises(ValueError, match="method: got 'none'"):
        bench("a red circle", method="none")
    assert torch.is_grad_enabled()
