"""A user's own client of httpx or httpx2 meets the same faults: the same error classes and number of requests.

It stays open.
"""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import httpx2
import pytest

from tests.faults import table
from tests.faults.meeting import Met, meet
from tests.faults.server import FaultServer
from tests.faults.table import Fault
from tests.faults.test_matrix import cases, check, served
from tests.faults.ways import CHAT, Way

# By what name each adapter takes it, sync and async.
NAMES = {
    "core": ("http_client", "http_client"),
    "LangChain": ("http_client", "http_async_client"),
    "LlamaIndex": ("http_client", "async_http_client"),
}


def with_own_client(way: Way, module: Any) -> Way:
    """The same way, over a client of `module` that is closed here, and only here."""
    argument, async_argument = NAMES[way.adapter]

    def ask(url: str, **options: Any) -> Iterator[str]:
        with module.Client(verify=False) as own:
            try:
                for text in way.ask(url, **options, **{argument: own}):
                    yield text
            finally:
                assert not own.is_closed

    async def async_ask(url: str, **options: Any) -> AsyncIterator[str]:
        async with module.AsyncClient(verify=False) as own:
            try:
                async for text in way.ask(url, **options, **{async_argument: own}):
                    yield text
            finally:
                assert not own.is_closed

    name = f"{way.adapter} {module.__name__} {way.name.partition(' ')[2]}"
    return dataclasses.replace(way, name=name, ask=async_ask if way.is_async else ask)


WAYS = [with_own_client(way, module) for way in CHAT for module in (httpx, httpx2)]
_NAMES = (
    ("nobody listens", "reset before the headers", "closed within the headers", "closed, closed, then good"),
    ("302", "404", "429", "503, then good", "103, then good", "502, HTML"),
    ("HTML", "empty", "broken JSON", "gzip", "no gzip", "gzip of a gzip", "gzip that unfolds without end"),
)
FAULTS = [
    next(row for row in rows if row.name == name)
    for rows, names in zip((table.LOST, table.STATUSES, table.BODIES), _NAMES, strict=True)
    for name in names
]
CUT = ("reset in the body", "closed short of its length")
CUT_STREAM = ("reset", "closed between chunks", "closed within an event", "an error", "HTML for an event")
WHOLE = ("ordinary", "CR LF, byte by byte", "gzip", "a plain answer", "reset after the finish reason")


@cases(FAULTS, WAYS)
def test_any_answer(fault: Fault, way: Way) -> None:
    with served(fault, way) as (url, server):
        check(fault, way, meet(way, url, server), server)


@cases([row for row in table.CUT_PLAIN if row.name in CUT], [way for way in WAYS if not way.streams])
def test_a_plain_answer(fault: Fault, way: Way) -> None:
    with served(fault, way) as (url, server):
        check(fault, way, meet(way, url, server), server)


@cases(
    [
        *(row for row in table.CUT_STREAM if row.name in CUT_STREAM),
        *(row for row in table.WHOLE_STREAM if row.name in WHOLE),
    ],
    [way for way in WAYS if way.streams],
)
def test_a_stream(fault: Fault, way: Way) -> None:
    with served(fault, way) as (url, server):
        check(fault, way, meet(way, url, server), server)


@pytest.mark.parametrize("fault", table.SIBLINGS_SLOW, ids=lambda fault: fault.name)
def test_a_server_that_is_slow(fault: Fault) -> None:
    def one(way: Way) -> tuple[Way, Met, FaultServer]:
        with served(fault, way) as (url, server):
            return way, meet(way, url, server, alone=False, timeout=1.0), server

    with ThreadPoolExecutor(len(WAYS)) as threads:
        for way, met, server in threads.map(one, WAYS):
            check(fault, way, met, server)
