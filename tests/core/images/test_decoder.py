"""The processes that decode: killed when a limit has passed, reused otherwise, and gone at exit."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from predictionguard_core import AsyncClient, Client, EmbeddingInput, EmbeddingRequest, Image, ImagePolicy
from predictionguard_core.errors import ImageError, ImageFormatError, ImageTooLargeError
from predictionguard_core.images import decoder
from predictionguard_core.sandbox import Sandbox
from tests.core.images import hostile
from tests.core.images.samples import png, question

pytest.importorskip("PIL")
pytest.importorskip("pypdfium2")
posix = pytest.mark.skipif(os.name != "posix", reason="needs processes of Unix")

PNG = png(64, 48)
SHRUNK = ImagePolicy(max_edge=10)
ENDLESS = hostile.forms_in_forms()


def workers() -> list[int]:
    return [worker._process.pid for worker in decoder._pool._all]


@pytest.fixture(autouse=True)
def no_workers() -> None:
    decoder._pool.close()


def test_a_worker_is_reused() -> None:
    Image.open(PNG, SHRUNK)
    before = workers()
    for _ in range(3):
        Image.open(PNG, SHRUNK)
        with pytest.raises(ImageFormatError):
            Image.open(b"%PDF-1.7 damaged")
    assert workers() == before
    assert len(before) == 1


def test_no_worker_is_started_for_an_image_that_goes_out_as_it_is() -> None:
    Image.open(PNG)
    assert workers() == []


def test_a_file_that_takes_too_long_names_the_limit() -> None:
    Image.open(PNG, SHRUNK)
    before = workers()
    with pytest.raises(
        ImageTooLargeError, match=r"PDF could not be decoded within 1 s \(ImagePolicy.max_decode_seconds"
    ):
        Image.open(ENDLESS, ImagePolicy(max_decode_seconds=1))
    assert workers() == []
    assert Image.open(PNG, SHRUNK).size == (10, 8)
    assert not set(before) & set(workers())


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited on Linux only")
def test_a_file_that_takes_too_much_memory_names_the_limit() -> None:
    image = png(6000, 6000)
    assert Image.open(image, SHRUNK).size == (10, 10)
    with pytest.raises(ImageError, match=r"needs more than 60,000,000 bytes of memory .*max_decode_memory"):
        Image.open(image, ImagePolicy(max_edge=10, max_decode_memory=60_000_000))
    assert Image.open(PNG, SHRUNK).size == (10, 8)


def test_the_timeout_of_a_call_ends_decoding(sandbox: Sandbox) -> None:
    request = question(ENDLESS, model="Qwen2.5-VL-7B-Instruct")
    with pytest.raises(ImageTooLargeError, match=r"within [01](\.\d+)? s \(the call's timeout") as caught:
        Client("key", sandbox.url, timeout=1).chat(request)
    assert (caught.value.message_index, caught.value.block_index) == (0, 1)
    with pytest.raises(ImageTooLargeError, match="the call's timeout"):
        asyncio.run(AsyncClient("key", sandbox.url, timeout=1).chat(request))
    assert sandbox.requests == []
    assert workers() == []


ALL = decoder._MAX_WORKERS


def wait_for_workers(count: int) -> None:
    while len(workers()) < count:
        time.sleep(0.01)


PATIENT = ImagePolicy(max_decode_seconds=3600, max_images=1)


def test_a_cancelled_call_frees_its_worker_at_once(sandbox: Sandbox) -> None:
    """With all workers busy for an hour, the last call would not come out."""

    async def run() -> None:
        client = AsyncClient("key", sandbox.url, timeout=3600, images=PATIENT)
        tasks = [asyncio.create_task(client.chat(question(ENDLESS))) for _ in range(ALL)]
        await asyncio.to_thread(wait_for_workers, ALL)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert all(task.cancelled() for task in tasks)
        async with asyncio.timeout(3600):
            await AsyncClient("key", sandbox.url, images=SHRUNK).chat(question(PNG, model="Qwen2.5-VL-7B-Instruct"))

    asyncio.run(run())


@posix
def test_a_signal_frees_the_workers_at_once(sandbox: Sandbox) -> None:
    class SoftTimeLimit(Exception):
        pass

    def handler(*_: Any) -> None:
        raise SoftTimeLimit

    def interrupt(count: int) -> None:
        wait_for_workers(count)
        time.sleep(0.1)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)

    client = Client("key", sandbox.url, timeout=3600, images=PATIENT)
    inputs = EmbeddingRequest(model="bridgetower-large-itm-mlm-itc", input=[EmbeddingInput(image=ENDLESS)] * ALL)
    before = signal.signal(signal.SIGUSR1, handler)
    try:
        for count, call in ((1, lambda: client.chat(question(ENDLESS))), (ALL, lambda: client.embed(inputs))):
            threading.Thread(target=interrupt, args=(count,)).start()
            with pytest.raises(SoftTimeLimit):
                call()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert Image.open(PNG, SHRUNK).size == (10, 8)
    assert sandbox.requests == []


def test_a_worker_that_was_killed_is_replaced() -> None:
    Image.open(PNG, SHRUNK)
    decoder._pool._all[0]._process.kill()
    decoder._pool._all[0]._process.wait()
    assert Image.open(PNG, SHRUNK).size == (10, 8)
    assert len(workers()) == 1


def test_many_threads_share_few_workers() -> None:
    sizes: list[tuple[int, int]] = []
    threads = [threading.Thread(target=lambda: sizes.append(Image.open(PNG, SHRUNK).size)) for _ in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sizes == [(10, 8)] * 24
    assert len(workers()) <= decoder._MAX_WORKERS


def test_without_an_interpreter_the_error_says_how_to_name_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multiprocessing.spawn, "_python_exe", "/nonexistent/python")
    with pytest.raises(ImageError, match=r"'/nonexistent/python'.*multiprocessing\.set_executable"):
        Image.open(PNG, SHRUNK)


SCRIPT = """
import os, sys, multiprocessing
from predictionguard_core import Image, ImagePolicy
from predictionguard_core.images import decoder
from tests.core.images.samples import png

