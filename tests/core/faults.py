"""A server that answers each request as it is told, down to the byte: on a raw socket, in threads that end with it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import socket
import struct
import threading
from types import TracebackType
from typing import Any

RESET = object()
"""Step: end the connection with a reset."""
STALL = object()
"""Step: say nothing more, and keep the connection open."""


@dataclasses.dataclass(frozen=True)
class Drip:
    """Step: send `data` byte by byte, with `pause` seconds before each, for as long as somebody listens."""

    data: bytes
    pause: float


@dataclasses.dataclass(frozen=True)
class Request:
    """A request as it was read. The names of `headers` are in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def answer(status: int = 200, body: bytes | str | dict[str, Any] = b"", **headers: str) -> bytes:
    """A whole answer. `Content-Length` and `Connection: close` stand in it unless `headers` names them."""
    kind = "application/json" if isinstance(body, dict) else "text/plain"
    data = json.dumps(body).encode() if isinstance(body, dict) else body.encode() if isinstance(body, str) else body
    named = {name.replace("_", "-").lower(): value for name, value in headers.items()}
    all_headers = {"content-type": kind, "content-length": str(len(data)), "connection": "close", **named}
    lines = [f"HTTP/1.1 {status} Status", *(f"{name}: {value}" for name, value in all_headers.items() if value)]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + data


def event_stream(*events: str | dict[str, Any]) -> bytes:
    """An event stream that ends with its connection."""
    texts = [event if isinstance(event, str) else json.dumps(event) for event in events]
    body = "".join(f"data: {text}\n\n" for text in texts)
    return answer(200, body, content_type="text/event-stream", content_length="")


class FaultServer:
    """Meets the n-th connection's request with the n-th of `scripts`, and each later one with the last.

    A script is bytes, or a list of steps: bytes, `Drip`, `RESET`, `STALL`, or a function to call. Afterwards the
    connection is closed.
    `requests` holds what was read, in order of arrival.
    """

    def __init__(self, *scripts: Any) -> None:
        self.requests: list[Request] = []
        self._scripts = scripts
        self._guard = threading.Lock()
        self._closing = threading.Event()
        self._connections: list[socket.socket] = []
        self._threads: list[threading.Thread] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> FaultServer:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self._listener.getsockname()[1]
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        self._acceptor.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._acceptor.join()
        for connection in self._connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._connections.append(connection)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            request = _read(connection)
            if request is None:
                return
            with self._guard:
                script = self._scripts[min(len(self.requests), len(self._scripts) - 1)]
                self.requests.append(request)
            for step in script if isinstance(script, list) else [script]:
                if step is RESET:
                    _reset(connection)
                    return
                self._perform(step, connection)
            _end(connection)

    def _perform(self, step: Any, connection: socket.socket) -> None:
        if step is STALL:
            self._closing.wait()
            raise ConnectionAbortedError
        if callable(step):
            step()
        elif isinstance(step, Drip):
            for index in range(len(step.data)):
                if self._closing.wait(step.pause):
                    raise ConnectionAbortedError
                connection.sendall(step.data[index : index + 1])
        else:
            connection.sendall(step)


def _read(connection: socket.socket) -> Request | None:
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(65536)
        if not piece:
            return None
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    pieces = [body]
    missing = int(headers.get("content-length", 0)) - len(body)
    while missing > 0:
        pieces.append(connection.recv(min(missing, 1 << 20)))
        if not pieces[-1]:
            return None
        missing -= len(pieces[-1])
    method, path, _ = first.split(" ", 2)
    return Request(method, path, headers, b"".join(pieces))


def _reset(connection: socket.socket) -> None:
    # RFC 9293 by way of Linux: closing with a linger time of zero sends a reset.
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def _end(connection: socket.socket) -> None:
    """Close in good order: with nothing unread, so that the close is no reset."""
    connection.shutdown(socket.SHUT_WR)
    connection.settimeout(5)
    while connection.recv(65536):
        pass


def unused_port() -> int:
    """A port of this machine at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
