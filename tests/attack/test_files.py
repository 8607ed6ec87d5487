"""Files that attack: those that were found to do harm, by name, and a part of `files.py`.

Memory is measured as the largest tensor that was made while a file was read: what a file asks for must not be made
before the file is known to hold it.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from msd_core import GENERATORS, Canvas, Generator, View, load_generator, load_state, make_generator, save_generator
from msd_core.cli.unfinished import check_frames, saved_settings
from msd_core.demo.model import DEMO_MODEL_PATH, FORMAT, VERSION, DemoModel
from msd_core.jsontext import parse_json
from msd_core.layout import Entry
from msd_core.model import MODELS, load_model
from msd_core.tensorfile import LARGEST_HEADER, read_tensors, write_tensors
from msd_core.training import training_steps

ATTACK = Path(__file__).with_name("files.py")


@pytest.fixture(scope="module")
def files() -> ModuleType:
    spec = importlib.util.spec_from_file_location("attack_files", ATTACK)
    assert spec is not None and spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Largest(TorchDispatchMode):
    """Bytes of the largest tensor with numbers that is made inside."""

    def __init__(self) -> None:
        super().__init__()
        self.size = 0

    def __torch_dispatch__(
        self,
        func: Callable,
        types: object,
        args: tuple = (),
        kwargs: dict | None = None,  # noqa: ANN401
    ) -> Any:  # noqa: ANN401
        made = func(*args, **(kwargs or {}))
        for one in made if isinstance(made, (tuple, list)) else [made]:
            if isinstance(one, Tensor) and not one.is_meta:
                self.size = max(self.size, one.numel() * one.element_size())
        return made


def refused(read: Callable[[], object], words: str, most: int = 2**20) -> None:
    """A ValueError with these words, at once, and with nothing large made for it."""
    began, watch = time.process_time(), Largest()
    with pytest.raises(ValueError, match=words) as caught, watch:
        read()
    assert time.process_time() - began < 1 and watch.size <= most, watch.size
    assert len(str(caught.value)) < 2000


def generator_file(path: Path, tensors: Callable[[dict], dict] = dict, kind: str = "fourier", **config: object) -> Path:
    """A small generator's file with another config, and with its tensors passed through a function."""
    generator = make_generator(kind, **{"pixels": {"height": 8, "width": 8}}.get(kind, {"hidden": 8, "layers": 2}))
    text = json.dumps(generator.config() | config)
    about = {"format": "msd-generator", "version": "1", "kind": kind, "config": text}
    save_file({name: t.contiguous() for name, t in tensors(generator.state_dict()).items()}, path, about)
    return path


def filled(value: float) -> Callable[[dict], dict]:
    return lambda tensors: {name: torch.full_like(tensor, value) for name, tensor in tensors.items()}


# --- a part of the thousands ------------------------------------------------------------------------------------------


def test_three_hundred_spoilt_files() -> None:
    """Within two gigabytes more than torch itself maps."""
    done = subprocess.run(  # noqa: S603
        [sys.executable, str(ATTACK), "--count", "300", "--seed", "12"], capture_output=True, text=True
    )
    assert done.returncode == 0 and "300 files" in done.stdout and " 0 failures" in done.stdout, (
        done.stdout + done.stderr
    )


def _busy(path: Path) -> list[Tensor]:
    began = time.process_time()
    while time.process_time() - began < 0.3:
        pass
    return []


def _raises(error: Exception) -> Callable[[Path], list[Tensor]]:
    def read(path: Path) -> list[Tensor]:
        raise error

    return read


@pytest.mark.parametrize(
    ("read", "found"),
    [
        (_raises(KeyError("step")), "KeyError"),
        (_raises(ValueError("unclear")), "unclear"),
        (_raises(ValueError("path: cannot allocate memory")), "memory"),
        (lambda path: [torch.tensor([0.0, torch.nan])], "draws NaN"),
        (_busy, "takes too long"),
    ],
)
def test_planted_failures_are_found(
    files: ModuleType, monkeypatch: pytest.MonkeyPatch, read: Callable, found: str
) -> None:
    monkeypatch.setattr(files, "SECONDS", 0.25)
    assert files.judge(read, Path("x")).what.startswith(found)


