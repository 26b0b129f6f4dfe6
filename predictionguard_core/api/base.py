"""Base classes of request and response models, and pydantic's errors as ours.

Requests refuse unknown fields, responses ignore them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, ValidationError
from pydantic_core import CoreSchema, ErrorDetails, core_schema

from predictionguard_core.errors import ConfigurationError, ContentError, InvalidResponseError, UnsupportedContentError

_MAX_MESSAGE = 300
_MAX_NAME = 60
_MODEL = (
    'model must be the name of a model, a string such as "Qwen2.5-VL-7B-Instruct"; '
    "`python -m predictionguard_core models` lists those of your account"
)
_TYPES = ("str", "int", "float", "bool")
"""Elements of loc that name a union member, not a field."""
_MAX_SHOWN = 30
"""Longest string that an error shows: an API key in the wrong place is longer."""
_SENTENCES = {
    "missing": "is missing",
    "greater_than": "must be above {gt:g}",
    "greater_than_equal": "must be at least {ge:g}",
    "less_than": "must be below {lt:g}",
    "less_than_equal": "must be at most {le:g}",
    "string_type": "must be a string",
    "int_type": "must be an integer",
    "int_parsing": "must be an integer",
    "int_from_float": "must be an integer",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be True or False",
    "bool_parsing": "must be True or False",
    "literal_error": "must be {expected}",
    "list_type": "must be a list",
    "sequence_str": "must be a list",
    "dict_type": "must be a dict",
    "model_type": "must be a dict or {class_name}",
    "dataclass_type": "must be a dict or {class_name}",
    "too_long": "must have at most {max_length} elements",
    "too_short": "must have at least {min_length} elements",
    "string_too_short": "must have at least {min_length} characters",
    "string_too_long": "must have at most {max_length} characters",
    "model_attributes_type": 'must be a content part, such as {{"type": "text", "text": "Hello"}}',
    "union_tag_not_found": 'must be a content part, such as {{"type": "text", "text": "Hello"}}',
    "union_tag_invalid": "has the unknown type {tag!r}; the known types are {expected_tags}",
}
"""Sentences for pydantic's error types; the braces are of the error's context. Others keep pydantic's text."""
_NO_VALUE = ("missing", "union_tag_invalid", "too_long", "too_short", "string_too_long")
_UNKNOWN = ("extra_forbidden", "unexpected_keyword_argument")
_MAX_ELEMENTS = 1_000_000
"""Objects, lists and commas in a response. 30 embeddings of 8,192 numbers have 250,000."""


class RequestPart(BaseModel):
    """A part of a request."""

    # Messages are built once by an adapter and read once: no validation on assignment.
    model_config = ConfigDict(extra="forbid", protected_namespaces=(), hide_input_in_errors=True)


class RequestModel(RequestPart):
    """A whole request. Raises `ConfigurationError` for a bad option, `ContentError` for a bad message."""

    argument_names: ClassVar[Mapping[str, str]] = {}
    """Names of fields where users pass them, where they differ from the field's name. Errors show them."""
    option_name: ClassVar[str] = ""
    """Option whose fields these are, such as "input_checks". Errors show it before the field's name."""

    def __init__(self, **fields: Any) -> None:
        checked(super().__init__, fields, type(self).model_fields, self.argument_names, self.option_name)


class ResponseModel(BaseModel):
    """A part of a response. Unknown fields are ignored."""

    model_config = ConfigDict(extra="ignore", protected_namespaces=(), hide_input_in_errors=True)

    @classmethod
    def parse(cls, body: bytes) -> Self:
        """Return the model for a response's JSON. Raises `InvalidResponseError` if it is not what the API promises."""
        if len(body) > _MAX_ELEMENTS and sum(map(body.count, (b"{", b"[", b","))) > _MAX_ELEMENTS:
            # Objects of a few bytes each would take 30 times their size in memory.
            raise InvalidResponseError(f"the response has more than {_MAX_ELEMENTS:,} elements; no answer has as many")
        try:
            # What `model_validate_json` calls after a look at its arguments, which takes a third of the time.
            return cls.__pydantic_validator__.validate_json(body)  # type: ignore[no-any-return]
        except ValidationError:
            pass
        try:
            return cls.model_validate_json(_without_lone_surrogates(body))
        except ValidationError as error:
            raise InvalidResponseError(
                f"the response is not the promised JSON: {_clearest(error)[1]}. "
                "Check that PREDICTIONGUARD_URL or base_url=... is the URL of a Prediction Guard API."
            ) from None


