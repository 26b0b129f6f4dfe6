"""The faults of a server, the expected result of a call, and how many requests the call may send.

Each row is tested with every method (`methods.py`). Its `does` says what the server does with the first request, the
second, and so on; it repeats the last for each further request. `expected` is the class of the error, or the text that
is received nevertheless. `requests` is counted at the server: with `max_retries=2` it is never more than 3.
"""

from __future__ import annotations

import dataclasses
import functools
import gzip
import json
import zlib
from typing import Any

from langchain_core import exceptions as lc

from predictionguard_core.errors import (
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    AuthenticationError,
    ContextOverflowError,
    InvalidRequestError,
    InvalidResponseError,
    NotFoundError,
    PermissionDeniedError,
    PIIDetectedError,
    RateLimitError,
    RequestTooLargeError,
    ServerError,
    StreamInterruptedError,
    ToxicityError,
)
from tests.faults.methods import ANSWER, CHUNKS, PLAIN, STREAM, TEXT, chunk
from tests.faults.server import RESET, STALL, Drip, Flood, Unread, answer, chunked

GOOD = object()
"""In `does`: the response that the method expects."""
REFUSED = object()
"""In `does`: the connection is refused."""

LANGCHAIN: dict[type[Exception], type[Exception]] = {
    APIConnectionError: lc.ModelConnectionError,
    APITimeoutError: lc.ModelTimeoutError,
    APIStatusError: lc.ModelError,
    InvalidRequestError: lc.ModelInvalidRequestError,
    PIIDetectedError: lc.ModelInvalidRequestError,
    ToxicityError: lc.ModelInvalidRequestError,
    ContextOverflowError: lc.ContextOverflowError,
    AuthenticationError: lc.ModelAuthenticationError,
    PermissionDeniedError: lc.ModelPermissionDeniedError,
    NotFoundError: lc.ModelNotFoundError,
    RequestTooLargeError: lc.ModelInvalidRequestError,
    RateLimitError: lc.ModelRateLimitError,
    ServerError: lc.ModelAPIError,
    InvalidResponseError: lc.ModelAPIError,
    StreamInterruptedError: lc.ModelAPIError,
}
"""The LangChain class that each error of the adapter also is."""


@dataclasses.dataclass(frozen=True)
class Fault:
    """A row of the matrix.

    `connections` is the same as `requests` if it is None. `received` is the text of a stream before its error. The
    clients of the slow rows have `timeout`, in seconds.
    """

    name: str
    does: list[Any]
    expected: type[Exception] | str
    requests: int = 1
    connections: int | None = None
    received: str = ""
    tls: bool = False
    timeout: float = 1.0


def refusal(status: int, text: str = "no", **headers: str) -> bytes:
    return answer(status, {"error": text}, **headers)


def of_json(body: bytes | str, **headers: str) -> bytes:
    return answer(200, body, **{"content_type": "application/json", **headers})


def of_stream(body: bytes | str, **headers: str) -> bytes:
    return answer(200, body, **{"content_type": "text/event-stream", **headers})


# Before the first byte of a response: every request is retried.

