"""A real ComfyUI server with the pack linked into a temporary base directory; the user's ComfyUI is not touched."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # the helpers beside this file

from browser import Browser  # noqa: E402
from comfy_server import Server, started  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
PACK = "mean-shift"  # the folder's name is the user's choice


@pytest.fixture(scope="session")
def server(host, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:  # noqa: ANN001  (tests/conftest.py: Host)
    packs = {PACK: ROOT, "probe": Path(__file__).parent / "probe"}
    with started(host.path, host.python, tmp_path_factory.mktemp("comfy"), packs) as running:
        yield running


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


@pytest.fixture(scope="module")
def page(server: Server, chromium: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """The front end of the server, with the pack's nodes."""
    browser = Browser(chromium, tmp_path_factory.mktemp("profile"))
    browser.open(f"http://127.0.0.1:{server.port}/")
    browser.wait_for("!!(window.app && app.graph && window.LiteGraph.registered_node_types.MSD_SDSStep)")
    yield browser
    browser.close()
