"""The socket: HTTP/1.1 on a port of this machine, in threads that end with the sandbox."""

from __future__ import annotations

import contextlib
import json
import selectors
import socket
import socketserver
import sys
import threading
import time
import uuid
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from predictionguard_core.sandbox.behaviour import Call, decode
from predictionguard_core.sandbox.reply import Cut, Pause, Refusal, Reply

MAX_BODY = 256 * 1024 * 1024
"""The largest request body in bytes; larger ones are answered with 413."""
_LINE = 1024
_PIECE = 1024 * 1024
_BLINK = 0.05
"""Seconds between two looks whether anybody still waits."""
_LINGER = 2.0
"""Seconds of silence after which the rest of a refused body is no longer waited for."""

Respond = Callable[[Call], Reply]


class Server(ThreadingHTTPServer):
    """Listens at once; `run` serves until `close`, which ends every connection and joins every thread."""

    daemon_threads = True
    request_queue_size = 512

    def __init__(self, host: str, port: int, respond: Respond, journal: list[Any], chunk_delay: float) -> None:
        self.respond = respond
        self.journal = journal
        self.chunk_delay = chunk_delay
        self.log: Callable[[str], None] | None = None
        self.closing = threading.Event()
        self._open: dict[socket.socket, threading.Thread] = {}
        self._guard = threading.Lock()
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), Handler)

    def server_bind(self) -> None:
        """Binds without the base class's look-up of the machine's own name, which can ask the network."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def run(self) -> None:
        """Serves until `close` is called from another thread."""
        self.serve_forever(poll_interval=0.02)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Hands a connection to a thread of its own."""
        thread = threading.Thread(
            target=self.process_request_thread, args=(request, client_address), name="sandbox-connection", daemon=True
        )
        with self._guard:
            self._open[request] = thread
        thread.start()

    def shutdown_request(self, request: Any) -> None:
        """Closes a connection that has been served."""
        with self._guard:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that went away are no news; anything else is printed."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)

    def close(self) -> None:
        """Stops accepting, ends open connections, waits for their threads."""
        self.closing.set()
        self.shutdown()
        self.server_close()
        with self._guard:
            connections = list(self._open.items())
            for connection, _ in connections:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        for _, thread in connections:
            thread.join()


