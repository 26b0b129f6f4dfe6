"""`Sandbox`: the API, its socket and its scripted faults together."""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import json
import ssl
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, Never

from predictionguard_core.sandbox import routes
from predictionguard_core.sandbox.chat.completions import PromptCache
from predictionguard_core.sandbox.options import STRICTNESS, Answer, Options, ScriptedAnswer, Strictness, ToolCall
from predictionguard_core.sandbox.responses import Response
from predictionguard_core.sandbox.server import faults
from predictionguard_core.sandbox.server.faults import Fault
from predictionguard_core.sandbox.server.http import Server


class Sandbox:
    """A mock of Prediction Guard's API on a socket of this machine.

    `start` and `stop` may be called repeatedly; as a context manager it does both.

    `fail`, `drop`, `stall`, `slow_headers`, `keep_alive`, `cut_stream`, `fail_check` and `answer` script what happens
    to the next requests. Each holds for `times` requests that match (None: for all from now on), for those to one
    `path` or for one `model` if these are set, and returns a `Fault`, which counts the requests that met it. A request
    meets the first fault that it matches, in the order in which they were scripted. A client's retries are requests,
    too: to get past `max_retries=2`, a fault has to be met three times. `clear` takes everything back.

        box.fail(429, times=2, retry_after=0)

    Args:
        host: Address to listen on.
        port: Port to listen on; 0 picks a free one.
        api_key: The only API key to accept. Default: any.
        chunk_delay: Seconds between two events of a stream.
        vision_streaming: Let requests with an image stream, as some self-hosted deployments do.
        strictness: "schema" fills every required argument of a tool call. "vllm" imitates vLLM: without `strict`, the
            first call of a tool misses its last field, and a named `tool_choice` ends with `stop`.
        ssl_context: Serve HTTPS with this context. `drop` and `cut_stream` then close the connection inside TLS.
        wrong_key: Text of a 401 response to any key but `api_key`. Default: 403 in the service's words.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        api_key: str | None = None,
        chunk_delay: float = 0.0,
        *,
        vision_streaming: bool = False,
        strictness: Strictness = "schema",
        ssl_context: ssl.SSLContext | None = None,
        wrong_key: str | None = None,
        **unknown: Never,
    ) -> None:
        for name in unknown:
            known = list(inspect.signature(Sandbox).parameters)[:-1]
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else f". Its options are {', '.join(known)}"
            raise TypeError(f"Sandbox has no option {name!r}{hint}")
        if strictness not in STRICTNESS:
            raise ValueError(f"strictness must be one of {', '.join(STRICTNESS)}, got {strictness!r}")
        self.requests: list[Any] = []
        """The decoded body of every POST, in order of arrival, refused ones included."""
        self._host = host
        self._port = port
        self._delay = chunk_delay
        self._ssl_context = ssl_context
        self._options = Options(api_key, vision_streaming, strictness, wrong_key)
        self._cache = PromptCache()
        self._script = faults.Script()
        self._server: Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """The base URL, such as `http://127.0.0.1:40123`; raises `RuntimeError` while it is not running."""
        if self._server is None:
            raise RuntimeError("the sandbox is not running; use it in a with block or call start()")
        host, port = self._server.server_name, self._server.server_port
        scheme = "http" if self._ssl_context is None else "https"
        return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"

    def start(self) -> Sandbox:
        """Begin to serve, if it does not already; raises `OSError` if the port is taken."""
        if self._server is None:
            server = Server(self._host, self._port, self._respond, self.requests, self._delay, self._ssl_context)
            self._thread = threading.Thread(target=server.run, name="sandbox", daemon=True)
            self._thread.start()
            self._server = server
        return self

    def stop(self) -> None:
        """End all connections, close the port and wait for the threads, if it is running."""
        server, thread = self._server, self._thread
        self._server = self._thread = None
        if server is not None:
            server.close()
        if thread is not None:
            thread.join()

    def clear(self) -> None:
        """Empty `requests`, forget earlier prompts, and take back everything that was scripted."""
        self.requests.clear()
        self._cache.clear()
        self._script.clear()

    def log_to(self, log: Callable[[str], None]) -> None:
        """Call `log` with one line for each response from now on."""
        if self._server is not None:
            self._server.log = log

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
        """Respond with an error, as a service or a gateway in front of it does.

        Args:
            status: An HTTP status from 200 to 599.
            text: The text of `{"error": text}`. Default: words that go with the status.
            times: How many requests; None for all from now on.
            retry_after: For the header `Retry-After`: seconds, or an HTTP date as text.
            headers: Further headers of the response.
            body: In place of `text`: text or bytes that are sent as they are, such as a gateway's HTML page, or a value
                that is sent as JSON.
            path: Only requests to this path, such as "/embeddings".
            model: Only requests for this model.
        """
        change = faults.error(status, text, retry_after, headers, body)
        return self._script.add(Fault(f"fail {status}", change, times=times, path=path, model=model))

    def drop(self, *, times: int | None = 1, path: str | None = None, model: str | None = None) -> Fault:
        """Close the connection without a response."""
        return self._script.add(Fault("drop", faults.disconnect(0), times=times, path=path, model=model))

    def stall(
        self,
        seconds: float | None = None,
        *,
        after: int = 0,
        times: int | None = 1,
        path: str | None = None,
        model: str | None = None,
    ) -> Fault:
        """Send nothing for a while, and then continue.

        `seconds=None` is as long as the client waits. With `after`, streams fall silent after so many events, at the
        latest before the one that ends the answer; requests that don't stream are left alone.
        """
        only = faults.is_stream if after else _any
        change = faults.pause(seconds, after)
        return self._script.add(Fault("stall", change, times=times, path=path, model=model, only=only))

    def slow_headers(
        self, seconds: float, *, times: int | None = 1, path: str | None = None, model: str | None = None
    ) -> Fault:
        """Send the status line and the headers one by one, spread over so many seconds."""
        change = faults.slow_headers(seconds)
        return self._script.add(Fault("slow_headers", change, times=times, path=path, model=model))

    def keep_alive(
        self,
        seconds: float | None = None,
        *,
        after: int = 0,
        times: int | None = 1,
        path: str | None = None,
        model: str | None = None,
    ) -> Fault:
        """Send only comments (`: keep-alive`) in a stream for a while, after so many events.

        `seconds=None` is as long as the client waits. Requests that don't stream are left alone.
        """
        change = faults.pause(seconds, after, keep_alive=True)
        fault = Fault("keep_alive", change, times=times, path=path, model=model, only=faults.is_stream)
        return self._script.add(fault)

    def cut_stream(
        self,
        after: int = 1,
        *,
        text: str | None = None,
        times: int | None = 1,
        path: str | None = None,
        model: str | None = None,
    ) -> Fault:
        """Close the connection of streams after so many events, at the latest before the one that ends the answer.

        With `text`, an event with this error comes first. Requests that don't stream are left alone; those with an
        image or with output checks never stream, unless `vision_streaming` is on.
        """
        change = faults.disconnect(after, text)
        fault = Fault("cut_stream", change, times=times, path=path, model=model, only=faults.is_stream)
        return self._script.add(fault)

    def fail_check(
        self,
        check: Literal["pii", "injection", "toxicity", "factuality"],
        *,
        times: int | None = 1,
        path: str | None = None,
        model: str | None = None,
    ) -> Fault:
        """Let a check fail, whatever was said. Requests that don't ask for this check are left alone."""
        change, asks = faults.failed_check(check)
        return self._script.add(Fault(f"fail_check {check}", change, times=times, path=path, model=model, only=asks))

    def answer(
        self,
        text: str | None = None,
        *,
        tool_calls: Sequence[tuple[str, dict[str, Any]]] = (),
        finish_reason: str | None = None,
        refusal: str | None = None,
        choices: int | None = None,
        id: str | None = None,  # noqa: A002 (the field's own name)
        times: int | None = 1,
        model: str | None = None,
    ) -> Fault:
        """Set what the chat model answers; everything else is as ever, checks and refused requests included.

        Args:
            text: The content of the answer.
            tool_calls: Pairs of a tool's name and its arguments. Structured output is a call of a tool that is named
                like the schema's class.
            finish_reason: Default: `tool_calls` or `stop`.
            refusal: The `refusal` of the answer, as OpenAI's models give one.
            choices: How many choices come back, whatever the request asked for.
            id: The id of the response and of every chunk; may be empty.
            times: How many requests; None for all from now on.
            model: Only requests for this model.
        """
        if text is None and not tool_calls and refusal is None:
            if choices is None and id is None:
                raise ValueError("answer: give a text, tool_calls=[(name, arguments)], refusal, choices or id")
            answer = None
        elif text is not None and not isinstance(text, str):
            raise ValueError(f"answer: text must be a string, got {type(text).__name__}")
        else:
            _check_tool_calls(tool_calls)
            calls = [ToolCall(f"call_{uuid.uuid4().hex}", name, json.dumps(values)) for name, values in tool_calls]
            answer = Answer(text, None, calls, finish_reason or ("tool_calls" if calls else "stop"), refusal)
        scripted = ScriptedAnswer(answer, choices, id)
        fault = Fault("answer", _same, times=times, path="/chat/completions", model=model, scripted=scripted)
        return self._script.add(fault)

    @property
    def unmet(self) -> list[Fault]:
        """What was scripted for a number of requests and met none: a test that scripts it expects it to happen."""
        return self._script.unmet()

    def _respond(self, request: routes.Request) -> Response:
        fault = self._script.take(request)
        if fault is None:
            return routes.respond(request, self._options, self._cache)
        options = dataclasses.replace(self._options, scripted=fault.scripted or self._options.scripted)
        return fault.change(routes.respond(request, options, self._cache))

    def __enter__(self) -> Sandbox:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _any(request: routes.Request) -> bool:
    return True


def _check_tool_calls(calls: Sequence[Any]) -> None:
    for call in calls:
        is_pair = isinstance(call, tuple | list) and len(call) == 2
        if not is_pair or not isinstance(call[0], str) or not isinstance(call[1], Mapping):
            raise ValueError(
                "answer: tool_calls must be pairs of a tool's name and its arguments, such as "
                f'[("weigh", {{"grams": 3}})], got {call!r:.60}'
            )


def _same(response: Response) -> Response:
    return response
