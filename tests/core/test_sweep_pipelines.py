"""A sweep on pipelines of diffusers: every kind, as folder and file; other weights give other cells."""

from __future__ import annotations

import csv
import hashlib
import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

pytest.importorskip("diffusers", reason="diffusers is not installed: pip install '.[diffusers]'")
pytest.importorskip("transformers", reason="transformers is not installed: pip install '.[diffusers]'")
sys.path.insert(0, str(Path(__file__).parent))
from tiny_pipelines import KINDS, pipeline
from tiny_single_file import single_file

from msd_core import load_model
from msd_core.cli import digests
from msd_core.cli.digests import Digests, digest_of_model, files_of_model
from msd_core.cli.main import main
from msd_core.pipelines.model import load_pipeline, quiet
from msd_core.sweep.cells import run_batch
from msd_core.sweep.grid import Cell, grid_of
from msd_core.sweep.plan import plan_of
from msd_core.units import units_of

pytestmark = pytest.mark.core
PROMPTS = ["a red cup", "a photo of a cat"]
SAMPLE = {"method": "ddim", "steps": 2, "cfg": 1.0}
FAST = {"method": "msd", "preset": "fast", "steps": 1, "inner_steps": 1, "cfg": 1.0}
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    known: dict[str, Path] = {}
    quiet()

    def get(kind: str) -> Path:
        if kind not in known:
            known[kind] = tmp_path_factory.mktemp(kind) / "pipe"
            pipeline(kind, known[kind].parent / "words").save_pretrained(known[kind])
        return known[kind]

    return get


def grid_on(model: Path, **changes: object) -> dict[str, object]:
    return {
        "prompts": PROMPTS, "settings": {"sample": SAMPLE}, "size": [32, 32], "model": str(model),
        "model_kind": "diffusers", **changes,
    }  # fmt: skip