def test_a_planted_hang_is_stopped(files: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "HANGS", 0.1)
    assert files.judge(_busy, Path("x")).what == "hangs"


# --- generators -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "config", "words"),
    [
        ("fourier", {"hidden": 16000}, r"size mismatch: got float32 \(8, 128\); allowed is float32 \(16000, 128\)"),
        ("fourier", {"layers": 10**6}, "layers: got 1000000; allowed is .*at most 128"),
        ("hashgrid", {"levels": 10**6}, "levels: got 1000000; allowed is .*at most 64"),
        ("hashgrid", {"entries": 2**24, "finest": 2**14}, "field.table: size mismatch"),
        ("fourier", {"features": 10**30}, "at most 20 digits|plain ones of 20 digits"),
        ("fourier", {"scale": 10**19}, "scale: got 10000000000000000000; allowed are whole numbers up to"),
        ("fourier", {"scale": 1e300}, "scale: got 1e.300; allowed is a finite number from 1e-05 to 100000"),
        ("siren", {"omega": 1e-300}, "omega: got 1e-300; allowed"),
        ("siren", {"omega": float("nan")}, "config: holds the number NaN"),
        ("fourier", {"seed": 2**64}, "seed: got 18446744073709551616; allowed"),
        ("fourier", {"size": [8]}, r"size: got \[8\]; allowed"),
        ("pixels", {"height": 2**14, "width": 2**14}, "values: size mismatch"),
        ("fourier", {"hidden": [[[[8]]]]}, "hidden: got"),
    ],
)
def test_a_config_that_asks_for_too_much(tmp_path: Path, kind: str, config: dict[str, object], words: str) -> None:
    path = generator_file(tmp_path / "g", kind=kind, **config)
    refused(lambda: load_generator(path), words)


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        (lambda t: {n: x.to(torch.float8_e4m3fn) for n, x in t.items()}, "is of type F8_E4M3; allowed is float32"),
        (lambda t: {n: x.to(torch.complex64) for n, x in t.items()}, "is of type complex64; allowed is float32"),
        (lambda t: {n: x.double() for n, x in t.items()}, "is of type float64; allowed is float32"),
        (lambda t: {n: x.int() for n, x in t.items()}, "is of type int32; allowed is float32"),
        (lambda t: {n + "x": x for n, x in t.items()}, "field.frequencies: is missing"),
        (lambda t: t | {"more": torch.zeros(1)}, "more: is no part of it"),
        (lambda t: t | {"field.frequencies": torch.zeros(2, 64)}, "field.frequencies: size mismatch"),
        (filled(1e38), "field.frequencies .* holds numbers as large as 1e.38; allowed are up to 1e.06"),
        (filled(torch.nan), "NaN or infinity"),
    ],
)
def test_tensors_that_are_not_the_generators(tmp_path: Path, tensors: Callable[[dict], dict], words: str) -> None:
    path = generator_file(tmp_path / "g", tensors)
    refused(lambda: load_generator(path), words)


def test_half_precision_that_float32_holds_is_read(tmp_path: Path) -> None:
    path = generator_file(tmp_path / "g", lambda t: {n: x.half() for n, x in t.items()})
    assert next(load_generator(path).parameters()).dtype == torch.float32


def test_finite_numbers_that_draw_nan(tmp_path: Path) -> None:
    """Each is allowed, but through twenty layers they overflow; with few layers they do not."""
    for layers, words in ((20, "draws NaN or infinity, although its numbers are finite"), (1, "")):
        generator = make_generator("fourier", hidden=8, layers=layers)
        with torch.no_grad():
            for parameter in generator.parameters():
                parameter.copy_(torch.where(parameter < 0, -9e5, 9e5))
        save_generator(generator, tmp_path / "g")
        if words:
            refused(lambda: load_generator(tmp_path / "g"), words)
        else:
            assert torch.isfinite(load_generator(tmp_path / "g").render(View(64, 64))).all()


def raw(path: Path, header: dict, length: int = 0) -> Path:
    """A file of this header and ``length`` bytes that are not on the disk."""
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text)
    with path.open("r+b") as file:
        file.truncate(8 + len(text) + length)
    return path


def about(**config: object) -> dict[str, str]:
    return {"format": "msd-generator", "version": "1", "kind": "pixels", "config": json.dumps(config)}