class Handler(BaseHTTPRequestHandler):
    """Reads one request after the other from a connection and writes the replies."""

    server: Server
    protocol_version = "HTTP/1.1"
    server_version = "PredictionGuardSandbox"
    disable_nagle_algorithm = True

    def _serve(self) -> None:
        path = self.path.split("?", 1)[0].split("#", 1)[0]
        body: Any = None
        unreadable: str | None = None
        try:
            raw = self._body()
        except Refusal as refusal:
            self.close_connection = True
            self._write(refusal.reply())
            if refusal.status == 413:
                self._drain()
            return
        if self.command == "POST":
            try:
                body = decode(raw, self.headers.get("Content-Type", ""))
                self.server.journal.append(body)
            except Refusal as refusal:
                unreadable = refusal.text
        del raw
        headers = {name.lower(): value for name, value in self.headers.items()}
        call = Call(self.command, path, self.headers.get("Authorization"), body, unreadable, headers)
        try:
            reply = self.server.respond(call)
        except Exception as error:
            self._write(Reply(500, {"error": f"the sandbox itself failed: {type(error).__name__}: {error}"[:500]}))
            raise
        self._write(reply)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_OPTIONS = _serve  # noqa: N815

    def _body(self) -> bytes:
        coding = self.headers.get("Transfer-Encoding")
        length = self.headers.get("Content-Length")
        if coding is not None:
            if coding.strip().lower() != "chunked" or length is not None:
                raise Refusal("only a plain or a chunked request body is understood")
            return self._chunked()
        if length is None:
            return b""
        if not (length.isascii() and length.isdigit()) or len(length) > 18:
            raise Refusal("Content-Length is not a number")
        if int(length) > MAX_BODY:
            raise _too_large()
        return self._exactly(int(length))

    def _exactly(self, length: int) -> bytes:
        data = self.rfile.read(length)
        if len(data) < length:
            raise ConnectionResetError("the client went away in the middle of a body")
        return data

    def _chunked(self) -> bytes:
        whole = bytearray()
        while True:
            size = self.rfile.readline(_LINE).split(b";", 1)[0].strip()
            if not size or len(size) > 16 or size.strip(b"0123456789abcdefABCDEF"):
                raise Refusal("the chunked request body is malformed")
            length = int(size, 16)
            if length == 0:
                break
            if len(whole) + length > MAX_BODY:
                raise _too_large()
            whole += self._exactly(length)
            if self._exactly(2) != b"\r\n":
                raise Refusal("the chunked request body is malformed")
        while self.rfile.readline(_LINE).strip():
            pass
        return bytes(whole)

    def _drain(self) -> None:
        """Reads on for a while: closing with unread bytes would reset the connection and lose the reply."""
        try:
            self.connection.shutdown(socket.SHUT_WR)
            self.connection.settimeout(_LINGER)
            for _ in range(4 * MAX_BODY // _PIECE):
                if not self.rfile.read1(_PIECE):
                    return
        except OSError:
            return

    def _write(self, reply: Reply) -> None:
        if self.server.log is not None:
            self.server.log(f"{self.command} {self.path[:200]} {reply.status}")
        headers = {"x-request-id": uuid.uuid4().hex, **reply.headers}
        if reply.first is not None and not self._goes_on_after(reply.first):
            return
        if reply.events is not None:
            self._stream(reply, headers)
            return
        if reply.raw is None:
            data = json.dumps(reply.body).encode()
            headers["Content-Type"] = "application/json"
        else:
            data = reply.raw
        headers["Content-Length"] = str(len(data))
        self._send(self._head(reply.status, headers) + (b"" if self.command == "HEAD" else data))

    def _stream(self, reply: Reply, headers: dict[str, str]) -> None:
        headers.update({"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
        chunked = self.request_version != "HTTP/1.0"
        if chunked:
            headers["Transfer-Encoding"] = "chunked"
        else:
            self.close_connection = True
        self._send(self._head(reply.status, headers))
        for number, event in enumerate(reply.events or ()):
            if isinstance(event, Pause | Cut):
                if not self._goes_on_after(event):
                    return
                continue
            if number and self.server.chunk_delay and self.server.closing.wait(self.server.chunk_delay):
                self.close_connection = True
                return
            data = f"data: {event}\n\n".encode("utf-8", "replace")
            self._send(b"%x\r\n%s\r\n" % (len(data), data) if chunked else data)
        if chunked:
            self._send(b"0\r\n\r\n")

    def _goes_on_after(self, here: Pause | Cut) -> bool:
        """Performs a pause or a cut; whether there is anybody left to go on for."""
        if isinstance(here, Pause):
            until = None if here.seconds is None else time.monotonic() + here.seconds
            while until is None or time.monotonic() < until:
                rest = _BLINK if until is None else min(_BLINK, max(0.0, until - time.monotonic()))
                if self.server.closing.wait(rest) or self._is_left():
                    break
            else:
                return True
        self.close_connection = True
        return False

    def _is_left(self) -> bool:
        """Whether the other side has closed the connection."""
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(self.connection, selectors.EVENT_READ)
                return bool(selector.select(0)) and not self.connection.recv(1, socket.MSG_PEEK)
        except (OSError, ValueError):
            return True

    def _head(self, status: int, headers: dict[str, str]) -> bytes:
        reason = self.responses[status][0] if status in self.responses else ""
        lines = [f"HTTP/1.1 {status} {reason}", f"Date: {self.date_time_string()}", f"Server: {self.server_version}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if self.close_connection:
            lines.append("Connection: close")
        return "\r\n".join([*lines, "", ""]).encode("latin-1", "replace")

    def _send(self, data: bytes) -> None:
        """Writes all of it; a client that has gone away ends the connection quietly."""
        self.wfile.write(data)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answers what is no proper HTTP, in JSON like every other error."""
        self.close_connection = True
        if not hasattr(self, "headers"):
            self.command, self.path = getattr(self, "command", None) or "", getattr(self, "path", "")
        self._write(Reply(int(code), {"error": message or self.responses[code][0]}))

    def log_message(self, *args: Any) -> None:
        """Keeps the base class from printing."""


def _too_large() -> Refusal:
    return Refusal(f"request body is too large; at most {MAX_BODY} bytes are taken", 413)
