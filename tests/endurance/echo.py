"""A server in its own process that answers each request with the number in it: 17 for `marker-17`.

Whoever gets another number than the one that was sent got somebody else's answer. It knows which of its connections are
open, and which connection each request came by. The first part of a path says how it is to behave:

    /slow       a stream with a pause between its chunks
    /endless    a stream that never ends
    /silent     no answer at all
    /sluggish   the body of the request is read little by little, and never answered
    /broken     a stream that breaks off
    /refuse     an error
    /mirror-…   an answer that shows all that was sent, key and images included: `mirror-401`, or one of `_MIRRORS`

Only the standard library, and no import of this project: it has to start at once.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import Callable
from typing import Any

MARKER = re.compile(rb"marker-(\d+)")
PAUSE = 0.005
"""Seconds between two chunks of a slow stream, or between two reads of a body."""

_STREAM = b"content-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


class Connection(asyncio.Protocol):
    """One connection, and what was asked on it."""

    open: set[Connection] = set()
    seen: list[dict[str, Any]] = []
    count = 0

    def connection_made(self, transport: Any) -> None:
        Connection.count += 1
        self.number = Connection.count
        self.transport = transport
        self.data = bytearray()
        self.open.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        self.open.discard(self)

    def data_received(self, data: bytes) -> None:
        self.data += data
        while b"\r\n\r\n" in self.data:
            head, _, rest = self.data.partition(b"\r\n\r\n")
            if b"/sluggish/" in head.split(b"\r\n", 1)[0]:
                self.transport.pause_reading()
                asyncio.get_running_loop().call_later(PAUSE, self.transport.resume_reading)
                return
            length = re.search(rb"content-length: *(\d+)", head, re.IGNORECASE)
            size = int(length[1]) if length else 0
            if len(rest) < size:
                return
            self.data = rest[size:]
            self.answer(head, bytes(rest[:size]))

    def answer(self, head: bytes, body: bytes) -> None:
        path = head.split(b" ", 2)[1].decode()
        if path == "/open":
            return self.send(sum(each is not self for each in self.open))
        if path == "/seen":
            seen, Connection.seen = Connection.seen, []
            return self.send(seen)
        way, _, endpoint = path.lstrip("/").partition("/")
        found = MARKER.findall(body)
        number = int(found[-1]) if found else -1
        self.seen.append({"connection": self.number, "marker": number, "path": path})
        if way == "silent":
            return None
        if way == "refuse":
            return self.send({"error": f"refused {number}"}, b"400 Bad Request")
        if path.endswith("/models"):
            return self.send({"data": []})
        if way.startswith("mirror-"):
            return self.mirror(way.removeprefix("mirror-"), (head + b"\n" + body).decode())
        asked = json.loads(body) if body else {}
        if asked.get("stream"):
            chunks = [_chunk(each) for each in str(number)]
            ends = [_chunk("", finish_reason="stop"), "[DONE]"]
            self.transport.write(b"HTTP/1.1 200 OK\r\n" + _STREAM)
            return self.stream([*chunks, *ends], way)
        if "embeddings" in endpoint or "embeddings" in path:
            vectors = [{"index": index, "embedding": [float(number)]} for index, _ in enumerate(asked["input"])]
            return self.send({"data": vectors})
        if path.endswith("/rerank"):
            ranked = [{"index": index, "relevance_score": float(number)} for index, _ in enumerate(asked["documents"])]
            return self.send({"results": ranked})
        choice = {"index": 0, "finish_reason": "stop", "text": str(number)}
        return self.send({"id": "c", "object": "x", "created": 1, "model": asked.get("model"), "choices": [choice]})

    def mirror(self, how: str, sent: str) -> None:
        if how.isdigit():
            self.send({"error": f"what you sent: {sent}"}, f"{how} Status".encode())
            return
        kind, text = _MIRRORS[how](sent)
        data = text.encode()
        key = re.search(r"Bearer \S+", sent)
        headers = (
            f"content-type: {kind}\r\nx-request-id: {key[0] if key else ''}\r\ncontent-length: {len(data)}\r\n\r\n"
        )
        self.transport.write(f"HTTP/1.1 200 OK\r\n{headers}".encode() + data)

    def stream(self, events: list[str], way: str) -> None:
        if self.transport.is_closing():
            return
        if not events:
            self.transport.write(b"0\r\n\r\n")
            return
        data = f"data: {events[0]}\n\n".encode()
        self.transport.write(b"%x\r\n%s\r\n" % (len(data), data))
        if way == "broken":
            self.transport.close()
        elif way == "endless":
            asyncio.get_running_loop().call_later(PAUSE, self.stream, events, way)
        elif way == "slow":
            asyncio.get_running_loop().call_later(PAUSE, self.stream, events[1:], way)
        else:
            self.stream(events[1:], way)

    def send(self, value: Any, status: bytes = b"200 OK") -> None:
        data = json.dumps(value).encode()
        head = b"HTTP/1.1 %s\r\ncontent-type: application/json\r\nx-request-id: r-1\r\ncontent-length: %d\r\n\r\n"
        self.transport.write(head % (status, len(data)) + data)


def _chunk(text: str, **more: str) -> str:
    choice = {"index": 0, "text": text, "delta": {"content": text}, **more}
    return json.dumps({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]})


_MIRRORS: dict[str, Callable[[str], tuple[str, str]]] = {
    "page": lambda sent: ("text/html", f"<html>{sent}</html>"),
    "json": lambda sent: ("application/json", json.dumps({"choices": sent, "data": sent, "results": sent})),
    "broken": lambda sent: ("application/json", json.dumps({"sent": sent})[:-1]),
    "status": lambda sent: ("application/json", json.dumps({"choices": [{"index": 0, "status": f"error: {sent}"}]})),
    "event": lambda sent: ("text/event-stream", f"data: {json.dumps({'error': sent})}\n\n"),
    "rubbish": lambda sent: ("text/event-stream", "data: " + json.dumps(sent) + "\n\n"),
    "type": lambda sent: (f"text/{''.join(re.findall('Bearer (.*)', sent))}".strip(), sent),
}


async def main() -> None:
    """Serve until the standard input is closed, at the latest when the parent process ends."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Connection, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)  # noqa: T201 - it is how the port gets out
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())
