"""A running ComfyUI, and its HTTP API."""

from __future__ import annotations

import json
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tiny_websocket import WebSocket

CLIENT = "msd-tests"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """A running ComfyUI and its HTTP API."""

    process: subprocess.Popen

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
        return WebSocket(self.port, f"/ws?clientId={CLIENT}")

    def queue(self, workflow: dict) -> str:
        """Queue an API-format graph; returns its prompt id, or fails with the server's reason."""
        answer = self.post("/prompt", {"prompt": workflow, "client_id": CLIENT})
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

    def run(self, workflow: dict, timeout: float = 600.0) -> dict:
        """Queue, wait, and fail unless it succeeded."""
        entry = self.wait(self.queue(workflow), timeout)
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


def wait_until_up(server: Server, process: subprocess.Popen, timeout: float = 180.0) -> None:
    end = time.monotonic() + timeout
    while time.monotonic() < end and process.poll() is None:
        try:
            server.get("/system_stats")
            return
        except OSError:
            time.sleep(0.3)
    raise RuntimeError(f"ComfyUI did not start:\n{server.tail()}")


@contextmanager
def started(host: Path, python: Path, base: Path, packs: Mapping[str, Path]) -> Iterator[Server]:
    """The ComfyUI in ``host``, running on the folder ``base`` with ``packs`` as its custom nodes, by name."""
    for folder in ("custom_nodes", "input", "output", "temp", "user", "models"):
        (base / folder).mkdir(exist_ok=True)
    for name, pack in packs.items():
        if not (base / "custom_nodes" / name).is_symlink():
            (base / "custom_nodes" / name).symlink_to(pack, target_is_directory=True)
    server = Server(free_port(), base, base / "server.log")
    command = [python, "main.py", "--cpu", "--port", str(server.port), "--base-directory", base]
    command += ["--user-directory", base / "user", "--disable-auto-launch", "--disable-api-nodes"]
    command += ["--database-url", "sqlite:///:memory:"]
    with server.log.open("wb") as sink:
        process = subprocess.Popen(command, cwd=host, stdout=sink, stderr=subprocess.STDOUT)  # noqa: S603
    try:
        wait_until_up(server, process)
        server.process = process
        yield server
    finally:
        process.terminate()
        process.wait(timeout=30)
