"""What every message of the API has in common: what we send refuses unknown fields, what we receive ignores them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from predictionguard_core.errors import ConfigurationError, ContentError, InvalidResponseError, UnsupportedContentError
from predictionguard_core.quick import like, sign

_LONGEST_TEXT = 300
_LONGEST_NAME = 60
_MODEL = (
    'model: give the name of a model, as text, such as "Qwen2.5-VL-7B-Instruct"; '
    "`python -m predictionguard_core models` lists those of your account"
)
_PLAIN = ("str", "int", "float", "bool")
"""Steps of a pydantic location that tell one of several types from the others, and no place."""
_SAID = {
    "missing": "is missing",
    "extra_forbidden": "there is no such field here",
    "unexpected_keyword_argument": "there is no such field here",
    "sequence_str": "Input should be a list",
}
"""What pydantic would say in words that only make sense to who wrote the model."""


class RequestPart(BaseModel):
    """A part of a request."""

    # Messages are built once by an adapter and read once: no validation on assignment, no hidden copies.
    model_config = ConfigDict(extra="forbid", protected_namespaces=(), hide_input_in_errors=True, defer_build=True)

    @classmethod
    def made(cls, **fields: Any) -> Self:
        """One of these fields, which are known to be right: `model_construct` at a fraction of its cost."""
        plain = _MADE.get(cls)
        if plain is None:
            plain = _MADE[cls] = cls.model_construct()
        return like(plain, fields)  # type: ignore[return-value]


_MADE: dict[type[RequestPart], RequestPart] = {}


class RequestModel(RequestPart):
    """A whole request. A bad option is a `ConfigurationError`, a bad message a `ContentError` with its place."""

    @classmethod
    def __pydantic_init_subclass__(cls, **options: Any) -> None:
        super().__pydantic_init_subclass__(**options)
        sign(cls)

    def __init__(self, **fields: Any) -> None:
        checked(super().__init__, fields, type(self).model_fields)


class ResponseModel(BaseModel):
    """A part of a reply. Fields that are not named here may come and go."""

    model_config = ConfigDict(extra="ignore", protected_namespaces=(), hide_input_in_errors=True, defer_build=True)

    @classmethod
    def parse(cls, body: bytes) -> Self:
        """Read a reply from its JSON bytes. Raises `InvalidResponseError` if they are not what the API promises."""
        try:
            return cls.model_validate_json(body)
        except ValidationError:
            pass
        try:
            return cls.model_validate_json(_mended(body))
        except ValidationError as error:
            raise InvalidResponseError(
                f"the answer is not the promised JSON: {_most_telling(error)[1]}. "
                "Check that the address (PREDICTIONGUARD_URL or base_url=...) is that of a Prediction Guard API."
            ) from None


def _mended(body: bytes) -> bytes:
    # A stream that cuts an emoji in two escapes half a surrogate pair, which no strict parser takes.
    try:
        return json.dumps(json.loads(body), ensure_ascii=False).encode("utf-8", "replace")
    except (ValueError, RecursionError):
        return body


def as_list(value: Any) -> Any:
    """A single object where a list is meant, as the specification's own examples show, becomes a list of one."""
    return ([value] if value else []) if isinstance(value, dict) else value


_FEW = 4
_OF_CONNECTIONS = ("api_key", "base_url", "timeout", "max_retries", "images", "http_client")
_ARGUMENTS = {"input": "input_checks", "output": "output_checks", "max_completion_tokens": "max_tokens"}
"""What fields are called where users give them, where that is not the field's name."""


_DECIDING = ("messages", "prompt", "stream", "stream_options")
"""Fields that decide the form of the response: the client has to know them."""


def check_extra_body(extra_body: dict[str, Any] | None) -> None:
    """Raise `ConfigurationError` for an `extra_body` that can't override a field, or that JSON has no form for."""
    deciding = [name for name in _DECIDING if name in (extra_body or {})]
    if deciding:
        raise ConfigurationError(f"extra_body: {', '.join(deciding)} can't be set there; call the matching method")
    try:
        json.dumps(extra_body, allow_nan=False)
    except (ValueError, TypeError, RecursionError) as error:
        raise ConfigurationError(f"extra_body can't be written as JSON: {error}") from None


def with_text_keys(value: Any) -> Any:
    """Token ids may be numbers where JSON will have text."""
    return {str(key): each for key, each in value.items()} if isinstance(value, dict) else value


def checked(init: Callable[..., None], fields: dict[str, Any], known: Iterable[str]) -> None:
    """Call `init` with these fields; pydantic's refusal becomes ours."""
    refused = None
    try:
        init(**fields)
    except ValidationError as error:
        refused = refusal(error, known)
    if refused is not None:  # raised here, so that pydantic's own error, which shows what was given, is not behind it
        raise refused


def refusal(error: ValidationError, known: Iterable[str] = ()) -> ConfigurationError | ContentError:
    """Our error for pydantic's: what is wrong with the value that was meant, and never the value itself.

    `known` are the names that were there to choose from.
    """
    detail, text = _most_telling(error)
    location = detail["loc"]
    if location == ("model",):
        return ConfigurationError(_MODEL)
    if len(location) == 1 and detail["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        return ConfigurationError(unknown(str(location[0]), known))
    if len(location) > 1 and location[0] == "messages":
        numbers = [step for step in location if isinstance(step, int)]
        message = numbers[0] if numbers else None
        block = numbers[1] if len(numbers) > 1 and "content" in location[:4] else None
        kind = UnsupportedContentError if detail["type"] == "union_tag_invalid" else ContentError
        return kind(text, message_index=message, block_index=block)
    return ConfigurationError(text)


def unknown(name: str, known: Iterable[str]) -> str:
    """What to say of a name that nothing has, with the one that may have been meant."""
    import difflib  # which nothing else needs

    fields = [each for each in known if not each.startswith("_")]
    names = [*fields, *(_ARGUMENTS[each] for each in fields if each in _ARGUMENTS)]
    shown = name[:_LONGEST_NAME]
    if name in _OF_CONNECTIONS and "base_url" not in names:
        return f"{shown}: this is said where the model is made, not in a call"
    near = difflib.get_close_matches(name.lower(), names, n=1, cutoff=0.7)
    if near:
        return f"{shown}: there is no such option; did you mean {near[0]}?"
    return f"{shown}: there is no such option" + (f"; there are {', '.join(names)}" if len(names) <= _FEW else "")


def _most_telling(error: ValidationError) -> tuple[ErrorDetails, str]:
    # Where a value may be one of several things, the complaint that got furthest is about the one that was meant.
    details = error.errors(include_input=False, include_url=False)
    detail = max(details, key=lambda each: len(each["loc"]))
    where = ".".join(str(step) for step in detail["loc"] if "[" not in str(step) and step not in _PLAIN)
    said = _SAID.get(detail["type"], detail["msg"])
    tag = str(detail.get("ctx", {}).get("tag", ""))
    if len(tag) > _LONGEST_NAME:  # a picture may have come to stand where a name is meant
        said = said.replace(tag, f"{tag[:_LONGEST_NAME]}…")
    text = f"{where}: {said}" if where else said
    return detail, text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}…"