def shrink(_=None):
    return Image.open(png(64, 48), ImagePolicy(max_edge=10)).size
"""


def run(code: str, **options: Any) -> str:
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", SCRIPT + textwrap.dedent(code)],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        **options,
    )
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr, done.stderr
    return done.stdout


def is_running(pid: int) -> bool:
    # A zombie that nobody has waited for is not running.
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


linux = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


@linux
def test_workers_end_with_their_process() -> None:
    pid = int(run("shrink(); print(decoder._pool._all[0]._process.pid)"))
    assert not is_running(pid)


@linux
def test_workers_end_with_a_process_that_was_killed() -> None:
    code = "shrink(); print(decoder._pool._all[0]._process.pid, flush=True); os.kill(os.getpid(), 9)"
    done = subprocess.run([sys.executable, "-c", SCRIPT + code], cwd=Path(__file__).parents[3], capture_output=True)
    pid = int(done.stdout)
    while is_running(pid):
        time.sleep(0.05)


@posix
def test_a_forked_child_has_workers_of_its_own() -> None:
    """As under gunicorn --preload, and in Celery's workers, which are daemons and may have no multiprocessing child."""
    out = run(
        """
        shrink()
        parent = decoder._pool._all[0]._process.pid
        context = multiprocessing.get_context("fork")
        def child(results):
            first = len(decoder._pool._all)
            results.put((first, shrink(), decoder._pool._all[0]._process.pid))
        results = context.Queue()
        process = context.Process(target=child, args=(results,), daemon=True)
        process.start()
        workers, size, pid = results.get()
        process.join()
        print(workers, size, pid != parent, shrink(), decoder._pool._all[0]._process.pid == parent)
        """
    )
    assert out.strip() == "0 (10, 8) True (10, 8) True"


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_in_the_pools_of_multiprocessing(method: str, tmp_path: Path) -> None:
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip("this system has no such method")
    script = tmp_path / "script.py"
    script.write_text(
        SCRIPT
        + textwrap.dedent(
            f"""
            if __name__ == "__main__":
                with multiprocessing.get_context({method!r}).Pool(2) as pool:
                    print(pool.map(shrink, range(2)))
            """
        )
    )
    root = str(Path(__file__).parents[3])
    done = subprocess.run(
        [sys.executable, str(script)], env={**os.environ, "PYTHONPATH": root}, capture_output=True, text=True
    )
    assert done.stdout.strip() == "[(10, 8), (10, 8)]", done.stderr


def test_a_script_needs_no_main_guard(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT + "print(shrink())\n")
    root = str(Path(__file__).parents[3])
    done = subprocess.run(
        [sys.executable, str(script)], env={**os.environ, "PYTHONPATH": root}, capture_output=True, text=True, cwd="/"
    )
    assert done.stdout.strip() == "(10, 8)", done.stderr


# A limit well below the default, so that the test is quick; the table in the docs is made with the default.
SECONDS, MEMORY = 2.0, 1 << 30


@linux
@pytest.mark.slow
@pytest.mark.parametrize("name", hostile.FILES)
def test_a_hostile_file_costs_bounded_time_and_memory(name: str) -> None:
    found = hostile.measure(hostile.FILES[name](), max_decode_seconds=SECONDS)
    assert found["error"] == "" or str(found["error"]).startswith(("ImageTooLargeError", "ImageFormatError"))
    assert float(found["child"]) * 1024 * 1024 < MEMORY + (64 << 20)
