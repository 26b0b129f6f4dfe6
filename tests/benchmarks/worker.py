"""The process of one contestant: does what it is told, line by line, and says what it cost.

A line on standard input is a JSON object: `do`, and what that needs. The answer is a JSON object on standard output.
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
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.benchmarks.contestants import CONTESTANTS, Contestant
from tests.benchmarks.pictures import jpeg
from tests.benchmarks.server import lift_limit


class Worker:
    """A contestant, at each address that it was sent to, with each question that it was given."""

    def __init__(self, name: str, runner: asyncio.Runner) -> None:
        self._kind = CONTESTANTS[name]
        self._runner = runner
        self._at: dict[str, Contestant] = {}
        self._question: Any = None
        self._least = 0

    def prepare(self, *, url: str, pictures: list[int], stream: bool = False) -> dict[str, Any]:
        """Get ready for a kind of work: what the caller holds is made here."""
        if url not in self._at:
            self._at[url] = self._kind(url)
        self._now = self._at[url]
        self._question = None
        files = {size: jpeg(size) for size in set(pictures)}
        self._question = self._now.question([files[size] for size in pictures], stream=stream)
        self._least = sum(-(-size // 3) * 4 for size in pictures)
        del files
        gc.collect()
        gc.freeze()  # what was imported and made ready is no part of what a call has to clean up
        return {}

    def close(self) -> None:
        """Let go of every address."""
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

    def burst(self, *, calls: int) -> dict[str, Any]:
        """So many calls at once."""
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
        """So many more model objects, of which none is used."""
        return self._timed(lambda: [self._now.another() for _ in range(calls)], lambda _: True)

    def memory(self) -> dict[str, Any]:
        """The highest that one call drives the resident memory of this process, in bytes, over what it has before.

        That is the kernel's own mark (Linux), so that the copies of native code count, too.
        """
        gc.collect()
        _give_back()
        Path("/proc/self/clear_refs").write_text("5")  # the high-water mark begins anew
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
            raise AssertionError(f"{self._kind.__name__}: not all was there: {results[:3]}")
        return {"cpu": cpu, "wall": wall}

    def _checked(self, answers: list[str]) -> None:
        for answer in answers:
            found = re.search(r"(\d+) bytes came", answer)
            if found is None or int(found[1]) < self._least:
                raise AssertionError(f"{self._kind.__name__}: the picture was not sent: {answer[:200]!r}")


def _resident(name: str) -> int:
    status = Path("/proc/self/status").read_text()
    found = re.search(rf"{name}:\s+(\d+) kB", status)
    assert found
    return int(found[1]) * 1024


def _give_back() -> None:
    # Else what was freed before would serve again, and not be seen.
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
            told = json.loads(line)
            print(json.dumps(getattr(worker, told.pop("do"))(**told)), file=out, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
