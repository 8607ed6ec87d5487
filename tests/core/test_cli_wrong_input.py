"""Bad input on the command line: one clear line, exit status 2, no traceback, and nothing lost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from msd_core.cli.main import main
from msd_core.demo.model import DemoModel, PromptDenoiser
from msd_core.generators import make_generator, save_generator
from msd_core.tensorfile import read_tensors, write_tensors

PROMPT = "a red circle on a blue background"
Refuse = Callable[..., str]


@pytest.fixture
def refuse(capsys: pytest.CaptureFixture) -> Refuse:
    """Run a command that must be refused; returns its one line."""

    def run(*arguments: object) -> str:
        capsys.readouterr()
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as stop:
            status = stop.code
        lines = [line for line in capsys.readouterr().err.splitlines() if line and "%|" not in line]  # no progress bar
        assert status == 2
        assert len(lines) == 1 and lines[0].startswith("msd: error: "), lines
        return lines[0]

    return run


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "random.safetensors"
    DemoModel.random(0).save(path)
    return path


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), ("PROMPT: got none", "msd distill 'a red circle'")),
        (("a purple dog",), ("'a purple dog'", "dog", "it knows only")),
        ((PROMPT, "--method", "vsd"), ("--method: got 'vsd'", "'msd', 'sds', 'sdi'")),
        ((PROMPT, "--generator", "nerf"), ("--generator: got 'nerf'", "'fourier'")),
        ((PROMPT, "--estimator", "best"), ("--estimator: got 'best'", "'exact'")),
        ((PROMPT, "--optimizer", "sgd"), ("--optimizer: got 'sgd'", "'adam'")),
        ((PROMPT, "--pull", "pixels"), ("--pull: got 'pixels'", "'latent'")),
        ((PROMPT, "--bandwidth-schedule", "square"), ("--bandwidth-schedule: got 'square'", "'exponential'")),
        (
            (PROMPT, "--bandwidth-start", 1, "--bandwidth-end", 2),
            ("--bandwidth-end: got 2.0 with start", "end <= start"),
        ),
        ((PROMPT, "--bandwidth-end", 0), ("--bandwidth-end: got 0.0", "above 0")),
        ((PROMPT, "--bandwidth-start=-3"), ("--bandwidth-start: got -3.0", "above 0")),
        ((PROMPT, "--min-bandwidth", 99), ("min_bandwidth: got 99.0", "at most 8")),
        ((PROMPT, "--bandwidth-points", "0.5"), ("--bandwidth-points", "got '0.5'", "0.25:2")),
        ((PROMPT, "--size", "0"), ("--size", "got '0'", "> 0")),
        ((PROMPT, "--size", "60x64"), ("--size", "got '60x64'", "multiples of 8", "64x64")),
        ((PROMPT, "--size", "big"), ("--size", "got 'big'", "WIDTHxHEIGHT")),
        ((PROMPT, "--seed=-1"), ("--seed", "got '-1'", "from 0")),
        ((PROMPT, "--steps", 0), ("--steps: got 0", "from 1 up to 1000000")),
        ((PROMPT, "--cfg", "nan"), ("--cfg", "got 'nan'", "finite")),
        ((PROMPT, "--lr", 0), ("--lr: got 0.0", "above 0")),
        (
            (PROMPT, "--method", "sds", "--bandwidth-end", 1),
            ("--bandwidth-end: got 1.0 with the method 'sds'", "allowed with msd"),
        ),
        (
            (PROMPT, "--method", "sds", "--t-min", 0.9, "--t-max", 0.1),
            ("--t-min, --t-max: got 0.9", "0.02 to 0.98"),
        ),
        ((PROMPT, "--resume"), ("--resume", "no unfinished run")),
        ((PROMPT, "--colour", "red"), ("unrecognized arguments: --colour", "--help")),
    ],
)
def test_arguments(refuse: Refuse, tmp_path: Path, model: Path, arguments: tuple, told: tuple[str, ...]) -> None:
    line = refuse("distill", *arguments, "--out", tmp_path, "--model", model)
    assert all(part in line for part in told), line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("sample", PROMPT, "--scheduler", "fast"), ("got 'fast'", "'karras'")),
        (("sample", PROMPT, "--out", "picture.txt"), ("--out", "got 'picture.txt'", ".png")),
        (("render", "nothing.safetensors", "--out", "x.png"), ("no file 'nothing.safetensors'",)),
        (("render", "x.safetensors", "--size", "5x0"), ("--size", "got '5x0'", "> 0")),
        (("train-demo", "--out", ".", "--steps", "0"), ("--steps", "got '0'")),
        (("train-demo", "--out", ".", "--dream", "-1"), ("--dream", "got '-1'", "inf")),
        (("draw",), ("'draw'", "distill")),
    ],
)
def test_arguments_of_the_other_commands(
    refuse: Refuse,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    model: Path,
    arguments: tuple,
    told: tuple[str, ...],
) -> None:
    monkeypatch.chdir(tmp_path)
    line = refuse(*arguments, *(("--model", model) if arguments[0] == "sample" else ()))
    assert all(part in line for part in told), line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["distill", "sample", "render", "train-demo"])
def test_an_unwritable_folder_is_told_before_any_work(refuse: Refuse, tmp_path: Path, command: str) -> None:
    """Before any work: the model, which does not exist, is not missed."""
    (tmp_path / "file").write_text("in the way")
    subject = {"distill": [PROMPT], "sample": [PROMPT], "render": ["x.safetensors"], "train-demo": []}[command]
    out = tmp_path / "file" / ("run" if command in ("distill", "train-demo") else "picture.png")
    absent = [] if command == "train-demo" else ["--model", tmp_path / "absent"]
    line = refuse(command, *subject, "--out", out, *absent)
    assert "--out: got" in line and "nothing can be written" in line and "name another" in line


def damaged(path: Path, how: str) -> None:
    """Spoil a safetensors file."""
    if how == "truncated":
        path.write_bytes(path.read_bytes()[:1000])
    elif how == "foreign":
        save_file({"weight": torch.zeros(2)}, path)
    else:
        path.write_bytes(b"certainly no tensors")


@pytest.mark.parametrize(
    ("how", "told"), [("truncated", "truncated"), ("foreign", "format None"), ("text", "truncated")]
)
def test_damaged_files(refuse: Refuse, tmp_path: Path, how: str, told: str) -> None:
    path = tmp_path / "file.safetensors"
    save_generator(make_generator("fourier"), path)
    damaged(path, how)
    before = path.read_bytes()
    for arguments in (("render", path), ("sample", PROMPT, "--out", tmp_path / "x.png", "--model", path)):
        line = refuse(*arguments)
        assert str(path) in line and ("format None" if how == "foreign" else "truncated") in line, line
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def test_a_generator_of_another_version(refuse: Refuse, tmp_path: Path) -> None:
    path = tmp_path / "new.safetensors"
    save_generator(make_generator("fourier"), path)
    tensors, metadata = read_tensors(path, "msd-generator", "1")
    write_tensors(path, tensors, "msd-generator", "7", {name: metadata[name] for name in ("kind", "config")})
    line = refuse("render", path)
    assert "version '7'" in line and "'1'" in line


def test_nan_from_the_model(refuse: Refuse, tmp_path: Path, model: Path) -> None:
    broken = tmp_path / "broken.safetensors"
    demo = DemoModel.random(0)
    with torch.no_grad():
        next(demo.unet.parameters()).fill_(torch.nan)
    demo.save(broken)
    line = refuse("distill", PROMPT, "--out", tmp_path / "out", "--model", broken)
    assert "NaN" in line and str(broken) in line and "time_embed.0.weight" in line
    assert list((tmp_path / "out").glob("*")) == []
    assert "NaN" in refuse("sample", PROMPT, "--steps", 2, "--out", tmp_path / "x.png", "--model", broken)


def test_nan_in_a_later_step_keeps_what_was_done(
    refuse: Refuse, tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, calls = PromptDenoiser.__call__, iter(range(1, 100))
    monkeypatch.setattr(
        PromptDenoiser, "__call__", lambda self, z, s: original(self, z, s) if next(calls) < 3 else z * torch.nan
    )
    quick = ("--size", "64x64", "--steps", 5, "--estimator", "one-step", "--model", model)
    line = refuse("distill", PROMPT, "--out", tmp_path, *quick)
    assert "NaN" in line and "step 3" in line and f"What was done is in {tmp_path}: 2 of 5 steps" in line
    monkeypatch.undo()
    assert main(["render", str(tmp_path / "generator.safetensors"), "--size", "8"]) == 0
    assert main(["distill", PROMPT, "--out", str(tmp_path), *map(str, quick), "--force"]) == 0


def test_resuming_as_another_run(
    refuse: Refuse, tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def interrupt(*_: object) -> None:
        if next(calls) == 2:
            raise KeyboardInterrupt
        return original(*_)

    original, calls = PromptDenoiser.__call__, iter(range(100))
    monkeypatch.setattr(PromptDenoiser, "__call__", interrupt)
    start = ("distill", PROMPT, "--out", tmp_path, "--model", model, "--size", "64x64", "--steps", 5)
    start += ("--estimator", "one-step")
    assert main([str(argument) for argument in start]) == 130
    monkeypatch.undo()
    saved = (tmp_path / "state.safetensors").read_bytes()
    resume = ("distill", "--resume", "--out", tmp_path, "--model", model)
    assert "holds an unfinished run; add --resume" in refuse(*start)
    assert "--steps: got 6, but the run to resume has 5" in refuse(*resume, "--steps", 6)
    assert "--method: got 'sds', but the run to resume has 'msd'" in refuse(*resume, "--method", "sds")
    assert "PROMPT: got 'a cat', but" in refuse("distill", "a cat", *resume[1:])
    other = tmp_path.parent / "other.safetensors"
    DemoModel.random(1).save(other)
    assert "--model: got other weights" in refuse(*resume[:-1], other)
    assert (tmp_path / "state.safetensors").read_bytes() == saved
    assert len(load_file(tmp_path / "generator.safetensors")) > 0


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("saved") / "generator.safetensors"
    save_generator(make_generator("fourier", resolution=8, hidden=4, layers=1), path)
    return path


@pytest.mark.parametrize(
    ("size", "name", "told"),
    [
        ("65501x1", "a.jpg", ("65501x1", "at most 65500", "write a .png")),
        ("1x16384", "a.webp", ("1x16384", "at most 16383", "write a .png")),
        ("100000x100000", "a.png", ("size: got 100000x100000", "at least 40 GB", "4 GB that are free", "Lower it")),
    ],
)
def test_a_picture_that_cannot_be_held_is_refused_before_it_is_drawn(
    refuse: Refuse,
    saved: Path,
    tmp_path: Path,
    size: str,
    name: str,
    told: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("msd_core.memory.available_memory", lambda: 4 * 10**9)
    line = refuse("render", saved, "--size", size, "--out", tmp_path / name)
    assert all(words in line for words in told) and not list(tmp_path.iterdir())


def test_a_latent_that_cannot_be_decoded_is_refused(
    refuse: Refuse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "latent.safetensors"
    save_generator(make_generator("latent", channels=4, height=160, width=160), path)
    monkeypatch.setattr("msd_core.memory.available_memory", lambda: 4 * 10**9)
    line = refuse("render", path, "--size", "64x64")
    assert "file: got a latent of 1280x1280" in line and "at least 5.57 GB" in line


@pytest.mark.parametrize(
    ("option", "told"),
    [
        (("--n", 10**9), ("n: got 1000000000 pictures of 128x128", "4 GB that are free", "Lower n")),
        (("--steps", 10**9), ("--steps: got 1000000000", "at most 1000000")),
        (("--size", "80000x80000"), ("size: got 80000x80000", "Lower it")),
        (("--n", 22500, "--out", "a.webp"), ("--n: got a picture of 19200x19200", "at most 16383")),
    ],
)
def test_samples_that_cannot_be_held_are_refused(
    refuse: Refuse, model: Path, tmp_path: Path, option: tuple, told: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("msd_core.memory.available_memory", lambda: 4 * 10**9)
    line = refuse("sample", PROMPT, "--model", model, *option)
    assert all(words in line for words in told), line


def test_a_run_has_a_million_steps_at_most(refuse: Refuse, model: Path, tmp_path: Path) -> None:
    line = refuse("distill", PROMPT, "--steps", 10**9, "--out", tmp_path / "a", "--model", model)
    assert "--steps: got 1000000000" in line and "up to 1000000" in line
