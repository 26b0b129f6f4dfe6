"""A server that answers each request with scripted bytes: on a raw socket, in threads that end with it.

It records `requests`, and `connections` with how each of them ended.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import socket
import struct
import threading
from collections.abc import Iterable
from types import TracebackType
from typing import Any

RESET = object()
"""Step: end the connection with a reset."""
STALL = object()
"""Step: send nothing more, and keep the connection open."""
DEAF = object()
"""Step: read nothing more and send nothing more. The server does not see when the client closes."""
KEEP = object()
"""Step: serve the next request on this connection, too."""


@dataclasses.dataclass(frozen=True)
class Drip:
    """Step: send `data` byte by byte, with `pause` seconds before each, until the client closes."""

    data: bytes
    pause: float


@dataclasses.dataclass(frozen=True)
class Flood:
    """Step: send `data` again and again, as fast as the client reads, until the client closes."""

    data: bytes


@dataclasses.dataclass(frozen=True)
class Unread:
    """A script for a connection whose request is not read."""

    steps: list[Any]


@dataclasses.dataclass(frozen=True)
class Request:
    """A request. The names in `headers` are in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclasses.dataclass
class Connection:
    """One connection: `is_open` until the client closes it or gets a reset, `has_ended` once the server closed it."""

    requests: int = 0
    is_open: bool = True
    has_ended: bool = False


def answer(status: int = 200, body: bytes | str | dict[str, Any] = b"", **headers: str) -> bytes:
    """Return a complete response, with `Content-Length` and `Connection: close` unless `headers` sets them."""
    kind = "application/json" if isinstance(body, dict) else "text/plain"
    data = json.dumps(body).encode() if isinstance(body, dict) else body.encode() if isinstance(body, str) else body
    named = {name.replace("_", "-").lower(): value for name, value in headers.items()}
    all_headers = {"content-type": kind, "content-length": str(len(data)), "connection": "close", **named}
    lines = [f"HTTP/1.1 {status} Status", *(f"{name}: {value}" for name, value in all_headers.items() if value)]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + data


def event_stream(*events: str | dict[str, Any]) -> bytes:
    """Return an event stream that ends with its connection."""
    texts = [event if isinstance(event, str) else json.dumps(event) for event in events]
    body = "".join(f"data: {text}\n\n" for text in texts)
    return answer(200, body, content_type="text/event-stream", content_length="")


def chunked(
    pieces: Iterable[bytes], *, kind: str = "text/event-stream", last: bytes = b"0\r\n\r\n", **more: str
) -> bytes:
    """Return a chunked response in which each piece is one HTTP chunk. `last` ends it."""
    head = answer(200, content_type=kind, content_length="", transfer_encoding="chunked", **more)
    return head + b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces if piece) + last


class FaultServer:
    """Answers the n-th request with the n-th of `scripts`, and each later one with the last.

    A script is bytes, or a list of steps: bytes, `Drip`, `Flood`, `RESET`, `STALL`, `DEAF`, `KEEP`, or a function to
    call; or `Unread` steps, which run before the request is read. Without `KEEP` the connection is closed afterwards: a
    response must then say `Connection: close`, as `answer` does, or the client's next request may use the connection
    while it closes. `requests` lists what was read, in order of arrival.
    """

    def __init__(self, *scripts: Any) -> None:
        self.requests: list[Request] = []
        self.connections: list[Connection] = []
        self.inodes: set[int] = set()
        """The inodes of the server's own sockets, which belong to this process too."""
        self._scripts = scripts
        self._turns = 0
        self._guard = threading.Lock()
        self._closing = threading.Event()
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def open(self) -> int:
        """How many connections the client still has open."""
        return sum(each.is_open for each in self.connections)

    def __enter__(self) -> FaultServer:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.inodes.add(os.fstat(self._listener.fileno()).st_ino)
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
        for connection in self._sockets:
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
            self.inodes.add(os.fstat(connection.fileno()).st_ino)
            seen = Connection()
            thread = threading.Thread(target=self._serve, args=(connection, seen), daemon=True)
            self._sockets.append(connection)
            self.connections.append(seen)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket, seen: Connection) -> None:
        with connection:
            try:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                while self._answer_next(connection, seen):
                    pass
                # Everything is read before the connection is closed: else the close would be a reset.
                connection.shutdown(socket.SHUT_WR)
                seen.has_ended = True
                self._until_closed(connection)
            except OSError:
                pass  # the client is gone, or the server closes
            seen.is_open = False

    def _answer_next(self, connection: socket.socket, seen: Connection) -> bool:
        """Run the next script. Return whether the connection is kept for another request."""
        with self._guard:
            script = self._script()
            self._turns += isinstance(script, Unread)
        if not isinstance(script, Unread):
            request = _read(connection)
            if request is None:
                return False
            with self._guard:
                script = self._script()
                self._turns += 1
                self.requests.append(request)
            seen.requests += 1
        steps = script.steps if isinstance(script, Unread) else script if isinstance(script, list) else [script]
        for step in steps:
            if step is DEAF:
                seen.is_open = False
                self._closing.wait()
            self._perform(step, connection)
        return KEEP in steps

    def _script(self) -> Any:
        return self._scripts[min(self._turns, len(self._scripts) - 1)]

    def _perform(self, step: Any, connection: socket.socket) -> None:
        if step is RESET:
            # RFC 9293 by way of Linux: closing with a linger time of zero sends a reset.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            raise ConnectionResetError
        if step is STALL:
            self._until_closed(connection)
            raise ConnectionAbortedError
        if step in (KEEP, DEAF):
            return
        if callable(step):
            step()
        elif isinstance(step, Drip):
            for index in range(len(step.data)):
                if self._closing.wait(step.pause):
                    raise ConnectionAbortedError
                connection.sendall(step.data[index : index + 1])
        elif isinstance(step, Flood):
            while not self._closing.is_set():
                connection.sendall(step.data)
        else:
            connection.sendall(step)

    def _until_closed(self, connection: socket.socket) -> None:
        connection.settimeout(0.05)
        while not self._closing.is_set():
            with contextlib.suppress(TimeoutError):
                if not connection.recv(65536):
                    return


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


# Bound, so that no other process gets this port while a test relies on it; not listening, so that it refuses.
_REFUSING = socket.socket()
_REFUSING.bind(("127.0.0.1", 0))


def unused_port() -> int:
    """Return a port of this machine that refuses connections."""
    return int(_REFUSING.getsockname()[1])
