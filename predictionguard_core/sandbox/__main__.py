"""`python -m predictionguard_core.sandbox`: serve the mock API until Ctrl-C or SIGTERM."""

from __future__ import annotations

import argparse
import json
import shlex
import signal
import sys
import threading
from collections.abc import Sequence
from typing import Any

from predictionguard_core.sandbox import Sandbox
from predictionguard_core.sandbox.options import STRICTNESS

_USE = """Prediction Guard sandbox at {url} (no AI model: answers are made by rules)

    export PREDICTIONGUARD_URL={url}
    export PREDICTIONGUARD_API_KEY={key}

Ctrl-C stops it."""

_FAULTS = ("fail", "drop", "stall", "slow_headers", "keep_alive", "cut_stream", "fail_check", "answer")

_MORE = """Point a client at the printed URL, and give it any API key unless --api-key is set:

    export PREDICTIONGUARD_URL=http://127.0.0.1:8080
    export PREDICTIONGUARD_API_KEY=any-text-will-do

--fault scripts what happens to requests, as the methods of predictionguard_core.sandbox.Sandbox do; it may be repeated.
Each holds for one request unless it says times=N or times=all, and takes path=... and model=..., too:

    --fault "fail 429 times=2 retry_after=1"     an error, with the header Retry-After
    --fault "fail 503 'out of order' times=all"  for every request
    --fault "drop"                               the connection ends without an answer
    --fault "stall 5"                            5 seconds of silence before the answer
    --fault "stall after=3"                      a stream falls silent after 3 events
    --fault "slow_headers 5"                     headers that arrive over 5 seconds
    --fault "keep_alive 5"                       a stream with nothing but comments for 5 seconds
    --fault "cut_stream 3"                       a stream breaks off after 3 events
    --fault "fail_check toxicity"                or pii, injection, factuality, where a request asks for it
    --fault "answer 'It is a cat.'"              what the chat model says
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    options = parser().parse_args(arguments)
    box = Sandbox(
        options.host,
        options.port,
        options.api_key,
        options.chunk_delay,
        vision_streaming=options.vision_streaming,
        strictness=options.strictness,
    )
    for line in options.fault:
        _script(box, line)
    stopped = threading.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda *_: stopped.set())
    try:
        box.start()
    except OSError as error:
        sys.stderr.write(f"cannot listen on {options.host} port {options.port}: {error}; --port 0 finds a free one\n")
        return 1
    _print(_USE.format(url=box.url, key=options.api_key or "any-text-will-do"))
    if not options.quiet:
        box.log_to(_print)
    stopped.wait()
    box.stop()
    return 0


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _port(text: str) -> int:
    number = int(text)
    if not 0 <= number <= 65535:
        raise argparse.ArgumentTypeError("must be between 0 and 65535")
    return number


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds <= 3600:
        raise argparse.ArgumentTypeError("must be between 0 and 3600")
    return seconds


def _fault(text: str) -> str:
    """Return the text, after trying it on a sandbox that does not run."""
    try:
        _script(Sandbox(), text)
    except (TypeError, ValueError) as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from None
    return text


def _script(box: Sandbox, text: str) -> None:
    """Do what a line such as `fail 429 times=2` says; raises `TypeError` and `ValueError`."""
    name, *words = shlex.split(text) or [""]
    if name not in _FAULTS:
        raise ValueError(f"begin with one of {', '.join(_FAULTS)}")
    plain, named = [], {}
    for word in words:
        key, equals, value = word.partition("=")
        if equals and key.isidentifier():
            named[key] = _value(value)
        else:
            plain.append(_value(word))
    getattr(box, name)(*plain, **named)


def _value(text: str) -> Any:
    if text in ("None", "all"):
        return None
    try:
        return json.loads(text)
    except ValueError:
        return text


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    command_line = argparse.ArgumentParser(
        prog="python -m predictionguard_core.sandbox",
        description="A mock of Prediction Guard's API: real HTTP, answers made by rules, no key needed.",
        epilog=_MORE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command_line.add_argument("--host", default="127.0.0.1", help="host to listen on (default: %(default)s)")
    command_line.add_argument(
        "--port", type=_port, default=8080, help="port; 0 picks a free one (default: %(default)s)"
    )
    command_line.add_argument("--api-key", help="the only key to accept (default: any)")
    command_line.add_argument(
        "--chunk-delay", type=_seconds, default=0.0, metavar="SECONDS", help="pause between events of a stream"
    )
    command_line.add_argument("--vision-streaming", action="store_true", help="let requests with an image stream")
    command_line.add_argument(
        "--strictness", choices=STRICTNESS, default=STRICTNESS[0], help="how well tool calls fit schemas"
    )
    command_line.add_argument(
        "--fault", type=_fault, action="append", default=[], metavar="WHAT", help="a scripted fault; see below"
    )
    command_line.add_argument("--quiet", action="store_true", help="print no line for each request")
    return command_line


if __name__ == "__main__":
    sys.exit(main())