def test_eight_gigabytes_are_refused_by_their_header(tmp_path: Path) -> None:
    size = 8 * 2**30
    tensor = {"dtype": "F32", "shape": [size // 4], "data_offsets": [0, size]}
    path = raw(tmp_path / "g", {"__metadata__": about(height=8, width=8), "values": tensor}, size)
    refused(lambda: load_generator(path), r"size mismatch: got float32 \(2147483648\)")


def test_a_header_that_is_too_long_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "g"
    path.write_bytes((LARGEST_HEADER + 1).to_bytes(8, "little"))
    with path.open("r+b") as file:
        file.truncate(2**30)
    refused(lambda: load_generator(path), "a header of 4194305 bytes; allowed are 4194304")
    with pytest.raises(ValueError, match="bytes of names and text; allowed are"):
        write_tensors(path, {}, "f", "1", {"text": "x" * LARGEST_HEADER})


def test_thousands_of_entries_and_deep_text(tmp_path: Path) -> None:
    empty = {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}
    many = raw(tmp_path / "g", {"__metadata__": about(height=8, width=8), **{str(i): empty for i in range(40_000)}})
    refused(lambda: load_generator(many), "values: is missing")
    for text in ("[" * 500_000, '{"a":' * 500 + "1" + "}" * 500, "[" * 40 + "]" * 40, "9" * 5000, "x" * 2**21):
        refused(lambda text=text: parse_json("config", text), "^config: ")
    assert parse_json("interval", "[0.1, Infinity]", infinite=True) == [0.1, float("inf")]


def test_a_batch_ends_at_its_first_wrong_member(tmp_path: Path) -> None:
    members = {"members": [["fourier", {"hidden": 8, "layers": 128}]] * 1000}
    header = {"__metadata__": about() | {"kind": "batch", "config": json.dumps(members)}}
    refused(lambda: load_generator(raw(tmp_path / "g", header)), "members.0.field.frequencies: is missing")
    one = ["pixels", {"height": 1, "width": 1}]
    for wrong in ([one] * 20_000, [[]], [["siren"]], [{}], ["ab"], 5, [[["siren"], {}]]):
        header = {"__metadata__": about() | {"kind": "batch", "config": json.dumps({"members": wrong})}}
        refused(lambda header=header: load_generator(raw(tmp_path / "g", header)), "members|config")


class NeedsNumbers(Generator):
    """A kind from outside that cannot be made where there are only shapes."""

    kind = "needs-numbers"  # type: ignore[assignment]

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.values = nn.Parameter(torch.full((1, 3, int(torch.tensor(rows)), 1), 0.5))

    @property
    def canvas(self) -> Canvas:
        return Canvas(1, self.values.shape[2])

    def config(self) -> dict[str, int]:
        return {"rows": self.values.shape[2]}

    def render(self, view: View) -> Tensor:
        return nn.functional.interpolate(self.values, (view.height, view.width))


def test_a_kind_from_outside_that_needs_numbers(tmp_path: Path) -> None:
    GENERATORS.register("needs-numbers", NeedsNumbers)
    try:
        save_generator(NeedsNumbers(4), tmp_path / "g")
        loaded = load_generator(tmp_path / "g")
        assert loaded.config() == {"rows": 4} and torch.equal(loaded.render(View(4, 1)), NeedsNumbers(4).values)
        tensors, text = read_tensors(tmp_path / "g", "msd-generator", "1")
        for rows, words in ((5, "size mismatch"), (2**24 + 1, "rows: got 16777217; allowed are whole numbers up to")):
            save_file(tensors, tmp_path / "h", text | {"config": json.dumps({"rows": rows})})
            refused(lambda: load_generator(tmp_path / "h"), words)
    finally:
        GENERATORS._entries.pop("needs-numbers")


# --- states and frames ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def state(files: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("samples")
    known = {sample.name: sample for sample in files.samples(folder)}
    (folder / "state").write_bytes(known["state, fourier, adam"].content)
    return folder / "state"


def memory(value: float, kind: str) -> Callable[[dict], dict]:
    return lambda t: {n: torch.full_like(x, value) if n.endswith(kind) else x for n, x in t.items()}


def next_normal(tensors: dict) -> dict:
    """The random numbers with a NaN kept for the next draw, where torch keeps the second of a pair."""
    rng = tensors["rng"].clone()
    rng[5024:5032] = torch.tensor([torch.nan], dtype=torch.float64).view(torch.uint8)
    rng[5040] = 1
    return tensors | {"rng": rng}


@pytest.mark.parametrize(
    ("text", "tensors", "words"),
    [
        ({"step": "9" * 5000}, dict, "step: got '9999"),
        ({"steps": "9" * 10}, dict, "steps: got '9999999999'; allowed is a whole number from 0 to 1000000000"),
        ({"step": "3"}, dict, r"history: size mismatch: got float64 \(2, 5\); allowed is float64 \(3, 5\)"),
        ({"seed": "[" * 5000}, dict, "seed: is no JSON"),
        ({"seed": "-1"}, dict, "seed: got -1"),
        ({"seed": "[1, 2]"}, dict, "rng: size mismatch"),
        ({"optimizer": "sgd"}, dict, "optimizer: got 'sgd'"),
        ({"optimizer": "gd"}, dict, "is no memory of 'gd'"),
        ({}, memory(torch.inf, ".mean"), "optimizer.field.network.0.bias.mean: holds numbers that no mean can be"),
        ({}, memory(-1, ".square"), "square: holds numbers that no mean can be"),
        ({}, lambda t: {n: x for n, x in t.items() if "optimizer" not in n}, "its means are missing"),
        ({}, lambda t: t | {"optimizer.x.mean": torch.zeros(1)}, "optimizer.x.mean: is no memory"),
        ({}, lambda t: {n: x[..., None] if n.endswith(".mean") else x for n, x in t.items()}, "mean: got float32"),
        ({}, lambda t: t | {"history": t["history"] * torch.nan}, "history: got the row"),
        ({}, lambda t: t | {"history": t["history"] + 0.5}, "history: got the row .* the first a count"),
        ({}, lambda t: t | {"rng": torch.zeros(9, dtype=torch.uint8)}, "rng: size mismatch"),
        ({}, next_normal, "rng: it draws NaN"),
        ({}, lambda t: t | {"more": torch.zeros(1)}, "more: is no part of it"),
    ],
)
def test_a_state_that_cannot_be(
    state: Path, tmp_path: Path, text: dict[str, str], tensors: Callable[[dict], dict], words: str
) -> None:
    found, metadata = read_tensors(state, "msd-state", "1")
    save_file({n: x.contiguous() for n, x in tensors(found).items()}, tmp_path / "s", metadata | text)
    refused(lambda: load_state(tmp_path / "s"), f"path: the .* is damaged .*{words}")


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ({"seconds": "1"}, "'settings': there is no such text entry"),
        ({"settings": "{", "seconds": "1"}, "settings: is no JSON"),
        ({"settings": "[]", "seconds": "1"}, "damaged"),
        ({"settings": "{}"}, "'seconds': there is no such text entry"),
    ],
)
def test_a_state_without_what_the_command_line_needs(entries: dict[str, str], words: str) -> None:
    refused(lambda: saved_settings(Path("s"), entries), f"path: 's' is not of a run of the command line.*{words}")