LOST = [
    Fault("refused", [REFUSED], APIConnectionError, requests=0),
    Fault("reset once connected", [Unread([RESET])], APIConnectionError, requests=0, connections=3),
    Fault("closed once connected", [Unread([])], APIConnectionError, requests=0, connections=3),
    Fault("no TLS at an https URL", [Unread([b"220\r\n"])], APIConnectionError, 0, connections=3, tls=True),
    Fault("reset before the headers", [[RESET]], APIConnectionError, requests=3),
    Fault("closed before the headers", [[]], APIConnectionError, requests=3),
    Fault("closed within the headers", [PLAIN[:30]], APIConnectionError, requests=3),
    Fault("reset within the headers", [[PLAIN[:30], RESET]], APIConnectionError, requests=3),
    Fault("not HTTP", [b"220 mail.example ESMTP\r\n\r\n"], APIConnectionError, requests=3),
    Fault("headers without end", [[b"HTTP/1.1 200 OK\r\n", Flood(b"x: y\r\n" * 1000)]], APIConnectionError, requests=3),
    Fault("two lengths", [of_json("{}", content_length="2\r\ncontent-length: 3")], APIConnectionError, requests=3),
    Fault("an invalid length", [of_json("{}", content_length="-2")], APIConnectionError, requests=3),
    Fault("reset once connected, then good", [Unread([RESET]), GOOD], TEXT, requests=1, connections=2),
    Fault("reset, then good", [[RESET], GOOD], TEXT, requests=2),
    Fault("closed, closed, then good", [[], [], GOOD], TEXT, requests=3),
    Fault("cut headers, then good", [PLAIN[:30], GOOD], TEXT, requests=2),
    Fault("closed, 503, then good", [[], refusal(503), GOOD], TEXT, requests=3),
    Fault("503, closed, then good", [refusal(503), [], GOOD], TEXT, requests=3),
    Fault("429, 500, then 400", [refusal(429), refusal(500), refusal(400)], InvalidRequestError, requests=3),
    Fault("503, then a 500 cut short", [refusal(503), answer(500, content_length="9")], APIConnectionError, requests=2),
]

# The status decides, not the body, except for failed checks.

ONCE: dict[int, type[Exception]] = {
    204: InvalidResponseError,
    205: APIStatusError,
    300: APIStatusError,
    301: APIStatusError,
    302: APIStatusError,
    304: APIStatusError,
    307: APIStatusError,
    400: InvalidRequestError,
    401: AuthenticationError,
    402: APIStatusError,
    403: PermissionDeniedError,
    404: NotFoundError,
    405: APIStatusError,
    409: APIStatusError,
    413: RequestTooLargeError,
    418: APIStatusError,
    422: InvalidRequestError,
    425: APIStatusError,
    451: APIStatusError,
    501: ServerError,  # not implemented: asking again changes nothing
    600: APIStatusError,
    999: APIStatusError,
}
AGAIN: dict[int, type[Exception]] = {
    408: APIStatusError,
    429: RateLimitError,
    500: ServerError,
    502: ServerError,
    503: ServerError,
    504: ServerError,
    507: ServerError,
    529: ServerError,
    599: ServerError,
}
COSTS = [(status, kind, 1) for status, kind in ONCE.items()] + [(status, kind, 3) for status, kind in AGAIN.items()]
PAGE = "<html><h1>hello</h1></html>"
FROM_GATEWAYS = (400, 401, 403, 404, 413, 429, 500, 502, 503, 504)
HINTS = b"HTTP/1.1 103 Early Hints\r\nlink: </a>; rel=preload\r\n\r\n"

STATUSES = [
    *(Fault(f"{status}", [refusal(status, location="/elsewhere")], kind, count) for status, kind, count in COSTS),
    *(Fault(f"{status}, then good", [refusal(status), GOOD], TEXT, requests=2) for status in AGAIN),
    *(
        Fault(f"{status}, {what}", [answer(status, body, content_type="text/html")], kind, count)
        for status, kind, count in COSTS
        for what, body in (("HTML", PAGE), ("empty", ""))
        if status in FROM_GATEWAYS
    ),
    Fault("400, a check", [refusal(400, "pii detected")], PIIDetectedError),
    Fault("400, nearly a check", [refusal(400, "no pii detected here")], InvalidRequestError),
    Fault("400, too long", [refusal(400, "maximum context length is 9 tokens")], ContextOverflowError),
    Fault("429, an object", [answer(429, {"error": {"message": "slow"}})], RateLimitError, requests=3),
    Fault("500, gzip", [answer(500, gzip.compress(b'{"error":"no"}'), content_encoding="gzip")], ServerError, 3),
    Fault("500, no gzip", [answer(500, b'{"error":"no"}', content_encoding="gzip")], InvalidResponseError),
    Fault("500, cut short", [answer(500, b'{"err', content_length="99")], APIConnectionError),
    Fault("101 unasked", [answer(101, connection="upgrade", upgrade="x")], APIConnectionError, requests=3),
    Fault("103, then good", [[HINTS, GOOD]], TEXT),
    Fault("100, 102, 103, then good", [[b"HTTP/1.1 100 \r\n\r\nHTTP/1.1 102 \r\n\r\n", HINTS, GOOD]], TEXT),
    Fault("103 and 503, then good", [HINTS + refusal(503), GOOD], TEXT, requests=2),
]

