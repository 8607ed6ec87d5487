"""A model on another device takes its runs there: `on_second_device`, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.core
CASES = Path(__file__).with_name("on_second_device.py")


@pytest.mark.long
def test_all_runs_on_a_second_device() -> None:
    """Every generator and kind of run; of methods, solvers and inversions one of each way that it goes."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--no-header", str(CASES)]
    done = subprocess.run(command, env=plain, capture_output=True, text=True)  # noqa: S603
    assert done.returncode == 0, done.stdout[-4000:]
    assert " passed" in done.stdout or " skipped" in done.stdout
