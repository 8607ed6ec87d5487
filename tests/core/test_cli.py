"""The command line: what it writes, that equal runs are equal to the bit, and that Ctrl-C loses nothing."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from msd_core import ESTIMATORS, SOLVERS
from msd_core.bandwidth import BANDWIDTHS
from msd_core.cli.claim import LOCK, MARKER
from msd_core.cli.main import main
from msd_core.cli.run_folder import FRAMES, is_frame
from msd_core.demo.model import DemoModel, PromptDenoiser, load_demo_model
from msd_core.distillation import ANNEALINGS, METHODS, WEIGHTINGS
from msd_core.distillation.base import needs_of
from msd_core.generators import GENERATORS, View, load_generator
from msd_core.mean_shift import CENTRES
from msd_core.model import MODELS
from msd_core.optimizers import OPTIMIZERS
from msd_core.preset import Preset, preset_of
from msd_core.state import load_state, save_state

PROMPT = "a large red circle on a blue background"
QUICK = ("--size", "64x64", "--steps", "6", "--inner-steps", "3", "--estimator", "one-step")
EXACT_FILES = ("picture.png", "generator.safetensors", "plot.png", "animation.webp")
FILES = {*EXACT_FILES, "metrics.json", MARKER, LOCK}


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A demo model of random weights, all of them non-zero: a fresh UNet's last layer would predict nothing."""
    demo, rng = DemoModel.random(0), torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in demo.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=rng))
    path = tmp_path_factory.mktemp("model") / "random.safetensors"
    demo.save(path)
    return path


@pytest.fixture(scope="session")
def distil(model: Path) -> Callable[..., int]:
    """`msd distill` with the random model."""
    return lambda *arguments: main(["distill", *map(str, arguments), "--model", str(model)])


