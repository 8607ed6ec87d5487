"""A WebSocket client: the few parts of RFC 6455 that ComfyUI and a browser's debugger need, and no dependency."""

from __future__ import annotations

import base64
import json
import secrets
import socket
import struct


class WebSocket:
    """One connection to 127.0.0.1; messages are JSON (dict) or binary (bytes)."""

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