# A success with an unexpected body is not retried. A stream request accepts a plain response, so these rows hold for
# streams too, unless the content type says that it is a stream.

JSON = json.dumps(ANSWER)
LONGER = json.dumps({**ANSWER, "more": "x" * 500}).encode()
CUT_JSON = b'{"choices": [{"index": 0, "message": {"role": "assistant", "content": "hel'


@functools.cache
def bomb() -> bytes:
    """Return less than a megabyte that decompresses to 160."""
    packer = zlib.compressobj(1, wbits=31)
    return b"".join([*(packer.compress(b" " * (1 << 20)) for _ in range(160)), packer.flush()])


BODIES = [
    Fault("HTML", [answer(200, PAGE, content_type="text/html")], InvalidResponseError),
    Fault("HTML that calls itself JSON", [of_json(PAGE)], InvalidResponseError),
    Fault("good JSON that calls itself HTML", [of_json(JSON, content_type="text/html")], TEXT),
    Fault("good JSON without a type", [of_json(JSON, content_type="")], TEXT),
    Fault("good JSON of a type of its own", [of_json(JSON, content_type="application/vnd.x+json")], TEXT),
    Fault("good JSON in white space", [of_json(f"\r\n \n{JSON}\r\n")], TEXT),
    Fault("good JSON in UTF-16", [of_json(JSON.encode("utf-16"))], TEXT),
    Fault("good JSON in chunks", [chunked([JSON[:50].encode(), JSON[50:].encode()], kind="application/json")], TEXT),
    Fault("good JSON over HTTP/1.0", [b"HTTP/1.0 200\r\n\r\n" + JSON.encode()], TEXT),
    Fault("empty", [of_json("")], InvalidResponseError),
    Fault("empty, without a length", [of_json("", content_length="")], InvalidResponseError),
    Fault("white space", [of_json(" \r\n")], InvalidResponseError),
    Fault("broken JSON", [of_json(CUT_JSON)], InvalidResponseError),
    Fault("JSON twice", [of_json(JSON * 2)], InvalidResponseError),
    Fault("other JSON", [of_json('{"hello": "you"}')], InvalidResponseError),
    Fault("null", [of_json("null")], InvalidResponseError),
    Fault("a list", [of_json("[]")], InvalidResponseError),
    Fault("a number of many digits", [of_json("1" * 10_000)], InvalidResponseError),
    Fault("deep brackets", [of_json("[" * 100_000)], InvalidResponseError),
    Fault("no choices", [of_json('{"choices": []}')], InvalidResponseError),
    Fault("not UTF-8", [of_json(JSON.replace("hello", "h\xff").encode("latin-1"))], InvalidResponseError),
    Fault("an error in place of an answer", [of_json('{"error": "pii detected"}')], PIIDetectedError),
    Fault("an error in a choice", [of_json('{"choices": [{"status": "error: pii detected"}]}')], PIIDetectedError),
    Fault("gzip", [of_json(gzip.compress(LONGER), content_encoding="gzip")], TEXT),
    Fault("deflate", [of_json(zlib.compress(LONGER), content_encoding="deflate")], TEXT),
    Fault("no gzip", [of_json(LONGER, content_encoding="gzip")], InvalidResponseError),
    Fault("half a gzip", [of_json(gzip.compress(LONGER)[:80], content_encoding="gzip")], InvalidResponseError),
    Fault("damaged gzip", [of_json(gzip.compress(LONGER)[:40] + b"x", content_encoding="gzip")], InvalidResponseError),
    Fault("gzip of a gzip", [of_json(gzip.compress(LONGER), content_encoding="gzip, gzip")], InvalidResponseError),
    Fault("a gzip bomb", [lambda: of_json(bomb(), content_encoding="gzip")], InvalidResponseError),
    Fault("an unrequested content encoding", [of_json(LONGER, content_encoding="br")], InvalidResponseError),
    Fault("a terabyte", [[of_json("", content_length=str(1 << 40)), Flood(b" " * 65536)]], InvalidResponseError),
]

