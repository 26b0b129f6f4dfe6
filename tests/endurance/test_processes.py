"""After fork or spawn, parent and child use separate connections and each get their own responses."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import pytest

from predictionguard_core import ChatRequest, Client
from predictionguard_core.http import shared_clients, tls
from tests.endurance.conftest import Echo
from tests.endurance.kinds import ASYNC_STREAMS, KEY, KINDS, STREAMS, SYNC, Kind
from tests.waiting import until

HELLO = ChatRequest(model="m", messages="marker-7")
PATIENCE = 60
"""Seconds after which a child process counts as hanging."""

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


class Child:
    """A forked process that runs one function and sends its result back."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self._out, into = os.pipe()
        self.pid = os.fork()
        if self.pid:
            os.close(into)
            return
        code = 1
        try:
            signal.alarm(PATIENCE)
            result = json.dumps(work()).encode()
            code = 0
        except BaseException:
            result = traceback.format_exc().encode()
        finally:
            with open(into, "wb") as pipe:
                pipe.write(result)
            os._exit(code)

    def result(self) -> Any:
        """Return its result. Fails if it failed or hung."""
        with open(self._out, "rb") as pipe:
            text = pipe.read().decode()
        _, status = os.waitpid(self.pid, 0)
        assert status == 0, text or f"the child hung, or ended by {status}"
        return json.loads(text)


def asked(kind: Kind, model: Any, numbers: range) -> list[int]:
    return [answer for number in numbers for answer in kind.answers(model, number)]


def twice(kind: Kind, numbers: range) -> list[int]:
    return [number for number in numbers for _ in range(bool(kind.ask) + bool(kind.aask))]


def connections(echo: Echo) -> dict[bool, set[int]]:
    """Return the connections of the children (True), whose numbers are large, and those of the parent (False)."""
    found: dict[bool, set[int]] = {True: set(), False: set()}
    for each in echo.seen():
        found[each["marker"] >= 1000].add(each["connection"])
    return found


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_fork_while_connections_are_open(kind: Kind, echo: Echo) -> None:
    model = kind.make(echo.url)
    asked(kind, model, range(3))
    children = [Child(lambda first=first: asked(kind, model, range(first, first + 5))) for first in (1000, 2000)]
    assert asked(kind, model, range(5)) == twice(kind, range(5))
    for first, child in zip((1000, 2000), children, strict=True):
        assert child.result() == twice(kind, range(first, first + 5))
    assert asked(kind, model, range(5)) == twice(kind, range(5))
    used = connections(echo)
    assert used[True]
    assert not used[True] & used[False], "a connection was shared"


@pytest.mark.parametrize("kind", STREAMS, ids=str)
def test_fork_while_a_stream_runs(kind: Kind, echo: Echo) -> None:
    """The child drops the inherited stream and makes its own calls; the stream of the parent continues undisturbed."""
    assert kind.stream
    model = kind.make(f"{echo.url}/slow")
    begun = [iter(kind.stream(model, 123456))]
    heard = next(begun[0])

    def work() -> list[str]:
        begun.clear()
        gc.collect()
        assert kind.stream
        return ["".join(kind.stream(model, number)) for number in (1000, 1001)]

    child = Child(work)
    heard += "".join(begun[0])
    assert heard == "123456"
    assert child.result() == ["1000", "1001"]
    used = connections(echo)
    assert len(used[True]) >= 1


@pytest.mark.parametrize("kind", ASYNC_STREAMS, ids=str)
def test_fork_in_a_running_loop(kind: Kind, echo: Echo) -> None:
    model, plain = kind.make(f"{echo.url}/slow"), kind.make(echo.url)

    async def ask() -> str:
        assert kind.astream
        chunks = aiter(kind.astream(model, 123456))
        heard = await anext(chunks)
        child = Child(in_a_thread)
        heard += "".join([each async for each in chunks])
        assert await asyncio.to_thread(child.result) == twice(kind, range(1000, 1003))
        return heard

    def in_a_thread() -> list[int]:
        # The forked thread is inside a running loop, so the child runs its own loops in another thread.
        answers: list[int] = []
        thread = threading.Thread(target=lambda: answers.extend(asked(kind, plain, range(1000, 1003))))
        thread.start()
        thread.join()
        return answers

    assert asyncio.run(ask()) == "123456"


