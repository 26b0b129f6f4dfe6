"""Run several calls side by side, and jobs that compute off the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import queue
import threading
import time
from collections.abc import Awaitable, Callable, Generator, Iterator, Sequence
from typing import Any, Self, TypeVar

A = TypeVar("A")
R = TypeVar("R")

_current: contextvars.ContextVar[_Cancellation | None] = contextvars.ContextVar("predictionguard_call", default=None)


class _Cancellation:
    """Block that ends what it has started in other threads, as far as that listens with `on_cancel`."""

    def __init__(self) -> None:
        self.is_cancelled = False
        self._callbacks: set[Callable[[], object]] = set()
        self._lock = threading.Lock()
        self._outer = _current.get()

    def new_context(self) -> contextvars.Context:
        """Return a copy of this context for a thread: a tracer's span stays the parent of the thread's spans."""
        context = contextvars.copy_context()
        context.run(_current.set, self)
        return context

    def add(self, callback: Callable[[], object]) -> None:
        with self._lock:
            self._callbacks.add(callback)
        if self.is_cancelled:
            callback()

    def remove(self, callback: Callable[[], object]) -> None:
        with self._lock:  # once it returns, `callback` is not called any more
            self._callbacks.discard(callback)

    def cancel(self) -> None:
        with self._lock:
            self.is_cancelled = True
            for callback in self._callbacks:
                callback()

    def __enter__(self) -> Self:
        if self._outer is not None:
            self._outer.add(self.cancel)
        return self

    def __exit__(self, *_: object) -> None:
        if self._outer is not None:
            self._outer.remove(self.cancel)
        self.cancel()


@contextlib.contextmanager
def on_cancel(callback: Callable[[], object]) -> Iterator[None]:
    """Call `callback` if nobody waits for the block any more: after Ctrl-C, a cancelled task, or another call's error.

    It is called from another thread.
    """
    cancellation = _current.get()
    if cancellation is None:
        yield
        return
    try:
        cancellation.add(callback)
        yield
    finally:
        cancellation.remove(callback)


def run_in_threads(
    run: Callable[[A], R], arguments: Sequence[A], max_concurrency: int, seconds: float | None = None
) -> Generator[tuple[int, Any, BaseException | None], None, None]:
    """Call `run` with each argument, `max_concurrency` at once. Yield number, result and error of each as it is done.

    Daemon threads do it, so that an exception raised here by a signal handler (Ctrl-C, Celery's soft time limit) comes
    out at once. It ends after `seconds`. Closing it cancels the calls that have begun, as far as they use `on_cancel`.
    """
    waiting: queue.SimpleQueue[tuple[int, A]] = queue.SimpleQueue()
    done: queue.SimpleQueue[tuple[int, Any, BaseException | None]] = queue.SimpleQueue()
    for job in enumerate(arguments):
        waiting.put(job)
    end = None if seconds is None else time.monotonic() + seconds

    def work() -> None:
        with contextlib.suppress(queue.Empty):
            while not cancellation.is_cancelled:
                index, argument = waiting.get_nowait()
                try:
                    done.put((index, run(argument), None))
                except BaseException as error:
                    done.put((index, None, error))

    with _Cancellation() as cancellation:
        for _ in range(min(len(arguments), max_concurrency)):
            in_context = cancellation.new_context().run
            threading.Thread(target=in_context, args=(work,), name="predictionguard-parallel", daemon=True).start()
        for _ in arguments:
            try:
                result = done.get(timeout=None if end is None else max(0.0, end - time.monotonic()))
            except queue.Empty:
                return
            yield result


def run_all(run: Callable[[A], R], arguments: Sequence[A], max_concurrency: int) -> list[R]:
    """Call `run` with each argument, `max_concurrency` at once, and return the results in order.

    The first error is raised at once. Requests that have begun run on to their end, and their responses are dropped.
    """
    if len(arguments) <= 1 or max_concurrency == 1:
        return [run(argument) for argument in arguments]
    results: dict[int, R] = {}
    with contextlib.closing(run_in_threads(run, arguments, max_concurrency)) as done:
        for index, result, error in done:
            if error is not None:
                raise error
            results[index] = result
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
    """`compute_all`, in threads. Cancelling it ends the jobs that have begun, as far as they use `on_cancel`."""
    end, loop = time.monotonic() + seconds, asyncio.get_running_loop()
    with _Cancellation() as cancellation:
        contexts = [cancellation.new_context() for _ in jobs]
        pairs = zip(contexts, jobs, strict=True)
        return await asyncio.gather(*(loop.run_in_executor(None, each.run, _result, job, end) for each, job in pairs))


def _result(job: Callable[[float], Any], end: float) -> Any:
    try:
        return job(end - time.monotonic())
    except Exception as error:
        return error
