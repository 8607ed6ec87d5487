"""A real ComfyUI server with the pack linked into a temporary base directory; the user's ComfyUI is not touched."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # the helpers beside this file

from comfy_server import Server, free_port, wait_until_up  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
PACK = "mean-shift"  # the folder's name is the user's choice


@pytest.fixture(scope="session")
def server(host, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:  # noqa: ANN001  (tests/conftest.py: Host)
    base = tmp_path_factory.mktemp("comfy")
    (base / "custom_nodes").mkdir()
    (base / "custom_nodes" / PACK).symlink_to(ROOT, target_is_directory=True)
    (base / "custom_nodes" / "probe").symlink_to(Path(__file__).parent / "probe", target_is_directory=True)
    for folder in ("input", "output", "temp", "user", "models"):
        (base / folder).mkdir()
    port, log = free_port(), base / "server.log"
    command = [
        host.python,
        "main.py",
        "--cpu",
        "--port",
        str(port),
        "--base-directory",
        base,
        "--user-directory",
        base / "user",
        "--disable-auto-launch",
        "--disable-api-nodes",
        "--database-url",
        "sqlite:///:memory:",
    ]
    with log.open("wb") as sink:
        process = subprocess.Popen(command, cwd=host.path, stdout=sink, stderr=subprocess.STDOUT)  # noqa: S603
    running = Server(port, base, log)
    try:
        wait_until_up(running, process)
        yield running
    finally:
        process.terminate()
        process.wait(timeout=30)


@pytest.fixture
def api_workflow():  # noqa: ANN201
    """Load tests/server/workflows/<name>.json, an API-format graph."""
    return lambda name: json.loads((Path(__file__).parent / "workflows" / f"{name}.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def chromium() -> str:
    """A Chromium or Chrome to open the front end with; skips without one."""
    found = os.environ.get("MSD_CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)
    if not found:
        pytest.skip("no Chromium: apt-get install chromium, or set MSD_CHROMIUM to its path")
    return found
