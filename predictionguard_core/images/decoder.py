"""Decode images and PDFs in child processes that can be killed, so that a hostile file costs bounded time and memory.

A worker is a plain subprocess that talks over pipes. `multiprocessing`, and pebble, which is built on it, would need
`if __name__ == "__main__"` in users' scripts under "spawn", copy locked locks under "fork", and refuse to start in
Celery's daemonic workers. Workers are started on first use, do one job at a time, and are reused.
"""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import json
import multiprocessing.spawn
import os
import subprocess
import sys
import threading
import time
from typing import IO, Any

from predictionguard_core import errors
from predictionguard_core.errors import ImageError, ImageFormatError, ImageTooLargeError
from predictionguard_core.images import convert, pdf
from predictionguard_core.images.convert import Converted
from predictionguard_core.images.headers import Header
from predictionguard_core.images.policy import ImagePolicy
from predictionguard_core.parallel import on_cancel

_MAX_WORKERS = min(4, os.cpu_count() or 1)
_START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from predictionguard_core.images.worker import main; main()"
)


def decode(data: bytes, header: Header, policy: ImagePolicy, seconds: float | None = None) -> list[Converted]:
    """Return a file as images that can be sent: rotated, shrunk, converted, or page by page.

    Args:
        data: The bytes of the file.
        header: What `detect.read` says of them.
        policy: Its limits.
        seconds: How long the call may still take, besides `policy.max_decode_seconds`. None: no other limit.

    Raises:
        ImageError: the file cannot be decoded, or not within the limits.
    """
    limits = {"max_pages": policy.max_pages, "max_pixels": policy.max_pixels, "max_edge": policy.max_edge}
    request: dict[str, Any]
    if header.media_type == "application/pdf":
        pdf.require()
        request = {"pdf": {**limits, "dpi": policy.pdf_dpi}}
    else:
        convert.require(header)
        options = {**limits, "upright": policy.upright, "strip_metadata": policy.strip_metadata}
        request = {"header": dataclasses.asdict(header), "convert": options}
    allowed, option = policy.max_decode_seconds, "ImagePolicy.max_decode_seconds"
    if seconds is not None and seconds < allowed:
        allowed, option = seconds, "the call's timeout"
    request |= {"length": len(data), "seconds": allowed, "memory": policy.max_decode_memory}
    try:
        return _pool.run(request, data, allowed)
    except _TookTooLongError:
        raise ImageTooLargeError(
            f"{_what(header)} could not be decoded within {max(allowed, 0):.3g} s ({option})"
        ) from None
    except _OutOfMemoryError:
        raise ImageTooLargeError(
            f"{_what(header)} needs more than {policy.max_decode_memory:,} bytes of memory to be decoded "
            "(ImagePolicy.max_decode_memory)"
        ) from None
    except _CrashedError:
        raise ImageFormatError(
            f"{_what(header)} is corrupt, or needs more than {policy.max_decode_memory:,} bytes of memory "
            "(ImagePolicy.max_decode_memory): its decoder crashed"
        ) from None


def _what(header: Header) -> str:
    return "the PDF" if header.media_type == "application/pdf" else f"the image ({header.media_type})"


class _TookTooLongError(Exception):
    pass


class _OutOfMemoryError(Exception):
    pass


class _CrashedError(Exception):
    pass


