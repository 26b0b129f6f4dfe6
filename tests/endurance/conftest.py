"""The echo server, and the connections and descriptors of this process."""

from __future__ import annotations

import contextlib
import gc
import http.client
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from predictionguard_core import Client
from predictionguard_core.http import shared_clients
from tests.waiting import PATIENCE, until


class Echo:
    """`echo.py`, running."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"

    def _told(self, path: str) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request("GET", path)
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()

    @property
    def open(self) -> int:
        """How many connections the server has open, from anywhere."""
        return int(self._told("/open"))

    def seen(self) -> list[dict[str, Any]]:
        """The requests since this was last asked: `connection`, `marker`, `path`."""
        seen: list[dict[str, Any]] = self._told("/seen")
        return seen

    def sockets(self) -> int:
        """How many sockets of this process are connected to the server."""
        return sum(_peer(number) == self.port for number, what in descriptors().items() if what.startswith("socket:"))

    def settles(self, most: int = 0) -> None:
        """Wait until at most `most` connections are open, in this process and on the server."""
        until(lambda: self.sockets() <= most and self.open <= most)


def descriptors() -> dict[int, str]:
    """Return the file descriptors of this process and what each refers to."""
    found = {}
    for each in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the descriptor of the listing itself
            found[int(each)] = os.readlink(f"/proc/self/fd/{each}")
    return found


def _peer(descriptor: int) -> int | None:
    """Return the remote port of a connected socket."""
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as other:
        name = other.getpeername()
        return int(name[1]) if isinstance(name, tuple) else None
    return None


@pytest.fixture(scope="session")
def _server() -> Iterator[Echo]:
    command = [sys.executable, str(Path(__file__).with_name("echo.py"))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin
        assert process.stdout
        yield Echo(int(process.stdout.readline()))
        process.stdin.close()


@pytest.fixture
def echo(_server: Echo) -> Iterator[Echo]:
    """The echo server. Checks after the test that no connection to it is left open."""
    with pytest.MonkeyPatch.context() as patch:
        # A registry of its own: clients that other tests left to the garbage collector keep the shared one open.
        patch.setattr(shared_clients, "_registry", shared_clients._Registry())
        yield _server
        with Client("the-last-user"):
            pass
        if _server.sockets():
            gc.collect()
            with Client("the-last-user"):
                pass
        _server.settles()
        _server.seen()
