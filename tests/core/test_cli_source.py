"""`msd distill --source`: the methods that edit a picture, begun with it, resumed to the bit without its file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from msd_core import distil
from msd_core.cli.main import main
from msd_core.cli.pictures import read_picture, to_pil
from msd_core.cli.run_folder import RESULTS
from msd_core.cli.settings import drawing
from msd_core.cli.source import SOURCE_FILE, load_source, save_source
from msd_core.demo.grammar import parse
from msd_core.demo.model import PromptDenoiser
from msd_core.demo.scenes import draw
from msd_core.distillation import METHODS
from msd_core.generators import cover

pytestmark = pytest.mark.core
BEFORE, AFTER = "a red circle on a blue background", "a green circle on a blue background"
EDITS = [name for name in METHODS if name not in drawing()]
SIZE = ("--size", "32x32", "--threads", "1")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("source") / "source.png"
    to_pil(draw([parse(BEFORE)], 64)[0]).save(path)
    return path


def command(out: Path, source: Path, *words: object) -> list[str]:
    edit = ["distill", AFTER, "--out", out, "--source", source, "--source-prompt", BEFORE, *SIZE, *words]
    return [str(word) for word in edit]


def psnr(a: Tensor, b: Tensor) -> float:
    return float(-10 * (a - b).square().mean().log10())


@pytest.mark.parametrize("kind", ["fourier", "pixels", "latent", "vector"])
@pytest.mark.parametrize("method", EDITS)
def test_every_method_edits_every_kind(method: str, kind: str, source: Path, tmp_path: Path) -> None:
    words = ("--method", method, "--generator", kind, "--steps", "2")
    assert main(command(tmp_path, source, *words)) == 0
    told = json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8"))
    assert told["steps"][1]["norm"] > 0 and told["settings"]["source_prompt"] == BEFORE
    assert told["settings"]["source"] == told["settings"]["start"] != ""
    assert not (tmp_path / SOURCE_FILE).exists()


def test_the_command_is_what_python_does(source: Path, tmp_path: Path) -> None:
    assert main(command(tmp_path, source, "--method", "dds", "--generator", "pixels", "--steps", "3")) == 0
    picture = cover(read_picture(source), 32, 32)
    options = {"source": picture, "source_prompt": BEFORE, "start": picture, "generator": "pixels", "size": (32, 32)}
    *_, state = distil(AFTER, method="dds", steps=3, **options)
    drawn = torch.nn.functional.interpolate(read_picture(tmp_path / "picture.png"), (32, 32), mode="area")
    larger = torch.nn.functional.interpolate(state.picture(512, 512), (32, 32), mode="area")
    assert psnr(drawn, larger) > 50 and psnr(state.picture(), picture) < 60


def test_a_run_begins_with_its_source_unless_a_start_is_given(source: Path, tmp_path: Path) -> None:
    other, still = tmp_path / "other.png", ("--method", "dds", "--generator", "pixels", "--steps", "1", "--lr", "1e-9")
    to_pil(torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(0))).save(other)
    for words, wanted in (((), source), (("--start", other), other)):
        assert main(command(tmp_path / wanted.stem, source, *still, *words)) == 0
        drawn = read_picture(tmp_path / wanted.stem / "picture.png")
        small = torch.nn.functional.interpolate(drawn, (32, 32), mode="area")
        assert psnr(small, cover(read_picture(wanted), 32, 32)) > 20, wanted
    assert (tmp_path / "other" / "picture.png").read_bytes() != (tmp_path / "source" / "picture.png").read_bytes()


def stopped(out: Path, source: Path, monkeypatch: pytest.MonkeyPatch, *words: object) -> None:
    """A run that Ctrl-C has stopped in its third step."""
    original, calls = PromptDenoiser.__call__, iter(range(1, 10**6))

    def denoise(self: PromptDenoiser, z: Tensor, sigma: float | Tensor) -> Tensor:
        if next(calls) >= 5:  # each step asks for the prompt and for the source's
            raise KeyboardInterrupt
        return original(self, z, sigma)

    with monkeypatch.context() as patched:
        patched.setattr(PromptDenoiser, "__call__", denoise)
        assert main(command(out, source, *words)) == 130
    assert not json.loads((out / "metrics.json").read_text(encoding="utf-8"))["finished"]


def test_resumed_without_the_file_it_is_as_if_it_had_not_been_stopped(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    own = tmp_path / "own.png"
    own.write_bytes(source.read_bytes())
    words = ("--method", "dds", "--steps", "5")
    assert main(command(tmp_path / "whole", own, *words)) == 0
    for name in ("parts", "changed"):
        stopped(tmp_path / name, own, monkeypatch, *words)
    own.unlink()
    resume = ["distill", "--resume", "--out"]
    assert main([*resume, str(tmp_path / "parts"), "--source", str(own)]) == 2
    assert "--source: got" in capsys.readouterr().err
    assert main([*resume, str(tmp_path / "parts"), "--source-prompt", AFTER]) == 2
    assert "--source-prompt: got 'a green" in capsys.readouterr().err
    assert main([*resume, str(tmp_path / "parts"), "--source", str(source)]) == 0
    for name in RESULTS:
        same = (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
        assert same or name == "metrics.json", name
    assert not (tmp_path / "parts" / SOURCE_FILE).exists()
    save_source(tmp_path / "changed", 1 - load_source(tmp_path / "changed", (32, 32)))
    assert main([*resume, str(tmp_path / "changed")]) == 0
    drawn = [(tmp_path / name / "picture.png").read_bytes() for name in ("whole", "changed")]
    assert drawn[0] != drawn[1], "another source would be noticed"


def test_a_lost_source_is_told(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    stopped(tmp_path, source, monkeypatch, "--method", "dds", "--steps", "5")
    (tmp_path / SOURCE_FILE).unlink()
    assert main(["distill", "--resume", "--out", str(tmp_path)]) == 2
    assert SOURCE_FILE in capsys.readouterr().err and (tmp_path / "state.safetensors").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--method", "dds"), "--source: got none with --method dds, which edits a picture"),
        (("--method", "dds", "--source", "{source}"), "--source-prompt: got none with --method dds"),
        (("--source", "{source}"), "with --method msd, which draws from its prompt alone; allowed with dds, pds, lusd"),
        (("--method", "sds", "--source-prompt", BEFORE), "--source-prompt: got 'a red circle"),
        (
            ("--method", "dds", "--source", "none.png", "--source-prompt", BEFORE),
            "--source: got 'none.png', which is no",
        ),
        (("--method", "dds", "--source", "{text}", "--source-prompt", BEFORE), "--source: path: "),
        (("--method", "dds", "--source", "{source}", "--source-prompt", "a zebra"), "zebra"),
        (
            (*("--method", "dds", "--source", "{source}", "--source-prompt", BEFORE), "--generator", "volume"),
            "--source: got a picture for a volume",
        ),
    ],
)
def test_wrong_input_is_one_line(
    words: tuple[str, ...], message: str, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    text, out = tmp_path / "text.png", tmp_path / "out"
    text.write_text("no picture")
    assert main(["distill", AFTER, "--out", str(out), *SIZE, *(w.format(source=source, text=text) for w in words)]) == 2
    told = capsys.readouterr().err
    assert message in told and "widget" not in told and not list(out.glob("*"))