class Fallback:
    """Annotation of a response's field: a value that the type refuses goes through `convert` and is tried again.

    A `BeforeValidator` would call Python for every value; a stream parses thousands of chunks.
    """

    def __init__(self, convert: Callable[[Any], Any]) -> None:
        self._convert = convert

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        schema = handler(source)
        converted = core_schema.no_info_before_validator_function(self._convert, schema)
        # The labels become a part of an error's loc; `_clearest` leaves out what has a bracket.
        return core_schema.union_schema([(schema, "[as it is]"), (converted, "[converted]")], mode="left_to_right")


def _without_lone_surrogates(body: bytes) -> bytes:
    # A stream that cuts an emoji in two escapes half a surrogate pair, which no strict parser takes.
    try:
        return json.dumps(json.loads(body), ensure_ascii=False).encode("utf-8", "replace")
    except (ValueError, RecursionError):
        return body


def as_list(value: Any) -> Any:
    """Return a list for a single object: the specification's own examples show objects where lists are meant."""
    return ([value] if value else []) if isinstance(value, dict) else value


_MAX_SUGGESTED = 20
# Names of the same options in other integrations, which people type first when they migrate.
_OTHER_NAMES = {
    "max_completion_tokens": "max_tokens",
    "api_base": "base_url",
    "openai_api_base": "base_url",
    "openai_api_key": "api_key",
    "model_name": "model",
    "request_timeout": "timeout",
    "predictionguard_api_key": "api_key",
    "predictionguard_url": "base_url",
    "token": "api_key",
    "url": "base_url",
    "endpoint": "base_url",
    "model_kwargs": "extra_body",
    "additional_kwargs": "extra_body",
    "repetition_penalty": "",  # not a misspelt presence_penalty: vLLM's own option
    "http_async_client": "async_http_client",  # LangChain's and LlamaIndex's names
    "async_http_client": "http_async_client",
}
_CONNECTION_ARGUMENTS = (
    "api_key",
    "base_url",
    "timeout",
    "max_retries",
    "images",
    "default_headers",
    "http_client",
    "http_async_client",
    "async_http_client",
)
ONE_POSITIONAL = "only the model's name may be positional: pass each option by its name, such as api_key=..."
ARGUMENT_NAMES = {"input": "input_checks", "output": "output_checks", "max_completion_tokens": "max_tokens"}
"""Names under which users pass some fields of chat and completion requests."""


_DECIDING = ("messages", "prompt", "stream", "stream_options")
"""Fields that decide the form of the response: the client has to know them."""


