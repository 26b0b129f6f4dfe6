"""Every fault of the table, met in every way of asking: the right class or the right text, the right number of
requests, in bounded time, and nothing left open.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from langchain_core.exceptions import ModelError

from predictionguard_core.errors import APITimeoutError, PredictionGuardError
from tests.faults import table
from tests.faults.meeting import Met, meet
from tests.faults.server import FaultServer, unused_port
from tests.faults.table import GOOD, LANGCHAIN, REFUSED, Fault
from tests.faults.ways import CHAT, KEY, SIBLINGS, Way

PLAIN_WAYS = [way for way in CHAT if not way.streams]
STREAM_WAYS = [way for way in CHAT if way.streams]
PLAIN_SIBLINGS = [way for way in SIBLINGS if not way.streams]
LONGEST = 30.0
"""Seconds in which a call has to end, whatever it meets: many times what it needs, for slow machines."""


@contextlib.contextmanager
def served(fault: Fault, way: Way) -> Iterator[tuple[str, FaultServer]]:
    """The address of a server with this fault, and the server."""
    with FaultServer(*(_script(does, way) for does in fault.does)) as server:
        url = f"http://127.0.0.1:{unused_port()}" if REFUSED in fault.does else server.url
        yield url.replace("http:", "https:") if fault.tls else url, server


def _script(does: Any, way: Way) -> Any:
    if isinstance(does, list):
        return [way.good if step is GOOD else step for step in does]
    return way.good if does is GOOD else does() if callable(does) else does


def check(fault: Fault, way: Way, met: Met, server: FaultServer, *, crowded: bool = False) -> None:
    """What the row promises.

    `crowded`: calls wait for each other while they connect, so that one may be late and connect again. That is an
    ordinary retry: a connection that was given up before a request was sent on it is not counted.
    """
    if isinstance(fault.comes_to, str):
        assert (met.error, met.text) == (None, way.text if fault.comes_to == table.TEXT else fault.comes_to)
    else:
        assert own_class(met.error) is fault.comes_to, repr(met.error)
        assert isinstance(met.error, LANGCHAIN[fault.comes_to]) == (way.adapter == "LangChain")
        assert isinstance(met.error, ModelError) == (way.adapter == "LangChain")
        assert met.text == (fault.heard if way.streams else "")
        assert KEY not in f"{met.error!r} {met.error} {met.error.__cause__!r} {met.error.__context__!r}"
    assert len(server.requests) == fault.requests <= 3
    connections = [each for each in server.connections if each.requests or not (crowded and fault.connections is None)]
    assert len(connections) == (fault.requests if fault.connections is None else fault.connections)
    assert len(server.connections) <= 3
    assert len({request.body for request in server.requests}) <= 1
    assert (met.sockets, met.tasks) == (0, 0)
    assert met.seconds < LONGEST


def own_class(error: BaseException | None) -> type:
    """The core's class of an error."""
    return next(kind for kind in type(error).__mro__ if kind.__module__ == PredictionGuardError.__module__)


def run(fault: Fault, way: Way) -> None:
    with served(fault, way) as (url, server):
        check(fault, way, meet(way, url, server), server)


def cases(faults: list[Fault], ways: list[Way]) -> pytest.MarkDecorator:
    found = [pytest.param(fault, way, id=f"{fault.name} - {way.name}") for fault in faults for way in ways]
    return pytest.mark.parametrize(("fault", "way"), found)


@cases(table.LOST, CHAT)
def test_a_connection_lost_before_the_response(fault: Fault, way: Way) -> None:
    run(fault, way)


@cases(table.STATUSES, CHAT)
def test_a_status(fault: Fault, way: Way) -> None:
    run(fault, way)


@cases(table.BODIES, CHAT)
def test_a_body(fault: Fault, way: Way) -> None:
    run(fault, way)


@cases(table.CUT_PLAIN, PLAIN_WAYS)
def test_an_interrupted_response(fault: Fault, way: Way) -> None:
    run(fault, way)


@cases(table.CUT_STREAM, STREAM_WAYS)
def test_an_interrupted_stream(fault: Fault, way: Way) -> None:
    run(fault, way)


@cases(table.WHOLE_STREAM, STREAM_WAYS)
def test_a_complete_stream(fault: Fault, way: Way) -> None:
    run(fault, way)


@cases(table.SIBLINGS, SIBLINGS)
def test_the_other_endpoints(fault: Fault, way: Way) -> None:
    run(fault, way)


@cases(table.SIBLINGS_PLAIN, PLAIN_SIBLINGS)
def test_an_interrupted_response_of_the_other_endpoints(fault: Fault, way: Way) -> None:
    run(fault, way)


SIDE_BY_SIDE = [
    *(pytest.param(fault, CHAT, id=fault.name) for fault in [*table.SLOW, *table.SLOW_CONNECTING]),
    *(pytest.param(fault, STREAM_WAYS, id=f"a stream, {fault.name}") for fault in table.SLOW_STREAM),
    *(pytest.param(fault, SIBLINGS, id=f"the siblings, {fault.name}") for fault in table.SIBLINGS_SLOW),
]


@pytest.mark.parametrize(("fault", "ways"), SIDE_BY_SIDE)
def test_a_server_that_is_slow(fault: Fault, ways: list[Way]) -> None:
    def one(way: Way) -> tuple[Way, Met, FaultServer]:
        with served(fault, way) as (url, server):
            met = meet(way, url, server, alone=False, timeout=1.0)
            return way, met, server

    with ThreadPoolExecutor(13) as threads:
        for way, met, server in threads.map(one, ways):
            check(fault, way, met, server, crowded=True)
            if fault.comes_to is APITimeoutError:
                assert met.seconds >= 0.9


@pytest.mark.parametrize("way", CHAT, ids=lambda way: way.name)
@pytest.mark.parametrize("max_retries", [0, 1, 4])
@pytest.mark.parametrize("name", ["429", "reset before the headers"])
def test_retries_do_not_multiply(name: str, max_retries: int, way: Way) -> None:
    fault = next(row for row in [*table.LOST, *table.STATUSES] if row.name == name)
    with served(fault, way) as (url, server):
        assert own_class(meet(way, url, server, max_retries=max_retries).error) is fault.comes_to
        assert len(server.requests) == max_retries + 1


@pytest.mark.parametrize("way", CHAT, ids=lambda way: way.name)
def test_the_error_has_the_details_of_the_response(way: Way, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    refused = table.refusal(429, "slow down", retry_after="0", x_request_id="r-7")
    with FaultServer(refused) as server:
        error: Any = meet(way, server.url, server).error
    assert (error.status_code, error.message, error.request_id, error.retry_after) == (429, "slow down", "r-7", 0.0)
    assert "r-7" in str(error)
    assert KEY not in caplog.text
    assert "attempts=3 outcome=RateLimitError" in caplog.text
