"""Reading, resolving, decoding and hashing an image never blocks the event loop."""

from __future__ import annotations

import asyncio
import builtins
import hashlib
import io
import os
import subprocess
import sys
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.llms import ImageBlock
from PIL import Image

from predictionguard_core.http import shared_clients, tls
from predictionguard_core.sandbox import Sandbox
from tests.images_end_to_end import blocking_calls
from tests.images_end_to_end.async_entry_points import (
    ASYNC_ENTRY_POINTS,
    IMAGES,
    Host,
    call_with_every_source,
    policy,
    source,
)
from tests.images_end_to_end.entry_points import PNG

ROOT = Path(__file__).parents[2]
EACH = pytest.mark.parametrize("entry_point", ASYNC_ENTRY_POINTS)


@pytest.fixture(scope="module")
def host() -> Iterator[str]:
    with Host() as url:
        yield url


@EACH
def test_no_source_blocks(
    entry_point: str, box: Sandbox, host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls.tls_context()  # created once per process; test_the_first_call_of_a_process covers it
    found = blocking_calls.record(monkeypatch)
    count = asyncio.run(call_with_every_source(entry_point, box, tmp_path.resolve(), host))
    assert found == []
    assert len(box.requests) == count >= 16


@EACH
def test_a_refused_image_does_not_block(
    entry_point: str, box: Sandbox, host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter, call = ASYNC_ENTRY_POINTS[entry_point]
    image = source(adapter, "path", PNG[:30], tmp_path.resolve(), host)
    tls.tls_context()
    found = blocking_calls.record(monkeypatch)
    with pytest.raises(Exception, match="corrupt or not fully there"):
        asyncio.run(call(box, policy(tmp_path.resolve()), image))
    assert found == []


@EACH
def test_the_first_call_of_a_process(
    entry_point: str, box: Sandbox, host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root certificates and whatever else is loaded once do not block either."""
    monkeypatch.setattr(shared_clients, "_registry", shared_clients._Registry())
    monkeypatch.setattr(tls, "_cache", tls._Cache())
    adapter, call = ASYNC_ENTRY_POINTS[entry_point]
    image = source(adapter, "data URI", PNG, tmp_path.resolve(), host)
    found = blocking_calls.record(monkeypatch)
    asyncio.run(call(box, policy(tmp_path.resolve()), image))
    assert found == []


@EACH
def test_a_percent_encoded_data_uri_is_decoded_in_another_thread(
    entry_point: str, box: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Decoding it is slow: an image of a few megabytes takes a second."""
    threads: list[bool] = []
    real = urllib.parse.unquote_to_bytes

    def decode(text: Any) -> bytes:
        threads.append(threading.current_thread() is threading.main_thread())
        return real(text)

    adapter, call = ASYNC_ENTRY_POINTS[entry_point]
    text = "data:image/bmp," + urllib.parse.quote_from_bytes(IMAGES["bmp"])
    image = {"langchain": {"type": "image", "url": text}, "embeddings": text}.get(adapter) or ImageBlock(url=text)
    monkeypatch.setattr(urllib.parse, "unquote_to_bytes", decode)
    asyncio.run(call(box, policy(tmp_path), image))
    assert threads
    assert not any(threads)
    assert len(box.requests) == 1


BLOCKING: dict[str, Callable[[Path], Any]] = {
    "builtins.open": lambda path: builtins.open(path, "rb").close(),
    "io.open": lambda path: io.open(path, "rb").close(),  # noqa: UP020 - it is recorded under its own name
    "os.open": lambda path: os.close(os.open(path, os.O_RDONLY)),
    "os.stat": lambda path: path.stat(),
    "socket.getaddrinfo": lambda path: __import__("socket").getaddrinfo("127.0.0.1", 1),
    "time.sleep": lambda path: time.sleep(0),
    "PIL.Image.open": lambda path: Image.open(path).close(),
    "ImageFile.load": lambda path: Image.open(path).load(),
    "hashlib.sha256": lambda path: hashlib.sha256(bytes(blocking_calls.LARGE + 1)),
}


def test_blocking_calls_are_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prove that the tests above can fail."""
    path = tmp_path / "x.png"
    path.write_bytes(PNG)
    found = blocking_calls.record(monkeypatch)

    async def in_the_loop(work: Callable[[Path], Any]) -> None:
        work(path)

    async def in_a_thread(work: Callable[[Path], Any]) -> None:
        await asyncio.to_thread(work, path)

    for name, work in BLOCKING.items():
        found.clear()
        asyncio.run(in_a_thread(work))
        assert found == [], name
        asyncio.run(in_the_loop(work))
        assert any(each.startswith(name) for each in found), name


@pytest.mark.slow
def test_nothing_is_printed_in_development_mode() -> None:
    """All calls in one process, where every warning is an error: nothing unclosed, nothing never awaited."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-X", "dev", "-m", "tests.images_end_to_end.async_entry_points"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert (done.stderr, done.returncode) == ("", 0)
    assert int(done.stdout.removesuffix(" requests\n")) > 80
