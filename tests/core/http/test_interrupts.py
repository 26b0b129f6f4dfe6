"""Exceptions of signal handlers and cancellation end a call at once, in every phase, and close its socket."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import trio

from predictionguard_core import AsyncClient, ChatRequest, Client
from predictionguard_core.api.chat import ImagePart, ImageURL, Message
from predictionguard_core.errors import ConfigurationError, ImageFetchError
from predictionguard_core.http import shared_clients
from predictionguard_core.images.policy import ImagePolicy
from tests.faults.server import DEAF, STALL, Drip, FaultServer, Unread, answer, event_stream
from tests.waiting import until

OPEN = ImagePolicy(allow_private_hosts=True)
HELLO = ChatRequest(model="m", messages="Hello")
LARGE = ChatRequest(model="m", messages="x" * 20_000_000)
HEAD = answer(200, b"", content_length="500")

SoftTimeLimit = type("SoftTimeLimit", (Exception,), {})


def images(url: str, count: int) -> ChatRequest:
    parts = [ImagePart(image_url=ImageURL(url=f"{url}/{number}.png")) for number in range(count)]
    return ChatRequest(model="m", messages=[Message(role="user", content=parts)])


PHASES = {
    "the head": (HELLO, [STALL]),
    "a head that drips": (HELLO, [Drip(HEAD * 50, 0.02)]),
    "the body": (HELLO, [HEAD, STALL]),
    "sending": (LARGE, Unread([DEAF])),
    "the TLS handshake": (HELLO, Unread([STALL])),
}


@pytest.fixture
def interrupt() -> Iterator[Callable[[FaultServer, int], None]]:
    """Has a signal handler raise `SoftTimeLimit` in the main thread once so many requests have arrived."""

    def handler(*_: Any) -> None:
        raise SoftTimeLimit

    before = signal.signal(signal.SIGUSR1, handler)
    threads: list[threading.Thread] = []

    def start(server: FaultServer, count: int) -> None:
        def wait() -> None:
            until(lambda: len(server.connections) >= count)
            time.sleep(0.1)  # for the main thread to wait again
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)

        threads.append(threading.Thread(target=wait))
        threads[-1].start()

    yield start
    for thread in threads:
        thread.join()
    signal.signal(signal.SIGUSR1, before)


def url_of(server: FaultServer, phase: str) -> str:
    return server.url.replace("http:", "https:") if "TLS" in phase else server.url


def all_closed(server: FaultServer) -> None:
    until(lambda: server.open == 0)


@pytest.mark.parametrize("phase", PHASES)
def test_a_signal_ends_a_call(phase: str, interrupt: Callable[[FaultServer, int], None]) -> None:
    request, script = PHASES[phase]
    with FaultServer(script) as server, Client("key", url_of(server, phase)) as client:
        interrupt(server, 1)
        with pytest.raises(SoftTimeLimit):
            client.chat(request)
        all_closed(server)
        assert len(server.connections) == 1


@pytest.mark.parametrize("count", [1, 3, 12])
def test_a_signal_ends_downloads(count: int, interrupt: Callable[[FaultServer, int], None]) -> None:
    delivered = threading.Event()
    with FaultServer([Drip(answer(200, b"x" * 200), 0.1), delivered.set]) as server:
        interrupt(server, min(count, 8))
        with pytest.raises(SoftTimeLimit):
            Client("key", server.url, images=OPEN).chat(images(server.url, count))
        assert not delivered.is_set()
        all_closed(server)
        assert len(server.connections) == min(count, 8), "what had not begun does not begin"
    until(lambda: not any(thread.name == "predictionguard-parallel" for thread in threading.enumerate()))


def test_the_timeout_ends_downloads_whose_host_can_not_be_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: over.wait() and [])
    client = Client("key", "http://127.0.0.1:1", timeout=0.2, images=OPEN)
    try:
        with pytest.raises(ImageFetchError, match=r"a\.example did not deliver the image within 0\.2 s"):
            client.chat(images("http://a.example", 2))
    finally:
        over.set()


@pytest.mark.parametrize("phase", PHASES)
def test_cancelling_ends_a_call(phase: str) -> None:
    request, script = PHASES[phase]

    async def ask() -> None:
        task = asyncio.create_task(AsyncClient("key", url_of(server, phase)).chat(request))
        await asyncio.to_thread(until, lambda: server.connections)
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.to_thread(all_closed, server)

    with FaultServer(script) as server:
        asyncio.run(ask())
        assert len(server.connections) == 1


def test_cancelling_ends_downloads() -> None:
    async def ask() -> None:
        task = asyncio.create_task(AsyncClient("key", server.url, images=OPEN).chat(images(server.url, 3)))
        await asyncio.to_thread(until, lambda: len(server.connections) == 3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.to_thread(all_closed, server)

    with FaultServer([STALL]) as server:
        asyncio.run(ask())


def test_calls_that_are_cancelled_while_they_connect_lose_no_connection() -> None:
    # encode/httpcore#1093: each of them would keep its place in httpcore's pool.
    async def ask() -> None:
        client = AsyncClient("key", server.url, timeout=20)
        for turns in range(30):
            task = asyncio.create_task(client.chat(HELLO))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        assert (await client.chat(HELLO)).message.content == "hello"
        shared: Any = await shared_clients.shared_async_client(client)
        assert shared._pool._slots.qsize() == 1000

    with FaultServer(answer(200, {"choices": [{"message": {"content": "hello"}}]})) as server:
        asyncio.run(ask())


def test_trio_gets_an_error_that_names_asyncio() -> None:
    async def ask() -> None:
        await AsyncClient("key", "http://127.0.0.1:1").chat(HELLO)

    async def stream() -> None:
        async for _ in AsyncClient("key", "http://127.0.0.1:1").stream(HELLO):
            pass

    for each in (ask, stream):
        with pytest.raises(ConfigurationError, match=r"asyncio.*trio"):
            trio.run(each)


LOOPS = """
import asyncio, gc, sys
import nest_asyncio
from predictionguard_core import AsyncClient, ChatRequest
HELLO = ChatRequest(model="m", messages="Hello")

def by_hand(work):  # a loop that is closed without shutdown_asyncgens, as asyncio_run of LlamaIndex closes its own
    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(work)
    finally:
        loop.close()

async def ask():
    await asyncio.gather(*(AsyncClient("key", sys.argv[1]).chat(HELLO) for _ in range(3)))
    async with AsyncClient("key", sys.argv[1]) as client:
        assert [chunk.choices[0].delta.content async for chunk in client.stream(HELLO)][0] == "hello"

async def nested():
    nest_asyncio.apply()
    asyncio.run(ask())
    by_hand(ask())

for run in (by_hand, asyncio.run):
    for _ in range(3):
        run(ask())
        gc.collect()
asyncio.run(nested())
gc.collect()
"""


def test_loops_that_are_nested_or_closed_by_hand_print_nothing() -> None:
    plain = answer(200, {"choices": [{"message": {"content": "hello"}}]})
    stream = event_stream({"choices": [{"index": 0, "delta": {"content": "hello"}, "finish_reason": "stop"}]}, "[DONE]")
    with FaultServer(*[plain, plain, plain, stream] * 8) as server:
        command = [sys.executable, "-c", LOOPS, server.url]
        found = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (found.returncode, found.stdout, found.stderr) == (0, "", "")
