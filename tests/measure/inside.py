"""A command of this folder again, in the host's own Python, where ComfyUI is imported as the host tier imports it."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

HOST_TIER = "MSD_HOST_TIER"
"""Set where `tests/host/conftest.py` imports the host."""


def module(path: Path) -> ModuleType:
    """A file of the tests as a module."""
    spec = importlib.util.spec_from_file_location(f"tests_{path.parent.name}_{path.stem}", path)
    assert spec is not None and spec.loader is not None  # noqa: S101
    loaded = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def command(script: Path, arguments: Any, measure: Callable[[Any], object]) -> int:  # noqa: ANN401
    """``measure(arguments)`` with the host imported, in a process of its own unless this is that; its exit status."""
    if HOST_TIER not in os.environ:
        return in_host(script)
    module(script.parents[1] / "host" / "conftest.py")
    measure(arguments)
    return 0


def in_host(script: Path) -> int:
    """``script`` with this command's arguments, in the host's Python; returns its exit status."""
    environment = dict(os.environ)  # before the tests' one thread a process is in it
    host = module(Path(__file__).resolve().parents[1] / "conftest.py").find_host()
    if host.missing:
        print(host.missing, file=sys.stderr)
        return 2
    environment |= {HOST_TIER: "1", "COMFYUI_PATH": str(host.path)}
    return subprocess.run([host.python, script, *sys.argv[1:]], env=environment).returncode  # noqa: S603
