"""`Sandbox`: the behaviour and the socket together, for `with` blocks."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any

from predictionguard_core.sandbox import behaviour
from predictionguard_core.sandbox.memory import Memory
from predictionguard_core.sandbox.reply import Reply
from predictionguard_core.sandbox.server import Server


class Sandbox:
    """A stand-in API on a socket of this machine.

    `port=0` picks a free port. With `api_key=None` any bearer token is good, otherwise it must match.
    `chunk_delay` is the pause in seconds between two events of a stream. With `vision_streaming` a
    request with an image may stream, as some self-hosted deployments allow.

    `start` and `stop` may be called again and again; as a context manager it does both.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        api_key: str | None = None,
        chunk_delay: float = 0.0,
        *,
        vision_streaming: bool = False,
    ) -> None:
        self.requests: list[Any] = []
        """The decoded JSON body of every POST, in order of arrival, refused ones included."""
        self._host = host
        self._port = port
        self._delay = chunk_delay
        self._settings = behaviour.Settings(api_key, vision_streaming)
        self._memory = Memory()
        self._server: Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """The address, such as `http://127.0.0.1:40123`; raises `RuntimeError` while it is not running."""
        if self._server is None:
            raise RuntimeError("the sandbox is not running; use it in a with block or call start()")
        host, port = self._server.server_name, self._server.server_port
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def start(self) -> Sandbox:
        """Begins to serve, if it does not already; raises `OSError` if the port is taken."""
        if self._server is None:
            server = Server(self._host, self._port, self._respond, self.requests, self._delay)
            self._thread = threading.Thread(target=server.run, name="sandbox", daemon=True)
            self._thread.start()
            self._server = server
        return self

    def stop(self) -> None:
        """Ends all connections, closes the port and waits for the threads, if it is running."""
        server, thread = self._server, self._thread
        self._server = self._thread = None
        if server is not None:
            server.close()
        if thread is not None:
            thread.join()

    def clear(self) -> None:
        """Empties the journal and forgets earlier prompts."""
        self.requests.clear()
        self._memory.clear()

    def log_to(self, log: Callable[[str], None]) -> None:
        """Calls `log` with one line for each reply from now on."""
        if self._server is not None:
            self._server.log = log

    def _respond(self, call: behaviour.Call) -> Reply:
        return behaviour.respond(call, self._settings, self._memory)

    def __enter__(self) -> Sandbox:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
