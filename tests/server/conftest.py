"""A real ComfyUI server, with the pack linked into a temporary base directory: the user's own ComfyUI is not touched."""
from __future__ import annotations

import base64
import json
import os
import secrets
import socket
import struct
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACK = "mean-shift"  # the folder's name is the user's choice


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class WebSocket:
    """The few parts of RFC 6455 that a client of ComfyUI and of a browser's debugger needs; no dependency."""

    def __init__(self, port: int, path: str) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        key = base64.b64encode(secrets.token_bytes(16)).decode()
        self.socket.sendall(
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        self.stream = self.socket.makefile("rb")
        status = self.stream.readline()
        if b" 101 " not in status:
            raise ConnectionError(f"no websocket at {path}: {status!r}")
        while self.stream.readline() not in (b"\r\n", b""):
            pass

    def receive(self, timeout: float = 60.0) -> dict | bytes:
        """The next message: a dict for JSON text, bytes for a binary one."""
        self.socket.settimeout(timeout)
        parts, kind = [], 0
        while True:
            first, second = self.stream.read(2)
            length = second & 127
            if length > 125:
                size, code = (2, ">H") if length == 126 else (8, ">Q")
                length = struct.unpack(code, self.stream.read(size))[0]
            payload, opcode = self.stream.read(length), first & 15
            if opcode == 8:
                raise ConnectionError("the websocket was closed")
            if opcode > 8:
                continue
            kind = opcode or kind
            parts.append(payload)
            if first & 128:
                whole = b"".join(parts)
                return json.loads(whole) if kind == 1 else whole

    def send(self, message: dict) -> None:
        payload = json.dumps(message).encode()
        mask = secrets.token_bytes(4)
        header = struct.pack(">BBQ", 0x81, 0x80 | 127, len(payload)) + mask
        self.socket.sendall(header + bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload)))

    def close(self) -> None:
        self.stream.close()
        self.socket.close()


class Server:
    """A running ComfyUI and its HTTP API."""

    def __init__(self, port: int, base: Path, log: Path) -> None:
        self.port, self.base, self.log = port, base, log

    def get(self, path: str) -> bytes:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=60) as answer:  # noqa: S310
            return answer.read()

    def json(self, path: str) -> dict:
        return json.loads(self.get(path))

    def post(self, path: str, body: dict) -> dict:
        data = json.dumps(body).encode()
        request = urllib.request.Request(  # noqa: S310
            f"http://127.0.0.1:{self.port}{path}", data, {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
                return json.loads(answer.read() or b"{}")
        except urllib.error.HTTPError as error:
            return json.loads(error.read())

    def listen(self) -> WebSocket:
        return WebSocket(self.port, f"/ws?clientId={PACK}")

    def queue(self, workflow: dict) -> str:
        """Queue an API-format graph; returns its prompt id, or fails with the server's reason."""
        answer = self.post("/prompt", {"prompt": workflow, "client_id": PACK})
        assert "prompt_id" in answer, json.dumps(answer, indent=1)
        return answer["prompt_id"]

    def wait(self, prompt_id: str, timeout: float = 600.0) -> dict:
        """The history entry of a prompt, once it has ended."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            history = self.json(f"/history/{prompt_id}")
            if prompt_id in history:
                return history[prompt_id]
            time.sleep(0.05)
        raise TimeoutError(f"prompt {prompt_id} did not end in {timeout} s:\n{self.tail()}")

    def run(self, workflow: dict) -> dict:
        """Queue, wait, and fail unless it succeeded."""
        entry = self.wait(self.queue(workflow))
        assert entry["status"]["status_str"] == "success", json.dumps(entry["status"]["messages"], indent=1)[-3000:]
        return entry

    def image(self, entry: dict, node: str, which: int = 0) -> bytes:
        """PNG bytes that an output node of a finished prompt wrote."""
        found = entry["outputs"][node]["images"][which]
        query = "&".join(f"{key}={found[key]}" for key in ("filename", "subfolder", "type"))
        return self.get(f"/view?{query}")

    def tail(self, characters: int = 3000) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")[-characters:]


def executed(entry: dict) -> set[str]:
    """Nodes that really ran, i.e. were not taken from the cache."""
    cached = next(data["nodes"] for name, data in entry["status"]["messages"] if name == "execution_cached")
    return set(entry["prompt"][2]) - set(cached)


@pytest.fixture(scope="session")
def server(host, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:  # noqa: ANN001  (tests/conftest.py: Host)
    base = tmp_path_factory.mktemp("comfy")
    (base / "custom_nodes").mkdir()
    (base / "custom_nodes" / PACK).symlink_to(ROOT, target_is_directory=True)
    for folder in ("input", "output", "temp", "user", "models"):
        (base / folder).mkdir()
    port, log = free_port(), base / "server.log"
    command = [
        host.python, "main.py", "--cpu", "--port", str(port), "--base-directory", base, "--user-directory", base / "user",
        "--disable-auto-launch", "--disable-api-nodes", "--database-url", "sqlite:///:memory:",
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


def wait_until_up(server: Server, process: subprocess.Popen, timeout: float = 180.0) -> None:
    end = time.monotonic() + timeout
    while time.monotonic() < end and process.poll() is None:
        try:
            server.get("/system_stats")
            return
        except OSError:
            time.sleep(0.3)
    raise RuntimeError(f"ComfyUI did not start:\n{server.tail()}")


@pytest.fixture
def executed_nodes():  # noqa: ANN201
    """`executed`, for tests that cannot import this file."""
    return executed


@pytest.fixture
def api_workflow():  # noqa: ANN201
    """Load tests/server/workflows/<name>.json, an API-format graph."""
    return lambda name: json.loads((Path(__file__).parent / "workflows" / f"{name}.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def chromium() -> str:
    """A Chromium or Chrome to open the front end with; skips without one."""
    from shutil import which

    found = os.environ.get("MSD_CHROMIUM") or next(filter(None, map(which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if not found:
        pytest.skip("no Chromium: apt-get install chromium, or set MSD_CHROMIUM to its path")
    return found
