"""Make one call against a fault server and record its result and the connections it left open."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import time
from pathlib import Path
from typing import Any

from tests.faults.methods import Method
from tests.faults.server import FaultServer

_PATIENCE = 30.0
"""Seconds that a connection may take to close in the background. Generous, for slow machines."""


@dataclasses.dataclass
class Outcome:
    """The result of a call: the received text, the error at its end, and what was left open after it."""

    text: str = ""
    error: BaseException | None = None
    sockets: int = 0
    tasks: int = 0
    seconds: float = 0.0


def sockets() -> set[int]:
    """Return the inodes of the sockets that this process has open."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            target = str(Path(f"/proc/self/fd/{name}").readlink())
        except OSError:
            continue  # closed since
        if target.startswith("socket:["):
            found.add(int(target[8:-1]))
    return found


def record_call(method: Method, url: str, server: FaultServer, *, alone: bool = True, **options: Any) -> Outcome:
    """Make a call, and count what it left open while its event loop still runs.

    `alone`: nothing else in this process opens a socket meanwhile, so all new sockets belong to the call.
    """
    outcome, started = Outcome(), time.monotonic()
    left = _Left(server, alone=alone)
    if method.is_async:
        asyncio.run(_record_async_call(method, url, left, options, outcome))
        return outcome
    try:
        for text in method.ask(url, **options):
            outcome.text += text
    except Exception as error:
        outcome.error = error
    outcome.seconds = time.monotonic() - started
    while left.count() and time.monotonic() - started < _PATIENCE:
        time.sleep(0.005)
    outcome.sockets = left.count()
    return outcome


async def _record_async_call(method: Method, url: str, left: _Left, options: dict[str, Any], outcome: Outcome) -> None:
    left.begin()  # after the event loop has opened its own sockets
    started = time.monotonic()
    try:
        async for text in method.ask(url, **options):
            outcome.text += text
    except Exception as error:
        outcome.error = error
    outcome.seconds = time.monotonic() - started
    own = {asyncio.current_task()}
    # There is no event for a socket that closes.
    while (left.count() or asyncio.all_tasks() - own) and time.monotonic() - started < _PATIENCE:  # noqa: ASYNC110
        await asyncio.sleep(0.005)
    outcome.sockets, outcome.tasks = left.count(), len(asyncio.all_tasks() - own)


class _Left:
    """Counts what a call left open: connections that the server sees, and sockets that are not the server's."""

    def __init__(self, server: FaultServer, *, alone: bool) -> None:
        self._server = server
        self._alone = alone
        self.begin()

    def begin(self) -> None:
        self._before = sockets() if self._alone else set()

    def count(self) -> int:
        return self._server.open + (len(sockets() - self._before - self._server.inodes) if self._alone else 0)
