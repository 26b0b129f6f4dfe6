"""The child process that decodes images and PDFs. `decoder` starts it; it answers one request after the other.

`decoder._Worker.run` describes requests and responses.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import warnings
from typing import IO, Any

from predictionguard_core.errors import ContentError, ImageFormatError, ImageTooLargeError
from predictionguard_core.images.convert import Converted, convert
from predictionguard_core.images.headers import Header


def main() -> None:
    """Answer requests from standard input until it is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal goes to the parent, which kills this process
    warnings.simplefilter("ignore")
    requests = sys.stdin.buffer
    # What a library prints must not get into the responses.
    responses = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    while line := requests.readline():
        request = json.loads(line)
        respond(request, requests.read(request["length"]), responses)


def respond(request: dict[str, Any], data: bytes, responses: IO[bytes]) -> None:
    """Decode a file and write the images, or the error."""
    images: list[Converted] = []
    response: dict[str, Any]
    try:
        _limit(request["seconds"], request["memory"])
        images = _decoded(request, data)
        response = {"images": [(len(each.data), *each[1:]) for each in images]}
    except ContentError as error:
        response = {"error": type(error).__name__, "message": error.message}
    except MemoryError:
        images = []
        response = {"error": ImageTooLargeError.__name__, "message": None}
    except Exception as error:
        response = {
            "error": ImageFormatError.__name__,
            "message": f"the image cannot be decoded ({type(error).__name__})",
        }
    text = json.dumps(response).encode()
    responses.write(len(text).to_bytes(8, "big") + text)
    for each in images:
        responses.write(each.data)
    responses.flush()


def _decoded(request: dict[str, Any], data: bytes) -> list[Converted]:
    if "pdf" in request:
        from predictionguard_core.images.pdf import render

        return render(data, **request["pdf"])
    header = request["header"]
    return convert(data, Header(**header | {"frames": tuple(header["frames"])}), **request["convert"])


def _limit(seconds: float, memory: int) -> None:
    """Bound the memory of this process, and the time it runs on if its parent dies in the middle of a job."""
    try:
        import resource
    except ImportError:  # Windows has neither limit
        return
    used = resource.getrusage(resource.RUSAGE_SELF)
    with contextlib.suppress(OSError, ValueError):
        cpu = int(used.ru_utime + used.ru_stime + seconds) + 5
        resource.setrlimit(resource.RLIMIT_CPU, (cpu, resource.getrlimit(resource.RLIMIT_CPU)[1]))
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_AS, (memory, resource.getrlimit(resource.RLIMIT_AS)[1]))