class _Worker:
    def __init__(self) -> None:
        # multiprocessing.set_executable is how programs that embed Python say where an interpreter is.
        executable = os.fsdecode(multiprocessing.spawn.get_executable() or sys.executable)
        try:
            self._process = subprocess.Popen(  # noqa: S603 - the running interpreter
                [executable, "-P", "-c", _START, json.dumps(sys.path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                bufsize=0,  # a forked child must not flush what its parent was about to write
            )
        except OSError as error:
            raise ImageError(
                f"could not start a Python process to decode the image ({error.strerror}): {executable!r}. Set the "
                "interpreter with multiprocessing.set_executable"
            ) from None

    def run(self, request: dict[str, Any], data: bytes, seconds: float) -> list[Converted]:
        """Do one job. Kill the process after `seconds`, or when the call is cancelled.

        After any exception but `_JobError` the worker is unusable.

        The request is one line of JSON, then the file. The response is a length (8 bytes, big-endian), JSON of that
        length, then the images. The JSON is `{"images": [[size, type, width, height], ...]}`, or
        `{"error": class, "message": text}`, where a null message means out of memory.
        """
        requests, responses = self._process.stdin, self._process.stdout
        assert requests is not None
        assert responses is not None
        is_killed = threading.Event()

        def kill() -> None:
            is_killed.set()
            self._process.kill()

        timer = threading.Timer(seconds, kill)
        timer.daemon = True
        timer.start()
        try:
            with on_cancel(kill):
                _write(requests, json.dumps(request).encode() + b"\n")
                _write(requests, data)
                response = json.loads(_read(responses, int.from_bytes(_read(responses, 8), "big")))
                images = [Converted(_read(responses, size), *rest) for size, *rest in response.get("images", ())]
        except (OSError, ValueError):  # a closed pipe, or half a response
            if is_killed.is_set():
                raise _TookTooLongError from None
            raise _CrashedError from None
        finally:
            timer.cancel()
        if is_killed.is_set():  # the process may be dead already
            raise _TookTooLongError
        if "error" not in response:
            return images
        if response["message"] is None:
            raise _OutOfMemoryError
        raise _JobError(getattr(errors, response["error"])(response["message"]))

    @property
    def has_ended(self) -> bool:
        """Whether the process is gone."""
        return self._process.poll() is not None

    def kill(self) -> None:
        with contextlib.suppress(OSError):
            self._process.kill()
        self._process.wait()
        self.close_pipes()

    def close_pipes(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError, ValueError):
                if pipe is not None:
                    pipe.close()

    def detach_after_fork(self) -> None:
        """Let go of the process in a forked child, which is not its parent."""
        self.close_pipes()
        self._process.returncode = 0  # so that Popen does not warn that it is still running


def _write(pipe: IO[bytes], data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[pipe.write(view) :]


def _read(pipe: IO[bytes], count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        chunk = pipe.read(count - len(data))
        if not chunk:
            raise OSError("the worker ended")
        data += chunk
    return bytes(data)


class _JobError(Exception):
    """A job failed, and the worker is fine."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


class _Pool:
    """Up to `_MAX_WORKERS` workers. A job waits for a free one as long as it may take itself."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._free = threading.BoundedSemaphore(_MAX_WORKERS)
        self._lock = threading.Lock()
        self._idle: list[_Worker] = []
        self._all: list[_Worker] = []

    def run(self, request: dict[str, Any], data: bytes, seconds: float) -> list[Converted]:
        end, free = time.monotonic() + seconds, self._free
        if not free.acquire(timeout=max(seconds, 0)):
            raise _TookTooLongError
        try:
            with self._lock:
                worker = self._idle.pop() if self._idle else None
                if worker is not None and worker.has_ended:  # killed from outside since, for lack of memory
                    self._all.remove(worker)
                    worker.kill()
                    worker = None
            if worker is None:
                worker = _Worker()
                with self._lock:
                    self._all.append(worker)
            try:
                images = worker.run(request, data, max(end - time.monotonic(), 0.001))
            except _JobError as failed:
                self._return(worker)
                raise failed.error from None
            except BaseException:  # KeyboardInterrupt and gevent's timeouts too: half a response is in the pipe
                with self._lock:
                    self._all.remove(worker)
                worker.kill()
                raise
            self._return(worker)
            return images
        finally:
            free.release()

    def _return(self, worker: _Worker) -> None:
        with self._lock:
            self._idle.append(worker)

    def close(self) -> None:
        """Kill all workers."""
        with self._lock:
            workers, self._all, self._idle = self._all, [], []
        for worker in workers:
            worker.kill()

    def after_fork(self) -> None:
        """Start without workers in a forked child: the parent's are not its own."""
        workers = self._all
        self._reset()
        for worker in workers:
            worker.detach_after_fork()


_pool = _Pool()
atexit.register(_pool.close)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.after_fork)