# The response had begun, so the request is not retried: it may have been paid for.

HEAD = of_json("", content_length="500")
CHUNKED_HEAD = chunked([], kind="application/json", last=b"")

CUT_PLAIN = [
    Fault("reset after the headers", [[HEAD, RESET]], APIConnectionError),
    Fault("closed after the headers", [HEAD], APIConnectionError),
    Fault("reset in the body", [[HEAD + CUT_JSON, RESET]], APIConnectionError),
    Fault("closed short of its length", [HEAD + CUT_JSON], APIConnectionError),
    Fault("cut between chunks", [chunked([CUT_JSON], kind="application/json", last=b"")], APIConnectionError),
    Fault("cut within a chunk", [CHUNKED_HEAD + b"1ff\r\n" + CUT_JSON], APIConnectionError),
    Fault("reset within a chunk", [[CHUNKED_HEAD + b"1ff\r\n" + CUT_JSON, RESET]], APIConnectionError),
    Fault("a chunk without a size", [CHUNKED_HEAD + b"hello\r\n"], APIConnectionError),
    Fault("more than its length", [of_json(JSON + "hello", content_length=str(len(JSON)))], TEXT),
    Fault("an event stream", [STREAM], InvalidResponseError),
]


def events(*given: str | dict[str, Any], last: bytes = b"0\r\n\r\n") -> bytes:
    """Return a stream of these events: a text as it is, a dict as JSON. `last` ends it properly."""
    texts = [each if isinstance(each, str) else f"data: {json.dumps(each)}\n\n" for each in given]
    return chunked([each.encode() for each in texts], last=last)


def cut(*given: str | dict[str, Any]) -> bytes:
    """Return the same without its end."""
    return events(*given, last=b"")


def by_bytes(body: bytes) -> bytes:
    """Return a stream in which each byte is one HTTP chunk."""
    return chunked([bytes([each]) for each in body])


