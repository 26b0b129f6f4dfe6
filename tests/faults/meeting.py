"""Make one call against a fault server and record its result and the connections it left open."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import time
from pathlib import Path
from typing import Any

from tests.faults.server import FaultServer
from tests.faults.ways import Way

_PATIENCE = 30.0
"""Seconds that something that closes in the background is given: for slow machines, no measure of ours."""


@dataclasses.dataclass
class Met:
    """What came of a call: the text that was heard, the error at its end, and what was left open after it."""

    text: str = ""
    error: BaseException | None = None
    sockets: int = 0
    tasks: int = 0
    seconds: float = 0.0


def sockets() -> set[int]:
    """The inodes of the sockets that this process has open."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            target = str(Path(f"/proc/self/fd/{name}").readlink())
        except OSError:
            continue  # closed since
        if target.startswith("socket:["):
            found.add(int(target[8:-1]))
    return found


def meet(way: Way, url: str, server: FaultServer, *, alone: bool = True, **options: Any) -> Met:
    """Ask once, to the end or to the error, and look what is open afterwards, while the event loop still runs.

    `alone`: nothing else in this process opens a socket meanwhile, so that all of them are looked at.
    """
    met, started = Met(), time.monotonic()
    left = _Left(server, alone=alone)
    if way.is_async:
        asyncio.run(_async_meet(way, url, left, options, met))
        return met
    try:
        for text in way.ask(url, **options):
            met.text += text
    except Exception as error:
        met.error = error
    met.seconds = time.monotonic() - started
    while left.count() and time.monotonic() - started < _PATIENCE:
        time.sleep(0.005)
    met.sockets = left.count()
    return met


async def _async_meet(way: Way, url: str, left: _Left, options: dict[str, Any], met: Met) -> None:
    left.begin()  # the loop's own sockets are none of ours
    started = time.monotonic()
    try:
        async for text in way.ask(url, **options):
            met.text += text
    except Exception as error:
        met.error = error
    met.seconds = time.monotonic() - started
    own = {asyncio.current_task()}
    # A socket tells nobody when it closes.
    while (left.count() or asyncio.all_tasks() - own) and time.monotonic() - started < _PATIENCE:  # noqa: ASYNC110
        await asyncio.sleep(0.005)
    met.sockets, met.tasks = left.count(), len(asyncio.all_tasks() - own)


class _Left:
    """Counts what a call has left open: connections that the server sees, and sockets that are not the server's."""

    def __init__(self, server: FaultServer, *, alone: bool) -> None:
        self._server = server
        self._alone = alone
        self.begin()

    def begin(self) -> None:
        self._before = sockets() if self._alone else set()

    def count(self) -> int:
        return self._server.open + (len(sockets() - self._before - self._server.inodes) if self._alone else 0)