@pytest.mark.parametrize(
    ("name", "entry"),
    [
        ("00000001", Entry("float32", (8, 8, 3))),
        ("00000001", Entry("uint8", (8, 8, 4))),
        ("00000001", Entry("uint8", (8, 8))),
        ("00000001", Entry("uint8", (257, 8, 3))),
        ("00000001", Entry("uint8", (0, 8, 3))),
        ("first", Entry("uint8", (8, 8, 3))),
        ("9" * 5000, Entry("uint8", (8, 8, 3))),
    ],
)
def test_what_is_no_frame(name: str, entry: Entry) -> None:
    check_frames(Path("f"), {"00000001": Entry("uint8", (256, 8, 3))}, {})
    refused(lambda: check_frames(Path("f"), {name: entry}, {}), "path: '.* is .* Use another copy")


# --- models and checkpoints -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        (lambda t: {("x" if i == 0 else n): x for i, (n, x) in enumerate(t.items())}, "is missing; wanted is"),
        (lambda t: {n: x[None] if "time_embed.0.weight" in n else x for n, x in t.items()}, "size mismatch"),
        (lambda t: {n: x.to(torch.float8_e5m2) for n, x in t.items()}, "is of type F8_E5M2"),
        (filled(torch.inf), "holds NaN or infinity"),
        (lambda t: {n: torch.full(x.shape, 1e38) for n, x in t.items()}, "draws NaN or infinity"),
    ],
)
def test_a_model_of_other_tensors(tmp_path: Path, tensors: Callable[[dict], dict], words: str) -> None:
    found, metadata = read_tensors(DEMO_MODEL_PATH, FORMAT, VERSION)
    save_file(tensors(found), tmp_path / "m", metadata)
    model = DemoModel.random(0)
    with pytest.raises(ValueError, match=words):
        model.load(tmp_path / "m")


