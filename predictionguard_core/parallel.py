"""Run several operations side by side, and jobs that compute off the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import queue
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

A = TypeVar("A")
R = TypeVar("R")


def run_all(run: Callable[[A], R], arguments: Sequence[A], max_concurrency: int) -> list[R]:
    """Call `run` with each argument, `max_concurrency` at once, and return the results in order.

    Daemon threads do it, so that the first error, and an exception raised here by a signal handler (Ctrl-C), comes out
    at once. Calls that have begun run on to their end, unheeded.
    """
    if len(arguments) <= 1 or max_concurrency == 1:
        return [run(argument) for argument in arguments]
    waiting: queue.SimpleQueue[tuple[int, A]] = queue.SimpleQueue()
    done: queue.SimpleQueue[tuple[int, Any, BaseException | None]] = queue.SimpleQueue()
    is_over = threading.Event()
    for job in enumerate(arguments):
        waiting.put(job)

    def work() -> None:
        with contextlib.suppress(queue.Empty):
            while not is_over.is_set():
                index, argument = waiting.get_nowait()
                try:
                    done.put((index, run(argument), None))
                except BaseException as error:
                    done.put((index, None, error))

    results: dict[int, R] = {}
    try:
        for _ in range(min(len(arguments), max_concurrency)):
            in_context = contextvars.copy_context().run  # a tracer's span is the parent of the requests' spans
            threading.Thread(target=in_context, args=(work,), name="predictionguard-parallel", daemon=True).start()
        while len(results) < len(arguments):
            index, result, error = done.get()
            if error is not None:
                raise error
            results[index] = result
    finally:
        is_over.set()
    return [results[index] for index in range(len(arguments))]


async def async_run_all(run: Callable[[A], Awaitable[R]], arguments: Sequence[A], max_concurrency: int) -> list[R]:
    """`run_all`, async. The first error cancels the calls that have begun."""
    slots = asyncio.Semaphore(max_concurrency)

    async def one(argument: A) -> R:
        async with slots:
            return await run(argument)

    if len(arguments) == 1:
        return [await run(arguments[0])]
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(argument)) for argument in arguments]
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]


def compute_all(jobs: list[Callable[[float], Any]], seconds: float) -> list[Any]:
    """Call each job with what is left of `seconds`, and return its result or its error."""
    end = time.monotonic() + seconds
    return [_result(job, end) for job in jobs]


async def async_compute_all(jobs: list[Callable[[float], Any]], seconds: float) -> list[Any]:
    """`compute_all`, in threads."""
    end = time.monotonic() + seconds
    return await asyncio.gather(*(asyncio.to_thread(_result, job, end) for job in jobs))


def _result(job: Callable[[float], Any], end: float) -> Any:
    try:
        return job(end - time.monotonic())
    except Exception as error:
        return error
