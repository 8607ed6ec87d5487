"""The study of edits: its rows, its choice of settings, and what it compares with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

pytest.importorskip("scipy")
pytest.importorskip("matplotlib")

from msd_core.demo.evaluate import draw_scenes
from msd_core.demo.scenes import caption, draw
from msd_core.inversion import INVERSIONS
from msd_core.research.studies import edits as study
from msd_core.research.studies.drawn_pictures import drawn, overlap, reworded, where_alike
from msd_core.research.studies.edit_grids import WAYS
from msd_core.research.studies.edit_ways import Distilled, Dream, Nothing, Swapped, Way
from msd_core.research.studies.study import Context

pytestmark = pytest.mark.core
KEPT = ("nothing", "edit, caption known")


def test_a_short_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two pictures: an edit comes nearer to what it shall be than the picture as it was."""
    monkeypatch.setattr(study, "WAYS", {name: WAYS[name] for name in KEPT})
    monkeypatch.setattr(study, "BUDGETS", (24,))
    result = study.run(Context(tmp_path, quick=True))
    assert [table.name for table in result.tables] == ["edits-24"]
    rows = {row[0]: dict(zip(result.tables[0].columns, row, strict=True)) for row in result.tables[0].rows}
    assert rows.keys() == set(KEPT)
    assert rows["nothing"]["accepted"].startswith("0.00") and rows["nothing"]["rows"] == 0
    assert float(rows["edit, caption known"]["accepted"].split()[0]) > 0
    assert float(rows["edit, caption known"]["IoU"].split()[0]) > float(rows["nothing"]["IoU"].split()[0])
    assert rows["edit, caption known"]["rows"] == 25
    assert rows["nothing"]["drift"] is None
    (figure,) = result.figures
    assert isinstance(figure.picture, Path) and figure.picture.stat().st_size > 10_000
    again = study.run(Context(tmp_path, quick=True))
    assert [table.rows for table in again.tables] == [table.rows for table in result.tables], "cells are read back"


def test_settings_are_chosen_by_other_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What destroys the picture is not taken, wherever it stands in the grid."""
    wild, mild = Distilled("dds", 7.5, {"optimizer": "gd", "lr": 3.0}), Swapped("explicit", start=0.6)
    monkeypatch.setattr(study, "WAYS", {"both": [wild, mild], "one": [wild]})
    monkeypatch.setattr(study, "TUNED", 1)
    context = Context(tmp_path)
    assert study.chosen(context, "both", 12) is mild
    assert study.chosen(context, "one", 12) is wild, "nothing to choose"
    assert study.chosen(Context(tmp_path, quick=True), "both", 12) is wild, "the first, where it shall be quick"
    tuned, tested = (study.scenes_of(context, 0, 1, tuning) for tuning in (True, False))
    assert caption(tuned[0]) != caption(tested[0])


@pytest.mark.parametrize("name", [name for name in WAYS if name != "nothing"])
def test_every_way_of_a_grid_takes_what_it_may(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted at the network, which is left out, at the smaller budget; at the larger the first setting alone."""
    from msd_core.demo.model import load_demo_model

    model, (scenes, pictures) = load_demo_model(), drawn(1, 0)
    pictures, asked = pictures[..., :32, :32], [0]

    def unet(x: torch.Tensor, t: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        asked[0] += len(x)
        return 0.1 * x

    monkeypatch.setattr(model.unet, "forward", unet)
    large, small = study.BUDGETS
    for way, rows in [(WAYS[name][0], large), *((way, small) for way in WAYS[name])]:
        asked[0] = 0
        with torch.no_grad():
            made = way(model, pictures, caption(scenes[0]), "a red star", rows, torch.Generator().manual_seed(1))
        assert made.evaluations == asked[0] == pytest.approx(rows, abs=0.08 * rows + 1), study.words(way)
        assert made.picture.shape == pictures.shape and made.kept is None


def test_nothing_and_the_caption_known_are_what_they_say() -> None:
    """The first is the autoencoder's round trip; the second the word swap by `uni-inv`."""
    from msd_core.demo.model import load_demo_model

    model, (scenes, pictures) = load_demo_model(), drawn(1, 0)
    given = (model, pictures, caption(scenes[0]), caption(reworded(scenes[0], torch.Generator().manual_seed(2))))
    with torch.no_grad():
        made = Nothing()(*given, 80, torch.Generator())
        assert made.evaluations == 0 and torch.equal(made.picture, model.decode(model.encode(pictures)))
        known, swapped = (way(*given, 12, torch.Generator()) for way in (Dream(), Swapped("uni-inv")))
    torch.testing.assert_close(known.picture, swapped.picture, atol=1e-4, rtol=0)
    assert known.evaluations == swapped.evaluations == 13


def test_rewording_changes_one_word() -> None:
    for i, scene in enumerate(draw_scenes(40, 3, (2, 3))):
        other = reworded(scene, torch.Generator().manual_seed(i))
        words, changed = (caption(one).split() for one in (scene, other))
        assert sum(a not in ("a", "an") and a != b for a, b in zip(words, changed, strict=True)) == 1
        assert other.layout() == scene.layout(), "the rest stays where it is"
        kind = study.changed_word(scene, other)
        assert {kind} == {w for w in ("colour", "shape") for a, b in zip(scene.things, other.things, strict=True)
                          if getattr(a, w) != getattr(b, w)}  # fmt: skip


def test_what_is_compared() -> None:
    """Drawings agree but for the thing; what is no ground overlaps wholly with itself, and less with a thing moved."""
    scene = draw_scenes(1, 5, (2,))[0]
    other = reworded(scene, torch.Generator().manual_seed(0))
    same = where_alike(scene, other, 128)
    assert 0.5 < float(same.double().mean()) < 1 and bool(where_alike(scene, scene, 128).all())
    picture = draw([scene], 128)[0]
    assert overlap(picture, scene) == 1
    assert overlap(picture.roll(6, dims=2), scene) < 0.9
    larger = replace(scene, things=(replace(scene.things[0], size="large"), *scene.things[1:]))
    assert overlap(draw([larger], 128)[0], replace(larger, things=scene.things)) <= 1


def test_every_inversion_tried_is_one() -> None:
    ways: list[Way] = [way for grid in WAYS.values() for way in grid]
    assert {way.inversion for way in ways if isinstance(way, Swapped)} <= {*INVERSIONS, "negative-prompt"}
    assert len({study.words(way) for way in WAYS["PDS"]}) == len(WAYS["PDS"])