def test_a_model_of_another_config(tmp_path: Path) -> None:
    tensors, metadata = read_tensors(DEMO_MODEL_PATH, FORMAT, VERSION)
    config = json.loads(metadata["config"])
    config["unet"]["num_heads"] = 8
    save_file(tensors, tmp_path / "m", metadata | {"config": json.dumps(config)})
    with pytest.raises(ValueError, match="config: its unet are not those of this release"):
        DemoModel.random(0).load(tmp_path / "m")


def test_what_another_package_s_model_raises(tmp_path: Path) -> None:
    def broken(path: Path) -> None:
        raise KeyError("weights")

    MODELS.register("broken", broken)
    try:
        with pytest.raises(ValueError, match="cannot be read as a model of the kind 'broken' .'weights'."):
            load_model(tmp_path, "broken")
    finally:
        MODELS._entries.pop("broken")
    with pytest.raises(ValueError, match="path: got 3; allowed is the path of a file"):
        load_model(3)  # type: ignore[arg-type]


def checkpoint(path: Path, steps: int = 3, side: int = 3) -> list[int]:
    model = nn.Linear(side, 2)
    walk = training_steps(
        model, lambda step: model.weight.square().sum() + model.bias.square().sum(), path,
        steps=steps, lr=0.1, decay_fraction=0.5, save_every=2,
    )  # fmt: skip
    return [step.done for step in walk]


def compressed(path: Path) -> None:
    with zipfile.ZipFile(path) as file:
        parts = {name: file.read(name) for name in file.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in parts.items():
            file.writestr(name, content)


def resaved(change: Callable[[dict], object]) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        saved = torch.load(path, weights_only=True)
        change(saved)
        torch.save(saved, path)

    return spoil


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda p: p.write_bytes(p.read_bytes()[:-100]), ""),
        (lambda p: p.write_bytes(b""), ""),
        (lambda p: p.write_bytes(b"\x80\x02certainly no checkpoint"), "not a zip file"),
        (compressed, "a part of it is compressed"),
        (resaved(lambda s: s.pop("step")), "does not hold model, optimizer, step"),
        (resaved(lambda s: s.update(step=-1)), "its step is no count"),
        (resaved(lambda s: s["model"].pop("bias")), "model.bias: is missing"),
        (resaved(lambda s: s["model"].update(bias=torch.full((2,), torch.nan))), "model.bias holds NaN"),
        (resaved(lambda s: s["model"].update(bias=torch.zeros(2, dtype=torch.complex64))), "is of type complex64"),
        (resaved(lambda s: s["optimizer"]["param_groups"][0].update(eps=1.0)), "other settings"),
        (resaved(lambda s: s["optimizer"]["state"][0].update(exp_avg=torch.zeros(1))), "exp_avg: size mismatch"),
        (resaved(lambda s: s["optimizer"]["state"][0]["exp_avg_sq"].fill_(-1)), "no mean can be"),
    ],
)
def test_a_damaged_checkpoint(tmp_path: Path, spoil: Callable[[Path], object], words: str) -> None:
    path = tmp_path / "c.pt"
    assert checkpoint(path) == [1, 2, 3] and checkpoint(path, steps=4) == [4]
    spoil(path)
    refused(lambda: checkpoint(path), f"checkpoint: .* is damaged, or of another training .*{words}.* Delete it")


def test_the_checkpoint_of_another_training(tmp_path: Path) -> None:
    checkpoint(tmp_path / "c.pt")
    refused(lambda: checkpoint(tmp_path / "c.pt", side=4), "model.weight: size mismatch")