def test_a_child_can_not_read_from_its_parents_stream(echo: Echo) -> None:
    chunks = Client(KEY, f"{echo.url}/slow").stream(ChatRequest(model="m", messages="marker-1234567890"))
    heard = [next(chunks)]

    def work() -> str:
        try:
            return "".join(each.choices[0].delta.content or "" for each in chunks)
        except Exception as error:
            return type(error).__name__

    child = Child(work)
    assert child.result() == "StreamInterruptedError"
    heard += chunks
    assert "".join(each.choices[0].delta.content or "" for each in heard) == "1234567890"


def test_a_child_keeps_no_connection_of_its_parent_open(echo: Echo) -> None:
    client = Client(KEY, echo.url)
    client.chat(HELLO)
    child = Child(lambda: [echo.sockets(), time.sleep(1)])
    client.close()
    until(lambda: echo.open == 0)
    assert child.result()[0] == 0


@pytest.mark.parametrize("kind", SYNC, ids=str)
def test_fork_while_other_threads_make_calls(kind: Kind, echo: Echo) -> None:
    """A lock that another thread holds during the fork stays locked in the child."""
    model, over = kind.make(echo.url), threading.Event()

    def ask(number: int) -> None:
        assert kind.ask
        while not over.is_set():
            assert kind.ask(model, number) == number

    def close() -> None:
        while not over.is_set():
            with Client(KEY, echo.url) as client:
                client.models()

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(3)]
    threads.append(threading.Thread(target=close))
    for thread in threads:
        thread.start()
    try:
        for number in range(4):
            first = 1000 + number
            assert Child(lambda first=first: asked(kind, model, range(first, first + 1))).result() == twice(
                kind, range(first, first + 1)
            )
    finally:
        over.set()
        for thread in threads:
            thread.join()


@contextlib.contextmanager
def _held_elsewhere(lock: Any) -> Iterator[None]:
    """Another thread holds the lock for as long as this block runs."""
    taken, over = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            taken.set()
            over.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    taken.wait()
    try:
        yield
    finally:
        over.set()
        thread.join()


@pytest.mark.parametrize("owner", [shared_clients._registry, tls._cache], ids=["clients", "tls"])
def test_fork_while_a_lock_is_held(owner: Any, echo: Echo) -> None:
    with _held_elsewhere(owner.lock):
        child = Child(lambda: Client(KEY, echo.url).chat(HELLO).message.content)
        assert child.result() == "7"


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_pool_of_processes(method: str, echo: Echo, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every kind in the same two workers: the key is in no pickle, the workers read it from the environment."""
    monkeypatch.setenv("PREDICTIONGUARD_API_KEY", KEY)
    models = [kind.make(echo.url) for kind in KINDS]
    for kind, model in zip(KINDS, models, strict=True):
        asked(kind, model, range(1))
    with ProcessPoolExecutor(2, mp_context=get_context(method)) as pool:
        waiting = [
            pool.submit(asked_in_a_worker, index, model, 1000 + 10 * index) for index, model in enumerate(models)
        ]
        for index, each in enumerate(waiting):
            first = 1000 + 10 * index
            assert each.result(PATIENCE) == twice(KINDS[index], range(first, first + 3))
    used = connections(echo)
    assert not used[True] & used[False]


def asked_in_a_worker(index: int, model: Any, first: int) -> list[int]:
    return asked(KINDS[index], model, range(first, first + 3))


def test_the_error_of_a_worker_without_a_key_names_the_remedy(echo: Echo) -> None:
    (kind,) = [kind for kind in KINDS if kind.name == "lc-chat"]
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        with pytest.raises(Exception, match="PREDICTIONGUARD_API_KEY") as caught:
            pool.submit(asked_in_a_worker, KINDS.index(kind), kind.make(echo.url), 1).result(PATIENCE)
    assert type(caught.value).__name__ == "ConfigurationError"
