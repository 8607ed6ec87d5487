"""The study of warnings: what it counts, that cells are kept, and that its prompts are not those of the thresholds."""

from __future__ import annotations

from pathlib import Path

import pytest

from msd_core.demo.evaluate import draw_scenes
from msd_core.demo.scenes import caption
from msd_core.research.studies import run_study
from msd_core.research.studies import symptoms as study
from msd_core.research.studies.study import Context
from msd_core.symptoms import SHIFT

pytestmark = pytest.mark.core


def test_what_is_counted() -> None:
    found = [study.Found(False, 0.1, False), study.Found(True, 0.9, True), study.Found(False, 0.4, True)]
    assert study.counted(found) == [3, 1, 2, 0.1, 0.9]
    assert study.counted([])[:3] == [0, 0, 0]


def test_the_prompts_are_others_than_those_of_the_thresholds() -> None:
    scenes = {caption(scene) for scene in study._scenes(0)}
    assert not scenes & {caption(scene) for scene in draw_scenes(12, study.CHOSEN, (2, 3))}
    assert scenes & {caption(scene) for scene in draw_scenes(1, 55_000, (2, 3))}, "the comparison can find some"


def test_runs_are_judged_told_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two updates of two steps end nowhere: destroyed by the judge, and warned of without it."""
    sound, lost = study.WAYS[0], study.WAYS[6]
    monkeypatch.setattr(study, "WAYS", (sound, lost))
    result = run_study("symptoms", Context(tmp_path, quick=True))
    rows = {row[0]: row[1:] for row in result.tables[0].rows}
    assert rows[sound.name][:3] == rows[lost.name][:3] == [1, 1, 1] and rows["destroyed"][:3] == [2, 2, 2]
    assert rows["sound, and not destroyed"][:3] == [0, 0, 0] and rows["destroyed"][3] >= SHIFT
    monkeypatch.setattr(study, "distil", None)
    again = run_study("symptoms", Context(tmp_path, quick=True)).tables[0]
    assert [row[:4] for row in again.rows] == [row[:4] for row in result.tables[0].rows]
    monkeypatch.setattr(study, "MATCH", 0.0)
    monkeypatch.setattr(study, "STRAY", 1.0)
    forgiving = run_study("symptoms", Context(tmp_path, quick=True)).tables[0]
    assert [row[2] for row in forgiving.rows[:2]] == [0, 0], "a judge who forgives all finds none"


def test_sound_and_unsound_settings() -> None:
    for sound in (True, False):
        assert sum(way.runs for way in study.WAYS if way.sound is sound) >= 24
    assert len({way.name for way in study.WAYS}) == len(study.WAYS)
