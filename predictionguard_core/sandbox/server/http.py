"""HTTP/1.1 on a port of this machine, in threads that end with the sandbox."""

from __future__ import annotations

import contextlib
import json
import selectors
import socket
import socketserver
import ssl
import sys
import threading
import time
import uuid
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from predictionguard_core.sandbox.responses import Disconnect, Pause, Response, ServiceError
from predictionguard_core.sandbox.routes import Request, decode

MAX_BODY = 256 * 1024 * 1024
"""The largest request body in bytes; larger ones are answered with 413."""
_MAX_LINE = 1024
_CHUNK = 1024 * 1024
_POLL_SECONDS = 0.05
"""Seconds between two checks whether the client still waits, and between two keep-alive comments."""
_LINGER_SECONDS = 2.0
"""Seconds of silence after which the rest of a refused body is no longer waited for."""


class Server(ThreadingHTTPServer):
    """Listens at once; `run` serves until `close`, which ends every connection and joins every thread."""

    daemon_threads = True
    request_queue_size = 512

    def __init__(
        self,
        host: str,
        port: int,
        respond: Callable[[Request], Response],
        journal: list[Any],
        chunk_delay: float,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self.respond = respond
        self.journal = journal
        self.chunk_delay = chunk_delay
        self.ssl_context = ssl_context
        self.log: Callable[[str], None] | None = None
        self.closing = threading.Event()
        self._connections: dict[socket.socket, threading.Thread] = {}
        self._lock = threading.Lock()
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), Handler)

    def server_bind(self) -> None:
        """Bind without the base class's look-up of the machine's own name, which can ask the network."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept a connection; a TLS handshake happens at the first read, in the connection's own thread."""
        connection, address = super().get_request()
        if self.ssl_context is not None:
            connection = self.ssl_context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return connection, address

    def run(self) -> None:
        """Serve until `close` is called from another thread."""
        self.serve_forever(poll_interval=0.02)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection in a thread of its own."""
        thread = threading.Thread(
            target=self.process_request_thread, args=(request, client_address), name="sandbox-connection", daemon=True
        )
        with self._lock:
            self._connections[request] = thread
        thread.start()

    def shutdown_request(self, request: Any) -> None:
        """Close a connection that has been served."""
        with self._lock:
            self._connections.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that went away; print anything else."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)

    def close(self) -> None:
        """Stop accepting, end open connections, wait for their threads."""
        self.closing.set()
        self.shutdown()
        self.server_close()
        with self._lock:
            connections = list(self._connections.items())
            for connection, _ in connections:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        for _, thread in connections:
            thread.join()


class Handler(BaseHTTPRequestHandler):
    """Reads one request after the other from a connection and writes the responses."""

    server: Server
    protocol_version = "HTTP/1.1"
    server_version = "PredictionGuardSandbox"
    disable_nagle_algorithm = True

    def _serve(self) -> None:
        path = self.path.split("?", 1)[0].split("#", 1)[0]
        body: Any = None
        unreadable: str | None = None
        try:
            raw = self._read_body()
        except ServiceError as error:
            self.close_connection = True
            self._write(error.response())
            if error.status == 413:
                self._drain()
            return
        if self.command == "POST":
            try:
                body = decode(raw, self.headers.get("Content-Type", ""))
                self.server.journal.append(body)
            except ServiceError as error:
                unreadable = error.text
        del raw
        headers = {name.lower(): value for name, value in self.headers.items()}
        try:
            response = self.server.respond(Request(self.command, path, headers, body, unreadable))
        except Exception as error:
            self._write(Response(500, {"error": f"the sandbox itself failed: {type(error).__name__}: {error}"[:500]}))
            raise
        self._write(response)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_OPTIONS = _serve  # noqa: N815

    def _read_body(self) -> bytes:
        coding = self.headers.get("Transfer-Encoding")
        length = self.headers.get("Content-Length")
        if coding is not None:
            if coding.strip().lower() != "chunked" or length is not None:
                raise ServiceError("only a plain or a chunked request body is understood")
            return self._read_chunked()
        if length is None:
            return b""
        if not (length.isascii() and length.isdigit()) or len(length) > 18:
            raise ServiceError("Content-Length is not a number")
        if int(length) > MAX_BODY:
            raise _too_large()
        return self._read_exactly(int(length))

    def _read_exactly(self, length: int) -> bytes:
        data = self.rfile.read(length)
        if len(data) < length:
            raise ConnectionResetError("the client went away in the middle of a body")
        return data

    def _read_chunked(self) -> bytes:
        whole = bytearray()
        while True:
            size = self.rfile.readline(_MAX_LINE).split(b";", 1)[0].strip()
            if not size or len(size) > 16 or size.strip(b"0123456789abcdefABCDEF"):
                raise ServiceError("the chunked request body is malformed")
            length = int(size, 16)
            if length == 0:
                break
            if len(whole) + length > MAX_BODY:
                raise _too_large()
            whole += self._read_exactly(length)
            if self._read_exactly(2) != b"\r\n":
                raise ServiceError("the chunked request body is malformed")
        while self.rfile.readline(_MAX_LINE).strip():
            pass
        return bytes(whole)

    def _drain(self) -> None:
        """Read on for a while: closing with unread bytes would reset the connection and lose the response."""
        try:
            self.connection.shutdown(socket.SHUT_WR)
            self.connection.settimeout(_LINGER_SECONDS)
            for _ in range(4 * MAX_BODY // _CHUNK):
                if not self.rfile.read1(_CHUNK):
                    return
        except OSError:
            return

    def _write(self, response: Response) -> None:
        if self.server.log is not None:
            self.server.log(f"{self.command} {self.path[:200]} {response.status}")
        headers = {"x-request-id": uuid.uuid4().hex, **response.headers}
        if response.first is not None and not self._continues_after(response.first):
            return
        if response.events is not None:
            self._write_events(response, headers)
            return
        if response.raw is None:
            data = json.dumps(response.body).encode()
            headers["Content-Type"] = "application/json"
        else:
            data = response.raw
        headers["Content-Length"] = str(len(data))
        self._write_head(response, headers, b"" if self.command == "HEAD" else data)

    def _write_events(self, response: Response, headers: dict[str, str]) -> None:
        headers.update({"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
        if self.request_version == "HTTP/1.0":
            self.close_connection = True
        else:
            headers["Transfer-Encoding"] = "chunked"
        if not self._write_head(response, headers):
            return
        for number, event in enumerate(response.events or ()):
            if isinstance(event, Pause | Disconnect):
                if not self._continues_after(event):
                    return
                continue
            if number and self.server.chunk_delay and self.server.closing.wait(self.server.chunk_delay):
                self.close_connection = True
                return
            self._write_chunk(f"data: {event}\n\n")
        if self.request_version != "HTTP/1.0":
            self.wfile.write(b"0\r\n\r\n")

    def _write_chunk(self, text: str) -> None:
        data = text.encode("utf-8", "replace")
        self.wfile.write(data if self.request_version == "HTTP/1.0" else b"%x\r\n%s\r\n" % (len(data), data))

    def _continues_after(self, here: Pause | Disconnect) -> bool:
        """Perform a pause or a disconnection; return whether there is still a client to answer."""
        if isinstance(here, Pause):
            until = None if here.seconds is None else time.monotonic() + here.seconds
            while until is None or time.monotonic() < until:
                rest = _POLL_SECONDS if until is None else min(_POLL_SECONDS, max(0.0, until - time.monotonic()))
                if self.server.closing.wait(rest) or self._client_left():
                    break
                if here.keep_alive:
                    self._write_chunk(": keep-alive\n\n")
            else:
                return True
        self.close_connection = True
        return False

    def _client_left(self) -> bool:
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(self.connection, selectors.EVENT_READ)
                if not selector.select(0):
                    return False
                # A client that waits for its response sends nothing: under TLS, any byte is the alert that closes.
                return isinstance(self.connection, ssl.SSLSocket) or not self.connection.recv(1, socket.MSG_PEEK)
        except (OSError, ValueError):
            return True

    def _write_head(self, response: Response, headers: dict[str, str], body: bytes = b"") -> bool:
        """Write the head and a body behind it; return whether the client was still there."""
        reason = self.responses[response.status][0] if response.status in self.responses else ""
        lines = [f"HTTP/1.1 {response.status} {reason}", f"Date: {self.date_time_string()}"]
        lines += [f"Server: {self.server_version}", *(f"{name}: {value}" for name, value in headers.items())]
        if self.close_connection:
            lines.append("Connection: close")
        if response.head_seconds:
            for line in lines:
                self.wfile.write(f"{line}\r\n".encode("latin-1", "replace"))
                if not self._continues_after(Pause(response.head_seconds / len(lines))):
                    return False
            lines = []
        self.wfile.write("".join(f"{line}\r\n" for line in (*lines, "")).encode("latin-1", "replace") + body)
        return True

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer what is no proper HTTP, in JSON like every other error."""
        self.close_connection = True
        if not hasattr(self, "headers"):
            self.command, self.path = getattr(self, "command", None) or "", getattr(self, "path", "")
        self._write(Response(int(code), {"error": message or self.responses[code][0]}))

    def log_message(self, *args: Any) -> None:
        """Keep the base class from printing."""


def _too_large() -> ServiceError:
    return ServiceError(f"request body is too large; at most {MAX_BODY} bytes are taken", 413)
