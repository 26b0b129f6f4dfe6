"""Every fault of the table with every method: the error or text, the number of requests, nothing left open."""

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
from tests.faults.methods import CHAT, KEY, OTHER_METHODS, Method
from tests.faults.recorded_calls import Outcome, record_call
from tests.faults.server import FaultServer, unused_port
from tests.faults.table import GOOD, LANGCHAIN, REFUSED, Fault

PLAIN_METHODS = [method for method in CHAT if not method.streams]
STREAM_METHODS = [method for method in CHAT if method.streams]
OTHER_PLAIN_METHODS = [method for method in OTHER_METHODS if not method.streams]
LONGEST = 30.0
"""Seconds after which a call counts as hanging. Generous, for slow machines."""


@contextlib.contextmanager
def served(fault: Fault, method: Method) -> Iterator[tuple[str, FaultServer]]:
    """A server with this fault: its URL, and the server."""
    with FaultServer(*(_script(does, method) for does in fault.does)) as server:
        url = f"http://127.0.0.1:{unused_port()}" if REFUSED in fault.does else server.url
        yield url.replace("http:", "https:") if fault.tls else url, server


def _script(does: Any, method: Method) -> Any:
    if isinstance(does, list):
        return [method.good if step is GOOD else step for step in does]
    return method.good if does is GOOD else does() if callable(does) else does


def check(fault: Fault, method: Method, outcome: Outcome, server: FaultServer, *, crowded: bool = False) -> None:
    """Check the result of a call against its row.

    `crowded`: calls wait for each other while they connect, so that one may be late and connect again. That is an
    ordinary retry: a connection that was given up before a request was sent on it is not counted.
    """
    if isinstance(fault.expected, str):
        assert (outcome.error, outcome.text) == (None, method.text if fault.expected == table.TEXT else fault.expected)
    else:
        assert own_class(outcome.error) is fault.expected, repr(outcome.error)
        assert isinstance(outcome.error, LANGCHAIN[fault.expected]) == (method.adapter == "LangChain")
        assert isinstance(outcome.error, ModelError) == (method.adapter == "LangChain")
        assert outcome.text == (fault.received if method.streams else "")
        assert KEY not in f"{outcome.error!r} {outcome.error} {outcome.error.__cause__!r} {outcome.error.__context__!r}"
    assert len(server.requests) == fault.requests <= 3
    connections = [each for each in server.connections if each.requests or not (crowded and fault.connections is None)]
    assert len(connections) == (fault.requests if fault.connections is None else fault.connections)
    assert len(server.connections) <= 3
    assert len({request.body for request in server.requests}) <= 1
    assert (outcome.sockets, outcome.tasks) == (0, 0)
    assert outcome.seconds < LONGEST


def own_class(error: BaseException | None) -> type:
    """Return the class of the core that an error is."""
    return next(kind for kind in type(error).__mro__ if kind.__module__ == PredictionGuardError.__module__)


def cases(faults: list[Fault], methods: list[Method]) -> list[Any]:
    return [pytest.param(fault, method, id=f"{fault.name} - {method.name}") for fault in faults for method in methods]


@pytest.mark.parametrize(
    ("fault", "method"),
    [
        *cases([*table.LOST, *table.STATUSES, *table.BODIES], CHAT),
        *cases(table.CUT_PLAIN, PLAIN_METHODS),
        *cases([*table.CUT_STREAM, *table.WHOLE_STREAM], STREAM_METHODS),
        *cases(table.OTHERS, OTHER_METHODS),
        *cases(table.OTHERS_PLAIN, OTHER_PLAIN_METHODS),
    ],
)
def test_a_fault(fault: Fault, method: Method) -> None:
    with served(fault, method) as (url, server):
        check(fault, method, record_call(method, url, server), server)


SIDE_BY_SIDE = [
    *(pytest.param(fault, CHAT, id=fault.name) for fault in table.SLOW),
    *(pytest.param(fault, STREAM_METHODS, id=f"a stream, {fault.name}") for fault in table.SLOW_STREAM),
    *(pytest.param(fault, OTHER_METHODS, id=f"other methods, {fault.name}") for fault in table.OTHERS_SLOW),
]


@pytest.mark.parametrize(("fault", "methods"), SIDE_BY_SIDE)
def test_a_server_that_is_slow(fault: Fault, methods: list[Method]) -> None:
    def one(method: Method) -> tuple[Method, Outcome, FaultServer]:
        with served(fault, method) as (url, server):
            outcome = record_call(method, url, server, alone=False, timeout=fault.timeout)
            return method, outcome, server

    with ThreadPoolExecutor(13) as threads:
        for method, outcome, server in threads.map(one, methods):
            check(fault, method, outcome, server, crowded=True)
            if fault.expected is APITimeoutError:
                assert outcome.seconds >= 0.9


@pytest.mark.parametrize("method", CHAT, ids=lambda method: method.name)
@pytest.mark.parametrize("max_retries", [0, 1, 4])
@pytest.mark.parametrize("name", ["429", "reset before the headers"])
def test_retries_do_not_multiply(name: str, max_retries: int, method: Method) -> None:
    fault = next(row for row in [*table.LOST, *table.STATUSES] if row.name == name)
    with served(fault, method) as (url, server):
        assert own_class(record_call(method, url, server, max_retries=max_retries).error) is fault.expected
        assert len(server.requests) == max_retries + 1


@pytest.mark.parametrize("method", CHAT, ids=lambda method: method.name)
def test_the_error_has_the_details_of_the_response(method: Method, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    refused = table.refusal(429, "slow down", retry_after="0", x_request_id="r-7")
    with FaultServer(refused) as server:
        error: Any = record_call(method, server.url, server).error
    assert (error.status_code, error.message, error.request_id, error.retry_after) == (429, "slow down", "r-7", 0.0)
    assert "r-7" in str(error)
    assert KEY not in caplog.text
    assert "attempts=3 outcome=RateLimitError" in caplog.text
