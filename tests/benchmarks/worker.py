"""The process of one contestant: runs one command a line, and prints its cost.

A line on standard input is a JSON object with `do` and its arguments; the answer is a JSON object on standard output.
The process ends with its standard input.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.benchmarks.contestants import CONTESTANTS, KEY, LARGEST, MODEL, TEXT, Contestant
from tests.benchmarks.images import jpeg, photo
from tests.benchmarks.server import lift_limit


class Worker:
    """A contestant, once for each URL, with the current question."""

    def __init__(self, name: str, runner: asyncio.Runner) -> None:
        self._kind = CONTESTANTS[name]
        self._runner = runner
        self._at: dict[str, Contestant] = {}
        self._question: Any = None
        self._least = 0

    def prepare(self, *, url: str, images: list[int], stream: bool = False, form: str = "message") -> dict[str, Any]:
        """Build what the caller holds for a kind of work."""
        if url not in self._at:
            self._at[url] = self._kind(url)
        self._now = self._at[url]
        self._question = None
        files = {size: jpeg(size) for size in set(images)}
        contents = [files[size] for size in images]
        match form:
            case "message":
                self._question = self._now.question(contents, stream=stream)
            case "conversation":
                self._question = self._now.conversation(contents)
            case "inputs":
                self._question = self._now.inputs(contents)
            case "file":
                self._folder = tempfile.TemporaryDirectory()
                paths = [Path(self._folder.name, f"{number}.jpg") for number in range(len(contents))]
                for path, content in zip(paths, contents, strict=True):
                    path.write_bytes(content)
                self._question = self._now.files(paths)
        self._images = len(images)
        del contents
        self._least = sum(-(-size // 3) * 4 for size in images)
        del files
        gc.collect()
        gc.freeze()  # imports and questions are not part of what a call has to clean up
        return {}

    def close(self) -> None:
        """Close every contestant."""
        gc.unfreeze()
        for contestant in self._at.values():
            contestant.close(self._runner)

    def ask(self, *, calls: int) -> dict[str, Any]:
        now, question = self._now, self._question
        return self._timed(lambda: [now.ask(question) for _ in range(calls)])

    def aask(self, *, calls: int) -> dict[str, Any]:
        now, question = self._now, self._question

        async def one_by_one() -> list[str]:
            return [await now.aask(question) for _ in range(calls)]

        return self._timed(lambda: self._runner.run(one_by_one()))

    def ask_file(self, *, calls: int) -> dict[str, Any]:
        now, question = self._now, self._question
        return self._timed(lambda: [now.ask_file(question) for _ in range(calls)])

    def embed(self, *, calls: int) -> dict[str, Any]:
        now, inputs = self._now, self._question
        return self._timed(lambda: [now.embed(inputs) for _ in range(calls)], lambda found: len(found) == self._images)

    def aembed(self, *, calls: int) -> dict[str, Any]:
        now, inputs = self._now, self._question

        async def one_by_one() -> list[Any]:
            return [await now.aembed(inputs) for _ in range(calls)]

        return self._timed(lambda: self._runner.run(one_by_one()), lambda found: len(found) == self._images)

    def uplink(self, *, url: str, max_edge: int | None) -> dict[str, Any]:
        """Ask about a 12-megapixel photo through the server's slow route; return seconds and bytes sent."""
        from langchain_core.messages import HumanMessage

        from langchain_predictionguard import ChatPredictionGuard, ImagePolicy

        policy = ImagePolicy(max_bytes=LARGEST, max_edge=max_edge)
        model = ChatPredictionGuard(model=MODEL, api_key=KEY, base_url=url, images=policy)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "photo.jpg")
            path.write_bytes(photo())
            message = HumanMessage([{"type": "text", "text": TEXT}, {"type": "image", "url": path}])
            start = time.perf_counter()
            answer = str(model.invoke([message]).content)
            seconds = time.perf_counter() - start
        found = re.search(r"(\d+) bytes came", answer)
        assert found, answer
        return {"seconds": seconds, "bytes": int(found[1])}

    def burst(self, *, calls: int) -> dict[str, Any]:
        """Make so many calls at once."""
        now, question = self._now, self._question

        async def at_once() -> list[str]:
            return await asyncio.gather(*(now.aask(question) for _ in range(calls)))

        return self._timed(lambda: self._runner.run(at_once()))

    def stream(self, *, calls: int, chunks: int) -> dict[str, Any]:
        now, question = self._now, self._question
        return self._timed(lambda: [now.stream(question) for _ in range(calls)], lambda count: count >= chunks)

    def astream(self, *, calls: int, chunks: int) -> dict[str, Any]:
        now, question = self._now, self._question

        async def one_by_one() -> list[int]:
            return [await now.astream(question) for _ in range(calls)]

        return self._timed(lambda: self._runner.run(one_by_one()), lambda count: count >= chunks)

    def another(self, *, calls: int) -> dict[str, Any]:
        """Make so many more model objects, and use none."""
        return self._timed(lambda: [self._now.another() for _ in range(calls)], lambda _: True)

    def memory(self) -> dict[str, Any]:
        """Return how far one call raises the resident memory of this process, in bytes.

        It is the kernel's high-water mark (Linux), so that copies in native code count too.
        """
        gc.collect()
        _give_back()
        Path("/proc/self/clear_refs").write_text("5")  # reset the high-water mark
        before = _resident("VmRSS")
        self._checked([self._now.ask(self._question)])
        return {"bytes": _resident("VmHWM") - before}

    def _timed(self, work: Callable[[], list[Any]], is_good: Callable[[Any], bool] | None = None) -> dict[str, Any]:
        gc.collect()
        wall, cpu = time.perf_counter(), time.process_time()
        results = work()
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        if is_good is None:
            self._checked(results)
        elif not all(map(is_good, results)):
            raise AssertionError(f"{self._kind.__name__}: results are missing: {str(results)[:200]}")
        return {"cpu": cpu, "wall": wall}

    def _checked(self, answers: list[str]) -> None:
        for answer in answers:
            found = re.search(r"(\d+) bytes came", answer)
            if found is None or int(found[1]) < self._least:
                raise AssertionError(f"{self._kind.__name__}: the image was not sent: {answer[:200]!r}")


def _resident(name: str) -> int:
    status = Path("/proc/self/status").read_text()
    found = re.search(rf"{name}:\s+(\d+) kB", status)
    assert found
    return int(found[1]) * 1024


def _give_back() -> None:
    # Without this, memory that was freed before would be used again, and not be counted.
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def main(name: str) -> None:
    lift_limit()
    bundle = os.environ.get("SSL_CERT_FILE")
    if bundle:
        import certifi

        certifi.where = lambda: bundle  # some read the roots from there and nowhere else
    out, sys.stdout = sys.stdout, sys.stderr
    with asyncio.Runner() as runner:
        worker = Worker(name, runner)
        for line in sys.stdin:
            command = json.loads(line)
            print(json.dumps(getattr(worker, command.pop("do"))(**command)), file=out, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
