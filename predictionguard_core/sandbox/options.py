"""How a sandbox was set up, and what the next answer was scripted to be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Strictness = Literal["schema", "vllm"]
STRICTNESS = ("schema", "vllm")


@dataclass(frozen=True)
class ToolCall:
    """One tool call; `arguments` is JSON text."""

    id: str
    name: str
    arguments: str

    def to_json(self) -> dict[str, Any]:
        """Return the call as a message carries it."""
        return {"id": self.id, "type": "function", "function": {"name": self.name, "arguments": self.arguments}}


@dataclass(frozen=True)
class Answer:
    """What the model says: text or tool calls, the reasoning before them, and why it ended.

    `cut_call` is a tool call that the token limit cut off: a stream carries it without arguments, a plain response has
    the model's raw text as its content.
    """

    content: str | None
    reasoning: str | None = None
    calls: Sequence[ToolCall] = ()
    finish_reason: str = "stop"
    refusal: str | None = None
    cut_call: ToolCall | None = None


@dataclass(frozen=True)
class ScriptedAnswer:
    """What `Sandbox.answer` scripted; what is None is made by the rules."""

    answer: Answer | None = None
    choices: int | None = None
    response_id: str | None = None


@dataclass(frozen=True)
class Options:
    """How a sandbox was set up; see `Sandbox` for the meaning."""

    api_key: str | None = None
    vision_streaming: bool = False
    strictness: Strictness = "schema"
    wrong_key: str | None = None
    scripted: ScriptedAnswer = field(default_factory=ScriptedAnswer)
