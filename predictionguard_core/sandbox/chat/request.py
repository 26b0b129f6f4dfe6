"""Read the body of `POST /chat/completions`, and refuse what the service or vLLM refuses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from predictionguard_core.sandbox import models
from predictionguard_core.sandbox.checks import pii
from predictionguard_core.sandbox.checks.rules import Checks
from predictionguard_core.sandbox.responses import ServiceError
from predictionguard_core.sandbox.validation import Fields, kind
from predictionguard_core.sandbox.vision import images
from predictionguard_core.sandbox.vision.images import Image

ROLES = ("system", "developer", "user", "assistant", "tool")
EFFORTS = ("none", "minimal", "low", "medium", "high")
MAX_IMAGES = 16
MAX_STOP = 4
MAX_CHOICES = 16
_TOO_MANY_IMAGES = f"At most {MAX_IMAGES} image(s) may be provided in one request."
_NO_IMAGE_STREAM = "streaming is not currently supported when generating a vision text completion"
_NO_CHECKED_STREAM = "factuality and toxicity checks are not supported when streaming is enabled"


@dataclass(frozen=True)
class Tool:
    """A function the model may call; `parameters` is its JSON schema."""

    name: str
    description: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    strict: bool = False


@dataclass(frozen=True)
class Settings:
    """The options that have an effect here; the others are checked and then ignored."""

    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    stream: bool = False
    include_usage: bool = False
    parallel_tool_calls: bool = True
    effort: str | None = None
    choices: int = 1
    checks: Checks = field(default_factory=Checks)


@dataclass(frozen=True)
class Message:
    """One message: `text` joins its text parts, `calls` maps ids of tool calls to function names.

    `digest` differs between messages that differ in anything.
    """

    role: str
    text: str
    images: tuple[Image, ...] = ()
    calls: Mapping[str, str] = field(default_factory=dict)
    call_id: str | None = None
    digest: int = 0


@dataclass(frozen=True)
class Conversation:
    """A checked request: messages in order, settings, and the tools the model may call."""

    model: models.Model
    messages: tuple[Message, ...]
    settings: Settings
    tools: tuple[Tool, ...] = ()
    tool_choice: str = "auto"
    named_tool: str | None = None

    @property
    def images(self) -> list[Image]:
        """All images of the request, in order."""
        return [image for message in self.messages for image in message.images]

    @property
    def turn(self) -> tuple[Message, ...]:
        """The messages since the model last spoke in words: the question, and tool calls with their results."""
        start = 0
        for index, message in enumerate(self.messages):
            if message.role == "assistant" and not message.calls:
                start = index + 1
        return self.messages[start:] or self.messages[-1:]

    @property
    def question(self) -> str:
        """The text of the last user message that has any; an image sent after tool results asks nothing."""
        asked, before = "", ""
        for message in self.messages:
            is_result = before == "tool" and bool(message.images)
            if message.role == "user" and message.text.strip() and not is_result:
                asked = message.text
            before = message.role
        return asked

    @property
    def called(self) -> set[str]:
        """The names of the tools that the model has called in this turn."""
        return {name for message in self.turn for name in message.calls.values()}

    @property
    def results(self) -> list[tuple[str, str]]:
        """Name and text of each tool result the model has not spoken about yet.

        A user message with only an image after the results belongs to them: it begins no new question.
        """
        turn = list(self.turn)
        while turn and turn[-1].role == "user" and turn[-1].images and len(turn) > 1:
            turn.pop()
        if not turn or turn[-1].role != "tool":
            return []
        names: dict[str, str] = {}
        for message in turn:
            names.update(message.calls)
        last = max((index for index, message in enumerate(turn) if message.role != "tool"), default=-1)
        return [(names.get(message.call_id or "", "the tool"), message.text) for message in turn[last + 1 :]]

    def with_texts(self, texts: list[str]) -> Conversation:
        """Return the same conversation with the text of each message replaced."""
        changed = (replace(message, text=text) for message, text in zip(self.messages, texts, strict=True))
        return replace(self, messages=tuple(changed))


def read_conversation(body: object, *, vision_streaming: bool = False) -> Conversation:
    """Return the request in a decoded body; an `ServiceError` names the field that is wrong."""
    fields = Fields(body)
    if fields.value.get("messages", "") is None:
        raise fields.wrong_type("messages", "a string or a list of messages")
    if fields.value.get("model", "") is None:
        raise fields.wrong_type("model", "a string")
    fields.require("model", "messages")
    model = models.find(fields.required_string("model"), "chat_completion")
    settings = read_settings(fields)
    tools = _tools(fields)
    if tools and not model.can("tool_calling"):
        raise ServiceError(f"tools: model {model.name!r} does not support tool calling")
    tool_choice, named_tool = _tool_choice(fields, tools)
    raw = fields.value["messages"]
    if isinstance(raw, str):
        raw = [{"role": "user", "content": raw}]
    if not isinstance(raw, list):
        raise fields.wrong_type("messages", "a string or a list of messages")
    image_count = sum(_count_images(message) for message in raw)
    if image_count and not model.can("chat_with_image"):
        raise ServiceError(f"messages: model {model.name!r} does not support images")
    if image_count and settings.stream and not vision_streaming:
        raise ServiceError(_NO_IMAGE_STREAM)
    if image_count > MAX_IMAGES:
        raise ServiceError(_TOO_MANY_IMAGES)
    messages = tuple(_message(item, f"messages[{index}]") for index, item in enumerate(raw))
    return Conversation(model, messages, settings, tools, tool_choice, named_tool)


def read_settings(fields: Fields) -> Settings:
    """Check every documented option of a chat or completion request, and return those that matter here."""
    fields.number("temperature", 0, 2)
    if fields.number("top_p", 0, 1) == 0:
        raise ServiceError("top_p: must be in (0, 1], got 0.0")
    fields.number("frequency_penalty", -2, 2)
    fields.number("presence_penalty", -2, 2)
    fields.integer("top_k", -1)
    bias = fields.object("logit_bias")
    for token in bias.value if bias else ():
        if not (token.isascii() and token.isdigit()):
            raise ServiceError(f"logit_bias: the key {token[:60]!r} is not a token id")
        if bias is not None and bias.number(token, -100, 100) is None:
            raise bias.wrong_type(token, "a number")
    stop = fields.strings("stop", or_one=True) or []
    if "" in stop:
        raise ServiceError("stop: must not hold an empty string")
    if len(stop) > MAX_STOP:
        raise ServiceError(f"stop: must hold at most {MAX_STOP} strings, not {len(stop)}")
    stream = bool(fields.boolean("stream"))
    stream_options = fields.object("stream_options")
    if stream_options is not None and not stream:
        raise ServiceError("stream_options: can only be set when stream is true")
    choices = fields.integer("n", 1) or 1
    if choices > MAX_CHOICES:
        raise ServiceError(f"n: must be at most {MAX_CHOICES}")
    older = fields.integer("max_tokens", 1)
    settings = Settings(
        max_tokens=fields.integer("max_completion_tokens", 1) or older,
        stop=tuple(stop),
        stream=stream,
        include_usage=bool(stream_options.boolean("include_usage")) if stream_options else False,
        parallel_tool_calls=fields.boolean("parallel_tool_calls") is not False,
        effort=fields.choice("reasoning_effort", EFFORTS),
        choices=choices,
        checks=_checks(fields),
    )
    if stream and (settings.checks.toxicity or settings.checks.factuality):
        raise ServiceError(_NO_CHECKED_STREAM)
    return settings


def _checks(fields: Fields) -> Checks:
    before, after = fields.object("input") or Fields({}), fields.object("output") or Fields({})
    return Checks(
        injection=bool(before.boolean("block_prompt_injection")),
        pii=before.choice("pii", ("block", "replace")),
        pii_method=before.choice("pii_replace_method", pii.METHODS) or "random",
        ignored=frozenset(before.strings("entity_list") or ()),
        toxicity=bool(after.boolean("toxicity")),
        factuality=bool(after.boolean("factuality")),
    )


def _tools(fields: Fields) -> tuple[Tool, ...]:
    items = fields.items("tools")
    if items == []:
        raise ServiceError("tools: must not be empty; leave it out if there are none")
    tools = []
    for index, item in enumerate(items or ()):
        tool = Fields(item, f"tools[{index}]")
        if tool.required_string("type") != "function":
            raise ServiceError(f"{tool.path}.type: must be function")
        function = tool.required_object("function")
        parameters = function.object("parameters")
        name = function.required_string("name")
        if not name:
            raise ServiceError(f"{function.path}.name: must not be empty")
        description, strict = function.string("description") or "", bool(function.boolean("strict"))
        tools.append(Tool(name, description, parameters.value if parameters else {}, strict))
    return tuple(tools)


def _tool_choice(fields: Fields, tools: tuple[Tool, ...]) -> tuple[str, str | None]:
    """Return `none`, `auto` or `required`, and the name of the one function that is asked for, if any."""
    value = fields.value.get("tool_choice")
    if value is None:
        return "auto", None
    if isinstance(value, str):
        if value not in ("none", "auto", "required"):
            raise ServiceError("tool_choice: must be none, auto, required, or a function")
        if value != "none" and not tools:
            raise ServiceError("tool_choice: when it is used, tools must be set")
        return value, None
    if not isinstance(value, dict):
        raise ServiceError(f"tool_choice: must be none, auto, required, or a function, not {kind(value)}")
    choice = Fields(value, "tool_choice")
    if choice.required_string("type") != "function":
        raise ServiceError("tool_choice.type: must be function")
    name = choice.required_object("function").required_string("name")
    if not tools:
        raise ServiceError("tool_choice: when it is used, tools must be set")
    if name not in {tool.name for tool in tools}:
        raise ServiceError(f"tool_choice.function.name: {name[:60]!r} is not among the tools")
    return "required", name


def _count_images(message: object) -> int:
    content = message.get("content") if isinstance(message, dict) else None
    parts = content if isinstance(content, list) else []
    return sum(1 for part in parts if isinstance(part, dict) and part.get("type") == "image_url")


def _message(value: object, path: str) -> Message:
    fields = Fields(value, path)
    role = fields.required_string("role")
    if role not in ROLES:
        raise ServiceError(f"{path}.role: must be one of {', '.join(ROLES)}")
    fields.refuse_null("name")
    fields.string("name")
    calls = _calls(fields) if role == "assistant" else {}
    call_id = fields.required_string("tool_call_id") if role == "tool" else None
    content = fields.value.get("content")
    texts: list[str] = []
    found: list[Image] = []
    if isinstance(content, str):
        texts = [content]
    elif isinstance(content, list):
        for index, part in enumerate(content):
            _read_part(part, f"{path}.content[{index}]", role, texts, found)
    elif content is not None or not calls:
        missing = ServiceError(f"{path}.content: is missing")
        raise fields.wrong_type("content", "a string or a list of parts") if "content" in fields.value else missing
    return Message(role, "\n".join(texts), tuple(found), calls, call_id, hash(repr(value)))


def _read_part(part: object, path: str, role: str, texts: list[str], found: list[Image]) -> None:
    fields = Fields(part, path)
    name = fields.required_string("type")
    if name == "text":
        texts.append(fields.required_string("text"))
        return
    if name != "image_url":
        raise ServiceError(f"{path}.type: {name[:60]!r} is not supported; text and image_url are")
    if role == "tool":
        raise ServiceError(f"{path}: images are not supported in messages of role tool")
    image = fields.required_object("image_url")
    image.refuse_null("detail")
    image.choice("detail", ("auto", "low", "high"))
    uri = image.required_string("url")
    try:
        found.append(images.from_data_uri(uri))
    except ServiceError as error:
        raise ServiceError(f"{path}.image_url.url: {error.text}") from None


def _calls(fields: Fields) -> dict[str, str]:
    """Return the ids and function names of an assistant message's tool calls."""
    calls: dict[str, str] = {}
    for index, item in enumerate(fields.items("tool_calls") or []):
        call = Fields(item, f"{fields.path}.tool_calls[{index}]")
        if call.required_string("type") != "function":
            raise ServiceError(f"{call.path}.type: must be function")
        function = call.required_object("function")
        function.required_string("arguments")
        calls[call.required_string("id")] = function.required_string("name")
    return calls
