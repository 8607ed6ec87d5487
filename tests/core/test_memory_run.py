"""A long run's memory: the resident size of its process, step by step, stays where it is.

A run of 160 steps by the demo model in a process of its own, one thread. What it grows by over the last 110 is the
slope of a least-squares line through the resident sizes, times 110; allocators move it by a few hundred kilobytes.
"""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

pytestmark = [pytest.mark.core, pytest.mark.long]
STEPS, LAST = 160, 110
NOISE = 3e6
"""Bytes in 110 steps that are an allocator's affair: ten times what was seen, and a twelfth of a forgotten state a
step."""

RUN = """
import sys, psutil, torch
torch.set_num_threads(1)
import msd_core
own, kept, leak = psutil.Process(), [], sys.argv[2] == "leak"
run = msd_core.distil("a large red circle on a blue background", steps=int(sys.argv[1]), estimator="one-step",
                      inner_steps=1, size=(32, 32), generator=sys.argv[3])
for state in run:
    if leak:
        kept.append(state)
    print(own.memory_info().rss)
assert state.step == state.steps
"""


def growth(leak: str, kind: str) -> float:
    """Bytes that a run grows by over its last 110 steps."""
    command = [sys.executable, "-c", RUN, str(STEPS), leak, kind]
    done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
    sizes = [int(line) for line in done.stdout.split()]
    assert len(sizes) == STEPS
    return LAST * float(np.polyfit(range(LAST), sizes[-LAST:], 1)[0])


@pytest.mark.parametrize("kind", ["fourier", "pixels"])
def test_a_long_run_does_not_grow(kind: str) -> None:
    grown = growth("none", kind)
    assert abs(grown) < NOISE, f"{grown / 1e6:+.2f} MB in {LAST} steps"


def test_a_state_that_is_kept_every_step_is_seen() -> None:
    grown = growth("leak", "fourier")
    assert grown > 5 * NOISE, f"{grown / 1e6:+.2f} MB in {LAST} steps"
