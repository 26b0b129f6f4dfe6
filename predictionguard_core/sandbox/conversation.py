"""Reads the body of `POST /chat/completions` and refuses what the endpoint refuses."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from predictionguard_core.sandbox import catalogue, vision
from predictionguard_core.sandbox.fields import SENT_AS_NULL, Fields
from predictionguard_core.sandbox.options import Options, Tool, read_choice, read_options, read_tools
from predictionguard_core.sandbox.reply import Refusal
from predictionguard_core.sandbox.vision import Picture

ROLES = ("system", "user", "assistant", "tool")
MAX_IMAGES = 16
_TOO_MANY = f"At most {MAX_IMAGES} image(s) may be provided in one request."
_NO_STREAM = "streaming is not currently supported when generating a vision text completion"


@dataclass(frozen=True)
class Message:
    """One message: `text` joins its text parts, `calls` maps ids of tool calls to function names.

    `stamp` tells messages apart that differ in anything the model would see.
    """

    role: str
    text: str
    pictures: tuple[Picture, ...] = ()
    calls: Mapping[str, str] | None = None
    call_id: str | None = None
    stamp: bytes = b""


@dataclass(frozen=True)
class Conversation:
    """A checked request: messages in order, options, and the tools the model may call."""

    model: catalogue.Model
    messages: tuple[Message, ...]
    options: Options
    tools: tuple[Tool, ...] = ()
    choice: str = "auto"
    forced: str | None = None

    @property
    def pictures(self) -> list[Picture]:
        """All pictures of the request, in order."""
        return [picture for message in self.messages for picture in message.pictures]

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
        """The text of the last user message that has any; pictures handed in behind results ask nothing."""
        asked, before = "", ""
        for message in self.messages:
            handed = before == "tool" and bool(message.pictures)
            if message.role == "user" and message.text.strip() and not handed:
                asked = message.text
            before = message.role
        return asked

    @property
    def called(self) -> set[str]:
        """The names of the tools that the model has called in this turn."""
        return {name for message in self.turn for name in (message.calls or {}).values()}

    @property
    def results(self) -> list[tuple[str, str]]:
        """Name and text of each tool result the model has not spoken about yet.

        A user message that only hands in a picture behind the results does not begin a new question.
        """
        turn = list(self.turn)
        while turn and turn[-1].role == "user" and turn[-1].pictures and len(turn) > 1:
            turn.pop()
        if not turn or turn[-1].role != "tool":
            return []
        names: dict[str, str] = {}
        for message in turn:
            names.update(message.calls or {})
        last = max((index for index, message in enumerate(turn) if message.role != "tool"), default=-1)
        return [(names.get(message.call_id or "", "the tool"), message.text) for message in turn[last + 1 :]]

    def with_texts(self, texts: list[str]) -> Conversation:
        """The same conversation with the text of each message replaced."""
        changed = (replace(message, text=text) for message, text in zip(self.messages, texts, strict=True))
        return replace(self, messages=tuple(changed))


def read(body: object, *, vision_streaming: bool = False) -> Conversation:
    """The request in a decoded body; a `Refusal` names the field that is wrong."""
    fields = Fields(body, nullable=SENT_AS_NULL)
    for name in ("model", "messages"):
        if name in fields.value and fields.value[name] is None:
            raise fields.wrong(name, "a string" if name == "model" else "a string or a list of messages")
    fields.require("model", "messages")
    model = catalogue.find(fields.needed("model"), "chat_completion")
    options = read_options(fields)
    tools = read_tools(fields)
    if tools and not model.can("tool_calling"):
        raise Refusal(f"tools: model {model.name!r} does not support tool calling")
    choice, forced = read_choice(fields, tools)
    raw = fields.value["messages"]
    if isinstance(raw, str):
        raw = [{"role": "user", "content": raw}]
    if not isinstance(raw, list):
        raise fields.wrong("messages", "a string or a list of messages")
    images = sum(_images_in(message) for message in raw)
    if images and not model.can("chat_with_image"):
        raise Refusal(f"messages: model {model.name!r} does not support images")
    if images and options.stream and not vision_streaming:
        raise Refusal(_NO_STREAM)
    if images > MAX_IMAGES:
        raise Refusal(_TOO_MANY)
    messages = tuple(_message(message, f"messages[{index}]") for index, message in enumerate(raw))
    return Conversation(model, messages, options, tools, choice, forced)


def _images_in(message: object) -> int:
    content = message.get("content") if isinstance(message, dict) else None
    parts = content if isinstance(content, list) else []
    return sum(1 for part in parts if isinstance(part, dict) and part.get("type") == "image_url")


def _message(value: object, path: str) -> Message:
    fields = Fields(value, path)
    role = fields.needed("role")
    if role not in ROLES:
        raise Refusal(f"{path}.role: must be one of {', '.join(ROLES)}")
    fields.string("name")
    calls = _calls(fields) if role == "assistant" else None
    call_id = fields.needed("tool_call_id") if role == "tool" else None
    content = fields.value.get("content")
    digest = hashlib.blake2b(f"{role}\0{call_id}\0{sorted((calls or {}).items())}".encode("utf-8", "surrogatepass"))
    if content is None:
        if not calls:
            raise (
                fields.wrong("content", "a string or a list of parts")
                if "content" in fields.value
                else Refusal(f"{path}.content: is missing")
            )
        return Message(role, "", (), calls, call_id, digest.digest())
    if isinstance(content, str):
        digest.update(content.encode("utf-8", "surrogatepass"))
        return Message(role, content, (), calls, call_id, digest.digest())
    if not isinstance(content, list):
        raise fields.wrong("content", "a string or a list of parts")
    texts: list[str] = []
    pictures: list[Picture] = []
    for index, part in enumerate(content):
        _part(part, f"{path}.content[{index}]", role, texts, pictures, digest)
    return Message(role, "\n".join(texts), tuple(pictures), calls, call_id, digest.digest())


def _part(part: object, path: str, role: str, texts: list[str], pictures: list[Picture], digest: Any) -> None:
    fields = Fields(part, path)
    name = fields.needed("type")
    if name == "text":
        texts.append(fields.needed("text"))
        digest.update(texts[-1].encode("utf-8", "surrogatepass"))
        return
    if name != "image_url":
        raise Refusal(f"{path}.type: {name[:60]!r} is not supported; text and image_url are")
    if role == "tool":
        raise Refusal(f"{path}: images are not supported in messages of role tool")
    image = fields.object("image_url")
    if image is None:
        raise Refusal(f"{path}.image_url: is missing")
    image.choice("detail", ("auto", "low", "high"))
    uri = image.needed("url")
    try:
        pictures.append(vision.from_uri(uri))
    except Refusal as refusal:
        raise Refusal(f"{path}.image_url.url: {refusal.text}") from None
    digest.update(uri.encode("utf-8", "surrogatepass"))


def _calls(fields: Fields) -> dict[str, str]:
    """The ids and function names of an assistant message's tool calls."""
    calls: dict[str, str] = {}
    for index, item in enumerate(fields.items("tool_calls") or []):
        call = Fields(item, f"{fields.path}.tool_calls[{index}]")
        if call.needed("type") != "function":
            raise Refusal(f"{call.path}.type: must be function")
        function = call.object("function")
        if function is None:
            raise Refusal(f"{call.path}.function: is missing")
        function.needed("arguments")
        calls[call.needed("id")] = function.needed("name")
    return calls
