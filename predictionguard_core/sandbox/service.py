"""`Sandbox`: the behaviour and the socket together, for `with` blocks."""

from __future__ import annotations

import dataclasses
import json
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal

from predictionguard_core.sandbox import behaviour, faults
from predictionguard_core.sandbox.chat import Outcome
from predictionguard_core.sandbox.faults import Fault
from predictionguard_core.sandbox.memory import Memory
from predictionguard_core.sandbox.reply import Reply
from predictionguard_core.sandbox.server import Server
from predictionguard_core.sandbox.tools import Call


class Sandbox:
    """A stand-in API on a socket of this machine.

    `port=0` picks a free port. With `api_key=None` any bearer token is good, otherwise it must match.
    `chunk_delay` is the pause in seconds between two events of a stream. With `vision_streaming` a
    request with an image may stream, as some self-hosted deployments allow. `wrong_key` is the text of a 401 answer to
    any other key than `api_key`; without it, the answer is 403 in the service's words.

    `start` and `stop` may be called again and again; as a context manager it does both.

    `fail`, `drop`, `stall`, `cut_stream`, `fail_check` and `answer` script what happens to requests to come. Each holds
    for the next `times` requests that it fits (None: for all from now on), those to one `path` or for one `model` if
    these are given, and each returns a `Fault`, which counts the requests that met it. A request meets the first that
    fits, in the order in which they were scripted. A client's new attempts are requests, too: to get past
    `max_retries=2`, a fault has to be met three times. `clear` takes all of it back.

        box.fail(429, times=2, retry_after=0)
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        api_key: str | None = None,
        chunk_delay: float = 0.0,
        *,
        vision_streaming: bool = False,
        wrong_key: str | None = None,
    ) -> None:
        self.requests: list[Any] = []
        """The decoded JSON body of every POST, in order of arrival, refused ones included."""
        self._host = host
        self._port = port
        self._delay = chunk_delay
        self._settings = behaviour.Settings(api_key, vision_streaming, wrong_key=wrong_key)
        self._memory = Memory()
        self._script = faults.Script()
        self._server: Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """The address, such as `http://127.0.0.1:40123`; raises `RuntimeError` while it is not running."""
        if self._server is None:
            raise RuntimeError("the sandbox is not running; use it in a with block or call start()")
        host, port = self._server.server_name, self._server.server_port
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def start(self) -> Sandbox:
        """Begins to serve, if it does not already; raises `OSError` if the port is taken."""
        if self._server is None:
            server = Server(self._host, self._port, self._respond, self.requests, self._delay)
            self._thread = threading.Thread(target=server.run, name="sandbox", daemon=True)
            self._thread.start()
            self._server = server
        return self

    def stop(self) -> None:
        """Ends all connections, closes the port and waits for the threads, if it is running."""
        server, thread = self._server, self._thread
        self._server = self._thread = None
        if server is not None:
            server.close()
        if thread is not None:
            thread.join()

    def clear(self) -> None:
        """Empties the journal, forgets earlier prompts, and takes back all that was scripted."""
        self.requests.clear()
        self._memory.clear()
        self._script.clear()

    def log_to(self, log: Callable[[str], None]) -> None:
        """Calls `log` with one line for each reply from now on."""
        if self._server is not None:
            self._server.log = log

    # What goes wrong on demand

    def fail(
        self,
        status: int = 500,
        text: str | None = None,
        *,
        times: int | None = 1,
        retry_after: float | str | None = None,
        headers: Mapping[str, str] | None = None,
        body: Any = None,
        path: str | None = None,
        model: str | None = None,
    ) -> Fault:
        """Answers with an error in place of an answer, as a service or a gateway before it does.

        Args:
            status: An HTTP status from 200 to 599.
            text: What stands in `{"error": text}`. Default: words that go with the status.
            times: How many requests; None for all from now on.
            retry_after: For the header `Retry-After`: seconds, or an HTTP date as text.
            headers: Further headers of the reply.
            body: In place of `text`: text or bytes that are sent as they are, such as a gateway's HTML page, or a value
                that is sent as JSON.
            path: Only requests to this path, such as "/embeddings".
            model: Only requests for this model.
        """
        turn = faults.refusal(status, text, retry_after, headers, body)
        return self._add(Fault(f"fail {status}", turn, times=times, path=path, model=model))

    def drop(self, *, times: int | None = 1, path: str | None = None, model: str | None = None) -> Fault:
        """Closes the connection without an answer."""
        return self._add(Fault("drop", faults.cut(0), times=times, path=path, model=model))

    def stall(
        self,
        seconds: float | None = None,
        *,
        after: int = 0,
        times: int | None = 1,
        path: str | None = None,
        model: str | None = None,
    ) -> Fault:
        """Says nothing for a while, and then goes on.

        `seconds=None` is as long as the client waits. With `after`, streams fall silent after so many events, at the
        latest before the one that ends the answer; requests that don't stream are left alone.
        """
        only = faults.streams if after else _any
        turn = faults.paused(seconds, after)
        return self._add(Fault("stall", turn, times=times, path=path, model=model, only=only))

    def cut_stream(
        self,
        after: int = 1,
        *,
        text: str | None = None,
        times: int | None = 1,
        path: str | None = None,
        model: str | None = None,
    ) -> Fault:
        """Breaks streams off after so many events, at the latest before the one that ends the answer.

        With `text`, an event with this error comes first. Requests that don't stream are left alone; those with a
        picture or with output checks never stream, unless `vision_streaming` is on.
        """
        turn = faults.cut(after, text)
        return self._add(Fault("cut_stream", turn, times=times, path=path, model=model, only=faults.streams))

    def fail_check(
        self,
        check: Literal["pii", "injection", "toxicity", "factuality"],
        *,
        times: int | None = 1,
        path: str | None = None,
        model: str | None = None,
    ) -> Fault:
        """Lets a check fail, whatever was said. Requests that don't ask for this check are left alone."""
        turn, asks = faults.failed_check(check)
        return self._add(Fault(f"fail_check {check}", turn, times=times, path=path, model=model, only=asks))

    def answer(
        self,
        text: str | None = None,
        *,
        tool_calls: Sequence[tuple[str, dict[str, Any]]] = (),
        finish_reason: str | None = None,
        times: int | None = 1,
        model: str | None = None,
    ) -> Fault:
        """Puts words, or tool calls, into the chat model's mouth; all else is as ever, checks and refusals included.

        `tool_calls` holds pairs of a tool's name and its arguments. Structured output goes by way of a tool that is
        named like the schema's class.
        """
        if not (isinstance(text, str) or (text is None and tool_calls)):
            raise ValueError("answer: give a text, or tool_calls=[(name, arguments)]")
        calls = [Call(f"call_{uuid.uuid4().hex}", name, json.dumps(arguments)) for name, arguments in tool_calls]
        says = Outcome(text, None, calls, finish_reason or ("tool_calls" if calls else "stop"))
        fault = Fault("answer", _same, times=times, path="/chat/completions", model=model, says=says)
        return self._add(fault)

    @property
    def unmet(self) -> list[Fault]:
        """What was scripted for a number of requests and met none: a test that scripts it expects it to happen."""
        return self._script.unmet()

    def _add(self, fault: Fault) -> Fault:
        return self._script.add(fault)

    def _respond(self, call: behaviour.Call) -> Reply:
        fault = self._script.take(call)
        if fault is None:
            return behaviour.respond(call, self._settings, self._memory)
        settings = dataclasses.replace(self._settings, says=fault.says)
        return fault.turn(behaviour.respond(call, settings, self._memory))

    def __enter__(self) -> Sandbox:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _any(call: behaviour.Call) -> bool:
    return True


def _same(reply: Reply) -> Reply:
    return reply
