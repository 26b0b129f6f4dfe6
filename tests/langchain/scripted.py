"""A server on loopback that gives scripted answers and keeps the requests."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

Reply = dict[str, Any] | list[dict[str, Any]]


class Scripted:
    """Gives its replies in order, then the last one again and again: a dict as JSON, a list as an event stream."""

    def __init__(self, *replies: Reply) -> None:
        self._script, self._replies = list(replies), list(replies)
        self.requests: list[dict[str, Any]] = []
        script = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                script.requests.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                reply = script._replies.pop(0) if len(script._replies) > 1 else script._replies[0]
                body = event_stream(reply) if isinstance(reply, list) else json.dumps(reply).encode()
                self.send_response(200)
                kind = "text/event-stream" if isinstance(reply, list) else "application/json"
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: Any) -> None:
                """Keep the output of the tests clean."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def restart(self) -> None:
        """Give the replies once more, from the first one."""
        self._replies = list(self._script)

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()
        return self

    def __exit__(self, *args: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def event_stream(chunks: list[dict[str, Any]]) -> bytes:
    """Return a complete event stream of these chunks."""
    return "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks).encode() + b"data: [DONE]\n\n"


def tool_call_reply(call_id: str | None, arguments: str, name: str = "look") -> dict[str, Any]:
    """Return a response that calls a tool."""
    call = {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    return {"id": "c", "model": "m", "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]}


def tool_call_stream(call_id: str | None, *arguments: str, name: str = "look") -> list[dict[str, Any]]:
    """Return the same as a stream: first the name, then the pieces of the arguments."""
    deltas: list[dict[str, Any]] = [{"index": 0, "id": call_id, "function": {"name": name, "arguments": ""}}]
    deltas += [{"index": 0, "function": {"arguments": piece}} for piece in arguments]
    chunks = [{"id": "c", "model": "m", "choices": [{"index": 0, "delta": {"tool_calls": [each]}}]} for each in deltas]
    return [*chunks, {"id": "c", "choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}]


def text_reply(text: str) -> dict[str, Any]:
    """Return a response in words."""
    message = {"role": "assistant", "content": text}
    return {"id": "d", "model": "m", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