def sweep(folder: Path, grid: dict[str, object], *words: str) -> int:
    (folder / "grid.yaml").write_text(json.dumps(grid))
    return main(["sweep", str(folder / "grid.yaml"), "--out", str(folder / "out"), "--threads", "1", *words])


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_swept(kind: str, saved: Callable[[str], Path], tmp_path: Path) -> None:
    """No verdict of the judge, not even of a prompt that is a caption of its world, and none of 0 either."""
    settings = {"sample": SAMPLE, "fast": FAST, "sds": {"method": "sds", "steps": 1, "cfg": 2.0, "negative": "a cat"}}
    assert sweep(tmp_path, grid_on(saved(kind), settings=settings)) == 0
    with (tmp_path / "out" / "results.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    spent = {("sample", "2"), ("fast", "3"), ("sds", "2")}
    assert len(rows) == 6 and {(row["setting"], row["evaluations"]) for row in rows} == spent
    assert all(row[name] == "" for row in rows for name in ("accepted", "iou", "stray", "wrong"))
    assert all(0 < float(row["surprise"]) < 10 for row in rows)
    head = (tmp_path / "out" / "summary.csv").read_text(encoding="utf-8").splitlines()[0]
    assert "surprise" in head and "iou" not in head and (tmp_path / "out" / "contact_sheet.png").is_file()


@pytest.mark.parametrize("kind", ["sdxl", "flux"])
def test_a_cell_is_its_own_in_a_batch(kind: str, saved: Callable[[str], Path]) -> None:
    """Pooled embeddings and the negative prompt go with their rows, those of several draws, too."""
    model = load_pipeline(saved(kind), device="cpu")
    options = {**FAST, "samples": 2, "cfg": 2.0, "negative": "a cat"}
    both = [Cell("", options, prompt, seed) for seed, prompt in enumerate(PROMPTS)]
    together = run_batch(both, model, (32, 32), "fourier", judge=False)
    ((row, picture),) = run_batch(both[1:], model, (32, 32), "fourier", judge=False)
    torch.testing.assert_close(together[1][1], picture, atol=1e-4, rtol=1e-3)
    assert together[1][0].surprise == pytest.approx(row.surprise, rel=1e-4)
    assert not torch.allclose(together[0][1], picture, atol=1e-2)


def test_a_preset_is_in_the_model_s_units(saved: Callable[[str], Path]) -> None:
    """λ begins at a quarter of the length of a latent, sqrt(4 x 16 x 32), unless the grid says otherwise."""
    units = units_of(load_pipeline(saved("sd1"), device="cpu"), 32, 64)
    plan = plan_of({"method": "msd", "preset": "fast"}, units=units)
    assert plan.preset is not None and plan.preset.method.bandwidths.start == pytest.approx(2048**0.5 / 4)
    own = plan_of({"method": "msd", "preset": "fast", "bandwidth_start": 3.0}, units=units)
    assert own.preset is not None and own.preset.method.bandwidths.start == 3 and own.preset.steps == 10
    assert plan_of({"preset": "faithful"}, units=units).start == "sample" and plan.start == ""


def test_other_weights_are_other_cells(saved: Callable[[str], Path], tmp_path: Path) -> None:
    """Other settings of a part, too; not what lies beside them: the model is what its own files say."""
    folder, memory = tmp_path / "pipe", tmp_path / "digests.json"
    shutil.copytree(saved("sd1"), folder)

    def identity(**changes: object) -> str:
        grid = grid_of(grid_on(folder, **changes))
        return grid.identity(next(grid.cells()), Digests(memory).of(folder, files_of_model(folder, "diffusers")))

    known = [identity()]
    (folder / "README.md").write_text("not of the model")
    (folder / "onnx").mkdir()
    (folder / "onnx" / "weights").write_text("neither")
    assert identity() == identity(offload="none", batch=1) == known[0]
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    changed = bytearray(weights.read_bytes())
    changed[-1] ^= 1
    weights.write_bytes(changed)
    known.append(identity())
    scheduler = folder / "scheduler" / "scheduler_config.json"
    scheduler.write_text(scheduler.read_text().replace('"epsilon"', '"v_prediction"'))
    known += [identity(), identity(dtype="bfloat16")]
    assert len(set(known)) == 4


def test_gigabytes_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until they change; what has only just changed is not trusted, and a memory that is damaged is none."""
    weights, memory, read = tmp_path / "weights", tmp_path / "digests.json", []
    weights.write_bytes(b"one")
    digest = digests.digest_of
    monkeypatch.setattr(digests, "digest_of", lambda path: (read.append(path), digest(path))[1])
    once = Digests(memory).of(tmp_path, [weights])
    assert once == Digests(memory).of(tmp_path, [weights]) == hashlib.sha256(b"one").hexdigest() and len(read) == 2
    monkeypatch.setattr(digests, "SETTLED", 0)
    assert [Digests(memory).of(tmp_path, [weights]) for _ in range(3)] == [once] * 3 and len(read) == 3
    assert Digests(memory).unread([weights]) == 0
    weights.write_bytes(b"two")
    assert Digests(memory).unread([weights]) == 3 and Digests(memory).of(tmp_path, [weights]) != once
    assert digest_of_model(tmp_path / "a name", "of another package", Digests()) == ""
    memory.write_text('{"a": [')
    assert Digests(memory).unread([weights]) == 3


def test_a_single_file_is_the_folder(saved: Callable[[str], Path], tmp_path: Path) -> None:
    """With its settings beside it; without them nothing is looked for on the net."""
    file, model = tmp_path / "one.safetensors", load_pipeline(saved("sd1"), device="cpu")
    single_file(model.family.pipe, file)
    with pytest.raises(ValueError, match=r"^path: .*one.safetensors' holds weights.* Put model_index.json"):
        load_model(file, "diffusers")
    shutil.copytree(saved("sd1"), tmp_path / "one", ignore=shutil.ignore_patterns("*.safetensors"))
    again = load_model(file, "diffusers", device="cpu")
    z = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    wanted = model.denoiser("a red cup", "a cat", 2.0)(z, 1.0)
    torch.testing.assert_close(again.denoiser("a red cup", "a cat", 2.0)(z, 1.0), wanted)
    torch.testing.assert_close(again.decode(z), model.decode(z))
    known = Digests(tmp_path / "digests.json").of(tmp_path, files_of_model(file, "diffusers"))
    scheduler = tmp_path / "one" / "scheduler" / "scheduler_config.json"
    scheduler.write_text(scheduler.read_text().replace('"epsilon"', '"v_prediction"'))
    assert Digests(tmp_path / "digests.json").of(tmp_path, files_of_model(file, "diffusers")) != known


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"size": [33, 32]}, "size: got [33, 32]; allowed are multiples of 4 for this model. Write [32, 32]"),
        ({"offload": "model"}, "offload: got 'model' on the CPU"),
        ({"model": "nowhere"}, "model: got 'nowhere', which is not there"),
        ({"model": str(ROOT / "docs")}, "has no model_index.json"),
    ],
)
def test_what_no_cell_can_do_without_ends_the_sweep(
    changes: dict, words: str, saved: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert sweep(tmp_path, {**grid_on(saved("flux")), **changes}, "--device", "cpu") == 2
    assert words in capsys.readouterr().err.splitlines()[-1]
    assert not list((tmp_path / "out").glob("cells/*"))


def test_the_page_s_example_is_a_grid() -> None:
    yaml = pytest.importorskip("yaml")
    page = (ROOT / "docs" / "frontier.md").read_text(encoding="utf-8")
    grid = grid_of(yaml.safe_load(re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)[0]))
    assert grid.model_kind == "diffusers" and len(grid) == 5 * 3 * 3