@pytest.fixture(scope="session")
def finished(distil: Callable[..., int], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run."""
    folder = tmp_path_factory.mktemp("finished")
    assert distil(PROMPT, "--out", folder, *QUICK) == 0
    return folder


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"), dtype=int)


def metrics(folder: Path) -> dict:
    return json.loads((folder / "metrics.json").read_text(encoding="utf-8"))


def test_compare_judges_every_picture(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def few(method: str, **changes: object) -> Preset:
        return preset_of(method, steps=2, inner_steps=1, **changes)

    monkeypatch.setattr("msd_core.cli.contact_sheet.preset_of", few)
    monkeypatch.setattr("msd_core.cli.contact_sheet.DDIM_STEPS", 3)
    prompts = [PROMPT, "a small yellow star left of a green square"]
    assert main(["compare", *prompts, "--out", str(tmp_path), "--model", str(model)]) == 0
    report = json.loads((tmp_path / "compare.json").read_text(encoding="utf-8"))
    assert [p["prompt"] for p in report["pictures"]] == prompts
    assert list(report["totals"]) == ["ddim", "sds", "sdi", "msd"]
    assert report["totals"]["ddim"]["evaluations"] == 6 and report["totals"]["sds"]["evaluations"] == 4
    assert all(total["accepted"] == 0 for total in report["totals"].values())  # of random weights
    assert Image.open(tmp_path / "contact_sheet.png").width > 600


def test_compare_says_which_guidance_ddim_had(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("msd_core.cli.contact_sheet.DDIM_STEPS", 1)
    for words, cfg in (((), 3.0), (("--cfg", "5"), 5.0)):
        out = tmp_path / str(cfg)
        assert main(["compare", PROMPT, "--out", str(out), "--methods", "ddim", *words, "--model", str(model)]) == 0
        told = json.loads((out / "compare.json").read_text(encoding="utf-8"))
        assert told["settings"]["ddim"] == {"steps": 1, "cfg": cfg}


def test_compare_refuses_what_it_cannot_judge_before_it_draws(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def drawn(*_: object) -> None:
        raise AssertionError("drawn")

    monkeypatch.setattr("msd_core.cli.contact_sheet._cell", drawn)
    unseen = "a white circle on a white background"
    assert main(["compare", PROMPT, unseen, "--out", str(tmp_path), "--methods", "ddim"]) == 2
    told = capsys.readouterr().err
    assert f"PROMPT: '{unseen}' cannot be judged" in told and "change one of the two" in told
    assert not list(tmp_path.iterdir())


def test_compare_refuses_an_unknown_pull(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["compare", PROMPT, "--out", str(tmp_path), "--pull", "both"]) == 2
    assert "--pull: got 'both'; allowed are 'image', 'latent'" in capsys.readouterr().err


def test_compare_refuses_an_unknown_method(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["compare", PROMPT, "--out", str(tmp_path), "--methods", "ddim", "vsd"]) == 2
    assert "--methods: got 'vsd'" in capsys.readouterr().err
    assert main(["compare", PROMPT, "--out", str(tmp_path), "--methods", "ddim", "dds"]) == 2
    assert "--methods: got 'dds'; allowed are 'ddim', 'msd'" in capsys.readouterr().err


def test_the_pull_decides(distil: Callable[..., int], finished: Path, tmp_path: Path) -> None:
    assert distil(PROMPT, "--out", tmp_path, *QUICK, "--pull", "latent") == 0
    assert not np.array_equal(pixels(tmp_path / "picture.png"), pixels(finished / "picture.png"))


def test_a_missing_package_is_one_line_that_says_what_to_install(tmp_path: Path) -> None:
    code = "import sys; sys.modules['tqdm'] = None; from msd_core.cli.main import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "distill", PROMPT, "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)  # noqa: S603
    assert done.returncode == 2
    assert done.stderr.startswith("msd: error: ") and done.stderr.count("\n") == 1
    assert "pip install '.[headless]'" in done.stderr


def test_a_run_writes_its_files(finished: Path, capsys: pytest.CaptureFixture) -> None:
    assert {path.name for path in finished.iterdir()} == FILES
    assert Image.open(finished / "picture.png").size == (512, 512)
    assert Image.open(finished / "animation.webp").n_frames > 1
    generator = load_generator(finished / "generator.safetensors")
    drawn = (255 * generator.render(View(512, 512))[0]).round().movedim(0, -1).detach().numpy()
    assert np.array_equal(drawn, pixels(finished / "picture.png"))


def test_metrics_tell_every_step_and_the_totals(finished: Path) -> None:
    told = metrics(finished)
    assert told["finished"] and told["settings"]["seed"] == 0 and told["settings"]["prompt"] == PROMPT
    assert [step["step"] for step in told["steps"]] == [1, 2, 3, 4, 5, 6]
    bandwidths = [step["bandwidth"] for step in told["steps"]]
    assert bandwidths == sorted(bandwidths, reverse=True)
    assert told["evaluations"] == sum(step["evaluations"] for step in told["steps"]) == 12  # cfg doubles the rows
    assert told["timing"]["seconds"] > 0


def test_the_progress_bar_shows_bandwidth_norm_and_evaluations(
    distil: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert distil(PROMPT, "--out", tmp_path, *QUICK, "--steps", 2) == 0
    bar = capsys.readouterr().err
    assert "2/2" in bar and "λ 0.7" in bar and "|m| " in bar and "4 evaluations" in bar


def test_the_same_seed_gives_the_same_bits_and_another_does_not(
    finished: Path, distil: Callable[..., int], tmp_path: Path
) -> None:
    assert distil(PROMPT, "--out", tmp_path / "same", *QUICK) == 0
    assert distil(PROMPT, "--out", tmp_path / "other", *QUICK, "--seed", 1) == 0
    for name in EXACT_FILES:
        assert (tmp_path / "same" / name).read_bytes() == (finished / name).read_bytes(), name
    same, first = metrics(tmp_path / "same"), metrics(finished)
    assert same.pop("timing") and first.pop("timing") and same == first
    assert (tmp_path / "other" / "picture.png").read_bytes() != (finished / "picture.png").read_bytes()


@pytest.fixture
def stop_at(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """`stop_at(n, result)`: from its n-th evaluation on the model raises `result`, or returns that number."""
    original = PromptDenoiser.__call__

    def arm(count: int, result: BaseException | float) -> None:
        calls = iter(range(1, 10**9))

        def denoise(self: PromptDenoiser, z: torch.Tensor, sigma: float | torch.Tensor) -> torch.Tensor:
            if next(calls) < count:
                return original(self, z, sigma)
            if isinstance(result, BaseException):
                raise result
            return torch.full_like(z, result)

        monkeypatch.setattr(PromptDenoiser, "__call__", denoise)

    yield arm
    monkeypatch.undo()


def test_stopped_in_the_middle_of_a_step_and_resumed_it_is_as_if_it_had_not_been_stopped(
    finished: Path,
    distil: Callable[..., int],
    stop_at: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
) -> None:
    stop_at(4, KeyboardInterrupt())
    assert distil(PROMPT, "--out", tmp_path, *QUICK) == 130
    told = capsys.readouterr().err
    assert "stopped after 3 of 6 steps" in told and f"msd distill --resume --out {tmp_path}" in told
    assert not metrics(tmp_path)["finished"] and len(metrics(tmp_path)["steps"]) == 3
    assert all((tmp_path / name).exists() for name in EXACT_FILES)
    monkeypatch.undo()
    assert distil("--out", tmp_path, "--resume") == 0
    for name in EXACT_FILES:
        assert (tmp_path / name).read_bytes() == (finished / name).read_bytes(), name
    assert {path.name for path in tmp_path.iterdir()} == FILES


def test_resuming_with_another_noise_would_be_noticed(
    finished: Path,
    distil: Callable[..., int],
    stop_at: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Negative control of the test above, with an estimator that draws noise."""
    noisy = ("--size", "64x64", "--steps", 4, "--estimator", "exact", "--solver-steps", 2)
    assert distil(PROMPT, "--out", tmp_path / "whole", *noisy) == 0
    stop_at(7, KeyboardInterrupt())
    assert distil(PROMPT, "--out", tmp_path / "parts", *noisy) == 130
    monkeypatch.undo()
    change_noise(tmp_path / "parts" / "state.safetensors")
    assert distil("--out", tmp_path / "parts", "--resume") == 0
    assert (tmp_path / "parts" / "picture.png").read_bytes() != (tmp_path / "whole" / "picture.png").read_bytes()


def change_noise(path: Path) -> None:
    """Give the saved state another random state."""
    state = load_state(path)
    save_state(replace(state, rng_state=torch.Generator().manual_seed(99).get_state()), path)


def test_a_real_ctrl_c(model: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "msd_core.cli.main", "distill", PROMPT, "--out", tmp_path, "--model", model]
    command += ["--size", "64x64", "--steps", "100000", "--bandwidth-end", "0.001", "--estimator", "one-step"]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in the background: a child inherits it
    process = subprocess.Popen(command, stderr=subprocess.PIPE)  # noqa: S603
    signal.signal(signal.SIGINT, before)
    try:
        seen = b""
        while not re.search(rb"[1-9]\d*/100000", seen):
            seen += process.stderr.read1()
            assert process.poll() is None, seen.decode()
        process.send_signal(signal.SIGINT)
        told = process.communicate(timeout=60)[1].decode()
    finally:
        process.kill()
    assert process.returncode == 130
    assert "msd: stopped after" in told and "Traceback" not in told
    assert not metrics(tmp_path)["finished"]


def test_an_early_end_by_the_smallest_bandwidth_is_a_finished_run(distil: Callable[..., int], tmp_path: Path) -> None:
    assert distil(PROMPT, "--out", tmp_path, *QUICK, "--bandwidth-start", 8, "--min-bandwidth", 2) == 0
    told = metrics(tmp_path)
    assert told["finished"] and len(told["steps"]) == 3 and told["steps"][-1]["bandwidth"] >= 2


DRAWING = [name for name in METHODS if "source" not in needs_of(METHODS[name]())]
PAIRS = [
    (method, kind) for method in DRAWING for kind in GENERATORS if method == "msd" or kind in ("fourier", "vector")
]
"""Every method and every generator: what a method moves is a picture, whoever drew it."""


@pytest.mark.parametrize(("method", "kind"), PAIRS)
def test_every_method_and_every_generator(
    distil: Callable[..., int], tmp_path: Path, model: Path, method: str, kind: str
) -> None:
    chosen = ("--method", method, "--generator", kind, "--size", "32x16")
    quick = {"msd": ("--estimator", "one-step"), "sdi": ("--inversion-steps", 2)}.get(method, ())
    quick += ("--rays", 8, "--ray-samples", 4) if kind == "volume" else ()
    assert distil(PROMPT, "--out", tmp_path, *chosen, *quick, "--steps", 2) == 0
    assert metrics(tmp_path)["steps"][1]["norm"] > 0
    assert Image.open(tmp_path / "picture.png").size == (512, 256)
    render = ["render", str(tmp_path / "generator.safetensors"), "--size", "512x256", "--model", str(model)]
    assert main(render) == 0
    assert np.array_equal(pixels(tmp_path / "generator.png"), pixels(tmp_path / "picture.png"))


def test_render_draws_the_same_picture_at_any_size(finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "small.png"
    assert main(["render", str(finished / "generator.safetensors"), "--size", "100x50", "--out", str(out)]) == 0
    large = Image.open(finished / "picture.png").resize((100, 50), Image.Resampling.BOX)
    assert pixels(out).shape == (50, 100, 3)
    assert np.abs(pixels(out) - np.asarray(large, dtype=int)).mean() < 3


def test_render_keeps_the_proportions_unless_told_otherwise(
    distil: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert distil(PROMPT, "--out", tmp_path, *QUICK, "--steps", 1, "--size", "64x32") == 0
    render = ["render", str(tmp_path / "generator.safetensors")]
    for words, size, told in (
        ((), (512, 256), ""),
        (("--size", "100x50"), (100, 50), ""),
        (("--size", "101x50"), (101, 50), ""),
        (("--size", "128"), (128, 128), "--size 128x128 stretches a picture of 64x32; unstretched it is 128x64"),
    ):
        capsys.readouterr()
        assert main([*render, *words]) == 0
        said = capsys.readouterr()
        assert Image.open(tmp_path / "generator.png").size == size and f"{size[0]}x{size[1]}" in said.out
        assert told in said.err and ("stretches" in said.err) == bool(told)
    assert main(render) == 0
    assert np.array_equal(pixels(tmp_path / "generator.png"), pixels(tmp_path / "picture.png"))


def test_samples_depend_on_the_seed_alone(model: Path, tmp_path: Path) -> None:
    def sample(name: str, *arguments: str) -> np.ndarray:
        out = tmp_path / f"{name}.png"
        assert main(["sample", PROMPT, "--out", str(out), "--steps", "3", "--model", str(model), *arguments]) == 0
        return pixels(out)

    one, three, other = sample("one"), sample("three", "--n", "3"), sample("other", "--seed", "1")
    assert one.shape == (128, 128, 3) and three.shape == (256, 256, 3)
    assert np.abs(three[:128, :128] - one).max() <= 1  # a batch may round differently
    assert (three[128:, 128:] == 255).all()
    assert np.abs(other - one).max() > 5


@pytest.mark.parametrize("steps", [1, 2, 47, 48, 49, 120, 400])
def test_frames_are_few_and_include_the_last(steps: int) -> None:
    frames = [step for step in range(1, steps + 1) if is_frame(step, steps)]
    assert frames[-1] == steps and min(steps, FRAMES // 2) <= len(frames) <= FRAMES + 1


def test_every_name_is_in_the_help(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        main(["distill", "--help"])
    told = capsys.readouterr().out
    curves = [name for name in BANDWIDTHS if name != "listed"]
    names = (METHODS, GENERATORS, ESTIMATORS, SOLVERS, curves, OPTIMIZERS, WEIGHTINGS, ANNEALINGS, CENTRES)
    missing = [name for group in names for name in group if name not in told]
    assert not missing and "listed" not in told
    assert "--lr" in told.split("defaults")[-1]


def test_the_help_of_all_commands_needs_no_torch() -> None:
    code = "import sys; from msd_core.cli import main; main.make_parser().format_help(); print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"  # noqa: S603


def test_the_command_line_takes_any_model(tmp_path: Path, model: Path, capsys: pytest.CaptureFixture) -> None:
    """A model of another kind, with other cells and another side, is what says so."""

    class Coarse:
        cell, channels, side, differentiable = 16, 4, 48, False

        def __init__(self, path: Path) -> None:
            self.demo = load_demo_model(path)

        def encode(self, picture: torch.Tensor) -> torch.Tensor:
            return self.demo.encode(torch.nn.functional.avg_pool2d(picture, 2))

        def decode(self, x: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.interpolate(self.demo.decode(x), scale_factor=2)

        def denoiser(self, *prompt: object) -> PromptDenoiser:
            return self.demo.denoiser(*prompt)

    MODELS.register("coarse", Coarse)
    try:
        run = [
            "distill",
            PROMPT,
            "--out",
            str(tmp_path),
            "--model-kind",
            "coarse",
            "--steps",
            "1",
            "--estimator",
            "one-step",
        ]
        assert main(run) == 2 and "--model: got none with --model-kind coarse" in capsys.readouterr().err
        own = [*run, "--model", str(model)]
        assert main([*own, "--size", "40x48"]) == 2 and "multiples of 16" in capsys.readouterr().err
        assert main([*own, "--size", "64x64", "--pull", "latent"]) == 2
        assert "pull: got 'latent'" in capsys.readouterr().err
        assert main([*own, "--size", "64x64"]) == 0 and metrics(tmp_path)["settings"]["size"] == [64, 64]
    finally:
        del MODELS._entries["coarse"]
    assert main(own) == 2 and "kind: got 'coarse'; allowed are 'demo'" in capsys.readouterr().err


def test_many_samples_go_in_batches_and_are_the_same(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sample(name: str) -> np.ndarray:
        out = tmp_path / f"{name}.png"
        assert main(["sample", PROMPT, "--out", str(out), "--steps", "2", "--n", "5", "--model", str(model)]) == 0
        return pixels(out)

    whole = sample("whole")
    monkeypatch.setattr("msd_core.cli.sample.AT_ONCE", 2 * 64 * 64)
    assert np.abs(sample("split") - whole).max() <= 1  # a batch may round differently
    assert np.abs(whole[:64, :64] - whole[:64, 64:128]).max() > 5, "each has noise of its own"


def test_render_draws_in_tiles_under_a_bar(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def render(name: str) -> np.ndarray:
        out = tmp_path / name
        assert main(["render", str(finished / "generator.safetensors"), "--size", "600x90", "--out", str(out)]) == 0
        return pixels(out)

    drawn = render("tiles.png")
    assert "2/2" in capsys.readouterr().err
    whole = load_generator(finished / "generator.safetensors").render(View(90, 600))[0].detach()
    assert np.abs(np.rint(255 * whole.movedim(0, -1).numpy()) - drawn).max() <= 1


@pytest.mark.parametrize("command", ["render", "sample"])
def test_ctrl_c_leaves_the_old_picture_whole(
    command: str, finished: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "old.png"
    out.write_bytes(b"old")

    def stopped(picture: Image.Image, path: Path) -> None:
        Path(path).write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(Image.Image, "save", stopped)
    subject = str(finished / "generator.safetensors") if command == "render" else PROMPT
    steps = [] if command == "render" else ["--steps", "1"]
    assert main([command, subject, *steps, "--out", str(out), "--model", str(model)]) == 130
    assert out.read_bytes() == b"old" and list(tmp_path.iterdir()) == [out]
