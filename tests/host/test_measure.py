"""tests/measure: every way inside the host takes its rows and sees nothing that is hidden; figures; the command."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from types import SimpleNamespace

import comfy.cli_args
import comfy.sd
import pytest
import torch
from msd_pack.msd_core.bench import PARTS
from msd_pack.msd_core.demo.scenes import caption
from msd_pack.msd_core.research.studies.drawn_pictures import drawn
from msd_pack.msd_core.research.studies.existing import holes
from tiny_models import conditioning, tiny_model, tiny_vae

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "measure"))
import bench
import beside
import host_figures
import host_ways
import trip_ways
import unsamplers

ROWS = 3
FLIPPED = "Flip Sigmas, Euler"


@pytest.fixture(scope="module")
def loaded() -> host_ways.Loaded:
    with torch.inference_mode():
        return host_ways.Loaded.of()


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_ways, "ROWS", ROWS)


def given_of(loaded: host_ways.Loaded) -> host_ways.Given:
    scenes, pictures = drawn(1, 0)
    image = host_figures.image_of(pictures)
    return host_ways.Given(loaded, image, caption(scenes[0]), 3, holes(scenes[0], 128)["box"][None])


@pytest.mark.parametrize("name", host_ways.HOLES)
def test_a_hole_takes_its_rows_and_nobody_sees_into_it(name: str, loaded: host_ways.Loaded) -> None:
    scenes, pictures = drawn(1, 0)
    hole = holes(scenes[0], 128)["box"]
    other = torch.where(hole > 0, 1 - pictures, pictures)
    with torch.inference_mode():
        (found, made), (_, again) = (
            host_figures.filled(loaded, scenes[0], picture, "box", name, 1) for picture in (pictures, other)
        )
    assert found["rows"] == (ROWS // 3 if name.endswith("a third") else ROWS)
    assert torch.equal(made, again)
    assert found["kept, pasted"] == 99 and found["PSNR"] < 60
    assert torch.equal(made[..., hole == 0], pictures[..., hole == 0])
    assert found.get("kept", 0) < 60, "as made, it has been through the autoencoder"


@pytest.mark.parametrize("name", host_ways.RESTORED)
def test_a_restoration_takes_its_rows(name: str, loaded: host_ways.Loaded) -> None:
    scenes, pictures = drawn(1, 0)
    with torch.inference_mode():
        found, made = host_figures.brought_back(loaded, scenes[0], pictures, "x8", name, 1)
    assert found["rows"] == (0 if name == "as given" else ROWS)
    assert made.shape == pictures.shape and 10 < found["PSNR"] < 50


def test_conditioning_for_inpainting_models_is_the_noise_mask(loaded: host_ways.Loaded) -> None:
    """Why it has no row of its own."""
    given = given_of(loaded)
    with torch.inference_mode():
        one, other, drawn_ = host_ways.inpaint_model(given), host_ways.masked(given), host_ways.masked(given, 0)
    assert torch.allclose(one, other, atol=1e-4)
    assert not torch.allclose(one, drawn_, atol=1e-2), "what a mask of another size would do"


def test_the_seam_is_the_error_of_the_jump() -> None:
    truth, hole = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)), torch.zeros(16, 16)
    hole[4:9, 6:12] = 1
    assert host_figures.seam(truth, truth, hole) == 0
    assert host_figures.seam(truth + 0.1 * hole, truth, hole) == pytest.approx(25.5, rel=1e-4)
    assert host_figures.seam(truth + 0.1, truth, hole) == pytest.approx(0, abs=1e-3), "no jump"
    inner = torch.zeros(16, 16)
    inner[6, 8] = 1
    assert host_figures.seam(truth + inner, truth, hole) == 0, "not at the edge"


def test_the_command_writes_its_tables_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comfy.cli_args.args, "fp32_unet", comfy.cli_args.args.fp32_unet)
    told = {"out": tmp_path, "pictures": 2, "seed": 0, "only": "box", "ways": "Mask, grown", "cfg": 1.0}
    arguments = argparse.Namespace(**told, precision="float32")
    (table,) = beside.measure(arguments)
    assert [row[:2] for row in table.rows] == [["box", name] for name in host_ways.HOLES if "Mask, grown" in name]
    assert {path.name for path in tmp_path.iterdir()} >= {
        "beside.md",
        "beside.json",
        "beside-holes.csv",
        "beside-sheet.png",
    }
    text = (tmp_path / "beside.md").read_text()
    assert text.count("\n| box |") == len(table.rows) and "2 pictures, cfg 1, float32" in text

    def refused(*_: object) -> None:
        raise AssertionError("a cell was computed twice")

    monkeypatch.setattr(host_figures, "filled", refused)
    assert [one.rows for one in beside.measure(arguments)] == [table.rows]
    with pytest.raises(SystemExit, match="no task and way"):
        beside.measure(argparse.Namespace(**{**told, "only": "nothing"}, precision="float32"))


def test_a_step_by_part_inside_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small networks of the host's own classes in place of a checkpoint; 4 levels with guidance are 8 rows a step."""
    clip = SimpleNamespace(tokenize=len, encode_from_tokens_scheduled=conditioning)
    loaded = tiny_model(), clip, tiny_vae(), None
    monkeypatch.setattr(comfy.sd, "load_checkpoint_guess_config", lambda *_, **__: loaded)
    text = bench.measure(Path("any"), 64, 2, "msd")
    assert text.startswith("2 steps, 16 evaluations")
    seconds = {line.split()[0]: float(line.split()[1]) for line in text.splitlines()[2:-1]}
    assert set(seconds) == {*PARTS, "rest"} and all(seconds[part] > 0 for part in PARTS if part != "encode")


def test_round_trips_are_the_same_in_a_flow_model_s_coordinates(tmp_path: Path) -> None:
    told = {"packs": [], "pictures": 1, "steps": 3, "rows": 8, "seed": 0}
    found = unsamplers.measure(argparse.Namespace(out=tmp_path, **told))
    numbers = {tuple(row[:3]): (float(row[4]), row[5]) for row in found}
    exact = numbers["eps", "DDIM Inversion, implicit", 3][0]
    assert numbers["eps", "DDIM Inversion, explicit", 3] == pytest.approx((numbers["eps", FLIPPED, 3][0], 6), abs=2)
    assert numbers["eps", FLIPPED, 4][1] == 8 and exact > numbers["eps", FLIPPED, 4][0] + 10
    for (model, way, steps), (worst, rows) in numbers.items():
        if model == "flow":
            tolerance = 6 if "implicit" in way else 0.2  # of 100 dB, where rounding is what is left
            assert worst == pytest.approx(numbers["eps", way, steps][0], abs=tolerance)
            assert rows == pytest.approx(numbers["eps", way, steps][1], abs=3)
    assert "implicit" in (tmp_path / "unsamplers.csv").read_text()
    with pytest.raises(ValueError, match="--packs: .*no __init__.py.*Give the clones"):
        trip_ways.nodes_of(tmp_path)