def check_extra_body(extra_body: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return `extra_body`. Raises `ConfigurationError` if it overrides a deciding field, or is no JSON."""
    deciding = [name for name in _DECIDING if name in (extra_body or {})]
    if deciding:
        raise ConfigurationError(f"extra_body: {', '.join(deciding)} can't be set there; call the matching method")
    try:
        json.dumps(extra_body, allow_nan=False)
    except (ValueError, TypeError, RecursionError) as error:
        raise ConfigurationError(f"extra_body can't be written as JSON: {error}") from None
    return extra_body


def with_text_keys(value: Any) -> Any:
    """Return a dict with string keys: token ids may be numbers, JSON has strings."""
    return {str(key): each for key, each in value.items()} if isinstance(value, dict) else value


def checked(
    init: Callable[..., None],
    fields: dict[str, Any],
    known: Iterable[str],
    argument_names: Mapping[str, str] | None = None,
    option_name: str = "",
) -> None:
    """Call `init` with these fields and raise pydantic's error as ours."""
    refused = None
    try:
        init(**fields)
    except ValidationError as error:
        refused = refusal(error, known, argument_names, option_name)
    if refused is not None:  # raised here, so that pydantic's error, which shows the input, is not its context
        raise refused


def refusal(
    error: ValidationError,
    known: Iterable[str] = (),
    argument_names: Mapping[str, str] | None = None,
    option_name: str = "",
) -> ConfigurationError | ContentError:
    """Return our error for pydantic's: which field must be what, and its value where that is short and not private.

    `known` are the names of the fields there are.
    """
    detail, text = _clearest(error, argument_names, option_name)
    location = detail["loc"]
    if location == ("model",):
        return ConfigurationError(_MODEL)
    if len(location) == 1 and detail["type"] in _UNKNOWN:
        text = unknown(str(location[0]), known)
        return ConfigurationError(f"{option_name}.{text}" if option_name else text)
    if len(location) > 1 and location[0] == "messages":
        numbers = [step for step in location if isinstance(step, int)]
        if numbers:  # the error's own text names the message already
            text = text.removeprefix(f"messages.{numbers[0]}.")
        message = numbers[0] if numbers else None
        block = numbers[1] if len(numbers) > 1 and "content" in location[:4] else None
        if "content" in location and not isinstance(detail["input"], str | list | dict | int | float | None):
            text += '. Send an image as a part: {"type": "image_url", "image_url": {"url": image}}'
        kind = UnsupportedContentError if detail["type"] == "union_tag_invalid" else ContentError
        return kind(text, message_index=message, block_index=block)
    return ConfigurationError(text)


def check_request(request: object, kind: type[RequestModel]) -> None:
    """Raise `ConfigurationError` for a request that is none, such as the bare text of a question."""
    if not isinstance(request, kind):
        shown = repr(request) if isinstance(request, str) and len(request) <= _MAX_SHOWN else type(request).__name__
        required = ", ".join(f"{name}=..." for name, field in kind.model_fields.items() if field.is_required())
        raise ConfigurationError(f"expected a {kind.__name__}, got {shown}. Pass {kind.__name__}({required})")


def unknown(name: str, known: Iterable[str]) -> str:
    """Return the message about an unknown option, with the closest known one."""
    import difflib  # which nothing else needs

    fields = [each for each in known if not each.startswith("_")]
    names = [*fields, *(ARGUMENT_NAMES[each] for each in fields if each in ARGUMENT_NAMES)]
    shown = name[:_MAX_NAME]
    if name in _CONNECTION_ARGUMENTS and "base_url" not in names:
        return f"{shown!r} can only be set when creating the model, not in a call"
    if name.lower().replace("_", "") in ("system", "systemprompt") and "system_prompt" not in names:
        return f"{shown}: there is no such option; put a system message first"
    if name in ("stream", "streaming") and "streaming" not in names and "vision_streaming" in names:
        return f"{shown}: there is no such option; call stream_chat or stream_complete"
    if name == "is_chat_model":
        return f"{shown}: there is no such option; leave it out"
    other = _OTHER_NAMES.get(name)
    if other in names:
        return f"{shown}: there is no such option here; use {other}"
    close = difflib.get_close_matches(name.lower(), names, n=1, cutoff=0.7) if other != "" else []
    if close:
        return f"{shown}: there is no such option; did you mean {close[0]}?"
    for fields_of_a_request in ("extra_body", "additional_kwargs"):
        if fields_of_a_request in names:
            return f"{shown}: there is no such option; pass other fields of a request in {fields_of_a_request}={{...}}"
    return f"{shown}: there is no such option" + (
        f"; there are {', '.join(names)}" if len(names) <= _MAX_SUGGESTED else ""
    )


def _clearest(
    error: ValidationError, argument_names: Mapping[str, str] | None = None, option_name: str = ""
) -> tuple[ErrorDetails, str]:
    # Of the errors of a union, the one that got furthest is about the type that was meant.
    details = error.errors(include_url=False)
    detail = max(details, key=lambda each: len(each["loc"]))
    names = [str(step) for step in detail["loc"] if "[" not in str(step) and step not in _TYPES]
    if names:
        names[0] = (argument_names or {}).get(names[0], names[0])
    where = ".".join([option_name, *names] if option_name else names)
    kind, context = detail["type"], dict(detail.get("ctx", {}))
    tag = str(context.get("tag", ""))
    if len(tag) > _MAX_NAME:  # an image in the place of a name
        context["tag"] = f"{tag[:_MAX_NAME]}…"
    if kind in _UNKNOWN:
        text = f"{where}: there is no such option"
    elif kind in _SENTENCES:
        text = f"{where} {_SENTENCES[kind].format(**context)}".lstrip()
        text += "" if kind in _NO_VALUE else _got(detail["input"], kind, detail["loc"])
    else:
        text = f"{where}: {detail['msg']}" if where else detail["msg"]
    return detail, text if len(text) <= _MAX_MESSAGE else f"{text[:_MAX_MESSAGE]}…"


def _got(value: Any, kind: str, location: tuple[int | str, ...]) -> str:
    # A string is shown where one of a few words is meant. Anywhere else it may be a secret in the wrong place.
    if value is None or isinstance(value, bool | int | float) or (isinstance(value, str) and kind == "literal_error"):
        shown = "" if isinstance(value, str) and location[0] == "messages" else repr(value)
        return f", got {shown}" if 0 < len(shown) <= _MAX_SHOWN else ""
    return f", got {type(value).__name__}"
