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
from tests.faults.methods import CHAT, Method
from tests.faults.recorded_calls import Outcome, record_call
from tests.faults.server import FaultServer
from tests.faults.table import Fault
from tests.faults.test_matrix import cases, check, served

# The argument of each adapter, sync and async.
NAMES = {
    "core": ("http_client", "http_client"),
    "LangChain": ("http_client", "http_async_client"),
    "LlamaIndex": ("http_client", "async_http_client"),
}


def with_own_client(method: Method, module: Any) -> Method:
    """Return the method with an HTTP client of `module`. Only this function may close the client."""
    argument, async_argument = NAMES[method.adapter]

    def ask(url: str, **options: Any) -> Iterator[str]:
        with module.Client(verify=False) as own:
            try:
                for text in method.ask(url, **options, **{argument: own}):
                    yield text
            finally:
                assert not own.is_closed

    async def async_ask(url: str, **options: Any) -> AsyncIterator[str]:
        async with module.AsyncClient(verify=False) as own:
            try:
                async for text in method.ask(url, **options, **{async_argument: own}):
                    yield text
            finally:
                assert not own.is_closed

    name = f"{method.adapter} {module.__name__} {method.name.partition(' ')[2]}"
    return dataclasses.replace(method, name=name, ask=async_ask if method.is_async else ask)


METHODS = [with_own_client(method, module) for method in CHAT for module in (httpx, httpx2)]
_NAMES = (
    ("refused", "reset before the headers", "closed within the headers", "closed, closed, then good"),
    ("302", "404", "429", "503, then good", "103, then good", "502, HTML"),
    ("HTML", "empty", "broken JSON", "gzip", "no gzip", "gzip of a gzip", "a gzip bomb"),
)
FAULTS = [
    next(row for row in rows if row.name == name)
    for rows, names in zip((table.LOST, table.STATUSES, table.BODIES), _NAMES, strict=True)
    for name in names
]
CUT = ("reset in the body", "closed short of its length")
CUT_STREAM = ("reset", "closed between chunks", "closed within an event", "an error", "HTML for an event")
WHOLE = ("ordinary", "CR LF, byte by byte", "gzip", "a plain answer", "reset after the finish reason")


@pytest.mark.parametrize(
    ("fault", "method"),
    [
        *cases(FAULTS, METHODS),
        *cases([row for row in table.CUT_PLAIN if row.name in CUT], [each for each in METHODS if not each.streams]),
        *cases(
            [
                *(row for row in table.CUT_STREAM if row.name in CUT_STREAM),
                *(row for row in table.WHOLE_STREAM if row.name in WHOLE),
            ],
            [each for each in METHODS if each.streams],
        ),
    ],
)
def test_a_fault(fault: Fault, method: Method) -> None:
    with served(fault, method) as (url, server):
        check(fault, method, record_call(method, url, server), server)


@pytest.mark.parametrize("fault", table.OTHERS_SLOW, ids=lambda fault: fault.name)
def test_a_server_that_is_slow(fault: Fault) -> None:
    def one(method: Method) -> tuple[Method, Outcome, FaultServer]:
        with served(fault, method) as (url, server):
            return method, record_call(method, url, server, alone=False, timeout=1.0), server

    with ThreadPoolExecutor(len(METHODS)) as threads:
        for method, outcome, server in threads.map(one, METHODS):
            check(fault, method, outcome, server)
