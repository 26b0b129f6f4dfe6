"""No file, name, decoder or hash of a picture holds up the event loop, from whatever source it comes."""

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
from tests.images_end_to_end import loop_watch
from tests.images_end_to_end.async_calls import ASKS, KINDS, PICTURES, Host, given, policy
from tests.images_end_to_end.entry_points import PNG

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def host() -> Iterator[str]:
    with Host() as url:
        yield url


CASES = [
    pytest.param(ask, kind, name, id=f"{ask}-{kind.replace(' ', '_')}-{name}")
    for ask, (wing, _) in ASKS.items()
    for kind in KINDS
    for name in PICTURES
    if not (wing == "langchain" and kind in ("bytes", "open file")) and not (wing == "embeddings" and name == "pdf")
]


@pytest.mark.parametrize(("ask", "kind", "name"), CASES)
def test_nothing_holds_up_the_loop(
    ask: str, kind: str, name: str, box: Sandbox, host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wing, knock = ASKS[ask]
    picture = given(wing, kind, PICTURES[name], tmp_path.resolve(), host)
    tls.tls_context()  # made once a process: the test of the first call has an eye on it
    found = loop_watch.watch(monkeypatch)
    asyncio.run(knock(box, policy(tmp_path.resolve(), max_edge=100, strip_metadata=True), picture))
    assert found == []
    assert len(box.requests) == 1


@pytest.mark.parametrize("ask", ASKS)
def test_nor_where_it_fails(ask: str, box: Sandbox, host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wing, knock = ASKS[ask]
    picture = given(wing, "path", PNG[:30], tmp_path.resolve(), host)
    tls.tls_context()
    found = loop_watch.watch(monkeypatch)
    with pytest.raises(Exception, match="corrupt or not fully there"):
        asyncio.run(knock(box, policy(tmp_path.resolve()), picture))
    assert found == []


@pytest.mark.parametrize("ask", ASKS)
def test_the_first_call_of_a_process(
    ask: str, box: Sandbox, host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is made once, such as the reading of all root certificates, is made off the loop, too."""
    monkeypatch.setattr(shared_clients, "_registry", shared_clients._Registry())
    monkeypatch.setattr(tls, "_cache", tls._Cache())
    wing, knock = ASKS[ask]
    picture = given(wing, "data URI", PNG, tmp_path.resolve(), host)
    found = loop_watch.watch(monkeypatch)
    asyncio.run(knock(box, policy(tmp_path.resolve()), picture))
    assert found == []


@pytest.mark.parametrize("ask", ASKS)
def test_nor_does_a_data_uri_of_percent_signs(
    ask: str, box: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its decoding is slow: a picture of a few megabytes takes a second."""
    threads: list[bool] = []
    real = urllib.parse.unquote_to_bytes

    def decode(text: Any) -> bytes:
        threads.append(threading.current_thread() is threading.main_thread())
        return real(text)

    wing, knock = ASKS[ask]
    text = "data:image/bmp," + urllib.parse.quote_from_bytes(PICTURES["bmp"])
    picture = {"langchain": {"type": "image", "url": text}, "embeddings": text}.get(wing) or ImageBlock(url=text)
    monkeypatch.setattr(urllib.parse, "unquote_to_bytes", decode)
    asyncio.run(knock(box, policy(tmp_path), picture))
    assert threads
    assert not any(threads)
    assert len(box.requests) == 1


WORK: dict[str, Callable[[Path], Any]] = {
    "builtins.open": lambda path: builtins.open(path, "rb").close(),
    "io.open": lambda path: io.open(path, "rb").close(),  # noqa: UP020 - a name of its own is watched
    "os.open": lambda path: os.close(os.open(path, os.O_RDONLY)),
    "os.stat": lambda path: path.stat(),
    "socket.getaddrinfo": lambda path: __import__("socket").getaddrinfo("127.0.0.1", 1),
    "time.sleep": lambda path: time.sleep(0),
    "PIL.Image.open": lambda path: Image.open(path).close(),
    "ImageFile.load": lambda path: Image.open(path).load(),
    "hashlib.sha256": lambda path: hashlib.sha256(bytes(loop_watch.LARGE + 1)),
}


@pytest.mark.parametrize("what", WORK)
def test_the_watch_is_awake(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(PNG)
    found = loop_watch.watch(monkeypatch)

    async def on_the_loop() -> None:
        WORK[what](path)

    async def beside_it() -> None:
        await asyncio.to_thread(WORK[what], path)

    asyncio.run(beside_it())
    threading.Thread(target=WORK[what], args=(path,)).run()
    assert found == []
    asyncio.run(on_the_loop())
    assert any(each.startswith(what) for each in found)


def test_in_development_mode_nothing_is_warned_of() -> None:
    """All of it in one process, where every warning is an error: nothing unclosed, nothing never awaited."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-X", "dev", "-m", "tests.images_end_to_end.async_calls"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert (done.stderr, done.returncode) == ("", 0)
    assert done.stdout == f"{len(CASES)} requests\n"
