"""A headless Chromium, driven through its debugging protocol."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any

from tiny_websocket import WebSocket


class Browser:
    """One page of a headless Chromium; close it when done."""

    def __init__(self, executable: str, profile: Path, size: tuple[int, int] = (1600, 1000)) -> None:
        command = [executable, "--headless=new", "--disable-gpu", "--no-first-run", "--remote-debugging-port=0"]
        command += [f"--user-data-dir={profile}", f"--window-size={size[0]},{size[1]}", "about:blank"]
        if hasattr(os, "geteuid") and os.geteuid() == 0:
            command.insert(1, "--no-sandbox")  # Chromium refuses to run sandboxed as root (containers, CI)
        self.process = subprocess.Popen(  # noqa: S603
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        port = self._port(profile / "DevToolsActivePort")
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=30) as answer:  # noqa: S310
            page = next(target for target in json.loads(answer.read()) if target["type"] == "page")
        self.socket = WebSocket(port, page["webSocketDebuggerUrl"].split(str(port), 1)[1])
        self.messages = 0

    @staticmethod
    def _port(file: Path) -> int:
        for _ in range(300):
            if file.exists() and (lines := file.read_text().split()):
                return int(lines[0])
            time.sleep(0.1)
        raise RuntimeError("Chromium did not start")

    def call(self, method: str, timeout: float = 120.0, **parameters: object) -> dict[str, Any]:
        """One command of the protocol and its result."""
        self.messages += 1
        self.socket.send({"id": self.messages, "method": method, "params": parameters})
        while True:
            answer = self.socket.receive(timeout)
            if isinstance(answer, dict) and answer.get("id") == self.messages:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]

    def evaluate(self, script: str) -> Any:  # noqa: ANN401  (any JSON)
        """Value of a JavaScript expression in the page; promises are awaited, exceptions raised here."""
        answer = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(json.dumps(answer["exceptionDetails"])[:2000])
        return answer["result"].get("value")

    def wait_for(self, script: str, timeout: float = 90.0) -> Any:  # noqa: ANN401
        """Wait until a JavaScript expression is true, and return its value."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            if value := self.evaluate(script):
                return value
            time.sleep(0.3)
        raise TimeoutError(f"still false in the browser after {timeout} s: {script}")

    def open(self, url: str) -> None:
        self.call("Page.navigate", url=url)

    def screenshot(self, kind: str = "jpeg") -> bytes:
        """The page as JPEG or PNG."""
        return base64.b64decode(self.call("Page.captureScreenshot", format=kind)["data"])

    def close(self) -> None:
        self.socket.close()
        self.process.terminate()
        self.process.wait(timeout=20)
