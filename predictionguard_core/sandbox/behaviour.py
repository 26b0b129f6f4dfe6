"""The stand-in API without its socket: a call in, a reply out."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from predictionguard_core.sandbox import catalogue, chat, completion, embedding, safety
from predictionguard_core.sandbox.documents import extract
from predictionguard_core.sandbox.memory import Memory
from predictionguard_core.sandbox.reply import FORBIDDEN, Refusal, Reply

_NESTED = "request body is nested too deeply"


@dataclass(frozen=True)
class Settings:
    """How a sandbox was set up; without `api_key` any token is good. `says` takes the place of a chat's outcome."""

    api_key: str | None = None
    vision_streaming: bool = False
    says: chat.Outcome | None = None
    wrong_key: str | None = None


@dataclass(frozen=True)
class Call:
    """One request: `path` without query, the `Authorization` header as it came, and the decoded body.

    `headers` holds the request's headers, their names in lower case. `unreadable` says why a body could not be
    decoded; it is refused after path, method and key were judged.
    """

    method: str
    path: str
    authorization: str | None = None
    body: Any = None
    unreadable: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


def decode(raw: bytes, content_type: str = "") -> Any:
    """Return the JSON value or the form fields in a request body; raise `Refusal` for anything else."""
    if content_type.strip().lower().startswith("multipart/form-data"):
        return extract.parse_form(raw, content_type)
    try:
        return json.loads(raw.decode("utf-8"), parse_constant=_no_constant)
    except RecursionError:
        raise Refusal(_NESTED) from None
    except ValueError as error:
        raise Refusal(f"request body is not valid JSON: {str(error)[:200]}") from None


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def respond(call: Call, settings: Settings, memory: Memory) -> Reply:
    """The reply to a call. Never raises for anything a client can send."""
    try:
        return _route(call, settings, memory)
    except Refusal as refusal:
        return refusal.reply()
    except RecursionError:
        return Refusal(_NESTED).reply()


def plain_path(path: str) -> str:
    """A path without the version before it and the slash behind it: every path is served both ways."""
    if path == "/v1" or path.startswith("/v1/"):
        path = path[3:]
    return path.rstrip("/") or "/"


def _route(call: Call, settings: Settings, memory: Memory) -> Reply:
    path = plain_path(call.path)
    if path.startswith("/models/"):
        handlers: dict[str, Handler] = {"GET": lambda *_: Reply(200, catalogue.listing(path[len("/models/") :]))}
    else:
        handlers = _ROUTES.get(path, {})
    if not handlers:
        raise Refusal(f"no such path: {call.path[:200]}", 404)
    handler = handlers.get(call.method)
    if handler is None:
        allowed = ", ".join(handlers)
        raise Refusal(f"{call.method} is not allowed here; {allowed} is", 405, {"Allow": allowed})
    _authorise(call.authorization, settings)
    if call.method == "POST" and call.unreadable is not None:
        raise Refusal(call.unreadable)
    return handler(call, settings, memory)


def _authorise(header: str | None, settings: Settings) -> None:
    scheme, _, token = (header or "").partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        raise Refusal("a bearer token is required in the Authorization header", 401, {"WWW-Authenticate": "Bearer"})
    if settings.api_key is not None and token != settings.api_key:
        raise Refusal(FORBIDDEN, 403) if settings.wrong_key is None else Refusal(settings.wrong_key, 401)


Handler = Callable[[Call, Settings, Memory], Reply]


def _chat(call: Call, settings: Settings, memory: Memory) -> Reply:
    return chat.respond(call.body, memory, vision_streaming=settings.vision_streaming, says=settings.says)


def _plain(respond: Callable[[object], Reply]) -> Handler:
    return lambda call, *_: respond(call.body)


_ROUTES: dict[str, dict[str, Handler]] = {
    "/models": {"GET": lambda *_: Reply(200, catalogue.listing())},
    "/chat/completions": {"POST": _chat},
    # The official client asks this in its constructor to see whether its key is good.
    "/completions": {"GET": lambda *_: Reply(200, {"status": "ok"}), "POST": _plain(completion.respond)},
    "/documents/extract": {"POST": lambda call, *_: extract.respond(call.body, call.headers)},
    "/embeddings": {"POST": _plain(embedding.embeddings)},
    "/rerank": {"POST": _plain(embedding.rerank)},
    "/tokenize": {"POST": _plain(safety.tokenize)},
    "/detokenize": {"POST": _plain(safety.detokenize)},
    "/PII": {"POST": _plain(safety.personal)},
    "/injection": {"POST": _plain(safety.injection)},
    "/toxicity": {"POST": _plain(safety.toxicity)},
    "/factuality": {"POST": _plain(safety.factuality)},
}
