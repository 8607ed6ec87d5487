"""The nodes on another device than the processor: `on_second_device`, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.host
CASES = Path(__file__).with_name("on_second_device.py")


def test_every_node_computes_where_the_host_has_the_model() -> None:
    """Steps of every kind, what changes a picture, inversions and samplers, and what draws."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--no-header", str(CASES)]
    done = subprocess.run(command, env=plain, capture_output=True, text=True, cwd=CASES.parents[2])  # noqa: S603
    assert done.returncode == 0, done.stdout[-4000:]
    assert " passed" in done.stdout or " skipped" in done.stdout
