"""A server that drains requests and answers: one process, one thread, plain and TLS.

The first part of the path selects the answer: `/plain`; `/wait-50` (after 50 ms); `/stream-1000` (an event stream of
1,000 prebuilt chunks of text); `/embed-50` (vectors, after 50 ms); `/uplink-10000000` (reads 10,000,000 bits a second).
The answer tells how many bytes came, so that a client that left the image out is noticed. The server ends with its
standard input, and so with the process that started it.
"""

from __future__ import annotations

import asyncio
import functools
import json
import resource
import ssl
import sys
from typing import Any, cast

_MODEL = "Qwen2.5-VL-7B-Instruct"
_ROOM = 1 << 20
"""Bytes that are read at once."""
_EMBEDDED = 80_000
"""Bytes of an embedding request for each of its images: 60 KB in base64."""
_VECTOR = [round(number / 512, 6) for number in range(512)]


def lift_limit() -> None:
    """Let this process have as many sockets as it may."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def answer(drained: int) -> bytes:
    """A plain answer, with its headers."""
    message = {"role": "assistant", "content": f"{drained} bytes came, and none of them was looked at."}
    body = json.dumps(
        {
            "id": "chatcmpl-5f2c7c0e9a1b4d6e8f00112233445566",
            "object": "chat.completion",
            "created": 1727889823,
            "model": _MODEL,
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 12, "completion_tokens": 11, "total_tokens": 23},
        }
    ).encode()
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


@functools.cache
def vectors(count: int) -> bytes:
    """Return an answer with so many vectors, with its headers."""
    data = [{"index": index, "object": "embedding", "embedding": _VECTOR} for index in range(count)]
    body = json.dumps({"object": "list", "model": _MODEL, "data": data}).encode()
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


@functools.cache
def stream(chunks: int) -> bytes:
    """An event stream of so many chunks with text, with its headers; each event is an HTTP chunk of its own."""
    deltas: list[tuple[dict[str, Any], str | None]] = [({"role": "assistant", "content": ""}, None)]
    deltas += [({"content": " word"}, None)] * chunks + [({}, "stop")]
    events = [
        {**_chunk(number), "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}
        for number, (delta, reason) in enumerate(deltas)
    ]
    usage = {"prompt_tokens": 12, "completion_tokens": chunks, "total_tokens": 12 + chunks}
    events.append({**_chunk(len(events)), "choices": [], "usage": usage})
    texts = [*map(json.dumps, events), "[DONE]"]
    lines = [f"data: {text}\n\n".encode() for text in texts]
    pieces = [b"%x\r\n%s\r\n" % (len(line), line) for line in lines]
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    return head + b"".join(pieces) + b"0\r\n\r\n"


def _chunk(number: int) -> dict[str, Any]:
    name = f"chatcmpl-{number:032x}"
    return {"id": name, "object": "chat.completion.chunk", "created": 1727889823, "model": _MODEL}


class Drain(asyncio.BufferedProtocol):
    """One connection: requests one after the other, each with a `Content-Length`."""

    _room = memoryview(bytearray(_ROOM))  # one for all: what is in it is done with before anybody else reads

    def __init__(self) -> None:
        self._head = b""
        self._left = 0
        self._length = 0
        self._route = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._room

    def buffer_updated(self, nbytes: int) -> None:
        if self._route.startswith("uplink-"):
            # The client's socket buffers fill up, so that it is held to this pace.
            self._transport.pause_reading()
            seconds = nbytes * 8 / int(self._route.partition("-")[2])
            asyncio.get_running_loop().call_later(seconds, self._transport.resume_reading)
        if self._left:
            self._left -= nbytes
        else:
            self._head += self._room[:nbytes]
            end = self._head.find(b"\r\n\r\n")
            if end < 0:
                return
            head, came = self._head[:end].decode("latin-1"), len(self._head) - end - 4
            self._head = b""
            first, *lines = head.split("\r\n")
            self._route = first.split(" ")[1].split("/")[1]
            fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            if "content-length" not in fields:
                self._transport.write(b"HTTP/1.1 411 Length Required\r\nconnection: close\r\n\r\n")
                self._transport.close()
                return
            self._length = int(fields["content-length"])
            self._left = self._length - came
        if self._left == 0:
            self._answer()

    def _answer(self) -> None:
        kind, _, number = self._route.partition("-")
        if kind == "stream":
            self._transport.write(stream(int(number)))
        elif kind == "embed":
            found = vectors(max(1, round(self._length / _EMBEDDED)))
            asyncio.get_running_loop().call_later(int(number) / 1000, self._transport.write, found)
        elif kind == "wait":
            asyncio.get_running_loop().call_later(int(number) / 1000, self._transport.write, answer(self._length))
        else:
            self._transport.write(answer(self._length))


async def serve(certificate: str | None) -> None:
    """Serve until standard input ends. Prints the two ports, plain and TLS, as JSON."""
    lift_limit()
    loop = asyncio.get_running_loop()
    servers = [await loop.create_server(Drain, "127.0.0.1", 0, backlog=1024)]
    if certificate:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificate)
        servers.append(await loop.create_server(Drain, "127.0.0.1", 0, backlog=1024, ssl=tls))
    print(json.dumps([server.sockets[0].getsockname()[1] for server in servers]), flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    for server in servers:
        server.close()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1] if len(sys.argv) > 1 else None))
