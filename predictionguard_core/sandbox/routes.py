"""The API without its socket: a request in, a response out."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from predictionguard_core.sandbox import models, retrieval, tokens
from predictionguard_core.sandbox.chat import completions
from predictionguard_core.sandbox.checks import endpoints as checks
from predictionguard_core.sandbox.documents import extract
from predictionguard_core.sandbox.options import Options
from predictionguard_core.sandbox.responses import FORBIDDEN, Response, ServiceError

_NESTED = "request body is nested too deeply"


@dataclass(frozen=True)
class Request:
    """One request: `path` without query, `headers` with names in lower case, and the decoded body.

    `unreadable` says why a body could not be decoded; it is refused after path, method and key were checked.
    """

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    unreadable: str | None = None


def decode(raw: bytes, content_type: str = "") -> Any:
    """Return the JSON value or the form fields in a request body; raise `ServiceError` for anything else."""
    if content_type.strip().lower().startswith("multipart/form-data"):
        return extract.parse_form(raw, content_type)
    try:
        value = json.loads(raw.decode("utf-8"), parse_constant=_refuse_constant)
        if rb"\u" in raw:
            # A lone surrogate can't be encoded, and real servers fail on it.
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise ServiceError(_NESTED) from None
    except UnicodeEncodeError:
        raise ServiceError("request body: has a lone surrogate, which is no Unicode character") from None
    except ValueError as error:
        raise ServiceError(f"request body is not valid JSON: {str(error)[:200]}") from None
    return value


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def respond(request: Request, options: Options, cache: completions.PromptCache) -> Response:
    """Return the response to a request. Never raises for anything a client can send."""
    try:
        return _route(request, options, cache)
    except ServiceError as error:
        return error.response()
    except RecursionError:
        return ServiceError(_NESTED).response()


def plain_path(path: str) -> str:
    """Return a path without the version before it and the slash behind it: every path is served both ways."""
    if path == "/v1" or path.startswith("/v1/"):
        path = path[3:]
    return path.rstrip("/") or "/"


def _route(request: Request, options: Options, cache: completions.PromptCache) -> Response:
    path = plain_path(request.path)
    if path == "/chat/completions":
        handlers: dict[str, Handler] = {"POST": lambda asked: completions.chat(asked.body, options, cache)}
    elif path.startswith("/models/"):
        handlers = {"GET": lambda _: models.get(path[len("/models/") :])}
    else:
        handlers = _ROUTES.get(path, {})
    if not handlers:
        raise ServiceError(f"no such path: {request.path[:200]}", 404)
    handler = handlers.get(request.method)
    if handler is None:
        allowed = ", ".join(handlers)
        raise ServiceError(f"{request.method} is not allowed here; {allowed} is", 405, {"Allow": allowed})
    _authorize(request.headers.get("authorization", ""), options)
    if request.method == "POST" and request.unreadable is not None:
        raise ServiceError(request.unreadable)
    return handler(request)


def _authorize(header: str, options: Options) -> None:
    scheme, _, token = header.partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        text = "a bearer token is required in the Authorization header"
        raise ServiceError(text, 401, {"WWW-Authenticate": "Bearer"})
    if options.api_key is not None and token != options.api_key:
        raise ServiceError(FORBIDDEN, 403) if options.wrong_key is None else ServiceError(options.wrong_key, 401)


Handler = Callable[[Request], Response]


def _of_body(respond: Callable[[object], Response]) -> Handler:
    return lambda request: respond(request.body)


_ROUTES: dict[str, dict[str, Handler]] = {
    "/models": {"GET": lambda _: models.get()},
    # The official SDK asks this in its constructor to see whether its key is good.
    "/completions": {"GET": lambda _: Response(200, {"status": "ok"}), "POST": _of_body(completions.complete)},
    "/documents/extract": {"POST": lambda request: extract.respond(request.body, request.headers)},
    "/embeddings": {"POST": _of_body(retrieval.embeddings)},
    "/rerank": {"POST": _of_body(retrieval.rerank)},
    "/tokenize": {"POST": _of_body(tokens.tokenize)},
    "/detokenize": {"POST": _of_body(tokens.detokenize)},
    "/PII": {"POST": _of_body(checks.pii)},
    "/injection": {"POST": _of_body(checks.injection)},
    "/toxicity": {"POST": _of_body(checks.toxicity)},
    "/factuality": {"POST": _of_body(checks.factuality)},
}
