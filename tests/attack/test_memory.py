"""A small part of `memory.py`: beyond the picture itself a render and a step are flat."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from msd_core.memory import step_bytes

pytestmark = pytest.mark.long
SPEC = importlib.util.spec_from_file_location("attack_memory", Path(__file__).with_name("memory.py"))
memory = importlib.util.module_from_spec(SPEC)
sys.modules["attack_memory"] = memory
SPEC.loader.exec_module(memory)


def test_a_render_grows_by_its_picture_alone() -> None:
    small, large = memory.measure("render", "pixels", 256), memory.measure("render", "pixels", 3072)
    grown = large.peak - small.peak
    assert grown < 1.5 * large.picture + 60e6, f"{grown / 1e6:.0f} MB for {large.picture / 1e6:.0f} MB"


@pytest.mark.parametrize("kind", ["hashgrid", "pixels"])
def test_a_step_takes_what_is_estimated(kind: str) -> None:
    side = 1024
    taken = memory.measure("step", kind, side).peak - memory.measure("step", kind, 64).peak
    assert step_bytes(kind, side, side) <= 1.1 * taken and taken <= 3 * step_bytes(kind, side, side)
    if kind == "hashgrid":
        assert taken < 2500 * side**2 / 10, "a tenth of what keeping all layers takes"
