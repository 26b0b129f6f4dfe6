"""`python -m predictionguard_core.sandbox`: serves the stand-in API until Ctrl-C or SIGTERM."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Sequence

from predictionguard_core.sandbox import Sandbox

_USE = """Prediction Guard sandbox at {url} (no language model: answers are made by rules)

    export PREDICTIONGUARD_URL={url}
    export PREDICTIONGUARD_API_KEY={key}

Ctrl-C stops it."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    options = _parser().parse_args(arguments)
    box = Sandbox(
        options.host, options.port, options.api_key, options.chunk_delay, vision_streaming=options.vision_streaming
    )
    stopped = threading.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda *_: stopped.set())
    try:
        box.start()
    except OSError as error:
        sys.stderr.write(f"cannot listen on {options.host} port {options.port}: {error}\n")
        return 1
    _say(_USE.format(url=box.url, key=options.api_key or "any-text-will-do"))
    if not options.quiet:
        box.log_to(_say)
    stopped.wait()
    box.stop()
    return 0


def _say(line: str) -> None:
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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m predictionguard_core.sandbox",
        description="A stand-in of Prediction Guard's API: real HTTP, answers made by rules, no key needed.",
        epilog="Point a client at the printed address, and give it any API key unless --api-key is set. "
        "GET /models lists the models and says what they do not imitate.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=_port, default=8080, help="port; 0 picks a free one (default: %(default)s)")
    parser.add_argument("--api-key", help="the only key to accept (default: any)")
    parser.add_argument(
        "--chunk-delay", type=_seconds, default=0.0, metavar="SECONDS", help="pause between events of a stream"
    )
    parser.add_argument("--vision-streaming", action="store_true", help="let requests with an image stream")
    parser.add_argument("--quiet", action="store_true", help="print no line for each request")
    return parser


if __name__ == "__main__":
    sys.exit(main())
