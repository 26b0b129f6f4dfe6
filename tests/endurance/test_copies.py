"""Copies and pickles made while connections are open and streams run work, and do not disturb the original."""

from __future__ import annotations

import asyncio
import copy
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cloudpickle
import httpx
import pytest

from tests.endurance.conftest import Echo
from tests.endurance.kinds import ASYNC_STREAMS, KEY, KINDS, STREAMS, Kind

WAYS: dict[str, Callable[[Any], Any]] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
    "cloudpickle": lambda model: cloudpickle.loads(cloudpickle.dumps(model)),
    "a closure": lambda model: cloudpickle.loads(cloudpickle.dumps(lambda: model))(),
    "twice": lambda model: pickle.loads(pickle.dumps(copy.deepcopy(pickle.loads(pickle.dumps(model))))),
}
EACH_WAY = pytest.mark.parametrize("way", WAYS)


@pytest.fixture(autouse=True)
def _a_worker_has_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREDICTIONGUARD_API_KEY", KEY)


@EACH_WAY
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_while_connections_are_open(kind: Kind, way: str, echo: Echo) -> None:
    model = kind.make(echo.url)
    assert set(kind.answers(model, 1)) == {1}
    copied = WAYS[way](model)
    assert type(copied) is type(model)
    assert copied is not model
    with ThreadPoolExecutor(2) as threads:
        one, other = threads.submit(kind.answers, model, 2), threads.submit(kind.answers, copied, 3)
        assert (set(one.result()), set(other.result())) == ({2}, {3})
    if hasattr(copied, "close"):
        copied.close()
    assert set(kind.answers(model, 4)) == {4}
    assert set(kind.answers(copied, 5)) == {5}


@EACH_WAY
@pytest.mark.parametrize("kind", STREAMS, ids=str)
def test_while_a_stream_runs(kind: Kind, way: str, echo: Echo) -> None:
    assert kind.stream
    model = kind.make(f"{echo.url}/slow")
    chunks = iter(kind.stream(model, 123456))
    heard = next(chunks)
    copied = WAYS[way](model)
    assert "".join(kind.stream(copied, 77)) == "77"
    if hasattr(copied, "close"):
        copied.close()
    assert heard + "".join(chunks) == "123456"


@EACH_WAY
@pytest.mark.parametrize("kind", ASYNC_STREAMS, ids=str)
def test_while_an_asynchronous_stream_runs(kind: Kind, way: str, echo: Echo) -> None:
    async def ask() -> str:
        assert kind.astream
        model = kind.make(f"{echo.url}/slow")
        chunks = aiter(kind.astream(model, 123456))
        heard = await anext(chunks)
        copied = WAYS[way](model)
        assert "".join([each async for each in kind.astream(copied, 77)]) == "77"
        if hasattr(copied, "aclose"):
            await copied.aclose()
        return heard + "".join([each async for each in chunks])

    assert asyncio.run(ask()) == "123456"


@EACH_WAY
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_custom_http_client_is_copied_but_not_pickled(kind: Kind, way: str, echo: Echo) -> None:
    used: list[str] = []

    async def note(request: httpx.Request) -> None:
        used.append("async")

    async def ask_both(own: httpx.Client) -> None:
        async with httpx.AsyncClient(event_hooks={"request": [note]}) as async_own:
            given = {name: each for name, each in zip(kind.own, (own, async_own), strict=True) if name}
            copied = WAYS[way](kind.make(echo.url, **given))
            if kind.aask:
                assert await kind.aask(copied, 6) == 6
            if kind.ask:
                assert await asyncio.to_thread(kind.ask, copied, 7) == 7

    with httpx.Client(event_hooks={"request": [lambda _: used.append("sync")]}) as own:
        asyncio.run(ask_both(own))
    goes_along = {mode for mode, ask in (("sync", kind.ask), ("async", kind.aask)) if ask}
    assert set(used) == (goes_along if way in ("copy", "deepcopy") else set())