A, B, STOP = CHUNKS
DONE = "data: [DONE]\n\n"
USAGE = {"id": "u", "choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2}}
BODY = STREAM.partition(b"\r\n\r\n")[2]
ODD = "\u2028 \u2029 \x85 \u200b"
ODD_EVENT = f"data: {json.dumps(chunk(ODD), ensure_ascii=False)}\n\n"
IN_LINES = "data: " + json.dumps(A, indent=1).replace("\n", "\ndata: ") + "\n\n"

CUT_STREAM = [
    Fault("reset after the headers", [[cut(), RESET]], StreamInterruptedError),
    Fault("closed after the headers", [cut()], StreamInterruptedError),
    Fault("no event", [events()], StreamInterruptedError),
    Fault("comments only", [events(": hello\n\n", ": hello\n\n")], StreamInterruptedError),
    Fault("reset", [[cut(A), RESET]], StreamInterruptedError, received="hello "),
    Fault("closed between chunks", [cut(A)], StreamInterruptedError, received="hello "),
    Fault("closed within a chunk", [cut(A) + b"ff\r\ndata: {"], StreamInterruptedError, received="hello "),
    Fault("closed within an event", [events(A, "data: {")], StreamInterruptedError, received="hello "),
    Fault(
        "closed short of its length",
        [of_stream(BODY[:130], content_length="999")],
        StreamInterruptedError,
        received="hello ",
    ),
    Fault("ended without an end", [events(A, B)], StreamInterruptedError, received=TEXT),
    Fault("half a gzip", [of_stream(gzip.compress(BODY)[:60], content_encoding="gzip")], StreamInterruptedError),
    Fault("no gzip", [of_stream(BODY, content_encoding="gzip")], InvalidResponseError),
    Fault("gzip of a gzip", [of_stream(gzip.compress(BODY), content_encoding="gzip, gzip")], InvalidResponseError),
    Fault("an error", [events(A, {"error": "failed toxicity check"})], ToxicityError, received="hello "),
    Fault("an error at once", [events({"error": {"message": "slow", "code": 429}})], RateLimitError),
    Fault("an error by name", [events(A, 'event: error\ndata: {"x": 1}\n\n')], APIStatusError, received="hello "),
    Fault("an error by name, HTML", [events(A, f"event: error\ndata: {PAGE}\n\n")], APIStatusError, received="hello "),
    Fault("an error by name, nothing", [events(A, "event: error\ndata:\n\n")], APIStatusError, received="hello "),
    Fault("an error in place of an answer", [of_json('{"error": "pii detected"}')], PIIDetectedError),
    Fault(
        "an error in a choice", [events(A, chunk(status="error: pii detected"))], PIIDetectedError, received="hello "
    ),
    Fault("HTML for an event", [events(A, f"data: {PAGE}\n\n", STOP)], InvalidResponseError, received="hello "),
    Fault("HTML for a stream", [of_stream(PAGE)], StreamInterruptedError),
    Fault("JSON for a stream", [of_stream(JSON)], StreamInterruptedError),
    Fault("a stream that calls itself JSON", [of_json(BODY)], InvalidResponseError),
]

WHOLE_STREAM = [
    Fault("ordinary", [events(A, B, STOP, DONE)], TEXT),
    Fault("of a known length", [of_stream(BODY)], TEXT),
    Fault("until the connection ends", [STREAM], TEXT),
    Fault("byte by byte", [by_bytes(BODY)], TEXT),
    Fault("CR LF", [chunked([BODY.replace(b"\n", b"\r\n")])], TEXT),
    Fault("CR LF, byte by byte", [by_bytes(BODY.replace(b"\n", b"\r\n"))], TEXT),
    Fault("CR", [chunked([BODY.replace(b"\n", b"\r")])], TEXT),
    Fault("CR, byte by byte", [by_bytes(BODY.replace(b"\n", b"\r"))], TEXT),
    Fault("no space after data:", [chunked([BODY.replace(b"data: ", b"data:")])], TEXT),
    Fault("comments", [events(": hello\n\n", A, ": between\n", B, ":\n\n", STOP, DONE)], TEXT),
    Fault("other fields", [events("id: 1\nretry: 5\nevent: message\n", A, "id: 2\n: c\n", B, STOP, DONE)], TEXT),
    Fault("data of several lines", [events(IN_LINES, B, STOP, DONE)], TEXT),
    Fault("byte-order mark", [chunked([b"\xef\xbb\xbf" + BODY])], TEXT),
    Fault("byte-order mark, byte by byte", [by_bytes(b"\xef\xbb\xbf" + BODY)], TEXT),
    Fault("U+2028, U+2029 and U+0085 in a text", [events(ODD_EVENT, STOP, DONE)], ODD),
    Fault("the same, byte by byte", [by_bytes(ODD_EVENT.encode() + BODY.partition(b"\n\n")[2])], ODD + "you"),
    Fault("data after [DONE]", [events(A, B, STOP, DONE, chunk(" and more"), f"data: {PAGE}\n\n")], TEXT),
    Fault("an error after [DONE]", [events(A, B, STOP, DONE, {"error": "no"})], TEXT),
    Fault("a flood after [DONE]", [[cut(A, B, STOP, DONE), Flood(b"5\r\nhello\r\n" * 5000)]], TEXT),
    Fault("reset after [DONE]", [[cut(A, B, STOP, DONE), RESET]], TEXT),
    Fault("silence after [DONE]", [[cut(A, B, STOP, DONE), STALL]], TEXT),
    Fault("no blank line after [DONE]", [events(A, B, STOP, "data: [DONE]")], TEXT),
    Fault("one line end after [DONE]", [events(A, B, STOP, "data: [DONE]\n")], TEXT),
    Fault("no [DONE]", [events(A, B, STOP)], TEXT),
    Fault("no finish reason", [events(A, B, DONE)], TEXT),
    Fault("reset after the finish reason", [[cut(A, B, STOP), RESET]], TEXT),
    Fault("closed after the finish reason", [cut(A, B, STOP)], TEXT),
    Fault("cut within the usage", [cut(A, B, STOP, 'data: {"choices": [], "us')], TEXT),
    Fault("usage by itself", [events(A, B, STOP, USAGE, DONE)], TEXT),
    Fault("usage by itself, first", [events(USAGE, A, B, STOP, DONE)], TEXT),
    Fault("empty chunks", [events({}, {"choices": []}, A, {"choices": None}, B, chunk(""), STOP, DONE)], TEXT),
    Fault("gzip", [of_stream(gzip.compress(BODY), content_encoding="gzip")], TEXT),
    Fault("a plain answer", [PLAIN], TEXT),
]

# These take their whole `timeout`, so all methods run at the same time.

SLOW = [
    Fault("silence", [[STALL]], APITimeoutError),
    Fault("silence within the headers", [[PLAIN[:30], STALL]], APITimeoutError),
    Fault("dripping headers", [[PLAIN[:20], Drip(b"x" * 10_000, 0.05)]], APITimeoutError),
    Fault("103 for ever", [[HINTS, Drip(HINTS * 500, 0.02)]], APITimeoutError),
    Fault("a flood of 103", [[Flood(HINTS * 1000)]], APITimeoutError),
    Fault("silence in the body of a 500", [[answer(500, "{", content_length="99"), STALL]], APITimeoutError),
    Fault("a dripping 500", [[answer(500, "{", content_length="9999"), Drip(b" " * 9998, 0.05)]], APITimeoutError),
    Fault("a silent plain answer", [[HEAD + CUT_JSON, STALL]], APITimeoutError),
    Fault("a dripping plain answer", [[HEAD, Drip(b" " * 499, 0.05)]], APITimeoutError),
    Fault(
        "silence before the last chunk",
        [[CHUNKED_HEAD + b"%x\r\n%s\r\n" % (len(JSON), JSON.encode()), STALL]],
        APITimeoutError,
    ),
    # Connecting may take nine tenths of the timeout, so the rest must be enough for what this process does meanwhile.
    Fault(
        "silence in place of TLS",
        [Unread([STALL])],
        APITimeoutError,
        requests=0,
        connections=3,
        tls=True,
        timeout=8.0,
    ),
]
SLOW_STREAM = [
    Fault("silence after the headers", [[cut(), STALL]], APITimeoutError),
    Fault("silence after a chunk", [[cut(A), STALL]], APITimeoutError, received="hello "),
    Fault("silence within an event", [[cut(A, "data: {"), STALL]], APITimeoutError, received="hello "),
    Fault("silence after the finish reason", [[cut(A, B, STOP), STALL]], TEXT),
    Fault("silence after [DONE] without a blank line", [[cut(A, B, STOP, "data: [DONE]\n"), STALL]], TEXT),
    Fault(
        "a dripping stream", [[cut(A), Drip(cut(B, STOP, DONE).partition(b"\r\n\r\n")[2], 0.005)]], TEXT, timeout=60.0
    ),
]

# The rows for the other endpoints.

_OF_OTHERS = (
    ("reset before the headers", "reset, then good", "closed, closed, then good"),
    ("400", "401", "422", "429", "503", "503, then good", "404, HTML", "400, a check", "103, then good"),
    ("HTML", "empty", "broken JSON", "other JSON", "an error in place of an answer", "gzip of a gzip"),
)
OTHERS = [
    next(row for row in rows if row.name == name)
    for rows, names in zip((LOST, STATUSES, BODIES), _OF_OTHERS, strict=True)
    for name in names
]
OTHERS_SLOW = [row for row in SLOW if row.name in ("silence", "a dripping plain answer")]
OTHERS_PLAIN = [row for row in CUT_PLAIN if row.name in ("reset in the body", "cut within a chunk")]
